//! Many samples at once: body and tail over a data set, block by block.

use super::answers::Prediction;
use crate::data::{Dataset, Grid, Preprocessing};
use crate::delta::Task;
use crate::learn::{Context, Forward, samples};
use crate::recipe::Error;
use crate::task::{self, Asked};
use crate::train::artifact::Adapter;
use crate::train::prepare::Base;
use std::sync::Arc;

/// Samples, and the model with the adapter that answers them.
pub struct Samples<'a> {
    /// The model.
    pub base: &'a Base,
    /// What was learned.
    pub adapter: &'a Adapter,
    /// What is done to a sample.
    pub preprocessing: Preprocessing,
    /// The samples.
    pub dataset: Arc<Dataset>,
    /// Classes that are told of each, at most.
    pub top: usize,
}

impl Samples<'_> {
    /// The answers, in the order of the samples; `None` if it was stopped.
    ///
    /// # Errors
    /// A sample that cannot be loaded; a delta of another model; what ONNX Runtime refuses.
    pub fn predict(&self, context: &Context<'_>) -> Result<Option<Vec<Prediction>>, Error> {
        let (bundle, values) = self.adapter.bundle(self.base, &context.folders.bundles()?)?;
        let options = context.computing.options();
        let forward = Forward { context, bundle: &bundle, options: &options, preprocessing: &self.preprocessing };
        let all: Vec<usize> = (0..self.dataset.len()).collect();
        let Some(mut answers) = forward.run("predicting", &self.dataset, &all, &[&values])? else { return Ok(None) };
        context.observer.warn_once(&answers.warnings);
        let boxes = self.adapter.task == Task::Detection;
        let grid = boxes.then(|| samples::grid_of(self.base)).transpose()?;
        let outputs = answers.found.remove(0).into_iter().enumerate();
        Ok(Some(outputs.map(|(sample, output)| self.prediction(sample, output, grid.as_ref())).collect()))
    }

    fn prediction(&self, sample: usize, output: Vec<f32>, grid: Option<&Grid>) -> Prediction {
        let text = self.dataset.text(sample).map(String::from);
        let asked = Asked {
            names: &self.adapter.labels,
            top: self.top,
            words: self.dataset.words(sample),
            text: text.as_deref().unwrap_or_default(),
            picture: grid.zip(self.dataset.pixels(sample)),
        };
        let answer = (task::of_wire(self.adapter.task).answer)(&asked, output);
        let [from, to] = self.dataset.when(sample).map_or([None, None], |when| when.map(Some));
        Prediction { input: self.dataset.name(sample), from, to, text, answer }
    }
}
