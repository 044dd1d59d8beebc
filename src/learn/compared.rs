//! What was measured before a training and after it, beside what the commonest answer shows.

use crate::train::evaluate::Metrics;
use serde::Serialize;

/// Measurements on the same samples before and after training.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs)]
pub struct BeforeAfter {
    /// What is to be beaten: the base (or the adapter that was gone on from), or without a head for these classes the commonest class.
    pub before: Metrics,
    pub after: Metrics,
    /// What the training samples' commonest class shows, or their mean; none for a language model.
    pub commonest: Option<Metrics>,
    /// What the base shows, or the adapter that was gone on from; none where the head started from nothing.
    pub base: Option<Metrics>,
}

impl BeforeAfter {
    /// `first`: what the first values show; `fresh`: whether they hold a head that started from nothing.
    pub fn new(first: Metrics, after: Metrics, commonest: Option<Metrics>, fresh: bool) -> Self {
        let base = (!fresh).then(|| first.clone());
        let before = base.clone().or_else(|| commonest.clone()).unwrap_or(first);
        Self { before, after, commonest, base }
    }
}
