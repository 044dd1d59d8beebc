//! What a model learns to do: one file a task, and a table of them.
//!
//! A task says what the labels are, how wide the output is for them, which losses fit, how an output is measured against a label,
//! what the same answer for every sample would be, and how an output is told. Pure: it takes labels and outputs, and knows neither
//! files nor models. The losses themselves, as nodes and in Rust, are in `formula`.

mod anomaly;
mod answer;
mod anything;
mod assign;
pub mod average_precision;
mod box_loss;
mod boxes;
mod corners;
mod classification;
pub mod compared;
mod counts;
mod ctc;
mod enlarge;
mod detection;
mod edits;
mod entities;
mod formula;
pub mod likeness;
mod likeness_loss;
pub mod loss;
mod multi_label;
mod next_token;
mod ordinal;
mod own;
mod regression;
mod segmentation;
mod token_classification;
mod transcription;

pub use answer::{Answer, Asked, FoundBox, Mask, Pixels, Scored, Share, Span, largest, softmax};
pub use counts::Counts;
pub use edits::Edits;
pub use enlarge::enlarge;
pub use entities::{Entity, entities};
pub use likeness_loss::{Likeness, cosine, unit};
pub use loss::Loss;
pub use own::{OwnLoss, Part};
pub use segmentation::ious;

use crate::data::{Labels, Target};
use crate::delta;
use crate::graph::Tensor;

/// One thing that a model may learn to do.
pub struct Task {
    /// Its name.
    pub name: &'static str,
    /// How labels are read from data.
    pub target: Target,
    /// What a delta's header calls it.
    pub wire: delta::Task,
    /// The losses that it is learned by, as recipes name them; the first is the default.
    pub losses: &'static [&'static str],
    /// The data that it is learned from, as people have them.
    pub data: &'static str,
    /// What is measured.
    pub metric: &'static str,
    /// What an answer is.
    pub answers: &'static str,
    /// Settings of an example, with their values.
    pub example: &'static [(&'static str, &'static str)],
    /// What its labels are, in the words of a message.
    pub labels: &'static str,
    /// Whether labels are of this task.
    pub has: fn(&Labels) -> bool,
    /// Columns of the output that labels ask for; `None` where the model's own stay.
    pub width: fn(&Labels) -> Option<u64>,
    /// The labels of some samples as the step graph takes them.
    pub tensor: fn(&Labels, &[usize]) -> Tensor,
    /// Measures the output for one sample: labels, loss, output, sample.
    pub measure: fn(&mut Counts, &Labels, &Loss, &[f32], usize),
    /// The output that knows only the labels of some samples: their commonest class, their mean; `None` where there is none.
    pub commonest: fn(&Labels, &[usize]) -> Option<Vec<f32>>,
    /// What is told besides loss and accuracy, by name, from what was counted.
    pub figures: fn(&Counts) -> Vec<(&'static str, f64)>,
    /// What an output means.
    pub answer: fn(&Asked<'_>, Vec<f32>) -> Answer,
}

impl Task {
    /// The loss that it is learned by where none is named.
    pub fn loss(&self) -> Loss {
        Loss::named(self.losses[0]).expect("every task's losses have names")
    }
}

/// All tasks, by name.
pub static TASKS: &[Task] = &[
    anomaly::TASK,
    anything::TASK,
    classification::TASK,
    detection::TASK,
    likeness::TASK,
    multi_label::TASK,
    next_token::TASK,
    ordinal::TASK,
    regression::TASK,
    segmentation::TASK,
    token_classification::TASK,
    transcription::TASK,
];

/// What a step is told of samples where that depends on what the model answers now: `outputs` of the samples, one behind the other. `None`
/// where it does not.
pub fn assigned(labels: &Labels, samples: &[usize], outputs: &[f32]) -> Option<Tensor> {
    match labels {
        Labels::Boxes { .. } => Some(detection::assigned(labels, samples, outputs)),
        Labels::Lines { .. } => Some(transcription::occupied(labels, samples, outputs)),
        _ => None,
    }
}

/// The task of some labels; `None` where there are none.
pub fn of_labels(labels: &Labels) -> Option<&'static Task> {
    TASKS.iter().find(|task| (task.has)(labels))
}

