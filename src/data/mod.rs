//! Folders of images, texts or arrays, text, tables and arrays → tensors, labels, splits and findings.
//!
//! Takes a path and [`Options`], gives a [`Dataset`] whose samples can be loaded from several threads, one at a time,
//! without a batch axis. It never runs a model and never prints; damaged files are listed in a [`ReadingReport`].

mod anomalies;
mod arrays;
mod boxes;
mod cells;
mod check;
mod classes;
mod clips;
mod columns;
mod decoding;
mod error;
mod filesystem;
mod first_line;
mod fitting;
mod folder;
mod foreign;
mod groups;
#[cfg_attr(not(feature = "image"), path = "no_image.rs")]
mod image;
#[cfg_attr(not(feature = "image"), path = "no_indices.rs")]
mod indices;
mod intervals;
mod joined;
mod kept;
mod kinds;
mod labels;
mod language;
mod limits;
mod lines;
mod loading;
mod masks;
mod members;
mod mel;
mod names;
#[cfg(not(feature = "text"))]
mod no_text;
mod npy;
mod numeric;
mod ordered;
mod own;
mod pace;
mod pairs;
mod parts;
mod preprocessing;
mod presets;
mod recording;
mod readings;
mod recordings;
mod records;
#[cfg(feature = "image")]
mod resample;
mod roles;
mod rows;
mod same;
mod segmented;
mod series;
#[cfg_attr(not(feature = "audio"), path = "no_sound.rs")]
mod sound;
mod split;
mod stated;
mod survey;
mod table;
mod tagged;
mod text;
mod times;
mod transcribed;
mod usual;
mod words;
#[cfg(feature = "image")]
mod whole;
mod windows;

pub use boxes::{Cell, Grid, Object, Picture, holds_boxes};
pub use check::{Finding, Severity, check};
pub use classes::Matched;
pub use clips::{SoundPreprocessing, UnitAxis};
pub use error::Error;
pub use filesystem::is_no_sample;
pub use fitting::SampleShape;
pub use groups::{Groups, group_in_name, split_groups};
pub use image::{
    load as decode_photograph, probe as photograph, size as size_of_photograph, whole as whole_photograph,
};
pub use indices::mask_png;
pub use kinds::{holds_arrays, holds_numbers, is_one_file_of_arrays};
pub use labels::{IGNORED, Labels, Target};
pub use language::{Language, prompts};
pub use limits::Limits;
pub use lines::{BLANK, Lines, alphabet, blank_of, steps_needed};
pub use masks::{IGNORED_PIXEL, Masks};
pub use mel::{Edge, LogMel, Logarithm, MelScale, parse_front_end};
pub use members::{Member, Role, row_size, together};
pub use numeric::numbers_to_predict;
pub use pairs::{Pairs, holds_pairs};
pub use parts::{Parts, parts};
pub use preprocessing::{
    Channels, Filter, ImagePreprocessing, Layout, Preprocessing, parse_channel_values, parse_layout, parse_scale,
    parse_size,
};
pub use presets::{PRESETS, Preset, StatedImage, stated_image};
pub use recording::Recording;
pub use recordings::{SeriesSurvey, series_width, survey_series};
pub use roles::SeriesColumns;
pub use same::count_of_same;
pub use segmented::holds_masks;
pub use series::{Scaler, SeriesPreprocessing, When};
pub use sound::decode as decode_sound;
pub use split::{Labelled, Split, per_class, split};
pub use stated::{Stated, characters, characters_of, class_names, class_names_of, class_names_told};
pub use survey::{StatedSound, Survey, holds_sounds, stated_sound, survey};
pub use text::{Role as TextRole, Texts, Word};
pub use times::TimeUnit;
pub use transcribed::{holds_lines, widest};
pub use windows::{decode_window, is_series};

use crate::graph::{DType, Tensor, TensorType};
use bytes::Bytes;
use clips::Clips;
use folder::Files;
use kinds::{kind_of_files, kind_of_rows};
use names::Names;
use series::Windows;
use std::path::{Path, PathBuf};
use table::Told;
use text::Tokens;

