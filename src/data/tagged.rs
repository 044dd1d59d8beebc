//! Words with a class each → tokens of whole texts, with the class at the first token of each word.
//!
//! Takes CoNLL's columns, or rows of JSONL with `tokens` and `ner_tags`, with `text` and `spans`, or with `text` and a tag for each
//! of its words. The words of a row are joined by blanks and tokenised as one text, so that a text that is asked about later is
//! tokenised like those that were learned. Gives [`Labels::Tokens`]; never runs a model.

use super::labels::{IGNORED, Labels, class_names};
use super::names::Names;
use super::records::{self, Format, Row};
use super::table::Told;
use super::text::{self, Encoded, Texts, Tokens, Word};
use super::words::{Spans, split_words};
use super::{Error, Options, ReadingReport, columns, decoding, filesystem, foreign};
use crate::graph::Tensor;
use crate::order::gathered;
use ndarray::Array2;
use std::collections::{BTreeSet, HashMap};
use std::ops::Range;
use std::path::Path;

/// Classes at most: as many labels as a delta may hold.
pub(super) const CLASSES_MAX: usize = 4096;
/// Usual names of columns, in the order in which they are tried.
const WORDS: [&str; 2] = ["tokens", "words"];
const TAGS: [&str; 6] = ["ner_tags", "tags", "labels", "label", "pos_tags", "ner"];
const SPANS: [&str; 4] = ["spans", "entities", "label", "labels"];

/// A text with its words, and a tag for each where there are some.
struct Tagged {
    text: String,
    /// In bytes of the text.
    words: Vec<Range<usize>>,
    tags: Option<Vec<String>>,
    line: u64,
}

/// Reads and tokenises a file.
///
/// # Errors
/// No tokenizer; a row without words, with another number of tags than words, or with spans that lie outside of its text or over each
/// other; a class that is not known.
pub(super) fn open(
    path: &Path,
    format: Format,
    max_length: u32,
    options: &Options,
    labelled: bool,
) -> Result<(Tokens, Told), Error> {
    if let Some(group) = options.group.as_deref().filter(|told| options.splits && *told != columns::NO_GROUPS) {
        return Err(Error::setting("group", group, "words with tags have no groups; remove the setting"));
    }
    let texts = Texts::open(path, max_length, options)?;
    let mut report = ReadingReport::default();
    let read = rows(path, format, options, labelled, &mut report)?;
    let classes = if labelled { Some(Classes::find(path, &read, options)?) } else { None };
    let (mut samples, mut words, mut labels, mut lines, mut shown) = (vec![], vec![], vec![], vec![], vec![]);
    for tagged in read {
        let at = |problem: String| Error::line(path, tagged.line, problem);
        let (encoded, first) = encode(&texts, &tagged.text, &tagged.words).map_err(at)?;
        if let (Some(classes), Some(tags)) = (&classes, &tagged.tags) {
            let row = tags.iter().zip(&first).map(|(tag, first)| Ok((*first, classes.place(tag).map_err(at)?)));
            labels.push(row.collect::<Result<Vec<(Option<usize>, i64)>, Error>>()?);
        }
        samples.push(encoded);
        words.push(places(&tagged.text, &tagged.words, &first));
        lines.push(u32::try_from(tagged.line).unwrap_or(u32::MAX));
        shown.push(tagged.text);
    }
    let tokens = Tokens { texts: if labelled { Vec::new() } else { shown }, words, ..padded_right(&texts, samples) };
    let labels = match classes {
        None => Labels::Unlabelled(lines.len()),
        Some(classes) => {
            let mut rows = Array2::from_elem((labels.len(), tokens.width), IGNORED);
            for (row, sample) in labels.iter().enumerate() {
                let counting = sample.iter().filter_map(|(first, class)| Some(((*first)?, class)));
                counting.for_each(|(first, class)| rows[(row, first)] = *class);
            }
            Labels::Tokens { names: classes.names, rows }
        }
    };
    let names = Names::Lines { file: path.into(), lines };
    Ok((tokens, Told { labels, names, groups: None, report }))
}

