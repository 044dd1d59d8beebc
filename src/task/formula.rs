//! The losses as maths: as nodes of the step graph, and in Rust for evaluation.

use crate::data::IGNORED;
use crate::graph::{Attr, Builder, DType, Tensor, Val};

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
pub(super) fn cross_entropy_of(logits: &[f32], class: usize) -> f64 {
    let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|x| f64::from(x - top).exp()).sum();
    sum.ln() - f64::from(logits[class] - top)
}

/// softplus(x) − x·z = −z·log σ(x) − (1 − z)·log(1 − σ(x))
pub(super) fn binary_cross_entropy<'b>(logits: Val<'b>, labels: Val<'b>) -> Val<'b> {
    mean(logits.unary("Softplus") - logits * labels)
}

/// The same of one logit, in Rust.
pub(super) fn binary_cross_entropy_of(x: f64, z: f64) -> f64 {
    x.max(0.0) - x * z + (-x.abs()).exp().ln_1p()
}

/// Σ over levels of softplus(x) − x·z, the mean over samples: CORAL's loss on labels of 0 and 1 for each level.
pub(super) fn coral<'b>(logits: Val<'b>, labels: Val<'b>, width: u64) -> Val<'b> {
    binary_cross_entropy(logits, labels) * width as f64
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

/// −Σ log softmax(logits)\[label\] / n over the n positions that count. The label's logarithm is picked, so nothing of the
/// vocabulary's width is made but the logarithms themselves.
pub(super) fn next_token<'b>(builder: &'b Builder, logits: Val<'b>, labels: Val<'b>) -> Val<'b> {
    of_positions(builder, logits, labels, -1, None)
}

/// The same with the scores along `axis`; with weights of the classes, Σ −weight\[label\] · log softmax(logits)\[label\] / Σ
/// weight\[label\], as PyTorch has it.
pub(super) fn of_positions<'b>(
    builder: &'b Builder,
    logits: Val<'b>,
    labels: Val<'b>,
    axis: i64,
    weights: Option<&[f32]>,
) -> Val<'b> {
    let ignored = builder.constant(Tensor::from_i64(&[], &[IGNORED]));
    let first = builder.constant(Tensor::from_i64(&[], &[0]));
    let one = builder.scalar(DType::Float, 1.0);
    let ignores = labels.equal(ignored);
    let zero = builder.scalar(DType::Float, 0.0);
    let counts = match weights {
        None => ignores.select(zero, one),
        Some(weights) => {
            let weights = builder.constant(Tensor::from_f32(&[weights.len() as u64], weights));
            ignores.select(zero, weights.gather(ignores.select(first, labels), 0))
        }
    };
    let log = builder.op("LogSoftmax", &[logits], &[("axis", Attr::Int(axis))]);
    // Any token will do where none counts: its weight is 0.
    let tokens = ignores.select(first, labels).unsqueeze(&[axis]);
    let picked = builder.op("GatherElements", &[log, tokens], &[("axis", Attr::Int(axis))]).squeeze(&[axis]);
    // Weights may sum to less than one; where nothing counts, nothing is divided by nothing.
    let least = if weights.is_some() { builder.scalar(DType::Float, 1e-12) } else { one };
    let count = builder.op("Max", &[counts.sum_all(), least], &[]);
    -((picked * counts).sum_all() / count)
}

/// 1 − the mean over the classes that are there of 2·Σ p·t / (Σ p + Σ t), with p = softmax(logits) along `axis` and t = 1 where a pixel is of the
/// class; over all pixels of the batch that count. Soft Dice (Milletari, Navab and Ahmadi 2016, V-Net), a class at a time.
pub(super) fn dice<'b>(builder: &'b Builder, logits: Val<'b>, labels: Val<'b>, width: u64) -> Val<'b> {
    let ignores = labels.equal(builder.constant(Tensor::from_i64(&[], &[IGNORED])));
    let (zero, one) = (builder.scalar(DType::Float, 0.0), builder.scalar(DType::Float, 1.0));
    let first = builder.constant(Tensor::from_i64(&[], &[0]));
    let counts = ignores.select(zero, one).unsqueeze(&[1]);
    let depth = builder.constant(Tensor::from_i64(&[], &[width as i64]));
    let values = builder.constant(Tensor::from_f32(&[2], &[0.0, 1.0]));
    let targets =
        builder.op("OneHot", &[ignores.select(first, labels), depth, values], &[("axis", Attr::Int(1))]) * counts;
    let shares = builder.op("Softmax", &[logits], &[("axis", Attr::Int(1))]) * counts;
    let of_class = |value: Val<'b>| value.reduce_sum(&[0, 2, 3], false);
    let (labelled, answered, both) = (of_class(targets), of_class(shares), of_class(shares * targets));
    let there = labelled.greater(zero).select(one, zero);
    // Of a class that is not there the numerator is 0 as well.
    let each = both * 2.0 / (labelled + answered + 1e-12);
    let classes = builder.op("Max", &[there.sum_all(), one], &[]);
    one - (each * there).sum_all() / classes
}

/// The mean of all values.
fn mean(value: Val<'_>) -> Val<'_> {
    let count = value.unary("Size").cast(DType::Float);
    value.sum_all() / count
}
