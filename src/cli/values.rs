//! What a recipe chooses by name, as the command line spells and explains it.

use crate::recipe::{HeadName, LossName, MemoryName, MethodName, OptimizerName, ScheduleName, SolverName};
use clap::builder::{EnumValueParser, PossibleValue, TypedValueParser};
use clap::{Arg, Command, ValueEnum};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// Makes a type's variants values of an option: the name, what else is understood, and the help.
macro_rules! values {
    ($type:ty: $($variant:ident = $name:literal $([$($alias:literal),*])?, $help:literal;)*) => {
        impl ValueEnum for $type {
            fn value_variants<'a>() -> &'a [Self] {
                &[$(Self::$variant),*]
            }

            fn to_possible_value(&self) -> Option<PossibleValue> {
                Some(match self {
                    $(Self::$variant => PossibleValue::new($name)$(.aliases([$($alias),*]))?.help($help),)*
                    // What has no row is not typed by its name.
                    #[allow(unreachable_patterns)]
                    _ => return None,
                })
            }
        }
    };
}

values! { LossName:
    CrossEntropy = "cross-entropy" ["ce", "crossentropy", "cross_entropy", "softmax"],
        "Softmax cross-entropy: one class a sample";
    BinaryCrossEntropy = "binary-cross-entropy" ["bce", "binary_cross_entropy", "bce-with-logits"],
        "Binary cross-entropy with logits: any number of classes a sample";
    MeanSquaredError = "mean-squared-error" ["mse", "mean_squared_error", "l2"], "Mean squared error: numbers";
    NextToken = "next-token" ["next_token", "causal-lm", "lm"],
        "Cross-entropy of the next token: text, for a language model";
    Huber = "huber" ["smooth-l1", "smooth_l1"], "Huber loss, linear beyond an error of 1: numbers with outliers";
    Coral = "coral" ["ordinal"], "CORAL: one class a sample, of classes in an order (--classes lists them, the lowest first)";
    TokenCrossEntropy = "token-cross-entropy" ["token_cross_entropy", "token-ce", "ner"],
        "Cross-entropy of a class for each word: text with tags (chosen by itself where the data have them)";
    PixelCrossEntropy = "pixel-cross-entropy" ["pixel_cross_entropy", "pixel-ce", "segmentation"],
        "Cross-entropy of a class for each pixel: pictures with masks (chosen by itself where the data have them)";
    DiceCrossEntropy = "dice-cross-entropy" ["dice_cross_entropy", "dice", "dice-ce"],
        "The same and the soft Dice loss, for classes of few pixels";
    Ctc = "ctc" ["transcription", "ocr"],
        "Connectionist temporal classification: pictures of lines with their texts (chosen by itself where the data have them)";
    Boxes = "boxes" ["detection"], "Classes and boxes of a detector (chosen by itself where the data have boxes)";
    BoxClasses = "box-classes" ["box_classes", "freeze-boxes"], "Classes of a detector alone: what makes the edges of boxes stays";
    MultipleNegatives = "multiple-negatives" ["multiple_negatives", "mnrl", "infonce", "contrastive"],
        "Likeness: each one's own among all others of the batch (InfoNCE); a folder for each identity, pairs, triplets";
    SupervisedContrastive = "supervised-contrastive" ["supervised_contrastive", "supcon"],
        "Likeness: all samples of an identity near each other";
    Triplet = "triplet" ["batch-hard-triplet"], "Likeness: nearer to the farthest of one's own than to the nearest other, in each batch";
    CosineSimilarity = "cosine-similarity" ["cosine_similarity", "cosine"], "Likeness: the cosine of pairs with scores";
    Residual = "residual" ["pca-residual"], "Anomalies: what the principal directions of normal samples leave of a sample";
    Mahalanobis = "mahalanobis", "Anomalies: the same, with each direction by its own spread";
}

/// What `--loss` takes where it may be a file: a loss by its name, or a loss of one's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LossArg {
    /// By its name.
    Named(LossName),
    /// An ONNX file.
    File(PathBuf),
}

impl LossArg {
    /// The settings `loss` and `loss-file`.
    pub fn settings(this: Option<Self>) -> (Option<LossName>, Option<PathBuf>) {
        match this {
            None => (None, None),
            Some(Self::Named(name)) => (Some(name), None),
            Some(Self::File(path)) => (Some(LossName::File), Some(path)),
        }
    }
}

/// Reads a [`LossArg`]: what ends with `.onnx` is a file.
#[derive(Debug, Clone)]
pub struct LossParser;

impl TypedValueParser for LossParser {
    type Value = LossArg;

    fn parse_ref(&self, command: &Command, arg: Option<&Arg>, value: &OsStr) -> Result<LossArg, clap::Error> {
        if Path::new(value).extension().is_some_and(|extension| extension == "onnx") {
            return Ok(LossArg::File(value.into()));
        }
        EnumValueParser::<LossName>::new().parse_ref(command, arg, value).map(LossArg::Named)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        let file = PossibleValue::new("FILE.onnx")
            .help("A loss of your own: the model's output and arrays of the data by their names in, a scalar out");
        let named = LossName::value_variants().iter().filter_map(ValueEnum::to_possible_value);
        Some(Box::new(named.chain([file])))
    }
}

values! { OptimizerName:
    Adamw = "adamw" ["adam"], "Adam with decoupled weight decay; --weight-decay 0 makes it plain Adam";
    Sgd = "sgd", "Stochastic gradient descent with momentum";
}

values! { SolverName:
    Ridge = "ridge", "Least squares with a penalty, exactly";
    Lbfgs = "lbfgs" ["logistic", "l-bfgs"],
        "Logistic regression, to convergence; also for sets of classes and huber";
    Imprint = "imprint",
        "Mean direction of each class's samples: one to five are enough; with --from it adds classes";
    Moments = "moments", "Least squares as ridge, in one pass from exact sums; each sample tells the accuracy without itself";
    Steps = "steps", "Gradient steps from zero, as other programs train";
}

values! { ScheduleName:
    Constant = "constant", "The same rate throughout";
    Cosine = "cosine", "Half a cosine down to zero";
}

values! { HeadName:
    Auto = "auto", "Keep a classifier of the data's classes, replace one of others, append one to an embedding";
    Keep = "keep", "Keep the classifier, with more outputs where the data have new classes";
    Replace = "replace", "Replace the last linear layer, also where its classes are the data's";
    Append = "append", "Append a linear layer";
}

values! { MemoryName:
    Low = "low",
        "In the mapped file alone, shared by all processes: private memory does not grow with the model";
    Balanced = "balanced",
        "Copied for speed up to 1/16 of the machine's (or control group's) memory and 256 MiB; else as low";
    Fast = "fast", "Always copied into the layout that the kernels prefer";
}

values! { MethodName:
    Lora = "lora", "Low-rank factors: W + alpha/rank · B A";
    Rslora = "rslora", "LoRA scaled by alpha/√rank";
    Dora = "dora", "LoRA of the direction, with a magnitude for each output";
    LoraFa = "lora-fa" ["lora_fa"], "LoRA whose A stays as it began: half the delta";
    Ia3 = "ia3", "A learned factor for each output";
    Bitfit = "bitfit", "The biases alone";
    Norm = "norm", "Scales and shifts of normalisations alone";
}
