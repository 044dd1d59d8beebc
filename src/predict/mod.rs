//! Answers of a model with what was learned on it: of one sample at a time, of many at once, and texts that go on.
//!
//! Takes a model, a delta and samples (files, bytes or texts); gives answers as values, which name classes with their shares,
//! numbers, or text. Nothing here parses options or prints.

mod answers;
mod generate;
pub mod identities;
mod many;
mod one;

pub use crate::task::{Answer, FoundBox, Scored, Span};
pub use answers::Prediction;
pub use generate::{Completion, Refusal, Writer};
pub use identities::{Enrolled, Identities, Nearest};
pub use many::Samples;
pub use one::{Predictor, Takes};
