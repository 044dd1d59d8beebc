//! What the devices of a channel are to use: said by the server, signed, and not for ever.

use super::clocks::{Clocks, Whose};
use super::{Hex, Number, Root};
use crate::delta::{KeyPair, check_statement, sign_statement};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

#[cfg(feature = "fleet")]
use utoipa::ToSchema;

/// What a signature of a release is for.
const PURPOSE: &str = "release 3";
/// What a signature of "nothing new" is for.
const UNCHANGED: &str = "unchanged 1";

/// `GET /v1/releases/CHANNEL`: what a device of the channel is to use. The head of [`super`] says what is signed, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "fleet", derive(ToSchema))]
pub struct Release {
    /// The channel.
    pub channel: String,
    /// Counts up each time that the server is set back to an older state of its own: a backup that was restored. What a device has
    /// seen before that is older than what it is told after.
    #[serde(default)]
    pub epoch: u64,
    /// Counts up with every release of the channel.
    pub version: u64,
    /// Hash of the base.
    #[cfg_attr(feature = "fleet", schema(value_type = String))]
    pub base: Hex<32>,
    /// BLAKE3 of the adapter's bytes, which `GET /v1/adapters/HASH` gives.
    #[cfg_attr(feature = "fleet", schema(value_type = String))]
    pub adapter: Hex<32>,
    /// Its bytes.
    pub length: u64,
    /// The round that devices learn for.
    pub round: Option<u32>,
    /// Devices whose deltas a round has at least before it is combined: of fewer, what one has learned is plain to see.
    pub devices_min: u32,
    /// Whose word counts in the fleet, said by keys that are kept offline; none where there are no such keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<Box<Root>>,
    /// When the server has said this, in milliseconds since 1970.
    #[serde(default)]
    pub told_ms: u64,
    /// Until when this is to be believed, in milliseconds since 1970.
    pub expires_ms: u64,
    /// Ed25519 over all of it, by the key that enrolment told or that a root has named since.
    #[cfg_attr(feature = "fleet", schema(value_type = String))]
    pub signature: Hex<64>,
}

/// Why a release is not to be believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Distrusted {
    /// Somebody else's word.
    #[error("the release is not signed by the fleet's key; check the server's address, or enrol the device again")]
    Signature,
    /// An answer to another question.
    #[error("the release is of the channel `{0}`, which was not asked for; check the server's address")]
    Channel(String),
    /// An old word, kept by somebody who does not want the device to hear the new one.
    #[error(
        "the release's word ended at {expires_ms} ms since 1970, and it is {now_ms} by {whose}; the server, or somebody before \
         it, is holding newer ones back, or that time is wrong: look at the clocks"
    )]
    Expired {
        /// Until when it was to be believed.
        expires_ms: u64,
        /// What time it is.
        now_ms: u64,
        /// Who says so.
        whose: Whose,
    },
    /// A time that the server has signed and that cannot be.
    #[error(
        "the fleet says that it is {told_ms} ms since 1970, more than a year after {known_ms}, the latest that this device knows \
         of; set this device's clock, or ask an operator to set the server's"
    )]
    Ahead {
        /// What the fleet says.
        told_ms: u64,
        /// What the device knows.
        known_ms: u64,
    },
    /// A way back that the server would have given a new number.
    #[error("the release is version {number}, and version {seen} was seen before; somebody is giving out old ones")]
    Older {
        /// Its number.
        number: Number,
        /// The highest number so far.
        seen: Number,
    },
}

impl Release {
    /// The release with its signature.
    pub fn signed(mut self, key: &KeyPair) -> Self {
        self.signature = Hex(sign_statement(PURPOSE, self.text().as_bytes(), key));
        self
    }

    /// That this is the fleet's word on that channel, and still counts by all that is known of the time, to which the release's own
    /// time is added. `seen` is the highest number so far. Whether base, hash and length are those of what is downloaded, and whether
    /// that is signed too, is for the caller to look at. Any one of the `keys` will do.
    ///
    /// # Errors
    /// [`Distrusted`].
    pub fn verify(
        &self,
        keys: &[Hex<32>],
        channel: &str,
        seen: Option<Number>,
        clocks: &mut Clocks,
    ) -> Result<(), Distrusted> {
        signed_by(keys, PURPOSE, &self.text(), &self.signature)?;
        if self.channel != channel {
            return Err(Distrusted::Channel(self.channel.clone()));
        }
        clocks.take(self.told_ms)?;
        let (now_ms, whose) = clocks.latest();
        if self.expires_ms <= now_ms {
            return Err(Distrusted::Expired { expires_ms: self.expires_ms, now_ms, whose });
        }
        match seen {
            Some(seen) if self.number() < seen => Err(Distrusted::Older { number: self.number(), seen }),
            _ => Ok(()),
        }
    }

