//! The body as a session: a chunk of samples in, their features out, each as the sample alone would give them.
//!
//! Most bodies treat every sample by itself, and a chunk is only faster. Some do not: statistics of the batch (a
//! BatchNormalization in training mode), a softmax over the first axis, a scale of the values at hand. There a sample's
//! features would depend on its neighbours, and no other program would compute them again. So the first chunk is held
//! against its first sample alone; where they differ, every sample is computed by itself.

use super::error::Error;
use super::prepare::Bundle;
use crate::engine::{Options, Session};
use crate::graph::{Tensor, TensorType};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

/// Samples in one run of the body. Every sample more holds all its intermediate values in the arena (10 MB each for
/// EfficientNet-Lite0 at 224×224), and there 2 to 4 are as fast as 8 to 32; models of few operations want some more.
pub const CHUNK: usize = 4;

/// How far a sample's features in a chunk may be from those of the sample alone, as a share of the largest: kernels round
/// otherwise for another number of rows, by far less. What mixes samples changes features by their own size.
const ALIKE: f32 = 0.05;

/// The body, loaded only while it is needed.
pub(super) struct Body {
    path: Option<PathBuf>,
    /// Samples in one run.
    pub(super) chunk: usize,
    options: Options,
    /// The loaded graph.
    pub(super) session: Option<Session>,
    /// The model's inputs, in its order.
    pub(super) inputs: Arc<Vec<(String, TensorType)>>,
    features: Vec<String>,
    mixes: Option<bool>,
    warning: Option<String>,
}

impl Body {
    pub(super) fn new(bundle: &Bundle, options: &Options) -> Self {
        Self {
            path: bundle.body.clone(),
            chunk: if bundle.body_quantises { 1 } else { CHUNK },
            options: options.clone(),
            session: None,
            inputs: Arc::new(bundle.inputs.clone()),
            features: bundle.features.iter().map(|(name, _)| name.clone()).collect(),
            mixes: (bundle.body.is_none() || bundle.body_quantises).then_some(false),
            warning: None,
        }
    }

    /// What was found about the body since the last call.
    pub(super) fn take_warning(&mut self) -> Option<String> {
        self.warning.take()
    }

    /// The features of a full chunk whose first `samples` rows are samples, as each sample alone would give them.
    pub(super) fn run_chunk(&mut self, inputs: Vec<Tensor>, samples: usize) -> Result<Vec<Tensor>, Error> {
        match self.mixes {
            Some(false) => self.run(inputs, self.chunk as u64),
            Some(true) => self.run_each(&inputs, samples),
            None => {
                let alone = self.run(rows(&inputs, 0), 1)?;
                let together = self.run(inputs.clone(), self.chunk as u64)?;
                if alone.iter().zip(&together).all(|(alone, together)| is_alike(alone, together)) {
                    // Copies of one sample are no neighbours that anything could be told from.
                    self.mixes = (samples > 1).then_some(false);
                    return Ok(together);
                }
                self.mixes = Some(true);
                self.warning = Some(
                    "the part of the model that does not learn mixes the samples of a batch (statistics of the batch, as in \
                     training mode): each sample is computed alone, as it will be when the model is used; export the model for \
                     inference (model.eval()) if it is not meant to"
                        .into(),
                );
                self.run_each(&inputs, samples)
            }
        }
    }

    /// The features of the first `samples` rows, each computed by itself.
    fn run_each(&mut self, inputs: &[Tensor], samples: usize) -> Result<Vec<Tensor>, Error> {
        let mut stacked: Vec<Tensor> = self.run(rows(inputs, 0), 1)?;
        for row in 1..samples {
            for (stack, alone) in stacked.iter_mut().zip(self.run(rows(inputs, row), 1)?) {
                stack.data = [stack.data.as_ref(), alone.data.as_ref()].concat().into();
                stack.shape[0] += 1;
            }
        }
        Ok(stacked)
    }

    /// The features of one batch, in the bundle's order; each checked to have one row a sample.
    pub(super) fn run(&mut self, inputs: Vec<Tensor>, batch: u64) -> Result<Vec<Tensor>, Error> {
        let mut computed: HashMap<String, Tensor> = HashMap::new();
        if let Some(path) = &self.path {
            if self.session.is_none() {
                self.session = Some(Session::from_file(path, &self.options)?);
            }
            let session = self.session.as_mut().expect("it was just loaded");
            let fed: Vec<(&str, &Tensor)> = self.inputs.iter().map(|(name, _)| name.as_str()).zip(&inputs).collect();
            let outputs = session.run(&fed)?;
            computed.extend(session.outputs().iter().map(|(name, _)| name.clone()).zip(outputs));
        }
        for ((name, _), tensor) in self.inputs.iter().zip(inputs) {
            computed.entry(name.clone()).or_insert(tensor);
        }
        let feature = |name: &String| {
            let tensor = computed.remove(name).expect("a feature is a body output or a model input");
            let rows = tensor.shape.first().copied().unwrap_or(0);
            if rows == batch { Ok(tensor) } else { Err(Error::Rows { feature: name.clone(), rows, batch }) }
        };
        self.features.iter().map(feature).collect()
    }
}

/// One row of each input, as a batch of one.
fn rows(inputs: &[Tensor], row: usize) -> Vec<Tensor> {
    let one = |tensor: &Tensor| {
        let shape = std::iter::once(1).chain(tensor.shape.iter().skip(1).copied()).collect();
        let bytes = tensor.data.len() / tensor.shape[0] as usize;
        Tensor { dtype: tensor.dtype, shape, data: tensor.data.slice(row * bytes..(row + 1) * bytes) }
    };
    inputs.iter().map(one).collect()
}

/// The bytes of one sample.
pub(super) fn row_of(tensor: &Tensor, row: usize) -> &[u8] {
    let stride = tensor.data.len() / tensor.shape[0] as usize;
    &tensor.data[row * stride..(row + 1) * stride]
}

/// Whether the first row of a chunk is what the sample gave alone. Integers and truth values are not compared: what mixes samples mixes
/// numbers.
fn is_alike(alone: &Tensor, together: &Tensor) -> bool {
    let (Some(alone), Some(together)) = (alone.to_f32(), together.to_f32()) else { return true };
    let largest = alone.iter().fold(0f32, |most, value| most.max(value.abs()));
    let differs = |(a, b): (&f32, &f32)| (a - b).abs() > ALIKE * largest + f32::MIN_POSITIVE;
    !alone.iter().zip(&together).any(differs)
}