/// How data are read. The default suits tables with a column `label`.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// What is done to each sample.
    pub preprocessing: Preprocessing,
    /// What the labels are.
    pub target: Target,
    /// The model's inputs, by name and element type. Empty: samples are named `""` (the only input) and typed as found.
    pub inputs: Vec<(String, DType)>,
    /// For each of `inputs`, the shape of a sample in it. Empty: not known, so samples are fed as they are.
    pub shapes: Vec<SampleShape>,
    /// Label columns of a table. Empty: `label` and other usual names, or the last column.
    pub label: Vec<String>,
    /// For labels of a loss of the user's own: how many numbers of a sample each of `label` holds.
    pub label_sizes: Vec<u64>,
    /// The column of texts in a table. `None`: `text` and other usual names.
    pub text: Option<String>,
    /// The column of a table that names images. `None`: `file` and other usual names.
    pub file: Option<String>,
    /// What tells which samples are of one recording or person: a column of a table, an array of a file of arrays, a regular expression for
    /// the names of files, or `folder`. `None`: a column or an array `group` and other usual names. `none`: nothing.
    pub group: Option<String>,
    /// Whether the samples are to be split, so that their groups are asked for.
    pub splits: bool,
    /// The classes that the model has, in order. Data with another class are refused. `None`: the classes found, sorted.
    pub classes: Option<Vec<String>>,
    /// Steps that the model gives for the text in a picture.
    pub steps: Option<u64>,
    /// Of the files that a table names, only those below this folder.
    pub below: Option<PathBuf>,
    /// Where a detector looks for boxes.
    pub grid: Option<Grid>,
    /// The `tokenizer.json` of a text model.
    pub tokenizer: Option<PathBuf>,
    /// The token that a language model's sequences begin with; `None` takes what the tokenizer says.
    pub bos_token: Option<String>,
    /// The token that a language model's texts end with; `None` takes what the tokenizer says.
    pub eos_token: Option<String>,
    /// For a language model: rows one behind the other in full sequences, instead of one a sequence.
    pub packing: bool,
    /// What a single file may cost.
    pub limits: Limits,
}

/// What was left out when data were opened.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReadingReport {
    /// Each file, or row of a table as `file:line`, with the reason.
    pub skipped: Vec<(PathBuf, String)>,
    /// How the data were read where that was not said, for a person to check.
    pub notes: Vec<String>,
    /// Where names suggest groups and none were given: what to give as `group`, and what was seen.
    pub perhaps_groups: Option<(String, String)>,
}

/// Samples that can be loaded one by one.
#[derive(Debug)]
pub struct Dataset {
    samples: Samples,
    labels: Labels,
    keys: Vec<[u8; 32]>,
    names: Names,
    groups: Option<Groups>,
}

/// Where samples come from.
#[derive(Debug)]
enum Samples {
    /// A file each, decoded when asked for.
    Images { input: String, preprocessing: ImagePreprocessing, limits: Limits },
    /// A file each or a part of one, decoded when asked for.
    Clips { input: String, clips: Clips },
    /// Parts of series in memory, cut out when asked for.
    Windows { input: String, windows: Windows },
    /// A file each, read when asked for.
    Arrays { input: String, dtype: Option<DType>, shape: SampleShape, limits: Limits },
    /// Padded when asked for.
    Tokens(Tokens),
    /// `[samples, …]` for each model input, in memory or in a mapped file.
    Tensors(Vec<(String, Tensor)>),
    /// Features alone, for each sample one after the other.
    Kept(Vec<Vec<Bytes>>),
    /// Two data sets behind each other; `first` is the number of samples of the one.
    Joined { first: usize, both: Box<[Dataset; 2]> },
}

