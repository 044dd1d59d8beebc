//! One sample at a time through a body and a tail that stay loaded: what answers a request as it comes.
//!
//! Takes a bundle with the values of an adapter, gives the tail's output of a sample. It keeps no features and reads no files
//! of samples; many samples at once are the business of [`super::features`].

use super::body::Body;
use super::error::Error;
use super::evaluate;
use super::prepare::Bundle;
use crate::engine::{Options, Session};
use crate::graph::Tensor;

/// Options for a body that somebody waits for: its threads spin between operators, where a thread that sleeps is woken too late to help
/// (`benches/RESULTS.md`, "Predictions while a device trains"), and sleep once the run is over, so that they take nothing from the tail's.
fn awake(options: &Options) -> Options {
    let mut awake = Options { spinning: true, ..options.clone() };
    awake.entries.push(("session.force_spinning_stop".into(), "1".into()));
    awake
}

/// A body and a tail, loaded.
pub struct Single {
    body: Body,
    tail: Session,
    features: Vec<String>,
    parameters: Vec<(String, Tensor)>,
}

impl Single {
    /// Loads the tail; the body comes with the first sample. `values` are the adapter's, one vector a parameter.
    ///
    /// # Errors
    /// ONNX Runtime's refusal.
    pub fn new(bundle: &Bundle, values: &[Vec<f32>], options: &Options) -> Result<Self, Error> {
        Ok(Self {
            body: Body::new(bundle, &awake(options)),
            tail: Session::from_file(&bundle.tail, options)?,
            features: bundle.features.iter().map(|(name, _)| name.clone()).collect(),
            parameters: evaluate::fed(&bundle.parameters, values),
        })
    }

    /// What the body makes of one sample, its inputs in the model's order and without a batch axis.
    ///
    /// # Errors
    /// Inputs of another shape or type than the model's; ONNX Runtime's refusal.
    pub fn features(&mut self, inputs: Vec<Tensor>) -> Result<Vec<Tensor>, Error> {
        let alone = |tensor: Tensor| Tensor {
            shape: std::iter::once(1).chain(tensor.shape.iter().copied()).collect(),
            ..tensor
        };
        self.body.run(inputs.into_iter().map(alone).collect(), 1)
    }

    /// The tail's output for one sample's inputs: `[width]`.
    ///
    /// # Errors
    /// As [`Single::features`].
    pub fn output(&mut self, inputs: Vec<Tensor>) -> Result<Vec<f32>, Error> {
        let features = self.features(inputs)?;
        self.output_of(&features)
    }

    /// The same in the shape that the tail gives it: `[1, …]`.
    ///
    /// # Errors
    /// As [`Single::features`].
    pub fn tensor(&mut self, inputs: Vec<Tensor>) -> Result<Tensor, Error> {
        let features = self.features(inputs)?;
        self.tensor_of(&features)
    }

    /// The tail's output for one sample's features.
    ///
    /// # Errors
    /// ONNX Runtime's refusal.
    pub fn output_of(&mut self, features: &[Tensor]) -> Result<Vec<f32>, Error> {
        Ok(self.tensor_of(features)?.to_f32().expect("the tail's output is a float"))
    }

    fn tensor_of(&mut self, features: &[Tensor]) -> Result<Tensor, Error> {
        let named = self.features.iter().zip(features).map(|(name, tensor)| (name.as_str(), tensor));
        let fed: Vec<(&str, &Tensor)> =
            named.chain(self.parameters.iter().map(|(name, tensor)| (name.as_str(), tensor))).collect();
        Ok(self.tail.run(&fed)?.remove(0))
    }
}