/// The task that a delta's header names.
pub fn of_wire(wire: delta::Task) -> &'static Task {
    TASKS.iter().find(|task| task.wire == wire).expect("every word of the header has a task")
}

/// The task that a loss is of, by the loss's name in recipes.
pub fn of_loss(name: &str) -> &'static Task {
    TASKS.iter().find(|task| task.losses.contains(&name)).expect("every loss has a task")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Grid, Lines, Masks, Member, Object, Picture, Role};
    use ndarray::arr2;

    /// Labels of three samples of each kind.
    fn all() -> Vec<Labels> {
        let names = || vec!["a".to_string(), "b".into()];
        let mut masks = Masks::new(1, 2);
        [[0, 1], [255, 1], [0, 0]].iter().for_each(|mask| masks.push(mask));
        vec![
            Labels::Anomalies(vec![false, true, false]),
            Labels::OfLoss(arr2(&[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])),
            Labels::Classes { names: names(), index: vec![0, 1, 0] },
            boxes(),
            identities(),
            Labels::MultiLabel { names: names(), rows: arr2(&[[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]]) },
            Labels::NextTokens(arr2(&[[1, 2], [0, -100], [3, 1]])),
            Labels::Ordinal { names: [names(), vec!["c".into()]].concat(), index: vec![0, 2, 1] },
            Labels::Values(arr2(&[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])),
            Labels::Pixels { names: names(), masks },
            Labels::Tokens { names: names(), rows: arr2(&[[-100, 0, 1], [-100, 1, -100], [-100, 0, 0]]) },
            Labels::Lines { names: names(), lines: Lines::new(0, 3, [&[1][..], &[1, 1], &[]]) },
        ]
    }

    /// Two samples of one identity, one of another.
    fn identities() -> Labels {
        let member = |identity| Member { identity, group: identity, role: Role::Any, score: 1.0 };
        Labels::Identities {
            names: vec!["a".into(), "b".into()],
            members: [0, 1, 0].map(member).to_vec(),
            scored: false,
        }
    }

    /// Three photographs of one size, the last one empty.
    fn boxes() -> Labels {
        let object = |class, left: f32| Object { class, corners: [left, 2.0, left + 9.0, 15.0], crowd: false };
        let picture = |objects| Picture { size: [16, 16], objects };
        let pictures = vec![picture(vec![object(0, 1.0)]), picture(vec![object(1, 3.0)]), picture(vec![])];
        let grid = Grid { input: [16, 16], levels: vec![[4, 4], [2, 2]], bins: 4 };
        Labels::Boxes { names: vec!["a".into(), "b".into()], pictures, grid }
    }

    #[test]
    fn the_table_is_sorted_and_each_label_and_loss_has_one_task() {
        assert!(TASKS.iter().map(|task| task.name).is_sorted());
        for (labels, task) in all().iter().zip(TASKS) {
            assert_eq!(TASKS.iter().filter(|task| (task.has)(labels)).count(), 1, "{}", task.name);
            assert_eq!(of_labels(labels).map(|found| found.name), Some(task.name));
            assert_eq!(of_wire(task.wire).name, task.name);
            for loss in task.losses {
                assert_eq!(TASKS.iter().filter(|task| task.losses.contains(loss)).count(), 1, "{loss}");
            }
        }
        assert!(of_labels(&Labels::Unlabelled(3)).is_none());
    }

    #[test]
    fn labels_become_tensors_of_a_row_each() {
        for (labels, task) in all().iter().zip(TASKS) {
            let tensor = (task.tensor)(labels, &[2, 0]);
            assert_eq!(tensor.shape[0], 2, "{}", task.name);
        }
    }

    #[test]
    fn the_commonest_answer_is_measured_like_any_other() {
        for (labels, task) in all().iter().zip(TASKS) {
            let Some(output) = (task.commonest)(labels, &[0, 1, 2]) else { continue };
            assert_eq!((task.width)(labels), Some(output.len() as u64), "{}", task.name);
            let loss = loss::Loss::named(task.losses[0]).unwrap();
            let mut counts = Counts::new(labels);
            (0..3).for_each(|sample| (task.measure)(&mut counts, labels, &loss, &output, sample));
            assert!(counts.sum.is_finite() && counts.sum > 0.0, "{}", task.name);
        }
    }
}
