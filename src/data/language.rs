//! Text → sequences in which each token is to be foretold from those before it.
//!
//! Takes rows with a column `text`, or `prompt` and `completion` (the prompt is read but not learned), or a file of
//! running text; gives tokens with, for each position, the token that follows ([`Labels::NextTokens`]). Never runs a model.

use super::labels::{IGNORED, Labels};
use super::names::Names;
#[cfg(not(feature = "text"))]
use super::no_text::Tokenizer;
use super::records::{self, Format, Row};
use super::table::Told;
use super::text::{self, Encoded, Tokens};
use super::{Error, Options, ReadingReport, columns, decoding, filesystem};
use std::path::{Path, PathBuf};
#[cfg(feature = "text")]
use tokenizers::Tokenizer;

/// Tokens of a sequence where neither the recipe nor `tokenizer.json` says so.
const LENGTH: usize = 128;
/// Tokens that end a text, where no setting names one.
const ENDS: [&str; 7] = ["<|im_end|>", "<|eot_id|>", "<|end_of_text|>", "<|end|>", "</s>", "<|endoftext|>", "<eos>"];

/// A model's tokenizer with what begins and ends its sequences.
#[derive(Debug)]
pub struct Language {
    tokenizer: Tokenizer,
    file: PathBuf,
    /// Tokens that every sequence begins with.
    prefix: Vec<u32>,
    /// Tokens that a whole text ends with.
    suffix: Vec<u32>,
    /// The tokens at which a generated text ends.
    ends: Vec<u32>,
}

impl Language {
    /// Reads a `tokenizer.json`. What sequences begin and end with is decided by `bos` and `eos` (the tokens' texts), else
    /// by its post-processor; where it has none, by `bos_token_id` and `eos_token_id` of a `config.json` beside it. A text
    /// ends at a token that is known for it (`</s>`, `<|endoftext|>`, …) where nothing else is said.
    ///
    /// # Errors
    /// A file that is no tokenizer; a token that it does not have.
    pub fn open(file: &Path, bos: Option<&str>, eos: Option<&str>) -> Result<Self, Error> {
        let mut tokenizer = text::read_tokenizer(file)?;
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(|problem| Error::content(file, problem.to_string()))?;
        let named = |setting: &'static str, token: &str| {
            let problem = || format!("{} has no such token; write one of its added tokens", file.display());
            tokenizer.token_to_id(token).ok_or_else(|| Error::setting(setting, token, problem()))
        };
        let (mut prefix, mut suffix) = framed(&tokenizer);
        let config = config_beside(file);
        if let Some(token) = bos {
            prefix = vec![named("bos-token", token)?];
        } else if tokenizer.get_post_processor().is_none() {
            prefix = config.first_of("bos_token_id");
        }
        let known = || ENDS.iter().filter_map(|token| tokenizer.token_to_id(token)).collect::<Vec<_>>();
        let mut ends = match eos {
            Some(token) => vec![named("eos-token", token)?],
            None if !suffix.is_empty() => suffix.clone(),
            None => config.all_of("eos_token_id"),
        };
        if ends.is_empty() {
            ends = known();
        }
        if suffix.is_empty() || eos.is_some() {
            suffix = ends.iter().take(1).copied().collect();
        }
        Ok(Self { tokenizer, file: file.into(), prefix, suffix, ends })
    }

    /// The tokens of a text alone.
    fn tokens(&self, text: &str) -> Result<Vec<u32>, String> {
        let encoding = self.tokenizer.encode_fast(text, false);
        encoding.map(|found| found.get_ids().to_vec()).map_err(|problem| format!("cannot be tokenised ({problem})"))
    }

    /// The tokens of a text to be gone on from, with what begins a sequence.
    ///
    /// # Errors
    /// Text of which no token remains.
    pub fn prompt(&self, text: &str) -> Result<Vec<u32>, Error> {
        let tokens = self.tokens(text).map_err(|problem| Error::setting("prompt", text, problem))?;
        let prompt = [self.prefix.clone(), tokens].concat();
        if prompt.is_empty() {
            return Err(Error::setting("prompt", text, "no token remains of it; write some text"));
        }
        Ok(prompt)
    }

    /// The text of generated tokens, without special ones.
    ///
    /// # Errors
    /// A token that the tokenizer cannot write.
    pub fn text(&self, tokens: &[u32]) -> Result<String, Error> {
        self.tokenizer.decode(tokens, true).map_err(|problem| Error::content(&self.file, problem.to_string()))
    }

    /// Whether a generated text ends at this token.
    pub fn ends_at(&self, token: u32) -> bool {
        self.ends.contains(&token)
    }
}

