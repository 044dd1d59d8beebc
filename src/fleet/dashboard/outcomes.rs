//! What devices say of releases, counted.

use crate::fleet::db::Outcome;

/// Verdicts that devices give, with what is said of them.
pub(super) const VERDICTS: [&str; 4] = ["activated", "kept", "rejected", "failed"];

/// What devices say of one release.
pub(super) fn of(outcomes: &[Outcome], version: i64) -> Vec<Outcome> {
    outcomes.iter().filter(|outcome| outcome.version == version).cloned().collect()
}

/// How many devices say that.
pub(super) fn devices(outcomes: &[Outcome], verdict: &str) -> i64 {
    outcomes.iter().filter(|outcome| outcome.verdict == verdict).map(|outcome| outcome.devices).sum()
}

/// Mean accuracy before (0) or after (1) over the devices that have measured it.
pub(super) fn mean(outcomes: &[Outcome], which: usize) -> Option<f64> {
    let measured: i64 = outcomes.iter().map(|outcome| outcome.measured).sum();
    let sum: f64 = outcomes.iter().map(|outcome| outcome.sums[which]).sum();
    (measured > 0).then(|| sum / measured as f64)
}
