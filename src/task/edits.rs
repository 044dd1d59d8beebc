//! How far answered texts are from written ones: character and word error rate.

/// How far answers are from what is written, in insertions, deletions and replacements.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Edits {
    /// Edits of characters, and the characters that are written.
    characters: [usize; 2],
    /// The same of words, which are what stands between blanks.
    words: [usize; 2],
}

impl Edits {
    /// Adds a text and what was answered for it. Blanks at their ends do not count, for nobody sees them.
    pub fn add(&mut self, given: &str, answered: &str) {
        let [one, other] = [given, answered].map(|text| text.trim().chars().collect::<Vec<char>>());
        self.characters[0] += edits(&one, &other);
        self.characters[1] += one.len();
        let [one, other] = [given, answered].map(|text| text.split_whitespace().collect::<Vec<&str>>());
        self.words[0] += edits(&one, &other);
        self.words[1] += one.len();
    }

    /// Edits over what is written, of characters and of words: all of a data set's together, as jiwer has it.
    pub fn rates(&self) -> [f64; 2] {
        [self.characters, self.words].map(|[edits, written]| edits as f64 / written.max(1) as f64)
    }
}

/// The fewest insertions, deletions and replacements that make one of the other (Levenshtein 1966).
fn edits<T: PartialEq>(one: &[T], other: &[T]) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (place, item) in one.iter().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], place + 1);
        for (column, against) in other.iter().enumerate() {
            let replaced = diagonal + usize::from(item != against);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_are_counted_of_characters_and_of_words() {
        let count = |one: &str, other: &str| {
            let [one, other] = [one, other].map(|text| text.chars().collect::<Vec<_>>());
            edits(&one, &other)
        };
        assert_eq!(
            (count("kitten", "sitting"), count("", "abc"), count("abc", ""), count("same", "same")),
            (3, 3, 3, 0)
        );
        let mut edits = Edits::default();
        edits.add(" the cat ", "the bat sat");
        assert_eq!(edits.rates(), [5.0 / 7.0, 1.0]);
    }
}
