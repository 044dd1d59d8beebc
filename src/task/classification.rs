//! One class a sample.

use super::loss::{Loss, Target as Of};
use super::{Answer, Counts, Task, largest, softmax};
use crate::data::{Labels, Target};
use crate::delta;
use crate::graph::{Attr, Builder, DType, Tensor, Val};

/// Its row.
pub(super) const TASK: Task = Task {
    name: "classification",
    target: Target::Classes,
    wire: delta::Task::Classification,
    losses: &["cross-entropy"],
    labels: "one class a sample: choose cross-entropy",
    has: |labels| matches!(labels, Labels::Classes { .. }),
    width: |labels| Some(labels.names().len() as u64),
    tensor,
    measure,
    commonest,
    answer: |names, output, top| Answer::of_classes(names, softmax(&output)).likeliest(top),
};

fn tensor(labels: &Labels, samples: &[usize]) -> Tensor {
    let Labels::Classes { index, .. } = labels else { unreachable!("labels of another task") };
    let values = samples.iter().map(|sample| i64::from(index[*sample])).collect();
    Tensor::from_vec(&[samples.len() as u64], values)
}

fn measure(counts: &mut Counts, labels: &Labels, loss: &Loss, output: &[f32], sample: usize) {
    let Labels::Classes { index, .. } = labels else { unreachable!("labels of another task") };
    let class = index[sample] as usize;
    let hit = largest(output) == class;
    counts.sum += loss.of_row(output, Of::Class(class));
    counts.classes[class].0 += 1;
    counts.classes[class].1 += usize::from(hit);
    counts.right += usize::from(hit);
    counts.decisions += 1;
}

/// The shares of the classes, one more counted in each, so that none is impossible.
fn commonest(labels: &Labels, samples: &[usize]) -> Option<Vec<f32>> {
    let Labels::Classes { names, index } = labels else { unreachable!("labels of another task") };
    let mut counts = vec![1.0f32; names.len()];
    samples.iter().for_each(|sample| counts[index[*sample] as usize] += 1.0);
    Some(counts.iter().map(|of_class| of_class.ln()).collect())
}

/// −Σ target · log softmax(logits). Targets as rows: (1 − ε) on the class and ε/width everywhere, times the class weights. Divided
/// by the weights of the labels in the batch, as PyTorch does.
pub(super) fn cross_entropy<'b>(
    builder: &'b Builder,
    logits: Val<'b>,
    labels: Val<'b>,
    width: u64,
    smoothing: f64,
    weights: Option<&[f32]>,
) -> Val<'b> {
    let spread = smoothing / width as f64;
    let (off, on) = (spread as f32, (1.0 - smoothing + spread) as f32);
    let depth = builder.constant(Tensor::from_i64(&[], &[width as i64]));
    let values = builder.constant(Tensor::from_f32(&[2], &[off, on]));
    let mut targets = builder.op("OneHot", &[labels, depth, values], &[("axis", Attr::Int(-1))]);
    let mut total = labels.unary("Size").cast(DType::Float);
    if let Some(weights) = weights {
        let weights = builder.constant(Tensor::from_f32(&[width], weights));
        targets = targets * weights;
        total = weights.gather(labels, 0).sum_all();
    }
    let log = builder.op("LogSoftmax", &[logits], &[("axis", Attr::Int(-1))]);
    -((targets * log).sum_all() / total)
}

/// −log softmax(logits) of the class, in Rust.
pub(super) fn of_row(logits: &[f32], class: usize) -> f64 {
    let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|x| f64::from(x - top).exp()).sum();
    sum.ln() - f64::from(logits[class] - top)
}
