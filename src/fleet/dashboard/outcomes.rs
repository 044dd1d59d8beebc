//! What devices say of releases, counted.

use crate::fleet::db::Outcome;
use crate::sync::wire::ReleaseVerdict;

/// Verdicts that devices give, in the order of the pages.
pub(super) const VERDICTS: [ReleaseVerdict; 4] =
    [ReleaseVerdict::Activated, ReleaseVerdict::Kept, ReleaseVerdict::Rejected, ReleaseVerdict::Failed];

/// What devices say of one release.
pub(super) fn of_release(outcomes: &[Outcome], version: i64) -> Vec<Outcome> {
    outcomes.iter().filter(|outcome| outcome.version == version).cloned().collect()
}

/// How many devices say that.
pub(super) fn devices(outcomes: &[Outcome], verdict: ReleaseVerdict) -> i64 {
    outcomes.iter().filter(|outcome| outcome.verdict == verdict).map(|outcome| outcome.devices).sum()
}

/// Mean accuracy before (0) or after (1) over the devices that have measured it.
pub(super) fn mean(outcomes: &[Outcome], which: usize) -> Option<f64> {
    let measured: i64 = outcomes.iter().map(|outcome| outcome.measured).sum();
    let sum: f64 = outcomes.iter().map(|outcome| outcome.sums[which]).sum();
    (measured > 0).then(|| sum / measured as f64)
}
