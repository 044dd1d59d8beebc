//! From flags to samples: preprocessing, and opening data with what was left out told.

use super::print::Printer;
use super::run::inputs_of;
use crate::data::{self, Dataset, Labels, Preprocessing, Stated, StatedImage};
use crate::graph::{DType, Dim, TensorType};
use crate::train::artifact::Adapter;
use crate::train::fit;
use crate::train::prepare::Base;
use anyhow::{Context, Result, bail};
use clap::Args;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// How samples become the model's inputs. For images: (pixel × scale − mean) / std.
#[derive(Debug, Clone, Default, Args, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Samples {
    /// What is done to pixels, by name: unit, imagenet, torchvision, timm, inception, clip, efficientnet-lite or raw
    /// [default: what stands in or beside the model, or unit]
    #[arg(long, help_heading = "Images", value_name = "NAME")]
    pub preprocessing: Option<String>,
    /// Image size, S or WxH [default: what the model declares]
    #[arg(long, help_heading = "Images", value_name = "S|WxH")]
    pub size: Option<String>,
    /// Shortest side before the centre crop, in pixels [default: --size]
    #[arg(long, help_heading = "Images", value_name = "PIXELS", value_parser = resize)]
    pub resize: Option<u32>,
    /// How images are resized: bilinear, bicubic, lanczos, area or nearest, as Pillow does it [default: the preset's, or
    /// bilinear]
    #[arg(long, help_heading = "Images", value_name = "FILTER", aliases = ["resample", "filter"])]
    pub interpolation: Option<String>,
    /// Factor for pixels, a number or a fraction [default: 1/255]
    #[arg(long, help_heading = "Images")]
    pub scale: Option<String>,
    /// Subtracted from scaled pixels, one or three numbers [default: 0]
    #[arg(long, help_heading = "Images", value_name = "M[,M,M]", allow_hyphen_values = true)]
    pub mean: Option<String>,
    /// Divides at last, one or three numbers [default: 1]
    #[arg(long, help_heading = "Images", value_name = "S[,S,S]")]
    pub std: Option<String>,
    /// Order of an image's axes [default: what the model declares]
    #[arg(long, help_heading = "Images", value_name = "nchw|nhwc")]
    pub layout: Option<String>,
    /// The model's tokenizer.json, for text [default: the one beside the model or the adapter]
    #[arg(long, help_heading = "Text", value_name = "FILE")]
    #[serde(skip_serializing)]
    pub tokenizer: Option<PathBuf>,
    /// Tokens of a text, at most [default: what tokenizer.json says, or 512; 128 for a language model]
    #[arg(long, help_heading = "Text", value_name = "N")]
    pub max_length: Option<u32>,
    /// The token that a language model's sequences begin with [default: what the tokenizer says]
    #[arg(long, help_heading = "Text", value_name = "TOKEN")]
    pub bos_token: Option<String>,
    /// The token that a language model's texts end with [default: what the tokenizer says]
    #[arg(long, help_heading = "Text", value_name = "TOKEN")]
    pub eos_token: Option<String>,
    /// Put rows of text one behind the other into full sequences, for a language model
    #[arg(long, help_heading = "Text")]
    pub packing: bool,
    /// Label column of a table, repeatable [default: label and other usual names, or the last]
    #[arg(long, help_heading = "Data", value_name = "COLUMN", alias = "label-column")]
    pub label: Vec<String>,
    /// Text column of a table, or two with a comma between them [default: text and other usual names]
    #[arg(long, help_heading = "Data", value_name = "COLUMN", alias = "text-column")]
    pub text: Option<String>,
    /// Column of a table that names the images [default: file and other usual names]
    #[arg(id = "file_column", long = "file", help_heading = "Data", value_name = "COLUMN", alias = "image-column")]
    pub file: Option<String>,
    /// What tells the samples of one recording or person: all of one are on one side of the split
    ///
    /// A column of a table, an array of an .npz file, `folder` for the folders inside a class, or a regular expression for the part of
    /// a file's name that tells it, such as 'subject[0-9]+'. Without it a column or an array `group` or `subject` is
    /// taken where there is one; `none` takes none.
    #[arg(long, help_heading = "Data", value_name = "COLUMN|PATTERN|folder", alias = "groups")]
    pub group: Option<String>,
}

