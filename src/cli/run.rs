//! From a recipe to a trained adapter: what `train` and `demo` share.

use super::args::{Compute, Global, data_options, file_bytes};
use super::measure::{MemoryWatch, written_bytes};
use super::print::{Printer, percent};
use super::recipe::{HeadName, LossName, OptimizerName, Recipe, ScheduleName};
use crate::adapter::{HeadChoice, Request};
use crate::cut::Selection;
use crate::data::{self, Dataset, Labels, Split, Target};
use crate::engine;
use crate::train::artifact::{self, About};
use crate::train::evaluate::{self, Metrics};
use crate::train::features::{Features, Pass, Store};
use crate::train::fit::{self, Around, End, EpochRecord, Event, Outcome, ScheduleKind, Settings};
use crate::train::loss::Loss;
use crate::train::optimizer::Optimizer;
use crate::train::prepare::{self, Base, Bundle, hex};
use anyhow::{Context, Result, bail};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

/// What a run needs besides the recipe.
pub struct Job<'a> {
    /// Everything the run is decided by.
    pub recipe: Recipe,
    /// How to compute.
    pub compute: &'a Compute,
    /// Where the delta goes.
    pub out: &'a Path,
    /// Whether to go on from a checkpoint.
    pub resume: bool,
    /// Keep features in memory only.
    pub no_cache: bool,
    /// When the process began.
    pub began: Instant,
}

/// A finished or interrupted run.
pub struct Trained {
    /// How it ended.
    pub end: End,
    /// Everything measured.
    pub report: Report,
    /// Test (else validation) before and after.
    pub measured: Option<(Metrics, Metrics)>,
}

/// What `--report` writes.
#[derive(Debug, Serialize)]
#[allow(missing_docs)]
pub struct Report {
    pub epochs: Vec<EpochRecord>,
    pub best_epoch: u32,
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
    pub written_bytes: Option<u64>,
    pub delta_bytes: u64,
    pub cache_bytes: u64,
    pub parameters: u64,
    pub trained: Vec<String>,
    pub head: String,
    pub output: String,
    pub train_samples: usize,
    pub validation_samples: usize,
    pub validation: Option<BeforeAfter>,
    pub test: Option<BeforeAfter>,
    pub seed: u64,
    pub base_hash: String,
    pub versions: Versions,
}

/// Measurements on the same samples with the untrained and the trained adapter.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs)]
pub struct BeforeAfter {
    pub before: Metrics,
    pub after: Metrics,
}

/// Step times in milliseconds.
#[derive(Debug, Default, Serialize)]
#[allow(missing_docs)]
pub struct Percentiles {
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
}

/// Versions that decide the bits of a result.
#[derive(Debug, Serialize)]
#[allow(missing_docs)]
pub struct Versions {
    pub edgetune: &'static str,
    pub onnxruntime: String,
}

