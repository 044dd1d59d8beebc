//! From a recipe to a delta on disk: what `train` and `demo` share.

use super::args::{Compute, Global};
use super::budget;
use super::encoding::{self, Encoded};
use super::forward::Forward;
use super::measure::{MemoryWatch, available_bytes, private_bytes};
use super::print::Printer;
use super::recipe::Recipe;
use super::report::{BeforeAfter, Parts, Report};
use super::samples;
use super::sets::Data;
use super::settings::{self, settings};
use super::summary;
use crate::adapter::{self, Request};
use crate::data::{Dataset, Labels, Split};
use crate::engine;
use crate::graph::TensorType;
use crate::train;
use crate::train::artifact::{self, About, Adapter, Provenance};
use crate::train::baseline;
use crate::train::checkpoint;
use crate::train::evaluate::{self, Metrics};
use crate::train::features::{Features, Pass, Store};
use crate::train::fit::{self, Around, End, Outcome, Settings};
use crate::train::plan::candidates::Target;
use crate::train::plan::memory::{self, Demand, Memory};
use crate::train::plan::{self, Situation};
use crate::train::prepare::{self, Base, Bundle, Divided};
use crate::train::solve::{self, Solved};
use crate::train::trial::Trial;
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
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
    /// End where a sample cannot be read, instead of leaving it out.
    pub no_skip: bool,
    /// When the process began.
    pub began: Instant,
    /// When the delta is written, in seconds since 1970.
    pub created_unix_s: u64,
}

/// A finished or interrupted run.
pub struct Trained {
    /// Whether a signal ended it before the delta was written.
    pub interrupted: bool,
    /// Everything measured.
    pub report: Report,
    /// Test (else validation) before and after.
    pub measured: Option<BeforeAfter>,
    /// Whether an adapter was gone on from.
    pub went_on: bool,
}

