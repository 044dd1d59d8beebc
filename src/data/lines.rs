//! Texts that stand in pictures, as numbers of characters, and what a text is made of.
//!
//! Pure: takes texts and the names of a model's outputs; knows no file. `transcribed` reads the files.

use crate::order::gathered;
use std::collections::BTreeSet;

/// What the output is called that stands for no character.
pub const BLANK: &str = "<blank>";
/// What others call it, in whatever case.
const BLANKS: [&str; 8] = ["<blank>", "blank", "[blank]", "<blk>", "<ctc_blank>", "<pad>", "[pad]", "ε"];

/// The texts of a data set, one behind the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lines {
    /// Numbers of characters, and where each text ends among them.
    characters: Vec<u32>,
    ends: Vec<usize>,
    blank: u32,
    /// Steps of the model's output.
    steps: usize,
}

impl Lines {
    /// Texts whose characters are classes of a model that gives so many `steps`, in which `blank` stands for none.
    pub fn new<'l>(blank: u32, steps: usize, lines: impl IntoIterator<Item = &'l [u32]>) -> Self {
        let mut all = Self { characters: Vec::new(), ends: Vec::new(), blank, steps };
        lines.into_iter().for_each(|line| all.push(line));
        all
    }

    /// Appends a text.
    pub fn push(&mut self, line: &[u32]) {
        self.characters.extend_from_slice(line);
        self.ends.push(self.characters.len());
    }

    /// The number of texts.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The characters of a text.
    pub fn line(&self, place: usize) -> &[u32] {
        let start = place.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.characters[start..self.ends[place]]
    }

    /// The class that stands for no character.
    pub fn blank(&self) -> u32 {
        self.blank
    }

    /// Steps of the model's output for each picture.
    pub fn steps(&self) -> usize {
        self.steps
    }

    /// The same texts with each character at the place that `places` gives it.
    pub(super) fn renumbered(mut self, places: &[usize]) -> Self {
        let moved = |character: &mut u32| *character = places[*character as usize] as u32;
        self.characters.iter_mut().for_each(moved);
        moved(&mut self.blank);
        self
    }

    /// These with others behind them, of the same classes and as many steps; `None` where these differ.
    pub(super) fn followed_by(&self, other: &Self) -> Option<Self> {
        let mut all = self.clone();
        (0..other.len()).for_each(|line| all.push(other.line(line)));
        (self.blank == other.blank && self.steps == other.steps).then_some(all)
    }
}

/// Steps that a text needs: one a character, and one for a blank between two of the same.
pub fn steps_needed(line: &[u32]) -> usize {
    line.len() + line.windows(2).filter(|pair| pair[0] == pair[1]).count()
}

/// The class that stands for no character: the one that is called so, else the first.
pub fn blank_of(names: &[String]) -> u32 {
    blank_among(names).unwrap_or(0) as u32
}

/// Where a name for the blank stands.
fn blank_among(names: &[String]) -> Option<usize> {
    let is_blank = |name: &String| BLANKS.contains(&name.trim().to_lowercase().as_str());
    names.iter().position(is_blank)
}

/// What a model's outputs are, from the characters that are known: one of them may be called as a blank, else that is the first output.
/// `outputs` of the model, where they are kept: what PaddleOCR leaves out, the blank and the space behind all others, is added where it makes
/// the characters as many as they are.
pub fn alphabet(characters: Vec<String>, outputs: Option<u64>) -> Vec<String> {
    let mut names = characters;
    match blank_among(&names) {
        // What a delta holds is called by one name.
        Some(place) => names[place] = BLANK.into(),
        None => names.insert(0, BLANK.into()),
    }
    let has_space = names.iter().any(|name| name == " ");
    if outputs == Some(names.len() as u64 + 1) && !has_space {
        names.push(" ".into());
    }
    names
}

/// Characters in a text of a line each, as they stand: a line may be one space. An empty line at the end is none.
pub fn characters_of(text: &str) -> Vec<String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    text.split_terminator('\n').map(|line| line.strip_suffix('\r').unwrap_or(line)).map(String::from).collect()
}

/// The characters of texts, sorted.
pub(super) fn characters_in<'t>(texts: impl Iterator<Item = &'t str>) -> Vec<String> {
    let found: BTreeSet<char> = gathered(texts.flat_map(|text| text.trim().chars()));
    found.into_iter().map(String::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| name.to_string()).collect()
    }

    #[test]
    fn texts_come_back_and_follow_each_other() {
        let lines = Lines::new(0, 9, [&[1, 2][..], &[], &[3]]);
        assert_eq!((lines.line(0), lines.line(1), lines.line(2), lines.len()), (&[1, 2][..], &[][..], &[3][..], 3));
        let both = lines.followed_by(&lines).unwrap();
        assert_eq!((both.len(), both.line(3), both.line(5)), (6, &[1, 2][..], &[3][..]));
        assert!(lines.followed_by(&Lines::new(1, 9, [])).is_none());
    }

    #[test]
    fn the_blank_is_the_one_that_is_called_so_or_the_first() {
        assert_eq!(alphabet(owned(&["a", "b"]), Some(3)), ["<blank>", "a", "b"]);
        assert_eq!(alphabet(owned(&["a", "b"]), Some(4)), ["<blank>", "a", "b", " "]);
        assert_eq!(alphabet(owned(&["a", " "]), Some(4)), ["<blank>", "a", " "], "a space is there");
        assert_eq!(alphabet(owned(&["a", "b", "[BLANK]"]), Some(3)), ["a", "b", "<blank>"]);
        assert_eq!((blank_of(&owned(&["a", "<blank>"])), blank_of(&owned(&["a", "b"]))), (1, 0));
    }

    #[test]
    fn two_of_the_same_need_a_step_between_them() {
        assert_eq!((steps_needed(&[]), steps_needed(&[1, 2]), steps_needed(&[1, 1, 2, 2, 2])), (0, 2, 8));
    }

    #[test]
    fn a_line_may_be_a_space() {
        assert_eq!(characters_of("\u{feff}a\r\n \nb\n"), ["a", " ", "b"]);
        assert_eq!(characters_in(["b a", "abc "].into_iter()), [" ", "a", "b", "c"]);
    }
}
