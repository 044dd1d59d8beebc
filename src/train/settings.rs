//! How a run trains: the numbers that a user may choose, their ranges, and what follows from them.
//!
//! Takes and gives plain values; never reads a recipe (that is `cli`), never touches a model.

use super::anchor::Hold;
use super::error::Error;
use super::loss::Loss;
use super::optimizer::Optimizer;
use super::schedule::Schedule;
use crate::adapter::Parameter;
use serde::{Deserialize, Serialize};

/// What a growing rate begins with, of its end.
const GROWS_FROM: f64 = 1e-6;

/// How to train. Two runs with equal settings, base and data give the same bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Passes over the training samples.
    pub epochs: u32,
    /// Optimiser steps after which the run ends, in place of `epochs`.
    pub max_steps: Option<u32>,
    /// Samples in one run of the step graph.
    pub batch: u32,
    /// Runs whose gradients are averaged for one optimiser step.
    pub accumulate: u32,
    /// Peak learning rate.
    pub learning_rate: f64,
    /// How it moves.
    pub schedule: ScheduleKind,
    /// Share of all steps that warm up, 0 to 1.
    pub warmup_share: f64,
    /// Factor of the learning rate for a fresh head: it starts from nothing, the layers below it from the base.
    pub head_rate: f64,
    /// The update.
    pub optimizer: Optimizer,
    /// Limit on the norm of all gradients together.
    pub clip_norm: Option<f64>,
    /// Epochs without a better validation loss before the run ends.
    pub patience: Option<u32>,
    /// Decides the order of the samples and the split.
    pub seed: u64,
    /// What is minimised.
    pub loss: Loss,
    /// What holds the values to those at the start.
    pub hold: Hold,
}

/// The shape of the learning rate over the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScheduleKind {
    /// The same after the warm-up.
    Constant,
    /// Half a cosine down to zero after the warm-up.
    Cosine,
    /// From a millionth of the rate up to it, by the same factor at every step: a test of many rates.
    Growing,
}

impl Settings {
    /// Optimiser steps in one epoch of `samples`.
    pub fn steps_per_epoch(&self, samples: usize) -> u32 {
        samples.div_ceil(self.batch.max(1) as usize * self.accumulate.max(1) as usize) as u32
    }

    /// Optimiser steps of the whole run.
    pub fn total_steps(&self, samples: usize) -> u64 {
        let by_epochs = u64::from(self.steps_per_epoch(samples)) * u64::from(self.epochs);
        self.max_steps.map_or(by_epochs, u64::from)
    }

    /// Passes over the training samples that are begun; `max_steps` may end the last of them early.
    pub fn epochs_begun(&self, samples: usize) -> u32 {
        self.max_steps.map_or(self.epochs, |steps| steps.div_ceil(self.steps_per_epoch(samples).max(1)))
    }

    /// The largest learning rate that a parameter sees: a fresh head's is [`Settings::head_rate`] times that of the others.
    pub fn peak_rate(&self, parameter: &Parameter) -> f64 {
        self.rate(self.learning_rate, parameter)
    }

    /// The rate of a step, counted from 0, of a run on so many samples.
    pub fn rate_of_step(&self, samples: usize, step: u64) -> f64 {
        self.schedule(samples).learning_rate(self.learning_rate, step)
    }

    pub(super) fn rate(&self, learning_rate: f64, parameter: &Parameter) -> f64 {
        if parameter.fresh { learning_rate * self.head_rate } else { learning_rate }
    }

    /// Whether each value is in its range.
    ///
    /// # Errors
    /// [`Error::Setting`] with the first that is not.
    pub fn check(&self) -> Result<(), Error> {
        let refuse = |setting, problem: String| Err(Error::Setting { setting, problem });
        let steps = ("max-steps", self.max_steps.unwrap_or(1));
        let counts = [("epochs", self.epochs), ("batch", self.batch), ("accumulate", self.accumulate), steps];
        if let Some((setting, _)) = counts.into_iter().find(|(_, count)| *count == 0) {
            return refuse(setting, "0 of them would learn nothing; give 1 or more".into());
        }
        if self.patience == Some(0) {
            return refuse("patience", "0 epochs would end every run after its first; give 1 or more".into());
        }
        let rate = self.learning_rate;
        if !(rate > 0.0 && rate.is_finite()) {
            let problem = match rate {
                f64::INFINITY => "so large a number is not counted with".into(),
                rate if rate.is_nan() => "NaN is no number".into(),
                rate => format!("{rate} is not a positive number"),
            };
            return refuse("lr", format!("{problem}; 0.001 is a good start"));
        }
        if rate as f32 == 0.0 || !(rate as f32).is_finite() {
            let what = if rate < 1.0 {
                "so small that nothing would change"
            } else {
                "so large that nothing could be learned"
            };
            return refuse("lr", format!("{rate:e} is {what}; 0.001 is a good start"));
        }
        if !(self.head_rate > 0.0 && self.head_rate.is_finite()) {
            return refuse("head-rate", format!("{} is not a positive number; 1 is the rate itself", self.head_rate));
        }
        if !(0.0..=1.0).contains(&self.warmup_share) {
            return refuse("warmup", format!("{} is no share; give 0 to 1, such as 0.1", self.warmup_share));
        }
        if self.clip_norm.is_some_and(|norm| !(norm > 0.0 && norm.is_finite())) {
            return refuse("clip-norm", "must be a positive number, such as 1; leave it out for no limit".into());
        }
        let (Optimizer::AdamW { weight_decay, .. } | Optimizer::Sgd { weight_decay, .. }) = self.optimizer;
        if !(weight_decay >= 0.0 && weight_decay.is_finite()) {
            return refuse("weight-decay", format!("{weight_decay} is not 0 or more; 0.01 is usual for adamw"));
        }
        if let Optimizer::Sgd { momentum, .. } = self.optimizer
            && !(0.0..1.0).contains(&momentum)
        {
            return refuse("momentum", format!("{momentum} is not from 0 to below 1; 0.9 is usual"));
        }
        match self.loss {
            Loss::CrossEntropy { label_smoothing, .. } if !(0.0..1.0).contains(&label_smoothing) => {
                refuse("label-smoothing", format!("{label_smoothing} is not from 0 to below 1; 0.1 is usual"))
            }
            _ => Ok(()),
        }
    }

    /// How the learning rate moves over a run on `samples`.
    pub(super) fn schedule(&self, samples: usize) -> Schedule {
        let total_steps = self.total_steps(samples);
        let warmup_steps = (self.warmup_share * total_steps as f64).round() as u64;
        match self.schedule {
            ScheduleKind::Constant => Schedule::Constant { warmup_steps },
            ScheduleKind::Growing => Schedule::Growing { total_steps, start_share: GROWS_FROM },
            ScheduleKind::Cosine => Schedule::Cosine { warmup_steps, total_steps, end_share: 0.0 },
        }
    }
}
