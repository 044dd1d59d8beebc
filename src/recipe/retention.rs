//! What of the base's knowledge is kept while something new is learned, as a recipe says it.

use super::error::{Error, refuse};
use crate::train::fit::Hold;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The share of the gain that rewinding keeps, where nothing else is said.
const REWIND: f64 = 0.9;

/// What is done against forgetting.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
#[non_exhaustive]
pub struct Retention {
    /// What the base knows: a file of `edgetune retention make`, or data
    #[serde(skip_serializing)]
    pub set: Option<PathBuf>,
    /// Samples a class that are learned again beside the new ones; the others measure
    pub replay: Option<u32>,
    /// The share of what the base knows that may be lost
    pub keep_base: Option<f64>,
    /// The share of the gain that going back towards the start keeps; 1 never goes back
    pub rewind: Option<f64>,
    /// Pull towards the values at the start, in the place of weight decay
    pub l2_sp: Option<f64>,
    /// The same, for each value by how much the answers depend on it
    pub ewc: Option<f64>,
    /// Weight of the base's own answers beside the labels
    pub distill: Option<f64>,
}

impl Retention {
    /// These settings, with what they leave open taken from `other`.
    pub fn or(self, other: Self) -> Self {
        Self {
            set: self.set.or(other.set),
            replay: self.replay.or(other.replay),
            keep_base: self.keep_base.or(other.keep_base),
            rewind: self.rewind.or(other.rewind),
            l2_sp: self.l2_sp.or(other.l2_sp),
            ewc: self.ewc.or(other.ewc),
            distill: self.distill.or(other.distill),
        }
    }

    /// The share of the gain that going back keeps.
    pub fn rewind(&self) -> f64 {
        self.rewind.unwrap_or(REWIND)
    }

    /// What holds the values of gradient steps; samples and outputs follow from the data.
    pub fn hold(&self) -> Hold {
        let [l2_sp, ewc, distill] = [self.l2_sp, self.ewc, self.distill].map(Option::unwrap_or_default);
        Hold { l2_sp, ewc, distill, ..Hold::default() }
    }

    /// Refuses numbers out of their range.
    ///
    /// # Errors
    /// The first such setting, with the remedy.
    pub fn check(&self) -> Result<(), Error> {
        let shares = [("retention.keep-base", self.keep_base, "0.05"), ("retention.rewind", self.rewind, "0.9")];
        for (setting, share, such) in shares {
            if let Some(share) = share.filter(|share| !(0.0..=1.0).contains(share)) {
                refuse!("setting `{setting} = {share}`: write a share from 0 to 1, such as {such}");
            }
        }
        let weights =
            [("retention.l2-sp", self.l2_sp), ("retention.ewc", self.ewc), ("retention.distill", self.distill)];
        for (setting, weight) in weights {
            if let Some(weight) = weight.filter(|weight| !(*weight >= 0.0 && weight.is_finite())) {
                refuse!("setting `{setting} = {weight}`: write a number of 0 or more, such as 1");
            }
        }
        if self.replay.is_some() && self.set.is_none() {
            refuse!(
                "setting `retention.replay`: there is nothing to learn again; name what the base knows with setting `retention.set`, or remove it"
            );
        }
        Ok(())
    }
}