/// Tokenises texts whose words are to be asked about.
///
/// # Errors
/// As of [`open`].
pub(super) fn of_texts(origin: &Path, given: &[String], max_length: u32, options: &Options) -> Result<Tokens, Error> {
    let texts = Texts::open(origin, max_length, options)?;
    let (mut samples, mut words) = (Vec::new(), Vec::new());
    for (row, text) in given.iter().enumerate() {
        let parts = split_words(text, &[]);
        let (encoded, first) =
            encode(&texts, text, &parts).map_err(|problem| Error::line(origin, row as u64 + 1, problem))?;
        samples.push(encoded);
        words.push(places(text, &parts, &first));
    }
    Ok(Tokens { texts: given.to_vec(), words, ..padded_right(&texts, samples) })
}

impl Texts {
    /// A text's tensors `[tokens]`, one a model input in the model's order, with the text and where its words are.
    ///
    /// # Errors
    /// Bytes that are no text, or of which no token remains.
    pub fn by_words<'t>(&self, bytes: &'t [u8]) -> Result<(Vec<Tensor>, &'t str, Vec<Word>), String> {
        let text = decoding::utf8(bytes)?;
        let words = split_words(text, &[]);
        let (encoded, first) = encode(self, text, &words)?;
        Ok((self.alone(encoded), text, places(text, &words, &first)))
    }
}

/// Labels stand where the tokens do, which is simplest from the left.
fn padded_right(texts: &Texts, samples: Vec<Encoded>) -> Tokens {
    let tokens = texts.tokens(samples);
    Tokens { pad: text::Pad { left: false, ..tokens.pad }, ..tokens }
}

/// A text's tokens, and for each word the place of its first one; none where the word was cut off or nothing remains of it.
fn encode(texts: &Texts, text: &str, words: &[Range<usize>]) -> Result<(Encoded, Vec<Option<usize>>), String> {
    let encoding = texts.tokenizer.encode(text, true).map_err(|problem| format!("cannot be tokenised ({problem})"))?;
    let encoded = text::encoded(&encoding)?;
    let mut first = vec![None; words.len()];
    let mut word = 0;
    let special = encoding.get_special_tokens_mask();
    for (place, (start, end)) in encoding.get_offsets().iter().copied().enumerate() {
        if special[place] == 1 || start == end {
            continue;
        }
        while words.get(word).is_some_and(|range| range.end <= start) {
            word += 1;
        }
        if words.get(word).is_some_and(|range| range.start < end) && first[word].is_none() {
            first[word] = Some(place);
        }
    }
    Ok((encoded, first))
}

/// Where words are, in characters; those without a token are left out.
fn places(text: &str, words: &[Range<usize>], first: &[Option<usize>]) -> Vec<Word> {
    let (mut bytes, mut characters) = (0, 0u32);
    let mut at = |byte: usize| {
        characters += text[bytes..byte].chars().count() as u32;
        bytes = byte;
        characters
    };
    let word = |(range, first): (&Range<usize>, &Option<usize>)| {
        let (start, end) = (at(range.start), at(range.end));
        Some(Word { start, end, token: (*first)? as u32 })
    };
    words.iter().zip(first).filter_map(word).collect()
}

/// The classes of tags.
struct Classes {
    names: Vec<String>,
    places: HashMap<String, i64>,
    /// Whether a number is a place among the names.
    by_place: bool,
}

impl Classes {
    /// Finds the classes: those that the caller has, else all that there are. Numbers are places: all up to the largest are classes.
    fn find(path: &Path, rows: &[Tagged], options: &Options) -> Result<Self, Error> {
        let tags = rows.iter().flat_map(|row| row.tags.iter().flatten());
        let found: BTreeSet<&str> = gathered(tags.map(String::as_str));
        let numbers: Option<Vec<usize>> = found.iter().map(|tag| tag.parse().ok()).collect();
        let largest = numbers.as_ref().and_then(|numbers| numbers.iter().max()).copied();
        let names = match (&options.classes, largest) {
            (Some(known), _) => known.clone(),
            (None, Some(largest)) if largest < CLASSES_MAX => (0..=largest).map(|class| class.to_string()).collect(),
            (None, Some(largest)) => {
                let problem = format!("class number {largest}; there may be {CLASSES_MAX} classes, numbered from 0");
                return Err(Error::content(path, problem));
            }
            (None, None) => class_names(found, None),
        };
        if names.len() > CLASSES_MAX {
            let problem = format!("{} different tags; there may be {CLASSES_MAX} at most", names.len());
            return Err(Error::content(path, problem));
        }
        let places = names.iter().cloned().zip(0..).collect();
        Ok(Self { names, places, by_place: largest.is_some() })
    }

