//! Stage 7, before the run: what each cut would cost, and what is worth learning within a budget.
//!
//! Takes a base, a request, the run's settings and, for the choice, measurements of the user's own data on the user's own
//! device; gives an estimate of memory and time for each candidate, and the candidate that fits and is expected to help
//! most. Estimating runs nothing but ONNX Runtime's type inference. It never reads the clock: time arrives as a function.

pub mod arena;
pub mod liveness;
pub mod memory;
