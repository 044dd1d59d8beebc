//! Why deltas cannot be combined.

use crate::delta;
use thiserror::Error as ThisError;

/// Why deltas cannot be combined. Deltas are told by their position, counted from 0.
#[derive(Debug, ThisError)]
#[non_exhaustive]
pub enum Error {
    /// There is nothing to combine.
    #[error("no delta to combine; wait for the first one")]
    Empty,
    /// A weight that is none.
    #[error("delta {index} has the weight {weight}; weights are above 0 and finite, leave out what is not to count")]
    Weight {
        /// Position of the delta.
        index: usize,
        /// What was given.
        weight: f64,
    },
    /// A delta that does not come, or not whole.
    #[error("delta {index} cannot be read: {problem}")]
    Read {
        /// Position of the delta.
        index: usize,
        /// What the reader said.
        problem: Box<dyn core::error::Error + Send + Sync>,
    },
    /// Bytes that are no delta, or one that does not stand alone.
    #[error("delta {index}: {source}")]
    Delta {
        /// Position of the delta.
        index: usize,
        /// What is wrong with it.
        source: delta::Error,
    },
    /// A delta of another form.
    #[error("delta {index} has another {what} than the first; combine those of one recipe")]
    Unlike {
        /// Position of the delta.
        index: usize,
        /// What differs.
        what: String,
    },
    /// A delta that would count twice.
    #[error("delta {index} is delta {first} once more; leave one of them out")]
    Twice {
        /// Position of the second one.
        index: usize,
        /// Position of the first one.
        first: usize,
    },
    /// A part to trim that leaves nothing.
    #[error("a trimmed mean leaves out {0} at each end; give a part from 0 to below 0.5")]
    Trim(f64),
    /// A bound that is none.
    #[error("a norm of at most {0} leaves nothing; give one above 0, or none for the median of the norms")]
    Norm(f64),
    /// A rank that is none.
    #[error("rank {0} cannot be; give 1 to 65535")]
    Rank(u32),
    /// The adapter that the round began with is none that these deltas could have begun with.
    #[error("the round's first adapter: {0}")]
    Reference(delta::Error),
    /// The adapter that the round began with has another form.
    #[error("the round's first adapter has another {0} than the deltas; give the release that the devices had")]
    OtherReference(String),
    /// What came out is no delta: a value too large for fp16, mostly.
    #[error("`{name}` of the outcome: {source}; clip the norms, or take the median")]
    Outcome {
        /// Tensor or module; empty for the delta as a whole.
        name: String,
        /// What is wrong with it.
        source: delta::Error,
    },
}
