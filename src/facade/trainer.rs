//! A training as an application asks for it.

use super::runtime;
use crate::cut::Selection;
use crate::data::Labels;
use crate::engine::Provider;
use crate::graph::Tensor;
use crate::host::Folders;
use crate::learn::{self, Computing, Context, Event, Given, Job, Report, Told, Trained};
use crate::recipe::{Error, LossName, Recipe};
use crate::task;
use crate::train::artifact;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Trains the last layers of a model. Every setting has the default that the command line has.
///
/// ```no_run
/// use edgetune::prelude::*;
///
/// # fn main() -> Result<(), edgetune::Error> {
/// let run = Trainer::new("model.onnx").data("photos/").learn("last:2".parse()?).epochs(10).run()?;
/// run.save("A.edelta")?;
/// # Ok(())
/// # }
/// ```
#[must_use = "nothing is learned before `run`"]
pub struct Trainer {
    job: Job,
    computing: Computing,
    runtime: Option<PathBuf>,
    cache: Option<PathBuf>,
    keeps_features: bool,
    observer: Told,
    stop: Arc<AtomicBool>,
}

impl Trainer {
    /// For a model's file.
    pub fn new(model: impl Into<PathBuf>) -> Self {
        Self::from_recipe(Recipe { model: Some(model.into()), ..Recipe::default() })
    }

    /// Trains as a recipe says, which also names the model.
    pub fn from_recipe(recipe: Recipe) -> Self {
        Self {
            job: Job { recipe, ..Job::default() },
            computing: Computing::default(),
            runtime: None,
            cache: None,
            keeps_features: true,
            observer: Told::nobody(),
            stop: Arc::default(),
        }
    }

    /// Learns from labelled data: a folder with one folder a class, a table, arrays or a text file.
    pub fn data(self, path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        self.set(|recipe| recipe.data = Some(path))
    }

    /// Learns from numbers that the application holds: one tensor `[samples, …]` for each input of the model, and what the
    /// samples are. What the labels are decides the loss where none is set.
    pub fn samples(mut self, inputs: Vec<(String, Tensor)>, labels: Labels) -> Self {
        let loss = task::of_labels(&labels).and_then(|task| LossName::named(task.losses[0]));
        self.job.recipe.loss = self.job.recipe.loss.or(loss);
        self.job.given = Some(Given { inputs, labels });
        self
    }

    /// Measures on more labelled data at the end.
    pub fn test(self, path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        self.set(|recipe| recipe.test = Some(path))
    }

    /// What learns: the head, the last layers, or what has a certain name. Several calls select more; without one, the head.
    pub fn learn(self, selection: Selection) -> Self {
        self.set(|recipe| recipe.train.push(selection.to_string()))
    }

    /// Makes so many passes over the training samples, by gradient steps.
    pub fn epochs(self, epochs: u32) -> Self {
        self.set(|recipe| recipe.epochs = Some(epochs))
    }

    /// Decides the split and the order of the samples.
    pub fn seed(self, seed: u64) -> Self {
        self.set(|recipe| recipe.seed = Some(seed))
    }

    /// Changes any setting of the recipe.
    ///
    /// ```no_run
    /// # use edgetune::prelude::*;
    /// let trainer = Trainer::new("model.onnx").set(|recipe| recipe.patience = Some(3));
    /// ```
    pub fn set(mut self, change: impl FnOnce(&mut Recipe)) -> Self {
        change(&mut self.job.recipe);
        self
    }

    /// Writes the delta and, when the training is stopped, a checkpoint beside it, from which [`Trainer::resume`] goes on.
    pub fn out(mut self, path: impl Into<PathBuf>) -> Self {
        self.job.out = Some(path.into());
        self
    }

    /// Goes on from the checkpoint beside [`Trainer::out`].
    pub fn resume(mut self) -> Self {
        self.job.resume = true;
        self
    }

    /// Computes with so many threads; without it, with all cores.
    pub fn threads(mut self, threads: usize) -> Self {
        self.computing.threads = threads;
        self
    }

    /// Computes with another execution provider than the CPU's. What it cannot compute is an error.
    pub fn provider(mut self, provider: Provider) -> Self {
        self.computing.provider = provider;
        self
    }

    /// Loads this ONNX Runtime library; without it, the device's own or edgetune's copy.
    pub fn onnxruntime(mut self, library: impl Into<PathBuf>) -> Self {
        self.runtime = Some(library.into());
        self
    }

    /// Keeps bundles and features in this folder; without it, where the user's caches are.
    pub fn cache(mut self, folder: impl Into<PathBuf>) -> Self {
        self.cache = Some(folder.into());
        self
    }

    /// Keeps the features of samples in memory for this training only.
    pub fn features_in_memory(mut self) -> Self {
        self.keeps_features = false;
        self
    }

    /// Tells `observer` of everything that happens.
    pub fn observe(mut self, observer: impl Fn(&Event<'_>) + 'static) -> Self {
        self.observer = Told::new(observer);
        self
    }

    /// Ends the training after the step in progress once the flag is raised, from any thread.
    pub fn stop_when(mut self, flag: Arc<AtomicBool>) -> Self {
        self.stop = flag;
        self
    }

    /// Trains. Loads ONNX Runtime, once for the process; see [`configure_process`](crate::configure_process), which `main` calls first.
    ///
    /// # Errors
    /// Settings that do not go together or do not fit the model or the data, with the remedy; files that cannot be read or
    /// written; what ONNX Runtime refuses; [`Error::Stopped`] where it was stopped before there was anything to go on from.
    pub fn run(mut self) -> Result<Run, Error> {
        let began = Instant::now();
        let folders = Folders::new(self.cache.as_deref())?;
        let (recipe, note) = self.job.recipe.with_parts()?;
        self.job.recipe = recipe;
        note.iter().for_each(|note| learn::Observer::note(&self.observer, note));
        // A clock that stands before 1970 knows no better than 1970.
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        self.job.created_unix_s = now.map_or(0, |passed| passed.as_secs());
        let context = Context {
            runtime: runtime(self.runtime, &folders),
            folders,
            computing: self.computing,
            keeps_features: self.keeps_features,
            stop: &self.stop,
            clock: Arc::new(move || began.elapsed().as_secs_f64()),
            observer: &self.observer,
        };
        let trained = learn::train(&self.job, &context)?.ok_or(Error::Stopped)?;
        match trained.refused {
            Some(refusal) => Err(Error::Gate(refusal)),
            None => Ok(Run { trained }),
        }
    }
}

/// A training that has ended.
#[derive(Debug)]
pub struct Run {
    trained: Trained,
}

impl Run {
    /// Writes what was learned, as a delta, so that a reader sees the old file or the new one.
    ///
    /// # Errors
    /// [`Error::Stopped`] where the training was stopped, so that there is no delta; a file that cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        Ok(artifact::save(path.as_ref(), self.delta().ok_or(Error::Stopped)?)?)
    }

    /// What was learned, as the bytes of a delta; `None` where the training was stopped.
    pub fn delta(&self) -> Option<&[u8]> {
        Some(&self.trained.delta[..]).filter(|delta| !delta.is_empty())
    }

    /// Everything that was measured.
    pub fn report(&self) -> &Report {
        &self.trained.report
    }
}