/// Trains by a recipe and writes the delta; `None` if it was stopped before there was anything to go on with.
pub fn train(job: &Job<'_>, global: &Global, printer: &Printer, stop: &AtomicBool) -> Result<Option<Trained>> {
    let watch = MemoryWatch::start();
    let began = job.began;
    let clock: Arc<dyn Fn() -> f64> = Arc::new(move || began.elapsed().as_secs_f64());
    let mut recipe = job.recipe.clone();
    let known = recipe.from.as_deref().map(Adapter::read).transpose()?;
    if let Some(adapter) = &known {
        settings::go_on(&mut recipe, adapter)?;
    }
    settings(&recipe)?;
    let model = recipe.model.as_deref().context("no model: name one, or a recipe with `model = …`")?;
    if job.resume && recipe.closed_form() {
        bail!("--resume: --solver has no checkpoint to go on from, its features are in the cache; remove --resume");
    }
    let library = engine::load(&global.choice())?;
    let base = printer.during(format!("reading {}", model.display()), || Base::read(model))?;
    tracing::info!(model = %model.display(), hash = %base.short_hash(), nodes = base.graph.nodes.len(), "read the base");
    let mut recipe = settings::with_loss(recipe, &base)?;
    let mut settings = settings(&recipe)?;
    // As it was written, whether a run goes on from a delta or not.
    let recipe_text = settings::with_loss(job.recipe.clone(), &base)?.text()?;
    let recipe_hash = blake3::hash(recipe_text.as_bytes());
    let mut data = Data::open(&recipe, &base, known.as_ref(), printer)?;
    samples::list_skipped(&data.skipped, job.out, printer);
    samples::refuse_skipped(&data.skipped, job.no_skip)?;
    settings::weigh(&mut settings, &recipe, data.labels(), &data.split)?;
    let compute = Compute { memory: job.compute.memory.or(recipe.memory), ..job.compute.clone() };
    let mut options = compute.options();
    let cache = global.cache_root()?;
    let store = if job.no_cache { Store::Memory } else { Store::Disk(&cache) };
    let trial = Trial {
        base: &base,
        output: job.recipe.output.as_deref(),
        activation: Some(settings.loss.activation()),
        bundles: &global.bundles()?,
        store,
        options: &options,
        stop,
        clock: clock.clone(),
    };
    data.settle_head(&mut recipe, &settings.loss, &trial, printer)?;
    let solver = settings::solver(&recipe, &settings.loss, known.as_ref().map_or(0, |adapter| adapter.labels.len()))?;
    let wire = postcard::to_stdvec(&data.preprocessing)?;
    let available = available_bytes(Path::new("/"));
    let budgets = budget::budgets(&recipe)?;
    let until_s = budgets.and_then(|budgets| budgets.time_s);
    let plan = match budgets {
        None => None,
        Some(mut budgets) => {
            // Without a budget the limit is what there is.
            budgets.memory_bytes = budgets.memory_bytes.or(available.map(|bytes| private_bytes() + bytes));
            if job.resume {
                bail!(
                    "--resume: a plan may choose differently now; give the --train and --batch that the first run printed"
                );
            }
            let progress = printer.progress("head", settings.total_steps(data.split.train.len()), "steps");
            let epochs = settings.epochs_begun(data.split.train.len());
            let situation = Situation {
                base: &base,
                target: target(&recipe, data.labels()),
                bundles: &global.bundles()?,
                dataset: &data.train,
                split: &data.split,
                preprocessing: &wire,
                store,
                options: &options,
                settings: &settings,
                batch_is_free: recipe.batch.is_none() && recipe.accumulate.is_none(),
                rate_is_free: recipe.head_rate.is_none(),
                budgets,
                head_from_zero: recipe.solver.is_some(),
                process_bytes: private_bytes(),
                stop,
                clock: clock.clone(),
                tell: &|line| progress.line(line),
                head_tell: &|event| summary::step(&progress, epochs, event),
            };
            let plan = plan::plan(&situation);
            progress.end();
            let Some(plan) = plan? else { return Ok(None) };
            let chosen = plan.chosen();
            recipe.train.clone_from(&chosen.train);
            settings.accumulate *= settings.batch.div_ceil(chosen.batch);
            settings.batch = chosen.batch;
            if recipe.head_rate.is_none() && !plan.rows[0].chosen {
                settings = plan::below_a_trained_head(settings);
            }
            budget::print(&plan, &settings, printer);
            Some(plan)
        }
    };
    let mut predicted = plan.as_ref().and_then(|plan| plan.chosen().memory_bytes);
    let mut bundle = match &known {
        Some(adapter) => adapter.with_classes(data.labels().names(), &base, &global.bundles()?)?,
        None => {
            let bundles = global.bundles()?;
            let weights = base.write_weights_ahead(&bundles);
            settings::tell_of_all_layers(&recipe, &base, printer)?;
            let divided = divided(&base, &recipe, data.labels())?;
            if plan.is_none() && solver.is_none() {
                let mut demand = Demand {
                    batch: settings.batch.into(),
                    accumulate: settings.accumulate,
                    loss: &settings.loss,
                    optimizer: &settings.optimizer,
                    packed_bytes_max: options.packed_bytes_max,
                    kept_samples: if job.no_cache {
                        (data.split.train.len() + data.split.validation.len()) as u64
                    } else {
                        0
                    },
                    validates: !data.split.validation.is_empty(),
                    dims: &plan::dims(&base, &data.train, &data.split)?,
                };
                // What cannot be estimated is told below, by what it is that does not fit.
                if let Ok(mut memory) = memory::estimate(&divided, &demand) {
                    let beyond = |memory: &Memory| available.is_some_and(|bytes| memory.peak_bytes() > bytes);
                    if beyond(&memory) && compute.is_balanced() {
                        demand.packed_bytes_max = 0;
                        memory = memory::estimate(&divided, &demand)?;
                        if !beyond(&memory) {
                            options.packed_bytes_max = 0;
                            printer.note("memory    copies of the weights would not fit now: --memory low is taken");
                        }
                    }
                    tracing::debug!(?memory, dims = ?demand.dims, process = private_bytes(), "estimated");
                    budget::refuse_beyond(memory.peak_bytes(), available)?;
                    budget::compare(memory.peak_bytes(), available, printer);
                    predicted = Some(private_bytes() + memory.peak_bytes());
                }
            }
            drop(weights);
            printer.during("preparing the model", || prepare::write(&base, divided, &bundles))?
        }
    };
    // What learns below the head starts from the trained head and has to beat it.
    let keep_start = plan.as_ref().is_some_and(|plan| !plan.rows[0].chosen);
    if let Some(plan) = plan.as_ref().filter(|_| keep_start) {
        plan::start_from(&mut bundle, &plan.head);
    }
    let solver = match solver {
        None => settings::by_default(&recipe, &settings.loss, known.is_some() || plan.is_some(), &bundle, &data)?,
        named => named,
    };
    if solver.is_some() {
        data.learn_from_all_of_few(&recipe, printer);
    }
    if plan.is_none() && known.is_none() {
        settings = settings::slow_below_head(settings, &recipe, &bundle);
    }
    describe(&bundle, &data.split, printer);

    let mut order = fit::order(&data.split.train, settings.seed, 0);
    order.extend(&data.split.validation);
    let features = Features::open(&bundle, data.train.clone(), &order, &wire, store, &options, clock.clone())?;
    let mut features = features.telling(printer.body_pass());
    tracing::info!(cached = features.pass().found, missing = order.len() - features.pass().found, "looked up features");
    drop(order);
    let head;
    let mut learn =
        Learn { job, bundle: &bundle, data: &data, settings: &settings, options: &options, keep_start, until_s, stop };
    let (mut outcome, solved) = match (&solver, &plan) {
        (Some(solver), _) => learn.solve(solver, &mut features, &*clock, printer)?,
        // The plan has trained the head already.
        (None, Some(plan)) if !keep_start => (plan.head_outcome.clone(), None),
        _ => (learn.fit(&mut features, &*clock, printer)?, None),
    };
    let (mut earlier, mut warnings) = (Pass::default(), Vec::new());
    if outcome.end == End::OutOfTime {
        printer.note(format!("--budget-time is over: ended in epoch {}", outcome.history.len().max(1)));
    }
    if let Some(plan) = plan.as_ref().filter(|_| keep_start && outcome.end != End::Interrupted) {
        budget::print_verdict(&outcome, printer);
        if outcome.best_epoch == 0 {
            // A delta of the head alone: what did not learn has no place in it.
            (earlier, warnings) = (features.pass(), features.take_warnings());
            drop(features);
            recipe.train.clone_from(&plan.rows[0].train);
            head = self::bundle(&base, &recipe, data.labels(), &global.bundles()?)?;
            outcome.parameters = head.parameters.iter().map(|parameter| plan.head[&parameter.name].clone()).collect();
            features = Features::open(
                &head,
                data.train.clone(),
                &data.split.validation,
                &wire,
                store,
                &options,
                clock.clone(),
            )?;
            learn = Learn { bundle: &head, ..learn };
        }
    }
    let mut interrupted = outcome.end == End::Interrupted;
    let mut validation = None;
    let mut encoded = None;
    if !interrupted {
        let (made, measured) = learn.encode(&mut features, (&outcome, solved.as_ref()), printer)?;
        (encoded, validation) = (Some(made), measured);
    }
    warnings.extend(features.take_warnings());
    let (mut pass, cache_bytes) = (earlier.plus(features.pass()), features.bytes());
    drop(features);

    let mut test = None;
    if let (Some((set, samples)), Some(encoded)) = (&data.test, &encoded) {
        let forward = Forward {
            bundle: learn.bundle,
            options: &options,
            store,
            preprocessing: &wire,
            stop,
            clock: clock.clone(),
        };
        match learn.test(&forward, set, samples, &encoded.values, printer)? {
            Some((measured, tested, told)) => {
                test = Some(measured);
                pass = pass.plus(tested);
                warnings.extend(told);
            }
            None => interrupted = true,
        }
    }
    printer.warn_once(&warnings);
    let mut delta_bytes = 0;
    if let (Some(encoded), false) = (&encoded, interrupted) {
        let provenance = recipe.delta.provenance(job.created_unix_s, recipe_hash.into());
        delta_bytes = learn.save(encoded, validation.as_ref(), test.as_ref(), provenance)?;
    }
    let measured = test.clone().or(validation.clone());
    let report = Report::new(Parts {
        bundle: learn.bundle,
        outcome: &outcome,
        solved,
        interrupted,
        split: &data.split,
        findings: &data.findings,
        skipped: &data.skipped,
        pass,
        cache_bytes,
        delta_bytes,
        encoded: encoded.as_ref(),
        recipe: recipe_text,
        recipe_hash: recipe_hash.into(),
        validation,
        test,
        test_samples_in_data: data.test_samples_in_data,
        plan,
        seed: settings.seed,
        onnxruntime: &library.version,
        seconds: clock(),
        watch: &watch,
        predicted_private_bytes: predicted,
    });
    Ok(Some(Trained { interrupted, report, measured, went_on: known.is_some() }))
}