    fn place(&self, tag: &str) -> Result<i64, String> {
        let number = || tag.parse::<usize>().ok().filter(|place| self.by_place && *place < self.names.len());
        let found = self.places.get(tag).copied().or_else(|| number().map(|place| place as i64));
        found.ok_or_else(|| super::labels::unknown_class(tag, &self.names))
    }
}

/// Every row with words.
fn rows(
    path: &Path,
    format: Format,
    options: &Options,
    labelled: bool,
    report: &mut ReadingReport,
) -> Result<Vec<Tagged>, Error> {
    let bytes_max = options.limits.table_bytes_max;
    if let Some(text) = columns_of_words(path, format, bytes_max)? {
        return conll(path, &text, labelled);
    }
    let mut rows = Vec::new();
    let notes = records::read(path, format, bytes_max, &mut |row| {
        let tagged = of_row(path, &row, format, options, labelled)?;
        match tagged.words.is_empty() {
            true => report.skipped.push((format!("{}:{}", path.display(), row.line).into(), "no words".into())),
            false => rows.push(tagged),
        }
        Ok(())
    })?;
    report.notes.extend(notes);
    if rows.is_empty() {
        return Err(Error::content(path, "no row has words; give texts with their tags"));
    }
    Ok(rows)
}

/// The text of a file in CoNLL's columns; `None` for other files.
fn columns_of_words(path: &Path, format: Format, bytes_max: u64) -> Result<Option<String>, Error> {
    if !matches!(format, Format::Words | Format::Lines) {
        return Ok(None);
    }
    let bytes = filesystem::read_at_most(path, bytes_max).map_err(|source| Error::io(path, source))?;
    let (text, _) = decoding::decode(&bytes).map_err(|problem| Error::content(path, problem))?;
    Ok((format == Format::Words || foreign::is_conll(&text)).then(|| text.into_owned()))
}

/// Sentences of CoNLL's columns: the word first, its tag last, an empty line between sentences.
fn conll(path: &Path, text: &str, labelled: bool) -> Result<Vec<Tagged>, Error> {
    let (mut rows, mut words, mut tags, mut begun) = (Vec::new(), Vec::<&str>::new(), Vec::new(), 0);
    let mut end = |words: &mut Vec<&str>, tags: &mut Vec<String>, line: u64| {
        if !words.is_empty() {
            let (text, ranges) = joined(words);
            rows.push(Tagged { text, words: ranges, tags: labelled.then(|| std::mem::take(tags)), line });
        }
        words.clear();
        tags.clear();
    };
    for (line, text) in (1u64..).zip(text.lines()) {
        let mut cells = text.split_whitespace();
        let Some(word) = cells.next().filter(|word| *word != "-DOCSTART-") else {
            end(&mut words, &mut tags, begun);
            continue;
        };
        let tag = match cells.next_back() {
            Some(tag) => tag,
            None if labelled => {
                return Err(Error::line(path, line, format!("word `{word}` has no tag; write word<TAB>tag")));
            }
            None => "",
        };
        if words.is_empty() {
            begun = line;
        }
        words.push(word);
        tags.push(tag.to_string());
    }
    end(&mut words, &mut tags, begun);
    if rows.is_empty() {
        return Err(Error::content(path, "no words; write word<TAB>tag, and an empty line between sentences"));
    }
    Ok(rows)
}

/// Words with blanks between them, and where each is.
fn joined<S: AsRef<str>>(words: &[S]) -> (String, Vec<Range<usize>>) {
    let mut text = String::new();
    let mut ranges = Vec::with_capacity(words.len());
    for word in words {
        if !text.is_empty() {
            text.push(' ');
        }
        let start = text.len();
        text.push_str(word.as_ref());
        ranges.push(start..text.len());
    }
    (text, ranges)
}

/// A cell of a row by the first of these names.
fn cell<'r>(row: &Row<'r>, names: &[&str]) -> Option<(&'r str, &'r str)> {
    let place = names.iter().find_map(|name| row.columns.iter().position(|column| column == name))?;
    Some((row.columns[place].as_str(), row.cells[place].as_str()))
}

