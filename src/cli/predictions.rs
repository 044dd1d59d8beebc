//! Answers of a model with an adapter, as `predict` and `demo` show them.

use super::args::{Compute, Global};
use super::forward::Forward;
use super::print::{Printer, number, percent};
use super::run::inputs_of;
use super::samples;
use crate::data::{Dataset, Preprocessing, Target};
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
    /// The sample itself, where it is a text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The likeliest classes; for label sets, every class with its own probability.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<Scored>,
    /// Predicted numbers, for regression.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<f32>,
}

impl Prediction {
    /// The answer in a line.
    pub fn line(&self) -> String {
        let scored = self.classes.iter().map(|class| format!("{} {}", class.name, percent(class.probability.into())));
        let answers: Vec<String> = scored.chain(self.values.iter().map(|value| number((*value).into()))).collect();
        let text = self.text.as_deref().map_or(String::new(), |text| format!("  \"{}\"", shortened(text)));
        format!("{}: {}{text}", self.input, answers.join(", "))
    }
}

/// The beginning of a text, in one line.
fn shortened(text: &str) -> String {
    const SHOWN: usize = 60;
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match words.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &words[..end]),
        None => words,
    }
}

/// Predictions as CSV: a row a sample; classes by rank with their probabilities, for label sets by name, numbers in order.
pub fn table(predictions: &[Prediction], by_name: bool) -> Result<Vec<u8>> {
    let mut writer = csv::WriterBuilder::new().flexible(false).from_writer(Vec::new());
    let with_text = predictions.iter().any(|prediction| prediction.text.is_some());
    let first = predictions.first();
    let (classes, values) = first.map_or((0, 0), |first| (first.classes.len(), first.values.len()));
    let mut header = vec!["input".to_string()];
    header.extend(with_text.then(|| "text".to_string()));
    let numbered = |name: &str, place: usize| if place == 0 { name.into() } else { format!("{name}_{}", place + 1) };
    match first {
        Some(first) if by_name => header.extend(first.classes.iter().map(|class| class.name.clone())),
        _ => header.extend((0..classes).flat_map(|place| [numbered("class", place), numbered("probability", place)])),
    }
    header.extend((0..values).map(|place| numbered("value", place)));
    writer.write_record(&header)?;
    for prediction in predictions {
        let mut row = vec![prediction.input.clone()];
        row.extend(with_text.then(|| prediction.text.clone().unwrap_or_default()));
        for class in &prediction.classes {
            row.extend((!by_name).then(|| class.name.clone()));
            row.push(class.probability.to_string());
        }
        row.extend(prediction.values.iter().map(f32::to_string));
        writer.write_record(&row)?;
    }
    Ok(writer.into_inner()?)
}

/// A class and how likely it is.
#[derive(Debug, Serialize)]
pub struct Scored {
    /// The class.
    pub name: String,
    /// Between 0 and 1.
    pub probability: f32,
}

/// What predicts, and where the features of samples are kept.
pub struct Predictor<'a> {
    /// The model.
    pub base: &'a Base,
    /// What was learned.
    pub adapter: &'a Adapter,
    /// Where bundles are kept.
    pub bundles: &'a Path,
    /// Where features are kept.
    pub store: Store<'a>,
    /// What is done to a sample.
    pub preprocessing: Preprocessing,
}

/// Runs body and tail over the samples; `None` if it was stopped.
pub fn predict(
    predictor: &Predictor<'_>,
    dataset: &Arc<Dataset>,
    top: usize,
    compute: &Compute,
    stop: &AtomicBool,
    printer: &Printer,
) -> Result<Option<Vec<Prediction>>> {
    let began = Instant::now();
    let Predictor { base, adapter, bundles, .. } = *predictor;
    let (bundle, values) = adapter.bundle(base, bundles)?;
    let forward = Forward {
        bundle: &bundle,
        options: &compute.options(),
        store: predictor.store,
        preprocessing: &postcard::to_stdvec(&predictor.preprocessing)?,
        stop,
        clock: Arc::new(move || began.elapsed().as_secs_f64()),
    };
    let all: Vec<usize> = (0..dataset.len()).collect();
    let Some(mut answers) = forward.run("predicting", dataset, &all, &[&values], printer)? else { return Ok(None) };
    printer.warn_once(&answers.warnings);
    let regression = adapter.task == Task::Regression;
    let answer = |(sample, logits): (usize, Vec<f32>)| Prediction {
        input: dataset.name(sample),
        text: dataset.text(sample).map(String::from),
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
    let predictor = Predictor {
        base: &base,
        adapter: &adapter,
        bundles: &global.bundles()?,
        store: Store::Memory,
        preprocessing: adapter.preprocessing,
    };
    let Some(predictions) = predict(&predictor, &Arc::new(dataset), 1, compute, stop, printer)? else {
        return Ok(None);
    };
    let best = |mut prediction: Prediction| {
        let best = prediction.classes.pop()?;
        Some((prediction.input, best.name, best.probability))
    };
    Ok(Some(predictions.into_iter().filter_map(best).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prediction(input: &str, text: Option<&str>, classes: &[(&str, f32)], values: &[f32]) -> Prediction {
        let class = |(name, probability): &(&str, f32)| Scored { name: name.to_string(), probability: *probability };
        Prediction {
            input: input.into(),
            text: text.map(String::from),
            classes: classes.iter().map(class).collect(),
            values: values.to_vec(),
        }
    }

    fn csv(predictions: &[Prediction], by_name: bool) -> String {
        String::from_utf8(table(predictions, by_name).unwrap()).unwrap()
    }

    #[test]
    fn a_table_has_a_row_a_sample_and_quotes_what_needs_it() {
        let texts = [prediction("-:1", Some("good, \"great\""), &[("pos", 0.75), ("neg", 0.25)], &[])];
        let told =
            "input,text,class,probability,class_2,probability_2\n-:1,\"good, \"\"great\"\"\",pos,0.75,neg,0.25\n";
        assert_eq!(csv(&texts, false), told);
        let sets = [prediction("a.png", None, &[("cat", 0.5), ("dog", 1.0)], &[])];
        assert_eq!(csv(&sets, true), "input,cat,dog\na.png,0.5,1\n");
        let numbers = [prediction("t.csv:2", None, &[], &[1.5, -2.0]), prediction("t.csv:3", None, &[], &[0.0, 1.0])];
        assert_eq!(csv(&numbers, false), "input,value,value_2\nt.csv:2,1.5,-2\nt.csv:3,0,1\n");
    }

    #[test]
    fn a_line_shows_the_text_that_was_judged() {
        let text = "word ".repeat(30);
        let line = prediction("text:1", Some(&text), &[("pos", 0.75)], &[]).line();
        assert!(line.starts_with("text:1: pos 75.0 %  \"word word") && line.ends_with("…\""), "{line}");
    }
}
