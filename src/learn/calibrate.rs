//! One temperature for the last layer, so that probabilities are shares of right answers (temperature scaling, Guo et al. 2017,
//! arXiv 1706.04599).
//!
//! It is not a number beside the values: the last layer's weights and biases are divided by it, which divides its outputs. So the delta's
//! format stays as it is, and whoever reads the delta (a program, an exported model, a microcontroller) has the calibrated probabilities.

use super::prepare::Prepared;
use crate::amounts::{counted, number};
use crate::data::Labels;
use crate::engine::Session;
use crate::recipe::{Error, refuse};
use crate::train;
use crate::train::evaluate;
use crate::train::features::Features;
use crate::train::fit::Outcome;
use crate::train::solve::targets::Targets;
use crate::train::solve::{Linear, Solved, VALIDATION_MIN, temperature};
use ndarray::Array2;

/// The largest difference, of the largest output, by which dividing the layer may miss dividing the output: values are rounded to fp16.
const TOLERANCE: f32 = 0.02;

impl Prepared<'_> {
    /// Refuses to calibrate where the delta does not hold the last layer as a whole.
    ///
    /// # Errors
    /// What the output is made of besides.
    pub(super) fn refuse_uncalibrated(&self) -> Result<(), Error> {
        if !self.opened.recipe.calibrate {
            return Ok(());
        }
        match Linear::last(&self.bundle) {
            Err(train::Error::NoClosedForm { problem, .. }) => refuse!(
                "setting `calibrate`: the adapter does not hold the whole of the last layer ({problem}), so it cannot be divided; choose setting \
                 `train = head`, or remove it"
            ),
            Err(error) => Err(error.into()),
            Ok(_) => Ok(()),
        }
    }

    /// Divides the learned values of the last layer by the temperature that fits the validation samples, and tells it. `None` where it was
    /// not asked for, or where too few samples validate.
    ///
    /// # Errors
    /// What ONNX Runtime refuses; a layer that is used elsewhere, too.
    pub(super) fn calibrate(
        &self,
        features: &mut Features,
        outcome: &mut Outcome,
        solved: &mut Option<Solved>,
    ) -> Result<Option<f64>, Error> {
        let (data, observer) = (&self.opened.data, self.opened.context.observer);
        let samples = &data.split.validation;
        let Labels::Classes { names, .. } = data.labels() else { return Ok(None) };
        if !self.opened.recipe.calibrate {
            return Ok(None);
        }
        if samples.len() < VALIDATION_MIN {
            let few = counted(samples.len(), "sample");
            observer.note(&format!("calibrate {few} that validate are too few to fit a temperature: it stays 1"));
            return Ok(None);
        }
        let places = Linear::last(&self.bundle)?;
        let validated = solved.as_mut().and_then(|solved| solved.validated.as_mut());
        let mut tail = Session::from_file(&self.bundle.tail, &self.opened.options)?;
        let mut outputs = |values: &[Vec<f32>]| {
            evaluate::outputs(&mut tail, features, samples, &evaluate::shipped(&self.bundle.parameters, values))
        };
        let before = outputs(validated.as_deref().unwrap_or(&outcome.parameters))?;
        if before.iter().any(|row| row.len() != names.len()) {
            return Ok(None);
        }
        let logits: Vec<f64> = before.iter().flatten().map(|logit| f64::from(*logit)).collect();
        let logits = Array2::from_shape_vec((samples.len(), names.len()), logits).expect("a number for each class");
        // As if one sample more might have been of any class.
        let doubt = 1.0 / (samples.len() + 2) as f64;
        let factor = temperature::fit_with_doubt(&logits, samples, &Targets::new(data.labels(), names.len()), doubt);
        scale(&mut outcome.parameters, &places, factor);
        let after = match validated {
            Some(validated) => {
                scale(validated, &places, factor);
                outputs(validated)?
            }
            None => outputs(&outcome.parameters)?,
        };
        let largest = before.iter().flatten().fold(0.0, |most: f32, value| most.max(value.abs())) * factor as f32;
        let missed = |(before, after): (&f32, &f32)| (before * factor as f32 - after).abs();
        let missed = before.iter().flatten().zip(after.iter().flatten()).map(missed).fold(0.0, f32::max);
        if missed > TOLERANCE * largest {
            refuse!(
                "setting `calibrate`: what makes the last layer is used elsewhere in the model, too, so it cannot be divided; remove it"
            );
        }
        observer.note(&format!(
            "calibrate temperature {}, fitted on {} that validate",
            number(1.0 / factor),
            counted(samples.len(), "sample")
        ));
        Ok(Some(1.0 / factor))
    }
}

/// Multiplies the values in some places.
fn scale(values: &mut [Vec<f32>], places: &[usize], factor: f64) {
    for place in places {
        values[*place].iter_mut().for_each(|value| *value = (f64::from(*value) * factor) as f32);
    }
}