fn of_row(path: &Path, row: &Row, format: Format, options: &Options, labelled: bool) -> Result<Tagged, Error> {
    let at = |problem: String| Error::line(path, row.line, problem);
    let named: Vec<&str> = options.label.iter().map(String::as_str).collect();
    let either = |usual: &[&'static str]| cell(row, if named.is_empty() { usual } else { &named });
    if let Some((column, list)) = cell(row, &WORDS) {
        let words: Vec<String> = serde_json::from_str(list)
            .map_err(|error| at(format!("column `{column}` is no list of words ({error}); write [\"…\", \"…\"]")))?;
        let tags = match labelled {
            false => None,
            true => {
                let (column, list) = either(&TAGS).ok_or_else(|| at(lacks("ner_tags", row)))?;
                Some(tags(column, list, words.len()).map_err(at)?)
            }
        };
        let (text, ranges) = joined(&words);
        return Ok(Tagged { text, words: ranges, tags, line: row.line });
    }
    let text = text_of(path, row, format, options)?;
    if !labelled {
        let words = split_words(&text, &[]);
        return Ok(Tagged { text, words, tags: None, line: row.line });
    }
    let (column, list) = either(&SPANS).ok_or_else(|| at(lacks("spans", row)))?;
    if let Some(spans) = Spans::read(column, list).map_err(at)? {
        let (words, tags) = spans.tagged(&text).map_err(at)?;
        return Ok(Tagged { text, words, tags: Some(tags), line: row.line });
    }
    let start = text.as_ptr() as usize;
    let words: Vec<Range<usize>> = text
        .split_whitespace()
        .map(|word| {
            let at = word.as_ptr() as usize - start;
            at..at + word.len()
        })
        .collect();
    let tags = tags(column, list, words.len()).map_err(at)?;
    Ok(Tagged { text, words, tags: Some(tags), line: row.line })
}

/// The text of a row without a list of words.
fn text_of(path: &Path, row: &Row, format: Format, options: &Options) -> Result<String, Error> {
    Ok(match format {
        // A line may hold a tab of its own.
        Format::Lines if row.cells[0].is_empty() => row.cells[1].clone(),
        Format::Lines => row.cells.join("\t"),
        _ => {
            let chosen = columns::choose(row, path, columns::Content::Text, options, false)?;
            row.cells[chosen.content.unwrap_or(0)].clone()
        }
    })
}

fn lacks(name: &str, row: &Row) -> String {
    format!(
        "no column `{name}` of the words' tags; name it with setting `samples.label`; the columns are {}",
        row.columns.join(", ")
    )
}

/// A tag for each word: names or numbers.
fn tags(column: &str, list: &str, words: usize) -> Result<Vec<String>, String> {
    let values: Vec<serde_json::Value> =
        serde_json::from_str(list).map_err(|error| format!("column `{column}` is no list of tags ({error})"))?;
    let tag = |value: &serde_json::Value| match value {
        serde_json::Value::String(tag) if !tag.trim().is_empty() => Ok(tag.trim().to_string()),
        serde_json::Value::Number(number) if number.is_u64() => Ok(number.to_string()),
        other => Err(format!("column `{column}`: {other} is no tag; write a name, or a class number from 0")),
    };
    let tags = values.iter().map(tag).collect::<Result<Vec<_>, _>>()?;
    match tags.len() == words {
        true => Ok(tags),
        false => Err(format!("column `{column}` has {} tags for {words} words; give each word one", tags.len())),
    }
}

/// Whether the first row of a file is words with tags.
pub(super) fn is_tagged(path: &Path, format: Format, label: &[String], bytes_max: u64) -> bool {
    if columns_of_words(path, format, bytes_max).is_ok_and(|text| text.is_some()) {
        return true;
    }
    let mut tagged = false;
    // The first row is enough: an error ends the reading.
    let _ = records::read(path, format, bytes_max, &mut |row| {
        let named: Vec<&str> = label.iter().map(String::as_str).collect();
        let either = |usual: &[&'static str]| cell(&row, if named.is_empty() { usual } else { &named });
        let spans = || {
            either(&SPANS).is_some_and(|(column, list)| Spans::read(column, list).is_ok_and(|found| found.is_some()))
        };
        let words = || either(&TAGS).is_some_and(|(_, list)| list.starts_with('[')) && cell(&row, &WORDS).is_some();
        let text = || {
            let text = row.columns.iter().position(|column| column == "text").map(|place| row.cells[place].as_str());
            let tags = either(&TAGS).map(|(_, list)| list);
            text.zip(tags).is_some_and(|(text, tags)| foreign::are_tags(&[], tags, text))
        };
        tagged = words() || spans() || text();
        Err(Error::content(path, ""))
    });
    tagged
}
