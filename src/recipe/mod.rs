//! A recipe: everything that decides a training, as plain settings with their defaults, as TOML, and checked.
//!
//! Takes TOML or values that a program sets; gives the settings of the loop, the solver, the method and the delta. A setting
//! that is out of its range, or that the others leave without effect, is refused with its name and the remedy. It reads the
//! recipe's file and nothing else; the command line is one of those who fill a recipe in.

mod budget;
mod change;
mod delta;
mod error;
mod gates;
mod names;
mod normal;
mod rate;
mod retention;
mod samples;
mod settings;

pub use budget::{AUTO, amount_bytes};
pub use change::{Change, MethodName};
pub use delta::{DeltaSettings, EncodingName};
pub use error::Error;
pub(crate) use error::refuse;
pub use gates::Gates;
pub use names::{HeadName, LossName, MemoryName, OptimizerName, ScheduleName, SolverName};
pub use rate::Rate;
pub use retention::Retention;
pub use samples::{Reading, Samples};
pub use settings::{loss, task};

use crate::{data, nearest};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Everything a run is decided by.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
#[non_exhaustive]
pub struct Recipe {
    /// The model; only in a recipe file
    #[serde(skip_serializing)]
    pub model: Option<PathBuf>,
    /// How frozen weights are held; only in a recipe file, on the command line it is `--memory` of every command
    pub memory: Option<MemoryName>,
    /// Labelled data: a folder for each class, a table, arrays or a text file
    ///
    /// A folder holds one folder a class with images (JPEG, PNG, WebP, BMP, GIF, TIFF), sounds (WAV, FLAC), .txt or .npy files; or folders
    /// `train`, `val` and `test` that hold such. A table is .csv or .jsonl, arrays are .npy or .npz. A language model learns from plain text.
    /// A sensor series is a table with a column of time, a folder or class folders of such, or a table of parts beside them.
    /// Examples: --data photos/, --data reviews.csv --label stars, --data windows.npz, --data people.csv --window 2s
    #[serde(skip_serializing)]
    pub data: Option<PathBuf>,
    /// More labelled data, only to measure on at the end
    #[serde(skip_serializing)]
    pub test: Option<PathBuf>,
    /// Labelled data that validate, in place of a share of --data [default: the folder `val` beside `train`]
    #[serde(skip_serializing)]
    pub val: Option<PathBuf>,
    /// What learns: head, last:N, a pattern over names, or auto [default: head]
    ///
    /// head is the last linear layer; last:N are the N last layers with weights (`edgetune inspect MODEL` lists them); a pattern
    /// with * and ? selects nodes and initializers by name. Repeat the option to select more. auto measures several choices
    /// on this machine and takes the best within the budgets.
    /// Examples: --train last:2, --train '*classifier*', --train auto --budget-memory 256MiB
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "one_or_many")]
    pub train: Vec<String>,
    /// Private memory that --train auto may use, such as 256MiB [default: no limit]
    pub budget_memory: Option<String>,
    /// Time from the start to the end of training that --train auto may take, such as 10min or 90s; what was best by then is
    /// kept [default: no limit]
    pub budget_time: Option<String>,
    /// Size that the delta of --train auto may have, such as 64KiB [default: no limit]
    pub budget_delta: Option<String>,
    /// Which of the model's outputs to train on [default: the only one, or the one that `edgetune inspect` names]
    pub output: Option<String>,
    /// Dimension of the inputs that is the batch, counted from 0 [default: the one called batch or N, else the first]
    ///
    /// PyTorch's recurrent layers and transformers take [time, batch, features] by default: --batch-axis 1. Samples are given without the
    /// batch all the same. The adapter remembers it for all other commands.
    pub batch_axis: Option<u32>,
    /// What to do with the classifier [default: auto]
    pub head: Option<HeadName>,
    /// Names of the model's outputs, in their order [default: what stands in or beside the model]
    ///
    /// A file with one class name a line, or names with commas between them. Folders and labels are matched with them by
    /// name: classes without samples stay, new ones are added behind. Without the option the names come from the model's
    /// metadata, or from labels.txt or config.json beside it.
    /// Examples: --classes labels.txt, --classes cat,dog,bird
    #[serde(skip_serializing)]
    pub classes: Option<String>,
    /// What to minimise [default: next-token for a language model and text without labels, else cross-entropy]
    pub loss: Option<LossName>,
    /// A loss of your own, an ONNX file; only in a recipe file, on the command line `--loss` names it
    #[serde(skip_serializing)]
    pub loss_file: Option<PathBuf>,
    /// BLAKE3 of the file that --loss names, in hexadecimal: another is refused
    pub loss_hash: Option<String>,
    /// Length of the vectors that tell likeness [default: that of the features, up to 512; else 128]
    pub embedding: Option<u32>,
    /// Share of held-out normal samples that may be taken for anomalies: it decides the threshold [default: 0.01]
    pub false_alarms: Option<f64>,
    /// Share of the target spread over all classes [default: 0]
    pub label_smoothing: Option<f32>,
    /// `balanced` (by frequency), or one weight a class
    #[serde(alias = "class-weight")]
    pub class_weights: Option<String>,
    /// How to fit a linear head on frozen features [default: a fresh head at once, by ridge for numbers, else by lbfgs; all else,
    /// and what is given options of gradient steps such as --epochs, by steps]
    pub solver: Option<SolverName>,
    /// Penalty of ridge and lbfgs: λ of ½·λ‖weights‖² beside the sum over samples [default: ridge by cross-validation,
    /// lbfgs by the validation samples]
    ///
    /// With lbfgs, a feature's weights are penalised in proportion to its standard deviation, relative to that of all features: the result is
    /// that of Pareto-scaled features.
    pub l2: Option<f64>,
    /// Divide the last layer by one temperature, fitted on the validation samples, so that probabilities are shares of right answers
    #[serde(skip_serializing_if = "is_default")]
    pub calibrate: bool,
    /// Continue from this delta: the same layers are trained, starting from its values
    ///
    /// Its classes keep their order; new classes are added at the end. A recipe cannot choose other layers. With --solver imprint, the
    /// values of the classes that it has do not change.
    #[serde(skip_serializing)]
    pub from: Option<PathBuf>,
    /// Passes over the training data [default: 10, 3 for a language model]
    pub epochs: Option<u32>,
    /// Optimiser steps after which the run ends, in place of --epochs
    pub max_steps: Option<u32>,
    /// Samples computed together [default: 32, 4 where samples are large]
    ///
    /// Also written --batch-size. Fewer samples need less memory; --accumulate averages several batches for one step.
    #[serde(alias = "batch-size")]
    pub batch: Option<u32>,
    /// Runs averaged for one optimiser step [default: 1]
    #[serde(alias = "gradient-accumulation-steps")]
    pub accumulate: Option<u32>,
    /// Learning rate, or auto for the one that a range test finds [default: 0.001 for adamw, 0.01 for sgd]
    ///
    /// Also written --learning-rate. Where the loss jumps about or grows, take a third of it; where it falls slowly, three times.
    #[serde(alias = "learning-rate")]
    pub lr: Option<Rate>,
    /// Factor of the learning rate for a fresh head [default: 1]
    pub head_rate: Option<f64>,
    /// The update [default: adamw]
    #[serde(alias = "optimiser")]
    pub optimizer: Option<OptimizerName>,
    /// Weight decay [default: 0.01 for adamw, 0 for sgd]
    pub weight_decay: Option<f64>,
    /// Momentum of sgd [default: 0.9]
    pub momentum: Option<f64>,
    /// How the learning rate moves [default: constant]
    pub schedule: Option<ScheduleName>,
    /// Share of all steps that warm up [default: 0]
    pub warmup: Option<f64>,
    /// Limit on the norm of all gradients together [default: none]
    #[serde(alias = "max-grad-norm")]
    pub clip_norm: Option<f64>,
    /// Epochs without a better validation loss before the run ends [default: never]
    pub patience: Option<u32>,
    /// Share of the data that validates [default: 0.2]
    #[serde(alias = "validation-split")]
    pub val_fraction: Option<f64>,
    /// Samples of each class that are used, at most, of the training and of the test data [default: all]
    pub per_class: Option<usize>,
    /// Decides the split and the order of samples [default: 0]
    pub seed: Option<u64>,
    /// How the base is changed besides `train`
    #[serde(rename = "adapter", skip_serializing_if = "is_default")]
    pub change: Change,
    /// What is done against forgetting
    #[serde(skip_serializing_if = "is_default")]
    pub retention: Retention,
    /// Preprocessing
    #[serde(skip_serializing_if = "is_default")]
    pub samples: Samples,
    /// How the delta is stored, and what it says of itself
    #[serde(skip_serializing_if = "is_default")]
    pub delta: DeltaSettings,
    /// What an adapter must meet before it is written
    #[serde(skip_serializing_if = "is_default")]
    pub gates: Gates,
}

