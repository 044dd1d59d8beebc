//! What the devices of a channel are to use: said by the server, signed, and not for ever.

use super::Hex;
use crate::delta::{KeyPair, check_statement, sign_statement};
use serde::{Deserialize, Serialize};

#[cfg(feature = "fleet")]
use utoipa::ToSchema;

/// What a signature of a release is for.
const PURPOSE: &str = "release 2";

/// `GET /v1/releases/CHANNEL`: what a device of the channel is to use. The head of [`super`] says what is signed, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "fleet", derive(ToSchema))]
pub struct Release {
    /// The channel.
    pub channel: String,
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
    /// Until when this is to be believed, in milliseconds since 1970.
    pub expires_ms: u64,
    /// Ed25519 over all of it, by the key that enrolment told.
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
        "the release's word ended at {expires_ms} ms since 1970, and it is {now_ms}; the server, or somebody before it, is \
         holding newer ones back"
    )]
    Expired {
        /// Until when it was to be believed.
        expires_ms: u64,
        /// What time it is.
        now_ms: u64,
    },
    /// A way back that the server would have given a new number.
    #[error("the release is version {version}, and version {seen} was seen before; somebody is giving out old ones")]
    Older {
        /// Its number.
        version: u64,
        /// The highest number so far.
        seen: u64,
    },
}

impl Release {
    /// The release with its signature.
    pub fn signed(mut self, key: &KeyPair) -> Self {
        self.signature = Hex(sign_statement(PURPOSE, self.text().as_bytes(), key));
        self
    }

    /// That this is the fleet's word on that channel, and still counts. `now_ms` is the device's time as the server has
    /// corrected it ([`Times`](super::Times)), `seen` the highest version so far (0: none). Whether base, hash and length are
    /// those of what is downloaded, and whether that is signed too, is for the caller to look at.
    ///
    /// # Errors
    /// [`Distrusted`].
    pub fn verify(&self, key: &[u8; 32], channel: &str, seen: u64, now_ms: u64) -> Result<(), Distrusted> {
        check_statement(PURPOSE, self.text().as_bytes(), key, &self.signature.0).map_err(|_| Distrusted::Signature)?;
        if self.channel != channel {
            return Err(Distrusted::Channel(self.channel.clone()));
        }
        if self.expires_ms <= now_ms {
            return Err(Distrusted::Expired { expires_ms: self.expires_ms, now_ms });
        }
        if self.version < seen {
            return Err(Distrusted::Older { version: self.version, seen });
        }
        Ok(())
    }

    /// What is signed. A channel's name holds no line end, so no two releases have the same text.
    fn text(&self) -> String {
        let Self { channel, version, base, adapter, length, round, devices_min, expires_ms, .. } = self;
        let round = round.map_or("-".into(), |round| round.to_string());
        format!("{channel}\n{version}\n{base}\n{adapter}\n{length}\n{round}\n{devices_min}\n{expires_ms}\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release(key: &KeyPair) -> Release {
        let (base, adapter) = (Hex([1; 32]), Hex([2; 32]));
        let (channel, signature) = ("kitchen".into(), Hex([0; 64]));
        let (round, devices_min, expires_ms) = (Some(3), 5, 1_000);
        Release { channel, version: 7, base, adapter, length: 21_510, round, devices_min, expires_ms, signature }
            .signed(key)
    }

    /// Devices of today must understand the servers of tomorrow: the text does not change.
    #[test]
    fn what_is_signed_is_this() {
        let key = KeyPair::from_secret(&[3; 32]);
        let (ones, twos) = ("01".repeat(32), "02".repeat(32));
        assert_eq!(release(&key).text(), format!("kitchen\n7\n{ones}\n{twos}\n21510\n3\n5\n1000\n"));
        assert!(Release { round: None, ..release(&key) }.text().ends_with("\n-\n5\n1000\n"));
    }

    #[test]
    fn a_release_is_believed_as_long_as_it_is_the_fleets_word() {
        let key = KeyPair::from_secret(&[3; 32]);
        let verify = |release: &Release, seen, now_ms| release.verify(&key.public(), "kitchen", seen, now_ms);
        let good = release(&key);
        assert_eq!(verify(&good, 0, 999), Ok(()));
        assert_eq!(verify(&good, 7, 0), Ok(()), "the same again");
        assert_eq!(verify(&good, 8, 0), Err(Distrusted::Older { version: 7, seen: 8 }));
        assert_eq!(verify(&good, 0, 1_000), Err(Distrusted::Expired { expires_ms: 1_000, now_ms: 1_000 }));
        assert_eq!(good.verify(&key.public(), "cellar", 0, 0), Err(Distrusted::Channel("kitchen".into())));
        assert_eq!(good.verify(&[9; 32], "kitchen", 0, 0), Err(Distrusted::Signature));
        let changed = [
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
            assert_eq!(verify(&release, 0, 0), Err(Distrusted::Signature), "{release:?}");
        }
    }
}
