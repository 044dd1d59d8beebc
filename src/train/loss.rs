//! Losses: written as ONNX nodes for the step graph, and computed in Rust for evaluation.

use crate::adapter::Activation;
use crate::data::{IGNORED, Labels};
use crate::graph::{Attr, Builder, DType, Dim, Tensor, TensorType, Val};
use serde::{Deserialize, Serialize};

/// What is minimised. `logits` below is the tail's output, `[batch, width]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "name")]
pub enum Loss {
    /// −Σ target · log softmax(logits), as `torch.nn.CrossEntropyLoss`; labels `[batch]` i64.
    CrossEntropy {
        /// ε: the share of the target spread evenly over all classes.
        label_smoothing: f32,
        /// One weight a class; the mean is then weighted too.
        class_weights: Option<Vec<f32>>,
    },
    /// Binary cross-entropy on each logit, as `torch.nn.BCEWithLogitsLoss`; labels `[batch, width]` f32 of 0 and 1.
    BinaryCrossEntropy,
    /// Mean of squared differences, as `torch.nn.MSELoss`; labels `[batch, width]` f32.
    MeanSquaredError,
    /// As `torch.nn.HuberLoss`: squared up to δ, linear beyond; labels `[batch, width]` f32.
    Huber {
        /// δ, in units of the label.
        delta: f32,
    },
    /// Cross-entropy of the token that follows, at each position of `[batch, sequence, width]`, as
    /// `torch.nn.CrossEntropyLoss` with its `ignore_index`; labels `[batch, sequence]` i64, [`IGNORED`] where none counts.
    /// The mean is over the positions that count.
    NextToken,
}

impl Loss {
    /// The name that recipes and `--loss` use.
    pub fn name(&self) -> &'static str {
        match self {
            Loss::CrossEntropy { .. } => "cross-entropy",
            Loss::BinaryCrossEntropy => "binary-cross-entropy",
            Loss::MeanSquaredError => "mean-squared-error",
            Loss::Huber { .. } => "huber",
            Loss::NextToken => "next-token",
        }
    }

    /// The rank of the output that it is computed on.
    pub fn rank(&self) -> usize {
        if *self == Loss::NextToken { 3 } else { 2 }
    }

    /// The activation that it applies to a model's output by itself.
    pub fn activation(&self) -> Activation {
        match self {
            Loss::CrossEntropy { .. } | Loss::NextToken => Activation::Softmax,
            Loss::BinaryCrossEntropy => Activation::Sigmoid,
            Loss::MeanSquaredError | Loss::Huber { .. } => Activation::Identity,
        }
    }

    /// Whether labels are class numbers rather than one value an output.
    pub fn takes_classes(&self) -> bool {
        matches!(self, Loss::CrossEntropy { .. })
    }

    /// What the mean over these samples is divided by: their number, their classes' weights, or the tokens that count.
    pub fn weight(&self, labels: &Labels, samples: &[usize]) -> f64 {
        match (self, labels) {
            (Loss::CrossEntropy { class_weights: Some(weights), .. }, Labels::Classes { index, .. }) => {
                samples.iter().map(|sample| f64::from(weights[index[*sample] as usize])).sum()
            }
            (Loss::NextToken, Labels::NextTokens(rows)) => {
                let counted = |sample: &usize| rows.row(*sample).iter().filter(|token| **token != IGNORED).count();
                samples.iter().map(counted).sum::<usize>() as f64
            }
            _ => samples.len() as f64,
        }
    }

    /// The type of the step graph's `labels` input; `rows` are the output's dimensions but for the last.
    pub fn labels_type(&self, mut rows: Vec<Dim>, width: u64) -> TensorType {
        match self {
            Loss::CrossEntropy { .. } | Loss::NextToken => TensorType::new(DType::Int64, rows),
            _ => {
                rows.push(Dim::Fixed(width));
                TensorType::new(DType::Float, rows)
            }
        }
    }

    /// Appends the loss of `logits` `[batch, width]` (or `[batch, sequence, width]`) against `labels`; gives a scalar, the mean over the batch.
    pub fn append<'b>(&self, builder: &'b Builder, logits: Val<'b>, labels: Val<'b>, width: u64) -> Val<'b> {
        let logits = logits.cast(DType::Float);
        match self {
            Loss::CrossEntropy { label_smoothing, class_weights } => {
                let smoothing = f64::from(*label_smoothing);
                cross_entropy(builder, logits, labels, width, smoothing, class_weights.as_deref())
            }
            // softplus(x) − x·z = −z·log σ(x) − (1 − z)·log(1 − σ(x))
            Loss::BinaryCrossEntropy => mean(logits.unary("Softplus") - logits * labels),
            Loss::MeanSquaredError => {
                let error = logits - labels;
                mean(error * error)
            }
            // With c = min(|e|, δ): c·(|e| − c/2) is e²/2 up to δ and δ·(|e| − δ/2) beyond.
            Loss::Huber { delta } => {
                let error = (logits - labels).unary("Abs");
                let low = builder.scalar(DType::Float, 0.0);
                let high = builder.scalar(DType::Float, f64::from(*delta));
                let clipped = builder.op("Clip", &[error, low, high], &[]);
                mean(clipped * (error - clipped * 0.5))
            }
            Loss::NextToken => next_token(builder, logits, labels),
        }
    }

    /// The loss of one row in Rust, for evaluation: unweighted, without label smoothing.
    ///
    /// `logits`: `[width]`. `target`: the class, or `[width]` values.
    pub fn of_row(&self, logits: &[f32], target: Target<'_>) -> f64 {
        let pairs = |values: &[f32], each: fn(f64, f64, f64) -> f64, delta: f64| {
            let sum: f64 = logits.iter().zip(values).map(|(x, z)| each(f64::from(*x), f64::from(*z), delta)).sum();
            sum / logits.len() as f64
        };
        match (self, target) {
            (Loss::CrossEntropy { .. } | Loss::NextToken, Target::Class(class)) => {
                let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let sum: f64 = logits.iter().map(|x| f64::from(x - top).exp()).sum();
                sum.ln() - f64::from(logits[class] - top)
            }
            (Loss::BinaryCrossEntropy, Target::Values(values)) => {
                pairs(values, |x, z, _| x.max(0.0) - x * z + (-x.abs()).exp().ln_1p(), 0.0)
            }
            (Loss::MeanSquaredError, Target::Values(values)) => pairs(values, |x, z, _| (x - z) * (x - z), 0.0),
            (Loss::Huber { delta }, Target::Values(values)) => {
                let each = |x: f64, z: f64, delta: f64| {
                    let clipped = (x - z).abs().min(delta);
                    clipped * ((x - z).abs() - 0.5 * clipped)
                };
                pairs(values, each, f64::from(*delta))
            }
            _ => unreachable!("labels were checked against the loss when the data was opened"),
        }
    }
}

/// What one sample should give.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Target<'a> {
    /// A class.
    Class(usize),
    /// One value an output.
    Values(&'a [f32]),
}

fn mean(value: Val<'_>) -> Val<'_> {
    let count = value.unary("Size").cast(DType::Float);
    value.sum_all() / count
}

/// Targets as rows: (1 − ε) on the class and ε/width everywhere, times the class weights. Divided by the weights of the
/// labels in the batch, as PyTorch does.
fn cross_entropy<'b>(
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

/// −Σ log softmax(logits)\[label\] / n over the n positions that count. The label's logarithm is picked, so nothing of the
/// vocabulary's width is made but the logarithms themselves.
fn next_token<'b>(builder: &'b Builder, logits: Val<'b>, labels: Val<'b>) -> Val<'b> {
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
