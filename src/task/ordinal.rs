//! One class a sample, of classes in an order: grades, stages, stars.
//!
//! Of K classes the output has K − 1 columns, the logits of "above class 1", …, "above class K − 1". The loss is CORAL's on
//! these binary labels (Cao, Mirjalili and Raschka, Rank consistent ordinal regression, 2020, arXiv 1901.07884). CORAL's own
//! head shares one row of weights among them; a linear head as edgetune has it gives each a row of its own, as Niu et al. do
//! (Ordinal regression with multiple output CNN, 2016). So the shares need not fall from class to class; an answer sorts
//! them (the monotone rearrangement of Chernozhukov, Fernández-Val and Galichon, 2010), which keeps CORAL's rule: the class
//! is the number of shares above one half.

use super::loss::{Loss, Target as Of};
use super::{Answer, Asked, Counts, Task};
use crate::data::{Labels, Target};
use crate::delta;
use crate::graph::Tensor;
use crate::order::Order;

/// Its row.
pub(super) const TASK: Task = Task {
    name: "ordinal",
    target: Target::Ordinal,
    wire: delta::Task::Ordinal,
    losses: &["coral"],
    data: "as classification; the classes are numbers, or setting `classes` names them in their order",
    metric: "mean absolute error in classes, accuracy",
    answers: "a class, and the probability of each",
    example: &[("data", "grades.csv"), ("loss", "coral")],
    labels: "one class a sample, of classes in an order: choose coral",
    has: |labels| matches!(labels, Labels::Ordinal { .. }),
    width: |labels| Some(labels.names().len().saturating_sub(1) as u64),
    tensor,
    measure,
    commonest,
    figures: |counts| vec![("mean_absolute_error", counts.distance / counts.decisions.max(1) as f64)],
    answer,
};

fn index(labels: &Labels) -> &[u32] {
    let Labels::Ordinal { index, .. } = labels else { unreachable!("labels of another task") };
    index
}

/// Of each column, whether the class is above it.
fn levels(class: u32, width: usize) -> impl Iterator<Item = f32> {
    (0..width as u32).map(move |level| f32::from(class > level))
}

fn tensor(labels: &Labels, samples: &[usize]) -> Tensor {
    let width = labels.names().len().saturating_sub(1);
    let values = samples.iter().flat_map(|sample| levels(index(labels)[*sample], width)).collect();
    Tensor::from_vec::<f32>(&[samples.len() as u64, width as u64], values)
}

/// The number of shares above one half, which are those of positive logits.
fn class(logits: &[f32]) -> usize {
    logits.iter().filter(|logit| **logit > 0.0).count()
}

fn measure(counts: &mut Counts, labels: &Labels, loss: &Loss, output: &[f32], sample: usize) {
    let (right, answered) = (index(labels)[sample], class(output));
    let levels: Vec<f32> = levels(right, output.len()).collect();
    counts.sum += loss.of_row(output, Of::Values(&levels));
    let hit = answered == right as usize;
    counts.classes[right as usize].0 += 1;
    counts.classes[right as usize].1 += usize::from(hit);
    counts.right += usize::from(hit);
    counts.decisions += 1;
    counts.distance += answered.abs_diff(right as usize) as f64;
}

/// The share of the samples above each class, one more counted above and one below.
fn commonest(labels: &Labels, samples: &[usize]) -> Option<Vec<f32>> {
    let above = |level: u32| samples.iter().filter(|sample| index(labels)[**sample] > level).count() as f32;
    let logit = |above: f32| ((above + 1.0) / (samples.len() as f32 - above + 1.0)).ln();
    Some((0..labels.names().len().saturating_sub(1) as u32).map(|level| logit(above(level))).collect())
}

/// The class, and the classes with their shares: those of "above" sorted, and of each class what lies between two of them.
fn answer(asked: &Asked<'_>, output: Vec<f32>) -> Answer {
    let Asked { names, top, .. } = *asked;
    let mut above: Vec<f32> = output.iter().map(|logit| 1.0 / (1.0 + (-logit).exp())).collect();
    above.order_by(|one, other| other.total_cmp(one));
    let bounds = [vec![1.0], above, vec![0.0]].concat();
    let shares = bounds.windows(2).map(|pair| pair[0] - pair[1]).collect();
    let mut answer = Answer::of_classes(names, shares);
    let decided = answer.classes.remove(class(&output));
    let mut answer = answer.likeliest(top.saturating_sub(1));
    answer.class = Some(decided.name.clone());
    answer.classes.insert(0, decided);
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_class_is_the_number_of_shares_above_one_half_and_shares_sum_to_one() {
        let names = ["low", "middle", "high"].map(String::from);
        let told = answer(&Asked { names: &names, top: 3, ..Asked::default() }, vec![2.0, -1.0]);
        assert_eq!((told.class.as_deref(), told.classes[0].name.as_str()), (Some("middle"), "middle"));
        assert!((told.classes.iter().map(|class| class.probability).sum::<f32>() - 1.0).abs() < 1e-6);
        assert!((told.classes[0].probability - (0.880797 - 0.268941)).abs() < 1e-5, "{told}");
        // Shares that rise from one level to the next are sorted: no class has less than nothing.
        let crossed = answer(&Asked { names: &names, top: 3, ..Asked::default() }, vec![-1.0, 2.0]);
        assert_eq!(crossed.classes, told.classes);
        assert_eq!(crossed.top(1).next().map(|(name, _)| name), Some("middle"));
        // The class that is decided for need not be the likeliest one.
        let split = answer(&Asked { names: &names, top: 2, ..Asked::default() }, vec![0.1, -0.1]);
        assert_eq!((split.class.as_deref(), split.classes.len()), (Some("middle"), 2));
        assert!(split.classes[0].probability < split.classes[1].probability);
        assert_eq!(split.top(1).next().map(|(name, _)| name), Some("middle"));
    }
}