impl Dataset {
    /// Opens labelled data and decides by what it finds: a folder of class folders with images, sounds, `.txt` or `.npy` files; a CSV, TSV or JSONL file
    /// of numbers, of text (with a tokenizer) or of image paths (with an image size); `.npz`, or a folder with `x.npy`
    /// and `y.npy`. A folder with one such file, or one named `train.*`, stands for that file.
    ///
    /// # Errors
    /// [`Error`], when the data do not fit the options or a label is missing. Damaged images are no error: they are
    /// listed in the report.
    pub fn open(path: &Path, options: &Options) -> Result<(Self, ReadingReport), Error> {
        match options.target {
            Target::Identities => return Self::open_identities(path, options),
            Target::Anomalies => return Self::open_anomalies(path, options),
            _ => {}
        }
        let (dataset, mut report) = Self::opened(path, options)?;
        if options.target != Target::Ordinal {
            return Ok((dataset, report));
        }
        let (labels, told) = ordered::ordered(dataset.labels, options.classes.is_some())
            .map_err(|problem| Error::content(path, problem))?;
        report.notes.push(told);
        Ok((Self { labels, ..dataset }, report))
    }

    fn opened(path: &Path, options: &Options) -> Result<(Self, ReadingReport), Error> {
        if let Preprocessing::Series(series) = &options.preprocessing {
            return windows::open(path, series, options, true);
        }
        if options.target == Target::Pixels {
            let Preprocessing::Image(preprocessing) = &options.preprocessing else {
                let problem =
                    "a class for each pixel is learned from pictures with masks, and this model takes no pictures";
                return Err(Error::content(path, problem));
            };
            let (files, labels, report) = segmented::open(path, preprocessing, options)?;
            return Self::of_labelled_files(path, files, labels, (report, options));
        }
        if options.target == Target::Boxes {
            let (files, labels, report) = boxes::open(path, options)?;
            return Ok((Self::of_files(path, files, labels, options)?, report));
        }
        if options.target == Target::Lines {
            let (files, told) = transcribed::open(path, options)?;
            let dataset = Self::of_files(path, files, told.labels, options)?;
            return Ok((Self { groups: told.groups, ..dataset }, told.report));
        }
        match table::resolve(path, options.preprocessing.takes_files())? {
            Some(file) => Self::open_file(&file, options, true),
            None => {
                let mut kind = kind_of_files(path, options)?;
                let (files, labels, report) =
                    folder::open(path, &mut kind, options.classes.as_deref(), &options.limits)?;
                Self::of_labelled_files(path, files, labels, (report, options))
            }
        }
    }

    fn of_labelled_files(
        path: &Path,
        files: Files,
        labels: Labels,
        (mut report, options): (ReadingReport, &Options),
    ) -> Result<(Self, ReadingReport), Error> {
        let groups = match options.group.as_deref() {
            _ if !options.splits => None,
            Some(columns::NO_GROUPS) => None,
            Some(told) => Some(groups::of_files(path, 1, &files.paths, told)?),
            None => {
                report.perhaps_groups = groups::suggested(path, &files.paths, &labels);
                None
            }
        };
        Ok((Self { groups, ..Self::of_files(path, files, labels, options)? }, report))
    }

    /// Opens samples without labels, in the order of `paths`: images, where folders give all that lies below them, or one
    /// file of another kind. A column of labels is left aside.
    ///
    /// # Errors
    /// [`Error`], when a path does not exist or nothing in it can be used.
    pub fn open_unlabelled(paths: &[PathBuf], options: &Options) -> Result<(Self, ReadingReport), Error> {
        let first = paths.first().ok_or_else(|| Error::setting("input", "", "name at least one file or folder"))?;
        if let Preprocessing::Series(series) = &options.preprocessing {
            return windows::open_many(paths, series, options, false);
        }
        let is_table = matches!(options.preprocessing, Preprocessing::Sound(_)) && records::format(first).is_some();
        if is_table || !options.preprocessing.takes_files() {
            let file = table::resolve(first, false)?.or_else(|| (!first.is_dir()).then(|| first.clone()));
            match (file, paths.len()) {
                (None, _) => {}
                (Some(file), 1) => return Self::open_file(&file, options, false),
                (Some(_), count) => {
                    let problem = "only images and folders of samples may be many; name one table, text or array";
                    return Err(Error::setting("input", count, problem));
                }
            }
        }
        let (files, report) = folder::open_unlabelled(paths, &mut kind_of_files(first, options)?, &options.limits)?;
        let labels = Labels::Unlabelled(files.len());
        Ok((Self::of_files(first, files, labels, options)?, report))
    }

