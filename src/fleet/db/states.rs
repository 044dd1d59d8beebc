//! States that the tables hold as words: of a channel's round and rollout, of releases and uploads, and what devices say.
//!
//! Takes a column of a row, gives a value of an enum; a word that none has is an error, for a newer program has written it.

use super::{Error, Result};
use crate::sync::wire::ReleaseVerdict;
use sqlx::Row;
use sqlx::any::AnyRow;

/// A state that is written as a word.
pub trait Word: Copy + PartialEq + 'static {
    /// What such a state is of.
    const OF: &'static str;
    /// All of them.
    const ALL: &'static [Self];

    /// The word, in the tables, in answers and on pages.
    fn word(self) -> &'static str;

    /// The state of a word.
    fn of_word(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|state| state.word() == word)
    }
}

/// The state in a column.
pub(super) fn state<S: Word>(row: &AnyRow, column: usize) -> Result<S> {
    let word: String = row.try_get(column)?;
    let unknown = || Error(format!("{} `{word}` is not known here; use a newer edgetune-fleet", S::OF));
    S::of_word(&word).ok_or_else(unknown)
}

/// An enum of states with the word of each.
macro_rules! states {
    ($(#[$about:meta])* $name:ident of $of:literal { $($(#[$told:meta])* $state:ident = $word:literal,)+ }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name { $($(#[$told])* $state,)+ }

        impl Word for $name {
            const OF: &'static str = $of;
            const ALL: &'static [Self] = &[$(Self::$state),+];

            fn word(self) -> &'static str {
                match self { $(Self::$state => $word,)+ }
            }
        }
    };
}

states! {
    /// How far a channel's round is.
    RoundState of "a round's state" {
        /// Deltas are taken.
        Open = "open",
        /// They are being combined.
        Closing = "closing",
    }
}

states! {
    /// How far a channel's newest release is.
    RolloutState of "a rollout's state" {
        /// It is offered to more and more devices.
        Rolling = "rolling",
        /// No step is taken; whoever was offered it still is.
        Paused = "paused",
        /// Nobody is offered it yet, for the channel is pinned.
        Held = "held",
        /// All devices are offered it.
        Done = "done",
    }
}

states! {
    /// What has become of a release.
    ReleaseState of "a release's state" {
        /// It is on its way to the devices.
        Rolling = "rolling",
        /// It came to all of them.
        Done = "done",
        /// It was taken back, for devices rejected it.
        Halted = "halted",
        /// Another one came before all devices had it.
        Replaced = "replaced",
        /// It is an older adapter again, under a new number.
        Back = "back",
    }
}

states! {
    /// How far a delta is on its way in.
    DeltaState of "a delta's state" {
        /// Chunks of it are missing.
        Receiving = "receiving",
        /// It was verified, and counts.
        Accepted = "accepted",
        /// It was verified; a later one of the same device counts in its place.
        Superseded = "superseded",
        /// It did not pass verification.
        Refused = "refused",
    }
}

impl Word for ReleaseVerdict {
    const OF: &'static str = "a device's verdict";
    const ALL: &'static [Self] = &[Self::Activated, Self::Kept, Self::Rejected, Self::Failed];

    fn word(self) -> &'static str {
        match self {
            Self::Activated => "activated",
            Self::Kept => "kept",
            Self::Rejected => "rejected",
            Self::Failed => "failed",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words<S: Word + std::fmt::Debug>() -> Vec<&'static str> {
        S::ALL.iter().for_each(|state| assert_eq!(S::of_word(state.word()), Some(*state)));
        S::ALL.iter().map(|state| state.word()).collect()
    }

    #[test]
    fn states_have_the_words_that_the_tables_hold() {
        assert_eq!(words::<RoundState>(), ["open", "closing"]);
        assert_eq!(words::<RolloutState>(), ["rolling", "paused", "held", "done"]);
        assert_eq!(words::<ReleaseState>(), ["rolling", "done", "halted", "replaced", "back"]);
        assert_eq!(words::<DeltaState>(), ["receiving", "accepted", "superseded", "refused"]);
        assert_eq!(words::<ReleaseVerdict>(), ["activated", "kept", "rejected", "failed"]);
        assert_eq!(RoundState::of_word("Open"), None);
        // Devices send a verdict as the same word.
        ReleaseVerdict::ALL.iter().for_each(|verdict| {
            assert_eq!(serde_json::to_value(verdict).unwrap(), verdict.word());
        });
    }
}
