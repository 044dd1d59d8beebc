//! Stage 7, before the run: what each cut would cost, and what is worth learning within a budget.
//!
//! Takes a base, a request, the run's settings and, for the choice, the user's own data on the user's own device; gives an
//! estimate of memory and time for each candidate, and the candidate that fits and promises most. The head is trained
//! first: its values are what the choice starts from and has to beat. Time and memory in use arrive as arguments.

pub mod arena;
pub mod candidates;
pub mod choice;
pub mod liveness;
pub mod memory;
pub mod usefulness;
mod weights;

use super::body::CHUNK;
use super::error::Error;
use super::features::{Features, Pass, Source, Store};
use super::fit::{self, Around, End, Event, Outcome, Settings};
use super::prepare::{self, Base, Bundle};
use super::solve::{self, VALIDATION_MIN};
use crate::data::{Dataset, Labelled, Preprocessing, Split};
use crate::engine;
use crate::graph::Dim;
use candidates::{Candidate, Target};
use choice::{BudgetVerdict, Budgets, Row, best, within_delta};
use memory::Demand;
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use usefulness::Batch;

/// Samples that usefulness is measured on, at most: enough for a gradient's direction, seconds of the body.
const CALIBRATION_SAMPLES: usize = 128;
/// The batch is not halved below this to save memory.
const BATCH_MIN: u32 = 4;
/// Seconds that an optimiser's update takes for each value, on a slow ARM core.
const UPDATE_S: f64 = 5e-9;
/// A forward run's share of a step's time.
const FORWARD_SHARE: f64 = 0.4;
/// Samples that the body is timed with before anything long is begun.
const TIMED_SAMPLES: usize = 16;
/// Epochs of gradient steps that a head's closed form takes as long as, in a plan's estimate.
const CLOSED_FORM_EPOCHS: u32 = 4;
/// Bytes of a delta besides its values: header and provenance, and what each tensor's entry takes besides its name.
const DELTA_HEADER_BYTES: u64 = 600;
const DELTA_TENSOR_BYTES: u64 = 48;

/// What layers below a trained head learn at, as a share of the rate that the head was trained with: they start from the
/// base's good values and pass on small errors only, which the full rate of a fresh head would overrun.
const RATE_BELOW_HEAD: f64 = 0.1;

/// A trained head: its values by parameter, its whole run, and what the body did for it.
struct TrainedHead {
    values: HashMap<String, Vec<f32>>,
    outcome: Outcome,
    pass: Pass,
}

/// Everything a plan is made from.
pub struct Situation<'a> {
    /// The base.
    pub base: &'a Base,
    /// Output, width and head of every candidate.
    pub target: Target<'a>,
    /// Where bundles are written.
    pub bundles: &'a Path,
    /// The training data.
    pub dataset: &'a Arc<Dataset>,
    /// Which of them train and validate.
    pub split: &'a Split,
    /// What is done to each sample.
    pub preprocessing: &'a Preprocessing,
    /// Where features are kept.
    pub store: Store<'a>,
    /// How ONNX Runtime computes.
    pub options: &'a engine::Options,
    /// How the run will train.
    pub settings: &'a Settings,
    /// Whether the batch may be reduced (and accumulated) to save memory.
    pub batch_is_free: bool,
    /// What the run may take.
    pub budgets: Budgets,
    /// Whether the layers below a trained head may learn more slowly than the settings say ([`below_a_trained_head`]).
    pub rate_is_free: bool,
    /// Private memory of the process before the first session.
    pub process_bytes: u64,
    /// Raised to stop.
    pub stop: &'a AtomicBool,
    /// Seconds since the process began.
    pub clock: Arc<dyn Fn() -> f64>,
    /// How the head is trained, which the choice starts from.
    pub head: HeadBy,
    /// Who is told.
    pub told: Told<'a>,
}

/// How the head is trained before anything else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeadBy {
    /// In closed form, where it has one; else by gradient steps.
    ClosedForm,
    /// By gradient steps that begin with its closed form, where it has one.
    Steps,
    /// By gradient steps that begin with zeros.
    StepsFromZero,
}

/// Who is told of what planning does.
#[derive(Clone, Copy)]
pub struct Told<'a> {
    /// Does work that cannot be counted, and tells of it by a name as long as it takes.
    pub during: &'a dyn Fn(&str, &mut dyn FnMut()),
    /// Gives what is told of a pass of the body: samples done, and all of them.
    pub pass: &'a dyn Fn() -> Box<dyn FnMut(usize, usize)>,
    /// Told of the head's steps and epochs.
    pub step: &'a dyn Fn(Event<'_>),
}

