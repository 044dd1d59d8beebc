//! Stage 11 without devices: many virtual ones, each with a part of a real data set, really trained, and combined as the server
//! would combine them, to compare ways of combining before a rollout.
//!
//! Takes a bundle, features and labels, and how the data are to be parted; gives what each way of combining reaches, round by
//! round. The deltas are real ones: encoded in fp16, parsed and verified on their way. Never opens a file itself, never touches a
//! network or a clock; chance comes from the seed alone.

mod attack;
mod federation;
mod moments;
mod partition;

pub use attack::Attack;
pub use federation::{Arm, Measured, Outcome, Progress, Setting, World, run};
pub use partition::{Error as PartitionError, dirichlet};

/// Why a simulation ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The data cannot be parted so.
    #[error(transparent)]
    Partition(#[from] PartitionError),
    /// A training's.
    #[error(transparent)]
    Train(#[from] crate::train::Error),
    /// Deltas that do not go together.
    #[error(transparent)]
    Combine(#[from] crate::aggregate::Error),
}
