//! Numbers.

use super::loss::{Loss, Target as Of, mean};
use super::multi_label::rows_tensor;
use super::{Answer, Counts, Task};
use crate::data::{Labels, Target};
use crate::delta;
use crate::graph::{Builder, DType, Val};
use ndarray::{Array2, Axis};

/// Its row.
pub(super) const TASK: Task = Task {
    name: "regression",
    target: Target::Values,
    wire: delta::Task::Regression,
    losses: &["mean-squared-error", "huber"],
    labels: "numbers: choose mean-squared-error or huber",
    has: |labels| matches!(labels, Labels::Values(_)),
    width: |labels| Some(rows(labels).ncols() as u64),
    tensor: |labels, samples| rows_tensor(rows(labels), samples),
    measure,
    commonest: |labels, samples| Some(rows(labels).select(Axis(0), samples).mean_axis(Axis(0))?.to_vec()),
    answer: |_, output, _| Answer { classes: Vec::new(), values: output },
};

fn rows(labels: &Labels) -> &Array2<f32> {
    let Labels::Values(rows) = labels else { unreachable!("labels of another task") };
    rows
}

fn measure(counts: &mut Counts, labels: &Labels, loss: &Loss, output: &[f32], sample: usize) {
    let row = rows(labels).row(sample);
    counts.sum += loss.of_row(output, Of::Values(row.as_slice().expect("rows are contiguous")));
}

/// The mean of squared differences.
pub(super) fn mean_squared_error<'b>(logits: Val<'b>, labels: Val<'b>) -> Val<'b> {
    let error = logits - labels;
    mean(error * error)
}

/// With c = min(|e|, δ): c·(|e| − c/2) is e²/2 up to δ and δ·(|e| − δ/2) beyond.
pub(super) fn huber<'b>(builder: &'b Builder, logits: Val<'b>, labels: Val<'b>, delta: f64) -> Val<'b> {
    let error = (logits - labels).unary("Abs");
    let low = builder.scalar(DType::Float, 0.0);
    let high = builder.scalar(DType::Float, delta);
    let clipped = builder.op("Clip", &[error, low, high], &[]);
    mean(clipped * (error - clipped * 0.5))
}

/// The same of one number, in Rust.
pub(super) fn huber_of(x: f64, z: f64, delta: f64) -> f64 {
    let clipped = (x - z).abs().min(delta);
    clipped * ((x - z).abs() - 0.5 * clipped)
}
