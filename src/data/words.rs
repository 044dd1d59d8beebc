//! The words of a text, and spans of it that are marked.

use crate::order::Order;
use std::ops::Range;

/// What stands behind a word and is none of its own letters, and what stands before one.
const BEHIND: &str = ".,;:!?)]}\"'”’»…";
const BEFORE: &str = "([{\"'“‘«¿¡";

/// The words of a text, in bytes: what stands between blanks, with marks before and behind a word of their own. A Chinese
/// character is a word; a text is also divided at each of `cuts`, which ascend.
pub(super) fn split_words(text: &str, cuts: &[usize]) -> Vec<Range<usize>> {
    let (mut words, mut start, mut cuts) = (Vec::new(), None, cuts.iter().copied().peekable());
    for (place, letter) in text.char_indices() {
        let mut cut = false;
        while cuts.next_if(|cut| *cut <= place).is_some() {
            cut = true;
        }
        let alone = is_word_alone(letter);
        if let Some(begun) = start.filter(|_| cut || alone || letter.is_whitespace()) {
            push(text, begun..place, &mut words);
            start = None;
        }
        match (alone, letter.is_whitespace()) {
            (true, _) => words.push(place..place + letter.len_utf8()),
            (false, true) => {}
            (false, false) => start = start.or(Some(place)),
        }
    }
    if let Some(begun) = start {
        push(text, begun..text.len(), &mut words);
    }
    words
}

/// Han characters and kana, which stand side by side.
fn is_word_alone(letter: char) -> bool {
    matches!(u32::from(letter), 0x3040..=0x30ff | 0x3400..=0x4dbf | 0x4e00..=0x9fff | 0xf900..=0xfaff | 0x20000..=0x2fa1f)
}

/// A word with the marks around it, each of which is one of its own.
fn push(text: &str, word: Range<usize>, words: &mut Vec<Range<usize>>) {
    let whole = &text[word.clone()];
    let inner = whole.trim_start_matches(|letter| BEFORE.contains(letter));
    let before = whole.len() - inner.len();
    let core = inner.trim_end_matches(|letter| BEHIND.contains(letter));
    if core.is_empty() {
        words.push(word);
        return;
    }
    let marks = |from: usize, marks: &str, words: &mut Vec<Range<usize>>| {
        words.extend(marks.char_indices().map(|(at, mark)| from + at..from + at + mark.len_utf8()));
    };
    marks(word.start, &whole[..before], words);
    let end = word.start + before + core.len();
    words.push(word.start + before..end);
    marks(end, &inner[core.len()..], words);
}

/// Parts of a text that are marked, in characters.
pub(super) struct Spans(Vec<(usize, usize, String)>);

impl Spans {
    /// What a cell of JSON lists: `{"start": 0, "end": 4, "label": "PER"}` or `[0, 4, "PER"]`; `None` where it is no list of such.
    ///
    /// # Errors
    /// A span without a beginning, an end or a class.
    pub(super) fn read(column: &str, list: &str) -> Result<Option<Self>, String> {
        let Ok(values) = serde_json::from_str::<Vec<serde_json::Value>>(list) else { return Ok(None) };
        let is_span = |value: &serde_json::Value| value.is_object() || value.is_array();
        if !values.iter().all(is_span) {
            return Ok(None);
        }
        let span = |value: &serde_json::Value| {
            let class = ["label", "class", "type", "tag"].into_iter().find_map(|key| value.get(key)).or(value.get(2));
            let number = |key: &str, place: usize| value.get(key).or(value.get(place)).and_then(|value| value.as_u64());
            let (start, end) = (number("start", 0)?, number("end", 1)?);
            let class = class?.as_str().map(str::trim).filter(|class| !class.is_empty())?;
            Some((usize::try_from(start).ok()?, usize::try_from(end).ok()?, class.to_string()))
        };
        let read = |value| {
            span(value).ok_or_else(|| {
                format!("column `{column}`: {value} is no span; write {{\"start\": 0, \"end\": 4, \"label\": \"PER\"}}, in characters")
            })
        };
        let mut spans = values.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        spans.order_by(Ord::cmp);
        Ok(Some(Self(spans)))
    }

