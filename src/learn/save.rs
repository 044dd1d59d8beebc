//! The last stage: the delta is written, and everything that was measured is told.

use super::compared::BeforeAfter;
use super::encode::Encoded;
use super::gates::Gate;
use super::report::Report;
use crate::recipe::Error;
use crate::train::artifact::{self, About};
use crate::train::checkpoint;

/// A finished or interrupted training.
#[derive(Debug)]
pub struct Trained {
    /// Whether it was stopped before the delta was written.
    pub interrupted: bool,
    /// The delta; empty where it was stopped, and where a gate refuses it.
    pub delta: Vec<u8>,
    /// Everything measured.
    pub report: Report,
    /// Test (else validation) before and after.
    pub measured: Option<BeforeAfter>,
    /// Whether an adapter was gone on from.
    pub went_on: bool,
    /// Why a gate of the recipe refuses what was learned; nothing was written then.
    pub refused: Option<String>,
}

impl Encoded<'_> {
    /// Writes the delta, where the job names a file for it and no gate of the recipe refuses it. Then the checkpoint is of no more use.
    ///
    /// # Errors
    /// Names that are too long for the format; a file that cannot be written.
    pub fn save(self) -> Result<Trained, Error> {
        let mut delta = self.delta()?;
        let bytes = delta.len();
        let gates = self.gates(bytes)?;
        let refused = gates.iter().find(|gate| !gate.passed).filter(|_| bytes > 0).map(Gate::refusal);
        if refused.is_some() {
            delta.clear();
        }
        if let (Some(out), false) = (&self.prepared.opened.job.out, delta.is_empty()) {
            artifact::save(out, &delta)?;
            tracing::info!(out = %out.display(), bytes, "wrote the delta");
        }
        if let (Some(path), true) = (self.prepared.opened.checkpoint(), bytes > 0) {
            checkpoint::remove(&path)?;
        }
        let report = Report::new(&self, bytes as u64, gates);
        let measured = self.test.or(self.validation);
        let went_on = self.prepared.opened.known.is_some();
        Ok(Trained { interrupted: self.interrupted, delta, report, measured, went_on, refused })
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
