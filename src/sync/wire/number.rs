//! What releases of a channel are counted by.

use std::fmt;

/// A release's number. The epoch comes first: it counts up where the server was set back to an older state, whose versions were given
/// before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Number {
    /// Counts the server's states.
    pub epoch: u64,
    /// Counts the channel's releases.
    pub version: u64,
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.epoch {
            0 => write!(f, "{}", self.version),
            epoch => write!(f, "{} of epoch {epoch}", self.version),
        }
    }
}

/// For fields that are left out where they are 0, as they were before there were epochs.
pub(crate) fn is_zero(epoch: &u64) -> bool {
    *epoch == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_epoch_comes_first() {
        let of = |epoch, version| Number { epoch, version };
        assert!(of(0, 9) < of(1, 1) && of(1, 1) < of(1, 2));
        assert_eq!((of(0, 9).to_string(), of(2, 9).to_string()), ("9".into(), "9 of epoch 2".into()));
    }
}
