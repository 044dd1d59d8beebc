//! What a loss applies to a model's output by itself. Pure.

/// The activation that a loss applies to a model's output by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// Cross-entropy's: scores become shares that sum to one.
    Softmax,
    /// Binary cross-entropy's: each score becomes a share of its own.
    Sigmoid,
    /// None: values are compared as the model gives them.
    Identity,
}

impl Activation {
    /// The operator.
    pub(super) fn op(self) -> &'static str {
        match self {
            Activation::Softmax => "Softmax",
            Activation::Sigmoid => "Sigmoid",
            Activation::Identity => "Identity",
        }
    }

    /// Whether the loss takes the place of an operator at the model's end.
    pub(super) fn stands_for(self, op: &str) -> bool {
        op == self.op() || (self == Activation::Softmax && op == "LogSoftmax")
    }
}
