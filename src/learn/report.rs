//! What a training's report holds: everything that a run measured, for people who compare runs.

use super::answered::Answered;
use super::compared::BeforeAfter;
use super::encode::Encoded;
use super::encoding::Tried;
use super::gates::Gate;
use super::label_errors::LabelError;
use super::retention::Retention;
use crate::adapter::Method;
use crate::data::{Finding, Severity};
use crate::host::written_bytes;
use crate::train::fit::EpochRecord;
use crate::train::plan::Plan;
use crate::train::prepare::hex;
use crate::train::solve::{LearningCurve, Solved};
use serde::Serialize;
use std::path::PathBuf;

/// The document. Times are in seconds since the process began or lengths in seconds, where a name ends in `_s`.
#[derive(Debug, Serialize)]
#[allow(missing_docs)]
pub struct Report {
    pub epochs: Vec<EpochRecord>,
    pub best_epoch: u32,
    pub interrupted: bool,
    pub solved: Option<Solved>,
    pub first_step_s: Option<f64>,
    pub steps: u64,
    pub steps_per_s: f64,
    pub step_ms: Percentiles,
    pub body_samples_per_s: Option<f64>,
    pub body_samples_computed: usize,
    pub body_samples_cached: usize,
    pub seconds: f64,
    pub peak_rss_bytes: u64,
    pub peak_private_bytes: u64,
    /// What was expected of it before the first session, as `inspect` would; null where nothing is estimated.
    pub predicted_private_bytes: Option<u64>,
    pub written_bytes: Option<u64>,
    /// What the machine took from the beginning to the end, other programs included; null where it does not measure that itself.
    pub energy: Option<Energy>,
    pub delta_bytes: u64,
    /// How the delta's values are stored, and what was tried.
    pub encoding: Option<String>,
    pub encodings: Vec<Tried>,
    /// The recipe as it was used, in TOML, and the BLAKE3 of this text.
    pub recipe: String,
    pub recipe_hash: String,
    pub cache_bytes: u64,
    pub parameters: u64,
    pub trained: Vec<String>,
    pub adapter: Option<Change>,
    pub head: String,
    pub output: String,
    pub train_samples: usize,
    pub validation_samples: usize,
    pub findings: Vec<DataFinding>,
    pub skipped: Vec<Skipped>,
    pub validation: Option<BeforeAfter>,
    pub test: Option<BeforeAfter>,
    /// What is left of what the base knew, before and after; null where it had nothing to keep.
    pub retention: Option<Retention>,
    /// What the last layer was divided by, so that probabilities are shares of right answers; null where that was not asked for.
    pub temperature: Option<f64>,
    /// What the adapter has to meet before it is written, and whether it does.
    pub gates: Vec<Gate>,
    /// What was answered to the test samples, else to those that validate; null where samples have not one class each.
    pub answers: Option<Answered>,
    /// Samples that were learned from with labels that are probably wrong, where they were looked for.
    pub label_errors: Vec<LabelError>,
    /// What a head reaches with a quarter, a half and all of the samples; null where that was not looked for, and where it tells nothing.
    pub learning_curve: Option<LearningCurve>,
    /// Test samples whose content is in the data that were learned from, too.
    pub test_samples_in_data: usize,
    /// What the setting `train = auto` compared and chose.
    pub plan: Option<Plan>,
    pub seed: u64,
    pub base_hash: String,
    pub versions: Versions,
}

/// The setting `adapter` with its numbers; both are 0 where the method has none.
#[derive(Debug, Serialize)]
#[allow(missing_docs)]
pub struct Change {
    pub method: String,
    pub rank: u32,
    pub alpha: f32,
}

/// Energy as a meter of the machine told it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct Energy {
    pub joules: f64,
    pub joules_per_sample: f64,
    /// For each point of accuracy beyond what was there before; null where nothing was gained.
    pub joules_per_point: Option<f64>,
    pub meter: &'static str,
}

impl Energy {
    fn measured(encoded: &Encoded<'_>) -> Option<Self> {
        let opened = &encoded.prepared.opened;
        let watch = opened.energy.as_ref()?;
        let joules = watch.joules();
        let measured = encoded.test.as_ref().or(encoded.validation.as_ref());
        let gained = measured.and_then(|measured| Some(measured.after.accuracy? - measured.before.accuracy?));
        Some(Self {
            joules,
            joules_per_sample: joules / opened.data.split.train.len().max(1) as f64,
            joules_per_point: gained.filter(|gained| *gained > 0.0).map(|gained| joules / (100.0 * gained)),
            meter: watch.meter(),
        })
    }
}

/// Step times in milliseconds.
#[derive(Debug, Default, Serialize)]
#[allow(missing_docs)]
pub struct Percentiles {
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
}