    /// Texts that lie in no file. `origin` is what errors and names call the place where they come from.
    ///
    /// # Errors
    /// No tokenizer, or a text of which no token remains.
    pub fn of_texts(origin: &str, texts: &[String], options: &Options) -> Result<Self, Error> {
        let max_length = match options.preprocessing {
            Preprocessing::Text { max_length, .. } => max_length,
            _ => 0,
        };
        let origin = Path::new(origin);
        let tokens = match options.target {
            Target::Tokens => tagged::of_texts(origin, texts, max_length, options)?,
            _ => text::of_texts(origin, texts, max_length, options)?,
        };
        let (labels, keys) = (Labels::Unlabelled(texts.len()), tokens.keys());
        let names = Names::Lines { file: origin.into(), lines: (1..=texts.len() as u32).collect() };
        Ok(Self { samples: Samples::Tokens(tokens), labels, keys, names, groups: None })
    }

    fn open_file(path: &Path, options: &Options, labelled: bool) -> Result<(Self, ReadingReport), Error> {
        if holds_arrays(path) {
            if options.preprocessing != Preprocessing::Plain {
                let problem =
                    "arrays are fed as they are; prepare them beforehand and remove the image or text settings";
                return Err(Error::content(path, problem));
            }
            let mut arrays = arrays::open(path, options, labelled)?;
            let inputs = fitting::in_shape(path, arrays.inputs, options, &mut arrays.notes)?;
            let names = Names::Numbered(path.into());
            let report = ReadingReport { notes: arrays.notes, ..ReadingReport::default() };
            return Ok((Self { groups: arrays.groups, ..Self::of_tensors(inputs, arrays.labels, names) }, report));
        }
        let Some(format) = records::format(path) else {
            std::fs::metadata(path).map_err(|source| Error::io(path, source))?;
            return Err(Error::content(path, kinds::no_table(path, labelled)));
        };
        match (&options.preprocessing, &options.tokenizer) {
            (preprocessing, tokenizer)
                if preprocessing.takes_files()
                    || (preprocessing, tokenizer) == (&Preprocessing::Plain, &None)
                        && table::names_arrays(path, format) =>
            {
                let (files, told) = table::files(path, format, &mut kind_of_rows(path, options)?, (options, labelled))?;
                let dataset = Self::of_files(path, files, told.labels, options)?;
                Ok((Self { groups: told.groups, ..dataset }, told.report))
            }
            (Preprocessing::Plain, None) => {
                let (features, mut told) = table::numbers(path, format, options, labelled)?;
                let inputs = vec![(only_input(options), features)];
                let inputs = fitting::in_shape(path, inputs, options, &mut told.report.notes)?;
                let dataset = Self::of_tensors(inputs, told.labels, told.names);
                Ok((Self { groups: told.groups, ..dataset }, told.report))
            }
            (preprocessing, _) => {
                let max_length = match preprocessing {
                    Preprocessing::Text { max_length, .. } => *max_length,
                    _ => 0,
                };
                let (tokens, told) = match options.target {
                    Target::NextTokens => language::open(path, format, max_length, options)?,
                    Target::Tokens => tagged::open(path, format, max_length, options, labelled)?,
                    _ => text::open(path, format, max_length, options, labelled)?,
                };
                let (keys, samples) = (tokens.keys(), Samples::Tokens(tokens));
                let Told { labels, names, groups, report } = told;
                Ok((Self { samples, labels, keys, names, groups }, report))
            }
        }
    }

