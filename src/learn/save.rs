//! The last stage: the delta is written, and everything that was measured is told.

use super::compared::BeforeAfter;
use super::encode::Encoded;
use super::report::Report;
use crate::recipe::Error;
use crate::train::artifact::{self, About};
use crate::train::checkpoint;

/// A finished or interrupted training.
#[derive(Debug)]
pub struct Trained {
    /// Whether it was stopped before the delta was written.
    pub interrupted: bool,
    /// The delta; empty where it was stopped.
    pub delta: Vec<u8>,
    /// Everything measured.
    pub report: Report,
    /// Test (else validation) before and after.
    pub measured: Option<BeforeAfter>,
    /// Whether an adapter was gone on from.
    pub went_on: bool,
}

impl Encoded<'_> {
    /// Writes the delta, where the job names a file for it. Only then is the checkpoint of no more use.
    ///
    /// # Errors
    /// Names that are too long for the format; a file that cannot be written.
    pub fn save(self) -> Result<Trained, Error> {
        let delta = self.delta()?;
        if let (Some(out), false) = (&self.prepared.opened.job.out, delta.is_empty()) {
            artifact::save(out, &delta)?;
            tracing::info!(out = %out.display(), bytes = delta.len(), "wrote the delta");
        }
        if let (Some(path), false) = (self.prepared.opened.checkpoint(), delta.is_empty()) {
            checkpoint::remove(&path)?;
        }
        let report = Report::new(&self, delta.len() as u64);
        let measured = self.test.or(self.validation);
        let went_on = self.prepared.opened.known.is_some();
        Ok(Trained { interrupted: self.interrupted, delta, report, measured, went_on })
    }

    /// The delta's bytes; none where the training was stopped.
    fn delta(&self) -> Result<Vec<u8>, Error> {
        let (Some(shipped), false) = (&self.shipped, self.interrupted) else { return Ok(Vec::new()) };
        let opened = &self.prepared.opened;
        let split = &opened.data.split;
        let mut learned_from = split.train.clone();
        if self.solved.as_ref().is_some_and(|solved| solved.validated.is_some()) {
            learned_from.extend(&split.validation);
        }
        let about = About {
            loss: &opened.settings.loss,
            preprocessing: &opened.data.preprocessing,
            labels: opened.data.labels(),
            train: &learned_from,
            validation: self.validation.as_ref().map(|measured| (&measured.before, &measured.after)),
            test: self.test.as_ref().map(|measured| (&measured.before, &measured.after)),
            provenance: opened.recipe.delta.provenance(opened.job.created_unix_s, &opened.recipe_text),
        };
        Ok(artifact::encode(&self.prepared.bundle, &shipped.payloads, &about)?)
    }
}
