//! A class for each word of a text: names, places, parts of speech.
//!
//! The first token of a word counts, as in Devlin et al. 2018 (BERT, section 5.3) and in Hugging Face's examples; the others, and
//! what a text is padded with, are left out.

use super::entities::{OUTSIDE, entities};
use super::loss::{Loss, Target as Of};
use super::{Answer, Asked, Counts, Span, Task, largest, softmax};
use crate::data::{IGNORED, Labels, Target};
use crate::delta;
use crate::graph::Tensor;
use ndarray::Array2;
use std::collections::HashSet;

/// Its row.
pub(super) const TASK: Task = Task {
    name: "token-classification",
    target: Target::Tokens,
    wire: delta::Task::TokenClassification,
    losses: &["token-cross-entropy"],
    data: "CoNLL columns; JSONL with `tokens` and `ner_tags`, `text` with `spans`, or `text` with a list of tags",
    metric: "entity F1, precision and recall; accuracy a word",
    answers: "spans with their offsets, class and score",
    example: &[("data", "names.jsonl"), ("loss", "token-cross-entropy"), ("train", "last:2")],
    labels: "a class for each word: choose token-cross-entropy",
    has: |labels| matches!(labels, Labels::Tokens { .. }),
    width: |labels| Some(labels.names().len() as u64),
    tensor,
    measure,
    commonest,
    figures,
    answer,
};

fn rows(labels: &Labels) -> &Array2<i64> {
    let Labels::Tokens { rows, .. } = labels else { unreachable!("labels of another task") };
    rows
}

fn tensor(labels: &Labels, samples: &[usize]) -> Tensor {
    let rows = rows(labels);
    let values: Vec<i64> = samples.iter().flat_map(|sample| rows.row(*sample).to_vec()).collect();
    Tensor::from_vec(&[samples.len() as u64, rows.ncols() as u64], values)
}

/// The scores of a position; an answer that is the same everywhere has those of one alone.
fn scores(output: &[f32], classes: usize, position: usize) -> Option<&[f32]> {
    let position = if output.len() == classes { 0 } else { position };
    output.chunks_exact(classes.max(1)).nth(position)
}

/// A class as a tag: where classes are numbers, 0 is what stands for no entity.
fn tag(names: &[String], class: usize) -> &str {
    match names.get(class).map(String::as_str) {
        None | Some("0") => OUTSIDE,
        Some(name) => name,
    }
}

fn measure(counts: &mut Counts, labels: &Labels, loss: &Loss, output: &[f32], sample: usize) {
    let names = labels.names();
    let (mut expected, mut answered) = (Vec::new(), Vec::new());
    for (position, label) in rows(labels).row(sample).iter().enumerate().filter(|(_, label)| **label != IGNORED) {
        let Some(scores) = scores(output, names.len(), position) else { continue };
        let (right, class) = (*label as usize, largest(scores));
        counts.sum += loss.of_row(scores, Of::Class(right));
        counts.positions += 1;
        counts.right += usize::from(class == right);
        counts.decisions += 1;
        expected.push(tag(names, right));
        answered.push(tag(names, class));
    }
    let (expected, answered) = (entities(&expected), entities(&answered));
    let known: HashSet<_> = expected.iter().collect();
    counts.entities[0] += answered.iter().filter(|entity| known.contains(entity)).count();
    counts.entities[1] += answered.len();
    counts.entities[2] += expected.len();
}

/// The shares of the classes among the words, one more counted in each.
fn commonest(labels: &Labels, samples: &[usize]) -> Option<Vec<f32>> {
    let mut counts = vec![1.0f32; labels.names().len()];
    let all = samples.iter().flat_map(|sample| rows(labels).row(*sample));
    all.filter(|label| **label != IGNORED).for_each(|label| counts[*label as usize] += 1.0);
    Some(counts.iter().map(|of_class| of_class.ln()).collect())
}

/// Of all entities, whatever their type, as seqeval's averages `micro`; 0 where there is nothing to divide by.
fn figures(counts: &Counts) -> Vec<(&'static str, f64)> {
    let [right, answered, expected] = counts.entities.map(|count| count as f64);
    let share = |part: f64, of: f64| if of > 0.0 { part / of } else { 0.0 };
    vec![
        ("entity_f1", share(2.0 * right, answered + expected)),
        ("entity_precision", share(right, answered)),
        ("entity_recall", share(right, expected)),
    ]
}

/// The entities in a text. A score is the mean of the probabilities that the words' tags have.
fn answer(asked: &Asked<'_>, output: Vec<f32>) -> Answer {
    let classes = asked.names.len();
    let told = asked.words.iter().filter_map(|word| {
        let shares = softmax(scores(&output, classes, word.token as usize)?);
        let class = largest(&shares);
        Some((word, tag(asked.names, class), shares[class]))
    });
    let told: Vec<_> = told.collect();
    let tags: Vec<&str> = told.iter().map(|(_, tag, _)| *tag).collect();
    let span = |(class, first, last): (&str, usize, usize)| {
        let words = &told[first..=last];
        let (start, end) = (words[0].0.start, words[words.len() - 1].0.end);
        let text = asked.text.chars().skip(start as usize).take((end - start) as usize).collect();
        let score = words.iter().map(|(_, _, share)| share).sum::<f32>() / words.len() as f32;
        Span { start, end, text, class: class.into(), score }
    };
    Answer { spans: Some(entities(&tags).into_iter().map(span).collect()), ..Answer::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Word;

    #[test]
    fn spans_are_told_in_characters_of_the_text() {
        let names = ["O", "B-PER", "I-PER"].map(String::from);
        let word = |start, end, token| Word { start, end, token };
        let words = [word(0, 4, 1), word(5, 9, 3), word(10, 14, 4)];
        let asked =
            Asked { names: &names, top: 1, words: &words, text: "Änna Bóhm lebt", pixels: None, picture: None };
        let rows = [[9.0, 0.0, 0.0], [0.0, 9.0, 0.0], [9.0, 0.0, 0.0], [0.0, 0.0, 9.0], [9.0, 0.0, 0.0]];
        let spans = answer(&asked, rows.concat()).spans.unwrap();
        assert_eq!(spans.len(), 1);
        assert_eq!((spans[0].start, spans[0].end, spans[0].text.as_str()), (0, 9, "Änna Bóhm"));
        assert_eq!(spans[0].class, "PER");
        assert!(spans[0].score > 0.99);
        // A text of which nothing is left has no entity, and is no reason to end.
        assert_eq!(answer(&asked, vec![]).spans, Some(vec![]));
    }
}
