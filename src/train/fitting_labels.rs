//! Whether labels are what a loss and an output take, and what a step is told of them.

use super::error::Error;
use super::loss::Loss;
use super::order::refuse_other_pairs;
use super::prepare::Bundle;
use crate::data::{Labels, Split};
use crate::graph::Tensor;
use crate::task;

/// Whether there are samples to learn from, and their labels are what the loss and the output take.
///
/// # Errors
/// [`Error::Setting`] with the option and the remedy.
pub fn check_labels(loss: &Loss, labels: &Labels, split: &Split, bundle: &Bundle) -> Result<(), Error> {
    let refuse = |setting, problem: String| Err(Error::Setting { setting, problem });
    if split.train.is_empty() {
        return refuse("data", "no sample is left to train on; lower setting `val-fraction` or add data".into());
    }
    let task = task::of_labels(labels);
    if !task.is_some_and(|task| task.losses.contains(&loss.name())) {
        let fitting = task.map_or("no labels", |task| task.labels);
        return refuse("loss", format!("`{}` does not fit, the data have {fitting}", loss.name()));
    }
    if let Labels::MultiLabel { rows, .. } | Labels::Values(rows) = labels
        && rows.ncols() as u64 != bundle.width
    {
        return refuse("data", format!("{} label columns, but the output has {}", rows.ncols(), bundle.width));
    }
    if let (Loss::File(own), Labels::OfLoss(rows)) = (loss, labels)
        && rows.ncols() as u64 != own.width()
    {
        let (columns, values) = (rows.ncols(), own.width());
        return refuse("data", format!("{columns} numbers a sample, but {} takes {values}", own.file));
    }
    refuse_other_pairs(loss, labels)?;
    match labels {
        Labels::NextTokens(rows) => refuse_unknown_tokens(rows, bundle.width),
        _ => Ok(()),
    }
}

/// A token beyond the model's vocabulary comes from another model's tokenizer.
pub fn refuse_unknown_tokens(rows: &ndarray::Array2<i64>, vocabulary: u64) -> Result<(), Error> {
    match rows.iter().find(|token| **token >= vocabulary as i64) {
        None => Ok(()),
        Some(token) => Err(Error::Setting {
            setting: "samples.tokenizer",
            problem: format!(
                "gives token {token}, but the model knows {vocabulary}; take the model's own tokenizer.json"
            ),
        }),
    }
}

/// The labels of some samples as the step graph takes them.
pub fn labels_tensor(labels: &Labels, samples: &[usize]) -> Tensor {
    let task = task::of_labels(labels).expect("samples without labels were refused before the run");
    (task.tensor)(labels, samples)
}