/// What a delta does not carry of how samples are read.
#[derive(Debug, Clone, Default, Args)]
pub struct Reading {
    /// The model's tokenizer.json, for text [default: the one beside the model or the adapter]
    #[arg(long, help_heading = "Text", value_name = "FILE")]
    pub tokenizer: Option<PathBuf>,
    /// The token that a language model's sequences begin with [default: what the tokenizer says]
    #[arg(long, help_heading = "Text", value_name = "TOKEN")]
    pub bos_token: Option<String>,
    /// The token that a language model's texts end with [default: what the tokenizer says]
    #[arg(long, help_heading = "Text", value_name = "TOKEN")]
    pub eos_token: Option<String>,
    /// Rows one behind the other in full sequences; only where they are learned or measured
    #[arg(skip)]
    pub packing: bool,
    /// Label column of a table, repeatable [default: label and other usual names, or the last]
    #[arg(long, help_heading = "Data", value_name = "COLUMN", alias = "label-column")]
    pub label: Vec<String>,
    /// Text column of a table, or two with a comma between them [default: text and other usual names]
    #[arg(long, help_heading = "Data", value_name = "COLUMN", alias = "text-column")]
    pub text: Option<String>,
    /// Column of a table that names the images [default: file and other usual names]
    #[arg(id = "file_column", long = "file", help_heading = "Data", value_name = "COLUMN", alias = "image-column")]
    pub file: Option<String>,
    /// What tells the samples of one recording or person: all of one are on one side of the split
    ///
    /// A column of a table, an array of an .npz file, `folder` for the folders inside a class, or a regular expression for the part of
    /// a file's name that tells it, such as 'subject[0-9]+'. Without it a column or an array `group` or `subject` is
    /// taken where there is one; `none` takes none.
    #[arg(long, help_heading = "Data", value_name = "COLUMN|PATTERN|folder", alias = "groups")]
    pub group: Option<String>,
}

/// What a delta carries of how samples become the model's inputs, where no data are at hand.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Preprocessing")]
pub struct Pixels {
    /// What is done to pixels, by name: unit, imagenet, torchvision, timm, inception, clip, efficientnet-lite or raw
    /// [default: what stands in or beside the model, or unit]
    #[arg(long, value_name = "NAME")]
    pub preprocessing: Option<String>,
    /// Image size, S or WxH [default: what the model declares]
    #[arg(long, value_name = "S|WxH")]
    pub size: Option<String>,
    /// Shortest side before the centre crop, in pixels [default: --size]
    #[arg(long, value_name = "PIXELS", value_parser = resize)]
    pub resize: Option<u32>,
    /// How images are resized: bilinear, bicubic, lanczos, area or nearest, as Pillow does it [default: the preset's, or
    /// bilinear]
    #[arg(long, value_name = "FILTER", aliases = ["resample", "filter"])]
    pub interpolation: Option<String>,
    /// Factor for pixels, a number or a fraction [default: 1/255]
    #[arg(long)]
    pub scale: Option<String>,
    /// Subtracted from scaled pixels, one or three numbers [default: 0]
    #[arg(long, value_name = "M[,M,M]", allow_hyphen_values = true)]
    pub mean: Option<String>,
    /// Divides at last, one or three numbers [default: 1]
    #[arg(long, value_name = "S[,S,S]")]
    pub std: Option<String>,
    /// Order of an image's axes [default: what the model declares]
    #[arg(long, value_name = "nchw|nhwc")]
    pub layout: Option<String>,
    /// Tokens of a text, at most [default: what tokenizer.json says, or 512; 128 for a language model]
    #[arg(long, value_name = "N")]
    pub max_length: Option<u32>,
}

impl From<&Pixels> for Samples {
    fn from(pixels: &Pixels) -> Self {
        let Pixels { preprocessing, size, resize, interpolation, scale, mean, std, layout, max_length } =
            pixels.clone();
        Self { preprocessing, size, resize, interpolation, scale, mean, std, layout, max_length, ..Self::default() }
    }
}

impl Samples {
    /// What these settings leave open is taken from `other` (a recipe's).
    pub fn or(self, other: Self) -> Self {
        Self {
            preprocessing: self.preprocessing.or(other.preprocessing),
            size: self.size.or(other.size),
            resize: self.resize.or(other.resize),
            interpolation: self.interpolation.or(other.interpolation),
            scale: self.scale.or(other.scale),
            mean: self.mean.or(other.mean),
            std: self.std.or(other.std),
            layout: self.layout.or(other.layout),
            tokenizer: self.tokenizer.or(other.tokenizer),
            max_length: self.max_length.or(other.max_length),
            bos_token: self.bos_token.or(other.bos_token),
            eos_token: self.eos_token.or(other.eos_token),
            packing: self.packing || other.packing,
            label: if self.label.is_empty() { other.label } else { self.label },
            text: self.text.or(other.text),
            file: self.file.or(other.file),
            group: self.group.or(other.group),
        }
    }

