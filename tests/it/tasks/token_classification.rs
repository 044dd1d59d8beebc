//! A class for each word against PyTorch's loss and seqeval's entities.

use super::{Golden, is_as_pytorch};
use edgetune::data::Labels;
use edgetune::task::{self, Counts, Loss};
use ndarray::{Array2, Ix2};
use serde::Deserialize;

fn labels(golden: &mut Golden) -> Labels {
    let rows: Array2<i64> = golden.array::<i64>("classes").into_dimensionality::<Ix2>().unwrap();
    Labels::Tokens { names: (0..5).map(|class| format!("tag{class}")).collect(), rows }
}

#[test]
fn the_loss_is_pytorchs_with_what_does_not_count_left_out() {
    let mut golden = Golden::read("tokens");
    let labels = labels(&mut golden);
    let counts = is_as_pytorch(&mut golden, &labels, &Loss::TokenCrossEntropy { class_weights: None }, 5, &[]);
    let loss = counts.sum / counts.positions as f64;
    assert!((loss - golden.number("loss")).abs() < 1e-5, "in Rust {loss}");
    assert_eq!(counts.right as f64 / counts.decisions as f64, golden.number("accuracy"));
}

#[test]
fn classes_weigh_as_in_pytorch() {
    let mut golden = Golden::read("tokens").named("weighted_");
    let labels = labels(&mut golden);
    let class_weights = Some(golden.array::<f32>("weights").iter().copied().collect());
    is_as_pytorch(&mut golden, &labels, &Loss::TokenCrossEntropy { class_weights }, 5, &[]);
}

#[derive(Deserialize)]
struct Cases {
    tags: Vec<String>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    expected: Vec<Vec<i64>>,
    answered: Vec<Vec<usize>>,
    f1: f64,
    precision: f64,
    recall: f64,
}

#[test]
fn entities_are_scored_as_by_seqeval() {
    let text = include_str!("../../goldens/tasks/entities.json");
    let Cases { tags, cases } = serde_json::from_str(text).unwrap();
    assert_eq!(cases.len(), 200);
    for (number, case) in cases.iter().enumerate() {
        let width = case.expected.iter().map(Vec::len).max().unwrap();
        let mut rows = Array2::from_elem((case.expected.len(), width), -100);
        for (mut row, text) in rows.rows_mut().into_iter().zip(&case.expected) {
            row.iter_mut().zip(text).for_each(|(to, tag)| *to = *tag);
        }
        let labels = Labels::Tokens { names: tags.clone(), rows };
        let task = task::of_labels(&labels).unwrap();
        let mut counts = Counts::new(&labels);
        for (sample, answered) in case.answered.iter().enumerate() {
            let mut output = vec![0.0; width * tags.len()];
            answered.iter().enumerate().for_each(|(word, tag)| output[word * tags.len() + tag] = 1.0);
            let loss = Loss::TokenCrossEntropy { class_weights: None };
            (task.measure)(&mut counts, &labels, &loss, &output, sample);
        }
        let expected = [("entity_f1", case.f1), ("entity_precision", case.precision), ("entity_recall", case.recall)];
        for ((name, found), (_, expected)) in (task.figures)(&counts).into_iter().zip(expected) {
            assert!((found - expected).abs() < 1e-9, "case {number}: {name} {found}, seqeval {expected}");
        }
    }
}
