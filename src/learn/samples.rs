//! From a recipe's settings to samples: preprocessing, and opening data with what was left out told.

use super::observer::Observer;
use crate::adapter::Detector;
use crate::data::{self, Dataset, Labels, Preprocessing, Stated, StatedImage};
use crate::graph::{DType, Dim, TensorType};
use crate::recipe::{Error, Reading, Samples, refuse};
use crate::task::{OwnLoss, Part};
use crate::train::artifact::Adapter;
use crate::train::fit;
use crate::train::prepare::{Base, hex};
use std::path::{Path, PathBuf};

impl Samples {
    /// Preprocessing of the data at `path` for a model's inputs: none for arrays, tokens where the model takes token
    /// numbers or a tokenizer is given, pixels where the model takes an image, else none.
    ///
    /// # Errors
    /// A setting that the model or the data have no use for, or that is out of its range.
    pub fn preprocessing(&self, base: &Base, path: &Path, observer: &dyn Observer) -> Result<Preprocessing, Error> {
        let inputs = &inputs_of(base)[..];
        if let Some(series) = self.series(base, path, observer)? {
            return Ok(Preprocessing::Series(series));
        }
        if let Some(sound) = self.sound(base, path, observer)? {
            return Ok(Preprocessing::Sound(sound));
        }
        let image_setting = self.image_setting();
        if data::holds_arrays(path) {
            if let Some(setting) = image_setting {
                refuse!(
                    "setting `{setting}`: arrays are fed as they are; remove the option, or give {} as images",
                    path.display()
                );
            }
            return Ok(Preprocessing::Plain);
        }
        let known = || inputs.iter().map(|(name, ty)| format!("`{name}` {ty}")).collect::<Vec<_>>().join(", ");
        let takes_text = data::takes_text(&named_types(inputs));
        if let Some(problem) = data::unknown_text_input(&named_types(inputs)) {
            refuse!("{problem}");
        }
        if self.tokenizer.is_some() && !takes_text {
            refuse!(
                "setting `samples.tokenizer`: the model takes no token numbers (its inputs are {}); remove the option",
                known()
            );
        }
        if takes_text {
            return Ok(Preprocessing::Text { max_length: self.max_length.unwrap_or(0), tokenizer: None });
        }
        let numbers = || data::holds_numbers(path, &self.label, self.file.as_deref());
        match (inputs, image_setting) {
            ([(_, ty)], None) if is_image(ty) && numbers() => Ok(Preprocessing::Plain),
            ([(_, ty)], Some(setting)) if is_image(ty) && numbers() => {
                refuse!("setting `{setting}`: a table of numbers is fed as it is; remove the option")
            }
            ([(name, ty)], _) if is_image(ty) => Ok(Preprocessing::Image(self.image((name, ty), base, observer)?)),
            (_, Some(setting)) => {
                refuse!(
                    "setting `{setting}`: the model takes no image (its inputs are {}); remove the option",
                    known()
                );
            }
            _ => Ok(Preprocessing::Plain),
        }
    }

