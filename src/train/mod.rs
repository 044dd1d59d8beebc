//! Stage 7, training: optimiser and schedule.

pub mod optimizer;
pub mod schedule;