/// The checkpoint beside a delta.
pub fn checkpoint_path(out: &Path) -> PathBuf {
    let mut path = out.as_os_str().to_owned();
    path.push(".checkpoint");
    path.into()
}

/// The learning part of a run and its measurements.
struct Learn<'a> {
    job: &'a Job<'a>,
    bundle: &'a Bundle,
    data: &'a Data,
    settings: &'a Settings,
    options: &'a engine::Options,
    /// Whether the first values, of a head that was trained before, are a result already.
    keep_start: bool,
    /// When `--budget-time` is over.
    until_s: Option<f64>,
    stop: &'a AtomicBool,
}

impl Learn<'_> {
    fn fit(&self, features: &mut Features, clock: &dyn Fn() -> f64, printer: &Printer) -> Result<Outcome> {
        let checkpoint = checkpoint_path(self.job.out);
        if checkpoint.exists() && !self.job.resume {
            let path = checkpoint.display();
            printer.note(format!("beginning anew; {path} is of an interrupted run that --resume would go on with"));
        }
        let first = self.first(features, clock, printer)?;
        if self.stop.load(Ordering::Relaxed) {
            // A checkpoint of now would be one of a head that begins with zeros.
            return Ok(Outcome::without_steps(Vec::new(), End::Interrupted));
        }
        let samples = self.data.split.train.len();
        let epochs = self.settings.epochs_begun(samples);
        let progress = printer.progress("training", self.settings.total_steps(samples), "steps");
        let mut around = Around {
            checkpoint: Some(&checkpoint),
            resume: self.job.resume,
            keep_start: self.keep_start,
            first,
            until_s: self.until_s,
            stop: self.stop,
            clock,
            tell: &mut |event| summary::step(&progress, epochs, event),
        };
        let (data, settings) = (self.data, self.settings);
        let outcome = fit::fit(self.bundle, features, data.labels(), &data.split, settings, self.options, &mut around);
        progress.end();
        let outcome = outcome?;
        if let Some((before, last)) = fit::still_falls(&outcome) {
            let (more, rate) = (2 * epochs, 3.0 * settings.learning_rate);
            printer.note(format!(
                "the training loss still falls ({before:.4} → {last:.4} in the last epoch): try --epochs {more}, or --lr {rate}"
            ));
        }
        Ok(outcome)
    }

    /// A fresh head in closed form with all else as it is: what steps begin with, unless they are to begin from zero, from
    /// another delta, from a plan or from a checkpoint.
    fn first(
        &self,
        features: &mut Features,
        clock: &dyn Fn() -> f64,
        printer: &Printer,
    ) -> Result<Option<Vec<Vec<f32>>>> {
        let Job { recipe, resume, out, .. } = self.job;
        let goes_on = *resume && checkpoint_path(out).exists();
        if recipe.solver.is_some() || recipe.from.is_some() || self.until_s.is_some() || self.keep_start || goes_on {
            return Ok(None);
        }
        let (labels, split) = (self.data.labels(), &self.data.split);
        let tell = &mut |_: usize| {};
        let mut around = solve::Around { stop: self.stop, clock, tell };
        let loss = &self.settings.loss;
        let first = solve::start(self.bundle, features, labels, split, loss, self.options, &mut around)?;
        if first.is_some() {
            printer
                .note("start     the head in closed form; gradient steps go on from there (--solver steps: from zero)");
        }
        Ok(first)
    }

    /// The values that a solver finds, in the form of a run without epochs.
    fn solve(
        &self,
        settings: &solve::Settings,
        features: &mut Features,
        clock: &dyn Fn() -> f64,
        printer: &Printer,
    ) -> Result<(Outcome, Option<Solved>)> {
        let settings = solve::Settings { loss: self.settings.loss.clone(), ..settings.clone() };
        let progress = printer.progress("features", self.data.split.train.len() as u64, "samples");
        let tell = &mut |read: usize| progress.at(read as u64, String::new());
        let mut around = solve::Around { stop: self.stop, clock, tell };
        let (labels, split) = (self.data.labels(), &self.data.split);
        let solved = solve::solve(self.bundle, features, labels, split, &settings, self.options, &mut around);
        progress.end();
        let solved = match solved {
            Err(train::Error::NoClosedForm { problem, .. }) if self.job.recipe.solver.is_none() => {
                printer.note(format!("the head learns by gradient steps: {problem}"));
                return Ok((self.fit(features, clock, printer)?, None));
            }
            solved => solved?,
        };
        let parameters = solved.as_ref().map_or_else(Vec::new, |solved| solved.parameters.clone());
        let end = if solved.is_some() { End::Finished } else { End::Interrupted };
        Ok((Outcome::without_steps(parameters, end), solved))
    }

    /// The values before training, in fp16.
    fn first_values(&self) -> Vec<Vec<f32>> {
        rounded(&self.bundle.parameters.iter().map(|parameter| parameter.initial.clone()).collect::<Vec<_>>())
    }

    /// The learned values as they will ship, and what the first ones and these show on the validation samples.
    fn encode(
        &self,
        features: &mut Features,
        (outcome, solved): (&Outcome, Option<&Solved>),
        printer: &Printer,
    ) -> Result<(Encoded, Option<BeforeAfter>)> {
        let (split, parameters, loss) = (&self.data.split, &self.bundle.parameters, &self.settings.loss);
        let left_out = solved.and_then(|solved| solved.left_out.clone());
        let samples = if left_out.is_some() { &split.train } else { &split.validation };
        let mut tail = match samples.is_empty() {
            true => None,
            false => Some(engine::Session::from_file(&self.bundle.tail, self.options)?),
        };
        let mut measure = |values: &[Vec<f32>]| -> Result<Option<Metrics>> {
            let Some(tail) = &mut tail else { return Ok(None) };
            let fed = evaluate::fed(parameters, values);
            Ok(Some(evaluate::evaluate(tail, features, samples, &fed, self.data.labels(), loss)?))
        };
        let before = measure(&self.first_values())?;
        let validated = solved.and_then(|solved| solved.validated.as_ref());
        let validated = validated.map(|values| measure(&rounded(values))).transpose()?.flatten();
        let asked = &self.job.recipe.delta;
        let how = (asked.encoding(), asked.max_loss_increase, loss);
        let encoded = encoding::encode(&outcome.parameters, how, &mut measure, printer)?;
        let after = left_out.or(validated).or(encoded.metrics.clone());
        let labels = self.data.labels();
        let compared = before.zip(after).map(|(before, after)| self.compared(before, after, (labels, samples)));
        Ok((encoded, compared))
    }

    /// What was measured on some samples with the first values and the last, beside what the commonest answer shows.
    fn compared(&self, first: Metrics, after: Metrics, measured: (&Labels, &[usize])) -> BeforeAfter {
        let trained = (self.data.labels(), &self.data.split.train[..]);
        let commonest = baseline::constant(trained, measured, &self.settings.loss);
        BeforeAfter::new(first, after, commonest, self.bundle.parameters.iter().any(|parameter| parameter.fresh))
    }

    /// Before and after on test samples, with what the body did and the cache's warnings; `None` if it was stopped.
    fn test(
        &self,
        forward: &Forward<'_>,
        test: &Arc<Dataset>,
        samples: &[usize],
        after: &[Vec<f32>],
        printer: &Printer,
    ) -> Result<Option<(BeforeAfter, Pass, Vec<String>)>> {
        let (before, loss) = (self.first_values(), &self.settings.loss);
        let Some(measured) = forward.measure("testing", test, samples, (&[&before, after], loss), printer)? else {
            return Ok(None);
        };
        let [before, after] = measured.found.try_into().expect("as many as sets of values");
        let compared = self.compared(before, after, (test.labels(), samples));
        Ok(Some((compared, measured.pass, measured.warnings)))
    }

    /// Writes the delta and gives its size. Only then is the checkpoint of no more use.
    fn save(
        &self,
        encoded: &Encoded,
        validation: Option<&BeforeAfter>,
        test: Option<&BeforeAfter>,
        provenance: Provenance<'_>,
    ) -> Result<u64> {
        let about = About {
            loss: &self.settings.loss,
            preprocessing: &self.data.preprocessing,
            labels: self.data.labels(),
            train: &self.data.split.train,
            validation: validation.map(|measured| (&measured.before, &measured.after)),
            test: test.map(|measured| (&measured.before, &measured.after)),
            provenance,
        };
        let bytes = artifact::encode(self.bundle, &encoded.payloads, &about)?;
        artifact::save(self.job.out, &bytes)?;
        checkpoint::remove(&checkpoint_path(self.job.out))?;
        tracing::info!(out = %self.job.out.display(), bytes = bytes.len(), "wrote the delta");
        Ok(bytes.len() as u64)
    }
}