/// Trains by a recipe and writes the delta.
pub fn train(job: &Job<'_>, global: &Global, printer: &Printer, stop: &AtomicBool) -> Result<Trained> {
    let watch = MemoryWatch::start();
    let began = job.began;
    let clock = move || began.elapsed().as_secs_f64();
    let recipe = &job.recipe;
    let model = recipe.model.as_deref().context("no model: name one, or a recipe with `model = …`")?;
    let data_path = recipe.data.as_deref().context("no data: name labelled data with --data DIR")?;
    let library = engine::load(&global.choice())?;
    let base = Base::read(model)?;
    let inputs = inputs_of(&base);
    let preprocessing = recipe.samples.preprocessing(&inputs)?;
    let target = target_of(recipe.loss);
    let options = data_options(preprocessing, &recipe.samples, &inputs, target, None);
    let (dataset, skipped) = Dataset::open(data_path, &options)?;
    tell_skipped(&skipped, printer);
    let dataset = Arc::new(dataset);
    let seed = recipe.seed.unwrap_or(0);
    let mut split = data::split(dataset.labels(), dataset.keys(), recipe.val_fraction.unwrap_or(0.2), seed)?;
    if let Some(count) = recipe.per_class {
        split.train = data::per_class(dataset.labels(), &split.train, count, seed)?;
        split.validation = data::per_class(dataset.labels(), &split.validation, count, seed)?;
    }
    let settings = settings(recipe, dataset.labels(), &split)?;
    let bundle = bundle(&base, recipe, dataset.labels(), &global.bundles()?)?;
    describe(&bundle, &split, printer);

    let engine_options = job.compute.options(file_bytes(model));
    let cache_root = global.cache_root()?;
    let store = if job.no_cache { Store::Memory } else { Store::Disk(&cache_root) };
    let wire = postcard::to_stdvec(&preprocessing)?;
    let mut order = fit::order(&split.train, settings.seed, 0);
    order.extend(&split.validation);
    let shared: Arc<dyn Fn() -> f64> = Arc::new(clock);
    let mut features = Features::open(&bundle, dataset.clone(), &order, &wire, store, &engine_options, shared.clone())?;

    let checkpoint = PathBuf::from(format!("{}.checkpoint", job.out.display()));
    let outcome = {
        let steps = u64::from(settings.steps_per_epoch(split.train.len()));
        let progress = printer.progress("training", steps * u64::from(settings.epochs), "steps");
        let mut around = Around {
            checkpoint: Some(&checkpoint),
            resume: job.resume,
            stop,
            clock: &clock,
            tell: &mut |event| tell(&progress, settings.epochs, event),
        };
        let outcome =
            fit::fit(&bundle, &mut features, dataset.labels(), &split, &settings, &engine_options, &mut around);
        progress.end();
        outcome?
    };
    let measure = Measure { bundle: &bundle, settings: &settings, options: &engine_options, outcome: &outcome };
    let validation = match outcome.end {
        End::Interrupted => None,
        _ => measure.on(&mut features, dataset.labels(), &split.validation)?,
    };
    features.take_warnings().iter().for_each(|warning| printer.warn(warning));
    let mut pass = features.pass();
    let cache_bytes = features.bytes();
    drop(features);
    let test = match (&recipe.test, outcome.end) {
        (Some(path), End::Finished | End::Early) => {
            let options = data::Options { classes: Some(dataset.labels().names().to_vec()), ..options };
            let (test, skipped) = Dataset::open(path, &options)?;
            tell_skipped(&skipped, printer);
            let test = Arc::new(test);
            let mut all: Vec<usize> = (0..test.len()).collect();
            if let Some(count) = recipe.per_class {
                all = data::per_class(test.labels(), &all, count, seed)?;
            }
            let mut features = Features::open(&bundle, test.clone(), &all, &wire, store, &engine_options, shared)?;
            let progress = printer.progress("testing", all.len() as u64, "samples");
            for (index, chunk) in all.chunks(64).enumerate() {
                features.batch(chunk)?;
                progress.at((index * 64 + chunk.len()) as u64, String::new());
            }
            progress.end();
            let measured = measure.on(&mut features, test.labels(), &all)?;
            pass = add(pass, features.pass());
            measured
        }
        _ => None,
    };
    let mut delta_bytes = 0;
    if outcome.end != End::Interrupted {
        let pair = |measured: &Option<BeforeAfter>| measured.clone().map(|m| (m.before, m.after));
        let (validation, test) = (pair(&validation), pair(&test));
        let about = About {
            loss: &settings.loss,
            preprocessing: &preprocessing,
            labels: dataset.labels(),
            train: &split.train,
            validation: validation.as_ref().map(|(before, after)| (before, after)),
            test: test.as_ref().map(|(before, after)| (before, after)),
            seed: settings.seed,
        };
        let bytes = artifact::encode(&bundle, &outcome.parameters, &about)?;
        artifact::save(job.out, &bytes)?;
        delta_bytes = bytes.len() as u64;
    }
    let measured = test.clone().or(validation.clone()).map(|m| (m.before, m.after));
    let report = Report {
        best_epoch: outcome.best_epoch,
        first_step_s: outcome.first_step_at_s,
        steps: outcome.steps,
        steps_per_s: per_second(outcome.steps as f64, outcome.step_seconds.iter().sum()),
        step_ms: percentiles(&outcome.step_seconds),
        body_samples_per_s: (pass.computed > 0).then(|| per_second(pass.computed as f64, pass.seconds)),
        body_samples_computed: pass.computed,
        body_samples_cached: pass.found,
        seconds: clock(),
        peak_rss_bytes: watch.peak_rss_bytes(),
        peak_private_bytes: watch.peak_private_bytes(),
        written_bytes: written_bytes(),
        delta_bytes,
        cache_bytes,
        parameters: bundle.parameter_count(),
        trained: bundle.parameters.iter().map(|parameter| parameter.name.clone()).collect(),
        head: bundle.head_note.clone(),
        output: bundle.output.clone(),
        train_samples: split.train.len(),
        validation_samples: split.validation.len(),
        validation,
        test,
        seed: settings.seed,
        base_hash: hex(&base.hash),
        versions: Versions { edgetune: env!("CARGO_PKG_VERSION"), onnxruntime: library.version.clone() },
        epochs: outcome.history.clone(),
    };
    Ok(Trained { end: outcome.end, report, measured })
}