    /// The first setting given that only images need.
    fn image_setting(&self) -> Option<&'static str> {
        let given = [
            ("samples.preprocessing", self.preprocessing.is_some()),
            ("samples.size", self.size.is_some()),
            ("samples.resize", self.resize.is_some()),
            ("samples.interpolation", self.interpolation.is_some()),
            ("samples.scale", self.scale.is_some()),
            ("samples.mean", self.mean.is_some()),
            ("samples.std", self.std.is_some()),
            ("samples.layout", self.layout.is_some()),
        ];
        given.into_iter().find_map(|(setting, given)| given.then_some(setting))
    }

    pub(super) fn image(
        &self,
        (name, ty): (&str, &TensorType),
        base: &Base,
        observer: &dyn Observer,
    ) -> Result<data::ImagePreprocessing, Error> {
        let shape = ty.shape.as_deref().unwrap_or_default();
        let size_of = |axis: usize| shape.get(axis).and_then(Dim::fixed);
        let channels_first = match &self.layout {
            Some(layout) => data::parse_layout(layout)? == data::Layout::Nchw,
            None => matches!(size_of(1), Some(1 | 3)) || !matches!(size_of(3), Some(1 | 3)),
        };
        let [channels, rows, columns] = if channels_first { [1, 2, 3] } else { [3, 1, 2] };
        let stated = stated(base, observer);
        let stated_size = stated.as_ref().and_then(|stated| stated.value.size);
        let (width, height) = match (&self.size, size_of(columns), size_of(rows), stated_size) {
            (Some(size), ..) => data::parse_size(size)?,
            (None, Some(width), Some(height), _) => (width as u32, height as u32),
            (None, _, _, Some(size)) => size,
            _ => refuse!(
                "input `{name}` ({ty}) leaves the image size open; give it with setting `samples.size`, such as setting `samples.size = 224`"
            ),
        };
        let mut image = data::ImagePreprocessing::new(width, height);
        image.layout = if channels_first { data::Layout::Nchw } else { data::Layout::Nhwc };
        image.channels = if size_of(channels) == Some(1) { data::Channels::Grey } else { data::Channels::Rgb };
        let source = self.pixels(&mut image, stated)?;
        image.validate()?;
        observer.note(&format!("pixels    {} ({source})", image.described()));
        Ok(image)
    }

    /// Whether pixels are scaled as nobody else has said that it is right for this model: by default, or by single options.
    pub fn guesses_pixels(&self, base: &Base) -> bool {
        let given = self.scale.is_some() || self.mean.is_some() || self.std.is_some();
        let stated = data::stated_image(&base.path, &base.metadata).ok().flatten();
        self.preprocessing.is_none() && (given || stated.is_none_or(|stated| stated.value.pixels.is_none()))
    }

    /// What is done to pixels, and by whose word: the options', a preset's, what is stated beside the model, or 0 to 1.
    fn pixels(
        &self,
        image: &mut data::ImagePreprocessing,
        stated: Option<Stated<StatedImage>>,
    ) -> Result<String, Error> {
        let given = self.scale.is_some() || self.mean.is_some() || self.std.is_some();
        let mut source = "assumed; setting `samples.preprocessing = NAME` says it otherwise".to_string();
        match (&self.preprocessing, stated) {
            (Some(name), _) => {
                data::Preset::named(name)?.put_into(image);
                source = format!("setting `samples.preprocessing = {name}`");
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

/// What the model's exporter states of images; a file that cannot be used is told.
fn stated(base: &Base, observer: &dyn Observer) -> Option<Stated<StatedImage>> {
    data::stated_image(&base.path, &base.metadata).unwrap_or_else(|error| {
        observer.warn(&format!("how images are prepared: {error}"));
        None
    })
}

/// What a delta says of samples, for data that may be of another kind than those it was trained on.
pub fn of_adapter(preprocessing: &Preprocessing, path: &Path, observer: &dyn Observer) -> Preprocessing {
    // An array of one axis is a sound's samples, and one of two a series.
    let is_read = matches!(preprocessing, Preprocessing::Sound(_) | Preprocessing::Series(_))
        && !data::is_one_file_of_arrays(path);
    if data::holds_arrays(path) && *preprocessing != Preprocessing::Plain && !is_read {
        observer.warn(&format!("{}: arrays are fed as they are, without the delta's preprocessing", path.display()));
        return Preprocessing::Plain;
    }
    match preprocessing {
        Preprocessing::Series(series) => {
            observer.note(&format!("series    {} (from the adapter)", series.described()));
        }
        Preprocessing::Image(image) => observer.note(&format!("pixels    {} (from the adapter)", image.described())),
        Preprocessing::Sound(sound) => observer.note(&format!("sounds    {} (from the adapter)", sound.described())),
        Preprocessing::Plain | Preprocessing::Text { .. } => {}
    }
    preprocessing.clone()
}

/// How text is read, with the tokenizer that lies beside the model or beside an adapter where none was named. `learned`: the adapter's
/// file, if there is one, and what was done to samples when it learned; another tokenizer than its own is told.
pub fn with_tokenizer(
    reading: Reading,
    base: &Base,
    learned: (Option<&Path>, &Preprocessing),
    observer: &dyn Observer,
) -> Reading {
    if !data::takes_text(&named_types(&inputs_of(base))) {
        return reading;
    }
    let (adapter, preprocessing) = learned;
    let is_own = |file: &PathBuf| refuse_other_tokenizer(file, preprocessing).is_ok();
    let mut tokenizer = reading.tokenizer.clone();
    if tokenizer.is_none() {
        let beside = [Some(base.path.as_path()), adapter].into_iter().flatten().filter_map(tokenizer_beside);
        let beside: Vec<PathBuf> = beside.collect();
        tokenizer = beside.iter().find(|file| is_own(file)).or(beside.first()).cloned();
        if let Some(found) = &tokenizer {
            observer.note(&format!("tokenizer {} (setting `samples.tokenizer` names another)", found.display()));
        }
    }
    if let Some(Err(problem)) = tokenizer.as_deref().map(|file| refuse_other_tokenizer(file, preprocessing)) {
        observer.warn(&problem);
    }
    Reading { tokenizer, ..reading }
}

/// Whether a tokenizer is the one that a training used, where that is known.
///
/// # Errors
/// The sentence that says that it is another. A file that cannot be read is not this function's matter.
pub fn refuse_other_tokenizer(file: &Path, preprocessing: &Preprocessing) -> Result<(), String> {
    match (preprocessing, hash_of(file)) {
        (Preprocessing::Text { tokenizer: Some(learned), .. }, Some(found)) if *learned != found => Err(format!(
            "{}: the adapter was trained with another tokenizer, so its answers may be wrong; give the file whose BLAKE3 begins with {} with \
             setting `samples.tokenizer`, or train anew",
            file.display(),
            hex(&learned[..6])
        )),
        _ => Ok(()),
    }
}

/// Notes which tokenizer the texts of a new training are read with.
pub fn keep_tokenizer(preprocessing: &mut Preprocessing, reading: &Reading) {
    if let Preprocessing::Text { tokenizer, .. } = preprocessing {
        *tokenizer = reading.tokenizer.as_deref().and_then(hash_of);
    }
}

fn hash_of(file: &Path) -> Option<[u8; 32]> {
    let mut hasher = blake3::Hasher::new();
    std::io::copy(&mut std::fs::File::open(file).ok()?, &mut hasher).ok()?;
    Some(hasher.finalize().into())
}

/// The tokenizer.json beside a file, or above a folder called `onnx`, as Hugging Face's repositories have it.
pub fn tokenizer_beside(file: &Path) -> Option<PathBuf> {
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

/// Labels are boxes: where the model looks for them, and how a photograph is made to fit.
///
/// # Errors
/// A model without a detector's raw head; a setting that would cut something off.
pub fn boxes_for(base: &Base, options: &mut data::Options) -> Result<(), Error> {
    let grid = grid_of(base)?;
    let Preprocessing::Image(image) = &options.preprocessing else {
        refuse!("setting `data`: boxes are in photographs, and the model takes none; give a detector")
    };
    if [image.width, image.height] != grid.input {
        let [width, height] = grid.input;
        refuse!("setting `samples.size`: the detector takes {width}×{height} pixels and no others; remove it");
    }
    options.grid = Some(grid);
    Ok(())
}

/// Where a detector looks for boxes.
///
/// # Errors
/// A model without a detector's raw head.
pub fn grid_of(base: &Base) -> Result<data::Grid, Error> {
    let detector = Detector::find(&base.graph)?;
    Ok(data::Grid { input: detector.input, levels: detector.sizes(), bins: detector.bins })
}

/// Photographs for a detector are stretched as a whole, where nobody says otherwise: what is cut off could not be found.
pub fn stretched(
    preprocessing: Preprocessing,
    asked: &Samples,
    observer: &dyn Observer,
) -> Result<Preprocessing, Error> {
    let Preprocessing::Image(image) = preprocessing else { return Ok(preprocessing) };
    if let Some(side) = asked.resize {
        refuse!(
            "setting `samples.resize = {side}`: a detector sees the whole photograph, stretched to its size; remove it"
        );
    }
    let image = data::ImagePreprocessing { resize: 0, ..image };
    observer.note(&format!("pixels    {} (for boxes)", image.described()));
    Ok(Preprocessing::Image(image))
}

/// Labels are what a loss of the user's own takes, by the names of its inputs.
pub fn label_for(loss: &OwnLoss, options: &mut data::Options) {
    let parts = loss.parts();
    options.label_sizes = parts.iter().map(Part::values).collect();
    options.label = parts.into_iter().map(|part| part.name).collect();
}

/// The shape of one sample in an input, without its batch axis.
fn sample_shape(ty: &TensorType) -> data::SampleShape {
    Some(ty.shape.as_deref()?.get(1..)?.iter().map(Dim::fixed).collect())
}

/// Names and element types.
pub fn named_types(inputs: &[(String, TensorType)]) -> Vec<(String, DType)> {
    inputs.iter().map(|(name, ty)| (name.clone(), ty.dtype)).collect()
}

/// Opens labelled data and tells all that was left out.
pub fn open(
    path: &Path,
    options: &data::Options,
    observer: &dyn Observer,
) -> Result<(Dataset, data::ReadingReport), Error> {
    open_and_tell(path, options, usize::MAX, observer)
}

/// As [`open`], for a run that writes `out`: where much was left out, some of it is told and all of it listed beside that file.
/// `before` was left out of what the run has opened before, and holds all at the end.
pub fn open_beside(
    path: &Path,
    options: &data::Options,
    out: Option<&Path>,
    before: &mut data::ReadingReport,
    observer: &dyn Observer,
) -> Result<Dataset, Error> {
    let (dataset, more) = open_and_tell(path, options, if out.is_some() { SHOWN } else { usize::MAX }, observer)?;
    let any = !more.skipped.is_empty();
    before.skipped.extend(more.skipped);
    before.perhaps_groups = before.perhaps_groups.take().or(more.perhaps_groups);
    if let Some(out) = out.filter(|_| any) {
        list_skipped(before, out, observer);
    }
    Ok(dataset)
}

fn open_and_tell(
    path: &Path,
    options: &data::Options,
    shown: usize,
    observer: &dyn Observer,
) -> Result<(Dataset, data::ReadingReport), Error> {
    let (dataset, report) = observer.during(format!("reading {}", path.display()), || Dataset::open(path, options))?;
    tell_skipped(&report, shown, observer);
    dataset.cut_texts().iter().for_each(|line| observer.note(line));
    Ok((dataset, report))
}

/// Ends a command that is to leave nothing out.
///
/// # Errors
/// The first sample that was left out, with the reason.
pub fn refuse_skipped(report: &data::ReadingReport, no_skip: bool) -> Result<(), Error> {
    match report.skipped.first() {
        Some((path, reason)) if no_skip => refuse!("{}: {reason}", path.display()),
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
) -> Result<Option<Vec<String>>, Error> {
    if adapter.labels.is_empty() {
        return Ok(None);
    }
    let (dataset, _) = Dataset::open(path, options)?;
    let mut classes = adapter.labels.clone();
    classes.extend(dataset.labels().names().iter().filter(|name| !adapter.labels.contains(name)).cloned());
    if adds && classes.len() == adapter.labels.len() {
        let (path, delta) = (path.display(), adapter.path.display());
        refuse!(
            "setting `data = {path}`: {delta} knows all its classes; add samples of a new one, or remove setting `from`"
        );
    }
    Ok(Some(classes))
}

/// Numbers to predict must be as many as the adapter gives.
///
/// # Errors
/// Another count of label columns.
pub fn refuse_other_width(dataset: &Dataset, width: u64) -> Result<(), Error> {
    match dataset.labels() {
        Labels::Values(rows) if rows.ncols() as u64 != width => {
            let columns = rows.ncols();
            refuse!(
                "setting `data`: {columns} label columns, but the adapter gives {width}; name its columns with setting `samples.label`"
            )
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
fn list_skipped(report: &data::ReadingReport, out: &Path, observer: &dyn Observer) {
    if report.skipped.len() <= SHOWN {
        return;
    }
    let mut path = out.as_os_str().to_owned();
    path.push(".skipped.txt");
    let path = PathBuf::from(path);
    let is_own = |text: String| text.starts_with(LISTED);
    if path.exists() && !std::fs::read_to_string(&path).is_ok_and(is_own) {
        observer
            .warn(&format!("{}: this is no list of an earlier run, so none is written; move it away", path.display()));
        return;
    }
    let mut text = format!("{LISTED}\n");
    report.skipped.iter().for_each(|(path, reason)| text += &format!("{}\t{reason}\n", path.display()));
    match std::fs::write(&path, text) {
        Ok(()) => observer.note(&format!("  all {} are in {}", report.skipped.len(), path.display())),
        Err(error) => {
            observer.warn(&format!("{}: the list of what was skipped cannot be written ({error})", path.display()))
        }
    }
}

/// Lists what was left out when data were opened, `shown` of it at most.
pub fn tell_skipped(report: &data::ReadingReport, shown: usize, observer: &dyn Observer) {
    report.notes.iter().for_each(|note| observer.note(note));
    if report.skipped.is_empty() {
        return;
    }
    let what = if report.skipped.iter().all(|(path, _)| path.is_file()) { "file" } else { "sample" };
    let files = match report.skipped.len() {
        1 => format!("1 {what} was"),
        count => format!("{count} {what}s were"),
    };
    observer.warn(&format!("{files} skipped; replace or remove what is no sample:"));
    for (path, reason) in report.skipped.iter().take(shown) {
        observer.note(&format!("  {}: {reason}", path.display()));
    }
    if report.skipped.len() > shown {
        observer.note(&format!("  … and {} more", report.skipped.len() - shown));
    }
}

/// Looks the data over and tells what a person should know before training on them.
///
/// `added`: whether the classes are added to known ones, of which no sample need be there, nor of a second class.
///
/// # Errors
/// A finding that makes training or its measurement meaningless.
pub fn check(dataset: &Dataset, added: bool, observer: &dyn Observer) -> Result<Vec<data::Finding>, Error> {
    let mut findings = data::check(dataset.labels(), dataset.keys());
    if added {
        findings.retain(|finding| !finding.samples.is_empty());
    }
    for finding in &findings {
        let line = format!("{}{}; {}", finding.problem, examples(dataset, &finding.samples), finding.remedy);
        match finding.severity {
            data::Severity::Error => refuse!("the data: {line}"),
            data::Severity::Warning => observer.warn(&format!("the data: {line}")),
            data::Severity::Note => observer.note(&format!("note: the data: {line}")),
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
pub fn class_names(text: &str) -> Result<Vec<String>, Error> {
    let path = Path::new(text);
    let names: Vec<String> = if path.is_file() {
        let Some(names) = data::class_names_of(path)? else {
            refuse!(
                "setting `classes = {text}`: the file names no class; write one name a line, or JSON with `id2label`"
            )
        };
        names
    } else if let Ok(count) = text.parse::<usize>() {
        (0..count).map(|class| class.to_string()).collect()
    } else if text.contains(',') {
        text.split(',').map(|name| name.trim().to_string()).collect()
    } else {
        refuse!(
            "setting `classes` `{text}`: there is no such file; name a file with one class name a line, or write the names with commas \
             between them: cat,dog"
        );
    };
    let twice = names.iter().enumerate().find(|(place, name)| names[..*place].contains(name));
    match twice {
        _ if names.is_empty() => refuse!("setting `classes = 0`: a classifier needs at least one class"),
        Some((_, name)) => {
            refuse!("setting `classes = {text}`: `{name}` stands there twice; each output has a name of its own")
        }
        None => Ok(names),
    }
}

/// The model's inputs by name.
pub fn inputs_of(base: &Base) -> Vec<(String, TensorType)> {
    let graph = &base.graph;
    graph.inputs.iter().filter_map(|id| Some((graph.value_name(*id).to_string(), graph.ty(*id)?.clone()))).collect()
}