    fn of_files(root: &Path, files: Files, labels: Labels, options: &Options) -> Result<Self, Error> {
        let (input, limits, mut keys) = (only_input(options), options.limits, files.keys);
        let samples = match options.preprocessing {
            Preprocessing::Image(preprocessing) => Samples::Images { input, preprocessing, limits },
            Preprocessing::Sound(preprocessing) => {
                let clips = Clips::new(preprocessing, limits, files.parts);
                keys = keys.into_iter().enumerate().map(|(clip, file)| clips.key(file, clip)).collect();
                Samples::Clips { input, clips }
            }
            Preprocessing::Plain => {
                let shape = options.shapes.first().cloned().flatten();
                Samples::Arrays { input, dtype: only_dtype(options), shape, limits }
            }
            Preprocessing::Series(_) => unreachable!("series are opened as windows"),
            Preprocessing::Text { max_length, .. } => {
                let tokens = text::of_files(root, &files.paths, max_length, options)?;
                keys = tokens.keys();
                Samples::Tokens(tokens)
            }
        };
        Ok(Self { samples, labels, keys, names: Names::Files(files.paths), groups: None })
    }

    /// The number of samples.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is no sample.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// What the samples are.
    pub fn labels(&self) -> &Labels {
        &self.labels
    }

    /// The same samples with their classes at the places that `names` gives them; each must be found there.
    pub fn with_names(self, names: Vec<String>) -> Self {
        Self { labels: self.labels.with_names(names), ..self }
    }

    /// Which samples belong together, where something tells it.
    pub fn groups(&self) -> Option<&Groups> {
        self.groups.as_ref()
    }

    /// For each sample, the BLAKE3 hash of its content; samples with equal content have equal keys.
    pub fn keys(&self) -> &[[u8; 32]] {
        &self.keys
    }

    /// The BLAKE3 hash of a sample's content.
    pub fn key(&self, sample: usize) -> [u8; 32] {
        self.keys[sample]
    }

    /// The data set of two that a sample is of, and its place there; `None` where there is but one.
    fn part(&self, sample: usize) -> Option<(&Self, usize)> {
        match &self.samples {
            Samples::Joined { first, both } if sample < *first => Some((&both[0], sample)),
            Samples::Joined { first, both } => Some((&both[1], sample - first)),
            _ => None,
        }
    }

    /// Some of the samples without labels, with other pixels; `None` where they are no photographs. Of two data sets behind each
    /// other, those of the first.
    pub fn with_pixels(&self, samples: &[usize], preprocessing: ImagePreprocessing) -> Option<Self> {
        if let Samples::Joined { first, both } = &self.samples {
            let samples: Vec<usize> = samples.iter().copied().filter(|sample| sample < first).collect();
            return both[0].with_pixels(&samples, preprocessing);
        }
        let (Samples::Images { input, limits, .. }, Names::Files(files)) = (&self.samples, &self.names) else {
            return None;
        };
        let mut paths = names::Paths::default();
        samples.iter().for_each(|sample| paths.push(&files.path(*sample)));
        Some(Self {
            samples: Samples::Images { input: input.clone(), preprocessing, limits: *limits },
            labels: Labels::Unlabelled(samples.len()),
            keys: samples.iter().map(|sample| self.keys[*sample]).collect(),
            names: Names::Files(paths),
            groups: None,
        })
    }

    /// A sample's file, or file and line, for messages and predictions.
    pub fn name(&self, sample: usize) -> String {
        match (&self.samples, self.part(sample)) {
            (_, Some((part, sample))) => part.name(sample),
            (Samples::Clips { clips, .. }, None) => clips.name(self.names.name(sample), sample),
            (Samples::Windows { windows, .. }, None) => windows.name(self.names.name(sample), sample),
            _ => self.names.name(sample),
        }
    }

    /// A sample's text, where it was opened without labels and is one line or cell.
    pub fn text(&self, sample: usize) -> Option<&str> {
        match &self.samples {
            Samples::Tokens(tokens) => tokens.texts.get(sample).map(String::as_str),
            _ => self.part(sample).and_then(|(part, sample)| part.text(sample)),
        }
    }

    /// From when to when a sample is, where it is a window of a series.
    pub fn when(&self, sample: usize) -> Option<[When; 2]> {
        match &self.samples {
            Samples::Windows { windows, .. } => Some(windows.when(sample)),
            _ => self.part(sample).and_then(|(part, sample)| part.when(sample)),
        }
    }

