//! A vector for each sample, so that alike samples have near ones: people, products, questions and their answers.

use super::likeness_loss::{COLUMNS, rows, unit};
use super::loss::Loss;
use super::{Answer, Counts, Task};
use crate::data::{Labels, Member, Target};
use crate::delta;
use crate::graph::Tensor;

/// Its row.
pub(super) const TASK: Task = Task {
    name: "likeness",
    target: Target::Identities,
    wire: delta::Task::Likeness,
    losses: &["multiple-negatives", "supervised-contrastive", "triplet", "cosine-similarity"],
    data: "a folder for each identity; a table of pairs (`query`, `passage`), of triplets (`anchor`, `positive`, `negative`) or of pairs with scores",
    metric: "recall@1 and area under the ROC curve; of scores Spearman's rank correlation",
    answers: "a vector, or the nearest enrolled identity with its cosine",
    example: &[("data", "people/"), ("loss", "multiple-negatives"), ("embedding", "128")],
    labels: "identities, pairs or triplets: choose multiple-negatives, supervised-contrastive, triplet or cosine-similarity",
    has: |labels| matches!(labels, Labels::Identities { .. }),
    width: |_| None,
    tensor: |labels, samples| {
        let values = rows(members(labels), samples).concat();
        Tensor::from_vec::<f32>(&[samples.len() as u64, COLUMNS as u64], values)
    },
    measure,
    commonest: |_, _| None,
    figures: |counts| counts.compared.figures(),
    answer: |_, output| Answer { values: unit(&output), ..Answer::default() },
};

fn members(labels: &Labels) -> &[Member] {
    let Labels::Identities { members, .. } = labels else { unreachable!("labels of another task") };
    members
}

fn measure(counts: &mut Counts, labels: &Labels, loss: &Loss, output: &[f32], sample: usize) {
    let Loss::Likeness { by } = loss else {
        unreachable!("labels were checked against the loss when the data was opened")
    };
    counts.compared.push(*by, output, members(labels)[sample]);
}