/// What the data should be looked at for.
#[derive(Debug, Serialize)]
#[allow(missing_docs)]
pub struct DataFinding {
    pub severity: &'static str,
    pub problem: String,
    pub remedy: String,
    pub samples: usize,
}

/// A file that is no sample.
#[derive(Debug, Serialize)]
#[allow(missing_docs)]
pub struct Skipped {
    pub file: PathBuf,
    pub reason: String,
}

/// Versions that decide the bits of a result.
#[derive(Debug, Serialize)]
#[allow(missing_docs)]
pub struct Versions {
    pub edgetune: &'static str,
    pub onnxruntime: String,
}

impl Report {
    /// Tells of a training whose delta has so many bytes, and looks at the process's memory.
    pub(super) fn new(encoded: &Encoded<'_>, delta_bytes: u64, gates: Vec<Gate>) -> Self {
        let Encoded { prepared, outcome, solved, shipped, pass, .. } = encoded;
        let (opened, bundle, data) = (&prepared.opened, &prepared.bundle, &prepared.opened.data);
        Self {
            epochs: outcome.history.clone(),
            best_epoch: outcome.best_epoch,
            interrupted: encoded.interrupted,
            solved: solved.clone(),
            first_step_s: outcome.first_step_at_s,
            steps: outcome.steps,
            steps_per_s: per_second(outcome.steps as f64, outcome.step_seconds.iter().sum()),
            step_ms: percentiles(&outcome.step_seconds),
            body_samples_per_s: (pass.computed > 0).then(|| per_second(pass.computed as f64, pass.seconds)),
            body_samples_computed: pass.computed,
            body_samples_cached: pass.found,
            seconds: (opened.context.clock)(),
            peak_rss_bytes: opened.watch.peak_rss_bytes(),
            peak_private_bytes: opened.watch.peak_private_bytes(),
            predicted_private_bytes: prepared.predicted_bytes,
            written_bytes: written_bytes(),
            energy: Energy::measured(encoded),
            delta_bytes,
            encoding: shipped.as_ref().map(|shipped| shipped.encoding.clone()),
            encodings: shipped.as_ref().map_or(Vec::new(), |shipped| shipped.tried.clone()),
            recipe: opened.recipe_text.clone(),
            recipe_hash: hex(blake3::hash(opened.recipe_text.as_bytes()).as_bytes()),
            cache_bytes: encoded.cache_bytes,
            parameters: bundle.parameter_count(),
            trained: bundle.parameters.iter().map(|parameter| parameter.name.clone()).collect(),
            adapter: bundle.method.map(Change::from),
            head: bundle.head_note.clone(),
            output: bundle.output.clone(),
            train_samples: data.split.train.len(),
            validation_samples: data.split.validation.len(),
            findings: data.findings.iter().map(DataFinding::from).collect(),
            skipped: data.skipped.skipped.iter().map(Skipped::from).collect(),
            validation: encoded.validation.clone(),
            test: encoded.test.clone(),
            retention: encoded.retention.clone(),
            temperature: encoded.shown.temperature,
            gates,
            answers: encoded.answers.clone(),
            label_errors: encoded.judged.label_errors.clone(),
            learning_curve: encoded.judged.learning_curve.clone(),
            test_samples_in_data: data.test_samples_in_data,
            plan: prepared.plan.clone(),
            seed: opened.settings.seed,
            base_hash: hex(&bundle.base_hash),
            versions: Versions { edgetune: env!("CARGO_PKG_VERSION"), onnxruntime: opened.runtime_version.clone() },
        }
    }
}

impl From<Method> for Change {
    fn from(method: Method) -> Self {
        Self { method: method.kind.to_string(), rank: method.rank, alpha: method.alpha }
    }
}

impl From<&(PathBuf, String)> for Skipped {
    fn from((file, reason): &(PathBuf, String)) -> Self {
        Self { file: file.clone(), reason: reason.clone() }
    }
}

impl From<&Finding> for DataFinding {
    fn from(finding: &Finding) -> Self {
        Self {
            severity: match finding.severity {
                Severity::Note => "note",
                Severity::Warning => "warning",
                Severity::Error => "error",
            },
            problem: finding.problem.clone(),
            remedy: finding.remedy.clone(),
            samples: finding.samples.len(),
        }
    }
}

fn per_second(count: f64, seconds: f64) -> f64 {
    if seconds > 0.0 { count / seconds } else { 0.0 }
}

/// In milliseconds; zeros where no step was done.
fn percentiles(seconds: &[f64]) -> Percentiles {
    let mut sorted = seconds.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let place = (sorted.len().saturating_sub(1) as f64 * share).round() as usize;
        sorted.get(place).copied().unwrap_or(0.0) * 1e3
    };
    Percentiles { p50: at(0.5), p90: at(0.9), p99: at(0.99) }
}
