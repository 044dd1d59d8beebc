//! The names of a step graph's input and output that everyone asks for.

/// Name of the labels' input.
pub const LABELS: &str = "edgetune.labels";
/// Name of the loss's output, a scalar.
pub const LOSS: &str = "edgetune.loss";
