//! The header as it lies on the wire. The order of the fields and variants *is* the format: see `format.md`.

use super::error::{Error, Field, ensure};
use super::project::BITS;
use super::sums::Shape;
use crate::delta::{NAME_BYTES_MAX, Preprocessing, Task, check_preprocessing, is_name};
use serde::{Deserialize, Serialize};

/// Features, at most.
pub const FEATURES_MAX: u32 = 1 << 20;

/// Where the coordinates' directions come from: every device makes the same ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Directions {
    /// The right singular vectors of the base's own classifier weight.
    Classifier,
    /// An orthogonal matrix that the seed decides.
    Orthogonal {
        /// The seed.
        seed: u64,
    },
    /// The features themselves.
    Identity,
}

/// What moments are of: those of equal headers, but for samples and labels, can be put together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Header<'a> {
    /// Hash of the base whose features were summed up.
    pub base: [u8; 32],
    /// Hash that names centre, directions and steps.
    pub basis: [u8; 32],
    /// Where the directions come from.
    pub directions: Directions,
    /// Name of the model's output that a head takes the place of, or reads.
    pub output: &'a str,
    /// Whether the head is appended to the output instead of taking the place of its last layer.
    pub appended: bool,
    /// Numbers of a sample's features.
    pub features: u32,
    /// Coordinates that they become.
    pub coordinates: u32,
    /// Bits of a coordinate.
    pub bits: u8,
    /// What the targets are.
    pub task: Task,
    /// What a target's step of 1 stands for; 1 for classes.
    pub target_step: f32,
    /// What was done to samples before the model saw them.
    #[serde(borrow)]
    pub preprocessing: Preprocessing<'a>,
    /// Samples.
    pub samples: u32,
    /// Coordinates that were clipped.
    pub clipped: u64,
    /// Classes or values to predict.
    pub targets: u32,
    /// Labels that follow: none, or one a target.
    pub labels: u32,
}

impl Header<'_> {
    /// The shape of the sums.
    ///
    /// # Errors
    /// One beyond the limits.
    pub fn shape(&self) -> Result<Shape, Error> {
        Shape::new(self.task, self.coordinates as usize, self.targets as usize)
    }

    /// Refuses what decodes but cannot be meant.
    pub(super) fn check(&self) -> Result<(), Error> {
        let wrong = |holds: bool, field: Field| ensure(holds, Error::Wrong(field));
        wrong(is_name(self.output, NAME_BYTES_MAX), Field::Output)?;
        wrong((1..=FEATURES_MAX).contains(&self.features), Field::Features)?;
        wrong(self.coordinates <= self.features, Field::Coordinates)?;
        wrong(self.directions != Directions::Identity || self.coordinates == self.features, Field::Coordinates)?;
        wrong(BITS.contains(&self.bits), Field::Bits)?;
        let step = self.target_step;
        let regression = self.task == Task::Regression;
        wrong(step > 0.0 && step.is_finite() && (regression || step == 1.0), Field::TargetStep)?;
        check_preprocessing(&self.preprocessing).map_err(|_| Error::Wrong(Field::Preprocessing))?;
        wrong(self.samples > 0, Field::Samples)?;
        wrong(self.targets > 0, Field::Targets)?;
        // Classes have names; without them nobody could tell which are the same.
        let named = self.labels == self.targets;
        wrong(named || (regression && self.labels == 0), Field::Labels)?;
        self.shape().map(|_| ())
    }
}