/// What the tokenizer's own post-processor puts before and behind a text.
fn framed(tokenizer: &Tokenizer) -> (Vec<u32>, Vec<u32>) {
    let Ok(encoding) = tokenizer.encode_fast("a", true) else { return (vec![], vec![]) };
    let (ids, special) = (encoding.get_ids(), encoding.get_special_tokens_mask());
    let front = special.iter().take_while(|mask| **mask == 1).count();
    let back = special[front..].iter().rev().take_while(|mask| **mask == 1).count();
    (ids[..front].to_vec(), ids[ids.len() - back..].to_vec())
}

/// The model's `config.json`, where one lies beside its tokenizer.
struct Config(serde_json::Value);

fn config_beside(tokenizer: &Path) -> Config {
    let text = std::fs::read(tokenizer.with_file_name("config.json")).unwrap_or_default();
    Config(serde_json::from_slice(&text).unwrap_or_default())
}

impl Config {
    /// A field's token, or tokens where it lists several.
    fn all_of(&self, field: &str) -> Vec<u32> {
        let number = |value: &serde_json::Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
        match &self.0[field] {
            serde_json::Value::Array(several) => several.iter().filter_map(number).collect(),
            one => number(one).into_iter().collect(),
        }
    }

    fn first_of(&self, field: &str) -> Vec<u32> {
        self.all_of(field).into_iter().take(1).collect()
    }
}

/// Tokens in their order. Of each, whether it is to be foretold, and whether a sample begins with it.
#[derive(Debug, Clone, Default, PartialEq)]
struct Stream {
    ids: Vec<u32>,
    counts: Vec<bool>,
    begins: Vec<bool>,
}

impl Stream {
    fn push(&mut self, ids: &[u32], counts: bool) {
        self.ids.extend(ids);
        self.counts.resize(self.ids.len(), counts);
        self.begins.resize(self.ids.len(), false);
    }

    /// A whole sample behind the others. Nothing foretells its first token: what comes before is another text.
    fn add(&mut self, (prefix, suffix): (&[u32], &[u32]), prompt: &[u32], text: &[u32]) {
        let start = self.ids.len();
        self.push(prefix, false);
        self.push(prompt, false);
        self.push(text, true);
        self.push(suffix, true);
        self.counts[start] = false;
        self.begins[start] = true;
    }

    /// The sequence `prefix` + tokens from `at` to `end`, with the token that follows each position.
    fn sequence(&self, prefix: &[u32], at: usize, end: usize) -> Sequence {
        let ids: Vec<u32> = prefix.iter().chain(&self.ids[at..end]).copied().collect();
        let next = |place: usize| match self.counts.get(place) {
            Some(true) => i64::from(self.ids[place]),
            _ => IGNORED,
        };
        let mut labels = vec![IGNORED; prefix.len()];
        labels.extend((at..end).map(|place| next(place + 1)));
        if let Some(last) = prefix.len().checked_sub(1) {
            labels[last] = next(at);
        }
        let whole = ids.len();
        Sequence { ids, labels, whole }
    }

