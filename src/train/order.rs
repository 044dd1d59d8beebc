//! In which order samples are learned from, and whether those that meet can be compared.

use super::error::Error;
use super::loss::Loss;
use crate::data::{self, Labels};
use crate::task::Likeness;

/// The order of an epoch depends on seed and epoch alone, so a resumed run needs no generator state. Samples that are to be compared meet in
/// a batch.
pub fn order(labels: &Labels, train: &[usize], seed: u64, epoch: u32) -> Vec<usize> {
    let mut order = train.to_vec();
    let mixed = blake3::hash(&[seed.to_le_bytes(), u64::from(epoch).to_le_bytes()].concat());
    let seed = u64::from_le_bytes(mixed.as_bytes()[..8].try_into().expect("eight bytes"));
    if let Labels::Identities { members, .. } = labels {
        return data::together(members, &order, seed);
    }
    fastrand::Rng::with_seed(seed).shuffle(&mut order);
    order
}

/// Pairs say how alike they are, where a loss asks for it, and else they do not.
///
/// # Errors
/// [`Error::Setting`] with the loss that fits.
pub(super) fn refuse_other_pairs(loss: &Loss, labels: &Labels) -> Result<(), Error> {
    let (Loss::Likeness { by }, Labels::Identities { scored, .. }) = (loss, labels) else { return Ok(()) };
    let problem = match (*by == Likeness::CosineSimilarity, *scored) {
        (true, true) | (false, false) => return Ok(()),
        (false, true) => format!("`{}` does not fit, the pairs have scores: choose cosine-similarity", by.name()),
        (true, false) => "`cosine-similarity` does not fit, no pair has a score: choose multiple-negatives".into(),
    };
    Err(Error::Setting { setting: "loss", problem })
}
