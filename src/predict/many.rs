//! Many samples at once: body and tail over a data set, block by block.

use super::answers::Prediction;
use crate::data::{Dataset, Grid, Preprocessing, Target};
use crate::delta::Task;
use crate::graph::Tensor;
use crate::learn::{Context, Forward, samples};
use crate::recipe::Error;
use crate::task::{self, Asked, Pixels};
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
        if task::of_wire(self.adapter.task).target == Target::Pixels {
            let mut all = Vec::new();
            let done = self.masks(context, &mut |_, prediction| {
                all.push(prediction);
                Ok(())
            })?;
            return Ok(done.then_some(all));
        }
        let (bundle, values) = self.adapter.bundle(self.base, &context.folders.bundles()?)?;
        let options = context.computing.options();
        let forward = Forward { context, bundle: &bundle, options: &options, preprocessing: &self.preprocessing };
        let all: Vec<usize> = (0..self.dataset.len()).collect();
        let Some(mut answers) = forward.run("predicting", &self.dataset, &all, &[&values])? else { return Ok(None) };
        context.observer.warn_once(&answers.warnings);
        let boxes = self.adapter.task == Task::Detection;
        let grid = boxes.then(|| samples::grid_of(self.base)).transpose()?;
        let outputs = answers.found.remove(0).into_iter().enumerate();
        Ok(Some(outputs.map(|(sample, output)| self.prediction(sample, output, None, grid.as_ref())).collect()))
    }

    /// Hands each sample's number and answer to `take` as soon as it is there, for a class each pixel: masks of all pictures would not fit into
    /// memory. `false` if it was stopped.
    ///
    /// # Errors
    /// As [`Samples::predict`]; what `take` returns.
    pub fn masks(
        &self,
        context: &Context<'_>,
        take: &mut dyn FnMut(usize, Prediction) -> Result<(), Error>,
    ) -> Result<bool, Error> {
        let (bundle, values) = self.adapter.bundle(self.base, &context.folders.bundles()?)?;
        let options = context.computing.options();
        let forward = Forward { context, bundle: &bundle, options: &options, preprocessing: &self.preprocessing };
        let all: Vec<usize> = (0..self.dataset.len()).collect();
        let each = &mut |sample: usize, output: Tensor| {
            let pixels = pixels(&self.preprocessing, &output);
            take(sample, self.prediction(sample, output.to_f32().unwrap_or_default(), pixels, None))
        };
        let warnings = forward.each_output("predicting", (&self.dataset, &all), &values, each)?;
        warnings.iter().for_each(|warnings| context.observer.warn_once(warnings));
        Ok(warnings.is_some())
    }

    fn prediction(&self, sample: usize, output: Vec<f32>, pixels: Option<Pixels>, grid: Option<&Grid>) -> Prediction {
        let text = self.dataset.text(sample).map(String::from);
        let asked = Asked {
            names: &self.adapter.labels,
            top: self.top,
            words: self.dataset.words(sample),
            text: text.as_deref().unwrap_or_default(),
            pixels,
            picture: grid.zip(self.dataset.pixels(sample)),
        };
        let answer = (task::of_wire(self.adapter.task).answer)(&asked, output);
        let [from, to] = self.dataset.when(sample).map_or([None, None], |when| when.map(Some));
        Prediction { input: self.dataset.name(sample), from, to, text, answer, mask: None, nearest: None }
    }
}

/// The sizes of a sample's scores, `[1, classes, height, width]`, and of the picture that they are of.
pub(super) fn pixels(preprocessing: &Preprocessing, output: &Tensor) -> Option<Pixels> {
    let [_, _, height, width] = output.shape[..] else { return None };
    let seen = match preprocessing {
        Preprocessing::Image(image) => [image.height.into(), image.width.into()],
        _ => [height, width],
    };
    Some(Pixels { scores: [height, width], seen })
}