    /// Where the release stands among all of its channel.
    pub fn number(&self) -> Number {
        Number { epoch: self.epoch, version: self.version }
    }

    /// What the state of the channel is called that this tells of, in the form of an ETag: another one where anything in it is
    /// different but its times.
    pub fn tag(&self) -> String {
        format!("\"{}\"", &blake3::hash(self.said().as_bytes()).to_hex()[..32])
    }

    /// What is signed. A channel's name holds no line end, so no two releases have the same text.
    fn text(&self) -> String {
        format!("{}{}\n{}\n", self.said(), self.told_ms, self.expires_ms)
    }

    /// What of it does not depend on when it is said.
    fn said(&self) -> String {
        let Self { channel, epoch, version, base, adapter, length, round, devices_min, root, .. } = self;
        let round = round.map_or("-".into(), |round| round.to_string());
        let root = root.as_ref().map_or("-".into(), |root| root.hash().to_string());
        format!("{channel}\n{epoch}\n{version}\n{base}\n{adapter}\n{length}\n{round}\n{devices_min}\n{root}\n")
    }
}

/// That one of the keys has signed a text.
fn signed_by(keys: &[Hex<32>], purpose: &str, text: &str, signature: &Hex<64>) -> Result<(), Distrusted> {
    let signs = |key: &Hex<32>| check_statement(purpose, text.as_bytes(), &key.0, &signature.0).is_ok();
    if keys.iter().any(signs) { Ok(()) } else { Err(Distrusted::Signature) }
}

/// The fleet's signed word that a channel is as it was: the header [`Unchanged::HEADER`] of an answer 304, `time=…,signature=…`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unchanged {
    /// When the server has said it, in milliseconds since 1970.
    pub told_ms: u64,
    /// Ed25519 over channel, state and time.
    pub signature: Hex<64>,
}

impl Unchanged {
    /// The header's name.
    pub const HEADER: &str = "edgetune-unchanged";

    /// The word that the channel's state is still what the tag calls it ([`Release::tag`]).
    pub fn sign(channel: &str, tag: &str, told_ms: u64, key: &KeyPair) -> Self {
        let signature = Hex(sign_statement(UNCHANGED, unchanged(channel, tag, told_ms).as_bytes(), key));
        Self { told_ms, signature }
    }

    /// That it is the fleet's word on this state of that channel; its time is then one that the fleet has signed.
    ///
    /// # Errors
    /// [`Distrusted`].
    pub fn verify(&self, keys: &[Hex<32>], channel: &str, tag: &str, clocks: &mut Clocks) -> Result<(), Distrusted> {
        signed_by(keys, UNCHANGED, &unchanged(channel, tag, self.told_ms), &self.signature)?;
        clocks.take(self.told_ms)
    }
}

/// What is signed. Neither a channel's name nor a header holds a line end.
fn unchanged(channel: &str, tag: &str, told_ms: u64) -> String {
    format!("{channel}\n{tag}\n{told_ms}\n")
}

impl fmt::Display for Unchanged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "time={},signature={}", self.told_ms, self.signature)
    }
}

impl FromStr for Unchanged {
    type Err = String;