/// Values as fp16 holds them.
fn rounded(values: &[Vec<f32>]) -> Vec<Vec<f32>> {
    values.iter().map(|values| evaluate::rounded(values)).collect()
}

/// The model's inputs by name.
pub fn inputs_of(base: &Base) -> Vec<(String, TensorType)> {
    let graph = &base.graph;
    graph.inputs.iter().filter_map(|id| Some((graph.value_name(*id).to_string(), graph.ty(*id)?.clone()))).collect()
}

/// Output, width and head that a recipe and the data's labels ask for.
fn target<'a>(recipe: &'a Recipe, labels: &Labels) -> Target<'a> {
    let width = match labels {
        Labels::Values(rows) => Some(rows.ncols() as u64),
        // A language model keeps its vocabulary.
        Labels::NextTokens(_) => None,
        labels => Some(labels.names().len() as u64),
    };
    let activation = Some(settings::loss(recipe.loss, None).activation());
    Target { output: recipe.output.as_deref(), width, head: settings::head(recipe.head), activation }
}

/// The bundle for a recipe and the data's labels.
pub fn bundle(base: &Base, recipe: &Recipe, labels: &Labels, bundles: &Path) -> Result<Bundle> {
    Ok(prepare::write(base, divided(base, recipe, labels)?, bundles)?)
}

