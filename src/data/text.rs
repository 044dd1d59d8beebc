//! Text → token numbers by the model's own `tokenizer.json`.
//!
//! Takes rows with a column `text`, gives tokens that are kept ragged and padded when a sample is loaded: all samples of
//! a data set have the shape of its longest.

use super::columns::Content;
use super::names::Paths;
#[cfg(not(feature = "text"))]
use super::no_text::{Encoding, PaddingDirection, Tokenizer, TruncationParams};
use super::records::{self, Format};
use super::table::{Rows, Told};
use super::{Error, Options, decoding, filesystem, foreign};
use crate::graph::{DType, Tensor};
use std::path::Path;
#[cfg(feature = "text")]
use tokenizers::{Encoding, PaddingDirection, Tokenizer, TruncationParams};

/// Most tokens where neither the recipe nor `tokenizer.json` says so.
const LENGTH_MAX: usize = 512;
/// Tokens that models pad with, where `tokenizer.json` does not say.
const PADS: [&str; 4] = ["[PAD]", "<pad>", "<|pad|>", "<|endoftext|>"];
/// What is made of text when the model's inputs are not known.
const INPUTS: [(&str, Role); 3] =
    [("input_ids", Role::Ids), ("attention_mask", Role::Mask), ("token_type_ids", Role::Types)];

/// What a model's input is told about the tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Their numbers.
    Ids,
    /// 1 for each, 0 for padding.
    Mask,
    /// Which of two texts they belong to.
    Types,
    /// Their places, from 0; 0 for padding.
    Positions,
    /// Keys and values of tokens that were read before: none, so it is not made here.
    Past,
}

/// What an input of that name and type holds, if it can be made from text: `input_ids`, `attention_mask`,
/// `token_type_ids`, `position_ids`, `past_key_values…`, or names of exporters that say the same (`ids`, `tokens`, `mask`,
/// `segment_ids`).
pub(super) fn role(name: &str, dtype: DType) -> Option<Role> {
    let name = name.to_ascii_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| name.contains(word));
    match dtype {
        // What a decoder reads is not what its encoder reads.
        DType::Int64 | DType::Int32 if has(&["decoder"]) => None,
        DType::Int64 | DType::Int32 if has(&["mask"]) => Some(Role::Mask),
        DType::Int64 | DType::Int32 if has(&["position"]) => Some(Role::Positions),
        DType::Int64 | DType::Int32 if has(&["type", "segment"]) => Some(Role::Types),
        DType::Int64 | DType::Int32 if has(&["ids", "token"]) => Some(Role::Ids),
        dtype if dtype.is_float() && has(&["past"]) => Some(Role::Past),
        _ => None,
    }
}

/// Of a model that takes tokens, the input that cannot be made from text, with what to do; `None` for other models.
pub(super) fn unknown_input(inputs: &[(String, DType)]) -> Option<String> {
    let roles = || inputs.iter().map(|(name, dtype)| role(name, *dtype));
    if !roles().any(|role| role == Some(Role::Ids)) {
        return None;
    }
    let ((name, dtype), _) = inputs.iter().zip(roles()).find(|(_, role)| role.is_none())?;
    let what = match name.to_ascii_lowercase().contains("decoder") {
        true => "is a decoder's, which cannot be trained from text yet",
        false => "is none that can be made from text, as token numbers, masks, types and positions can",
    };
    Some(format!(
        "the model's input `{name}` ({dtype}) {what}; give an .npz file with an array for each input, or export the model without it"
    ))
}

/// The tokens of a data set.
#[derive(Debug)]
pub(super) struct Tokens {
    pub samples: Vec<Encoded>,
    /// Tokens of the longest sample, or those that the model's file fixes: what all are padded to.
    pub width: usize,
    /// Whether the model takes so many tokens and no other number.
    pub is_fixed: bool,
    pub pad: Pad,
    pub inputs: Vec<(String, DType, Role)>,
    /// The texts themselves, where answers are to show them; else empty.
    pub texts: Vec<String>,
    /// For each sample where its words are, where a class is asked for each; else empty.
    pub words: Vec<Vec<Word>>,
}