    /// What a delta would not carry of these settings.
    pub fn reading(&self) -> Reading {
        Reading {
            tokenizer: self.tokenizer.clone(),
            bos_token: self.bos_token.clone(),
            eos_token: self.eos_token.clone(),
            packing: self.packing,
            label: self.label.clone(),
            text: self.text.clone(),
            file: self.file.clone(),
            group: self.group.clone(),
        }
    }

    /// Preprocessing of the data at `path` for a model's inputs: none for arrays, tokens where the model takes token
    /// numbers or a tokenizer is given, pixels where the model takes an image, else none.
    ///
    /// # Errors
    /// A setting that the model or the data have no use for, or that is out of its range.
    pub fn preprocessing(&self, base: &Base, path: &Path, printer: &Printer) -> Result<Preprocessing> {
        let inputs = &inputs_of(base)[..];
        let image_flag = self.image_flag();
        if data::holds_arrays(path) {
            if let Some(flag) = image_flag {
                bail!("{flag}: arrays are fed as they are; remove the option, or give {} as images", path.display());
            }
            return Ok(Preprocessing::Plain);
        }
        let known = || inputs.iter().map(|(name, ty)| format!("`{name}` {ty}")).collect::<Vec<_>>().join(", ");
        let takes_text = data::takes_text(&named_types(inputs));
        if let Some(problem) = data::unknown_text_input(&named_types(inputs)) {
            bail!("{problem}");
        }
        if self.tokenizer.is_some() && !takes_text {
            bail!("--tokenizer: the model takes no token numbers (its inputs are {}); remove the option", known());
        }
        if takes_text {
            return Ok(Preprocessing::Text { max_length: self.max_length.unwrap_or(0) });
        }
        let numbers = || data::holds_numbers(path, &self.label, self.file.as_deref());
        match (inputs, image_flag) {
            ([(_, ty)], None) if is_image(ty) && numbers() => Ok(Preprocessing::Plain),
            ([(_, ty)], Some(flag)) if is_image(ty) && numbers() => {
                bail!("{flag}: a table of numbers is fed as it is; remove the option")
            }
            ([(name, ty)], _) if is_image(ty) => Ok(Preprocessing::Image(self.image((name, ty), base, printer)?)),
            (_, Some(flag)) => {
                bail!("{flag}: the model takes no image (its inputs are {}); remove the option", known());
            }
            _ => Ok(Preprocessing::Plain),
        }
    }

