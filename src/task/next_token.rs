//! The token that follows, at each place of a text.

use super::loss::{Loss, Target as Of};
use super::{Answer, Counts, Task, softmax};
use crate::data::{IGNORED, Labels, Target};
use crate::delta;
use crate::graph::Tensor;
use ndarray::Array2;

/// Its row.
pub(super) const TASK: Task = Task {
    name: "next-token",
    target: Target::NextTokens,
    wire: delta::Task::LanguageModel,
    losses: &["next-token"],
    data: "text, or prompts with completions, and the model's tokenizer",
    metric: "perplexity",
    answers: "the text goes on",
    example: &[("data", "notes.txt"), ("loss", "next-token"), ("adapter.method", "lora")],
    labels: "text: choose next-token",
    has: |labels| matches!(labels, Labels::NextTokens(_)),
    // A language model keeps its vocabulary.
    width: |_| None,
    tensor,
    measure,
    commonest: |_, _| None,
    figures: |_| Vec::new(),
    answer: |asked, output| Answer::of_classes(asked.names, softmax(&output)).likeliest(asked.top),
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
        counts.positions += 1;
    }
}
