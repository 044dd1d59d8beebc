//! Whatever a loss of the user's own asks for.

use super::multi_label::rows_tensor;
use super::{Answer, Task};
use crate::data::{Labels, Target};
use crate::delta;
use ndarray::Array2;

/// Its row.
pub(super) const TASK: Task = Task {
    name: "anything",
    target: Target::OfLoss,
    wire: delta::Task::Anything,
    losses: &["file"],
    data: "arrays (.npz) or a table with what the loss takes, by the names of its inputs",
    metric: "loss",
    answers: "the model's output as it is",
    example: &[("data", "windows.npz"), ("loss", "focal.onnx")],
    labels: "what a loss of one's own takes: name its file",
    has: |labels| matches!(labels, Labels::OfLoss(_)),
    // What the model gives is what the loss is written for.
    width: |_| None,
    tensor: |labels, samples| rows_tensor(rows(labels), samples),
    // The loss is computed by its file, over a batch: `train::evaluate` runs it.
    measure: |_, _, _, _, _| {},
    commonest: |_, _| None,
    figures: |_| Vec::new(),
    answer: |_, output| Answer { values: output, ..Answer::default() },
};

fn rows(labels: &Labels) -> &Array2<f32> {
    let Labels::OfLoss(rows) = labels else { unreachable!("labels of another task") };
    rows
}
