//! Whether what comes from a fleet follows what is in use: a sign test on samples that neither has learned from.

use crate::evidence::paired::at_least;
pub use crate::evidence::paired::{Comparison, PairedVerdict, judge};
use serde::{Deserialize, Serialize};

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
pub fn accept(counted: Comparison, confidence: Option<f64>, follows: bool) -> (PairedVerdict, Accepted) {
    let p = at_least(counted.losses, counted.wins + counted.losses);
    let worse = confidence.map_or(counted.wins < counted.losses, |confidence| p < 1.0 - confidence);
    let accepted = match follows {
        true if worse => Accepted::Rejected,
        false if counted.wins < counted.losses => Accepted::Kept,
        _ => Accepted::Activated,
    };
    // The verdict's own probability is that of as many wins, for whoever reads the history.
    let verdict = judge(counted, confidence);
    (PairedVerdict { better: accepted == Accepted::Activated, ..verdict }, accepted)
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(accept(counted(1, 2), None, true).1, Accepted::Rejected);
        assert_eq!(accept(counted(2, 2), None, true).1, Accepted::Activated);
    }
}
