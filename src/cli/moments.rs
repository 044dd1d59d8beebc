//! Moments as files, and from data: what the commands of `edgetune moments` have in common.

use super::args::{Compute, Global};
use super::print::{Printer, bytes, percent};
use super::sample_args::SamplesArgs;
use super::stop::flag_on_signals;
use crate::adapter::{self, HeadChoice, Places, Positions, Request};
use crate::amounts::counted;
use crate::cut::Selection;
use crate::data::{self, Dataset, Labels, Preprocessing};
use crate::delta::{KeyPair, Task};
use crate::engine;
use crate::learn::samples::{self, inputs_of};
use crate::learn::{self, Observer};
use crate::moments::{self, About, BITS, Basis, Directions, Head, Moments, View};
use crate::recipe::{self, HeadName, LossName, Samples};
use crate::task;
use crate::train::artifact::{self, preprocessing_from_wire, preprocessing_to_wire};
use crate::train::evaluate::Metrics;
use crate::train::features::{Features, Source, Store};
use crate::train::prepare::{self, Base, Bundle, hex};
use crate::train::solve::Around;
use crate::train::solve::moments::{Set, about, add, classifier, features, measured, source, tell_coordinates};
use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};
use ndarray::Array2;
use serde_json::json;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

/// Coordinates where nobody names a number.
const COORDINATES: usize = 256;
/// The share of clipped coordinates that is told as a warning.
const CLIPPED_MAX: f64 = 1e-3;

/// Where directions come from, by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DirectionsName {
    /// The model's own classifier: what it tells its classes apart by
    Classifier,
    /// A matrix that --basis-seed decides
    Orthogonal,
    /// The features themselves, all of them
    Identity,
}

/// Which coordinates of the features are summed up.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Basis")]
pub struct BasisArgs {
    /// Where directions come from [default: classifier where that has as many, else identity or orthogonal]
    #[arg(long, value_enum)]
    pub directions: Option<DirectionsName>,
    /// Numbers that represent a sample; fewer make smaller files and coarser heads [default: 256, or all features]
    #[arg(long, value_name = "N")]
    pub coordinates: Option<usize>,
    /// Bits of a coordinate, 2 to 16
    #[arg(long, value_name = "N", default_value_t = 16)]
    pub bits: u8,
    /// Decides the directions of --directions orthogonal
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub basis_seed: u64,
}

/// How data are read and computed with.
#[derive(Debug, Clone, Args)]
pub struct Reads {
    /// Which of the model's outputs to learn for [default: the only one, or the one that `edgetune inspect` names]
    #[arg(long, help_heading = "What learns", value_name = "NAME")]
    pub output: Option<String>,
    /// What to do with the classifier: replace or append [default: replace one, append to an embedding]
    #[arg(long, help_heading = "What learns", value_enum)]
    pub head: Option<HeadName>,
    /// What the targets are: cross-entropy for one class a sample, binary-cross-entropy for any number of classes,
    /// mean-squared-error for numbers [default: cross-entropy]
    #[arg(long, help_heading = "What learns", value_enum)]
    pub loss: Option<LossName>,
    /// What numbers to predict are rounded to [default: so that those of the data fill a quarter of the range]
    #[arg(long, help_heading = "What learns", value_name = "X")]
    pub target_step: Option<f32>,
    /// Samples of each class that are used, at most [default: all]
    #[arg(long, help_heading = "Data", value_name = "N")]
    pub per_class: Option<usize>,
    /// Decides which samples --per-class takes
    #[arg(long, help_heading = "Data", value_name = "N", default_value_t = 0)]
    pub seed: u64,
    #[command(flatten)]
    pub samples: SamplesArgs,
    /// Keep features in memory for this run only
    #[arg(long, help_heading = "Run")]
    pub no_cache: bool,
    #[command(flatten)]
    pub compute: Compute,
}

/// A file of moments, read and checked.
pub struct File {
    /// Where it lies.
    pub path: PathBuf,
    /// All of it.
    pub bytes: Vec<u8>,
    /// What is in it.
    pub moments: Moments,
}

impl File {
    /// Reads a file and checks everything about it.
    pub fn read(path: &Path) -> Result<Self> {
        let mut bytes = Vec::new();
        let open =
            std::fs::File::open(path).and_then(|file| file.take(moments::BYTES_MAX as u64 + 1).read_to_end(&mut bytes));
        open.with_context(|| path.display().to_string())?;
        let moments = Moments::parse(&bytes).with_context(|| path.display().to_string())?;
        Ok(Self { path: path.into(), bytes, moments })
    }