    /// The first setting given that only images need.
    fn image_flag(&self) -> Option<&'static str> {
        let given = [
            ("--preprocessing", self.preprocessing.is_some()),
            ("--size", self.size.is_some()),
            ("--resize", self.resize.is_some()),
            ("--interpolation", self.interpolation.is_some()),
            ("--scale", self.scale.is_some()),
            ("--mean", self.mean.is_some()),
            ("--std", self.std.is_some()),
            ("--layout", self.layout.is_some()),
        ];
        given.into_iter().find_map(|(flag, given)| given.then_some(flag))
    }

    fn image(
        &self,
        (name, ty): (&str, &TensorType),
        base: &Base,
        printer: &Printer,
    ) -> Result<data::ImagePreprocessing> {
        let shape = ty.shape.as_deref().unwrap_or_default();
        let size_of = |axis: usize| shape.get(axis).and_then(Dim::fixed);
        let channels_first = match &self.layout {
            Some(layout) => data::parse_layout(layout)? == data::Layout::Nchw,
            None => matches!(size_of(1), Some(1 | 3)) || !matches!(size_of(3), Some(1 | 3)),
        };
        let [channels, rows, columns] = if channels_first { [1, 2, 3] } else { [3, 1, 2] };
        let stated = stated(base, printer);
        let stated_size = stated.as_ref().and_then(|stated| stated.value.size);
        let (width, height) = match (&self.size, size_of(columns), size_of(rows), stated_size) {
            (Some(size), ..) => data::parse_size(size)?,
            (None, Some(width), Some(height), _) => (width as u32, height as u32),
            (None, _, _, Some(size)) => size,
            _ => bail!("input `{name}` ({ty}) leaves the image size open; give it with --size, such as --size 224"),
        };
        let mut image = data::ImagePreprocessing::new(width, height);
        image.layout = if channels_first { data::Layout::Nchw } else { data::Layout::Nhwc };
        image.channels = if size_of(channels) == Some(1) { data::Channels::Grey } else { data::Channels::Rgb };
        let source = self.pixels(&mut image, stated)?;
        image.validate()?;
        printer.note(format!("pixels    {} ({source})", image.described()));
        Ok(image)
    }

    /// Whether pixels are scaled as nobody else has said that it is right for this model: by default, or by single options.
    pub fn guesses_pixels(&self, base: &Base) -> bool {
        let given = self.scale.is_some() || self.mean.is_some() || self.std.is_some();
        let stated = data::stated_image(&base.path, &base.metadata).ok().flatten();
        self.preprocessing.is_none() && (given || stated.is_none_or(|stated| stated.value.pixels.is_none()))
    }

    /// What is done to pixels, and by whose word: the options', a preset's, what is stated beside the model, or 0 to 1.
    fn pixels(&self, image: &mut data::ImagePreprocessing, stated: Option<Stated<StatedImage>>) -> Result<String> {
        let given = self.scale.is_some() || self.mean.is_some() || self.std.is_some();
        let mut source = "assumed; --preprocessing NAME says it otherwise".to_string();
        match (&self.preprocessing, stated) {
            (Some(name), _) => {
                data::Preset::named(name)?.put_into(image);
                source = format!("--preprocessing {name}");
            }
            (None, Some(Stated { value, source: file })) => {
                // A file's shortest side goes with its own size.
                if value.size == Some((image.width, image.height)) {
                    image.resize = value.resize.unwrap_or(image.resize).max(image.width.min(image.height));
                }
                image.filter = value.filter.unwrap_or(image.filter);
                // A mean is one of pixels that are scaled in a certain way: all are the file's, or none.
                if let Some(pixels) = value.pixels.filter(|_| !given) {
                    (image.scale, image.mean, image.std) = pixels;
                    source = [vec![format!("from {file}")], value.otherwise].concat().join(", which ");
                }
            }
            (None, None) => {}
        }
        if given {
            source = "from the options".into();
        }
        image.resize = self.resize.unwrap_or(image.resize);
        if let Some(name) = &self.interpolation {
            image.filter = data::Filter::named(name)?;
        }
        if let Some(scale) = &self.scale {
            image.scale = data::parse_scale(scale)?;
        }
        if let Some(mean) = &self.mean {
            image.mean = data::parse_channel_values("mean", mean)?;
        }
        if let Some(std) = &self.std {
            image.std = data::parse_channel_values("std", std)?;
        }
        Ok(source)
    }
}

/// Whether an input may be an image's.
fn is_image(ty: &TensorType) -> bool {
    ty.rank() == Some(4) && ty.dtype == DType::Float
}

/// A shortest side; the name of a filter is another option's.
fn resize(text: &str) -> Result<u32, String> {
    text.parse().map_err(|error| match data::Filter::named(text) {
        Ok(filter) => format!("this is the shortest side in pixels; write --interpolation {}", filter.name()),
        Err(_) => format!("{error}; write the shortest side in pixels, such as 256"),
    })
}

/// What the model's exporter states of images; a file that cannot be used is told.
fn stated(base: &Base, printer: &Printer) -> Option<Stated<StatedImage>> {
    data::stated_image(&base.path, &base.metadata).unwrap_or_else(|error| {
        printer.warn(format!("how images are prepared: {error}"));
        None
    })
}

/// What a delta says of samples, for data that may be of another kind than those it was trained on.
pub fn of_adapter(preprocessing: Preprocessing, path: &Path, printer: &Printer) -> Preprocessing {
    if data::holds_arrays(path) && preprocessing != Preprocessing::Plain {
        printer.warn(format!("{}: arrays are fed as they are, without the delta's preprocessing", path.display()));
        return Preprocessing::Plain;
    }
    if let Preprocessing::Image(image) = &preprocessing {
        printer.note(format!("pixels    {} (from the adapter)", image.described()));
    }
    preprocessing
}

