//! Stage 7, the schedule: the learning rate of each step.
//!
//! Takes the number of a step and gives a rate; it keeps no state, so a resumed run goes on where it stopped.

use serde::{Deserialize, Serialize};
use std::f64::consts::PI;

/// How the learning rate goes over the steps. All kinds begin with a linear warm-up (Goyal et al., "Accurate, Large
/// Minibatch SGD", 2017, section 2.2): step `s` of `warmup_steps` gets `(s + 1) / warmup_steps` of the rate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Schedule {
    /// The same rate after the warm-up.
    Constant {
        /// Steps of the warm-up; 0 for none.
        warmup_steps: u64,
    },
    /// Half a cosine from the rate down to a share of it (Loshchilov & Hutter, "SGDR", 2017, equation 5, one period).
    Cosine {
        /// Steps of the warm-up; 0 for none.
        warmup_steps: u64,
        /// Steps of the whole run, warm-up included; from there on the rate stays at its end.
        total_steps: u64,
        /// The share of the rate that is reached at the end, in [0, 1].
        end_share: f64,
    },
}

impl Schedule {
    /// The same rate at every step.
    pub const CONSTANT: Self = Self::Constant { warmup_steps: 0 };

    /// The rate for the step with that number (0 is the first), where `peak` is the rate that was asked for.
    pub fn learning_rate(&self, peak: f64, step: u64) -> f64 {
        let (Self::Constant { warmup_steps } | Self::Cosine { warmup_steps, .. }) = *self;
        if step < warmup_steps {
            return peak * (step + 1) as f64 / warmup_steps as f64;
        }
        match *self {
            Self::Constant { .. } => peak,
            Self::Cosine { total_steps, end_share, .. } => {
                let span = total_steps.saturating_sub(warmup_steps).max(1) as f64;
                let done = ((step - warmup_steps) as f64 / span).min(1.0);
                peak * (end_share + (1.0 - end_share) * 0.5 * (1.0 + (PI * done).cos()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Schedule;

    #[test]
    fn a_run_no_longer_than_its_warm_up_ends_at_the_end() {
        let schedule = Schedule::Cosine { warmup_steps: 4, total_steps: 4, end_share: 0.25 };
        assert_eq!(schedule.learning_rate(2.0, 3), 2.0);
        assert_eq!(schedule.learning_rate(2.0, 5), 0.5);
        assert_eq!(schedule.learning_rate(2.0, u64::MAX), 0.5);
    }
}
