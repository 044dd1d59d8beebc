//! Two models on the same samples: whether one is better, and by how much at least, beyond what chance explains.
//!
//! Of the samples that exactly one of the two gets right (for numbers: that one of the two is closer to) each is a coin
//! toss if both are equally good. The probability of at least as many wins is then a binomial tail (McNemar, "Note on the
//! sampling error of the difference between correlated proportions or percentages", 1947, in its exact form).

use serde::{Deserialize, Serialize};

/// How two models compare on samples that neither has learned from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Comparison {
    /// Samples that the new one alone gets right.
    pub wins: u64,
    /// Samples that the old one alone gets right.
    pub losses: u64,
    /// Samples on which both do the same.
    pub ties: u64,
}

/// What follows.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PairedVerdict {
    /// What was counted.
    pub counted: Comparison,
    /// Probability of as many wins if the new one were no better, from 0 to 1.
    pub p: f64,
    /// Whether the new one is put to use.
    pub better: bool,
}

impl Comparison {
    /// Samples compared.
    pub fn samples(&self) -> u64 {
        self.wins + self.losses + self.ties
    }

    /// Share that the new one gets right more than the old, from −1 to 1.
    pub fn gain(&self) -> f64 {
        (self.wins as f64 - self.losses as f64) / self.samples().max(1) as f64
    }

    /// The share that the new one gets right more than the old at least, with `confidence` (above 0.5): the lower end of Tango's score
    /// interval ("Equivalence test and confidence interval for the difference in proportions for the paired-sample design", 1998), with
    /// Edwards' correction for continuity, which keeps it as careful with few samples as the exact test of [`judge`]. -1 without samples.
    pub fn gain_at_least(&self, confidence: f64) -> f64 {
        let quantile = normal_quantile(confidence);
        let (mut low, mut high) = (-1.0, 1.0);
        // The score falls as the gain that is asked about grows.
        for _ in 0..60 {
            let middle = 0.5 * (low + high);
            if self.score(middle) > quantile { low = middle } else { high = middle }
        }
        low
    }

    /// How many standard deviations more was won than a true gain of `gain` would have, and a count more.
    fn score(&self, gain: f64) -> f64 {
        let (wins, losses, samples) = (self.wins as f64, self.losses as f64, self.samples() as f64);
        // The likeliest share of losses if the gain is that: the larger root of a·q² + b·q + c.
        let a = 2.0 * samples;
        let b = (2.0 * samples - wins + losses) * gain - wins - losses;
        let c = -losses * gain * (1.0 - gain);
        let lost = ((b * b - 4.0 * a * c).max(0.0).sqrt() - b) / (2.0 * a);
        let variance = samples * (2.0 * lost + gain * (1.0 - gain));
        let more = wins - losses - samples * gain - 1.0;
        if variance > 0.0 { more / variance.sqrt() } else { f64::INFINITY.copysign(more) }
    }
}

/// Better where the wins would come by chance with a probability below 1 − `confidence`; without one, where it gets at least as
/// many right.
pub fn judge(counted: Comparison, confidence: Option<f64>) -> PairedVerdict {
    let p = at_least(counted.wins, counted.wins + counted.losses);
    let better = confidence.map_or(counted.wins >= counted.losses, |confidence| p < 1.0 - confidence);
    PairedVerdict { counted, p, better }
}

/// By which share of the old losses' sum the new ones' is lower at least, with `confidence`, for losses of the same samples in the same
/// order: the estimate of a ratio less its error (Cochran, "Sampling Techniques", 1977, section 6.4). Minus infinity for fewer than two.
pub fn loss_gain_at_least(old: &[f64], new: &[f64], confidence: f64) -> f64 {
    let (samples, sum) = (old.len().min(new.len()) as f64, old.iter().sum::<f64>());
    if samples < 2.0 || sum <= 0.0 {
        return f64::NEG_INFINITY;
    }
    let ratio = new.iter().sum::<f64>() / sum;
    let squares: f64 = old.iter().zip(new).map(|(old, new)| (new - ratio * old).powi(2)).sum();
    let error = (squares * samples / (samples - 1.0)).sqrt() / sum;
    1.0 - ratio - normal_quantile(confidence) * error
}

/// The number below which a share of a normal distribution lies, from its distribution function by halving.
fn normal_quantile(share: f64) -> f64 {
    let (mut low, mut high) = (-8.0, 8.0);
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        if normal_share(middle) < share { low = middle } else { high = middle }
    }
    0.5 * (low + high)
}

/// The share of a normal distribution below a number: ½ + φ(x)·(x + x³/3 + x⁵/15 + …) (Marsaglia, "Evaluating the normal distribution",
/// 2004).
fn normal_share(below: f64) -> f64 {
    let (mut term, mut sum, mut odd) = (below, below, 1.0);
    while f64::abs(term) > 1e-17 * f64::abs(sum).max(f64::MIN_POSITIVE) {
        odd += 2.0;
        term *= below * below / odd;
        sum += term;
    }
    0.5 + sum * (-0.5 * below * below).exp() / (2.0 * std::f64::consts::PI).sqrt()
}

