//! The features of samples as the layer that is solved for reads them.

use super::layer::{Linear, not_finite};
use super::{CHUNK, evaluate};
use crate::engine::{self, Session};
use crate::graph::Tensor;
use crate::train::error::Error;
use crate::train::features::Features;
use crate::train::prepare::Bundle;
use ndarray::{Array2, Axis, concatenate};
use std::sync::atomic::{AtomicBool, Ordering};

/// Features as the layer reads them.
pub(super) struct Rows<'a> {
    pub(super) features: &'a mut Features,
    pub(super) linear: &'a Linear,
    pub(super) below: Option<Below>,
    pub(super) stop: &'a AtomicBool,
}

impl Rows<'_> {
    /// `[samples, inputs]`; `None` if it was stopped.
    pub(super) fn fetch(&mut self, samples: &[usize]) -> Result<Option<Array2<f32>>, Error> {
        if self.stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let rows = match &mut self.below {
            None => self.linear.rows(&self.features.batch(samples)?[0].1)?,
            Some(below) => {
                let mut parts = Vec::new();
                for part in samples.chunks(evaluate::BATCH) {
                    parts.push(self.linear.rows(&below.run(self.features, part)?)?);
                }
                let views: Vec<_> = parts.iter().map(|part| part.view()).collect();
                concatenate(Axis(0), &views).expect("rows of the same length")
            }
        };
        match rows.rows().into_iter().position(|row| !row.iter().all(|value| value.is_finite())) {
            Some(place) => Err(not_finite(samples[place])),
            None => Ok(Some(rows)),
        }
    }

    /// [`Rows::fetch`] for any number of samples: all of them in memory.
    pub(super) fn all(&mut self, samples: &[usize]) -> Result<Option<Array2<f32>>, Error> {
        let mut all = Array2::zeros((samples.len(), self.linear.inputs));
        for (chunk, mut to) in samples.chunks(CHUNK).zip(all.axis_chunks_iter_mut(Axis(0), CHUNK)) {
            let Some(rows) = self.fetch(chunk)? else { return Ok(None) };
            to.assign(&rows);
        }
        Ok(Some(all))
    }
}

/// What of the tail lies between the features and the layer, with its parameters as they are.
pub(super) struct Below {
    session: Session,
    parameters: Vec<(String, Tensor)>,
    inputs: Vec<String>,
}

impl Below {
    pub(super) fn new(bundle: &Bundle, linear: &Linear, options: &engine::Options) -> Result<Self, Error> {
        let (path, inputs) = bundle.up_to(linear.reads)?;
        let initial: Vec<Vec<f32>> = bundle.parameters.iter().map(|parameter| parameter.initial.clone()).collect();
        let mut parameters = evaluate::fed(&bundle.parameters, &initial);
        parameters.retain(|(name, _)| inputs.contains(name));
        Ok(Self { session: Session::from_file(&path, options)?, parameters, inputs })
    }

    fn run(&mut self, features: &mut Features, samples: &[usize]) -> Result<Tensor, Error> {
        let batch = features.batch(samples)?;
        let mut fed: Vec<(&str, &Tensor)> = batch.iter().map(|(name, tensor)| (*name, tensor)).collect();
        fed.retain(|(name, _)| self.inputs.iter().any(|input| input == name));
        fed.extend(self.parameters.iter().map(|(name, tensor)| (name.as_str(), tensor)));
        Ok(self.session.run(&fed)?.remove(0))
    }
}