/// How text is read, with the tokenizer that lies beside the model or beside an adapter where none was named.
pub fn with_tokenizer(reading: Reading, base: &Base, adapter: Option<&Path>, printer: &Printer) -> Reading {
    if reading.tokenizer.is_some() || !data::takes_text(&named_types(&inputs_of(base))) {
        return reading;
    }
    let tokenizer = [Some(base.path.as_path()), adapter].into_iter().flatten().find_map(tokenizer_beside);
    if let Some(found) = &tokenizer {
        printer.note(format!("tokenizer {} (--tokenizer names another)", found.display()));
    }
    Reading { tokenizer, ..reading }
}

/// The tokenizer.json beside a file, or above a folder called `onnx`, as Hugging Face's repositories have it.
fn tokenizer_beside(file: &Path) -> Option<PathBuf> {
    let folder = file.parent()?;
    let above = folder.parent().filter(|_| folder.file_name().is_some_and(|name| name == "onnx"));
    [Some(folder), above].into_iter().flatten().map(|folder| folder.join("tokenizer.json")).find(|path| path.is_file())
}

/// What a data set is opened with.
pub fn options(
    preprocessing: Preprocessing,
    reading: Reading,
    inputs: &[(String, TensorType)],
    target: data::Target,
    classes: Option<Vec<String>>,
) -> data::Options {
    data::Options {
        preprocessing,
        target,
        inputs: named_types(inputs),
        shapes: inputs.iter().map(|(_, ty)| sample_shape(ty)).collect(),
        label: reading.label,
        text: reading.text,
        file: reading.file,
        group: reading.group,
        classes,
        tokenizer: reading.tokenizer,
        bos_token: reading.bos_token,
        eos_token: reading.eos_token,
        packing: reading.packing,
        ..data::Options::default()
    }
}

/// The shape of one sample in an input, without its batch axis.
fn sample_shape(ty: &TensorType) -> data::SampleShape {
    Some(ty.shape.as_deref()?.get(1..)?.iter().map(Dim::fixed).collect())
}

/// Names and element types.
pub fn named_types(inputs: &[(String, TensorType)]) -> Vec<(String, DType)> {
    inputs.iter().map(|(name, ty)| (name.clone(), ty.dtype)).collect()
}

/// Opens labelled data and tells what was left out.
pub fn open(path: &Path, options: &data::Options, printer: &Printer) -> Result<(Dataset, data::Report)> {
    let (dataset, report) = printer.during(format!("reading {}", path.display()), || Dataset::open(path, options))?;
    tell_skipped(&report, SHOWN, printer);
    dataset.cut_texts().iter().for_each(|line| printer.note(line));
    Ok((dataset, report))
}

/// Ends a command that is to leave nothing out.
///
/// # Errors
/// The first sample that was left out, with the reason.
pub fn refuse_skipped(report: &data::Report, no_skip: bool) -> Result<()> {
    match report.skipped.first() {
        Some((path, reason)) if no_skip => bail!("{}: {reason}", path.display()),
        _ => Ok(()),
    }
}

/// An adapter's classes, followed by those that only the data have; none where its outputs are not classes. `adds`: whether
/// there is nothing to do without a new one.
///
/// # Errors
/// Data that cannot be opened, or that hold no new class where one is needed.
pub fn classes_from(
    adapter: &Adapter,
    adds: bool,
    path: &Path,
    options: &data::Options,
) -> Result<Option<Vec<String>>> {
    if adapter.labels.is_empty() {
        return Ok(None);
    }
    let (dataset, _) = Dataset::open(path, options)?;
    let mut classes = adapter.labels.clone();
    classes.extend(dataset.labels().names().iter().filter(|name| !adapter.labels.contains(name)).cloned());
    if adds && classes.len() == adapter.labels.len() {
        let (path, delta) = (path.display(), adapter.path.display());
        bail!("--data {path}: {delta} knows all its classes; add samples of a new one, or remove --from");
    }
    Ok(Some(classes))
}

/// Numbers to predict must be as many as the adapter gives.
///
/// # Errors
/// Another count of label columns.
pub fn refuse_other_width(dataset: &Dataset, width: u64) -> Result<()> {
    match dataset.labels() {
        Labels::Values(rows) if rows.ncols() as u64 != width => {
            let columns = rows.ncols();
            bail!("--data: {columns} label columns, but the adapter gives {width}; name its columns with --label")
        }
        Labels::NextTokens(rows) => Ok(fit::refuse_unknown_tokens(rows, width)?),
        _ => Ok(()),
    }
}

/// What is left out and told at most, where a list of all is written.
const SHOWN: usize = 5;
/// How a list of what was left out begins.
const LISTED: &str = "# What edgetune train left out, each with the reason";

