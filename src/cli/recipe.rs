//! The options of a training: a recipe as it is typed. An option given on the command line wins over a recipe file.

use super::change::ChangeArgs;
use super::delta_args::DeltaArgs;
use super::gate_args::GateArgs;
use super::precedence;
use super::print::Printer;
use super::retention_args::RetentionArgs;
use super::sample_args::SamplesArgs;
use crate::cli::values::{LossArg, LossParser};
use crate::recipe::{HeadName, OptimizerName, Rate, Recipe, ScheduleName, SolverName};
use anyhow::Result;
use clap::Args;
use std::path::{Path, PathBuf};

/// Everything a run is decided by.
#[derive(Debug, Clone, Default, Args)]
pub struct RecipeArgs {
    /// Labelled data: a folder for each class, a table, arrays or a text file
    ///
    /// A folder holds one folder a class with images (JPEG, PNG, WebP, BMP, GIF, TIFF), sounds (WAV, FLAC), .txt or .npy files; or folders
    /// `train`, `val` and `test` that hold such. A table is .csv or .jsonl, arrays are .npy or .npz. A language model learns from plain text.
    /// A sensor series is a table with a column of time, a folder or class folders of such, or a table of parts beside them.
    /// Examples: --data photos/, --data reviews.csv --label stars, --data windows.npz, --data people.csv --window 2s
    #[arg(long, display_order = 1, aliases = ["dataset", "train-data"], value_name = "PATH")]
    pub data: Option<PathBuf>,
    /// More labelled data, only to measure on at the end
    #[arg(long, display_order = 2, aliases = ["test-data"], value_name = "PATH")]
    pub test: Option<PathBuf>,
    /// Labelled data that validate, in place of a share of --data [default: the folder `val` beside `train`]
    #[arg(long, help_heading = "Data", aliases = ["val-data", "validation", "validation-data"], value_name = "PATH", conflicts_with = "val_fraction")]
    pub val: Option<PathBuf>,
    /// What learns: head, last:N, a pattern over names, or auto [default: head]
    ///
    /// head is the last linear layer; last:N are the N last layers with weights (`edgetune inspect MODEL` lists them); a pattern
    /// with * and ? selects nodes and initializers by name. Repeat the option to select more. auto measures several choices
    /// on this machine and takes the best within the budgets.
    /// Examples: --train last:2, --train '*classifier*', --train auto --budget-memory 256MiB
    #[arg(long, display_order = 3, value_name = "SPEC")]
    pub train: Vec<String>,
    /// Private memory that --train auto may use, such as 256MiB [default: no limit]
    #[arg(long, help_heading = "What learns", value_name = "BYTES")]
    pub budget_memory: Option<String>,
    /// Time from the start to the end of training that --train auto may take, such as 10min or 90s; what was best by then is
    /// kept [default: no limit]
    #[arg(long, help_heading = "What learns", value_name = "TIME")]
    pub budget_time: Option<String>,
    /// Size that the delta of --train auto may have, such as 64KiB [default: no limit]
    #[arg(long, help_heading = "What learns", value_name = "BYTES")]
    pub budget_delta: Option<String>,
    /// Which of the model's outputs to train on [default: the only one, or the one that `edgetune inspect` names]
    #[arg(long, help_heading = "What learns", value_name = "NAME")]
    pub output: Option<String>,
    /// Dimension of the inputs that is the batch, counted from 0 [default: the one called batch or N, else the first]
    ///
    /// PyTorch's recurrent layers and transformers take [time, batch, features] by default: --batch-axis 1. Samples are given without the
    /// batch all the same. The adapter remembers it for all other commands.
    #[arg(long, help_heading = "What learns", value_name = "N")]
    pub batch_axis: Option<u32>,
    /// What to do with the classifier [default: auto]
    #[arg(long, help_heading = "What learns", value_enum)]
    pub head: Option<HeadName>,
    /// Names of the model's outputs, in their order [default: what stands in or beside the model]
    ///
    /// A file with one class name a line, or names with commas between them. Folders and labels are matched with them by
    /// name: classes without samples stay, new ones are added behind. Without the option the names come from the model's
    /// metadata, or from labels.txt or config.json beside it.
    /// Examples: --classes labels.txt, --classes cat,dog,bird
    #[arg(long, help_heading = "What learns", aliases = ["class-names", "labels"], value_name = "FILE|NAMES")]
    pub classes: Option<String>,
    /// What to minimise [default: next-token for a language model and text without labels, else cross-entropy]
    #[arg(long, help_heading = "Loss, solver", aliases = ["criterion"], value_parser = LossParser)]
    pub loss: Option<LossArg>,
    /// BLAKE3 of the file that --loss names, in hexadecimal: another is refused
    #[arg(long, hide = true, help_heading = "Loss, solver", value_name = "HEX")]
    pub loss_hash: Option<String>,
    /// Length of the vectors that tell likeness [default: that of the features, up to 512; else 128]
    #[arg(long, help_heading = "What learns", value_name = "N")]
    pub embedding: Option<u32>,
    /// Share of held-out normal samples that may be taken for anomalies: it decides the threshold [default: 0.01]
    #[arg(long, help_heading = "Data", value_name = "SHARE")]
    pub false_alarms: Option<f64>,
    /// Share of the target spread over all classes [default: 0]
    #[arg(long, help_heading = "Loss, solver", value_name = "SHARE")]
    pub label_smoothing: Option<f32>,
    /// `balanced` (by frequency), or one weight a class
    #[arg(long, help_heading = "Loss, solver", aliases = ["class-weight"], value_name = "balanced|W,W,…")]
    pub class_weights: Option<String>,
    /// How to fit a linear head on frozen features [default: a fresh head at once, by ridge for numbers, else by lbfgs; all else,
    /// and what is given options of gradient steps such as --epochs, by steps]
    #[arg(long, help_heading = "Loss, solver", value_enum)]
    pub solver: Option<SolverName>,
    /// Penalty of ridge and lbfgs: λ of ½·λ‖weights‖² beside the sum over samples [default: ridge by cross-validation,
    /// lbfgs by the validation samples]
    ///
    /// With lbfgs, a feature's weights are penalised in proportion to its standard deviation, relative to that of all features: the result is
    /// that of Pareto-scaled features.
    #[arg(long, help_heading = "Loss, solver", value_name = "X")]
    pub l2: Option<f64>,
    /// Calibrate probabilities, by one temperature that is fitted on the validation samples
    ///
    /// A probability of 0.8 then means that about 80 % of such answers are right. The last layer is divided by the temperature (Guo et al. 2017,
    /// arXiv 1706.04599), so every program that uses the adapter has the calibrated probabilities. The most probable class of a sample stays
    /// the same.
    #[arg(long, help_heading = "Adapter")]
    pub calibrate: bool,
    /// Continue from this delta: the same layers are trained, starting from its values
    ///
    /// Its classes keep their order; new classes are added at the end. A recipe cannot choose other layers. With --solver imprint, the
    /// values of the classes that it has do not change.
    #[arg(long, help_heading = "What learns", value_name = "FILE", conflicts_with_all = ["train", "head", "output", "adapter"])]
    pub from: Option<PathBuf>,
    /// Passes over the training data [default: 10, 3 for a language model]
    #[arg(long, display_order = 5, aliases = ["epoch", "num-epochs", "num-train-epochs"], value_name = "N")]
    pub epochs: Option<u32>,
    /// Optimiser steps after which the run ends, in place of --epochs
    #[arg(long, help_heading = "Optimiser", value_name = "N")]
    pub max_steps: Option<u32>,
    /// Samples computed together [default: 32, 4 where samples are large]
    ///
    /// Also written --batch-size. Fewer samples need less memory; --accumulate averages several batches for one step.
    #[arg(long, display_order = 7, aliases = ["batch-size"], value_name = "N")]
    pub batch: Option<u32>,
    /// Runs averaged for one optimiser step [default: 1]
    #[arg(long, help_heading = "Optimiser", aliases = ["gradient-accumulation-steps"], value_name = "N")]
    pub accumulate: Option<u32>,
    /// Learning rate, or auto [default: 0.001 for adamw, 0.01 for sgd]
    ///
    /// auto makes 100 steps on the same samples with a growing rate, takes a third of the one at which the loss falls steepest, and begins
    /// anew with that (the range test of Smith 2017, arXiv 1506.01186).
    /// Also written --learning-rate. Where the loss jumps about or grows, take a third of it; where it falls slowly, three times.
    #[arg(long, display_order = 6, aliases = ["learning-rate"], value_name = "X")]
    pub lr: Option<Rate>,
    /// Factor of the learning rate for a fresh head [default: 1]
    #[arg(long, help_heading = "Optimiser", value_name = "X")]
    pub head_rate: Option<f64>,
    /// The update [default: adamw]
    #[arg(long, help_heading = "Optimiser", aliases = ["optimiser", "optim"], value_enum)]
    pub optimizer: Option<OptimizerName>,
    /// Weight decay [default: 0.01 for adamw, 0 for sgd]
    #[arg(long, help_heading = "Optimiser", value_name = "X")]
    pub weight_decay: Option<f64>,
    /// Momentum of sgd [default: 0.9]
    #[arg(long, help_heading = "Optimiser", value_name = "X")]
    pub momentum: Option<f64>,
    /// How the learning rate moves [default: constant]
    #[arg(long, help_heading = "Optimiser", aliases = ["scheduler", "lr-scheduler"], value_enum)]
    pub schedule: Option<ScheduleName>,
    /// Share of all steps that warm up [default: 0]
    #[arg(long, help_heading = "Optimiser", aliases = ["warmup-ratio"], value_name = "SHARE")]
    pub warmup: Option<f64>,
    /// Limit on the norm of all gradients together [default: none]
    #[arg(long, help_heading = "Optimiser", aliases = ["max-grad-norm"], value_name = "NORM")]
    pub clip_norm: Option<f64>,
    /// Epochs without a better validation loss before the run ends [default: never]
    #[arg(long, help_heading = "Optimiser", value_name = "N")]
    pub patience: Option<u32>,
    /// Share of the data that validates [default: 0.2]
    #[arg(long, help_heading = "Data", aliases = ["val-split", "validation-split"], value_name = "SHARE")]
    pub val_fraction: Option<f64>,
    /// Samples of each class that are used, at most, of the training and of the test data [default: all]
    #[arg(long, help_heading = "Data", value_name = "N")]
    pub per_class: Option<usize>,
    /// Decides the split and the order of samples [default: 0]
    #[arg(long, help_heading = "Data", value_name = "N")]
    pub seed: Option<u64>,
    /// How the base is changed besides `train`
    #[command(flatten)]
    pub change: ChangeArgs,
    /// What is done against forgetting
    #[command(flatten)]
    pub retention: RetentionArgs,
    /// Preprocessing
    #[command(flatten)]
    pub samples: SamplesArgs,
    /// How the delta is stored, and what it says of itself
    #[command(flatten)]
    pub delta: DeltaArgs,
    /// What an adapter must meet before it is written
    #[command(flatten)]
    pub gates: GateArgs,
}