    /// The checked header and signature.
    pub fn view(&self) -> Result<View<'_>> {
        View::parse(&self.bytes).with_context(|| self.path.display().to_string())
    }
}

/// The secret key of a file.
pub fn key(path: Option<&PathBuf>) -> Result<Option<KeyPair>> {
    let Some(path) = path else { return Ok(None) };
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    Ok(Some(KeyPair::from_pem(&text).with_context(|| path.display().to_string())?))
}

/// Writes moments, signed where there is a key, and tells of them.
pub fn write(path: &Path, moments: &Moments, key: Option<&KeyPair>, printer: &Printer) -> Result<()> {
    ensure!(moments.samples() > 0, "{}: no sample is left, and moments of none are not a file", path.display());
    let mut encoded = moments.encode()?;
    if let Some(key) = key {
        encoded = moments::sign(&encoded, key)?;
    }
    artifact::save(path, &encoded)?;
    let mut report = report(moments, View::parse(&encoded)?.identity());
    report["moments"] = json!(path);
    report["bytes"] = json!(encoded.len());
    printer.document(&report);
    let samples = moments.samples();
    printer.text(format!(
        "{}: {}, {}{}",
        path.display(),
        bytes(encoded.len() as u64),
        counted(samples, "sample"),
        of_labels(moments)
    ));
    warn_of_clipped(moments, printer);
    Ok(())
}

fn of_labels(moments: &Moments) -> String {
    match moments.labels().len() {
        0 => String::new(),
        count => format!(" of {}", counted(count, "label")),
    }
}

fn warn_of_clipped(moments: &Moments, printer: &Printer) {
    let sums = moments.sums();
    let all = (sums.samples() * sums.shape().coordinates as i64).max(1);
    let share = sums.clipped() as f64 / all as f64;
    if share > CLIPPED_MAX {
        printer.warn(format!(
            "{} of all coordinates are beyond the range and were clipped: the features are larger than usual; make a basis for them \
             with `edgetune moments basis`",
            percent(share)
        ));
    }
}

/// What moments say of themselves.
pub fn report(moments: &Moments, identity: &[u8; 32]) -> serde_json::Value {
    let (about, sums) = (moments.about(), moments.sums());
    let label = |(target, name): (usize, &String)| json!({ "name": name, "samples": sums.count(target) });
    json!({
        "identity": hex(identity),
        "base": hex(&about.base),
        "basis": hex(&about.basis),
        "directions": directions_name(about.directions),
        "task": task::of_wire(about.task).name,
        "output": about.output,
        "appended": about.appended,
        "features": about.features,
        "coordinates": about.coordinates,
        "bits": about.bits,
        "target_step": about.target_step,
        "samples": sums.samples(),
        "clipped": sums.clipped(),
        "labels": moments.labels().iter().enumerate().map(label).collect::<Vec<_>>(),
        "targets": sums.shape().targets,
    })
}

/// As on the command line.
pub fn directions_name(directions: Directions) -> String {
    match directions {
        Directions::Classifier => "classifier".into(),
        Directions::Orthogonal { seed } => format!("orthogonal (seed {seed})"),
        Directions::Identity => "identity".into(),
    }
}

/// A model that was read, and what its heads are made of.
pub struct Model {
    pub base: Base,
    classifier: Option<Array2<f32>>,
    output: String,
    bundles: PathBuf,
}

impl Model {
    /// Reads a model. `output`: the output that is asked for.
    pub fn read(path: &Path, output: Option<&str>, global: &Global, printer: &Printer) -> Result<Self> {
        engine::load(&global.choice())?;
        let base = printer.during(format!("reading {}", path.display()), || Base::read(path))?;
        let wanted = adapter::output(&base.graph, output)?;
        let mut names = base.graph.outputs.iter().map(|id| base.graph.value_name(*id).to_string());
        let is_it = |name: &String| adapter::output(&base.graph, Some(name)).is_ok_and(|found| found == wanted);
        let output = match output {
            Some(name) => name.into(),
            None => names.find(is_it).context("the model has no output")?,
        };
        let classifier = classifier(&base, Some(&output))?;
        Ok(Self { base, classifier, output, bundles: global.bundles()? })
    }