    fn from_str(header: &str) -> Result<Self, String> {
        let form = || format!("`{}` is not time=…,signature=…", Self::HEADER);
        let (time, signature) = header.split_once(',').ok_or_else(form)?;
        let told_ms = time.strip_prefix("time=").and_then(|time| time.parse().ok()).ok_or_else(form)?;
        let signature = signature.strip_prefix("signature=").ok_or_else(form)?.parse()?;
        Ok(Self { told_ms, signature })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release(key: &KeyPair) -> Release {
        let (base, adapter) = (Hex([1; 32]), Hex([2; 32]));
        let (channel, signature) = ("kitchen".into(), Hex([0; 64]));
        let (round, devices_min, told_ms, expires_ms) = (Some(3), 5, 400, 1_000);
        let (epoch, version, length, root) = (1, 7, 21_510, None);
        Release {
            channel,
            epoch,
            version,
            base,
            adapter,
            length,
            round,
            devices_min,
            root,
            told_ms,
            expires_ms,
            signature,
        }
        .signed(key)
    }

    fn at(own_ms: u64) -> Clocks {
        Clocks { own_ms, ..Clocks::default() }
    }

    /// Devices of today must understand the servers of tomorrow: the text does not change.
    #[test]
    fn what_is_signed_is_this() {
        let key = KeyPair::from_secret(&[3; 32]);
        let (ones, twos) = ("01".repeat(32), "02".repeat(32));
        assert_eq!(release(&key).text(), format!("kitchen\n1\n7\n{ones}\n{twos}\n21510\n3\n5\n-\n400\n1000\n"));
        assert!(Release { round: None, ..release(&key) }.text().ends_with("\n-\n5\n-\n400\n1000\n"));
        assert_eq!(unchanged("kitchen", "\"ab\"", 400), "kitchen\n\"ab\"\n400\n");
    }

    #[test]
    fn a_tag_is_another_where_anything_is_but_the_times() {
        let key = KeyPair::from_secret(&[3; 32]);
        let (one, tag) = (release(&key), release(&key).tag());
        assert_eq!(Release { told_ms: 9, expires_ms: 9, ..one.clone() }.tag(), tag);
        for other in [
            Release { epoch: 2, ..one.clone() },
            Release { version: 8, ..one.clone() },
            Release { adapter: Hex([9; 32]), ..one.clone() },
            Release { round: Some(4), ..one.clone() },
            Release { devices_min: 6, ..one.clone() },
        ] {
            assert_ne!(other.tag(), tag, "{other:?}");
        }
    }

    #[test]
    fn a_release_is_believed_as_long_as_it_is_the_fleets_word() {
        let key = KeyPair::from_secret(&[3; 32]);
        let of = |epoch, version| Some(Number { epoch, version });
        let verify =
            |release: &Release, seen, now_ms| release.verify(&[Hex(key.public())], "kitchen", seen, &mut at(now_ms));
        let good = release(&key);
        assert_eq!(verify(&good, None, 999), Ok(()));
        assert_eq!(verify(&good, of(1, 7), 0), Ok(()), "the same again");
        assert_eq!(verify(&good, of(0, 900), 0), Ok(()), "from before a backup was restored");
        for seen in [of(1, 8), of(2, 1)] {
            let refused = Distrusted::Older { number: good.number(), seen: seen.unwrap() };
            assert_eq!(verify(&good, seen, 0), Err(refused));
        }
        assert_eq!(
            good.verify(&[Hex(key.public())], "cellar", None, &mut at(0)),
            Err(Distrusted::Channel("kitchen".into()))
        );
        assert_eq!(good.verify(&[Hex([9; 32])], "kitchen", None, &mut at(0)), Err(Distrusted::Signature));
        let changed = [
            Release { epoch: 2, ..good.clone() },
            Release { told_ms: 401, ..good.clone() },
            Release { version: 8, ..good.clone() },
            Release { base: Hex([9; 32]), ..good.clone() },
            Release { adapter: Hex([9; 32]), ..good.clone() },
            Release { length: 1, ..good.clone() },
            Release { round: None, ..good.clone() },
            Release { devices_min: 6, ..good.clone() },
            Release { expires_ms: 9_999, ..good.clone() },
            Release { channel: "cellar".into(), ..good.clone() },
        ];
        for release in changed {
            assert_eq!(verify(&release, None, 0), Err(Distrusted::Signature), "{release:?}");
        }
    }

    /// Whoever says what time it is, the latest counts: nobody makes an old word new by setting a clock back.
    #[test]
    fn a_word_that_has_ended_by_any_clock_has_ended() {
        let key = KeyPair::from_secret(&[3; 32]);
        let verify = |mut clocks| release(&key).verify(&[Hex(key.public())], "kitchen", None, &mut clocks);
        let ended = |whose| Err(Distrusted::Expired { expires_ms: 1_000, now_ms: 1_000, whose });
        assert_eq!(verify(Clocks { own_ms: 999, told_ms: 999, signed_ms: 999 }), Ok(()));
        assert_eq!(verify(Clocks { own_ms: 1_000, told_ms: 0, signed_ms: 0 }), ended(Whose::Device));
        assert_eq!(verify(Clocks { own_ms: 0, told_ms: 1_000, signed_ms: 0 }), ended(Whose::Server));
        assert_eq!(verify(Clocks { own_ms: 0, told_ms: 0, signed_ms: 1_000 }), ended(Whose::Fleet));
    }

    #[test]
    fn nothing_new_is_a_word_on_one_state_of_one_channel() {
        let key = KeyPair::from_secret(&[3; 32]);
        let word = Unchanged::sign("kitchen", "\"ab\"", 400, &key);
        assert_eq!(word.to_string().parse(), Ok(word));
        let mut clocks = at(7);
        assert_eq!(word.verify(&[Hex(key.public())], "kitchen", "\"ab\"", &mut clocks), Ok(()));
        assert_eq!(clocks, Clocks { own_ms: 7, told_ms: 0, signed_ms: 400 });
        for (channel, tag, word) in [
            ("cellar", "\"ab\"", word),
            ("kitchen", "\"cd\"", word),
            ("kitchen", "\"ab\"", Unchanged { told_ms: 401, ..word }),
        ] {
            assert_eq!(word.verify(&[Hex(key.public())], channel, tag, &mut at(7)), Err(Distrusted::Signature));
        }
        for header in ["", "time=4", "time=x,signature=00", "time=4,signature=00", "signature=00,time=4"] {
            assert!(header.parse::<Unchanged>().is_err(), "{header}");
        }
    }
}
