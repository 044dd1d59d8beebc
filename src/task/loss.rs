//! Losses by name: as ONNX nodes for the step graph, and in Rust for evaluation. What each is, is in `formula.rs`.

use super::box_loss;
use super::ctc;
use super::enlarge::enlarged;
use super::formula::{
    binary_cross_entropy, binary_cross_entropy_of, coral, cross_entropy, cross_entropy_of, dice, huber, huber_of,
    mean_squared_error, next_token, of_positions,
};
use super::likeness_loss::{self, Likeness};
use super::own::OwnLoss;
use crate::adapter::{Activation, Positions};
use crate::data::{IGNORED, Labels};
use crate::graph::{Builder, DType, Dim, TensorType, Val};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// Share of false alarms where nobody says another.
const FALSE_ALARMS: f64 = 0.01;

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
    /// Σ of the binary cross-entropies of "above this class", as `coral_loss` of coral-pytorch; labels `[batch, width]` f32
    /// of 0 and 1, for one class more than there are columns.
    Coral,
    /// Cross-entropy of each token's class, at each position of `[batch, sequence, width]`, as `torch.nn.CrossEntropyLoss` with its
    /// `ignore_index`; labels `[batch, sequence]` i64, [`IGNORED`] where none counts.
    TokenCrossEntropy {
        /// One weight a class; the mean is then weighted too.
        class_weights: Option<Vec<f32>>,
    },
    /// Cross-entropy of each pixel's class, at each of `[batch, width, height, width]`, as `torch.nn.CrossEntropyLoss` with its
    /// `ignore_index`; labels `[batch, height, width]` i64, [`IGNORED`] where none counts. Logits of another size are brought to that of
    /// the labels, bilinearly.
    PixelCrossEntropy {
        /// One weight a class; the mean is then weighted too.
        class_weights: Option<Vec<f32>>,
        /// Height and width of the labels; `None`: those of the logits.
        size: Option<[u64; 2]>,
        /// Whether the soft Dice loss of all classes is added.
        dice: bool,
    },
    /// Binary cross-entropy of the classes, generalised IoU of the boxes and cross-entropy of their edges' distributions, of `[batch,
    /// cells, classes + 4 · bins]`; labels `[batch, cells, 6]` f32 are what an assignment gives each cell: see `box_loss`.
    Boxes {
        /// Scores of a cell; 0 until the data have told.
        classes: u64,
        /// Whether boxes are learned, too, and not their classes alone.
        edges: bool,
    },
    /// −ln of the probability of all ways in which the steps of `[batch, steps, width]` give a text, over the text's length, as
    /// `torch.nn.CTCLoss` with its `mean`; labels `[batch, steps, width + 1]` f32 are what the answers make of it: see `ctc`.
    Ctc,
    /// How near vectors of alike samples are to each other, and how far from others, within a batch; labels `[batch, 5]` f32 say who is like
    /// whom: see `likeness_loss`.
    Likeness {
        /// Which of them.
        by: Likeness,
    },
    /// The squared length of normal samples' vectors, `[batch, width]`; labels `[batch, 1]` f32 of 0 (normal) and 1. What learns by it is
    /// found at once.
    Normality {
        /// Whether each principal direction counts by its own spread.
        whitened: bool,
        /// Share of held-out normal samples that may be above the threshold.
        false_alarms: f64,
    },
    /// What a file of the user's computes; labels `[batch, width]` f32, the values of all its inputs but the first.
    File(OwnLoss),
}

impl Loss {
    /// The loss of that name, with the settings that it has where nothing else is said.
    pub fn named(name: &str) -> Option<Self> {
        let all = [
            Loss::CrossEntropy { label_smoothing: 0.0, class_weights: None },
            Loss::BinaryCrossEntropy,
            Loss::MeanSquaredError,
            Loss::Huber { delta: 1.0 },
            Loss::NextToken,
            Loss::Coral,
            Loss::TokenCrossEntropy { class_weights: None },
            Loss::PixelCrossEntropy { class_weights: None, size: None, dice: false },
            Loss::PixelCrossEntropy { class_weights: None, size: None, dice: true },
            Loss::Ctc,
            Loss::Boxes { classes: 0, edges: true },
            Loss::Boxes { classes: 0, edges: false },
            Loss::Normality { whitened: false, false_alarms: FALSE_ALARMS },
            Loss::Normality { whitened: true, false_alarms: FALSE_ALARMS },
            Loss::File(OwnLoss::default()),
        ];
        let all = all.into_iter().chain(Likeness::ALL.map(|by| Loss::Likeness { by }));
        all.into_iter().find(|loss: &Loss| loss.name() == name)
    }

