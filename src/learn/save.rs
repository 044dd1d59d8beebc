//! The last stage: the delta is written where it meets the recipe's gates, and everything that was measured is told.

use super::compared::BeforeAfter;
use super::encode::Encoded;
use super::gates::Gate;
use super::report::Report;
use super::retention::Retention;
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

    /// Every gate that is asked for, and those that always are, of a delta with so many bytes.
    ///
    /// # Errors
    /// An amount that cannot be read.
    fn gates(&self, delta_bytes: usize) -> Result<Vec<Gate>, Error> {
        let Some(shipped) = &self.shipped else { return Ok(Vec::new()) };
        let recipe = &self.prepared.opened.recipe;
        let wanted = &recipe.gates;
        let finite = shipped.values.iter().flatten().all(|value| value.is_finite());
        let mut gates = vec![Gate { name: "finite", wanted: None, measured: None, passed: finite }];
        if let Some(difference) = self.shown.difference.filter(|_| !wanted.allow_idle) {
            gates.push(Gate { name: "acts", wanted: None, measured: Some(difference), passed: difference > 0.0 });
        }
        if let Some(least) = wanted.gain_min {
            let gain = self.shown.paired.as_ref().map(|paired| paired.gain_at_least(wanted.confidence()));
            let measured = gain.filter(|gain| gain.is_finite());
            let passed = measured.is_some_and(|gain| gain >= least);
            gates.push(Gate { name: "gain", wanted: Some(least), measured, passed });
        }
        if let (Some(share), Some(retention)) = (recipe.retention.keep_base, &self.retention) {
            // One that loses more has been refused, in each class, too.
            gates.push(Gate { name: "retention", wanted: Some(share), measured: Some(lost(retention)), passed: true });
        }
        let calibration = self.answers.as_ref().map(|answers| answers.calibration.expected_error);
        let most = [
            ("calibration", wanted.calibration_max, calibration),
            ("latency", wanted.latency_ms()?, self.shown.latency_ms),
            ("size", wanted.size_bytes()?, Some(delta_bytes as f64)),
        ];
        for (name, wanted, measured) in most {
            let Some(most) = wanted else { continue };
            let passed = measured.is_some_and(|measured| measured <= most);
            gates.push(Gate { name, wanted, measured, passed });
        }
        Ok(gates)
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

/// The share of what was known that is lost: of right answers, else by which the perplexity or the loss has grown.
fn lost(Retention { before, after, .. }: &Retention) -> f64 {
    match (before.perplexity, after.perplexity, before.accuracy, after.accuracy) {
        (Some(before), Some(after), ..) => after / before - 1.0,
        (_, _, Some(before), Some(after)) if before > 0.0 => 1.0 - after / before,
        _ => after.loss / before.loss.abs().max(f64::MIN_POSITIVE) - 1.0,
    }
}
