//! How far a sample is from normal ones: defects, failures, whatever nobody has samples of.
//!
//! The output is a vector whose length is the score. What learns scales it so that a share of held-out normal samples is above 1: that is the
//! threshold, and nothing else need be stored.

use super::compared::area;
use super::loss::Loss;
use super::{Answer, Asked, Counts, Task};
use crate::data::{Labels, Target};
use crate::delta;
use crate::graph::Tensor;

/// The least score that has a logarithm.
const LEAST: f64 = 1e-6;

/// Its row.
pub(super) const TASK: Task = Task {
    name: "anomaly",
    target: Target::Anomalies,
    wire: delta::Task::Anomaly,
    losses: &["residual", "mahalanobis"],
    data: "a folder of normal samples, or classes of which one is called `good`, `normal`, `ok` or 0",
    metric: "area under the ROC curve, false alarms, share of anomalies that are found",
    answers: "a score, and whether it is an anomaly: above 1",
    example: &[("data", "good/"), ("loss", "residual"), ("false-alarms", "0.01")],
    labels: "normal samples and others: choose residual or mahalanobis",
    has: |labels| matches!(labels, Labels::Anomalies(_)),
    width: |_| None,
    tensor: |labels, samples| {
        let values = samples.iter().map(|sample| f32::from(anomalous(labels)[*sample])).collect();
        Tensor::from_vec::<f32>(&[samples.len() as u64, 1], values)
    },
    measure,
    commonest: |_, _| None,
    figures,
    answer: |_: &Asked<'_>, output| {
        let score = length(&output);
        Answer { score: Some(score as f32), anomaly: Some(score > 1.0), ..Answer::default() }
    },
};

fn anomalous(labels: &Labels) -> &[bool] {
    let Labels::Anomalies(anomalous) = labels else { unreachable!("labels of another task") };
    anomalous
}

/// How far a sample is from normal ones, from its vector; above 1 it is none of them.
fn length(vector: &[f32]) -> f64 {
    vector.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt()
}

/// The loss that is told is the squared logarithm of normal samples' scores: 0 where all of them lie at the threshold, large where they tell
/// nothing.
fn measure(counts: &mut Counts, labels: &Labels, _: &Loss, output: &[f32], sample: usize) {
    let (score, is_anomaly) = (length(output), anomalous(labels)[sample]);
    counts.scores.push((score, is_anomaly));
    if !is_anomaly {
        counts.sum += score.max(LEAST).ln().powi(2);
        counts.weight += 1.0;
    }
}

fn figures(counts: &Counts) -> Vec<(&'static str, f64)> {
    let share = |of: bool| {
        let scores = || counts.scores.iter().filter(|(_, is_anomaly)| *is_anomaly == of);
        let above = scores().filter(|(score, _)| *score > 1.0).count();
        (scores().count() > 0).then(|| above as f64 / scores().count() as f64)
    };
    let (false_alarms, found) = (share(false), share(true));
    let auroc = false_alarms.and(found).map(|_| area(counts.scores.clone()));
    let named = [("auroc", auroc), ("false_alarms", false_alarms), ("found", found)];
    named.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn above_one_is_an_anomaly_and_only_what_is_there_is_told() {
        let told = (TASK.answer)(&Asked::default(), vec![0.6, 0.8001]);
        assert_eq!((told.anomaly, told.to_string().as_str()), (Some(true), "anomaly 1.000"));
        assert_eq!((TASK.answer)(&Asked::default(), vec![0.6, 0.7]).anomaly, Some(false));
        let labels = Labels::Anomalies(vec![false, false, true, true]);
        let (mut counts, loss) = (Counts::new(&labels), Loss::named("residual").unwrap());
        (0..2).for_each(|sample| measure(&mut counts, &labels, &loss, &[0.5 + sample as f32], sample));
        assert_eq!(figures(&counts), [("false_alarms", 0.5)]);
        (2..4).for_each(|sample| measure(&mut counts, &labels, &loss, &[1.0 + sample as f32], sample));
        assert_eq!(figures(&counts), [("auroc", 1.0), ("false_alarms", 0.5), ("found", 1.0)]);
    }
}
