//! The fourth stage: values are learned, by a solver at once or by gradient steps.

use super::budget;
use super::division;
use super::observer::tell_of_step;
use super::prepare::Prepared;
use super::retention::Watched;
use crate::amounts::counted;
use crate::data::Labelled;
use crate::recipe::{Error, Rate};
use crate::train;
use crate::train::features::{Features, Pass, Source};
use crate::train::fit::{self, Around, End, Outcome};
use crate::train::loss::Loss;
use crate::train::solve::{self, Solved, projection};

/// A training whose values are learned, or that was stopped on the way.
pub struct Learned<'a> {
    pub(super) prepared: Prepared<'a>,
    pub(super) features: Features,
    pub(super) outcome: Outcome,
    /// What a solver found, where one was used.
    pub(super) solved: Option<Solved>,
    /// What the body did for features that are of no more use.
    pub(super) earlier: Pass,
    /// What is wrong with the cache.
    pub(super) warnings: Vec<String>,
    /// What the base knew before.
    pub(super) watched: Option<Watched>,
}

impl<'a> Prepared<'a> {
    /// Learns.
    ///
    /// # Errors
    /// A sample that cannot be loaded; a loss that stops being a number; what ONNX Runtime refuses.
    pub fn learn(mut self) -> Result<Learned<'a>, Error> {
        self.refuse_uncalibrated()?;
        let split = self.opened.data.learning();
        let train = &self.opened.data.split.train;
        let mut order = fit::order(self.opened.data.labels(), train, self.opened.settings.seed, 0);
        order.extend(&split.validation);
        if let Some(retained) = &self.opened.data.retained {
            order.extend(retained.replayed.iter().chain(&retained.measured));
        }
        let mut features = self.features(&order)?.telling(self.opened.context.observer.body_pass());
        let (cached, missing) = (features.pass().found, order.len() - features.pass().found);
        tracing::info!(cached, missing, "looked up features");
        drop(order);
        self.project(&mut features)?;
        self.refuse_other_cut(&features)?;
        self.choose_rate(&mut features)?;
        let (mut outcome, mut solved) = match (&self.solver, &self.plan) {
            (Some(solver), _) => self.solve(solver, &mut features)?,
            // The plan has trained the head already.
            (None, Some(plan)) if !self.keep_start => (plan.head_outcome.clone(), None),
            _ => (self.fit(&mut features)?, None),
        };
        if outcome.end == End::OutOfTime {
            let epoch = outcome.history.len().max(1);
            self.opened.context.observer.note(&format!("setting `budget-time` is over: ended in epoch {epoch}"));
        }
        let watched = match outcome.end {
            End::Interrupted => None,
            _ => self.rewind(&mut features, &mut outcome, &mut solved)?,
        };
        let (earlier, warnings) = (Pass::default(), Vec::new());
        let learned = Learned { prepared: self, features, outcome, solved, earlier, warnings, watched };
        if learned.outcome.end == End::Interrupted {
            return Ok(learned);
        }
        let learned = if learned.prepared.keep_start {
            budget::print_verdict(&learned.outcome, learned.prepared.opened.context.observer);
            if learned.outcome.best_epoch == 0 { learned.with_head_alone()? } else { learned }
        } else {
            learned
        };
        learned.tell_the_same();
        Ok(learned)
    }

    pub(super) fn features(&self, samples: &[usize]) -> Result<Features, Error> {
        let (opened, context) = (&self.opened, self.opened.context);
        let (data, clock) = (&opened.data, context.clock.clone());
        let source = Source { dataset: data.train.clone(), order: samples, preprocessing: &data.preprocessing };
        Ok(Features::open(&self.bundle, source, context.store(), &opened.options, clock)?)
    }

    /// A fresh layer of vectors begins with what keeps directions apart; that is what training is compared with.
    fn project(&mut self, features: &mut Features) -> Result<(), Error> {
        let (opened, context) = (&self.opened, self.opened.context);
        if !matches!(opened.settings.loss, Loss::Likeness { .. }) || opened.known.is_some() {
            return Ok(());
        }
        let started = projection::start(&self.bundle, features, &opened.data.split, &opened.options, context.stop)?;
        if let Some((first, told)) = started {
            context.observer.note(&format!("start     {told}"));
            self.bundle.parameters.iter_mut().zip(first).for_each(|(parameter, first)| parameter.initial = first);
        }
        Ok(())
    }

    /// By gradient steps.
    fn fit(&self, features: &mut Features) -> Result<Outcome, Error> {
        let (opened, context, resume) = (&self.opened, self.opened.context, self.opened.job.resume);
        let checkpoint = opened.checkpoint();
        if let Some(path) = checkpoint.as_ref().filter(|path| path.exists() && !resume) {
            let path = path.display();
            context.observer.note(&format!(
                "beginning anew; {path} is of an interrupted run that setting `resume` would go on with"
            ));
        }
        let first = self.first(features)?;
        if context.is_stopped() {
            // A checkpoint of now would be one of a head that begins with zeros.
            return Ok(Outcome::without_steps(Vec::new(), End::Interrupted));
        }
        let mut settings = self.holding()?;
        if opened.job.recipe.lr == Some(Rate::Auto) {
            settings.learning_rate = self.rate_of_range(&settings, first.as_deref(), features)?;
        }
        let (data, settings) = (&opened.data, &settings);
        let split = &data.learning();
        let learned = Labelled { labels: data.labels(), split };
        let samples = split.train.len();
        let epochs = settings.epochs_begun(samples);
        let progress = context.observer.progress("training", settings.total_steps(samples), "steps");
        let mut around = Around {
            checkpoint: checkpoint.as_deref(),
            resume,
            keep_start: self.keep_start,
            first,
            until_s: self.until_s,
            stop: context.stop,
            clock: &*context.clock,
            tell: &mut |event| tell_of_step(&*progress, epochs, event),
        };
        let outcome = fit::fit(&self.bundle, features, learned, settings, &opened.options, &mut around);
        progress.end();
        let outcome = outcome?;
        if let Some((before, last)) = fit::still_falls(&outcome) {
            let (more, rate) = (2 * epochs, 3.0 * settings.learning_rate as f32);
            context.observer.note(&format!(
                "the training loss still falls ({before:.4} → {last:.4} in the last epoch): try setting `epochs = {more}`, or setting `lr = {rate}`"
            ));
        }
        Ok(outcome)
    }

    /// A fresh head in closed form with all else as it is: what steps begin with, unless they are to begin from zero, from
    /// another delta, from a plan or from a checkpoint.
    fn first(&self, features: &mut Features) -> Result<Option<Vec<Vec<f32>>>, Error> {
        let (opened, context) = (&self.opened, self.opened.context);
        let recipe = &opened.job.recipe;
        // A range test begins where the run began that a checkpoint is of.
        let tests_rates = recipe.lr == Some(Rate::Auto);
        let goes_on = !tests_rates && opened.job.resume && opened.checkpoint().is_some_and(|path| path.exists());
        let (split, loss) = (&opened.data.learning(), &opened.settings.loss);
        let is_likeness = matches!(loss, Loss::Likeness { .. });
        // Vectors of zeros have no direction that could learn.
        if (recipe.solver.is_some() && !is_likeness) || recipe.from.is_some() || self.keep_start || goes_on {
            return Ok(None);
        }
        let mut around = solve::Around {
            until_s: self.until_s,
            stop: context.stop,
            clock: &*context.clock,
            tell: &mut |_: usize| {},
        };
        if is_likeness {
            return Ok(Some(self.bundle.parameters.iter().map(|parameter| parameter.initial.clone()).collect()));
        }
        let learned = Labelled { labels: opened.data.labels(), split };
        let first = solve::start(&self.bundle, features, learned, loss, &opened.options, &mut around)?;
        if first.is_some() {
            context
                .observer
                .note("start     the head in closed form; gradient steps go on from there (setting `solver = steps`: from zero)");
        }
        Ok(first)
    }

    /// The values that a solver finds, in the form of a run without epochs.
    fn solve(&self, settings: &solve::Settings, features: &mut Features) -> Result<(Outcome, Option<Solved>), Error> {
        let (opened, context) = (&self.opened, self.opened.context);
        // A set that is given to validate with is never learned from.
        let refit = settings.refit && opened.recipe.val.is_none();
        let settings = solve::Settings { loss: opened.settings.loss.clone(), refit, ..settings.clone() };
        let split = &opened.data.learning();
        let learned = Labelled { labels: opened.data.labels(), split };
        let progress = context.observer.progress("features", split.train.len() as u64, "samples");
        let tell = &mut |read: usize| progress.at(read as u64, "");
        let mut around = solve::Around { until_s: self.until_s, stop: context.stop, clock: &*context.clock, tell };
        let solved = solve::solve(&self.bundle, features, learned, &settings, &opened.options, &mut around);
        progress.end();
        let solved = match solved {
            Err(train::Error::NoClosedForm { problem, .. })
                if opened.job.recipe.solver.is_none() && settings.solver != solve::Solver::Normality =>
            {
                context.observer.note(&format!("the head learns by gradient steps: {problem}"));
                return Ok((self.fit(features)?, None));
            }
            solved => solved?,
        };
        if solved.as_ref().is_some_and(|solved| solved.validated.is_some()) {
            let all = split.train.len() + split.validation.len();
            context.observer.note(&format!(
                "validated by {}, then fitted to all {all}: what is measured of these is of the fit before",
                counted(split.validation.len(), "sample")
            ));
        }
        let parameters = solved.as_ref().map_or_else(Vec::new, |solved| solved.parameters.clone());
        let end = if solved.is_some() { End::Finished } else { End::Interrupted };
        Ok((Outcome::without_steps(parameters, end), solved))
    }
}