/// A word of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Word {
    /// Its first character, counted from 0.
    pub start: u32,
    /// The character behind its last.
    pub end: u32,
    /// The place of its first token in the sequence.
    pub token: u32,
}

/// One sample.
#[derive(Debug)]
pub(super) struct Encoded {
    pub ids: Box<[u32]>,
    pub types: Box<[u32]>,
    /// Tokens of the whole text; more than there are `ids` where it was cut off.
    pub whole: u32,
}

/// What stands where a sample has no token.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pad {
    pub id: u32,
    pub type_id: u32,
    pub left: bool,
}

/// Reads and tokenises a file.
///
/// # Errors
/// No tokenizer, one that cannot be read, a model input that cannot be made from text, no column of texts or labels.
pub(super) fn open(
    path: &Path,
    format: Format,
    max_length: u32,
    options: &Options,
    labelled: bool,
) -> Result<(Tokens, Told), Error> {
    let texts = Texts::open(path, max_length, options)?;
    let mut rows = Rows::new(path, Content::Text, options, labelled);
    let mut samples = Vec::new();
    let mut shown = Vec::new();
    let notes = records::read(path, format, options.limits.table_bytes_max, &mut |row| {
        let Some(columns) = rows.columns(&row)? else { return Ok(()) };
        // A line of plain text without a label may hold a tab of its own.
        let joined = match (format, labelled) {
            (Format::Lines, false) => format!("{} {}", row.cells[0], row.cells[1]),
            _ => row.cells[columns.content.unwrap_or(0)].clone(),
        };
        let listed = two_in_a_list(&joined).filter(|_| columns.second.is_none());
        let second = columns.second.map(|place| row.cells[place].clone());
        let (joined, second) = listed.map_or((joined, second), |[one, other]| (one, Some(other)));
        let label = columns.label.first().map_or("", |place| row.cells[*place].as_str());
        if labelled && foreign::are_tags(row.columns, label, &joined) {
            return Err(Error::line(path, row.line, foreign::TAGGED));
        }
        if joined.trim().is_empty() || second.as_deref().is_some_and(|second| second.trim().is_empty()) {
            rows.skip(&row, "no text; fill it in or remove the row".into());
            return Ok(());
        }
        let encoded = encode_both(&texts.tokenizer, joined.trim(), second.as_deref().map(str::trim));
        samples.push(encoded.map_err(|problem| Error::line(path, row.line, problem))?);
        if !labelled {
            let both =
                second.iter().fold(joined.trim().to_string(), |first, second| format!("{first} | {}", second.trim()));
            shown.push(both);
        }
        rows.push(&row, &columns);
        Ok(())
    })?;
    rows.report.notes.extend(notes);
    if format == Format::Lines {
        // Lines have no columns that could be named otherwise.
        rows.report.notes.retain(|note| !note.starts_with("columns"));
    }
    Ok((Tokens { texts: shown, ..texts.tokens(samples) }, rows.finish()?))
}

/// Two texts that a cell of JSON lists.
fn two_in_a_list(cell: &str) -> Option<[String; 2]> {
    cell.starts_with('[').then(|| serde_json::from_str(cell).ok()).flatten()
}

/// Tokenises texts.
///
/// # Errors
/// As of [`open`].
pub(super) fn of_texts(origin: &Path, given: &[String], max_length: u32, options: &Options) -> Result<Tokens, Error> {
    let texts = Texts::open(origin, max_length, options)?;
    let encoded = |(row, text): (usize, &String)| {
        encode(&texts.tokenizer, text.trim()).map_err(|problem| Error::line(origin, row as u64 + 1, problem))
    };
    let samples = given.iter().enumerate().map(encoded).collect::<Result<_, _>>()?;
    Ok(Tokens { texts: given.to_vec(), ..texts.tokens(samples) })
}