/// What was found and chosen.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Plan {
    /// All candidates, from the cheapest.
    pub rows: Vec<Row>,
    /// Milliseconds of the body for one sample, decoding included; null where all features were cached.
    pub body_ms: Option<f64>,
    /// Samples that gains were measured on.
    pub calibration_samples: usize,
    /// Seconds that planning took, the head's training included.
    pub seconds: f64,
    /// The trained head, by parameter: where the choice starts.
    #[serde(skip)]
    pub head: HashMap<String, Vec<f32>>,
    /// The head's run: the result where the head is the choice.
    #[serde(skip)]
    pub head_outcome: Outcome,
}

impl Plan {
    /// The chosen row.
    pub fn chosen(&self) -> &Row {
        self.rows.iter().find(|row| row.chosen).expect("a plan without a fitting row is an error")
    }
}

/// Measures and chooses; `None` if the stop flag was raised.
///
/// # Errors
/// A budget that not even the head fits into; data or a base that cannot be trained on.
pub fn plan(situation: &Situation<'_>) -> Result<Option<Plan>, Error> {
    let began = (situation.clock)();
    let dims = dims(situation.base, situation.dataset, situation.split)?;
    let mut rows = situation.during("planning: what each candidate would take", || situation.affordable(&dims))?;
    let Some(TrainedHead { values: head, outcome, pass }) = situation.train_head(&mut rows[0])? else {
        return Ok(None);
    };
    let body_s = (pass.computed > 0).then(|| pass.seconds / pass.computed as f64);
    let calibration: Vec<usize> =
        fit::order(situation.dataset.labels(), &situation.split.train, situation.settings.seed, 0)
            .into_iter()
            .take(CALIBRATION_SAMPLES)
            .collect();
    // With fewer validation samples nothing could show that more than the head helps.
    let compares = situation.split.validation.len() >= VALIDATION_MIN;
    if compares && !situation.time_all(&mut rows, body_s) {
        return Ok(None);
    }
    if compares
        && rows[1..].iter().any(Row::may_run)
        && !situation.promise(&mut rows, &head, &calibration, body_s, &dims)?
    {
        return Ok(None);
    }
    let comparable = if compares { rows.len() } else { 1 };
    let chosen = best(&rows[..comparable]).expect("the head fits, or there was an error");
    rows[chosen].chosen = true;
    Ok(Some(Plan {
        rows,
        body_ms: body_s.map(|seconds| seconds * 1e3),
        calibration_samples: calibration.len(),
        seconds: (situation.clock)() - began,
        head,
        head_outcome: outcome,
    }))
}

/// Sizes of the inputs' named dimensions but the batch, from the first sample.
///
/// # Errors
/// A sample that cannot be loaded.
pub fn dims(base: &Base, dataset: &Dataset, split: &Split) -> Result<BTreeMap<String, u64>, Error> {
    let sample = split.train.first().copied().unwrap_or(0);
    let loaded = dataset.load(sample)?;
    let graph = &base.graph;
    let mut dims = BTreeMap::new();
    for id in &graph.inputs {
        let given = loaded.iter().find(|(name, _)| name == graph.value_name(*id) || loaded.len() == 1);
        let shape = graph.ty(*id).and_then(|ty| ty.shape.as_deref()).unwrap_or_default();
        for (dim, size) in shape.iter().skip(1).zip(given.iter().flat_map(|(_, tensor)| &tensor.shape)) {
            if let Dim::Named(name) = dim {
                dims.insert(name.clone(), *size);
            }
        }
    }
    Ok(dims)
}

