//! Whether pixels are scaled as the model expects them: what it makes of some photographs with each preset, where nobody has said
//! which is right.

use super::classes::columns;
use super::observer::Observer;
use crate::amounts::percent;
use crate::data::{Dataset, ImagePreprocessing, Labels, PRESETS, Preprocessing, Preset};
use crate::train::Error;
use crate::train::trial::{self, Trial};
use std::sync::Arc;

/// Photographs that are tried: on photographs of 32x32 pixels, whose right preset the base is no surer with, 60 of ten classes told it
/// apart in six draws of six, 30 in one of six.
const TRIED: usize = 64;

/// Fewest photographs that a head's errors are compared on.
const LEARNED_MIN: usize = 48;

/// What the base makes of some photographs with one way of scaling pixels.
struct Made {
    /// How far from each label a head on the features is that has not learned from it; empty where there are too few photographs.
    errors: Vec<f64>,
    /// How sure the base is of each; empty where it is a classifier of something else.
    sure: Vec<f64>,
}

/// Warns where a preset's pixels are clearly better than those that are assumed: a head on the base's features comes nearer to the
/// labels of samples that it has not learned from, or the base's own answers are surer. Not tried are pixels of 0 to 255: large
/// numbers make a model sure of anything.
pub fn warn_of_better(
    dataset: &Dataset,
    samples: &[usize],
    preprocessing: &Preprocessing,
    trial: &Trial<'_>,
    observer: &dyn Observer,
) {
    let Preprocessing::Image(image) = preprocessing else { return };
    let tried = trial::spread(samples, TRIED);
    let presets: Vec<&Preset> = others(image);
    let progress = observer.progress("trying how pixels are scaled", 1 + presets.len() as u64, "ways");
    let made = |image: ImagePreprocessing| {
        made(image, (dataset, &tried), trial).unwrap_or_else(|error| {
            tracing::info!(%error, "the base could not be tried");
            None
        })
    };
    let own = made(*image);
    let with = |(place, preset): (usize, &&'static Preset)| {
        progress.at(1 + place as u64, preset.name);
        let mut other = *image;
        preset.put_into(&mut other);
        made(other).map(|made| (preset.name, made))
    };
    let found: Vec<(&str, Made)> =
        if own.is_some() { presets.iter().enumerate().map_while(with).collect() } else { Vec::new() };
    progress.end();
    if let Some(words) = own.and_then(|own| better(&own, &found)) {
        observer.warn(&format!(
            "of {} photographs, {words}: the model may want its pixels scaled in that way",
            tried.len()
        ));
    }
}

/// The presets that scale pixels otherwise than `image`, one of those that are alike.
fn others(image: &ImagePreprocessing) -> Vec<&'static Preset> {
    let mut kept: Vec<(&Preset, ImagePreprocessing)> = Vec::new();
    for preset in PRESETS.iter().filter(|preset| preset.name != "raw" && !preset.is_like(image)) {
        if !kept.iter().any(|(_, other)| preset.is_like(other)) {
            let mut other = *image;
            preset.put_into(&mut other);
            kept.push((preset, other));
        }
    }
    kept.into_iter().map(|(preset, _)| preset).collect()
}

/// What is better with the best of the presets than with the own pixels, in words; `None` where nothing is beyond chance.
fn better(own: &Made, found: &[(&str, Made)]) -> Option<String> {
    let least = |one: &&(&str, Made), other: &&(&str, Made)| {
        trial::mean(&one.1.errors).total_cmp(&trial::mean(&other.1.errors))
    };
    if let Some((name, made)) = found.iter().filter(|(_, made)| trial::closer(&made.errors, &own.errors)).min_by(least)
    {
        let less = 1.0 - trial::mean(&made.errors) / trial::mean(&own.errors);
        return Some(format!(
            "each left out in turn, a head on the model's features misses the labels by {} less with setting `samples.preprocessing = {name}`",
            percent(less)
        ));
    }
    let most =
        |one: &&(&str, Made), other: &&(&str, Made)| trial::mean(&one.1.sure).total_cmp(&trial::mean(&other.1.sure));
    let (name, made) = found.iter().filter(|(_, made)| trial::surer(&made.sure, &own.sure)).max_by(most)?;
    Some(format!(
        "the model is surer with setting `samples.preprocessing = {name}` ({} on average) than as they are now ({})",
        percent(trial::mean(&made.sure)),
        percent(trial::mean(&own.sure))
    ))
}

/// What the base makes of some samples, with other pixels; `None` where there is nothing to go by.
fn made(
    image: ImagePreprocessing,
    (dataset, samples): (&Dataset, &[usize]),
    trial: &Trial<'_>,
) -> Result<Option<Made>, Error> {
    let Some(few) = dataset.with_pixels(samples, image).filter(|few| few.len() == samples.len()) else {
        return Ok(None);
    };
    let (few, preprocessing) = (Arc::new(few), Preprocessing::Image(image));
    let all: Vec<usize> = (0..few.len()).collect();
    let labels = dataset.labels();
    let are_fitted = matches!(labels, Labels::Classes { .. } | Labels::MultiLabel { .. } | Labels::Values(_));
    let errors = match columns(labels) {
        Some(width) if are_fitted && samples.len() >= LEARNED_MIN => {
            trial.left_out_errors(&few, (labels, samples), &preprocessing, width)?
        }
        _ => None,
    };
    let answers = trial.answers(&few, &all, &preprocessing, None)?;
    let sure = answers.map(|answers| trial::sureness(&answers));
    let made = Made { errors: errors.unwrap_or_default(), sure: sure.unwrap_or_default() };
    Ok(Some(made).filter(|made| !made.errors.is_empty() || !made.sure.is_empty()))
}
