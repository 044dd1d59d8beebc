//! Samples of which only the features are there: what a retention set keeps of samples that are not on this device.

use super::names::Names;
use super::{Dataset, Error, Labels, Samples};
use bytes::Bytes;
use std::path::Path;

impl Dataset {
    /// Samples by their keys and their features, the bytes of each feature of a sample in the order in which the body gives them.
    pub fn of_features(file: &Path, keys: Vec<[u8; 32]>, labels: Labels, features: Vec<Vec<Bytes>>) -> Self {
        Self { samples: Samples::Kept(features), labels, keys, names: Names::Numbered(file.into()), groups: None }
    }

    /// A sample's features, where these are all that there is of it.
    pub fn kept(&self, sample: usize) -> Option<&[Bytes]> {
        match &self.samples {
            Samples::Kept(features) => Some(&features[sample]),
            _ => self.part(sample).and_then(|(part, sample)| part.kept(sample)),
        }
    }

    /// These samples, which are split already, with those of a retention set behind them. Groups stay what they are of the first.
    ///
    /// # Errors
    /// As [`Dataset::followed_by`].
    pub fn with_retained(mut self, set: Self) -> Result<Self, Error> {
        let groups = self.groups.take();
        Ok(Self { groups, ..self.followed_by(set)? })
    }
}