/// Lists all that was left out in a file beside a run's delta, where it is more than was told.
pub fn list_skipped(report: &data::Report, out: &Path, printer: &Printer) {
    if report.skipped.len() <= SHOWN {
        return;
    }
    let mut path = out.as_os_str().to_owned();
    path.push(".skipped.txt");
    let path = PathBuf::from(path);
    let is_own = |text: String| text.starts_with(LISTED);
    if path.exists() && !std::fs::read_to_string(&path).is_ok_and(is_own) {
        printer
            .warn(format!("{}: this is no list of an earlier run, so none is written; move it away", path.display()));
        return;
    }
    let mut text = format!("{LISTED}\n");
    report.skipped.iter().for_each(|(path, reason)| text += &format!("{}\t{reason}\n", path.display()));
    match std::fs::write(&path, text) {
        Ok(()) => printer.note(format!("  all {} are in {}", report.skipped.len(), path.display())),
        Err(error) => {
            printer.warn(format!("{}: the list of what was skipped cannot be written ({error})", path.display()))
        }
    }
}

/// Lists what was left out when data were opened, `shown` of it at most.
pub fn tell_skipped(report: &data::Report, shown: usize, printer: &Printer) {
    report.notes.iter().for_each(|note| printer.note(note));
    if report.skipped.is_empty() {
        return;
    }
    let what = if report.skipped.iter().all(|(path, _)| path.is_file()) { "file" } else { "sample" };
    let files = match report.skipped.len() {
        1 => format!("1 {what} was"),
        count => format!("{count} {what}s were"),
    };
    printer.warn(format!("{files} skipped; replace or remove what is no sample:"));
    for (path, reason) in report.skipped.iter().take(shown) {
        printer.note(format!("  {}: {reason}", path.display()));
    }
    if report.skipped.len() > shown {
        printer.note(format!("  … and {} more", report.skipped.len() - shown));
    }
}

/// Looks the data over and tells what a person should know before training on them.
///
/// `added`: whether the classes are added to known ones, of which no sample need be there, nor of a second class.
///
/// # Errors
/// A finding that makes training or its measurement meaningless.
pub fn check(dataset: &Dataset, added: bool, printer: &Printer) -> Result<Vec<data::Finding>> {
    let mut findings = data::check(dataset.labels(), dataset.keys());
    if added {
        findings.retain(|finding| !finding.samples.is_empty());
    }
    for finding in &findings {
        let line = format!("{}{}; {}", finding.problem, examples(dataset, &finding.samples), finding.remedy);
        match finding.severity {
            data::Severity::Error => bail!("the data: {line}"),
            data::Severity::Warning => printer.warn(format!("the data: {line}")),
            data::Severity::Note => printer.note(format!("note: the data: {line}")),
        }
    }
    Ok(findings)
}

/// The first of the samples that a finding is about, in parentheses.
fn examples(dataset: &Dataset, samples: &[usize]) -> String {
    const SHOWN: usize = 2;
    let names: Vec<String> = samples.iter().take(SHOWN).map(|sample| dataset.name(*sample)).collect();
    let more = if samples.len() > SHOWN { ", …" } else { "" };
    if names.is_empty() { String::new() } else { format!(" ({}{more})", names.join(", ")) }
}

/// Class names from a file, or separated by commas, or so many numbers as names.
///
/// # Errors
/// None of these, or a name twice.
pub fn class_names(text: &str) -> Result<Vec<String>> {
    let path = Path::new(text);
    let names: Vec<String> = if path.is_file() {
        data::class_names_of(path)?.with_context(|| {
            format!("--classes {text}: the file names no class; write one name a line, or JSON with `id2label`")
        })?
    } else if let Ok(count) = text.parse::<usize>() {
        (0..count).map(|class| class.to_string()).collect()
    } else if text.contains(',') {
        text.split(',').map(|name| name.trim().to_string()).collect()
    } else {
        bail!(
            "--classes `{text}`: there is no such file; name a file with one class name a line, or write the names with commas \
             between them: cat,dog"
        );
    };
    let twice = names.iter().enumerate().find(|(place, name)| names[..*place].contains(name));
    match twice {
        _ if names.is_empty() => bail!("--classes 0: a classifier needs at least one class"),
        Some((_, name)) => bail!("--classes {text}: `{name}` stands there twice; each output has a name of its own"),
        None => Ok(names),
    }
}
