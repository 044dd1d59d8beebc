//! How long to wait before the next try. Pure.
//!
//! Exponential back-off with full jitter (M. Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog, 2015): the time is
//! drawn from zero to a bound that doubles, so a thousand devices that lost the server at the same moment do not come back at
//! the same moment.

use std::time::Duration;

/// The bound after the first failure.
const DELAY_MIN: Duration = Duration::from_secs(1);
/// The bound that no number of failures exceeds.
pub const DELAY_MAX: Duration = Duration::from_secs(60);
/// What a server may ask to wait; a command that was asked for more ends instead.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);

/// The wait after so many `failures` in a row (1: the first), where `chance` is drawn evenly from 0…1 and the server has asked to
/// wait for `asked`. What it asked is waited in full, and the jitter comes on top. `None`: it asked for more than
/// [`RETRY_AFTER_MAX`].
pub fn delay(failures: u32, chance: f64, asked: Option<Duration>) -> Option<Duration> {
    let doublings = failures.saturating_sub(1).min(16);
    let bound = DELAY_MIN.saturating_mul(1 << doublings).min(DELAY_MAX);
    let asked = asked.unwrap_or_default();
    (asked <= RETRY_AFTER_MAX).then(|| asked + bound.mul_f64(chance.clamp(0.0, 1.0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_bound_doubles_up_to_the_largest() {
        let bounds: Vec<u64> = (0..9).map(|failures| delay(failures, 1.0, None).unwrap().as_secs()).collect();
        assert_eq!(bounds, [1, 1, 2, 4, 8, 16, 32, 60, 60]);
    }

    proptest! {
        #[test]
        fn a_wait_lies_between_what_was_asked_and_the_bound(
            failures: u32, chance in 0.0..=1.0f64, asked_s in prop::option::of(0u64..600),
        ) {
            let asked = asked_s.map(Duration::from_secs);
            let least = asked.unwrap_or_default();
            match delay(failures, chance, asked) {
                Some(wait) => prop_assert!(least <= wait && wait <= least + DELAY_MAX && least <= RETRY_AFTER_MAX),
                None => prop_assert!(least > RETRY_AFTER_MAX),
            }
        }

        /// All of the span is used, evenly: that is what keeps devices apart.
        #[test]
        fn chance_is_spread_over_the_whole_bound(failures in 1u32..40, chance in 0.0..=1.0f64) {
            let (all, part) = (delay(failures, 1.0, None).unwrap(), delay(failures, chance, None).unwrap());
            prop_assert!((part.as_secs_f64() - chance * all.as_secs_f64()).abs() < 1e-6);
        }

        #[test]
        fn no_chance_makes_it_panic(failures: u32, chance in prop::num::f64::ANY) {
            let chance = if chance.is_nan() { 0.0 } else { chance };
            prop_assert!(delay(failures, chance, None).unwrap() <= DELAY_MAX);
        }
    }
}