    /// The words of a text with a tag each: B- at the first word of a span, I- at the others, O elsewhere.
    ///
    /// # Errors
    /// Spans that lie outside of the text, hold nothing, or lie over each other.
    pub(super) fn tagged(&self, text: &str) -> Result<(Vec<Range<usize>>, Vec<String>), String> {
        let mut bytes: Vec<usize> = text.char_indices().map(|(byte, _)| byte).collect();
        bytes.push(text.len());
        let mut ranges: Vec<(Range<usize>, &str)> = Vec::with_capacity(self.0.len());
        for (start, end, class) in &self.0 {
            if start >= end || *end >= bytes.len() {
                let letters = bytes.len() - 1;
                return Err(format!("span {start}–{end} ({class}) is no part of a text of {letters} characters"));
            }
            if let Some((before, other)) = ranges.last().filter(|(before, _)| before.end > bytes[*start]) {
                let part = &text[before.clone()];
                return Err(format!("span {start}–{end} ({class}) lies over \"{part}\" ({other}); keep one of them"));
            }
            ranges.push((bytes[*start]..bytes[*end], class));
        }
        let cuts: Vec<usize> = ranges.iter().flat_map(|(range, _)| [range.start, range.end]).collect();
        let words = split_words(text, &cuts);
        let mut tags = vec!["O".to_string(); words.len()];
        let mut word = 0;
        for (range, class) in ranges {
            let mut letter = 'B';
            while words.get(word).is_some_and(|word| word.start < range.end) {
                if words[word].start >= range.start {
                    tags[word] = format!("{letter}-{class}");
                    letter = 'I';
                }
                word += 1;
            }
        }
        Ok((words, tags))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words<'t>(text: &'t str, cuts: &[usize]) -> Vec<&'t str> {
        split_words(text, cuts).into_iter().map(|range| &text[range]).collect()
    }

    #[test]
    fn words_stand_between_blanks_and_marks_are_words_of_their_own() {
        assert_eq!(words("(Anna, don't)  say: @bob…", &[]), ["(", "Anna", ",", "don't", ")", "say", ":", "@bob", "…"]);
        assert_eq!(words("北京 ist schön", &[]), ["北", "京", "ist", "schön"]);
        assert_eq!(words("Rheinufer", &[5]), ["Rhein", "ufer"]);
        assert_eq!(words(" ... \n", &[]), ["..."]);
        assert!(words("", &[]).is_empty());
    }

    #[test]
    fn spans_tag_the_words_that_they_hold() {
        let text = "Änna Böhm lebt in New York.";
        let spans =
            Spans::read("spans", r#"[[18, 26, "LOC"], {"start": 0, "end": 9, "label": "PER"}]"#).unwrap().unwrap();
        let (ranges, tags) = spans.tagged(text).unwrap();
        let told: Vec<(&str, &str)> =
            ranges.into_iter().map(|range| &text[range]).zip(tags.iter().map(String::as_str)).collect();
        assert_eq!(
            told,
            [
                ("Änna", "B-PER"),
                ("Böhm", "I-PER"),
                ("lebt", "O"),
                ("in", "O"),
                ("New", "B-LOC"),
                ("York", "I-LOC"),
                (".", "O")
            ]
        );
        let refused = |list: &str| Spans::read("spans", list).unwrap().unwrap().tagged("abc def").unwrap_err();
        assert!(refused(r#"[[4, 8, "X"]]"#).contains("span 4–8 (X) is no part of a text of 7 characters"));
        assert!(refused(r#"[[2, 2, "X"]]"#).contains("span 2–2"));
        assert!(refused(r#"[[0, 5, "X"], [3, 7, "Y"]]"#).contains("lies over \"abc d\" (X)"));
        assert!(
            Spans::read("spans", r#"[{"start": 1}]"#).is_err() && Spans::read("spans", r#"[[-1, 2, "X"]]"#).is_err()
        );
        assert!(Spans::read("label", r#"["O"]"#).unwrap().is_none() && Spans::read("label", "cat").unwrap().is_none());
    }
}
