//! The token that follows, at each place of a text.

use super::loss::{Loss, Target as Of};
use super::{Answer, Counts, Task, softmax};
use crate::data::{IGNORED, Labels, Target};
use crate::delta;
use crate::graph::{Attr, Builder, DType, Tensor, Val};
use ndarray::Array2;

/// Its row.
pub(super) const TASK: Task = Task {
    name: "next-token",
    target: Target::NextTokens,
    wire: delta::Task::LanguageModel,
    losses: &["next-token"],
    labels: "text: choose next-token",
    has: |labels| matches!(labels, Labels::NextTokens(_)),
    // A language model keeps its vocabulary.
    width: |_| None,
    tensor,
    measure,
    commonest: |_, _| None,
    answer: |names, output, top| Answer::of_classes(names, softmax(&output)).likeliest(top),
};

fn rows(labels: &Labels) -> &Array2<i64> {
    let Labels::NextTokens(rows) = labels else { unreachable!("labels of another task") };
    rows
}

fn tensor(labels: &Labels, samples: &[usize]) -> Tensor {
    let rows = rows(labels);
    let values: Vec<i64> = samples.iter().flat_map(|sample| rows.row(*sample).to_vec()).collect();
    Tensor::from_vec(&[samples.len() as u64, rows.ncols() as u64], values)
}

fn measure(counts: &mut Counts, labels: &Labels, loss: &Loss, output: &[f32], sample: usize) {
    let row = rows(labels).row(sample);
    let width = output.len() / row.len().max(1);
    for (logits, token) in output.chunks_exact(width.max(1)).zip(row).filter(|(_, token)| **token != IGNORED) {
        counts.sum += loss.of_row(logits, Of::Class(*token as usize));
        counts.tokens += 1;
    }
}

/// −Σ log softmax(logits)\[label\] / n over the n positions that count. The label's logarithm is picked, so nothing of the
/// vocabulary's width is made but the logarithms themselves.
pub(super) fn next_token<'b>(builder: &'b Builder, logits: Val<'b>, labels: Val<'b>) -> Val<'b> {
    let ignored = builder.constant(Tensor::from_i64(&[], &[IGNORED]));
    let first = builder.constant(Tensor::from_i64(&[], &[0]));
    let one = builder.scalar(DType::Float, 1.0);
    let ignores = labels.equal(ignored);
    let counts = ignores.select(builder.scalar(DType::Float, 0.0), one);
    let log = builder.op("LogSoftmax", &[logits], &[("axis", Attr::Int(-1))]);
    // Any token will do where none counts: its weight is 0.
    let tokens = ignores.select(first, labels).unsqueeze(&[-1]);
    let picked = builder.op("GatherElements", &[log, tokens], &[("axis", Attr::Int(-1))]).squeeze(&[-1]);
    let count = builder.op("Max", &[counts.sum_all(), one], &[]);
    -((picked * counts).sum_all() / count)
}