    /// Where a sample's words are, where a class is asked for each.
    pub fn words(&self, sample: usize) -> &[Word] {
        match &self.samples {
            Samples::Tokens(tokens) => tokens.words.get(sample).map_or(&[], |words| words),
            _ => self.part(sample).map_or(&[], |(part, sample)| part.words(sample)),
        }
    }

    /// A line on texts that are longer than what the model is given of them; `None` where all are whole.
    pub fn cut_texts(&self) -> Option<String> {
        match &self.samples {
            Samples::Tokens(tokens) => tokens.cut_off(),
            _ => None,
        }
    }
}

/// The file that a table names, such as a photograph, and that `is` the one looked for.
pub fn file_in_table(path: &Path, is: &dyn Fn(&Path) -> bool) -> Option<PathBuf> {
    let table = table::resolve(path, false).ok()??;
    table::file_in(&table, records::format(&table)?, Limits::default().table_bytes_max, is)
}

/// Whether bytes are a sample as a NumPy array of this shape: a `.npy` file, without a batch axis.
///
/// # Errors
/// Why not, with what to do about it.
pub fn array(bytes: &Bytes, shape: &[u64]) -> Result<(), String> {
    npy::sample(bytes, None, Some(shape)).map(|_| ())
}

/// Whether a `.npy` file's numbers can be computed with: their squares are finite as `float` has them.
///
/// # Errors
/// The first one that is too large, with what to do about it.
pub fn not_huge(bytes: &Bytes) -> Result<(), String> {
    npy::not_huge(bytes)
}

/// The bytes of a `.npy` file of these numbers.
pub fn npy_of_floats(shape: &[u64], values: &[f32]) -> Vec<u8> {
    npy::of_floats(shape, values)
}

/// Whether bytes are a sample as a text: UTF-8, and not empty.
///
/// # Errors
/// Why not.
pub fn is_text(bytes: &[u8]) -> Result<(), String> {
    decoding::utf8(bytes).map(|_| ())
}

/// The tensor of a sample that is a NumPy array: a `.npy` file, without a batch axis.
///
/// # Errors
/// Why it cannot be one, with what to do about it.
pub fn decode_array(bytes: &Bytes, dtype: DType) -> Result<Tensor, String> {
    npy::sample(bytes, Some(dtype), None)
}

/// Whether each of a model's inputs can be made from text.
pub fn takes_text(inputs: &[(String, DType)]) -> bool {
    !inputs.is_empty() && inputs.iter().all(|(name, dtype)| text::role(name, *dtype).is_some())
}

/// Of a model that takes tokens, the input that cannot be made from text, with what to do; `None` for other models.
pub fn unknown_text_input(inputs: &[(String, DType)]) -> Option<String> {
    text::unknown_input(inputs)
}

/// What a model's input is told of a tokenised text, by its name and type; `None` for one that text says nothing to.
pub fn text_role(name: &str, ty: &TensorType) -> Option<TextRole> {
    text::role(name, ty.dtype)
}

/// Whether the data are text without labels, which a language model learns by foretelling it.
pub fn is_unlabelled_text(path: &Path) -> bool {
    let Ok(Some(file)) = table::resolve(path, false) else { return false };
    records::format(&file)
        .is_some_and(|format| language::is_unlabelled(&file, format, Limits::default().table_bytes_max))
}

/// Whether the data are words with a tag each: its first row tells. `label`: the columns that are named for the tags.
pub fn holds_tags(path: &Path, label: &[String]) -> bool {
    let Ok(Some(file)) = table::resolve(path, false) else { return false };
    let bytes_max = Limits::default().table_bytes_max;
    records::format(&file).is_some_and(|format| tagged::is_tagged(&file, format, label, bytes_max))
}

/// The name of the model's only input, or `""`.
fn only_input(options: &Options) -> String {
    options.inputs.first().map(|(name, _)| name.clone()).unwrap_or_default()
}

/// The element type of the model's only input, where it is known.
fn only_dtype(options: &Options) -> Option<DType> {
    options.inputs.first().map(|(_, dtype)| *dtype)
}
