//! How much a delta counts: by its samples and by its age in rounds.
//!
//! Asynchronous fleets have devices that were asleep when the adapter they learned on was replaced. What they learned is old
//! news, and counts less the older it is: (1 + age)^−a, the polynomial of FedAsync (arXiv 1903.03934, section 5.2).

use crate::delta::Header;
use std::fmt;

/// What a delta is to have learned on in order to be fresh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Current {
    /// The base of the round.
    pub base: [u8; 32],
    /// Its number; a delta of a later one cannot be.
    pub round: u32,
}

/// How samples and age weigh.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Staleness {
    /// Age in rounds up to which a delta counts at all.
    pub rounds_max: u32,
    /// `a` of (1 + age)^−a; 0 lets old deltas count as new ones.
    pub exponent: f64,
    /// Samples that a device can weigh by, at most: what it says of them nobody can check, and none may outvote the fleet.
    pub samples_max: u64,
}

impl Default for Staleness {
    fn default() -> Self {
        Self { rounds_max: 3, exponent: 0.5, samples_max: 1000 }
    }
}

/// Why a delta does not count in a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// It was learned on another base.
    OtherBase,
    /// It belongs to a round that has not begun.
    Future {
        /// What it says.
        round: u32,
        /// The round now.
        current: u32,
    },
    /// It is too old.
    Stale {
        /// Rounds since.
        age: u32,
        /// Rounds that are allowed.
        rounds_max: u32,
    },
    /// It has learned from nothing.
    NoSamples,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::OtherBase => f.write_str("the delta was learned on another base; fetch the current release"),
            Refusal::Future { round, current } => {
                write!(f, "the delta belongs to round {round}, and this is round {current}; fetch the current release")
            }
            Refusal::Stale { age, rounds_max } => write!(
                f,
                "the delta is {age} rounds old, at most {rounds_max} count; fetch the current release and learn on it"
            ),
            Refusal::NoSamples => f.write_str("the delta has learned from no sample; train before sending"),
        }
    }
}

/// The weight of a delta in a round, above 0. A delta that names no round belongs to the one that takes it.
///
/// # Errors
/// Why it does not count.
pub fn weight(header: &Header, current: &Current, staleness: &Staleness) -> Result<f64, Refusal> {
    if header.base != current.base {
        return Err(Refusal::OtherBase);
    }
    let round = header.round.unwrap_or(current.round);
    let age = current.round.checked_sub(round).ok_or(Refusal::Future { round, current: current.round })?;
    if age > staleness.rounds_max {
        return Err(Refusal::Stale { age, rounds_max: staleness.rounds_max });
    }
    match header.samples.min(staleness.samples_max) {
        0 => Err(Refusal::NoSamples),
        samples => Ok(samples as f64 * (1.0 + f64::from(age)).powf(-staleness.exponent)),
    }
}

/// How far above the middle weight of a round a weight may be.
const ABOVE_MEDIAN: f64 = 4.0;

/// Bounds the weights of a round by four times their median: how many samples a device has learned from is its own word, and no word
/// moves the median far.
pub fn bound(weights: &mut [f64]) {
    let mut sorted = weights.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    // Of an even number the lower one of the two in the middle, so that half of the devices cannot raise it alone.
    let Some(median) = sorted.get(sorted.len().saturating_sub(1) / 2).copied() else { return };
    weights.iter_mut().for_each(|weight| *weight = weight.min(ABOVE_MEDIAN * median));
}

#[cfg(test)]
mod tests {
    use super::*;

    const CURRENT: Current = Current { base: [1; 32], round: 7 };

    fn weight_of(base: u8, round: Option<u32>, samples: u64) -> Result<f64, Refusal> {
        let header = Header { base: [base; 32], round, samples, ..Header::default() };
        weight(&header, &CURRENT, &Staleness { rounds_max: 3, exponent: 0.5, samples_max: 100 })
    }

    #[test]
    fn samples_weigh_up_to_a_bound_and_age_discounts_them() {
        assert_eq!(weight_of(1, Some(7), 40), Ok(40.0));
        assert_eq!(weight_of(1, None, 40), Ok(40.0));
        assert_eq!(weight_of(1, Some(7), u64::MAX), Ok(100.0));
        assert_eq!(weight_of(1, Some(4), 40), Ok(20.0)); // (1 + 3)^−½ = ½
    }

    #[test]
    fn no_word_outweighs_the_round() {
        let bounded = |weights: &[f64]| {
            let mut weights = weights.to_vec();
            bound(&mut weights);
            weights
        };
        assert_eq!(bounded(&[40.0, 1000.0, 40.0, 30.0, 50.0]), [40.0, 160.0, 40.0, 30.0, 50.0]);
        assert_eq!(bounded(&[10.0, 1000.0]), [10.0, 40.0]);
        assert_eq!((bounded(&[7.0]), bounded(&[])), (vec![7.0], vec![]));
    }

    #[test]
    fn what_cannot_count_is_refused_with_the_reason() {
        assert_eq!(weight_of(2, Some(7), 40), Err(Refusal::OtherBase));
        assert_eq!(weight_of(1, Some(8), 40), Err(Refusal::Future { round: 8, current: 7 }));
        assert_eq!(weight_of(1, Some(3), 40), Err(Refusal::Stale { age: 4, rounds_max: 3 }));
        assert_eq!(weight_of(1, Some(7), 0), Err(Refusal::NoSamples));
    }
}
