//! Whether an adapter keeps what its verdict promised, by what people say of its predictions: a test that may be asked after every
//! answer without being wrong more often for it. Never is an adapter taken back for a few unlucky answers. Pure.

use super::gate::Promise;
use crate::agent::config::Unanswered;
use crate::evidence::falls_below;
use serde::Serialize;

/// The normal distribution's quantile of the promise's lower bound: one in twenty promises is lower.
const PROMISE_Z: f64 = 1.645;

/// What is known of an adapter's predictions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// All.
    pub predicted: u64,
    /// Those that somebody said to be right.
    pub right: u64,
    /// Those that somebody said to be wrong.
    pub wrong: u64,
}

impl Tally {
    /// Right ones and all of those that count.
    pub fn counted(&self, unanswered: Unanswered) -> (u64, u64) {
        let answered = self.right + self.wrong;
        let of = match unanswered {
            Unanswered::Ignored => answered,
            Unanswered::Right => answered.max(self.predicted),
        };
        (of - self.wrong, of)
    }
}

/// Whether `right` of `of` predictions show that an adapter is worse than it promised; may be asked after every answer
/// ([`falls_below`]).
///
/// The promise is the lower end of Wilson's interval ("Probable inference, the law of succession, and statistical
/// inference", 1927) of its accuracy on held-out samples.
pub fn falls_short(promise: &Promise, counted: (u64, u64), confidence: f64) -> bool {
    falls_below(wilson_lower(promise.right, promise.samples), counted, confidence)
}

/// The lower end of Wilson's interval for `right` of `of`.
fn wilson_lower(right: u64, of: u64) -> f64 {
    if of == 0 {
        return 0.0;
    }
    let (n, z) = (of as f64, PROMISE_Z);
    let share = right as f64 / n;
    let middle = share + z * z / (2.0 * n);
    let half = z * (share * (1.0 - share) / n + z * z / (4.0 * n * n)).sqrt();
    ((middle - half) / (1.0 + z * z / n)).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn promise(right: u64, samples: u64) -> Promise {
        Promise { samples, right, confidence: 0.9, deviation: 0.1 }
    }

    #[test]
    fn wilsons_interval_is_the_books() {
        // Newcombe, "Two-sided confidence intervals for the single proportion", 1998, table I, 81 of 263 at 95 %: 0.2553.
        let (n, z, share) = (263.0, 1.959_964, 81.0 / 263.0);
        let half: f64 = z * f64::sqrt(share * (1.0 - share) / n + z * z / (4.0 * n * n));
        assert!(((share + z * z / (2.0 * n) - half) / (1.0 + z * z / n) - 0.2553f64).abs() < 1e-4);
        assert!((wilson_lower(100, 100) - 1.0 / (1.0 + PROMISE_Z * PROMISE_Z / 100.0)).abs() < 1e-12);
        assert_eq!((wilson_lower(0, 10), wilson_lower(0, 0)), (0.0, 0.0));
    }

    #[test]
    fn a_bad_adapter_is_found_and_a_few_mistakes_are_not_enough() {
        let good = promise(95, 100);
        assert!(!falls_short(&good, (0, 0), 0.99) && !falls_short(&good, (0, 1), 0.99), "one mistake");
        assert!(falls_short(&good, (0, 6), 0.99), "wrong six times in a row");
        assert!(!falls_short(&good, (90, 100), 0.99) && falls_short(&good, (70, 100), 0.99));
        assert!(!falls_short(&promise(4, 5), (3, 6), 0.99), "little was promised by five samples");
        assert!(!falls_short(&promise(0, 50), (0, 1000), 0.99), "nothing was promised");
    }

    /// A thousand adapters as good as the lower end of their promise, looked at after each of 400 answers.
    #[test]
    fn looking_after_every_answer_takes_few_good_adapters_back() {
        let promised = promise(90, 100);
        let accuracy = wilson_lower(90, 100);
        let taken_back = |accuracy: f64, seed: u64| {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut right = 0;
            (1..=400).any(|of| {
                right += u64::from(random.f64() < accuracy);
                falls_short(&promised, (right, of), 0.95)
            })
        };
        let good = (0..1000).filter(|seed| taken_back(accuracy, *seed)).count();
        assert!(good <= 70, "{good} of 1000, where 50 are allowed on average");
        let bad = (0..200).filter(|seed| taken_back(accuracy - 0.2, *seed)).count();
        assert!(bad >= 195, "{bad} of 200 that are worse by a fifth");
    }

    proptest! {
        #[test]
        fn more_right_answers_never_count_against(right in 0u64..500, of in 1u64..500, promised in 1u64..100) {
            let right = right.min(of);
            let promise = promise(promised, 100);
            let short = |right| falls_short(&promise, (right, of), 0.99);
            prop_assert!(right == of || !short(right + 1) || short(right));
            prop_assert!(!falls_short(&promise, (of, of), 0.99));
        }
    }
}
