//! Answers as a table, and those that the demo shows.

use crate::data::{Dataset, Target, When};
use crate::learn::Context;
use crate::learn::samples::{self, inputs_of};
use crate::predict::{Prediction, Samples};
use crate::recipe::Reading;
use crate::train::artifact::Adapter;
use anyhow::Result;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Samples that the demo predicts at the end.
const DEMONSTRATED: usize = 5;

/// Predictions as CSV: a row a sample; classes by rank with their probabilities, for label sets by name, numbers in order.
pub fn table(predictions: &[Prediction], by_name: bool) -> Result<Vec<u8>> {
    if predictions.iter().any(|prediction| prediction.answer.spans.is_some()) {
        return spans(predictions);
    }
    if predictions.iter().any(|prediction| !prediction.answer.shares.is_empty()) {
        return shares(predictions);
    }
    if predictions.iter().any(|prediction| prediction.answer.boxes.is_some()) {
        return boxes(predictions);
    }
    if predictions.iter().any(|prediction| prediction.answer.transcription.is_some()) {
        return transcriptions(predictions);
    }
    if predictions.iter().any(|prediction| prediction.answer.anomaly.is_some()) {
        return anomalies(predictions);
    }
    if predictions.iter().any(|prediction| prediction.nearest.is_some()) {
        return nearest(predictions);
    }
    let mut writer = csv::WriterBuilder::new().flexible(false).from_writer(Vec::new());
    let with_text = predictions.iter().any(|prediction| prediction.text.is_some());
    let first = predictions.first();
    let (classes, values) = first.map_or((0, 0), |first| (first.answer.classes.len(), first.answer.values.len()));
    let is_series = predictions.iter().any(|prediction| prediction.from.is_some());
    let mut header = vec!["input".to_string()];
    header.extend(is_series.then_some(["from".to_string(), "to".into()]).into_iter().flatten());
    header.extend(with_text.then(|| "text".to_string()));
    let numbered = |name: &str, place: usize| if place == 0 { name.into() } else { format!("{name}_{}", place + 1) };
    match first {
        Some(first) if by_name => header.extend(first.answer.classes.iter().map(|class| class.name.clone())),
        _ => header.extend((0..classes).flat_map(|place| [numbered("class", place), numbered("probability", place)])),
    }
    header.extend((0..values).map(|place| numbered("value", place)));
    writer.write_record(&header)?;
    for prediction in predictions {
        let mut row = vec![prediction.input.clone()];
        let when = [&prediction.from, &prediction.to].into_iter().filter(|_| is_series);
        row.extend(when.map(|when| when.as_ref().map_or_else(String::new, ToString::to_string)));
        row.extend(with_text.then(|| prediction.text.clone().unwrap_or_default()));
        for class in &prediction.answer.classes {
            row.extend((!by_name).then(|| class.name.clone()));
            row.push(class.probability.to_string());
        }
        row.extend(prediction.answer.values.iter().map(f32::to_string));
        writer.write_record(&row)?;
    }
    Ok(writer.into_inner()?)
}

/// Scores of anomalies as CSV: a row a sample.
fn anomalies(predictions: &[Prediction]) -> Result<Vec<u8>> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let when = |when: &Option<When>| when.as_ref().map_or_else(String::new, ToString::to_string);
    writer.write_record(["input", "from", "to", "score", "anomaly"])?;
    for prediction in predictions {
        let (score, anomaly) = (prediction.answer.score.unwrap_or(0.0), prediction.answer.anomaly == Some(true));
        let row = [prediction.input.clone(), when(&prediction.from), when(&prediction.to), score.to_string()];
        writer.write_record(row.into_iter().chain([anomaly.to_string()]))?;
    }
    Ok(writer.into_inner()?)
}

/// Texts as CSV: a row a picture.
fn transcriptions(predictions: &[Prediction]) -> Result<Vec<u8>> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(["input", "transcription", "confidence"])?;
    for prediction in predictions {
        let text = prediction.answer.transcription.as_deref().unwrap_or_default();
        let confidence = prediction.answer.confidence.unwrap_or(0.0).to_string();
        writer.write_record([prediction.input.as_str(), text, &confidence])?;
    }
    Ok(writer.into_inner()?)
}

