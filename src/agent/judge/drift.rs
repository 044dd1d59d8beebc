//! Whether the device sees something else than it learned from: the difference of confidences.
//!
//! The mean probability of the answers on held-out samples, less that on what is predicted now, estimates how much accuracy
//! is lost where nobody answers (Guillory et al., "Predicting with confidence on unseen distributions", 2021). A block of
//! predictions is judged once, when it is full, so that looking often does not make alarms. Pure: no clock, no files.

use super::gate::Promise;
use serde::Serialize;

/// Predictions in a block.
pub const BLOCK: u64 = 200;
/// Standard errors that a difference must exceed: one block in thirty thousand does by chance.
const ERRORS: f64 = 4.0;

/// Confidences of one adapter's predictions.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Confidences {
    adapter: String,
    count: u64,
    sum: f64,
    squares: f64,
    last: Option<Drift>,
}

/// What the last full block showed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Drift {
    /// Mean confidence on held-out samples less that of the block: the accuracy that is probably lost, from −1 to 1.
    pub drop: f64,
    /// Whether it is more than chance explains.
    pub beyond_chance: bool,
}

impl Confidences {
    /// Takes the probability of a prediction's answer. Another adapter begins anew; one without a promise is not judged.
    pub fn take(&mut self, adapter: &str, probability: f64, promise: Option<&Promise>) {
        if self.adapter != adapter {
            *self = Self { adapter: adapter.into(), ..Self::default() };
        }
        self.count += 1;
        self.sum += probability;
        self.squares += probability * probability;
        if self.count == BLOCK {
            let mean = self.sum / BLOCK as f64;
            let variance = (self.squares / BLOCK as f64 - mean * mean).max(0.0);
            self.last = promise.map(|promise| compare(promise, mean, variance));
            (self.count, self.sum, self.squares) = (0, 0.0, 0.0);
        }
    }

    /// What the last full block of this adapter showed; `None` before there is one.
    pub fn last_block(&self, adapter: &str) -> Option<Drift> {
        self.last.filter(|_| self.adapter == adapter)
    }
}

/// Welch's statistic of two means ("The generalization of Student's problem", 1947).
fn compare(promise: &Promise, mean: f64, variance: f64) -> Drift {
    let drop = promise.confidence - mean;
    let held_out = promise.deviation * promise.deviation / promise.samples.max(1) as f64;
    let error = (held_out + variance / BLOCK as f64).sqrt();
    Drift { drop, beyond_chance: drop > ERRORS * error }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROMISE: Promise = Promise { samples: 100, right: 90, confidence: 0.9, deviation: 0.1 };

    fn blocks(mean: f64, count: u64) -> Vec<Drift> {
        let mut random = fastrand::Rng::with_seed(3);
        let mut confidences = Confidences::default();
        let mut found = Vec::new();
        for number in 1..=count * BLOCK {
            confidences.take("a", (mean + 0.34 * (random.f64() - 0.5)).clamp(0.0, 1.0), Some(&PROMISE));
            if number % BLOCK == 0 {
                found.push(confidences.last_block("a").unwrap());
            }
        }
        found
    }

    #[test]
    fn the_same_is_no_drift_and_less_is() {
        assert!(blocks(0.88, 500).iter().all(|block| !block.beyond_chance), "a little less than promised");
        let lost = blocks(0.7, 5);
        assert!(lost.iter().all(|block| block.beyond_chance && (block.drop - 0.2).abs() < 0.02), "{lost:?}");
        assert!(blocks(1.0, 2).iter().all(|block| block.drop < 0.0 && !block.beyond_chance), "surer is no alarm");
    }

    #[test]
    fn an_adapter_is_judged_by_its_own_full_blocks() {
        let mut confidences = Confidences::default();
        (1..BLOCK).for_each(|_| confidences.take("a", 0.1, Some(&PROMISE)));
        assert_eq!(confidences.last_block("a"), None);
        confidences.take("b", 0.1, Some(&PROMISE));
        (1..BLOCK).for_each(|_| confidences.take("a", 0.1, Some(&PROMISE)));
        assert_eq!(
            (confidences.last_block("a"), confidences.last_block("b")),
            (None, None),
            "one block was never full"
        );
        confidences.take("a", 0.1, Some(&PROMISE));
        assert!(confidences.last_block("a").unwrap().beyond_chance);
        (0..BLOCK).for_each(|_| confidences.take("c", 0.1, None));
        assert_eq!(confidences.last_block("c"), None, "nothing was promised");
    }

    #[test]
    fn equal_confidences_have_no_error_and_no_drift() {
        let promise = Promise { deviation: 0.0, confidence: 1.0, ..PROMISE };
        assert!(!compare(&promise, 1.0, 0.0).beyond_chance && compare(&promise, 0.99, 0.0).beyond_chance);
    }
}