/// Measures the adapter before and after training.
struct Measure<'a> {
    bundle: &'a Bundle,
    settings: &'a Settings,
    options: &'a engine::Options,
    outcome: &'a Outcome,
}

impl Measure<'_> {
    fn on(&self, features: &mut Features, labels: &Labels, samples: &[usize]) -> Result<Option<BeforeAfter>> {
        if samples.is_empty() {
            return Ok(None);
        }
        let mut tail = engine::Session::from_file(&self.bundle.tail, self.options)?;
        let initial: Vec<Vec<f32>> = self.bundle.parameters.iter().map(|parameter| parameter.initial.clone()).collect();
        let mut with = |values: &[Vec<f32>]| {
            let parameters = evaluate::shipped(&self.bundle.parameters, values);
            evaluate::evaluate(&mut tail, features, samples, &parameters, labels, &self.settings.loss)
        };
        Ok(Some(BeforeAfter { before: with(&initial)?, after: with(&self.outcome.parameters)? }))
    }
}

fn add(one: Pass, other: Pass) -> Pass {
    Pass {
        found: one.found + other.found,
        computed: one.computed + other.computed,
        seconds: one.seconds + other.seconds,
    }
}

/// The model's inputs by name.
pub fn inputs_of(base: &Base) -> Vec<(String, crate::graph::TensorType)> {
    let graph = &base.graph;
    graph.inputs.iter().filter_map(|id| Some((graph.value_name(*id).to_string(), graph.ty(*id)?.clone()))).collect()
}

/// What the labels are, for a loss.
fn target_of(loss: Option<LossName>) -> Target {
    match loss {
        None | Some(LossName::CrossEntropy) => Target::Classes,
        Some(LossName::BinaryCrossEntropy) => Target::MultiLabel,
        Some(LossName::MeanSquaredError | LossName::Huber) => Target::Values,
    }
}

/// Lists what was left out when data were opened.
pub fn tell_skipped(report: &data::Report, printer: &Printer) {
    const SHOWN: usize = 5;
    if report.skipped.is_empty() {
        return;
    }
    printer.warn(format!("{} files were skipped:", report.skipped.len()));
    for (path, reason) in report.skipped.iter().take(SHOWN) {
        printer.note(format!("  {}: {reason}", path.display()));
    }
    if report.skipped.len() > SHOWN {
        printer.note(format!("  … and {} more", report.skipped.len() - SHOWN));
    }
}

/// The bundle for a recipe and the data's labels.
pub fn bundle(base: &Base, recipe: &Recipe, labels: &Labels, bundles: &Path) -> Result<Bundle> {
    let width = match labels {
        Labels::Values(rows) => rows.ncols() as u64,
        labels => labels.names().len() as u64,
    };
    let selections = recipe.train.iter().map(|text| Selection::parse(text)).collect::<Result<Vec<_>, _>>()?;
    let request = Request {
        output: recipe.output.as_deref(),
        selections: &selections,
        width: Some(width),
        head: match recipe.head {
            None | Some(HeadName::Auto) => HeadChoice::Auto,
            Some(HeadName::Replace) => HeadChoice::Replace,
            Some(HeadName::Append) => HeadChoice::Append,
        },
    };
    Ok(prepare::prepare(base, &request, bundles)?)
}

fn describe(bundle: &Bundle, split: &Split, printer: &Printer) {
    let cut: Vec<String> = bundle.features.iter().map(|(name, ty)| format!("{name} {ty}")).collect();
    printer.note(format!("output    {} (head {})", bundle.output, bundle.head_note));
    printer.note(format!("learns    {} values in {} tensors", bundle.parameter_count(), bundle.parameters.len()));
    printer.note(format!("features  {}", cut.join(", ")));
    printer.note(format!("samples   {} to train, {} to validate", split.train.len(), split.validation.len()));
}

