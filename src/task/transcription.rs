//! A text that stands in a picture of a line, a character at a time: what is printed or written there.

use super::loss::Loss;
use super::{Answer, Asked, Counts, Task, ctc};
use crate::data::{Labels, Lines, Target, blank_of};
use crate::delta;
use crate::graph::Tensor;

/// Its row.
pub(super) const TASK: Task = Task {
    name: "transcription",
    target: Target::Lines,
    wire: delta::Task::Transcription,
    losses: &["ctc"],
    data: "pictures of text lines: a table of `file` and `text`, PaddleOCR's list of path and text, or NAME.gt.txt beside each",
    metric: "character and word error rate; the accuracy is the share of lines without an error",
    answers: "the text, with a confidence",
    example: &[("data", "lines.csv"), ("loss", "ctc"), ("train", "head")],
    labels: "texts that stand in pictures: choose ctc",
    has: |labels| matches!(labels, Labels::Lines { .. }),
    width: |labels| Some(labels.names().len() as u64),
    tensor: |labels, samples| occupied(labels, samples, &[]),
    measure,
    commonest: |_, _| None,
    figures,
    answer,
};

fn lines(labels: &Labels) -> (&Lines, usize) {
    let Labels::Lines { names, lines } = labels else { unreachable!("labels of another task") };
    (lines, names.len())
}

/// `[samples, steps, classes + 1]`: how much of each step belongs to each class, by what the model answers now, and by how much the
/// loss differs from the cross-entropy of that. Without `outputs` as if all answers were alike. A text's numbers are divided by its length, as the mean of
/// `torch.nn.CTCLoss` has it. A text that has no path tells nothing, and its gradient is zero.
pub(super) fn occupied(labels: &Labels, samples: &[usize], outputs: &[f32]) -> Tensor {
    let (lines, classes) = lines(labels);
    let steps = match outputs.len() {
        0 => lines.steps(),
        all => all / (samples.len() * classes).max(1),
    };
    let alike = if outputs.is_empty() { vec![0.0; steps * classes] } else { Vec::new() };
    let mut rows = vec![0.0f32; samples.len() * steps * (classes + 1)];
    for (place, sample) in samples.iter().enumerate() {
        let size = steps * classes;
        let output = if outputs.is_empty() { &alike[..] } else { &outputs[place * size..][..size] };
        let line = lines.line(*sample);
        let Some(found) = ctc::occupied(output, classes, line, lines.blank()) else { continue };
        let length = line.len().max(1) as f64;
        let row = &mut rows[place * steps * (classes + 1)..][..steps * (classes + 1)];
        for (to, from) in row.chunks_exact_mut(classes + 1).zip(found.shares.chunks_exact(classes)) {
            to.iter_mut().zip(from).for_each(|(to, from)| *to = (from / length) as f32);
        }
        if let Some(rest) = row.get_mut(classes) {
            *rest = ((found.loss - found.cross_entropy) / length) as f32;
        }
    }
    Tensor::from_vec(&[samples.len() as u64, steps as u64, classes as u64 + 1], rows)
}

fn measure(counts: &mut Counts, labels: &Labels, _: &Loss, output: &[f32], sample: usize) {
    let (lines, classes) = lines(labels);
    let (line, blank) = (lines.line(sample), lines.blank());
    counts.sum += ctc::loss(output, classes, line, blank) / line.len().max(1) as f64;
    let text = |characters: &mut dyn Iterator<Item = u32>| -> String {
        characters.map(|character| labels.names()[character as usize].as_str()).collect()
    };
    let answered = text(&mut ctc::greedy(output, classes, blank).into_iter().map(|(class, _)| class));
    let given = text(&mut line.iter().copied());
    counts.edits.add(&given, &answered);
    counts.right += usize::from(given.trim() == answered.trim());
    counts.decisions += 1;
}

fn figures(counts: &Counts) -> Vec<(&'static str, f64)> {
    let [characters, words] = counts.edits.rates();
    vec![("cer", characters), ("wer", words)]
}

/// The text by the likeliest class of each step. Its confidence is the mean probability of what is kept; of an empty text that of all blanks.
fn answer(asked: &Asked<'_>, output: Vec<f32>) -> Answer {
    let classes = asked.names.len().max(1);
    let blank = blank_of(asked.names);
    let kept = ctc::greedy(&output, classes, blank);
    let text = kept.iter().map(|(class, _)| asked.names[*class as usize].as_str()).collect::<String>();
    let shares: Vec<f32> = match kept.is_empty() {
        true => output.chunks_exact(classes).map(|row| ctc::likeliest(row).1).collect(),
        false => kept.into_iter().map(|(_, share)| share).collect(),
    };
    let confidence = shares.iter().sum::<f32>() / shares.len().max(1) as f32;
    Answer { transcription: Some(text), confidence: Some(confidence), ..Answer::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_the_text_with_the_mean_of_what_is_kept() {
        let names = ["<blank>", "a", "b"].map(String::from);
        let asked = Asked { names: &names, ..Asked::default() };
        let told = answer(&asked, vec![0.0, 9.0, 0.0, 9.0, 0.0, 0.0, 0.0, 0.0, 9.0]);
        assert_eq!(told.transcription.as_deref(), Some("ab"));
        assert!(told.confidence.unwrap() > 0.999);
        let none = answer(&asked, vec![9.0, 0.0, 0.0]);
        assert_eq!(none.transcription.as_deref(), Some(""));
        assert!(none.confidence.unwrap() > 0.999);
        assert_eq!(told.to_string(), "\"ab\" 100.0 %");
    }

    #[test]
    fn a_text_without_a_path_has_no_gradient() {
        let names = ["<blank>", "a"].map(String::from).to_vec();
        let lines = Lines::new(0, 2, [&[1, 1][..], &[1]]);
        let labels = Labels::Lines { names, lines };
        let told = occupied(&labels, &[0, 1], &[0.5; 8]);
        assert_eq!(told.shape, [2, 2, 3]);
        let values = told.to_f32().unwrap();
        assert!(values[..6].iter().all(|value| *value == 0.0) && values.iter().all(|value| value.is_finite()));
        assert!((values[6] + values[7] - 1.0).abs() < 1e-6, "{values:?}");
    }
}
