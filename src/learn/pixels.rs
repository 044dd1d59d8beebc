//! Whether pixels are scaled as the model expects them: what it answers with the presets, where nobody has said which is right.

use super::observer::Observer;
use crate::amounts::percent;
use crate::data::{Dataset, ImagePreprocessing, PRESETS, Preprocessing};
use crate::train::Error;
use crate::train::trial::{self, Trial};
use std::sync::Arc;

/// Photographs that are tried.
const TRIED: usize = 32;

/// Warns where the base's answers to some photographs are clearly surer with a preset's pixels. Not tried are pixels of 0 to 255:
/// large numbers make a model sure of anything.
pub fn warn_of_surer(
    dataset: &Dataset,
    samples: &[usize],
    preprocessing: &Preprocessing,
    trial: &Trial<'_>,
    observer: &dyn Observer,
) {
    let Preprocessing::Image(image) = preprocessing else { return };
    let tried = trial::spread(samples, TRIED);
    let sureness = |image: ImagePreprocessing| {
        sureness(image, (dataset, &tried), trial).unwrap_or_else(|error| {
            tracing::info!(%error, "the base could not be tried");
            None
        })
    };
    let Some(own) = sureness(*image) else { return };
    let mut best: Option<(f64, &str)> = None;
    for preset in
        PRESETS.iter().filter(|preset| !["raw", "timm", "torchvision"].contains(&preset.name) && !preset.is_like(image))
    {
        let mut other = *image;
        preset.put_into(&mut other);
        let Some(sure) = sureness(other) else { return };
        let mean = trial::mean(&sure);
        tracing::info!(preset = preset.name, sure = mean, own = trial::mean(&own), "tried");
        if trial::surer(&sure, &own) && best.is_none_or(|(known, _)| mean > known) {
            best = Some((mean, preset.name));
        }
    }
    if let Some((sure, name)) = best {
        observer.warn(&format!(
            "the model is surer of {} photographs with setting `samples.preprocessing = {name}` ({} on average) than as they are now ({}): its pixels \
             may have to be scaled in that way",
            tried.len(),
            percent(sure),
            percent(trial::mean(&own))
        ));
    }
}

/// How sure the base is of some samples, with other pixels.
fn sureness(
    image: ImagePreprocessing,
    (dataset, samples): (&Dataset, &[usize]),
    trial: &Trial<'_>,
) -> Result<Option<Vec<f64>>, Error> {
    let Some(few) = dataset.with_pixels(samples, image) else { return Ok(None) };
    let wire = Preprocessing::Image(image).wire();
    let all: Vec<usize> = (0..few.len()).collect();
    let answers = trial.answers(&Arc::new(few), &all, &wire, None)?;
    Ok(answers.map(|answers| trial::sureness(&answers)))
}