/// The base divided for a recipe and the data's labels.
pub(super) fn divided(base: &Base, recipe: &Recipe, labels: &Labels) -> Result<Divided> {
    let Target { output, width, head, activation } = target(recipe, labels);
    let request = Request {
        output,
        selections: &settings::selections(recipe)?,
        method: recipe.change.method(),
        places: recipe.change.places()?,
        seed: recipe.seed.unwrap_or(0),
        width,
        head,
        activation,
    };
    base.refuse_fixed_batch()?;
    Ok(prepare::divide(adapter::install(base.graph.clone(), &request)?)?)
}

fn describe(bundle: &Bundle, split: &Split, printer: &Printer) {
    let cut: Vec<String> = bundle.features.iter().map(|(name, ty)| format!("{name} {ty}")).collect();
    printer.note(summary::output(bundle));
    let how = match bundle.method {
        Some(method) if method.kind.low_rank() => {
            format!(" ({}, rank {}, alpha {})", method.kind, method.rank, method.alpha)
        }
        Some(method) => format!(" ({})", method.kind),
        None => String::new(),
    };
    printer.note(format!("learns    {} values in {} tensors{how}", bundle.parameter_count(), bundle.parameters.len()));
    printer.note(format!("features  {}", cut.join(", ")));
    printer.note(format!("samples   {} to train, {} to validate", split.train.len(), split.validation.len()));
}
