//! Stage 10: many deltas → one.
//!
//! Takes deltas of one [`RoundForm`] through a reader, each with a weight; gives the bytes of a new delta, unsigned: who signs it
//! answers for it. What is combined is what the deltas *do* to the base: where an adapter is a product of factors (LoRA), the
//! products are combined coordinate by coordinate, never the factors, whose mean is something else (arXiv 2410.09432).
//!
//! Never touches a file, a clock or a network, and never holds more than one delta at a time beside what it computes: a mean
//! needs the same memory for three devices as for three million, a median as much as it is allowed.

mod combine;
mod compare;
mod contribution;
mod error;
mod form;
mod norm;
mod recipe;
mod rule;
mod stale;

pub use combine::{Combined, Options, Read, combine};
pub use compare::{Compared, compare};
pub use error::Error;
pub use form::{Part, RoundForm, Shape};
pub use norm::Clip;
pub use rule::Rule;
pub use stale::{Current, Refusal, Staleness, bound, weight};