#[rustfmt::skip]
impl From<RecipeArgs> for Recipe {
    fn from(typed: RecipeArgs) -> Self {
        let RecipeArgs {
            data, test, val, train, budget_memory, budget_time, budget_delta, output, batch_axis, head, classes, loss, loss_hash,
            embedding, false_alarms, label_smoothing, class_weights, solver, l2, calibrate, from, epochs, max_steps, batch, accumulate, lr, head_rate,
            optimizer, weight_decay, momentum, schedule, warmup, clip_norm, patience, val_fraction, per_class, seed,
            change, retention, samples, delta, gates,
        } = typed;
        let (loss, loss_file) = LossArg::settings(loss);
        let (change, retention, samples, delta) = (change.into(), retention.into(), samples.into(), delta.into());
        Self {
            model: None, memory: None, data, test, val, train, budget_memory, budget_time, budget_delta, output, batch_axis,
            head, classes, loss, loss_file, loss_hash, embedding, false_alarms, label_smoothing, class_weights, solver, l2, calibrate, from, epochs, max_steps, batch,
            accumulate, lr, head_rate, optimizer, weight_decay, momentum, schedule, warmup, clip_norm, patience,
            val_fraction, per_class, seed, change, retention, samples, delta, gates: gates.into(),
        }
    }
}

/// Settings that were typed, over those of a file: what contradicts them is left out, and said so.
pub fn over(typed: Recipe, mut file: Recipe, printer: &Printer) -> Recipe {
    precedence::give_way(&typed, &mut file).iter().for_each(|note| printer.note(format!("recipe    {note}")));
    typed.or(file)
}

/// Reads `MODEL|RECIPE.toml`: a recipe below the settings that were typed, or a model.
///
/// # Errors
/// A recipe that cannot be read.
pub fn with_file(typed: Recipe, file: &Path, printer: &Printer) -> Result<Recipe> {
    if file.extension().is_some_and(|extension| extension == "toml") {
        return Ok(over(typed, Recipe::read(file)?, printer));
    }
    Ok(Recipe { model: Some(file.into()), ..typed })
}

/// A folder that holds `train`, `val` and `test` is taken apart, and said so.
///
/// # Errors
/// A folder that cannot be read; parts of one name twice.
pub fn with_parts(recipe: Recipe, printer: &Printer) -> Result<Recipe> {
    let (recipe, note) = recipe.with_parts()?;
    note.iter().for_each(|note| printer.note(note));
    Ok(recipe)
}
