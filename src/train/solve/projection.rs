//! What a fresh layer of vectors begins with: what tells nothing yet, but keeps directions apart.
//!
//! The identity where the layer gives as many numbers as it reads, so that training begins with the model's own likeness; else the largest
//! principal directions of the features. Zeros would have no direction, and so no gradient.

use super::layer::Linear;
use super::rows::{Below, Rows};
use super::{Layer, engine};
use crate::data::Split;
use crate::factor;
use crate::train::error::Error;
use crate::train::features::Features;
use crate::train::prepare::Bundle;
use ndarray::{Array1, Array2, Axis};
use std::sync::atomic::AtomicBool;

/// Samples that tell the principal directions, at most.
const SAMPLES_MAX: usize = 1024;

/// Values of a bundle's parameters, and what they are.
pub type Start = (Vec<Vec<f32>>, String);

/// The values that steps begin with, and what they are. `None` where nothing is fresh, or it was stopped.
///
/// # Errors
/// Features that cannot be read.
pub fn start(
    bundle: &Bundle,
    features: &mut Features,
    split: &Split,
    options: &engine::Options,
    stop: &AtomicBool,
) -> Result<Option<Start>, Error> {
    if !bundle.parameters.iter().any(|parameter| parameter.fresh) {
        return Ok(None);
    }
    let Ok(linear) = Linear::fresh_head(bundle) else { return Ok(Some((random(bundle), "a random layer".into()))) };
    let [outputs, inputs] = [linear.outputs, linear.inputs];
    if outputs == inputs {
        let layer = Layer { weights: Array2::eye(inputs), bias: Array1::zeros(outputs) };
        return Ok(Some((linear.among_all(bundle, &linear.place(&layer)), "the features as they are".into())));
    }
    let below = if linear.reads_the_feature(bundle) { None } else { Some(Below::new(bundle, &linear, options)?) };
    let samples = &split.train[..split.train.len().min(SAMPLES_MAX)];
    if !features.ready(samples, stop)? {
        return Ok(None);
    }
    let Some(rows) = (Rows { features, linear: &linear, below, stop }).all(samples)? else { return Ok(None) };
    let layer = principal(rows.mapv(f64::from), outputs, linear.has_bias());
    let told = format!("the {outputs} principal directions of the features");
    Ok(Some((linear.among_all(bundle, &linear.place(&layer)), told)))
}

/// The layer of the first `outputs` principal directions of `rows`, from their mean. What the rows do not tell is random.
fn principal(mut rows: Array2<f64>, outputs: usize, centred: bool) -> Layer {
    let mean = rows.mean_axis(Axis(0)).unwrap_or_else(|| Array1::zeros(rows.ncols()));
    if centred {
        rows -= &mean;
    }
    let (samples, inputs) = rows.dim();
    let rank = outputs.min(samples).min(inputs);
    // Cosines do not depend on which directions span the same.
    let directions = factor::span(rows.view(), rank);
    let spread = factor::first_values(0, "edgetune projection", &[outputs as u64, inputs as u64]);
    let spread = spread.into_iter().map(f64::from).collect();
    let mut weights = Array2::from_shape_vec((outputs, inputs), spread).expect("as many values as the shape has");
    for (mut row, known) in
        weights.rows_mut().into_iter().zip(directions.rows()).filter(|(_, known)| known.dot(known) > 0.0)
    {
        row.assign(&known);
    }
    for mut row in weights.rows_mut() {
        let norm = row.dot(&row).sqrt();
        row.mapv_inplace(|value| if norm > 0.0 { value / norm } else { 0.0 });
    }
    let bias = if centred { -weights.dot(&mean) } else { Array1::zeros(outputs) };
    Layer { weights, bias }
}

/// Random matrices in the place of zeros, where what follows the layer is not linear.
fn random(bundle: &Bundle) -> Vec<Vec<f32>> {
    let value = |parameter: &crate::adapter::Parameter| match parameter.fresh && parameter.shape.len() > 1 {
        true => factor::first_values(bundle.seed, &parameter.name, &parameter.shape),
        false => parameter.initial.clone(),
    };
    bundle.parameters.iter().map(value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directions_are_the_largest_ones_and_rows_have_length_one() {
        // The second number varies most, then the first; the third is constant.
        let rows = Array2::from_shape_fn((40, 3), |(row, column)| match column {
            0 => (row % 2) as f64,
            1 => 3.0 * (row / 20) as f64,
            _ => 7.0,
        });
        let layer = principal(rows.clone(), 2, true);
        let of_number = |place: usize| layer.weights.column(place).mapv(|weight| weight * weight).sum();
        assert!(of_number(0) > 0.999 && of_number(1) > 0.999 && of_number(2) < 1e-6, "{:?}", layer.weights);
        let given = rows.dot(&layer.weights.t()) + &layer.bias;
        assert!(given.sum().abs() < 1e-6, "centred");
        // More directions than samples can tell.
        let few = principal(rows.slice(ndarray::s![..2, ..]).to_owned(), 3, true);
        assert!(few.weights.rows().into_iter().all(|row| (row.dot(&row) - 1.0).abs() < 1e-9));
    }
}
