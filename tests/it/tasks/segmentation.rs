//! A class for each pixel against PyTorch's loss and scikit-learn's confusion matrix.

use super::{Golden, is_as_pytorch};
use edgetune::data::{IGNORED_PIXEL, Labels, Masks};
use edgetune::task::{self, Counts, Loss};
use serde::Deserialize;

fn labels(golden: &mut Golden, masks: &str) -> Labels {
    let array = golden.array::<u8>(masks);
    let [_, height, width] = array.shape()[..] else { panic!("{:?}", array.shape()) };
    let mut masks = Masks::new(height as u32, width as u32);
    array.outer_iter().for_each(|mask| masks.push(&mask.iter().copied().collect::<Vec<u8>>()));
    Labels::Pixels { names: (0..4).map(|class| format!("class{class}")).collect(), masks }
}

fn loss(labels: &Labels, dice: bool, class_weights: Option<Vec<f32>>) -> Loss {
    let Labels::Pixels { masks, .. } = labels else { panic!("{labels:?}") };
    Loss::PixelCrossEntropy { class_weights, size: Some(masks.size()), dice }
}

#[test]
fn the_loss_is_pytorchs_on_enlarged_scores_with_what_does_not_count_left_out() {
    for (before, masks) in [("", "masks"), ("small_", "small")] {
        let mut golden = Golden::read("segmentation").named(before);
        let labels = labels(&mut golden, masks);
        let loss = loss(&labels, false, None);
        let counts = is_as_pytorch(&mut golden, &labels, &loss, 4, &[]);
        let (found, expected) = (counts.sum / counts.positions as f64, golden.number(&format!("{before}loss")));
        assert!((found - expected).abs() < 1e-5 * expected, "in Rust {found}, PyTorch {expected}");
        // A step over several runs adds what each has shown, by its pixels.
        let weight: f64 = (0..3).map(|sample| loss.weight(&labels, &[sample])).sum();
        assert_eq!(weight, counts.positions as f64);
    }
}

#[test]
fn classes_weigh_as_in_pytorch() {
    let mut golden = Golden::read("segmentation").named("weighted_");
    let labels = labels(&mut golden, "masks");
    let weights: Vec<f32> = golden.array::<f32>("weights").iter().copied().collect();
    is_as_pytorch(&mut golden, &labels, &loss(&labels, false, Some(weights)), 4, &[]);
}

#[test]
fn dice_is_added_in_nodes_and_in_rust() {
    let mut golden = Golden::read("segmentation").named("dice_");
    let labels = labels(&mut golden, "masks");
    let counts = is_as_pytorch(&mut golden, &labels, &loss(&labels, true, None), 4, &[]);
    let (found, expected) = (counts.sum / counts.positions as f64 + counts.beside_mean(), golden.number("dice_loss"));
    assert!((found - expected).abs() < 1e-5 * expected, "in Rust {found}, PyTorch {expected}");
}

#[derive(Deserialize)]
struct Case {
    classes: usize,
    expected: String,
    answered: String,
    mean_iou: f64,
    accuracy: f64,
}

#[test]
fn masks_are_scored_as_by_scikit_learn() {
    let cases: Vec<Case> = serde_json::from_str(include_str!("../../goldens/tasks/masks.json")).unwrap();
    assert_eq!(cases.len(), 200);
    for (number, case) in cases.iter().enumerate() {
        let digit = |letter: char| letter.to_digit(10).map_or(IGNORED_PIXEL, |digit| digit as u8);
        let expected: Vec<u8> = case.expected.chars().map(digit).collect();
        let answered: Vec<u8> = case.answered.chars().map(digit).collect();
        let pixels = expected.len();
        // Two pictures, the first of which has a single pixel: sums are over all of them.
        for split in [0, 1] {
            let (mut counts, loss) = (None, Loss::named("pixel-cross-entropy").unwrap());
            let mut from = 0;
            for to in if split == 1 { vec![1, pixels] } else { vec![pixels] } {
                let mut masks = Masks::new(1, (to - from) as u32);
                masks.push(&expected[from..to]);
                let names = (0..case.classes).map(|class| class.to_string()).collect();
                let labels = Labels::Pixels { names, masks };
                let mut output = vec![0.0f32; case.classes * (to - from)];
                for (place, class) in answered[from..to].iter().enumerate() {
                    output[usize::from(*class) * (to - from) + place] = 1.0;
                }
                let counts = counts.get_or_insert_with(|| Counts::new(&labels));
                (task::of_labels(&labels).unwrap().measure)(counts, &labels, &loss, &output, 0);
                from = to;
            }
            let counts = counts.unwrap();
            let figures = (task::TASKS.iter().find(|task| task.name == "segmentation").unwrap().figures)(&counts);
            let (name, found) = figures[0];
            assert_eq!(name, "mean_iou");
            assert!((found - case.mean_iou).abs() < 1e-6, "case {number}: {found}, scikit-learn {}", case.mean_iou);
            let accuracy = counts.right as f64 / counts.decisions as f64;
            assert!((accuracy - case.accuracy).abs() < 1e-6, "case {number}: {accuracy}");
        }
    }
}
