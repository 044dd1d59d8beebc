//! Numbers.

use super::loss::{Loss, Target as Of};
use super::multi_label::rows_tensor;
use super::{Answer, Counts, Task};
use crate::data::{Labels, Target};
use crate::delta;
use ndarray::{Array2, Axis};

/// Its row.
pub(super) const TASK: Task = Task {
    name: "regression",
    target: Target::Values,
    wire: delta::Task::Regression,
    losses: &["mean-squared-error", "huber"],
    data: "a table, arrays or sensor series with one number or more a sample",
    metric: "loss, mean absolute error",
    answers: "numbers",
    example: &[("data", "prices.csv"), ("loss", "huber")],
    labels: "numbers: choose mean-squared-error or huber",
    has: |labels| matches!(labels, Labels::Values(_)),
    width: |labels| Some(rows(labels).ncols() as u64),
    tensor: |labels, samples| rows_tensor(rows(labels), samples),
    measure,
    commonest: |labels, samples| Some(rows(labels).select(Axis(0), samples).mean_axis(Axis(0))?.to_vec()),
    figures: |counts| vec![("mean_absolute_error", counts.distance / counts.numbers.max(1) as f64)],
    answer: |_, output| Answer { values: output, ..Answer::default() },
};

fn rows(labels: &Labels) -> &Array2<f32> {
    let Labels::Values(rows) = labels else { unreachable!("labels of another task") };
    rows
}

fn measure(counts: &mut Counts, labels: &Labels, loss: &Loss, output: &[f32], sample: usize) {
    let row = rows(labels).row(sample);
    let apart = output.iter().zip(row).map(|(output, value)| f64::from((output - value).abs()));
    counts.distance += apart.sum::<f64>();
    counts.numbers += row.len();
    counts.sum += loss.of_row(output, Of::Values(row.as_slice().expect("rows are contiguous")));
}