    /// The same with the share of false alarms that is allowed.
    pub fn with_false_alarms(self, share: Option<f64>) -> Self {
        match (self, share) {
            (Loss::Normality { whitened, .. }, Some(false_alarms)) => Loss::Normality { whitened, false_alarms },
            (other, _) => other,
        }
    }

    /// The name that the setting `loss` takes.
    pub fn name(&self) -> &'static str {
        match self {
            Loss::CrossEntropy { .. } => "cross-entropy",
            Loss::BinaryCrossEntropy => "binary-cross-entropy",
            Loss::MeanSquaredError => "mean-squared-error",
            Loss::Huber { .. } => "huber",
            Loss::NextToken => "next-token",
            Loss::Coral => "coral",
            Loss::TokenCrossEntropy { .. } => "token-cross-entropy",
            Loss::PixelCrossEntropy { dice: false, .. } => "pixel-cross-entropy",
            Loss::PixelCrossEntropy { dice: true, .. } => "dice-cross-entropy",
            Loss::Ctc => "ctc",
            Loss::Boxes { edges: true, .. } => "boxes",
            Loss::Boxes { edges: false, .. } => "box-classes",
            Loss::Likeness { by } => by.name(),
            Loss::Normality { whitened: false, .. } => "residual",
            Loss::Normality { whitened: true, .. } => "mahalanobis",
            Loss::File(_) => "file",
        }
    }

    /// What a delta's header calls it.
    pub fn wire_name(&self) -> Cow<'static, str> {
        match self {
            Loss::File(own) => own.wire_name().into(),
            _ => self.name().into(),
        }
    }

    /// The rank of the output that it is computed on.
    pub fn rank(&self) -> usize {
        if *self == Loss::NextToken { 3 } else { self.positions().rank() }
    }

    /// What has a row of scores each. A language model's output stays as it is.
    pub fn positions(&self) -> Positions {
        match self {
            Loss::TokenCrossEntropy { .. } | Loss::Ctc => Positions::Token,
            Loss::PixelCrossEntropy { .. } => Positions::Pixel,
            Loss::Boxes { .. } => Positions::Cell,
            _ => Positions::Sample,
        }
    }

    /// The activation that it applies to a model's output by itself.
    pub fn activation(&self) -> Activation {
        match self {
            Loss::CrossEntropy { .. }
            | Loss::NextToken
            | Loss::TokenCrossEntropy { .. }
            | Loss::Ctc
            | Loss::PixelCrossEntropy { .. } => Activation::Softmax,
            Loss::BinaryCrossEntropy | Loss::Coral | Loss::Boxes { .. } => Activation::Sigmoid,
            // What stands before a loss of one's own is that loss's business.
            Loss::MeanSquaredError
            | Loss::Huber { .. }
            | Loss::Likeness { .. }
            | Loss::Normality { .. }
            | Loss::File(_) => Activation::Identity,
        }
    }

    /// The size of the masks that it is computed for, where that is known.
    pub fn size(&self) -> Option<[u64; 2]> {
        match self {
            Loss::PixelCrossEntropy { size, .. } => *size,
            _ => None,
        }
    }

    /// Whether it also asks how far answers and labels overlap, over all pixels.
    pub fn has_overlap(&self) -> bool {
        matches!(self, Loss::PixelCrossEntropy { dice: true, .. })
    }

    /// Whether what a step is told depends on what the model answers before it.
    pub fn asks_outputs(&self) -> bool {
        matches!(self, Loss::Boxes { .. } | Loss::Ctc)
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
            (Loss::NextToken, Labels::NextTokens(rows)) => counted(samples.iter().flat_map(|s| rows.row(*s)), None),
            (Loss::TokenCrossEntropy { class_weights }, Labels::Tokens { rows, .. }) => {
                counted(samples.iter().flat_map(|sample| rows.row(*sample)), class_weights.as_deref())
            }
            (Loss::PixelCrossEntropy { class_weights, .. }, Labels::Pixels { names, masks }) => {
                let pixels = samples.iter().map(|sample| masks.counts(*sample, names.len()));
                pixels.map(|counts| weighed(&counts, class_weights.as_deref())).sum()
            }
            (Loss::Boxes { .. }, Labels::Boxes { pictures, .. }) => {
                // The sum of the assigned scores, which is what the mean is over, is about as the number of boxes.
                samples.iter().map(|sample| pictures[*sample].objects.len()).sum::<usize>().max(1) as f64
            }
            _ => samples.len() as f64,
        }
    }

    /// The type of the step graph's `labels` input; `rows` are the output's dimensions but for that of the scores.
    pub fn labels_type(&self, mut rows: Vec<Dim>, width: u64) -> TensorType {
        match self {
            Loss::CrossEntropy { .. } | Loss::NextToken | Loss::TokenCrossEntropy { .. } => {
                TensorType::new(DType::Int64, rows)
            }
            Loss::PixelCrossEntropy { size, .. } => {
                if let (Some(size), [_, height, across]) = (size, &mut rows[..]) {
                    (*height, *across) = (Dim::Fixed(size[0]), Dim::Fixed(size[1]));
                }
                TensorType::new(DType::Int64, rows)
            }
            Loss::Boxes { .. } => {
                rows.push(Dim::Fixed(box_loss::COLUMNS));
                TensorType::new(DType::Float, rows)
            }
            Loss::Ctc => {
                rows.push(Dim::Fixed(width + 1));
                TensorType::new(DType::Float, rows)
            }
            Loss::Normality { .. } => {
                rows.push(Dim::Fixed(1));
                TensorType::new(DType::Float, rows)
            }
            Loss::Likeness { .. } => {
                rows.push(Dim::Fixed(likeness_loss::COLUMNS as u64));
                TensorType::new(DType::Float, rows)
            }
            Loss::File(own) => {
                rows.push(Dim::Fixed(own.width()));
                TensorType::new(DType::Float, rows)
            }
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
            Loss::BinaryCrossEntropy => binary_cross_entropy(logits, labels),
            Loss::MeanSquaredError => mean_squared_error(logits, labels),
            Loss::Huber { delta } => huber(builder, logits, labels, f64::from(*delta)),
            Loss::NextToken => next_token(builder, logits, labels),
            Loss::Coral => coral(logits, labels, width),
            Loss::Boxes { classes, edges } => box_loss::append(builder, logits, labels, [*classes, width], *edges),
            Loss::Ctc => ctc::append(builder, logits, labels, width),
            Loss::Likeness { by } => likeness_loss::append(builder, logits, labels, *by),
            Loss::Normality { .. } => {
                let normal = builder.scalar(DType::Float, 1.0) - labels;
                let count = builder.op("Max", &[normal.sum_all(), builder.scalar(DType::Float, 1.0)], &[]);
                ((logits * logits).reduce_sum(&[1], true) * normal).sum_all() / count
            }
            Loss::File(own) => own.append(builder, logits, labels),
            Loss::TokenCrossEntropy { class_weights } => {
                of_positions(builder, logits, labels, -1, class_weights.as_deref())
            }
            Loss::PixelCrossEntropy { class_weights, size, dice: with_dice } => {
                let logits = enlarged(builder, logits, *size);
                let mean = of_positions(builder, logits, labels, 1, class_weights.as_deref());
                if *with_dice { mean + dice(builder, logits, labels, width) } else { mean }
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
            (
                Loss::CrossEntropy { .. }
                | Loss::NextToken
                | Loss::TokenCrossEntropy { .. }
                | Loss::PixelCrossEntropy { .. },
                Target::Class(class),
            ) => cross_entropy_of(logits, class),
            (Loss::BinaryCrossEntropy, Target::Values(values)) => {
                pairs(values, |x, z, _| binary_cross_entropy_of(x, z), 0.0)
            }
            (Loss::Coral, Target::Values(values)) => {
                pairs(values, |x, z, _| binary_cross_entropy_of(x, z), 0.0) * logits.len() as f64
            }
            (Loss::MeanSquaredError, Target::Values(values)) => pairs(values, |x, z, _| (x - z) * (x - z), 0.0),
            (Loss::Huber { delta }, Target::Values(values)) => pairs(values, huber_of, f64::from(*delta)),
            _ => unreachable!("labels were checked against the loss when the data was opened"),
        }
    }
}

/// The positions that count, or the sum of their classes' weights.
fn counted<'a>(labels: impl Iterator<Item = &'a i64>, weights: Option<&[f32]>) -> f64 {
    let counting = labels.filter(|label| **label != IGNORED);
    counting.map(|label| weights.map_or(1.0, |weights| f64::from(weights[*label as usize]))).sum()
}

/// So many pixels of each class, or the sum of their classes' weights.
fn weighed(counts: &[u64], weights: Option<&[f32]>) -> f64 {
    let weight = |class: usize| weights.map_or(1.0, |weights| f64::from(weights[class]));
    counts.iter().enumerate().map(|(class, count)| *count as f64 * weight(class)).sum()
}

/// What one sample should give.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Target<'a> {
    /// A class.
    Class(usize),
    /// One value an output.
    Values(&'a [f32]),
}
