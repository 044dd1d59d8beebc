//! What time it is for a device that may be lied to, and whose own clock may be wrong. Pure.

use super::Distrusted;
use std::fmt;

/// How far a signed time may be ahead of what was known before, in milliseconds: a year. A server whose clock has gone mad would else
/// lock all of its devices out until then.
const JUMP_MS_MAX: u64 = 365 * 24 * 60 * 60 * 1000;

/// What a device knows of the time, in milliseconds since 1970. The latest of it counts where something ends: whoever wants old words
/// to be believed would have to set all three back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Clocks {
    /// The device's own clock.
    pub own_ms: u64,
    /// What a server has said without a signature, in order that requests count; 0 for nothing. It outlives no process.
    pub told_ms: u64,
    /// The latest time that the fleet has signed; 0 for none. It is kept, and only grows.
    pub signed_ms: u64,
}

/// By whose clock it is as late as that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// The device's.
    Device,
    /// The server's, as it was told when a request was refused.
    Server,
    /// The server's, as it was signed.
    Fleet,
}

impl fmt::Display for Whose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Device => "this device's clock",
            Self::Server => "what the server says of the time",
            Self::Fleet => "what the fleet has signed before",
        })
    }
}

impl Clocks {
    /// The latest of all, and whose it is.
    pub fn latest(&self) -> (u64, Whose) {
        let mut latest = (self.own_ms, Whose::Device);
        for (ms, whose) in [(self.told_ms, Whose::Server), (self.signed_ms, Whose::Fleet)] {
            if ms > latest.0 {
                latest = (ms, whose);
            }
        }
        latest
    }

    /// Adds a time that the fleet has signed.
    ///
    /// # Errors
    /// [`Distrusted::Ahead`]: it is more than a year after all that was known. The first one is taken as it is, for a device may have no
    /// clock at all; what a server said without a signature bounds nothing.
    pub fn take(&mut self, signed_ms: u64) -> Result<(), Distrusted> {
        let known_ms = self.own_ms.max(self.signed_ms);
        if self.signed_ms != 0 && signed_ms > known_ms.saturating_add(JUMP_MS_MAX) {
            return Err(Distrusted::Ahead { told_ms: signed_ms, known_ms });
        }
        self.signed_ms = self.signed_ms.max(signed_ms);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_signed_time_jumps_a_year_at_most() {
        let mut clocks = Clocks { own_ms: 5, ..Clocks::default() };
        assert_eq!(clocks.take(1_900_000_000_000), Ok(()), "the first word, for a device without a clock");
        let latest_ms = 1_900_000_000_000 + JUMP_MS_MAX;
        let ahead = Distrusted::Ahead { told_ms: latest_ms + 1, known_ms: 1_900_000_000_000 };
        assert_eq!(clocks.take(latest_ms + 1), Err(ahead));
        assert_eq!(clocks.signed_ms, 1_900_000_000_000, "a word that is not believed leaves nothing behind");
        assert_eq!(clocks.take(latest_ms), Ok(()));
        clocks.own_ms = latest_ms + 3 * JUMP_MS_MAX;
        assert_eq!(clocks.take(latest_ms + 4 * JUMP_MS_MAX), Ok(()), "its own clock says that years have passed");
    }

    proptest! {
        /// Whatever anybody says, the time that counts never goes back.
        #[test]
        fn time_never_goes_back(own_ms: u64, words in prop::collection::vec(any::<u64>(), 0..20)) {
            let mut clocks = Clocks { own_ms, ..Clocks::default() };
            let mut before_ms = clocks.latest().0;
            for word in words {
                let taken = clocks.take(word);
                let now_ms = clocks.latest().0;
                prop_assert!(now_ms >= before_ms && (taken.is_err() || now_ms >= word));
                before_ms = now_ms;
            }
        }
    }
}