impl Situation<'_> {
    /// Does work that cannot be counted, and tells of it as long as it takes.
    fn during<T>(&self, what: &str, work: impl FnOnce() -> T) -> T {
        let (mut work, mut outcome) = (Some(work), None);
        (self.told.during)(what, &mut || outcome = work.take().map(|work| work()));
        outcome.expect("whoever is told does the work")
    }

    /// Times a step of every row below the head that memory allows. `false` if stopped.
    fn time_all(&self, rows: &mut [Row], body_s: Option<f64>) -> bool {
        let timed = |row: &&mut Row| !matches!(row.verdict, BudgetVerdict::TooMuchMemory | BudgetVerdict::Failed);
        let mut last_s = 0.0;
        for row in rows.iter_mut().skip(1).filter(timed) {
            if self.stop.load(Ordering::Relaxed) {
                return false;
            }
            // The next one is deeper and takes no less.
            if self.is_over_after(last_s) {
                row.verdict = BudgetVerdict::TooSlow;
                continue;
            }
            let began = (self.clock)();
            let timed = self.during(&format!("planning: timing a step of {}", row.name), || self.time(row, body_s));
            if let Err(error) = timed {
                row.fail(error.to_string());
            }
            last_s = (self.clock)() - began;
        }
        true
    }

    /// All candidates with their memory and size, the head first; it has to fit.
    fn affordable(&self, dims: &BTreeMap<String, u64>) -> Result<Vec<Row>, Error> {
        let full = candidates::full(self.base, self.target)?;
        let mut rows = vec![self.row(&full[0], dims)?];
        self.refuse(&rows[0])?;
        let mut depths = vec![1];
        for candidate in &full[1..] {
            // What cannot be cut or estimated is told with its reason, and the others go on.
            rows.push(self.row(candidate, dims).unwrap_or_else(|error| self.failed(candidate, &error)));
            depths.push(candidate.depth);
        }
        let is_broken = |row: &Row| row.verdict == BudgetVerdict::TooMuchMemory;
        let Some(broken) = rows.iter().position(is_broken) else { return Ok(rows) };
        // Where the next layers do not fit, their biases may.
        let whole = rows[..broken].iter().rposition(|row| row.verdict != BudgetVerdict::Failed).unwrap_or(0);
        for depth in [depths[whole], depths[broken.div_ceil(2).max(1) - 1]] {
            for below in depths[broken..].iter().rev() {
                let Some(candidate) = candidates::with_biases(self.base, self.target, depth, *below)? else { continue };
                let Ok(row) = self.row(&candidate, dims) else { continue };
                if row.verdict != BudgetVerdict::TooMuchMemory {
                    if !rows.iter().any(|known| known.name == row.name) {
                        rows.push(row);
                    }
                    break;
                }
            }
        }
        Ok(rows)
    }

    /// What a candidate takes, at the largest allowed batch that fits.
    fn row(&self, candidate: &Candidate, dims: &BTreeMap<String, u64>) -> Result<Row, Error> {
        let divided = prepare::divide(candidates::install(self.base, self.target, &candidate.train)?)?;
        let parameters = &divided.adapted.parameters;
        let values: u64 = parameters.iter().map(|parameter| parameter.initial.len() as u64).sum();
        let names: u64 = parameters.iter().map(|parameter| parameter.name.len() as u64 + DELTA_TENSOR_BYTES).sum();
        let mut batch = self.settings.batch;
        loop {
            let demand = Demand {
                batch: batch.into(),
                accumulate: if batch == self.settings.batch { self.settings.accumulate } else { 2 },
                loss: &self.settings.loss,
                optimizer: &self.settings.optimizer,
                packed_bytes_max: self.options.packed_bytes_max,
                kept_samples: match self.store {
                    Store::Memory => (self.split.train.len() + self.split.validation.len()) as u64,
                    Store::Disk(_) => 0,
                },
                validates: !self.split.validation.is_empty(),
                dims,
            };
            let memory = memory::estimate(&divided, &demand)?;
            let mut row = Row {
                name: candidate.name.clone(),
                train: candidate.train.clone(),
                parameters: values,
                delta_bytes: 2 * values + names + DELTA_HEADER_BYTES,
                batch,
                memory_bytes: Some(self.process_bytes + memory.peak_bytes()),
                step_ms: None,
                run_s: None,
                gain: None,
                verdict: BudgetVerdict::Fits,
                problem: None,
                chosen: false,
            };
            row.verdict = row.judge(&self.budgets, 0.0);
            if row.verdict != BudgetVerdict::TooMuchMemory || !self.batch_is_free || batch / 2 < BATCH_MIN {
                return Ok(row);
            }
            batch /= 2;
        }
    }

    /// The row of a candidate of which nothing can be estimated.
    fn failed(&self, candidate: &Candidate, error: &Error) -> Row {
        Row {
            name: candidate.name.clone(),
            train: candidate.train.clone(),
            parameters: 0,
            delta_bytes: 0,
            batch: self.settings.batch,
            memory_bytes: None,
            step_ms: None,
            run_s: None,
            gain: None,
            verdict: BudgetVerdict::Failed,
            problem: Some(error.to_string()),
            chosen: false,
        }
    }

    /// Whether the time that the run may take is over in so many seconds.
    fn is_over_after(&self, seconds: f64) -> bool {
        self.budgets.time_s.is_some_and(|budget| (self.clock)() + seconds > budget)
    }

    fn refuse(&self, head: &Row) -> Result<(), Error> {
        let refusal = |setting, problem| Err(Error::Setting { setting, problem });
        match head.verdict {
            BudgetVerdict::Fits | BudgetVerdict::Failed => Ok(()),
            BudgetVerdict::TooMuchMemory => {
                let needed = head.memory_bytes.unwrap_or(0).div_ceil(1 << 20);
                refusal("budget-memory", format!("training the head alone takes about {needed} MiB; allow as much"))
            }
            BudgetVerdict::TooLargeDelta => {
                let needed = head.delta_bytes.div_ceil(1 << 10);
                refusal("budget-delta", format!("a delta of the head alone takes about {needed} KiB; allow as much"))
            }
            BudgetVerdict::TooSlow => {
                let needed = (self.clock)() + head.run_s.unwrap_or(0.0);
                let remedy = "allow as much, or use fewer samples (setting `per-class = N`) or setting `epochs`";
                refusal("budget-time", format!("training the head alone takes about {needed:.0} s; {remedy}"))
            }
        }
    }

    fn bundle(&self, train: &[String]) -> Result<Bundle, Error> {
        prepare::prepare_adapted(self.base, candidates::install(self.base, self.target, train)?, self.bundles)
    }

    fn features(&self, bundle: &Bundle, order: &[usize]) -> Result<Features, Error> {
        let (dataset, clock) = (self.dataset.clone(), self.clock.clone());
        let (preprocessing, options) = (self.preprocessing, self.options);
        Features::open(bundle, Source { dataset, order, preprocessing }, self.store, options, clock)
    }

    /// Trains the head; gives its values and what the body did. `None` if stopped.
    fn train_head(&self, row: &mut Row) -> Result<Option<TrainedHead>, Error> {
        let bundle = self.bundle(&row.train)?;
        let mut order = fit::order(self.dataset.labels(), &self.split.train, self.settings.seed, 0);
        order.extend(&self.split.validation);
        let mut features = self.features(&bundle, &order)?.telling((self.told.pass)());
        // What is too slow is found out with a few samples.
        if !features.ready(&order[..order.len().min(TIMED_SAMPLES)], self.stop)? {
            return Ok(None);
        }
        let pass = features.pass();
        let missing = order.len() - pass.found;
        let body_s =
            (pass.computed > 0).then(|| pass.seconds / pass.computed as f64 * missing as f64 / order.len() as f64);
        let batch = self.timed_batch(&mut features, row.batch)?;
        self.during("planning: timing a step of the head", || self.time_over(row, &bundle, &batch, body_s))?;
        self.refuse(row)?;
        if !features.ready(&order, self.stop)? {
            return Ok(None);
        }
        let outcome = self.fit_head(&bundle, &mut features, row.batch)?;
        if outcome.end == End::Interrupted {
            return Ok(None);
        }
        let names = bundle.parameters.iter().map(|parameter| parameter.name.clone());
        let values = names.zip(outcome.parameters.iter().cloned()).collect();
        Ok(Some(TrainedHead { values, outcome, pass: features.pass() }))
    }

    /// Trains the head as a run of its own would.
    fn fit_head(&self, bundle: &Bundle, features: &mut Features, batch: u32) -> Result<Outcome, Error> {
        let learned = Labelled { labels: self.dataset.labels(), split: self.split };
        let until_s = self.budgets.time_s;
        let mut solving = solve::Around { until_s, stop: self.stop, clock: &*self.clock, tell: &mut |_| {} };
        let mut solved = || solve::start(bundle, features, learned, &self.settings.loss, self.options, &mut solving);
        let first = match self.head {
            HeadBy::StepsFromZero => None,
            HeadBy::ClosedForm | HeadBy::Steps => self.during("planning: the head in closed form", &mut solved)?,
        };
        if let (HeadBy::ClosedForm, Some(values)) = (self.head, &first) {
            return Ok(Outcome::without_steps(values.clone(), End::Finished));
        }
        let mut around = Around {
            checkpoint: None,
            resume: false,
            keep_start: false,
            first,
            until_s,
            stop: self.stop,
            clock: &*self.clock,
            tell: &mut |event| (self.told.step)(event),
        };
        let settings = Settings { batch, ..self.settings.clone() };
        fit::fit(bundle, features, learned, &settings, self.options, &mut around)
    }

    /// Times a step of the row and estimates its run. `body_s` is the body's time for one sample.
    fn time(&self, row: &mut Row, body_s: Option<f64>) -> Result<(), Error> {
        let bundle = self.bundle(&row.train)?;
        let mut features = self.features(&bundle, &self.few())?;
        let batch = self.timed_batch(&mut features, row.batch)?;
        let pass = features.pass();
        // Where the head's features were kept from another run, these were not.
        let body_s = body_s.or((pass.computed > 0).then(|| pass.seconds / pass.computed as f64));
        // The body's memory is given back before the step's is taken.
        drop(features);
        self.time_over(row, &bundle, &batch, body_s)
    }

    /// As few samples as the body takes in one run: a step's time depends on the sizes of what it reads, not on their number
    /// of different samples.
    fn few(&self) -> Vec<usize> {
        fit::order(self.dataset.labels(), &self.split.train, self.settings.seed, 0).into_iter().take(CHUNK).collect()
    }

    /// A batch of the user's own samples, the [`Self::few`] repeated: sizes that are open in the model are then those of the
    /// data, and fit each other.
    fn timed_batch(&self, features: &mut Features, rows: u32) -> Result<Batch, Error> {
        Ok(Batch::from_samples(features, self.dataset.labels(), &self.few())?.repeated(rows.into()))
    }

    fn time_over(&self, row: &mut Row, bundle: &Bundle, batch: &Batch, body_s: Option<f64>) -> Result<(), Error> {
        let step_s = usefulness::step_seconds(bundle, &self.settings.loss, batch, self.options, &*self.clock)?;
        let batch = f64::from(row.batch);
        let (train, validation) = (self.split.train.len() as f64, self.split.validation.len() as f64);
        let sample_s = step_s / batch;
        let updates =
            f64::from(self.settings.steps_per_epoch(self.split.train.len())) * row.parameters as f64 * UPDATE_S;
        let epoch_s = train * sample_s + updates + validation * sample_s * FORWARD_SHARE;
        row.step_ms = Some(step_s * 1e3);
        // A closed form goes over the samples about as long as a few epochs do.
        let epochs = match (row.is_head(), self.head) {
            (true, HeadBy::ClosedForm) => self.settings.epochs_begun(self.split.train.len()).min(CLOSED_FORM_EPOCHS),
            _ => self.settings.epochs_begun(self.split.train.len()),
        };
        row.run_s = Some((train + validation) * body_s.unwrap_or(0.0) + f64::from(epochs) * epoch_s);
        row.verdict = row.judge(&self.budgets, (self.clock)());
        Ok(())
    }

    /// Measures gains with the deepest rows that memory and time allow, and gives each row the sum of its parameters'.
    /// Where deltas are limited, adds what of the deepest is worth its bytes. `false` if stopped.
    fn promise(
        &self,
        rows: &mut Vec<Row>,
        head: &HashMap<String, Vec<f32>>,
        calibration: &[usize],
        body_s: Option<f64>,
        dims: &BTreeMap<String, u64>,
    ) -> Result<bool, Error> {
        let is_full = |row: &Row| !row.name.contains('+');
        let mut gains: HashMap<String, f64> = HashMap::new();
        for index in (1..rows.len()).rev().filter(|index| !is_full(&rows[*index])).collect::<Vec<_>>() {
            if rows[index].may_run() && !self.measure(&mut rows[index], head, (calibration, body_s), &mut gains)? {
                return Ok(false);
            }
        }
        // The deepest has all parameters of the others; where it fails, the next one is asked.
        let deepest = loop {
            let deepest = rows.iter().rposition(|row| row.may_run() && is_full(row)).unwrap_or(0);
            if deepest > 0 && !self.measure(&mut rows[deepest], head, (calibration, body_s), &mut gains)? {
                return Ok(false);
            }
            if rows[deepest].may_run() {
                break deepest;
            }
        };
        for row in rows.iter_mut().filter(|row| row.may_run()) {
            row.gain = Some(self.gain(row, &gains)?);
        }
        if let (Some(budget), BudgetVerdict::TooLargeDelta) = (self.budgets.delta_bytes, rows[deepest].verdict) {
            let worth = self.worth_its_bytes(&rows[deepest], head, &gains, budget)?;
            let mut row = self.row(&worth, dims).unwrap_or_else(|error| self.failed(&worth, &error));
            match self.time(&mut row, body_s) {
                Ok(()) => row.gain = Some(self.gain(&row, &gains)?),
                Err(error) => row.fail(error.to_string()),
            }
            rows.push(row);
        }
        Ok(true)
    }

    /// The sum of what a row's parameters promise.
    fn gain(&self, row: &Row, gains: &HashMap<String, f64>) -> Result<f64, Error> {
        let adapted = candidates::install(self.base, self.target, &row.train)?;
        Ok(adapted.parameters.iter().filter_map(|parameter| gains.get(&parameter.name)).sum())
    }

    /// Adds the gains of a row's parameters, or rules the row out. `false` if stopped.
    fn measure(
        &self,
        row: &mut Row,
        head: &HashMap<String, Vec<f32>>,
        (calibration, body_s): (&[usize], Option<f64>),
        gains: &mut HashMap<String, f64>,
    ) -> Result<bool, Error> {
        let step_s = row.step_ms.unwrap_or(0.0) / 1e3 / f64::from(row.batch);
        if self.is_over_after(calibration.len() as f64 * (step_s + body_s.unwrap_or(0.0))) {
            row.verdict = BudgetVerdict::TooSlow;
            return Ok(true);
        }
        let found = self.gains(row, head, calibration);
        match found {
            Ok(Some(found)) => gains.extend(found),
            Ok(None) => return Ok(false),
            Err(error) => row.fail(error.to_string()),
        }
        Ok(true)
    }

    fn gains(
        &self,
        row: &Row,
        head: &HashMap<String, Vec<f32>>,
        calibration: &[usize],
    ) -> Result<Option<Vec<(String, f64)>>, Error> {
        let mut bundle = self.bundle(&row.train)?;
        start_from(&mut bundle, head);
        let mut features = self.features(&bundle, calibration)?.telling((self.told.pass)());
        if !features.ready(calibration, self.stop)? {
            return Ok(None);
        }
        let mut settings = Settings { batch: row.batch, ..self.settings.clone() };
        if self.rate_is_free {
            settings = below_a_trained_head(settings);
        }
        let labels = self.dataset.labels();
        let found = self.during("planning: what each layer's gradient promises", || {
            usefulness::gains(&bundle, &mut features, labels, calibration, &settings, self.options)
        })?;
        let names = bundle.parameters.iter().map(|parameter| parameter.name.clone());
        Ok(Some(names.zip(found).collect()))
    }

    /// What of a row's tensors gains most within a delta of that size, the head included.
    fn worth_its_bytes(
        &self,
        row: &Row,
        head: &HashMap<String, Vec<f32>>,
        gains: &HashMap<String, f64>,
        budget_bytes: u64,
    ) -> Result<Candidate, Error> {
        let adapted = candidates::install(self.base, self.target, &row.train)?;
        let sizes = adapted.parameters.iter().map(|parameter| {
            let bytes = 2 * parameter.initial.len() as u64 + parameter.name.len() as u64 + DELTA_TENSOR_BYTES;
            (bytes, gains.get(&parameter.name).copied().unwrap_or(0.0))
        });
        let tensors: Vec<(u64, f64)> = sizes.collect();
        let always: Vec<bool> = adapted.parameters.iter().map(|parameter| head.contains_key(&parameter.name)).collect();
        let taken = within_delta(&tensors, &always, budget_bytes.saturating_sub(DELTA_HEADER_BYTES));
        let mut train = vec!["head".to_string()];
        let names = adapted.parameters.iter().zip(taken).zip(always);
        train.extend(names.filter(|((_, taken), always)| *taken && !*always).map(|((p, _), _)| p.name.clone()));
        Ok(Candidate { name: format!("{} + head of {}", train.len() - 1, row.name), train, depth: 1 })
    }
}

/// The settings for layers below a head that was trained with `settings`: a tenth of its rate for them, its own for it.
pub fn below_a_trained_head(settings: Settings) -> Settings {
    Settings {
        learning_rate: settings.learning_rate * RATE_BELOW_HEAD,
        head_rate: settings.head_rate / RATE_BELOW_HEAD,
        ..settings
    }
}

/// Lets a bundle's parameters begin with these values where they have them.
pub fn start_from(bundle: &mut Bundle, values: &HashMap<String, Vec<f32>>) {
    for parameter in &mut bundle.parameters {
        if let Some(values) = values.get(&parameter.name) {
            parameter.initial.clone_from(values);
        }
    }
}