    /// Cuts the stream into sequences of `length` tokens (the last may be shorter), each begun with `prefix` where a
    /// sample's own does not begin it. Every token that counts is foretold in exactly one of them, but for the first of
    /// all where there is no prefix.
    fn blocks(&self, prefix: &[u32], length: usize) -> Vec<Sequence> {
        let mut blocks = Vec::new();
        let mut at = 0;
        while at < self.ids.len() {
            let prefix = if self.begins[at] { &[] } else { prefix };
            let end = (at + length - prefix.len()).min(self.ids.len());
            let mut block = self.sequence(prefix, at, end);
            // The block before has foretold it already, unless it could not.
            if at > 0 && !prefix.is_empty() {
                block.labels[prefix.len() - 1] = IGNORED;
            }
            blocks.push(block);
            at = end;
        }
        blocks.retain(|block| block.labels.iter().any(|label| *label != IGNORED));
        blocks
    }
}

/// One sample: tokens, and for each the one that follows or [`IGNORED`].
#[derive(Debug, Clone, PartialEq)]
struct Sequence {
    ids: Vec<u32>,
    labels: Vec<i64>,
    /// Tokens of the text that it is the beginning of; as many as `ids` where nothing is cut off.
    whole: usize,
}

/// Reads and tokenises a file: a `.txt` is running text in blocks of `max_length` tokens, a table has a sample a row.
///
/// # Errors
/// No tokenizer, a row without text, a prompt that leaves no room for its completion, a length too short to learn.
pub(super) fn open(path: &Path, format: Format, max_length: u32, options: &Options) -> Result<(Tokens, Told), Error> {
    if let Some(group) = options.group.as_deref().filter(|told| options.splits && *told != columns::NO_GROUPS) {
        return Err(Error::setting("group", group, "a language model's text has no groups; remove the setting"));
    }
    let inputs = text::inputs(path, options)?;
    let file = text::tokenizer_file(path, options)?;
    let stated = text::read_tokenizer(file)?.get_truncation().map(|truncation| truncation.max_length);
    let fixed = text::fixed_length(&inputs, options);
    let asked = text::within(fixed, max_length)? as usize;
    let length = if asked > 0 { asked } else { stated.unwrap_or(LENGTH) };
    let length = fixed.map_or(length, |fixed| length.min(fixed));
    let language = Language::open(file, options.bos_token.as_deref(), options.eos_token.as_deref())?;
    let least = language.prefix.len() + 2;
    if length < least {
        return Err(Error::setting(
            "max-length",
            length,
            format!("write {least} or more: a token and what follows it"),
        ));
    }
    let (samples, names) = match format {
        Format::Lines => running(path, &language, length, options)?,
        _ => rows(path, format, &language, length, options)?,
    };
    let longest = samples.iter().map(|sample| sample.ids.len()).max().unwrap_or(0);
    let (width, is_fixed) = (fixed.unwrap_or(longest), fixed.is_some());
    let mut labels = ndarray::Array2::from_elem((samples.len(), width), IGNORED);
    for (mut row, sample) in labels.rows_mut().into_iter().zip(&samples) {
        row.iter_mut().zip(&sample.labels).for_each(|(to, label)| *to = *label);
    }
    let encoded = |sample: Sequence| Encoded {
        types: vec![0; sample.ids.len()].into(),
        ids: sample.ids.into(),
        whole: sample.whole as u32,
    };
    let samples = samples.into_iter().map(encoded).collect();
    let pad = text::Pad { left: false, ..text::pad(&language.tokenizer) };
    let told = Told { labels: Labels::NextTokens(labels), names, groups: None, report: ReadingReport::default() };
    let (texts, words) = (Vec::new(), Vec::new());
    Ok((Tokens { samples, width, is_fixed, pad, inputs, texts, words }, told))
}

fn running(
    path: &Path,
    language: &Language,
    length: usize,
    options: &Options,
) -> Result<(Vec<Sequence>, Names), Error> {
    let bytes =
        filesystem::read_at_most(path, options.limits.table_bytes_max).map_err(|source| Error::io(path, source))?;
    let (text, _) = decoding::decode(&bytes).map_err(|problem| Error::content(path, problem))?;
    let mut stream = Stream::default();
    stream.push(&language.tokens(&text).map_err(|problem| Error::content(path, problem))?, true);
    let blocks = stream.blocks(&language.prefix, length);
    if text.trim().is_empty() || blocks.is_empty() {
        return Err(Error::content(path, "no text to learn from; give a file with more than a word"));
    }
    Ok((blocks, Names::Numbered(path.into())))
}