/// The probability of `wins` or more heads in `tosses` of a fair coin, in logarithms so that nothing underflows.
pub fn at_least(wins: u64, tosses: u64) -> f64 {
    let mut log_choose = 0.0f64; // ln of tosses over k, from k = 0
    let mut tail = 0.0;
    for k in 0..=tosses {
        if k >= wins {
            tail += (log_choose - tosses as f64 * std::f64::consts::LN_2).exp();
        }
        log_choose += ((tosses - k) as f64).ln() - ((k + 1) as f64).ln();
    }
    tail.min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn tails_of_a_fair_coin() {
        // By hand: 5 of 5 is 1/32; 8 or more of 10 is (45 + 10 + 1) / 1024; none of none is certain.
        for (wins, tosses, expected) in [(5, 5, 1.0 / 32.0), (8, 10, 56.0 / 1024.0), (0, 0, 1.0), (0, 7, 1.0)] {
            assert!(
                (at_least(wins, tosses) - expected).abs() < 1e-12,
                "{wins} of {tosses}: {}",
                at_least(wins, tosses)
            );
        }
        assert!(at_least(60_000, 100_000) < 1e-100 && (at_least(50_000, 100_000) - 0.5).abs() < 0.01);
    }

    #[test]
    fn luck_is_not_enough() {
        let judged = |wins, losses| judge(Comparison { wins, losses, ties: 100 }, Some(0.95)).better;
        assert!(!judged(0, 0), "the same is not better");
        assert!(!judged(4, 0) && judged(5, 0), "one in 16 and one in 32");
        assert!(!judged(20, 15) && judged(30, 15));
        assert!(!judged(15, 30));
    }

    #[test]
    fn without_a_confidence_what_is_as_good_follows() {
        let judged = |wins, losses| judge(Comparison { wins, losses, ties: 10 }, None).better;
        assert!(judged(1, 1) && judged(0, 0) && !judged(1, 2));
    }

    #[test]
    fn quantiles_of_the_normal_distribution() {
        // From tables.
        for (share, expected) in [(0.5, 0.0), (0.95, 1.644_853_627), (0.975, 1.959_963_985), (0.99, 2.326_347_874)] {
            assert!((normal_quantile(share) - expected).abs() < 1e-8, "{share}: {}", normal_quantile(share));
        }
    }

    /// A bound above zero and the exact test agree, but for where chance is within a hair of what is allowed.
    #[test]
    fn the_least_gain_is_above_zero_where_the_exact_test_says_better() {
        let mut differing = 0;
        for wins in 0..60u64 {
            for losses in 0..60u64 {
                let counted = Comparison { wins, losses, ties: 40 };
                let verdict = judge(counted, Some(0.95));
                if verdict.better != (counted.gain_at_least(0.95) > 0.0) {
                    differing += 1;
                    assert!((verdict.p - 0.05).abs() < 0.006, "{wins} to {losses}: {}", verdict.p);
                }
            }
        }
        assert!(differing < 40, "{differing}");
    }

    /// Of adapters that gain just what is asked for, at most about one in twenty seems to gain more; of those that gain much more, most do.
    #[test]
    fn a_gain_that_is_not_there_is_seldom_seen() {
        let mut random = fastrand::Rng::with_seed(7);
        let mut seen = |wins: f64, losses: f64, least: f64| {
            let mut count = 0;
            for _ in 0..1000 {
                let mut counted = Comparison::default();
                for _ in 0..200 {
                    let drawn = random.f64();
                    counted.wins += u64::from(drawn < wins);
                    counted.losses += u64::from((wins..wins + losses).contains(&drawn));
                }
                counted.ties = 200 - counted.wins - counted.losses;
                count += u32::from(counted.gain_at_least(0.95) >= least);
            }
            count
        };
        for (wins, losses, least) in [(0.1, 0.1, 0.0), (0.07, 0.02, 0.05), (0.05, 0.0, 0.05), (0.3, 0.2, 0.1)] {
            let passed = seen(wins, losses, least);
            assert!(passed <= 62, "{wins} to {losses}: {passed} of 1000");
        }
        assert!(seen(0.2, 0.02, 0.05) > 950);
    }

    #[test]
    fn losses_that_are_lower_by_a_share_show_it() {
        let old: Vec<f64> = (0..100).map(|place| 1.0 + f64::from(place % 7)).collect();
        let new: Vec<f64> =
            old.iter().enumerate().map(|(place, loss)| loss * if place % 2 == 0 { 0.8 } else { 0.6 }).collect();
        let least = loss_gain_at_least(&old, &new, 0.95);
        assert!((0.27..0.3).contains(&least), "{least}");
        assert!((loss_gain_at_least(&old, &old, 0.95)).abs() < 1e-12 && loss_gain_at_least(&new, &old, 0.95) < 0.0);
        assert_eq!(loss_gain_at_least(&old[..1], &new[..1], 0.95), f64::NEG_INFINITY);
    }

    proptest! {
        #[test]
        fn more_wins_never_count_against(wins in 0u64..300, losses in 0u64..300) {
            let p = |wins| judge(Comparison { wins, losses, ties: 0 }, Some(0.95)).p;
            prop_assert!(p(wins + 1) <= p(wins) + 1e-12);
            prop_assert!((0.0..=1.0).contains(&p(wins)));
        }

        /// P(at least w of n) + P(at least n − w + 1 of n) = 1.
        #[test]
        fn both_tails_make_one(tosses in 1u64..400, share in 0.0f64..1.0) {
            let wins = (tosses as f64 * share) as u64;
            prop_assert!((at_least(wins, tosses) + at_least(tosses - wins + 1, tosses) - 1.0).abs() < 1e-9);
        }
    }
}
