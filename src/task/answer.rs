//! What an output means, as values and as a line for a person.

use crate::amounts::{number, percent};
use crate::data::{Grid, Word};
use crate::order::Order;
use serde::Serialize;
use std::fmt;

/// A part of a text.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Span {
    /// The first character, counted from 0.
    pub start: u32,
    /// The character behind the last.
    pub end: u32,
    /// The part itself.
    pub text: String,
    /// What it is.
    pub class: String,
    /// Between 0 and 1.
    pub score: f32,
}

/// An object that was found in a photograph.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FoundBox {
    /// What it is.
    pub class: String,
    /// Between 0 and 1.
    pub score: f32,
    /// Left, top, right and bottom edge in pixels of the photograph.
    #[serde(rename = "box")]
    pub corners: [f32; 4],
}

/// What an answer is made for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Asked<'a> {
    /// The names of the classes, in the order of the output.
    pub names: &'a [String],
    /// Classes that are told, at most.
    pub top: usize,
    /// Where the words of a text are, for a class each.
    pub words: &'a [Word],
    /// The text that the words are of.
    pub text: &'a str,
    /// The sizes of scores and picture, for a class each pixel.
    pub pixels: Option<Pixels>,
    /// Of a photograph for a detector: where it looks, and the photograph's width and height.
    pub picture: Option<(&'a Grid, [u32; 2])>,
}

/// How many pixels scores and pictures have, down and across.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pixels {
    /// What the model gives scores for.
    pub scores: [u64; 2],
    /// What it sees of a picture.
    pub seen: [u64; 2],
}

/// A class for each pixel that the model sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mask {
    /// Height and width.
    pub size: [u64; 2],
    /// Class numbers, row by row.
    pub classes: Vec<u8>,
}

/// How much of a picture is of a class.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Share {
    /// The class.
    pub class: String,
    /// Between 0 and 1, of the pixels that the model sees.
    pub share: f64,
}

/// A class and how likely it is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Scored {
    /// The class.
    pub name: String,
    /// Between 0 and 1.
    pub probability: f32,
}

/// The answer to a sample. What a task does not give is empty, and is left out of what a program reads.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Answer {
    /// The class that is decided for, where that need not be the likeliest: of classes in an order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// The classes, the likeliest first; for label sets, every class in its order with its own probability.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<Scored>,
    /// Predicted numbers, for regression.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<f32>,
    /// How far the sample is from normal ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub score: Option<f32>,
    /// Whether that is farther than normal samples are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub anomaly: Option<bool>,
    /// Parts of a text, in their order; none where the task gives no spans.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spans: Option<Vec<Span>>,
    /// The classes that some pixel of a picture is of, the largest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub shares: Vec<Share>,
    /// The class of each pixel, which programs read as a picture.
    #[serde(skip)]
    pub mask: Option<Mask>,
    /// The text that stands in a picture; none where the task reads none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transcription: Option<String>,
    /// How sure the model is of that text, between 0 and 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confidence: Option<f32>,
    /// Objects in a photograph, the surest first; none where the task finds no objects.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boxes: Option<Vec<FoundBox>>,
}

impl Answer {
    /// Classes with their probabilities, in the order of the output.
    pub(super) fn of_classes(names: &[String], probabilities: Vec<f32>) -> Self {
        let name = |index: usize| names.get(index).cloned().unwrap_or_else(|| index.to_string());
        let scored = |(index, probability)| Scored { name: name(index), probability };
        Self { classes: probabilities.into_iter().enumerate().map(scored).collect(), ..Self::default() }
    }

    /// The likeliest classes first, `count` of them at most.
    pub(super) fn likeliest(mut self, count: usize) -> Self {
        self.classes.order_by(|one, other| other.probability.total_cmp(&one.probability));
        self.classes.truncate(count);
        self
    }

    /// The likeliest classes with their shares, `count` of them at most; one that is decided for comes first.
    pub fn top(&self, count: usize) -> impl Iterator<Item = (&str, f32)> {
        let mut classes: Vec<&Scored> = self.classes.iter().collect();
        let decided = |class: &Scored| self.class.as_ref() == Some(&class.name);
        classes.order_by(|one, other| {
            decided(other).cmp(&decided(one)).then(other.probability.total_cmp(&one.probability))
        });
        classes.into_iter().take(count).map(|class| (class.name.as_str(), class.probability))
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let classes = self.classes.iter().map(|class| format!("{} {}", class.name, percent(class.probability.into())));
        let span = |span: &Span| {
            let Span { start, end, text, class, score } = span;
            format!("{class} \"{text}\" {start}–{end} {}", percent((*score).into()))
        };
        if self.spans.as_ref().is_some_and(Vec::is_empty) {
            return f.write_str("no span");
        }
        if self.boxes.as_ref().is_some_and(Vec::is_empty) {
            return f.write_str("no object");
        }
        if let (Some(text), Some(confidence)) = (&self.transcription, self.confidence) {
            return write!(f, "\"{text}\" {}", percent(confidence.into()));
        }
        if let (Some(score), Some(anomaly)) = (self.score, self.anomaly) {
            return write!(f, "{} {score:.3}", if anomaly { "anomaly" } else { "normal" });
        }
        let found = |found: &FoundBox| {
            let [left, top, right, bottom] = found.corners.map(|corner| corner.round());
            format!("{} {left},{top}–{right},{bottom} {}", found.class, percent(found.score.into()))
        };
        let classes = classes.chain(self.spans.iter().flatten().map(span));
        let classes =
            classes.chain(self.shares.iter().map(|Share { class, share }| format!("{class} {}", percent(*share))));
        let classes = classes.chain(self.boxes.iter().flatten().map(found));
        let all = classes.chain(self.values.iter().map(|value| number((*value).into())));
        f.write_str(&all.collect::<Vec<_>>().join(", "))
    }
}

/// The position of the largest value; the first of equals.
pub fn largest(values: &[f32]) -> usize {
    let better = |best: usize, (index, value): (usize, &f32)| if *value > values[best] { index } else { best };
    values.iter().enumerate().fold(0, better)
}

/// softmax(logits), in f32.
pub fn softmax(logits: &[f32]) -> Vec<f32> {
    let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f32> = logits.iter().map(|logit| (logit - top).exp()).collect();
    let sum: f32 = powers.iter().sum();
    powers.into_iter().map(|power| power / sum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_likeliest_come_first_also_of_label_sets() {
        let names = ["a", "b", "c"].map(String::from);
        let answer = Answer::of_classes(&names, vec![0.25, 0.5, 0.125]);
        assert_eq!(answer.top(2).collect::<Vec<_>>(), [("b", 0.5), ("a", 0.25)]);
        assert_eq!(answer.to_string(), "a 25.0 %, b 50.0 %, c 12.5 %");
        assert_eq!(answer.likeliest(1).to_string(), "b 50.0 %");
        assert_eq!(Answer::of_classes(&[], vec![1.0]).to_string(), "0 100.0 %");
    }
}
