//! Losses: written as ONNX nodes for the step graph, and computed in Rust for evaluation.

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
}

impl Loss {
    /// The name that recipes and `--loss` use.
    pub fn name(&self) -> &'static str {
        match self {
            Loss::CrossEntropy { .. } => "cross-entropy",
            Loss::BinaryCrossEntropy => "binary-cross-entropy",
            Loss::MeanSquaredError => "mean-squared-error",
            Loss::Huber { .. } => "huber",
        }
    }

    /// Whether labels are class numbers rather than one value an output.
    pub fn takes_classes(&self) -> bool {
        matches!(self, Loss::CrossEntropy { .. })
    }

    /// The type of the step graph's `labels` input.
    pub fn labels_type(&self, batch: Dim, width: u64) -> TensorType {
        match self {
            Loss::CrossEntropy { .. } => TensorType::new(DType::Int64, vec![batch]),
            _ => TensorType::new(DType::Float, vec![batch, Dim::Fixed(width)]),
        }
    }

    /// Appends the loss of `logits` `[batch, width]` against `labels`; gives a scalar, the mean over the batch.
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
            (Loss::CrossEntropy { .. }, Target::Class(class)) => {
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