/// Reads and tokenises files, each one text.
///
/// # Errors
/// As of [`open`]; a file that cannot be read.
pub(super) fn of_files(root: &Path, files: &Paths, max_length: u32, options: &Options) -> Result<Tokens, Error> {
    let texts = Texts::open(root, max_length, options)?;
    let read = |place: usize| {
        let path = files.path(place);
        let bytes = filesystem::read_limited(&path, &options.limits).map_err(|source| Error::io(&path, source))?;
        let text = decoding::utf8(&bytes).map_err(|problem| Error::content(&path, problem))?;
        encode(&texts.tokenizer, text).map_err(|problem| Error::content(&path, problem))
    };
    Ok(texts.tokens((0..files.len()).map(read).collect::<Result<_, _>>()?))
}

/// Makes a model's inputs from one text after another.
#[derive(Debug)]
pub struct Texts {
    pub(super) tokenizer: Tokenizer,
    pub(super) pad: Pad,
    inputs: Vec<(String, DType, Role)>,
    /// [`fixed_length`].
    fixed: Option<usize>,
}

impl Texts {
    /// Reads the tokenizer of the options, for the model's inputs in them. `data` is what errors name; at most `max_length` tokens
    /// are made of a text, 0 leaves it to the tokenizer.
    ///
    /// # Errors
    /// No tokenizer, one that cannot be read, a model input that cannot be made from text.
    pub fn open(data: &Path, max_length: u32, options: &Options) -> Result<Self, Error> {
        let inputs = inputs(data, options)?;
        let fixed = fixed_length(&inputs, options);
        let (tokenizer, pad) = tokenizer(data, within(fixed, max_length)?, fixed, options)?;
        Ok(Self { tokenizer, pad, inputs, fixed })
    }

    /// A text's tensors `[tokens]`, one a model input in the model's order.
    ///
    /// # Errors
    /// Bytes that are no text, or of which no token remains.
    pub fn tensors(&self, bytes: &[u8]) -> Result<Vec<Tensor>, String> {
        Ok(self.alone(encode(&self.tokenizer, decoding::utf8(bytes)?)?))
    }

    /// The inputs of one sample, in the model's order.
    pub(super) fn alone(&self, sample: Encoded) -> Vec<Tensor> {
        self.tokens(vec![sample]).load(0).into_iter().map(|(_, tensor)| tensor).collect()
    }

    pub(super) fn tokens(&self, samples: Vec<Encoded>) -> Tokens {
        let longest = samples.iter().map(|sample| sample.ids.len()).max().unwrap_or(0);
        let (width, is_fixed) = (self.fixed.unwrap_or(longest), self.fixed.is_some());
        let (inputs, texts, words) = (self.inputs.clone(), Vec::new(), Vec::new());
        Tokens { samples, width, is_fixed, pad: self.pad, inputs, texts, words }
    }
}

/// The tokens that a model takes of each text where its file leaves no other number: it was exported with the length of an example.
pub(super) fn fixed_length(inputs: &[(String, DType, Role)], options: &Options) -> Option<usize> {
    let place = inputs.iter().position(|(_, _, role)| *role == Role::Ids)?;
    match options.shapes.get(place)?.as_deref()? {
        [Some(length)] => usize::try_from(*length).ok(),
        _ => None,
    }
}

/// The most tokens that are made of a text: as asked for, within what the model's file fixes. 0 leaves it to the tokenizer.
///
/// # Errors
/// More tokens than the model takes.
pub(super) fn within(fixed: Option<usize>, max_length: u32) -> Result<u32, Error> {
    match fixed {
        Some(fixed) if max_length as usize > fixed => Err(Error::setting(
            "max-length",
            max_length,
            format!(
                "the model's file fixes {fixed} tokens a text; remove it, or export the model with an open sequence length"
            ),
        )),
        _ => Ok(max_length),
    }
}

