//! Boxes: the assignment, the loss and its gradient against PyTorch's, the metric against pycocotools'.

use super::{Golden, TOLERANCE, by_nodes};
use edgetune::data::{Grid, Labels, Object, Picture};
use edgetune::task::average_precision::{OfClass, Scored, Wanted, mean_average_precision};
use edgetune::task::{self, Counts, Loss};
use serde::Deserialize;

/// What `make/detection.py` has.
const CLASSES: usize = 3;
const BINS: usize = 6;

fn labels(golden: &mut Golden) -> Labels {
    let mut pictures = vec![Picture { size: [64, 48], objects: Vec::new() }; 3];
    for row in golden.array::<f32>("objects").rows() {
        let [picture, class, left, top, right, bottom] = row.to_vec()[..] else { panic!("six numbers") };
        let object = Object { class: class as u32, corners: [left, top, right, bottom], crowd: false };
        pictures[picture as usize].objects.push(object);
    }
    let names = (0..CLASSES).map(|class| class.to_string()).collect();
    Labels::Boxes { names, pictures, grid: Grid { input: [64, 48], levels: vec![[8, 6], [4, 3]], bins: BINS } }
}

#[test]
fn cells_are_assigned_and_measured_as_by_pytorch() {
    let mut golden = Golden::read("boxes");
    let labels = labels(&mut golden);
    let output = golden.array::<f32>("output");
    let values: Vec<f32> = output.iter().copied().collect();
    let told = task::assigned(&labels, &[0, 1, 2], &values).unwrap();
    let expected = golden.array::<f64>("labels");
    assert_eq!(told.shape, expected.shape().iter().map(|size| *size as u64).collect::<Vec<_>>());
    for (place, (found, expected)) in told.to_f32().unwrap().iter().zip(&expected).enumerate() {
        assert!((f64::from(*found) - expected).abs() < TOLERANCE, "number {place}: {found}, PyTorch {expected}");
    }
    let loss = Loss::Boxes { classes: CLASSES as u64, edges: true };
    let (value, gradient) = by_nodes(&output, (CLASSES + 4 * BINS) as u64, &told, &loss);
    let wanted = golden.number("loss");
    assert!((value - wanted).abs() < TOLERANCE * wanted, "{value}, PyTorch {wanted}");
    let expected = golden.array::<f64>("gradient");
    let largest = expected.iter().fold(0.0f64, |largest, value| largest.max(value.abs()));
    for (place, (found, expected)) in gradient.iter().zip(&expected).enumerate() {
        let difference = (f64::from(*found) - expected).abs();
        assert!(difference < TOLERANCE * largest, "gradient {place}: {found}, PyTorch {expected}");
    }
    let task = task::of_labels(&labels).unwrap();
    let mut counts = Counts::new(&labels);
    let each = values.chunks_exact(values.len() / 3).enumerate();
    each.for_each(|(sample, output)| (task.measure)(&mut counts, &labels, &loss, output, sample));
    let in_rust = counts.sum / counts.weight.max(1.0);
    assert!((in_rust - wanted).abs() < TOLERANCE * wanted, "in Rust {in_rust}");
}

#[derive(Deserialize)]
struct Cases {
    classes: usize,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    /// Objects that are there, and boxes that were found.
    photographs: Vec<[Vec<[i32; 6]>; 2]>,
    ap: [f64; 2],
}

#[test]
fn average_precision_is_pycocotools() {
    let text = include_str!("../../goldens/tasks/average_precision.json");
    let Cases { classes, cases } = serde_json::from_str(text).unwrap();
    assert_eq!(cases.len(), 200);
    for (number, case) in cases.iter().enumerate() {
        let mut found = vec![OfClass::default(); classes];
        for [there, boxes] in &case.photographs {
            for (class, of_class) in found.iter_mut().enumerate() {
                let is_its = |row: &&[i32; 6]| row[0] as usize == class;
                let corners = |row: &[i32; 6]| [row[1], row[2], row[3], row[4]].map(f64::from);
                let scored = |row: &[i32; 6]| Scored { corners: corners(row), score: row[5] as f32 / 1000.0 };
                let wanted = |row: &[i32; 6]| Wanted { corners: corners(row), crowd: row[5] == 1 };
                let scored: Vec<Scored> = boxes.iter().filter(is_its).map(scored).collect();
                let wanted: Vec<Wanted> = there.iter().filter(is_its).map(wanted).collect();
                of_class.add(&scored, &wanted);
            }
        }
        let measured = mean_average_precision(&found);
        for (found, expected) in measured.iter().zip(case.ap) {
            // Where there is nothing to find, pycocotools says −1.
            let expected = expected.max(0.0);
            assert!((found - expected).abs() < 1e-6, "case {number}: {found}, pycocotools {expected}");
        }
    }
    assert!(cases.iter().filter(|case| case.ap[0] > 0.1).count() > 100, "cases that tell something");
}
