//! `edgetune predict`: answers of the model with an adapter.

use crate::cli::Done;
use crate::cli::args::{Compute, Global, Samples, data_options, file_bytes};
use crate::cli::print::{Printer, percent};
use crate::cli::run::{inputs_of, tell_skipped};
use crate::data::{Dataset, Target};
use crate::delta::Task;
use crate::engine;
use crate::train::artifact::Adapter;
use crate::train::evaluate;
use crate::train::features::{Features, Store};
use crate::train::prepare::Base;
use anyhow::Result;
use serde::Serialize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

/// Predict with a model and an adapter
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  edgetune predict model.onnx --adapter A.edelta photo.jpg other.png --top 3")]
pub struct Args {
    /// The model that the adapter was trained on
    model: PathBuf,
    /// The adapter
    #[arg(long, value_name = "FILE")]
    adapter: PathBuf,
    /// Files or folders
    #[arg(required = true, value_name = "INPUT")]
    inputs: Vec<PathBuf>,
    /// Classes to show for each sample
    #[arg(long, value_name = "K", default_value_t = 1)]
    top: usize,
    #[command(flatten)]
    samples: Samples,
    #[command(flatten)]
    compute: Compute,
}

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

/// A class and its probability.
#[derive(Debug, Serialize)]
pub struct Scored {
    /// The class.
    pub name: String,
    /// Between 0 and 1.
    pub probability: f32,
}

pub fn run(args: &Args, global: &Global, printer: &Printer) -> Result<Done> {
    let adapter = Adapter::read(&args.adapter)?;
    engine::load(&global.choice())?;
    let base = Base::read(&args.model)?;
    let options = data_options(adapter.preprocessing, &args.samples, &inputs_of(&base), Target::Classes, None);
    let (dataset, skipped) = Dataset::open_unlabelled(&args.inputs, &options)?;
    tell_skipped(&skipped, printer);
    let predictions = predict(&adapter, &base, Arc::new(dataset), args.top, &args.compute, global)?;
    printer.document(&predictions);
    for prediction in &predictions {
        let classes: Vec<String> = prediction
            .classes
            .iter()
            .map(|class| format!("{} {}", class.name, percent(class.probability.into())))
            .collect();
        let values: Vec<String> = prediction.values.iter().map(|value| format!("{value}")).collect();
        printer.text(format!(
            "{}: {}",
            prediction.input,
            classes.iter().chain(&values).cloned().collect::<Vec<_>>().join(", ")
        ));
    }
    Ok(Done::Fully)
}

/// Runs body and tail over the samples.
pub fn predict(
    adapter: &Adapter,
    base: &Base,
    dataset: Arc<Dataset>,
    top: usize,
    compute: &Compute,
    global: &Global,
) -> Result<Vec<Prediction>> {
    let began = Instant::now();
    let (bundle, values) = adapter.bundle(base, &global.bundles()?)?;
    let all: Vec<usize> = (0..dataset.len()).collect();
    let options = compute.options(file_bytes(&base.path));
    let clock = Arc::new(move || began.elapsed().as_secs_f64());
    let mut features = Features::open(&bundle, dataset.clone(), &all, &[], Store::Memory, &options, clock)?;
    let mut tail = engine::Session::from_file(&bundle.tail, &options)?;
    let parameters = evaluate::shipped(&bundle.parameters, &values);
    let rows = evaluate::outputs(&mut tail, &mut features, &all, &parameters)?;
    let answer = |(sample, logits): (usize, Vec<f32>)| Prediction {
        input: dataset.name(sample).into(),
        classes: if adapter.task == Task::Regression { vec![] } else { scored(adapter, &logits, top) },
        values: if adapter.task == Task::Regression { logits } else { vec![] },
    };
    Ok(rows.into_iter().enumerate().map(answer).collect())
}

fn scored(adapter: &Adapter, logits: &[f32], top: usize) -> Vec<Scored> {
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
        scored.truncate(top.max(1));
    }
    scored
}