    /// Opens the model of a file of moments.
    pub fn from_moments(path: &Path, file: &File, global: &Global, printer: &Printer) -> Result<Self> {
        let model = Self::read(path, Some(&file.moments.about().output), global, printer)?;
        let (wanted, found) = (hex(&file.moments.about().base[..8]), model.base.short_hash());
        let (moments, model_path) = (file.path.display(), path.display());
        ensure!(
            wanted == found,
            "{moments} belongs to the model {wanted}, but {model_path} is {found}; name that model"
        );
        Ok(model)
    }

    /// Body and tail with a fresh head of so many outputs. `appended`: whether it is appended; `None` decides by the model.
    pub fn bundle(&self, width: usize, task: Task, appended: Option<bool>) -> Result<Bundle> {
        let prepared = |head: HeadChoice| -> Result<Bundle> {
            let request = Request {
                output: Some(&self.output),
                selections: &[Selection::Head],
                method: None,
                places: Places::default(),
                seed: 0,
                width: Some(width as u64),
                head,
                activation: Some(task::of_wire(task).loss().activation()),
                positions: Positions::Sample,
            };
            Ok(prepare::prepare(&self.base, &request, &self.bundles)?)
        };
        match appended {
            Some(true) => prepared(HeadChoice::Append),
            Some(false) => prepared(HeadChoice::Replace),
            None => {
                let bundle = prepared(HeadChoice::Auto)?;
                let fresh = bundle.parameters.iter().all(|parameter| parameter.fresh);
                if fresh { Ok(bundle) } else { prepared(HeadChoice::Replace) }
            }
        }
    }

    /// The basis of a file, the one of moments, or the one that is asked for.
    pub fn basis(&self, bundle: &Bundle, file: Option<&Path>, wanted: Wanted<'_>) -> Result<Basis> {
        let source = source(bundle, self.classifier.as_ref())?;
        let basis = match (file, wanted) {
            (Some(path), _) => {
                let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
                Basis::parse(&bytes, source).with_context(|| path.display().to_string())?
            }
            (None, Wanted::Of(about)) => {
                Basis::build(source, about.directions, about.coordinates as usize, about.bits)?
            }
            (None, Wanted::Asked(asked)) => {
                ensure!(BITS.contains(&asked.bits), "--bits {}: give {} to {}", asked.bits, BITS.start(), BITS.end());
                let most = source.classifier.map_or(0, |weight| weight.nrows().min(weight.ncols()));
                let count = asked.coordinates.unwrap_or(COORDINATES).min(source.features);
                let (directions, count) = match asked.directions {
                    Some(DirectionsName::Classifier) => {
                        (Directions::Classifier, asked.coordinates.unwrap_or(count.min(most)))
                    }
                    Some(DirectionsName::Orthogonal) => (Directions::Orthogonal { seed: asked.basis_seed }, count),
                    Some(DirectionsName::Identity) => {
                        (Directions::Identity, asked.coordinates.unwrap_or(source.features))
                    }
                    None if most >= count => (Directions::Classifier, count),
                    None if source.features <= COORDINATES && asked.coordinates.is_none() => {
                        (Directions::Identity, count)
                    }
                    None => (Directions::Orthogonal { seed: asked.basis_seed }, count),
                };
                Basis::build(source, directions, asked.coordinates.unwrap_or(count), asked.bits).context("the basis")?
            }
        };
        if let Wanted::Of(about) = wanted
            && about.basis != basis.hash()
        {
            match file {
                Some(path) => bail!("{}: the moments have another basis; name theirs with --basis", path.display()),
                None => {
                    bail!("the moments have a basis with centre and steps of data; name its file with --basis FILE")
                }
            }
        }
        Ok(basis)
    }
}

/// Which basis is meant where no file has it.
#[derive(Clone, Copy)]
pub enum Wanted<'a> {
    /// That of moments.
    Of(&'a About),
    /// One that options describe.
    Asked(&'a BasisArgs),
}

/// What samples are summed up for.
pub struct Summing<'a> {
    pub model: &'a Model,
    pub data: &'a Path,
    pub reads: &'a Reads,
    /// What is added to or taken from: it says how.
    pub known: Option<&'a Moments>,
    pub basis_file: Option<&'a Path>,
    pub asked: &'a BasisArgs,
    pub global: &'a Global,
    pub printer: &'a Printer,
}

/// Data that were opened, with the body that their features come from.
struct Opened {
    dataset: Arc<Dataset>,
    samples: Vec<usize>,
    preprocessing: Preprocessing,
    task: Task,
    bundle: Bundle,
    report: data::ReadingReport,
}