/// The model's inputs with their roles.
pub(super) fn inputs(path: &Path, options: &Options) -> Result<Vec<(String, DType, Role)>, Error> {
    if options.inputs.is_empty() {
        return Ok(INPUTS.iter().map(|(name, role)| (name.to_string(), DType::Int64, *role)).collect());
    }
    let made = options.inputs.iter().map(|(name, dtype)| {
        let role = role(name, *dtype).ok_or_else(|| {
            let known = INPUTS.map(|(name, _)| name).join(", ");
            let problem = format!("the model's input `{name}` ({dtype}) cannot be made from text; only {known}, position_ids and past_key_values can");
            Error::content(path, problem)
        })?;
        Ok((name.clone(), *dtype, role))
    });
    made.collect()
}

/// The `tokenizer.json` that was given.
pub(super) fn tokenizer_file<'o>(path: &Path, options: &'o Options) -> Result<&'o Path, Error> {
    options.tokenizer.as_deref().ok_or_else(|| {
        Error::content(
            path,
            "text needs the model's tokenizer; give the tokenizer.json that came with the model (setting `samples.tokenizer = FILE`)",
        )
    })
}

/// A tokenizer as its file has it.
pub(super) fn read_tokenizer(file: &Path) -> Result<Tokenizer, Error> {
    let bytes = std::fs::read(file).map_err(|source| Error::io(file, source))?;
    Tokenizer::from_bytes(bytes).map_err(|problem| {
        Error::content(
            file,
            format!("no tokenizer of the Hugging Face kind ({problem}); take the model's tokenizer.json"),
        )
    })
}

/// What the tokenizer pads with.
pub(super) fn pad(tokenizer: &Tokenizer) -> Pad {
    match tokenizer.get_padding() {
        Some(stated) => {
            let left = matches!(stated.direction, PaddingDirection::Left);
            Pad { id: stated.pad_id, type_id: stated.pad_type_id, left }
        }
        None => {
            let id = PADS.iter().find_map(|token| tokenizer.token_to_id(token)).unwrap_or(0);
            Pad { id, type_id: 0, left: false }
        }
    }
}

fn tokenizer(path: &Path, max_length: u32, fixed: Option<usize>, options: &Options) -> Result<(Tokenizer, Pad), Error> {
    let mut tokenizer = read_tokenizer(tokenizer_file(path, options)?)?;
    let stated = tokenizer.get_truncation().cloned();
    let length = match (max_length, &stated) {
        (0, None) => LENGTH_MAX,
        (0, Some(stated)) => stated.max_length,
        (asked, _) => asked as usize,
    };
    let length = fixed.map_or(length, |fixed| length.min(fixed));
    let mut truncation: TruncationParams = stated.unwrap_or_default();
    (truncation.max_length, truncation.stride) = (length, 0);
    let pad = pad(&tokenizer);
    tokenizer.with_padding(None);
    tokenizer
        .with_truncation(Some(truncation))
        .map_err(|problem| Error::setting("max-length", length, format!("{problem}; allow more tokens")))?;
    Ok((tokenizer, pad))
}

pub(super) fn encode(tokenizer: &Tokenizer, text: &str) -> Result<Encoded, String> {
    encode_both(tokenizer, text, None)
}

/// Two texts become one sequence, as the tokenizer's own template joins them.
fn encode_both(tokenizer: &Tokenizer, text: &str, second: Option<&str>) -> Result<Encoded, String> {
    if text.is_empty() || second.is_some_and(str::is_empty) {
        return Err("no text; remove the row".into());
    }
    let encoding = match second {
        Some(second) => tokenizer.encode_fast((text, second), true),
        None => tokenizer.encode_fast(text, true),
    };
    let encoding = encoding.map_err(|problem| format!("cannot be tokenised ({problem})"))?;
    encoded(&encoding)
}

