//! Whose word counts: keys that are kept offline say which keys sign releases. Pure.
//!
//! ```text
//! edgetune root 1
//! EPOCH            counts up with every change
//! EXPIRES          milliseconds since 1970
//! THRESHOLD        signatures of so many of the roots make a root
//! ROOTS            their keys
//! RELEASES         keys that sign releases
//! AUTHORS          keys of which one has to have signed an adapter; `-` for none
//! ```
//!
//! The server's own key is online and can be lost. A device that holds a root takes another release key where enough of the root's keys
//! have signed the list that names it, so nobody enrols a device anew for it. These are the roles *root* and *targets* of The Update
//! Framework in one file: a new root is signed by enough keys of the one before and by enough of its own.

use super::Hex;
use crate::delta::{KeyPair, check_statement, sign_statement};
use serde::{Deserialize, Serialize};

#[cfg(feature = "fleet")]
use utoipa::ToSchema;

/// What a signature of a root is for.
const PURPOSE: &str = "root 1";
/// Keys of a kind, at most.
const KEYS_MAX: usize = 16;

/// Whose word counts, said by keys that are kept offline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "fleet", derive(ToSchema))]
pub struct Root {
    /// Counts up with every change.
    pub epoch: u64,
    /// Until when it counts, in milliseconds since 1970.
    pub expires_ms: u64,
    /// How many of the roots have to sign.
    pub threshold: u32,
    /// Keys that sign roots.
    #[cfg_attr(feature = "fleet", schema(value_type = Vec<String>))]
    pub roots: Vec<Hex<32>>,
    /// Keys that sign releases.
    #[cfg_attr(feature = "fleet", schema(value_type = Vec<String>))]
    pub releases: Vec<Hex<32>>,
    /// Keys of which one has to have signed an adapter; none: any key that signs releases.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "fleet", schema(value_type = Vec<String>))]
    pub authors: Vec<Hex<32>>,
    /// Who has signed it.
    #[serde(default)]
    pub signatures: Vec<RootSignature>,
}

/// A root key's signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "fleet", derive(ToSchema))]
pub struct RootSignature {
    /// Whose.
    #[cfg_attr(feature = "fleet", schema(value_type = String))]
    pub key: Hex<32>,
    /// Ed25519 over all but the signatures.
    #[cfg_attr(feature = "fleet", schema(value_type = String))]
    pub signature: Hex<64>,
}

/// Why a root is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Uprooted {
    /// It says nothing that could be meant.
    #[error("the root has {0}")]
    Form(&'static str),
    /// Too few have signed it.
    #[error(
        "the root of epoch {epoch} has {have} signatures {of}, and {need} are needed; sign it with edgetune-fleet root sign"
    )]
    Signatures {
        /// Of this root.
        epoch: u64,
        /// As many as are valid.
        have: usize,
        /// As many as there must be.
        need: u32,
        /// Of whom.
        of: &'static str,
    },
    /// It has ended.
    #[error("the root's word ended at {expires_ms} ms since 1970; ask an operator for one that was signed anew")]
    Ended {
        /// When.
        expires_ms: u64,
    },
}

impl Root {
    /// Signs it with one more key.
    pub fn sign(&mut self, key: &KeyPair) {
        let public = Hex(key.public());
        let signature = Hex(sign_statement(PURPOSE, self.text().as_bytes(), key));
        self.signatures.retain(|signed| signed.key != public);
        self.signatures.push(RootSignature { key: public, signature });
    }

    /// That it can be meant, and that enough of its own keys have signed it. Whether it has ended is for the caller to look at.
    ///
    /// # Errors
    /// [`Uprooted`].
    pub fn check(&self) -> Result<(), Uprooted> {
        let is_set = |keys: &[Hex<32>]| {
            keys.len() <= KEYS_MAX && keys.iter().enumerate().all(|(at, key)| !keys[..at].contains(key))
        };
        if ![&self.roots, &self.releases, &self.authors].into_iter().all(|keys| is_set(keys)) {
            return Err(Uprooted::Form("a key twice, or more than 16 of a kind"));
        }
        if self.threshold == 0 || self.threshold as usize > self.roots.len() {
            return Err(Uprooted::Form("a threshold that is 0 or above the number of its keys"));
        }
        if self.releases.is_empty() {
            return Err(Uprooted::Form("no key that signs releases"));
        }
        self.signed_for(self, "of its own keys")
    }

    /// That it may take the place of one that a device holds: enough of that one's keys have signed it, too.
    ///
    /// # Errors
    /// [`Uprooted`].
    pub fn follows(&self, held: &Self) -> Result<(), Uprooted> {
        self.check()?;
        self.signed_for(held, "of the keys of the root before")
    }

    fn signed_for(&self, root: &Self, of: &'static str) -> Result<(), Uprooted> {
        let text = self.text();
        let has_signed = |key: &&Hex<32>| {
            let mut theirs = self.signatures.iter().filter(|signed| signed.key == **key);
            theirs.any(|signed| check_statement(PURPOSE, text.as_bytes(), &key.0, &signed.signature.0).is_ok())
        };
        let have = root.roots.iter().filter(has_signed).count();
        match have >= root.threshold as usize {
            true => Ok(()),
            false => Err(Uprooted::Signatures { epoch: self.epoch, have, need: root.threshold, of }),
        }
    }

