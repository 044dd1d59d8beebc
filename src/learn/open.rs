//! The first stage: model and data are read, and what does not go together is refused.

use super::context::Context;
use super::sets::{Data, Sources};
use super::{Job, samples, settings};
use crate::engine;
use crate::host::{EnergyWatch, MemoryWatch, available_bytes};
use crate::recipe::{Error, Recipe, refuse};
use crate::train::artifact::Adapter;
use crate::train::fit::Settings;
use crate::train::loss::Loss;
use crate::train::prepare::Base;
use crate::train::solve;
use crate::train::trial::Trial;
use std::path::{Path, PathBuf};

/// Model and data of a training, with the settings that follow from the recipe and from them: what all later stages share.
pub struct Opened<'a> {
    pub(super) job: &'a Job,
    /// What surrounds the training.
    pub context: &'a Context<'a>,
    /// The loaded library's version.
    pub(super) runtime_version: String,
    /// The model.
    pub base: Base,
    /// The delta that is gone on from.
    pub(super) known: Option<Adapter>,
    /// The recipe as it is used from here on.
    pub recipe: Recipe,
    /// The recipe as it was written, whether a training goes on from a delta or not, in the one form that all have who mean the same.
    pub(super) recipe_text: String,
    /// How gradient steps are made.
    pub settings: Settings,
    /// The solver that the recipe names.
    pub(super) solver: Option<solve::Settings>,
    /// The samples, and which of them train.
    pub data: Data,
    /// How ONNX Runtime computes.
    pub options: engine::Options,
    /// Whether how weights are held is left to edgetune.
    pub(super) is_balanced: bool,
    /// Memory that may still be taken, where the system tells.
    pub(super) available_bytes: Option<u64>,
    pub(super) watch: MemoryWatch,
    /// The machine's energy, where it measures that itself.
    pub(super) energy: Option<EnergyWatch>,
}

impl<'a> Opened<'a> {
    /// Reads the recipe's model and data. What needs neither is refused first.
    ///
    /// # Errors
    /// Settings that do not go together, or not with the model or the data; a file that cannot be read.
    pub fn open(job: &'a Job, context: &'a Context<'a>) -> Result<Self, Error> {
        let (watch, energy) = (MemoryWatch::start(), EnergyWatch::start(Path::new("/")));
        let observer = context.observer;
        let mut recipe = job.recipe.clone();
        let known = recipe.from.as_deref().map(Adapter::read).transpose()?;
        if let Some(adapter) = &known {
            settings::go_on(&mut recipe, adapter)?;
        }
        settings::name_own_loss(&mut recipe)?;
        recipe.settings()?;
        let Some(model) = recipe.model.clone() else { refuse!("no model: name one, or a recipe with `model = …`") };
        refuse_to_resume(job, &recipe)?;
        let library = engine::load(&context.runtime)?;
        let read = || Base::read_with(&model, recipe.batch_axis);
        let mut base = observer.during(format!("reading {}", model.display()), read)?;
        let own = settings::read_own_loss(&mut recipe)?;
        let written = written(job, &recipe, own.is_some());
        tracing::info!(model = %model.display(), hash = %base.short_hash(), nodes = base.graph.nodes.len(), "read the base");
        // The loss that the model calls for decides several defaults.
        settings::tell_of_measured(&recipe, observer);
        let mut recipe = settings::with_loss(recipe, &base)?;
        let mut settings = recipe.settings()?;
        if let Some(own) = &own {
            settings.loss = Loss::File(own.clone());
        }
        let recipe_text = settings::with_loss(written, &base)?.normal().text();
        let (given, out) = (job.given.as_ref(), job.out.as_deref());
        let sources = Sources { recipe: &recipe, given, known: known.as_ref(), own: own.as_ref(), out };
        let data = Data::open(sources, &base, observer)?;
        settings::fit_to_masks(&mut settings.loss, &mut base, &data);
        samples::refuse_skipped(&data.skipped, job.no_skip)?;
        settings::weigh(&mut settings, &recipe, data.labels(), &data.split)?;
        let mut computing = context.computing;
        computing.memory = computing.memory.or(recipe.memory);
        let options = computing.options();
        let trial = Trial {
            base: &base,
            output: job.recipe.output.as_deref(),
            activation: Some(settings.loss.activation()),
            bundles: &context.folders.bundles()?,
            store: context.store(),
            options: &options,
            stop: context.stop,
            clock: context.clock.clone(),
        };
        data.settle_head(&mut recipe, &settings.loss, &trial, observer)?;
        let solver = recipe.solver(&settings.loss, known.as_ref().map_or(0, |adapter| adapter.labels.len()))?;
        let (runtime_version, is_balanced) = (library.version.clone(), computing.is_balanced());
        let available_bytes = available_bytes(Path::new("/"));
        #[rustfmt::skip]
        let opened = Self {
            job, context, runtime_version, base, known, recipe, recipe_text, settings, solver, data, options, is_balanced,
            available_bytes, watch, energy,
        };
        Ok(opened)
    }

    /// Where the checkpoint lies.
    pub(super) fn checkpoint(&self) -> Option<PathBuf> {
        self.job.out.as_deref().map(checkpoint_path)
    }
}

/// The recipe as it was written, with what the loss's own file and a delta that is gone on from add to it.
fn written(job: &Job, recipe: &Recipe, has_own_loss: bool) -> Recipe {
    Recipe {
        loss_hash: recipe.loss_hash.clone(),
        loss: recipe.loss.filter(|_| has_own_loss).or(job.recipe.loss),
        batch_axis: recipe.batch_axis,
        ..job.recipe.clone()
    }
}

/// The checkpoint beside a delta.
pub fn checkpoint_path(out: &Path) -> PathBuf {
    let mut path = out.as_os_str().to_owned();
    path.push(".checkpoint");
    path.into()
}

/// What has no checkpoint to go on from.
fn refuse_to_resume(job: &Job, recipe: &Recipe) -> Result<(), Error> {
    if job.resume && recipe.closed_form() {
        refuse!(
            "setting `resume`: setting `solver` has no checkpoint to go on from, its features are in the cache; remove setting `resume`"
        );
    }
    if job.resume && recipe.budgets()?.is_some() {
        refuse!(
            "setting `resume`: a plan may choose differently now; give the setting `train` and setting `batch` that the first run printed"
        );
    }
    Ok(())
}
