//! Samples that a person should look at before anybody learns from them: labels that are probably wrong, samples that are nearly the same,
//! and such as are like no other.
//!
//! Pure: takes features and answers as matrices, and gives rows of these. What a row is, is the caller's to say.

mod labels;
mod neighbours;

pub use labels::{Mislabelled, Surprising, mislabelled, surprising};
pub use neighbours::{Neighbours, Outlier, Pair};
