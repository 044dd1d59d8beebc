//! What happens on a device, as its history and its ledger keep it.

use crate::agent::judge::gate::{Accepted, PairedVerdict, Promise};
use crate::sync::wire::{Number, is_zero};
use serde::{Deserialize, Serialize};

/// What happened, and when (seconds since 1970).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// A process trained for some time: to its end, or until it had to pause.
    Trained {
        /// When it ended.
        at: i64,
        /// How long it ran.
        seconds: u64,
    },
    /// A new adapter was compared with what was in use.
    Judged {
        /// When.
        at: i64,
        /// The new adapter.
        adapter: String,
        /// What it had to beat: an adapter, or the commonest class.
        against: String,
        /// Samples it learned from.
        samples: u64,
        /// What was found.
        verdict: PairedVerdict,
        /// How sure it had to be.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        confidence: Option<f64>,
        /// How the new adapter did by itself.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        promise: Option<Promise>,
        /// Which release it is, if it came from the fleet.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        release: Option<Release>,
        /// What became of that.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        accepted: Option<Accepted>,
    },
    /// An adapter was put to use.
    Activated {
        /// When.
        at: i64,
        /// The adapter.
        adapter: String,
        /// The one before.
        before: Option<String>,
        /// By whom: the gate, the fleet, a person's rollback, or feedback.
        by: String,
        /// Why, where that is not said by an event before.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// A training or its comparison failed.
    Failed {
        /// When.
        at: i64,
        /// Samples it was to learn from.
        samples: u64,
        /// The last of what it said.
        reason: String,
        /// The release that was to be tried, if it was one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        release: Option<Release>,
        /// Recipe, model and ONNX Runtime of that moment, summed up.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cause: Option<String>,
    },
    /// Recipe and model, which could not be used before, can be.
    Checked {
        /// When.
        at: i64,
    },
    /// Samples from which nothing can be learned were set aside.
    SetAside {
        /// When.
        at: i64,
        /// How many.
        count: u64,
        /// The first of them.
        sample: String,
        /// Why that one.
        reason: String,
    },
    /// No adapter is in use any more: the base stands alone.
    Withdrawn {
        /// When.
        at: i64,
        /// The one before.
        before: String,
        /// By whom.
        by: String,
    },
    /// What a new adapter was learned from; in the ledger alone, as all that follow.
    Learned(Learned),
    /// Samples were deleted.
    Forgotten {
        /// When.
        at: i64,
        /// Their names.
        samples: Vec<String>,
        /// On whose word: a person's, or `keep-days`.
        by: String,
    },
    /// A person said whether a prediction was right.
    Answered {
        /// When.
        at: i64,
        /// The adapter that predicted.
        adapter: String,
        /// Whether it was right.
        right: bool,
        /// What an earlier answer to the same prediction said, which this one replaces.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        instead_of: Option<bool>,
    },
    /// An adapter was handed over to be sent to the fleet's server.
    Shared {
        /// When.
        at: i64,
        /// The adapter.
        adapter: String,
        /// The server's channel.
        channel: String,
        /// BLAKE3 of what is sent.
        hash: String,
        /// Its bytes.
        bytes: u64,
    },
}

/// What an adapter was learned from, and under which terms.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Learned {
    /// When.
    pub at: i64,
    /// The adapter.
    pub adapter: String,
    /// Hash of the base.
    pub base: Option<String>,
    /// Hash of the recipe.
    pub recipe: Option<String>,
    /// The adapter that the training began with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The fleet's round that it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub round: Option<u32>,
    /// Samples that were learned from.
    pub samples: u64,
    /// Their classes.
    pub classes: u64,
    /// BLAKE3 of the list of their names, under which it is kept.
    pub list: String,
    /// What they may be used for, as the configuration says (`samples.purpose`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purpose: Option<String>,
    /// What allows that (`samples.consent`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consent: Option<String>,
    /// After how many days they are deleted (`samples.keep-days`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_days: Option<u32>,
}

/// A release of the fleet's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// Of this channel.
    pub channel: String,
    /// Its epoch, which comes before its version.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub epoch: u64,
    /// Its version.
    pub version: u64,
}

impl Release {
    /// Where it stands among all of its channel.
    pub fn number(&self) -> Number {
        Number { epoch: self.epoch, version: self.version }
    }
}

impl Event {
    /// When it happened.
    pub fn at(&self) -> i64 {
        match self {
            Event::Trained { at, .. }
            | Event::Judged { at, .. }
            | Event::Activated { at, .. }
            | Event::Failed { at, .. }
            | Event::Checked { at }
            | Event::SetAside { at, .. }
            | Event::Withdrawn { at, .. }
            | Event::Forgotten { at, .. }
            | Event::Answered { at, .. }
            | Event::Shared { at, .. } => *at,
            Event::Learned(learned) => learned.at,
        }
    }
}
