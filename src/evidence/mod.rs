//! What counts and losses show beyond chance.
//!
//! Pure: takes numbers and gives a judgement. [`falls_below`] is a test of a share that may be asked after every observation without being
//! wrong more often for it: an agent judges an adapter's answers by it, the fleet's server a release's reports. [`paired`] compares two
//! models on the same samples: an agent's two adapters, and a training with what was there before.

pub mod paired;

/// Alternatives that the test weighs against what was promised.
const ALTERNATIVES: u32 = 64;

/// Whether `good` of `of` show that the share of good ones is below `promised` (0 to below 1).
///
/// Against the promise stand lower shares, spread evenly: under the promise or any better share, the mean of their likelihood
/// ratios is a non-negative supermartingale, which ever exceeds 1 / (1 − `confidence`) with a probability of at most
/// 1 − `confidence`, however often it is looked at (Ville, "Étude critique de la notion de collectif", 1939; Robbins,
/// "Statistical methods related to the law of the iterated logarithm", 1970).
pub fn falls_below(promised: f64, (good, of): (u64, u64), confidence: f64) -> bool {
    if promised <= 0.0 || of == 0 {
        return false;
    }
    let (good, bad) = (good as f64, of.saturating_sub(good) as f64);
    let ratios = (0..ALTERNATIVES).map(|index| {
        let share = promised * (f64::from(index) + 0.5) / f64::from(ALTERNATIVES);
        good * (share / promised).ln() + bad * ((1.0 - share) / (1.0 - promised)).ln()
    });
    let ratios: Vec<f64> = ratios.collect();
    let largest = ratios.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mean = ratios.iter().map(|ratio| (ratio - largest).exp()).sum::<f64>() / f64::from(ALTERNATIVES);
    largest + mean.ln() > -(1.0 - confidence).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_bad_ones_are_chance_and_many_are_not() {
        assert!(!falls_below(0.75, (0, 0), 0.99) && !falls_below(0.0, (0, 9), 0.99));
        assert!(!falls_below(0.75, (0, 1), 0.99) && !falls_below(0.75, (0, 3), 0.99));
        assert!(falls_below(0.75, (0, 6), 0.99));
        assert!(!falls_below(0.75, (750, 1000), 0.99) && !falls_below(0.75, (730, 1000), 0.99));
        assert!(falls_below(0.75, (650, 1000), 0.99));
    }

    /// Looked at after each of 2,000 observations, a share that is as promised is taken for a lower one in at most 5 of 100 rows.
    #[test]
    fn it_may_be_asked_after_every_observation() {
        let mut random = fastrand::Rng::with_seed(2);
        let mut wrong = 0;
        for _ in 0..400 {
            let mut good = 0;
            let found = (1..=2000).step_by(7).any(|of| {
                good += (0..7).filter(|_| random.f64() < 0.8).count() as u64;
                falls_below(0.8, (good.min(of + 6), of + 6), 0.95)
            });
            wrong += u32::from(found);
        }
        assert!(wrong <= 20, "{wrong} of 400");
    }
}
