//! One class a sample.

use super::loss::{Loss, Target as Of};
use super::{Answer, Counts, Task, largest, softmax};
use crate::data::{Labels, Target};
use crate::delta;
use crate::graph::Tensor;

/// Its row.
pub(super) const TASK: Task = Task {
    name: "classification",
    target: Target::Classes,
    wire: delta::Task::Classification,
    losses: &["cross-entropy"],
    data: "a folder for each class; a table, text, arrays or sensor series with a label",
    metric: "accuracy, macro F1",
    answers: "a class with its probability",
    example: &[("data", "photos/"), ("train", "last:2")],
    labels: "one class a sample: choose cross-entropy",
    has: |labels| matches!(labels, Labels::Classes { .. }),
    width: |labels| Some(labels.names().len() as u64),
    tensor,
    measure,
    commonest,
    figures: |counts| vec![("macro_f1", macro_f1(counts))],
    answer: |asked, output| Answer::of_classes(asked.names, softmax(&output)).likeliest(asked.top),
};

fn tensor(labels: &Labels, samples: &[usize]) -> Tensor {
    let Labels::Classes { index, .. } = labels else { unreachable!("labels of another task") };
    let values = samples.iter().map(|sample| i64::from(index[*sample])).collect();
    Tensor::from_vec(&[samples.len() as u64], values)
}

fn measure(counts: &mut Counts, labels: &Labels, loss: &Loss, output: &[f32], sample: usize) {
    let Labels::Classes { index, .. } = labels else { unreachable!("labels of another task") };
    let class = index[sample] as usize;
    let answered = largest(output);
    let hit = answered == class;
    counts.answered[answered] += 1;
    counts.sum += loss.of_row(output, Of::Class(class));
    counts.classes[class].0 += 1;
    counts.classes[class].1 += usize::from(hit);
    counts.right += usize::from(hit);
    counts.decisions += 1;
}

/// The mean over the classes of the harmonic mean of precision and recall, as scikit-learn's `f1_score(average="macro")`: of the classes
/// that were there or were answered.
fn macro_f1(counts: &Counts) -> f64 {
    let classes = counts.classes.iter().zip(&counts.answered);
    let seen = classes.filter(|((samples, _), answered)| samples + **answered > 0);
    let each: Vec<f64> =
        seen.map(|((samples, right), answered)| 2.0 * *right as f64 / (samples + answered) as f64).collect();
    each.iter().sum::<f64>() / each.len().max(1) as f64
}

/// The shares of the classes, one more counted in each, so that none is impossible.
fn commonest(labels: &Labels, samples: &[usize]) -> Option<Vec<f32>> {
    let Labels::Classes { names, index } = labels else { unreachable!("labels of another task") };
    let mut counts = vec![1.0f32; names.len()];
    samples.iter().for_each(|sample| counts[index[*sample] as usize] += 1.0);
    Some(counts.iter().map(|of_class| of_class.ln()).collect())
}