/// What features are wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    /// To be summed up with those of other data.
    Sums,
    /// To be compared with each other.
    Looking,
}

/// All features of a data set, in memory.
pub struct Looked {
    /// The data.
    pub dataset: Arc<Dataset>,
    /// Which of its samples the rows are of.
    pub samples: Vec<usize>,
    /// What could not be read.
    pub report: data::ReadingReport,
    /// `[samples, features]`, as a head reads them.
    pub rows: Array2<f32>,
}

impl Summing<'_> {
    /// The moments of the data; `None` if it was stopped.
    pub fn moments(&self) -> Result<Option<Moments>> {
        let opened = self.open()?;
        let wanted = self.known.map_or(Wanted::Asked(self.asked), |known| Wanted::Of(known.about()));
        let basis = self.model.basis(&opened.bundle, self.basis_file, wanted)?;
        let labels = opened.dataset.labels();
        let about = match self.known {
            Some(known) => known.about().clone(),
            None => About {
                output: self.model.output.clone(),
                target_step: self.target_step(labels)?,
                preprocessing: preprocessing_to_wire(&opened.preprocessing),
                ..about(&opened.bundle, &basis, labels)
            },
        };
        let mut moments = Moments::new(about, width(labels), labels.names())?;
        let done = self.each(&opened, |set, around| Ok(add(set, &basis, &mut moments, around)?))?;
        Ok(done.then_some(moments))
    }

    /// What the samples, all of which are in the moments, show without themselves; and the factor that makes logits of a head's outputs
    /// probabilities. `None` if it was stopped.
    pub fn measured(&self, moments: &Moments, basis: &Basis, head: &Head) -> Result<Option<(Metrics, f64)>> {
        let opened = self.open()?;
        let mut found = None;
        self.each(&opened, |set, around| {
            found = measured(set, (basis, moments, head), &task::of_wire(opened.task).loss(), around)?;
            Ok(found.is_some())
        })?;
        Ok(found)
    }

    /// Tells name, label and coordinates of each sample of the data; `false` if it was stopped.
    pub fn tell(&self, basis: &Basis, told: &mut dyn FnMut(String, &str, &[i16])) -> Result<bool> {
        let opened = self.open()?;
        let Labels::Classes { names, index } = opened.dataset.labels() else {
            bail!("the data: what is known is told by classes, so each sample needs one class");
        };
        self.each(&opened, |set, around| {
            let told = &mut |sample: usize, z: &[i16]| {
                told(opened.dataset.name(sample).to_string(), &names[index[sample] as usize], z);
            };
            Ok(tell_coordinates(set, basis, around, told)?)
        })
    }

    /// The basis that the data teach; `None` if it was stopped.
    pub fn learned_basis(&self) -> Result<Option<Basis>> {
        let opened = self.open()?;
        let basis = self.model.basis(&opened.bundle, self.basis_file, Wanted::Asked(self.asked))?;
        let rows = self.rows(&opened)?;
        Ok(rows.map(|rows| basis.learned(rows.view())).transpose()?)
    }

    /// All features of the data; `None` if it was stopped.
    pub fn features(&self) -> Result<Option<Looked>> {
        let opened = self.open_for(Use::Looking)?;
        let rows = self.rows(&opened)?;
        let Opened { dataset, samples, report, .. } = opened;
        Ok(rows.map(|rows| Looked { dataset, samples, report, rows }))
    }

    fn rows(&self, opened: &Opened) -> Result<Option<Array2<f32>>> {
        let mut rows = None;
        self.each(opened, |set, around| {
            rows = features(set, around)?;
            Ok(rows.is_some())
        })?;
        Ok(rows)
    }

    fn open(&self) -> Result<Opened> {
        self.open_for(Use::Sums)
    }

    fn open_for(&self, used_for: Use) -> Result<Opened> {
        let Self { model, reads, known, printer, .. } = self;
        let data = match data::parts(self.data)? {
            Some(parts) => {
                printer.note(format!("parts     {} is read", parts.train.display()));
                parts.train
            }
            None => self.data.into(),
        };
        let how: Samples = reads.samples.clone().into();
        let about = known.map(Moments::about);
        let mut preprocessing = match about {
            Some(about) => samples::of_adapter(&preprocessing_from_wire(&about.preprocessing.get()), &data, *printer),
            None => how.preprocessing(&model.base, &data, *printer)?,
        };
        if used_for == Use::Sums
            && about.is_none()
            && matches!(preprocessing, Preprocessing::Series(_))
            && how.standardises()?
        {
            bail!(
                "{}: the scale of a series is learned from the data, so moments of other data would be of other numbers; give \
                 --scale none, and columns that are scaled alike everywhere",
                data.display()
            );
        }
        let unsummed = reads.loss.filter(|loss| !loss.has_moments());
        if let Some(loss) = unsummed {
            bail!("--loss {}: what it learns has no moments; use `edgetune train`", loss.name());
        }
        let target = about.map_or_else(|| recipe::task(reads.loss), |about| task::of_wire(about.task)).target;
        // Classes may be new; columns may not.
        let named = known.filter(|known| known.about().task == Task::MultiLabel).map(|known| known.labels().to_vec());
        let reading = samples::with_tokenizer(how.reading(), &model.base, (None, &preprocessing), *printer);
        if about.is_none() {
            samples::keep_tokenizer(&mut preprocessing, &reading);
        }
        let options = samples::options(preprocessing.clone(), reading, &inputs_of(&model.base), target, named);
        let (mut dataset, report) = samples::open(&data, &options, *printer)?;
        let all: Vec<usize> = (0..dataset.len()).collect();
        if used_for == Use::Looking {
            learn::scale(&mut dataset, &mut preprocessing, (&how, &all), *printer)?;
        }
        let samples = match reads.per_class {
            Some(count) => data::per_class(dataset.labels(), &all, count, reads.seed)?,
            None => all,
        };
        let task = task::of_labels(dataset.labels()).map_or(Task::Classification, |task| task.wire);
        let appended = match (about, reads.head) {
            (Some(about), _) => Some(about.appended),
            (None, Some(HeadName::Append)) => Some(true),
            (None, Some(HeadName::Replace)) => Some(false),
            (None, Some(HeadName::Keep)) => {
                bail!("--head keep: moments give a head of their own; choose replace or append")
            }
            (None, Some(HeadName::Auto) | None) => None,
        };
        let bundle = model.bundle(width(dataset.labels()), task, appended)?;
        Ok(Opened { dataset: Arc::new(dataset), samples, preprocessing, task, bundle, report })
    }

    /// Goes through all samples with `work`, which says whether it came to the end.
    fn each(&self, opened: &Opened, work: impl FnOnce(&mut Set<'_>, &mut Around<'_>) -> Result<bool>) -> Result<bool> {
        let Opened { dataset, samples, preprocessing, bundle, .. } = opened;
        let (began, options, cache) = (Instant::now(), self.reads.compute.options(), self.global.cache_root()?);
        let clock: Arc<dyn Fn() -> f64> = Arc::new(move || began.elapsed().as_secs_f64());
        let store = if self.reads.no_cache { Store::Memory } else { Store::Disk(&cache) };
        let source = Source { dataset: dataset.clone(), order: samples, preprocessing };
        let features = Features::open(bundle, source, store, &options, clock.clone())?;
        let mut features = features.telling(self.printer.body_pass());
        let stop: Arc<AtomicBool> = flag_on_signals()?;
        let mut set = Set { bundle, features: &mut features, labels: dataset.labels(), samples, options: &options };
        let done = work(&mut set, &mut Around { until_s: None, stop: &stop, clock: &*clock, tell: &mut |_| {} })?;
        let observer: &dyn Observer = self.printer;
        observer.warn_once(&features.take_warnings());
        Ok(done)
    }

    /// The step of numbers to predict: a power of two with which the largest fills a quarter of 16 bits.
    fn target_step(&self, labels: &Labels) -> Result<f32> {
        let Labels::Values(rows) = labels else {
            ensure!(self.reads.target_step.is_none(), "--target-step: the targets are classes; remove the option");
            return Ok(1.0);
        };
        if let Some(step) = self.reads.target_step {
            ensure!(step > 0.0 && step.is_finite(), "--target-step {step}: give a number above 0, such as 0.01");
            return Ok(step);
        }
        let largest = rows.iter().fold(0.0f32, |largest, y| largest.max(y.abs()));
        Ok(if largest > 0.0 { (largest / 8192.0).log2().ceil().exp2() } else { 1.0 })
    }
}

fn width(labels: &Labels) -> usize {
    match labels {
        Labels::Values(rows) => rows.ncols(),
        labels => labels.names().len(),
    }
}
