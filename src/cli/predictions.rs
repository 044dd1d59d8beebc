//! Answers of a model with an adapter, as `predict` and `demo` show them.

use super::args::{Compute, Global};
use super::forward::Forward;
use super::print::Printer;
use super::run::inputs_of;
use super::samples;
use crate::data::{Dataset, Target};
use crate::delta::Task;
use crate::train::artifact::Adapter;
use crate::train::evaluate;
use crate::train::features::Store;
use crate::train::prepare::Base;
use anyhow::Result;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

/// Samples that the demo predicts at the end.
const DEMONSTRATED: usize = 5;

/// One sample's answer.
#[derive(Debug, Serialize)]
pub struct Prediction {
    /// The sample.
    pub input: String,
    /// The likeliest classes; for label sets, every class with its own probability.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<Scored>,
    /// Predicted numbers, for regression.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<f32>,
}

/// A class and how likely it is.
#[derive(Debug, Serialize)]
pub struct Scored {
    /// The class.
    pub name: String,
    /// Between 0 and 1.
    pub probability: f32,
}

/// Runs body and tail over the samples, whose features are forgotten afterwards; `None` if it was stopped.
pub fn predict(
    (adapter, base, bundles): (&Adapter, &Base, &Path),
    dataset: &Arc<Dataset>,
    top: usize,
    compute: &Compute,
    stop: &AtomicBool,
    printer: &Printer,
) -> Result<Option<Vec<Prediction>>> {
    let began = Instant::now();
    let (bundle, values) = adapter.bundle(base, bundles)?;
    let forward = Forward {
        bundle: &bundle,
        options: &compute.options(),
        store: Store::Memory,
        preprocessing: &[],
        stop,
        clock: Arc::new(move || began.elapsed().as_secs_f64()),
    };
    let all: Vec<usize> = (0..dataset.len()).collect();
    let Some(mut answers) = forward.run("predicting", dataset, &all, &[&values], printer)? else { return Ok(None) };
    let regression = adapter.task == Task::Regression;
    let answer = |(sample, logits): (usize, Vec<f32>)| Prediction {
        input: dataset.name(sample),
        classes: if regression { vec![] } else { scored(adapter, &logits, top) },
        values: if regression { logits } else { vec![] },
    };
    Ok(Some(answers.found.remove(0).into_iter().enumerate().map(answer).collect()))
}

/// The likeliest classes that logits mean; for label sets, all of them.
pub fn scored(adapter: &Adapter, logits: &[f32], top: usize) -> Vec<Scored> {
    let multiple = adapter.task == Task::MultiLabel;
    let probabilities = if multiple {
        logits.iter().map(|logit| 1.0 / (1.0 + (-logit).exp())).collect()
    } else {
        evaluate::softmax(logits)
    };
    let name = |index: usize| adapter.labels.get(index).cloned().unwrap_or_else(|| index.to_string());
    let mut scored: Vec<Scored> = probabilities
        .into_iter()
        .enumerate()
        .map(|(index, probability)| Scored { name: name(index), probability })
        .collect();
    if !multiple {
        scored.sort_by(|one, other| other.probability.total_cmp(&one.probability));
        scored.truncate(top);
    }
    scored
}

/// Reads the delta back and predicts a few test samples of different classes with it: file, class, probability.
pub fn show(
    delta: &Path,
    (model, test): (&Path, &Path),
    compute: &Compute,
    (global, printer): (&Global, &Printer),
    stop: &AtomicBool,
) -> Result<Option<Vec<(String, String, f32)>>> {
    let adapter = Adapter::read(delta)?;
    let base = Base::read(model)?;
    let mut files = Vec::new();
    for class in adapter.labels.iter().take(DEMONSTRATED) {
        let mut images: Vec<PathBuf> =
            std::fs::read_dir(test.join(class))?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
        images.sort();
        files.extend(images.into_iter().next());
    }
    let reading = samples::Reading::default();
    let options = samples::options(adapter.preprocessing, reading, &inputs_of(&base), Target::Classes, None);
    let (dataset, _) = Dataset::open_unlabelled(&files, &options)?;
    let known = (&adapter, &base, &*global.bundles()?);
    let Some(predictions) = predict(known, &Arc::new(dataset), 1, compute, stop, printer)? else {
        return Ok(None);
    };
    let best = |mut prediction: Prediction| {
        let best = prediction.classes.pop()?;
        Some((prediction.input, best.name, best.probability))
    };
    Ok(Some(predictions.into_iter().filter_map(best).collect()))
}
