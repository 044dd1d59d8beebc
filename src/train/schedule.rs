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
    /// From a share of the rate up to it, by the same factor at every step.
    Growing {
        /// Steps of the whole run.
        total_steps: u64,
        /// The share of the rate that the first step gets.
        start_share: f64,
    },
}

impl Schedule {
    /// The same rate at every step.
    pub const CONSTANT: Self = Self::Constant { warmup_steps: 0 };

    /// The rate for the step with that number (0 is the first), where `peak` is the rate that was asked for.
    pub fn learning_rate(&self, peak: f64, step: u64) -> f64 {
        let warmup_steps = match *self {
            Self::Constant { warmup_steps } | Self::Cosine { warmup_steps, .. } => warmup_steps,
            Self::Growing { .. } => 0,
        };
        if step < warmup_steps {
            return peak * (step + 1) as f64 / warmup_steps as f64;
        }
        match *self {
            Self::Constant { .. } => peak,
            Self::Growing { total_steps, start_share } => {
                let left = 1.0 - step as f64 / total_steps.saturating_sub(1).max(1) as f64;
                peak * start_share.powf(left.max(0.0))
            }
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
    fn a_growing_rate_grows_by_one_factor() {
        let schedule = Schedule::Growing { total_steps: 4, start_share: 1e-6 };
        for (step, expected) in [(0, 2e-6), (1, 2e-4), (2, 2e-2), (3, 2.0), (9, 2.0)] {
            assert!((schedule.learning_rate(2.0, step) / expected - 1.0).abs() < 1e-9, "{step}");
        }
    }

    #[test]
    fn a_run_no_longer_than_its_warm_up_ends_at_the_end() {
        let schedule = Schedule::Cosine { warmup_steps: 4, total_steps: 4, end_share: 0.25 };
        assert_eq!(schedule.learning_rate(2.0, 3), 2.0);
        assert_eq!(schedule.learning_rate(2.0, 5), 0.5);
        assert_eq!(schedule.learning_rate(2.0, u64::MAX), 0.5);
    }
}
