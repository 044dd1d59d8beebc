//! The JSON of both directions. What a device sends has no room for more than is asked for: unknown fields are refused.

use super::{Hex, Root, is_zero};
use crate::delta::{KeyPair, check_statement, sign_statement};
use serde::{Deserialize, Serialize};

#[cfg(feature = "fleet")]
use utoipa::ToSchema;

/// Bytes of a name that is shown to people, at most.
pub const NAME_BYTES_MAX: usize = 64;
/// Bytes of a chunk: all chunks of an upload have as many, but for the last.
pub const CHUNK_BYTES: u64 = 1 << 20;

/// Whether a text can be a name: there, short enough, and harmless on a terminal.
pub fn is_name(text: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&text.len()) && !text.contains(char::is_control)
}

/// Whether a text can be a channel's name, which is typed at terminals, stands in addresses and names files: letters, digits, spaces, `-`, `_` and
/// `.`, a letter or digit first.
pub fn is_channel(text: &str) -> bool {
    let plain = |letter: char| letter.is_alphanumeric() || [' ', '-', '_', '.'].contains(&letter);
    is_name(text) && text.chars().all(plain) && text.starts_with(char::is_alphanumeric)
}

/// The rule of [`is_channel`], behind "a channel's name has".
pub const CHANNEL_RULE: &str = "letters, digits, spaces, `-`, `_` and `.`, begins with a letter or digit, and has at most 64 bytes, such as `photos-2`";

/// `POST /v1/enrol`: a device introduces itself. It is signed by the key that it brings, which proves that it has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "fleet", derive(ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Enrol {
    /// The one-time token that an operator has made.
    pub token: String,
    /// What people call the device.
    pub name: String,
    /// Whether a device that has the name is replaced, its key revoked; otherwise the name must be free. It takes a token that was made
    /// for this name, or the word of the key that is replaced.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub replace: bool,
    /// That word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consent: Option<Consent>,
}

/// The word of a device's old key that a new one takes its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "fleet", derive(ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Consent {
    /// The old key.
    #[cfg_attr(feature = "fleet", schema(value_type = String))]
    pub key: Hex<32>,
    /// Its Ed25519 signature.
    #[cfg_attr(feature = "fleet", schema(value_type = String))]
    pub signature: Hex<64>,
}

/// What a signature of a [`Consent`] is for.
const CONSENT: &str = "consent 1";

impl Consent {
    /// The word of the key `old` that `new`, which comes in by this token, takes its place under a name.
    pub fn sign(old: &KeyPair, new: Hex<32>, token: &str, name: &str) -> Self {
        let signature = Hex(sign_statement(CONSENT, consent(new, token, name).as_bytes(), old));
        Self { key: Hex(old.public()), signature }
    }

    /// Whether its key has given it for this enrolment.
    pub fn is_for(&self, new: Hex<32>, token: &str, name: &str) -> bool {
        check_statement(CONSENT, consent(new, token, name).as_bytes(), &self.key.0, &self.signature.0).is_ok()
    }
}

/// What is signed. The token's hash stands for it, so no part can hold a line end.
fn consent(new: Hex<32>, token: &str, name: &str) -> String {
    format!("{new}\n{}\n{name}\n", blake3::hash(token.as_bytes()))
}

/// The answer to [`Enrol`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "fleet", derive(ToSchema))]
pub struct Enrolled {
    /// What the server calls itself in requests.
    pub fleet: String,
    /// The key that the device is known by now.
    #[cfg_attr(feature = "fleet", schema(value_type = String))]
    pub key: Hex<32>,
    /// The key that the server signs releases with.
    #[cfg_attr(feature = "fleet", schema(value_type = String))]
    pub release_key: Hex<32>,
    /// Whose word counts in the fleet, where keys that are kept offline say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<Root>,
    /// The server's clock, in milliseconds since 1970.
    pub time_ms: u64,
}

/// `POST /v1/uploads`: a device is about to send a delta.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "fleet", derive(ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Upload {
    /// The channel that it was learned for.
    pub channel: String,
    /// BLAKE3 of all its bytes, by which it is called from now on.
    #[cfg_attr(feature = "fleet", schema(value_type = String))]
    pub hash: Hex<32>,
    /// Bytes in all.
    pub length: u64,
}

/// How far an upload is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "fleet", derive(ToSchema))]
pub struct UploadState {
    /// BLAKE3 of all its bytes.
    #[cfg_attr(feature = "fleet", schema(value_type = String))]
    pub hash: Hex<32>,
    /// Bytes that are there: where the next chunk begins.
    pub received: u64,
    /// Whether it was verified and counts.
    pub accepted: bool,
}

/// `POST /v1/reports`: what became of a release on a device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "fleet", derive(ToSchema), schema(as = Report))]
#[serde(deny_unknown_fields)]
pub struct ReleaseReport {
    /// The channel.
    pub channel: String,
    /// The release's epoch.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub epoch: u64,
    /// The release's version.
    pub version: u64,
    /// What the device's own gate said.
    pub verdict: ReleaseVerdict,
    /// Part of the held-out samples that were right (0…1) before and with it.
    pub accuracy: Option<[f32; 2]>,
}

/// What a device's gate says of a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "fleet", derive(ToSchema), schema(as = Verdict))]
#[serde(rename_all = "snake_case")]
pub enum ReleaseVerdict {
    /// It is in use.
    Activated,
    /// What is in use is better there, but not beyond what chance explains; it stays. Says nothing for or against the release.
    Kept,
    /// It was worse than what is in use.
    Rejected,
    /// It could not be tried.
    Failed,
}

/// What the type of a [`Problem`] begins with.
pub const PROBLEM: &str = "urn:edgetune:problem:";
/// The end of its type where the same delta counts for another device: it never will for this one.
pub const TWICE: &str = "twice";

/// Any refusal, as `application/problem+json` (RFC 9457).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "fleet", derive(ToSchema))]
pub struct Problem {
    /// What kind of problem it is, as a name within this interface: `urn:edgetune:problem:NAME`.
    pub r#type: String,
    /// The kind in words.
    pub title: String,
    /// The status of the answer.
    pub status: u16,
    /// What is wrong with this request, and what to do.
    pub detail: String,
    /// With `urn:edgetune:problem:time`: what the device's clock should have been.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<TimeRefused>,
}

/// What a device needs in order to ask again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "fleet", derive(ToSchema))]
pub struct TimeRefused {
    /// The server's clock, in milliseconds since 1970.
    pub now_ms: u64,
    /// The time of the device's last request that counted; the next one must be later.
    pub last_ms: u64,
}
