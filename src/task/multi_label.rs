//! Any number of classes a sample.

use super::loss::{Loss, Target as Of};
use super::{Answer, Counts, Task};
use crate::data::{Labels, Target};
use crate::delta;
use crate::graph::Tensor;
use ndarray::{Array2, Axis};

/// Its row.
pub(super) const TASK: Task = Task {
    name: "multi-label",
    target: Target::MultiLabel,
    wire: delta::Task::MultiLabel,
    losses: &["binary-cross-entropy"],
    data: "a table, text or arrays with sets of classes, such as `cat;indoor`",
    metric: "share of right decisions",
    answers: "each class with a probability of its own",
    example: &[("data", "sets.csv"), ("loss", "binary-cross-entropy")],
    labels: "sets of classes: choose binary-cross-entropy",
    has: |labels| matches!(labels, Labels::MultiLabel { .. }),
    width: |labels| Some(labels.names().len() as u64),
    tensor: |labels, samples| rows_tensor(rows(labels), samples),
    measure,
    commonest,
    figures: |_| Vec::new(),
    answer: |asked, output| {
        Answer::of_classes(asked.names, output.iter().map(|logit| 1.0 / (1.0 + (-logit).exp())).collect())
    },
};

fn rows(labels: &Labels) -> &Array2<f32> {
    let Labels::MultiLabel { rows, .. } = labels else { unreachable!("labels of another task") };
    rows
}

/// Some rows of numbers.
pub(super) fn rows_tensor(rows: &Array2<f32>, samples: &[usize]) -> Tensor {
    let values: Vec<f32> = samples.iter().flat_map(|sample| rows.row(*sample).to_vec()).collect();
    Tensor::from_vec(&[samples.len() as u64, rows.ncols() as u64], values)
}

fn measure(counts: &mut Counts, labels: &Labels, loss: &Loss, output: &[f32], sample: usize) {
    let row = rows(labels).row(sample);
    counts.sum += loss.of_row(output, Of::Values(row.as_slice().expect("rows are contiguous")));
    let same = |(logit, target): &(&f32, &f32)| (**logit > 0.0) == (**target > 0.5);
    counts.right += output.iter().zip(row).filter(same).count();
    counts.decisions += output.len();
}

/// The share of the samples that have each class, one more counted with it and one without.
fn commonest(labels: &Labels, samples: &[usize]) -> Option<Vec<f32>> {
    let count = samples.len() as f32;
    let with = rows(labels).select(Axis(0), samples).sum_axis(Axis(0));
    Some(with.iter().map(|with| ((with + 1.0) / (count - with + 1.0)).ln()).collect())
}
