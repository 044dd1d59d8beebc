//! What was done to samples, out of a header: kept when the delta that it was read from is gone.

use super::Preprocessing;
use std::vec::Vec;

/// What was done to samples before the model saw them, as its bytes on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptPreprocessing(Vec<u8>);

impl KeptPreprocessing {
    /// As it stands in a header.
    pub fn get(&self) -> Preprocessing<'_> {
        postcard::from_bytes(&self.0).expect("they were written from one")
    }
}

impl From<&Preprocessing<'_>> for KeptPreprocessing {
    fn from(preprocessing: &Preprocessing<'_>) -> Self {
        Self(postcard::to_extend(preprocessing, Vec::new()).expect("plain values always encode"))
    }
}

impl Default for KeptPreprocessing {
    fn default() -> Self {
        Self::from(&Preprocessing::Plain)
    }
}
