//! What a recipe chooses by name: losses, optimisers, solvers, schedules, heads, and how weights are held.

use serde::{Deserialize, Serialize};

/// Losses by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LossName {
    /// Softmax cross-entropy: one class a sample
    #[serde(alias = "ce")]
    CrossEntropy,
    /// Binary cross-entropy with logits: any number of classes a sample
    #[serde(alias = "bce")]
    BinaryCrossEntropy,
    /// Mean squared error: numbers
    #[serde(alias = "mse")]
    MeanSquaredError,
    /// Cross-entropy of the next token: text, for a language model
    NextToken,
    /// Huber loss, linear beyond an error of 1: numbers with outliers
    Huber,
    /// CORAL: one class a sample, of classes in an order
    #[serde(alias = "ordinal")]
    Coral,
    /// Cross-entropy of a class for each word: text with tags
    #[serde(alias = "token-ce")]
    TokenCrossEntropy,
    /// Cross-entropy of a class for each pixel: pictures with masks
    #[serde(alias = "pixel-ce")]
    PixelCrossEntropy,
    /// The same and the soft Dice loss, for classes of few pixels
    DiceCrossEntropy,
    /// Connectionist temporal classification: pictures of lines with their texts
    #[serde(alias = "transcription")]
    Ctc,
    /// Classes and boxes of a detector: photographs with boxes
    #[serde(alias = "detection")]
    Boxes,
    /// Classes of a detector alone: what makes the edges of boxes stays
    BoxClasses,
    /// Each anchor's own among all others of the batch (InfoNCE): identities, pairs, triplets
    #[serde(alias = "mnrl", alias = "infonce")]
    MultipleNegatives,
    /// Supervised contrastive: all of an identity near each other
    SupervisedContrastive,
    /// Triplets of the hardest of a batch
    Triplet,
    /// The cosine of pairs that have scores
    CosineSimilarity,
    /// Normal samples alone: what the principal directions of their features leave
    Residual,
    /// The same, with each direction by its own spread
    Mahalanobis,
    /// A loss of one's own, an ONNX file: `loss-file` names it
    File,
}

impl LossName {
    /// All of them.
    pub const ALL: [Self; 19] = [
        Self::CrossEntropy,
        Self::BinaryCrossEntropy,
        Self::MeanSquaredError,
        Self::NextToken,
        Self::Huber,
        Self::Coral,
        Self::TokenCrossEntropy,
        Self::PixelCrossEntropy,
        Self::DiceCrossEntropy,
        Self::Ctc,
        Self::Boxes,
        Self::BoxClasses,
        Self::MultipleNegatives,
        Self::SupervisedContrastive,
        Self::Triplet,
        Self::CosineSimilarity,
        Self::Residual,
        Self::Mahalanobis,
        Self::File,
    ];

    /// As a recipe has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::CrossEntropy => "cross-entropy",
            Self::BinaryCrossEntropy => "binary-cross-entropy",
            Self::MeanSquaredError => "mean-squared-error",
            Self::NextToken => "next-token",
            Self::Huber => "huber",
            Self::Coral => "coral",
            Self::TokenCrossEntropy => "token-cross-entropy",
            Self::PixelCrossEntropy => "pixel-cross-entropy",
            Self::DiceCrossEntropy => "dice-cross-entropy",
            Self::Ctc => "ctc",
            Self::Boxes => "boxes",
            Self::BoxClasses => "box-classes",
            Self::MultipleNegatives => "multiple-negatives",
            Self::SupervisedContrastive => "supervised-contrastive",
            Self::Triplet => "triplet",
            Self::CosineSimilarity => "cosine-similarity",
            Self::Residual => "residual",
            Self::Mahalanobis => "mahalanobis",
            Self::File => "file",
        }
    }

    /// Whether it learns a class for each pixel.
    pub fn is_of_pixels(self) -> bool {
        matches!(self, Self::PixelCrossEntropy | Self::DiceCrossEntropy)
    }

    /// Whether it learns which samples are alike.
    pub fn is_of_likeness(self) -> bool {
        matches!(self, Self::MultipleNegatives | Self::SupervisedContrastive | Self::Triplet | Self::CosineSimilarity)
    }

    /// Whether it learns what normal samples are.
    pub fn is_of_normality(self) -> bool {
        matches!(self, Self::Residual | Self::Mahalanobis)
    }

    /// Whether sums of samples tell what is learned by it.
    pub fn has_moments(self) -> bool {
        let unsummed =
            [Self::NextToken, Self::Coral, Self::TokenCrossEntropy, Self::Ctc, Self::Boxes, Self::BoxClasses];
        !unsummed.contains(&self) && !self.is_of_pixels() && !self.is_of_likeness() && !self.is_of_normality()
    }

    /// The one of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|loss| loss.name() == name)
    }
}

