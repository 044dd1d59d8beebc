//! Texts of lines: the loss and its gradient against PyTorch's CTC, the error rates against jiwer's.

use super::{Golden, TOLERANCE, by_nodes};
use edgetune::data::{Labels, Lines};
use edgetune::task::{self, Counts, Edits, Loss};
use serde::Deserialize;

/// The texts of a case, whose outputs have so many steps and classes.
fn labels(golden: &mut Golden, case: usize, [steps, classes]: [usize; 2]) -> Labels {
    let texts: Vec<u32> =
        golden.array::<i64>(&format!("texts{case}")).iter().map(|character| *character as u32).collect();
    let blank = *golden.array::<i64>(&format!("blank{case}")).first().unwrap() as u32;
    let mut lines = Lines::new(blank, steps, []);
    let mut rest = &texts[..];
    for length in golden.array::<i64>(&format!("lengths{case}")).iter() {
        let (line, after) = rest.split_at(*length as usize);
        lines.push(line);
        rest = after;
    }
    // Names of a letter each, so that texts are told apart by them.
    let name = |class: usize| char::from_u32(0x4e00 + class as u32).unwrap().to_string();
    Labels::Lines { names: (0..classes).map(name).collect(), lines }
}

#[test]
fn loss_and_gradient_are_pytorchs() {
    let mut golden = Golden::read("ctc");
    let cases = *golden.array::<i64>("cases").first().unwrap() as usize;
    assert_eq!(cases, 6);
    for case in 0..cases {
        let output = golden.array::<f32>(&format!("output{case}"));
        let [samples, steps, classes] = output.shape()[..] else { panic!("{:?}", output.shape()) };
        let labels = labels(&mut golden, case, [steps, classes]);
        let all: Vec<usize> = (0..samples).collect();
        let values: Vec<f32> = output.iter().copied().collect();
        let told = task::assigned(&labels, &all, &values).unwrap();
        assert_eq!(told.shape, [samples as u64, steps as u64, classes as u64 + 1]);
        let (value, gradient) = by_nodes(&output, classes as u64, &told, &Loss::Ctc);
        let wanted = golden.number(&format!("loss{case}"));
        assert!((value - wanted).abs() <= TOLERANCE * wanted, "case {case}: {value}, PyTorch {wanted}");
        let expected = golden.array::<f64>(&format!("gradient{case}"));
        let largest = expected.iter().fold(0.0f64, |largest, value| largest.max(value.abs()));
        for (place, (found, expected)) in gradient.iter().zip(&expected).enumerate() {
            let difference = (f64::from(*found) - expected).abs();
            assert!(difference <= TOLERANCE * largest, "case {case}, number {place}: {found}, PyTorch {expected}");
        }
        let Labels::Lines { lines, .. } = &labels else { panic!() };
        let task = task::of_labels(&labels).unwrap();
        let mut counts = Counts::new(&labels);
        for (sample, (output, each)) in
            values.chunks_exact(steps * classes).zip(&golden.array::<f64>(&format!("each{case}"))).enumerate()
        {
            let before = counts.sum;
            (task.measure)(&mut counts, &labels, &Loss::Ctc, output, sample);
            let wanted = each / lines.line(sample).len().max(1) as f64;
            assert!((counts.sum - before - wanted).abs() <= TOLERANCE * wanted.max(1.0), "case {case} in Rust");
        }
        assert!((counts.sum / samples as f64 - wanted).abs() <= TOLERANCE * wanted, "case {case} in Rust");
    }
}

#[derive(Deserialize)]
struct Case {
    given: Vec<String>,
    answered: Vec<String>,
    cer: f64,
    wer: f64,
}

#[test]
fn error_rates_are_jiwers() {
    let cases: Vec<Case> = serde_json::from_str(include_str!("../../goldens/tasks/transcripts.json")).unwrap();
    assert_eq!(cases.len(), 200);
    for (number, case) in cases.iter().enumerate() {
        let mut edits = Edits::default();
        case.given.iter().zip(&case.answered).for_each(|(given, answered)| edits.add(given, answered));
        let [cer, wer] = edits.rates();
        assert!((cer - case.cer).abs() < 1e-6, "case {number}: CER {cer}, jiwer {}", case.cer);
        assert!((wer - case.wer).abs() < 1e-6, "case {number}: WER {wer}, jiwer {}", case.wer);
    }
    assert!(cases.iter().filter(|case| case.cer > 0.1 && case.wer < 1.0).count() > 50, "cases that tell something");
}