impl<'a> Learned<'a> {
    /// Says what a plan's result would have been asked for by. Where time has ended the run, nothing else ends alike.
    fn tell_the_same(&self) {
        let opened = &self.prepared.opened;
        if let Some(plan) = self.prepared.plan.as_ref().filter(|_| self.outcome.end != End::OutOfTime) {
            let steps = self.solved.is_none().then_some(&opened.settings);
            budget::print_same(plan, &opened.recipe.train, steps, opened.context.observer);
        }
    }

    /// A delta of the head alone: what did not learn has no place in it. The head is what it would have been without a plan: where it is
    /// fitted at once, it learns from the validation samples, too, now that they have chosen.
    fn with_head_alone(self) -> Result<Learned<'a>, Error> {
        let Learned { mut prepared, mut features, mut outcome, watched, .. } = self;
        let (earlier, warnings) = (features.pass(), features.take_warnings());
        drop(features);
        let Some(plan) = &prepared.plan else { unreachable!("only a plan trains a head first") };
        let opened = &mut prepared.opened;
        opened.recipe.train.clone_from(&plan.rows[0].train);
        let bundles = opened.context.folders.bundles()?;
        prepared.bundle = division::bundle(&opened.base, &opened.recipe, opened.data.labels(), &bundles)?;
        let values = prepared.bundle.parameters.iter().map(|parameter| plan.head[&parameter.name].clone());
        outcome.parameters = values.collect();
        prepared.solver = prepared.opened.solver_of(&prepared.bundle, false)?;
        let split = &prepared.opened.data.split;
        let Some(solver) = &prepared.solver else {
            let features = prepared.features(&split.validation)?;
            return Ok(Learned { prepared, features, outcome, solved: None, earlier, warnings, watched });
        };
        let mut features = prepared.features(&[&split.train[..], &split.validation].concat())?;
        let (at_once, solved) = prepared.solve(solver, &mut features)?;
        outcome.parameters = at_once.parameters;
        outcome.end = at_once.end;
        Ok(Learned { prepared, features, outcome, solved, earlier, warnings, watched })
    }
}