/// A sample of what a tokenizer has made.
///
/// # Errors
/// Text of which no token remains.
pub(super) fn encoded(encoding: &Encoding) -> Result<Encoded, String> {
    if encoding.is_empty() {
        return Err("text of which no token remains; remove the row".into());
    }
    // What is cut off comes in parts, each with its own special tokens.
    let special = encoding.get_special_tokens_mask().iter().sum::<u32>();
    let rest = encoding.get_overflowing().iter().map(|part| (part.len() as u32).saturating_sub(special)).sum::<u32>();
    let whole = encoding.len() as u32 + rest;
    Ok(Encoded { ids: encoding.get_ids().into(), types: encoding.get_type_ids().into(), whole })
}

impl Tokens {
    /// A line on texts that are longer than the model is given; `None` where all are whole.
    pub(super) fn cut_off(&self) -> Option<String> {
        let cut = self.samples.iter().filter(|sample| sample.whole as usize > sample.ids.len());
        let longest = cut.clone().map(|sample| sample.whole as usize).max()?;
        let at = cut.clone().map(|sample| sample.ids.len()).max()?;
        // Most encoders know no more places than that.
        let more = longest.next_power_of_two().min(LENGTH_MAX);
        let remedy = match more > at {
            _ if self.is_fixed && at == self.width => {
                format!(
                    ", which the model's file fixes (the longest has {longest}); export it with an open sequence length to keep them whole"
                )
            }
            true if more >= longest => format!("; setting `samples.max-length = {more}` keeps them whole"),
            true => format!("; setting `samples.max-length = {more}` keeps more of them (the longest has {longest})"),
            false => format!(" (the longest has {longest})"),
        };
        let (count, all) = (cut.count(), self.samples.len());
        Some(format!(
            "texts     {count} of {all} {} cut off at {at} tokens{remedy}",
            if count == 1 { "is" } else { "are" }
        ))
    }

    /// The hash of each sample's tokens and of the length they are padded to, which the model sees as well.
    pub(super) fn keys(&self) -> Vec<[u8; 32]> {
        let key = |sample: &Encoded| {
            let mut hasher = blake3::Hasher::new();
            hasher.update(&(self.width as u64).to_le_bytes());
            hasher.update(&self.pad.id.to_le_bytes());
            sample.ids.iter().chain(&sample.types).for_each(|id| {
                hasher.update(&id.to_le_bytes());
            });
            *hasher.finalize().as_bytes()
        };
        self.samples.iter().map(key).collect()
    }

    /// Tensors `[tokens]`, one a model input but for past keys and values.
    pub(super) fn load(&self, sample: usize) -> Vec<(String, Tensor)> {
        let Encoded { ids, types, .. } = &self.samples[sample];
        let ones = vec![1u32; ids.len()];
        let places: Vec<u32> = (0..ids.len() as u32).collect();
        let tensor = |(name, dtype, role): &(String, DType, Role)| {
            let (values, pad) = match role {
                Role::Ids => (&ids[..], self.pad.id),
                Role::Types => (&types[..], self.pad.type_id),
                Role::Mask => (&ones[..], 0),
                Role::Positions => (&places[..], 0),
                Role::Past => return None,
            };
            Some((name.clone(), self.padded(values, pad, *dtype)))
        };
        self.inputs.iter().filter_map(tensor).collect()
    }

    fn padded(&self, values: &[u32], pad: u32, dtype: DType) -> Tensor {
        let missing = std::iter::repeat_n(&pad, self.width - values.len());
        let all: Vec<i64> = match self.pad.left {
            true => missing.chain(values).map(|value| i64::from(*value)).collect(),
            false => values.iter().chain(missing).map(|value| i64::from(*value)).collect(),
        };
        let shape = [self.width as u64];
        match dtype {
            DType::Int32 => Tensor::from_vec(&shape, all.into_iter().map(|value| value as i32).collect()),
            _ => Tensor::from_vec(&shape, all),
        }
    }
}