/// Whether a table says nothing.
fn is_default<T: Default + PartialEq>(table: &T) -> bool {
    *table == T::default()
}

/// A list of names, or one name by itself: `train = "last:2"` means what `train = ["last:2"]` does.
fn one_or_many<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "write a name in quotes, or a list of such, as in train = [\"last:2\"]")]
    enum Given {
        One(String),
        Many(Vec<String>),
    }
    Ok(match Given::deserialize(deserializer)? {
        Given::One(name) => vec![name],
        Given::Many(names) => names,
    })
}

impl Recipe {
    /// Reads a recipe; its paths are relative to its folder.
    ///
    /// # Errors
    /// A file that cannot be read; a line that is no setting, with what was probably meant.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path).map_err(|source| Error::Unreadable { path: path.into(), source })?;
        let mut recipe: Self = toml::from_str(&text)
            .map_err(|error| Error::Refused(format!("the recipe {}: {}", path.display(), wrong(&text, &error))))?;
        let folder = path.parent().unwrap_or(Path::new("."));
        if let Some(classes) = recipe.classes.as_mut().filter(|classes| folder.join(&**classes).is_file()) {
            *classes = folder.join(&*classes).display().to_string();
        }
        let Self { model, data, test, val, from, loss_file, retention, samples, .. } = &mut recipe;
        let paths = [model, data, test, val, from, loss_file, &mut retention.set, &mut samples.tokenizer];
        for path in paths.into_iter().flatten() {
            *path = folder.join(&*path);
        }
        Ok(recipe)
    }

    /// Whether it names a solver that makes no gradient steps.
    pub fn closed_form(&self) -> bool {
        self.solver.is_some_and(|solver| solver != SolverName::Steps)
    }

    /// These settings, with what they leave open taken from `other`.
    pub fn or(self, other: Self) -> Self {
        Self {
            memory: self.memory.or(other.memory),
            model: self.model.or(other.model),
            data: self.data.or(other.data),
            test: self.test.or(other.test),
            val: self.val.or(other.val),
            train: if self.train.is_empty() { other.train } else { self.train },
            budget_memory: self.budget_memory.or(other.budget_memory),
            budget_time: self.budget_time.or(other.budget_time),
            budget_delta: self.budget_delta.or(other.budget_delta),
            output: self.output.or(other.output),
            batch_axis: self.batch_axis.or(other.batch_axis),
            head: self.head.or(other.head),
            classes: self.classes.or(other.classes),
            loss_file: if self.loss.is_some() { self.loss_file } else { self.loss_file.or(other.loss_file) },
            loss_hash: if self.loss.is_some() { self.loss_hash } else { self.loss_hash.or(other.loss_hash) },
            loss: self.loss.or(other.loss),
            embedding: self.embedding.or(other.embedding),
            false_alarms: self.false_alarms.or(other.false_alarms),
            label_smoothing: self.label_smoothing.or(other.label_smoothing),
            class_weights: self.class_weights.or(other.class_weights),
            solver: self.solver.or(other.solver),
            l2: self.l2.or(other.l2),
            calibrate: self.calibrate || other.calibrate,
            from: self.from.or(other.from),
            epochs: self.epochs.or(other.epochs),
            max_steps: self.max_steps.or(other.max_steps),
            batch: self.batch.or(other.batch),
            accumulate: self.accumulate.or(other.accumulate),
            lr: self.lr.or(other.lr),
            head_rate: self.head_rate.or(other.head_rate),
            optimizer: self.optimizer.or(other.optimizer),
            weight_decay: self.weight_decay.or(other.weight_decay),
            momentum: self.momentum.or(other.momentum),
            schedule: self.schedule.or(other.schedule),
            warmup: self.warmup.or(other.warmup),
            clip_norm: self.clip_norm.or(other.clip_norm),
            patience: self.patience.or(other.patience),
            val_fraction: self.val_fraction.or(other.val_fraction),
            per_class: self.per_class.or(other.per_class),
            seed: self.seed.or(other.seed),
            change: self.change.or(other.change),
            retention: self.retention.or(other.retention),
            samples: self.samples.or(other.samples),
            delta: self.delta.or(other.delta),
            gates: self.gates.or(other.gates),
        }
    }

    /// The recipe as TOML: what is learned and how, without the places of files and without what differs from device to device.
    pub fn text(&self) -> String {
        toml::to_string(self).expect("plain settings always encode")
    }

    /// A folder of data that holds `train`, `val` and `test` is taken apart; what is named besides wins. Gives a line that says
    /// what is what, where there are such parts.
    ///
    /// # Errors
    /// A folder that cannot be read; parts of one name twice.
    pub fn with_parts(mut self) -> Result<(Self, Option<String>), Error> {
        let Some(parts) = self.data.as_deref().map(data::parts).transpose()?.flatten() else { return Ok((self, None)) };
        let mut told = vec![format!("{} trains", parts.train.display())];
        if let Some(val) = parts.val.filter(|_| self.val.is_none() && self.val_fraction.is_none()) {
            told.push(format!("{} validates", val.display()));
            self.val = Some(val);
        }
        if let Some(test) = parts.test.filter(|_| self.test.is_none()) {
            told.push(format!("{} measures at the end", test.display()));
            self.test = Some(test);
        }
        let note = format!("parts     {}", told.join(", "));
        Ok((Self { data: Some(parts.train), ..self }, Some(note)))
    }
}