fn rows(
    path: &Path,
    format: Format,
    language: &Language,
    length: usize,
    options: &Options,
) -> Result<(Vec<Sequence>, Names), Error> {
    let frame = (language.prefix.as_slice(), language.suffix.as_slice());
    let mut packed = Stream::default();
    let (mut samples, mut lines) = (Vec::new(), Vec::new());
    records::read(path, format, options.limits.table_bytes_max, &mut |row| {
        let at = |problem: String| Error::line(path, row.line, problem);
        let (prompt, text) = texts(&row).map_err(at)?;
        let prompt = language.tokens(prompt).map_err(at)?;
        let text = language.tokens(text).map_err(at)?;
        if options.packing {
            packed.add(frame, &prompt, &text);
            return Ok(());
        }
        let mut alone = Stream::default();
        alone.add(frame, &prompt, &text);
        let whole = alone.ids.len();
        let sample = Sequence { whole, ..alone.sequence(&[], 0, whole.min(length)) };
        if sample.labels.iter().all(|label| *label == IGNORED) {
            let taken = language.prefix.len() + prompt.len();
            return Err(at(match prompt.is_empty() {
                true => "a single token, which nothing follows; remove the row".into(),
                false => format!(
                    "a prompt of {taken} tokens fills the {length} that there are; raise setting `samples.max-length`, or shorten it"
                ),
            }));
        }
        samples.push(sample);
        lines.push(u32::try_from(row.line).unwrap_or(u32::MAX));
        Ok(())
    })?;
    if options.packing {
        samples = packed.blocks(&language.prefix, length);
    }
    if samples.is_empty() {
        return Err(Error::content(path, "no row with two tokens or more to learn from"));
    }
    let file = path.into();
    Ok((samples, if options.packing { Names::Numbered(file) } else { Names::Lines { file, lines } }))
}

/// What is read and what is learned of a row.
fn texts<'r>(row: &Row<'r>) -> Result<(&'r str, &'r str), String> {
    let cell = |name: &str| row.columns.iter().position(|column| column == name).map(|place| row.cells[place].as_str());
    let full = |name: &str, text: &'r str| match text.trim() {
        "" => Err(format!("no {name}; fill it in or remove the row")),
        _ => Ok(text),
    };
    match (cell("prompt"), cell("completion"), cell("text")) {
        (Some(prompt), Some(completion), _) => Ok((prompt, full("completion", completion)?)),
        (_, _, Some(text)) => Ok(("", full("text", text)?)),
        (Some(_), None, None) => Err("a `prompt` without `completion`; add it, or name the column `text`".into()),
        _ => {
            Err(format!("no column `text`, nor `prompt` and `completion`; the columns are {}", row.columns.join(", ")))
        }
    }
}

/// Whether a file holds text and nothing besides: running text, a table of the one column `text`, prompts with their
/// completions. Lines such as `label<TAB>text` and tables with other columns hold labels.
pub(super) fn is_unlabelled(path: &Path, format: Format, bytes_max: u64) -> bool {
    let mut unlabelled = true;
    let read = records::read(path, format, bytes_max, &mut |row| {
        let has = |name: &str| row.columns.iter().any(|column| column == name);
        unlabelled &= match format {
            Format::Lines => row.cells[0].is_empty(),
            _ => (has("prompt") && has("completion")) || row.columns == ["text"],
        };
        Ok(())
    });
    read.is_ok() && unlabelled
}

