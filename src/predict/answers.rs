//! What a model answers, as values and as a line for a person.

use crate::amounts::{number, percent};
use crate::delta::Task;
use crate::train::artifact::Adapter;
use crate::train::evaluate;
use serde::Serialize;
use std::fmt;

/// A class and how likely it is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Scored {
    /// The class.
    pub name: String,
    /// Between 0 and 1.
    pub probability: f32,
}

/// The answer to a sample.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Answer {
    /// The classes, the likeliest first; for label sets, every class in its order with its own probability.
    pub classes: Vec<Scored>,
    /// Predicted numbers, for regression.
    pub values: Vec<f32>,
}

impl Answer {
    /// What a tail's output means.
    pub(super) fn new(adapter: &Adapter, output: Vec<f32>, top: usize) -> Self {
        match adapter.task {
            Task::Regression => Self { classes: Vec::new(), values: output },
            _ => Self { classes: scored(adapter, &output, top), values: Vec::new() },
        }
    }

    /// The likeliest classes with their shares, `count` of them at most.
    pub fn top(&self, count: usize) -> impl Iterator<Item = (&str, f32)> {
        let mut classes: Vec<&Scored> = self.classes.iter().collect();
        classes.sort_by(|one, other| other.probability.total_cmp(&one.probability));
        classes.into_iter().take(count).map(|class| (class.name.as_str(), class.probability))
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&said(&self.classes, &self.values))
    }
}

/// One sample's answer, with the sample's name.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Prediction {
    /// The sample.
    pub input: String,
    /// The sample itself, where it is a text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The likeliest classes; for label sets, every class with its own probability.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<Scored>,
    /// Predicted numbers, for regression.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<f32>,
}

impl Prediction {
    /// The answer in a line.
    pub fn line(&self) -> String {
        let text = self.text.as_deref().map_or(String::new(), |text| format!("  \"{}\"", shortened(text)));
        format!("{}: {}{text}", self.input, said(&self.classes, &self.values))
    }
}

fn said(classes: &[Scored], values: &[f32]) -> String {
    let scored = classes.iter().map(|class| format!("{} {}", class.name, percent(class.probability.into())));
    scored.chain(values.iter().map(|value| number((*value).into()))).collect::<Vec<_>>().join(", ")
}

/// The beginning of a text, in one line.
fn shortened(text: &str) -> String {
    const SHOWN: usize = 60;
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match words.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &words[..end]),
        None => words,
    }
}

/// The likeliest classes that logits mean; for label sets, all of them.
pub fn scored(adapter: &Adapter, logits: &[f32], top: usize) -> Vec<Scored> {
    let multiple = adapter.task == Task::MultiLabel;
    let probabilities = if multiple {
        logits.iter().map(|logit| 1.0 / (1.0 + (-logit).exp())).collect()
    } else {
        evaluate::softmax(logits)
    };
    let name = |index: usize| adapter.labels.get(index).cloned().unwrap_or_else(|| index.to_string());
    let mut scored: Vec<Scored> = probabilities
        .into_iter()
        .enumerate()
        .map(|(index, probability)| Scored { name: name(index), probability })
        .collect();
    if !multiple {
        scored.sort_by(|one, other| other.probability.total_cmp(&one.probability));
        scored.truncate(top);
    }
    scored
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_shows_the_text_that_was_judged() {
        let classes = vec![Scored { name: "pos".into(), probability: 0.75 }];
        let text = Some("word ".repeat(30));
        let line = Prediction { input: "text:1".into(), text, classes, values: vec![] }.line();
        assert!(line.starts_with("text:1: pos 75.0 %  \"word word") && line.ends_with("…\""), "{line}");
    }

    #[test]
    fn the_likeliest_come_first_also_of_label_sets() {
        let scored = |name: &str, probability| Scored { name: name.into(), probability };
        let answer = Answer { classes: vec![scored("a", 0.25), scored("b", 0.5), scored("c", 0.125)], values: vec![] };
        assert_eq!(answer.top(2).collect::<Vec<_>>(), [("b", 0.5), ("a", 0.25)]);
        assert_eq!(answer.to_string(), "a 25.0 %, b 50.0 %, c 12.5 %");
    }
}
