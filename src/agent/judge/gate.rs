//! Whether a new adapter is better than the one in use, beyond what chance explains: a sign test on samples that neither
//! has learned from.
//!
//! Of the samples that exactly one of the two gets right (for numbers: that one of the two is closer to) each is a coin
//! toss if both are equally good. The probability of at least as many wins is then a binomial tail (McNemar, "Note on the
//! sampling error of the difference between correlated proportions or percentages", 1947, in its exact form).

use serde::{Deserialize, Serialize};

/// How two adapters compare on the held-out samples.
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
pub struct Verdict {
    /// What was counted.
    pub counted: Comparison,
    /// Probability of as many wins if the new one were no better, from 0 to 1.
    pub p: f64,
    /// Whether the new one is put to use.
    pub better: bool,
}

/// What an adapter showed on the held-out samples when it was judged.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Promise {
    /// Held-out samples.
    pub samples: u64,
    /// Of them, those that it got right.
    pub right: u64,
    /// Mean probability of its answers.
    pub confidence: f64,
    /// Standard deviation of that probability.
    pub deviation: f64,
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
}

/// Better where the wins would come by chance with a probability below 1 − `confidence`; without one, where it gets at least as
/// many right.
pub fn judge(counted: Comparison, confidence: Option<f64>) -> Verdict {
    let p = at_least(counted.wins, counted.wins + counted.losses);
    let better = confidence.map_or(counted.wins >= counted.losses, |confidence| p < 1.0 - confidence);
    Verdict { counted, p, better }
}

/// What becomes of a fleet's release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Accepted {
    /// It is put to use.
    Activated,
    /// What the device has learned itself is better here, and stays.
    Kept,
    /// It is worse than the release or the base that it was to follow, beyond what chance explains.
    Rejected,
}

/// Whether a release follows what is in use. Where that is a release, too, or nothing (`follows`), the new one does unless it is
/// worse beyond what chance explains with `confidence` (without one, worse at all): whether it is better, all devices together find out. What was learned
/// here yields to a release that gets at least as many right.
pub fn accept(counted: Comparison, confidence: Option<f64>, follows: bool) -> (Verdict, Accepted) {
    let p = at_least(counted.losses, counted.wins + counted.losses);
    let worse = confidence.map_or(counted.wins < counted.losses, |confidence| p < 1.0 - confidence);
    let accepted = match follows {
        true if worse => Accepted::Rejected,
        false if counted.wins < counted.losses => Accepted::Kept,
        _ => Accepted::Activated,
    };
    // The verdict's own probability is that of as many wins, for whoever reads the history.
    let verdict = judge(counted, confidence);
    (Verdict { better: accepted == Accepted::Activated, ..verdict }, accepted)
}

/// The probability of `wins` or more heads in `tosses` of a fair coin, in logarithms so that nothing underflows.
fn at_least(wins: u64, tosses: u64) -> f64 {
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
    fn a_release_follows_a_release_unless_it_is_clearly_worse() {
        let accepted = |wins, losses, follows| accept(Comparison { wins, losses, ties: 10 }, Some(0.95), follows).1;
        assert_eq!(accepted(0, 0, true), Accepted::Activated, "as good is good enough");
        assert_eq!(accepted(0, 4, true), Accepted::Activated, "one in 16 is luck");
        assert_eq!(accepted(0, 5, true), Accepted::Rejected, "one in 32 is not");
        assert_eq!(accepted(20, 20, true), Accepted::Activated);
        assert_eq!(accepted(0, 1, false), Accepted::Kept, "what was learned here yields to nothing that is worse");
        assert_eq!(accepted(0, 9, false), Accepted::Kept, "which is no evidence against the release");
        assert_eq!(accepted(3, 3, false), Accepted::Activated);
        assert!(accept(Comparison { wins: 1, losses: 0, ties: 0 }, Some(0.95), true).0.better);
    }

    #[test]
    fn without_a_confidence_what_is_as_good_follows() {
        let counted = |wins, losses| Comparison { wins, losses, ties: 10 };
        assert!(judge(counted(1, 1), None).better && judge(counted(0, 0), None).better);
        assert!(!judge(counted(1, 2), None).better);
        assert_eq!(accept(counted(1, 2), None, true).1, Accepted::Rejected);
        assert_eq!(accept(counted(2, 2), None, true).1, Accepted::Activated);
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