/// Identities as CSV: a row a sample, without a name where nobody is recognised.
fn nearest(predictions: &[Prediction]) -> Result<Vec<u8>> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(["input", "identity", "nearest", "similarity"])?;
    for prediction in predictions {
        let Some(found) = &prediction.nearest else { continue };
        let identity = found.identity.as_deref().unwrap_or_default();
        writer.write_record([&prediction.input, identity, &found.nearest, &found.similarity.to_string()])?;
    }
    Ok(writer.into_inner()?)
}

/// Shares of the classes of pixels as CSV: a row for each class of a picture.
fn shares(predictions: &[Prediction]) -> Result<Vec<u8>> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(["input", "class", "share", "mask"])?;
    for prediction in predictions {
        let mask = prediction.mask.as_ref().map_or_else(String::new, |mask| mask.display().to_string());
        for share in &prediction.answer.shares {
            writer.write_record([&prediction.input, &share.class, &share.share.to_string(), &mask])?;
        }
    }
    Ok(writer.into_inner()?)
}

/// Spans as CSV: a row a span, none for a text without any.
fn spans(predictions: &[Prediction]) -> Result<Vec<u8>> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(["input", "start", "end", "text", "class", "score"])?;
    for prediction in predictions {
        for span in prediction.answer.spans.iter().flatten() {
            let (start, end, score) = (span.start.to_string(), span.end.to_string(), span.score.to_string());
            writer.write_record([&prediction.input, &start, &end, &span.text, &span.class, &score])?;
        }
    }
    Ok(writer.into_inner()?)
}

/// Objects as CSV: a row an object, none for a photograph without any.
fn boxes(predictions: &[Prediction]) -> Result<Vec<u8>> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(["input", "left", "top", "right", "bottom", "class", "score"])?;
    for prediction in predictions {
        for found in prediction.answer.boxes.iter().flatten() {
            let [left, top, right, bottom] = found.corners.map(|corner| corner.to_string());
            let score = found.score.to_string();
            writer.write_record([&prediction.input, &left, &top, &right, &bottom, &found.class, &score])?;
        }
    }
    Ok(writer.into_inner()?)
}

/// Reads the delta back and predicts a few test samples of different classes with it: file, class, probability.
pub fn show(
    delta: &Path,
    (model, test): (&Path, &Path),
    context: &Context<'_>,
) -> Result<Option<Vec<(String, String, f32)>>> {
    let adapter = Adapter::read(delta)?;
    let base = adapter.base(model)?;
    let mut files = Vec::new();
    for class in adapter.labels.iter().take(DEMONSTRATED) {
        let mut images: Vec<PathBuf> =
            std::fs::read_dir(test.join(class))?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
        images.sort();
        files.extend(images.into_iter().next());
    }
    let preprocessing = adapter.preprocessing.clone();
    let options = samples::options(preprocessing.clone(), Reading::default(), &inputs_of(&base), Target::Classes, None);
    let (dataset, _) = Dataset::open_unlabelled(&files, &options)?;
    let dataset = Arc::new(dataset);
    let context = Context { keeps_features: false, ..context.clone() };
    let samples = Samples { base: &base, adapter: &adapter, preprocessing, dataset, top: 1 };
    let Some(predictions) = samples.predict(&context)? else { return Ok(None) };
    let best = |mut prediction: Prediction| {
        let best = prediction.answer.classes.pop()?;
        Some((prediction.input, best.name, best.probability))
    };
    Ok(Some(predictions.into_iter().filter_map(best).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::predict::{Answer, Scored};

    fn prediction(input: &str, text: Option<&str>, classes: &[(&str, f32)], values: &[f32]) -> Prediction {
        let class = |(name, probability): &(&str, f32)| Scored { name: name.to_string(), probability: *probability };
        Prediction {
            input: input.into(),
            from: None,
            to: None,
            text: text.map(String::from),
            mask: None,
            nearest: None,
            answer: Answer {
                classes: classes.iter().map(class).collect(),
                values: values.to_vec(),
                ..Answer::default()
            },
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
}
