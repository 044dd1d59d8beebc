//! Answers with the names of their samples, as they are told.

use super::identities::Nearest;
use crate::data::When;
use crate::task::Answer;
use serde::Serialize;
use std::path::PathBuf;

/// One sample's answer, with the sample's name.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Prediction {
    /// The sample.
    pub input: String,
    /// From when to when it is, where it is a window of a series: seconds, rows or a date.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<When>,
    /// Until when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<When>,
    /// The sample itself, where it is a text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The picture that the classes of its pixels were written to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mask: Option<PathBuf>,
    /// The nearest of those who are known, where likeness is asked about.
    #[serde(flatten)]
    pub nearest: Option<Nearest>,
    /// What the model says of it.
    #[serde(flatten)]
    pub answer: Answer,
}

impl Prediction {
    /// The answer in a line.
    pub fn line(&self) -> String {
        let text = self.text.as_deref().map_or(String::new(), |text| format!("  \"{}\"", shortened(text)));
        match &self.nearest {
            None => format!("{}: {}{text}", self.input, self.answer),
            Some(Nearest { identity: Some(name), similarity, .. }) => {
                format!("{}: {name} {similarity:.3}{text}", self.input)
            }
            Some(Nearest { nearest, similarity, .. }) => {
                format!("{}: unknown (nearest {nearest} {similarity:.3}){text}", self.input)
            }
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::Scored;

    #[test]
    fn a_line_shows_the_text_that_was_judged() {
        let classes = vec![Scored { name: "pos".into(), probability: 0.75 }];
        let text = Some("word ".repeat(30));
        let answer = Answer { classes, ..Answer::default() };
        let line =
            Prediction { input: "text:1".into(), from: None, to: None, text, answer, mask: None, nearest: None }.line();
        assert!(line.starts_with("text:1: pos 75.0 %  \"word word") && line.ends_with("…\""), "{line}");
    }
}