fn tell(progress: &super::print::Progress, epochs: u32, event: Event<'_>) {
    match event {
        Event::Step { epoch, step, steps, loss, .. } => {
            let done = u64::from(epoch - 1) * u64::from(steps) + u64::from(step);
            progress.at(done, format!("epoch {epoch}/{epochs} loss {loss:.4}"));
        }
        Event::Epoch { epoch, record } => {
            let validation = match (record.validation_loss, record.validation_accuracy) {
                (Some(loss), Some(accuracy)) => format!(", validation loss {loss:.4}, accuracy {}", percent(accuracy)),
                (Some(loss), None) => format!(", validation loss {loss:.4}"),
                _ => String::new(),
            };
            let line =
                format!("epoch {epoch}/{epochs}: loss {:.4}{validation}, {:.1} s", record.train_loss, record.seconds);
            progress.line(&line);
        }
    }
}

/// Settings of the loop, with the defaults.
fn settings(recipe: &Recipe, labels: &Labels, split: &Split) -> Result<Settings> {
    let optimizer = match recipe.optimizer.unwrap_or(OptimizerName::Adamw) {
        OptimizerName::Adamw => Optimizer::AdamW {
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: recipe.weight_decay.unwrap_or(0.01),
        },
        OptimizerName::Sgd => Optimizer::Sgd {
            momentum: recipe.momentum.unwrap_or(0.9),
            nesterov: false,
            weight_decay: recipe.weight_decay.unwrap_or(0.0),
        },
    };
    let default_lr = if matches!(optimizer, Optimizer::AdamW { .. }) { 0.001 } else { 0.01 };
    let loss = match recipe.loss.unwrap_or(LossName::CrossEntropy) {
        LossName::CrossEntropy => Loss::CrossEntropy {
            label_smoothing: recipe.label_smoothing.unwrap_or(0.0),
            class_weights: class_weights(recipe.class_weights.as_deref(), labels, split)?,
        },
        LossName::BinaryCrossEntropy => Loss::BinaryCrossEntropy,
        LossName::MeanSquaredError => Loss::MeanSquaredError,
        LossName::Huber => Loss::Huber { delta: 1.0 },
    };
    Ok(Settings {
        epochs: recipe.epochs.unwrap_or(10),
        batch: recipe.batch.unwrap_or(32),
        accumulate: recipe.accumulate.unwrap_or(1),
        learning_rate: recipe.lr.unwrap_or(default_lr),
        schedule: match recipe.schedule {
            Some(ScheduleName::Cosine) => ScheduleKind::Cosine,
            _ => ScheduleKind::Constant,
        },
        warmup_share: recipe.warmup.unwrap_or(0.0),
        optimizer,
        clip_norm: recipe.clip_norm,
        patience: recipe.patience,
        seed: recipe.seed.unwrap_or(0),
        loss,
    })
}

/// `balanced` weighs each class by the inverse of its share of the training samples.
fn class_weights(text: Option<&str>, labels: &Labels, split: &Split) -> Result<Option<Vec<f32>>> {
    let (Some(text), Labels::Classes { names, index }) = (text, labels) else { return Ok(None) };
    if text == "balanced" {
        let mut counts = vec![0usize; names.len()];
        split.train.iter().for_each(|sample| counts[index[*sample] as usize] += 1);
        let weight = |count: &usize| split.train.len() as f32 / (names.len() * (*count).max(1)) as f32;
        return Ok(Some(counts.iter().map(weight).collect()));
    }
    let weights: Vec<f32> =
        text.split(',').map(|part| part.trim().parse()).collect::<Result<_, _>>().with_context(|| {
            format!("--class-weights `{text}`: write `balanced`, or one number a class separated by commas")
        })?;
    if weights.len() != names.len() || weights.iter().any(|weight| !(*weight >= 0.0 && weight.is_finite())) {
        bail!(
            "--class-weights: {} weights for {} classes; each must be a number of 0 or more",
            weights.len(),
            names.len()
        );
    }
    Ok(Some(weights))
}

fn per_second(count: f64, seconds: f64) -> f64 {
    if seconds > 0.0 { count / seconds } else { 0.0 }
}

fn percentiles(seconds: &[f64]) -> Percentiles {
    let mut sorted = seconds.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at =
        |share: f64| sorted.get(((sorted.len() as f64 - 1.0) * share).round() as usize).copied().unwrap_or(0.0) * 1e3;
    if sorted.is_empty() { Percentiles::default() } else { Percentiles { p50: at(0.5), p90: at(0.9), p99: at(0.99) } }
}