/// Optimisers by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum OptimizerName {
    /// Adam with decoupled weight decay; --weight-decay 0 makes it plain Adam
    #[serde(alias = "adam")]
    Adamw,
    /// Stochastic gradient descent with momentum
    Sgd,
}

/// Solvers by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SolverName {
    /// Least squares with a penalty, exactly
    Ridge,
    /// Logistic regression, to convergence; also for sets of classes and huber
    Lbfgs,
    /// Mean direction of each class's samples: one to five are enough; with --from it adds classes
    Imprint,
    /// Least squares as ridge, in one pass from exact sums; each sample tells the accuracy without itself.
    Moments,
    /// Gradient steps from zero, as other programs train
    Steps,
}

impl SolverName {
    /// As a recipe has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ridge => "ridge",
            Self::Lbfgs => "lbfgs",
            Self::Imprint => "imprint",
            Self::Moments => "moments",
            Self::Steps => "steps",
        }
    }
}

/// Schedules by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScheduleName {
    /// The same rate throughout
    Constant,
    /// Half a cosine down to zero
    Cosine,
}

/// What to do with the classifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum HeadName {
    /// Keep a classifier of the data's classes, replace one of others, append one to an embedding
    Auto,
    /// Keep the classifier, with more outputs where the data have new classes
    Keep,
    /// Replace the last linear layer, also where its classes are the data's
    Replace,
    /// Append a linear layer
    Append,
}

/// How frozen weights are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum MemoryName {
    /// In the mapped file alone, shared by all processes: private memory does not grow with the model
    Low,
    /// Copied for speed up to 1/16 of the machine's (or control group's) memory and 256 MiB; else as low
    #[default]
    Balanced,
    /// Always copied into the layout that the kernels prefer
    Fast,
}

/// The share of the machine's memory that the weights of one session may take as copies: there are up to three sessions at
/// the same time, and a machine has other work. Not of what is free just now: copies are computed with in another order, and
/// the same command is to give the same bytes.
const PACKED_SHARE: u64 = 16;
/// However much memory there is, private memory stops growing with the model here.
const PACKED_BYTES_MAX: u64 = 256 << 20;

impl MemoryName {
    /// [`crate::engine::Options::packed_bytes_max`] on a machine of so much memory.
    pub fn packed_bytes_max(self, installed_bytes: Option<u64>) -> u64 {
        match self {
            Self::Low => 0,
            Self::Balanced => {
                installed_bytes.map_or(PACKED_BYTES_MAX, |bytes| bytes / PACKED_SHARE).min(PACKED_BYTES_MAX)
            }
            Self::Fast => u64::MAX,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_of_weights_stay_a_small_share_of_the_memory() {
        assert_eq!(MemoryName::Low.packed_bytes_max(Some(u64::MAX)), 0);
        assert_eq!(MemoryName::Fast.packed_bytes_max(Some(0)), u64::MAX);
        assert_eq!(MemoryName::Balanced.packed_bytes_max(Some(512 << 20)), 32 << 20);
        assert_eq!(MemoryName::Balanced.packed_bytes_max(Some(64 << 30)), 256 << 20);
        assert_eq!(MemoryName::Balanced.packed_bytes_max(None), 256 << 20);
    }
}