/// The prompts of a file, each with its place: the column `prompt` or `text` of a table, or the lines of a text.
///
/// # Errors
/// A file that is no table or text, a table without such a column.
pub fn prompts(path: &Path, options: &Options) -> Result<Vec<(String, String)>, Error> {
    let format = records::format(path).ok_or_else(|| {
        Error::content(path, "unknown kind of data; give prompts as .txt, .jsonl, .csv or .tsv, or by setting `prompt`")
    })?;
    let mut prompts = Vec::new();
    records::read(path, format, options.limits.table_bytes_max, &mut |row| {
        let column = ["prompt", "text"].iter().find_map(|name| row.columns.iter().position(|column| column == name));
        let text = match (format, column) {
            // A line of plain text may hold a tab of its own.
            (Format::Lines, _) if row.cells[0].is_empty() => row.cells[1].clone(),
            (Format::Lines, _) => row.cells.join("\t"),
            (_, Some(column)) => row.cells[column].clone(),
            _ => {
                return Err(Error::line(
                    path,
                    row.line,
                    format!("no column `prompt`; there are {}", row.columns.join(", ")),
                ));
            }
        };
        prompts.push((format!("{}:{}", path.display(), row.line), text));
        Ok(())
    })?;
    Ok(prompts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A stream of samples: for each, its prompt's length and its text's, numbered through.
    fn stream(samples: &[(usize, usize)], prefix: &[u32], suffix: &[u32]) -> Stream {
        let mut stream = Stream::default();
        let mut next = 100;
        let mut take = |count: usize| {
            next += count as u32;
            (next - count as u32..next).collect::<Vec<u32>>()
        };
        for (prompt, text) in samples {
            stream.add((prefix, suffix), &take(*prompt), &take(*text));
        }
        stream
    }

    /// What the sequences foretell, in order.
    fn foretold(blocks: &[Sequence]) -> Vec<i64> {
        blocks.iter().flat_map(|block| &block.labels).copied().filter(|label| *label != IGNORED).collect()
    }

    proptest! {
        #[test]
        fn every_token_that_counts_is_foretold_once(
            samples in prop::collection::vec((0usize..6, 1usize..20), 1..12), begun: bool, length in 3usize..24,
        ) {
            let prefix: &[u32] = if begun { &[1] } else { &[] };
            let stream = stream(&samples, prefix, &[2]);
            let blocks = stream.blocks(prefix, length);
            let counted = stream.ids.iter().zip(&stream.counts).filter(|(_, counts)| **counts);
            prop_assert_eq!(foretold(&blocks), counted.map(|(id, _)| i64::from(*id)).collect::<Vec<_>>());
            for block in &blocks {
                prop_assert!(block.ids.len() <= length && block.ids.len() == block.labels.len());
                prop_assert!(!begun || block.ids[0] == 1, "a sequence without its beginning");
                for (label, following) in block.labels.iter().zip(&block.ids[1..]) {
                    prop_assert!(*label == IGNORED || *label == i64::from(*following));
                }
            }
        }

        #[test]
        fn a_prompt_is_read_but_not_learned(prompt in 0usize..6, text in 1usize..20, length in 3usize..40) {
            let stream = stream(&[(prompt, text)], &[1], &[2]);
            let sample = stream.sequence(&[], 0, stream.ids.len().min(length));
            let learned: Vec<i64> = foretold(std::slice::from_ref(&sample));
            let first = 1 + prompt;
            let expected: Vec<i64> = stream.ids.iter().skip(first).take((length + 1).saturating_sub(first)).map(|id| i64::from(*id)).collect();
            prop_assert_eq!(learned, expected);
        }

        #[test]
        fn running_text_is_cut_into_full_blocks(count in 2usize..200, length in 3usize..24) {
            let mut stream = Stream::default();
            stream.push(&(100..100 + count as u32).collect::<Vec<_>>(), true);
            let blocks = stream.blocks(&[1], length);
            prop_assert_eq!(foretold(&blocks), (100..100 + count as i64).collect::<Vec<_>>());
            prop_assert!(blocks[..blocks.len() - 1].iter().all(|block| block.ids.len() == length));
        }
    }
}