    /// That it has not ended.
    ///
    /// # Errors
    /// [`Uprooted::Ended`].
    pub fn still_counts(&self, now_ms: u64) -> Result<(), Uprooted> {
        let expires_ms = self.expires_ms;
        if expires_ms > now_ms { Ok(()) } else { Err(Uprooted::Ended { expires_ms }) }
    }

    /// BLAKE3 of what is signed.
    pub fn hash(&self) -> Hex<32> {
        Hex(blake3::hash(self.text().as_bytes()).into())
    }

    /// What is signed.
    fn text(&self) -> String {
        let Self { epoch, expires_ms, threshold, roots, releases, authors, .. } = self;
        let listed = |keys: &[Hex<32>]| match keys {
            [] => "-".to_owned(),
            keys => keys.iter().map(Hex::to_string).collect::<Vec<_>>().join(" "),
        };
        let (roots, releases, authors) = (listed(roots), listed(releases), listed(authors));
        format!("{epoch}\n{expires_ms}\n{threshold}\n{roots}\n{releases}\n{authors}\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(seed: u8) -> KeyPair {
        KeyPair::from_secret(&[seed; 32])
    }

    fn public(seeds: &[u8]) -> Vec<Hex<32>> {
        seeds.iter().map(|seed| Hex(key(*seed).public())).collect()
    }

    fn root(epoch: u64, threshold: u32, roots: &[u8], releases: &[u8], signers: &[u8]) -> Root {
        let (roots, releases) = (public(roots), public(releases));
        let (authors, signatures) = (Vec::new(), Vec::new());
        let mut root = Root { epoch, expires_ms: 1_000, threshold, roots, releases, authors, signatures };
        signers.iter().for_each(|signer| root.sign(&key(*signer)));
        root
    }

    /// Devices of today must understand the roots of tomorrow: the text does not change.
    #[test]
    fn what_is_signed_is_this() {
        let root =
            Root { roots: vec![Hex([1; 32]), Hex([2; 32])], releases: vec![Hex([3; 32])], ..root(4, 2, &[], &[], &[]) };
        let [one, two, three] = [1, 2, 3].map(|byte| format!("{byte:02x}").repeat(32));
        assert_eq!(root.text(), format!("4\n1000\n2\n{one} {two}\n{three}\n-\n"));
        let authored = Root { authors: vec![Hex([1; 32])], ..root };
        assert!(authored.text().ends_with(&format!("{three}\n{one}\n")));
    }

    #[test]
    fn enough_of_its_own_keys_make_a_root() {
        assert_eq!(root(1, 2, &[1, 2, 3], &[9], &[1, 3]).check(), Ok(()));
        let few = |root: Root| assert!(matches!(root.check(), Err(Uprooted::Signatures { .. })), "{root:?}");
        few(root(1, 2, &[1, 2, 3], &[9], &[1]));
        few(root(1, 2, &[1, 2, 3], &[9], &[1, 4]));
        few(root(1, 2, &[1, 2, 3], &[9], &[1, 1]));
        let mut twice = root(1, 2, &[1, 2, 3], &[9], &[1]);
        twice.signatures.push(twice.signatures[0]);
        few(twice);
        few(Root { expires_ms: 1_001, ..root(1, 2, &[1, 2, 3], &[9], &[1, 3]) });
        few(Root { releases: public(&[8]), ..root(1, 2, &[1, 2, 3], &[9], &[1, 3]) });
        for odd in [
            root(1, 0, &[1], &[9], &[1]),
            root(1, 2, &[1], &[9], &[1]),
            root(1, 1, &[1], &[], &[1]),
            root(1, 1, &[1, 1], &[9], &[1]),
            root(1, 1, &(0..17).collect::<Vec<_>>(), &[9], &[1]),
        ] {
            assert!(matches!(odd.check(), Err(Uprooted::Form(_))), "{odd:?}");
        }
        let root = root(1, 1, &[1], &[9], &[1]);
        assert_eq!(root.still_counts(999), Ok(()));
        assert_eq!(root.still_counts(1_000), Err(Uprooted::Ended { expires_ms: 1_000 }));
    }

    /// Keys of releases and of the root itself are exchanged by those that are trusted already.
    #[test]
    fn a_root_follows_one_whose_keys_have_signed_it() {
        let held = root(1, 2, &[1, 2, 3], &[9], &[1, 2]);
        assert_eq!(root(2, 2, &[1, 2, 3], &[8], &[2, 3]).follows(&held), Ok(()));
        assert_eq!(root(2, 2, &[2, 3, 4], &[8], &[2, 3]).follows(&held), Ok(()), "a root key was exchanged");
        assert_eq!(root(2, 1, &[4], &[8], &[1, 2, 4]).follows(&held), Ok(()), "all of them were");
        for stolen in
            [root(2, 1, &[9], &[9], &[9]), root(2, 1, &[4], &[8], &[1, 4]), root(2, 2, &[1, 4], &[8], &[1, 4])]
        {
            assert!(matches!(stolen.follows(&held), Err(Uprooted::Signatures { .. })), "{stolen:?}");
        }
    }
}