/// What a training is told besides its recipe: where a result goes, and what is shown.
const TYPED_ALONE: [&str; 5] = ["out", "report", "resume", "no-skip", "json"];

/// What is wrong with a recipe's text: the line, the key that was probably meant or the table that it belongs into, and the remedy.
fn wrong(text: &str, error: &toml::de::Error) -> String {
    let Some((key, told)) = nearest::unknown(error.message()) else {
        return format!("correct the line (`edgetune train --help` has the keys and their values): {error}");
    };
    let before = &text[..error.span().map_or(0, |span| span.start.min(text.len()))];
    let number = before.matches('\n').count();
    let line = format!("line {}, `{}`", number + 1, text.lines().nth(number).unwrap_or_default().trim());
    let known = |text: String| {
        toml::from_str::<Recipe>(&text).err().is_none_or(|error| nearest::unknown(error.message()).is_none())
    };
    let (name, value) = (key.replace('_', "-"), "[]");
    if TYPED_ALONE.contains(&name.as_str()) {
        return format!(
            "{line}: a recipe does not say that; remove the line, and give setting `{name}` where you start the training"
        );
    }
    if known(format!("{name} = {value}")) {
        return format!("{line}: `{name}` belongs above the first [table]; move the line there, as `{name} = …`");
    }
    match ["samples", "adapter", "delta"].iter().find(|table| known(format!("[{table}]\n{name} = {value}"))) {
        Some(table) => {
            format!("{line}: `{name}` belongs into the table [{table}]; move it below a line `[{table}]`")
        }
        None => format!("{line}: {told}; correct it (`edgetune train --help` has the keys)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_written_as_it_was_typed() {
        for rate in ["sample-rate = 16000", "sample-rate = 12.5"] {
            let recipe: Recipe = toml::from_str(&format!("[samples]\n{rate}")).unwrap();
            assert!(recipe.text().lines().any(|line| line == rate), "{}", recipe.text());
        }
        assert!(!Recipe::default().text().contains("sample-rate"));
    }

    #[test]
    fn one_name_is_a_list_of_one() {
        let of = |text: &str| toml::from_str::<Recipe>(text).unwrap();
        let one = of("train = 'last:2'\n[adapter]\ntargets = 'q_proj'");
        assert_eq!(one, of("train = ['last:2']\n[adapter]\ntargets = ['q_proj']"));
        assert!(one.text().contains("train = [\"last:2\"]"), "{}", one.text());
        let wrong = toml::from_str::<Recipe>("train = 2").unwrap_err().to_string();
        assert!(wrong.contains("write a name in quotes"), "{wrong}");
    }

    #[test]
    fn a_wrong_key_is_told_with_what_was_meant() {
        for (text, parts) in [
            ("epochs = 3\nepoch = 4", &["line 2", "unknown key `epoch`", "did you mean `epochs`?"][..]),
            ("val_fraction = 0.1", &["line 1", "`val-fraction = …`"]),
            ("size = '224'", &["line 1", "`size` belongs into the table [samples]"]),
            ("rank = 4", &["`rank` belongs into the table [adapter]"]),
            ("[samples]\nepochs = 3", &["line 2", "`epochs` belongs above the first [table]"]),
            ("[samples]\nsizes = 3", &["did you mean `size`?"]),
            ("loss = 'hinge'", &["unknown value `hinge`", "cross-entropy"]),
            ("optimizer = 'adamW'", &["did you mean `adamw`?"]),
            ("epochs = 'three'", &["correct the line", "epochs = 'three'"]),
        ] {
            let told = wrong(text, &toml::from_str::<Recipe>(text).unwrap_err());
            parts.iter().for_each(|part| assert!(told.contains(part), "{text}: {told}"));
        }
    }
}
