//! The step graph, loaded: what both a run and its plan make steps with.

use super::error::Error;
use super::loss::Loss;
use super::prepare::Bundle;
use super::step::{Again, LOSS, gradient_name};
use crate::engine::{self, Bound, Session};

/// The step graph's session with its parameters and gradients in place, the parameters at `values`. `teacher`: as [`super::step::with_loss`].
///
/// # Errors
/// No step graph, ONNX Runtime's refusal.
pub fn step_session(
    bundle: &Bundle,
    (loss, teacher): (&Loss, Option<(f64, u64)>),
    options: &engine::Options,
    values: &[Vec<f32>],
) -> Result<Bound, Error> {
    let gradients: Vec<String> = bundle.parameters.iter().map(|p| gradient_name(&p.name)).collect();
    let inputs: Vec<(&str, &[u64])> = bundle.parameters.iter().map(|p| (p.name.as_str(), p.shape.as_slice())).collect();
    let mut outputs: Vec<(&str, &[u64])> = vec![(LOSS, &[])];
    outputs.extend(gradients.iter().zip(&bundle.parameters).map(|(name, p)| (name.as_str(), p.shape.as_slice())));
    // What the gradient computes again is there twice on purpose.
    let options = engine::Options { equal_nodes: true, ..options.clone() };
    let step = bundle.step_beside(loss, teacher, Again::within(options.packed_bytes_max))?;
    let mut bound = Bound::new(Session::from_file(&step, &options)?, &inputs, &outputs)?;
    for (parameter, values) in bundle.parameters.iter().zip(values) {
        bound.input_mut::<f32>(&parameter.name)?.copy_from_slice(values);
    }
    Ok(bound)
}
