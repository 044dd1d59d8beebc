//! One rule for every command that writes files, held before any work is done: nothing of the user's is lost.
//!
//! An output is never one of the command's own inputs, under whatever name, and never lies among the samples of `--data`. A
//! file of another kind than the output's, told by its content, is replaced only with `--force`; one of the same kind (a delta
//! by a delta) always. Reads the files' names and first bytes; never writes, but for the probe that a file can be made.

use super::args::Global;
use crate::predict::identities;
use crate::recipe::Recipe;
use crate::train::retention;
use crate::{atomic, data, delta, moments, onnx};
use anyhow::{Result, anyhow, bail};
use clap::Args;
use std::fmt;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Whether a file of another kind may be replaced.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct Replacing {
    /// Replace a file that is of another kind than what is written; a file that the command reads never is
    #[arg(long, help_heading = "Run")]
    pub force: bool,
}

/// What a file is, by its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `*.edelta`
    Delta,
    /// `*.emoments`
    Moments,
    /// `*.ebasis`
    Basis,
    /// Vectors of known identities.
    Identities,
    /// `*.retention`
    Retention,
    /// The state of an interrupted run.
    Checkpoint,
    /// A secret or public key as PEM.
    Key,
    /// An ONNX model.
    Model,
    /// The weights beside an ONNX model, which names them.
    Weights,
    /// What `train --report` writes.
    Report,
    /// The same as a page for a browser.
    Page,
    /// ONNX Runtime's `*.onnx_adapter`.
    OnnxAdapter,
    /// Tensors as Hugging Face stores them.
    Safetensors,
    /// PEFT's `adapter_config.json`.
    PeftConfig,
    /// An SVG picture.
    Picture,
    /// A mask of a class for each pixel, with the palette that this program gives it.
    Mask,
    /// A manual page of this program.
    ManualPage,
    /// A recipe. One that is there is never taken for this program's: people write their own lines into it.
    Recipe,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Delta => "a delta",
            Kind::Moments => "moments",
            Kind::Basis => "a basis of moments",
            Kind::Identities => "a file of identities",
            Kind::Retention => "a retention set",
            Kind::Checkpoint => "a checkpoint",
            Kind::Key => "a key",
            Kind::Model => "an ONNX model",
            Kind::Weights => "the weights of an ONNX model",
            Kind::Report => "a training's report",
            Kind::Page => "a training's report as a page",
            Kind::OnnxAdapter => "an adapter of ONNX Runtime",
            Kind::Safetensors => "a safetensors file",
            Kind::PeftConfig => "a configuration of PEFT",
            Kind::Picture => "an SVG picture",
            Kind::Mask => "a mask",
            Kind::ManualPage => "a manual page",
            Kind::Recipe => "a recipe",
        })
    }
}

/// Bytes that tell most kinds.
const HEAD_BYTES: usize = 4096;

impl Kind {
    /// What a file holds; `None` where it is nothing that this program writes.
    fn detect(path: &Path) -> io::Result<Option<Self>> {
        let mut head = Vec::new();
        File::open(path)?.take(HEAD_BYTES as u64).read_to_end(&mut head)?;
        let has = |text: &[u8]| head.windows(text.len()).any(|window| window == text);
        Ok(match &head[..] {
            bytes if bytes.starts_with(&delta::MAGIC) => Some(Kind::Delta),
            bytes if bytes.starts_with(&moments::MAGIC) => Some(Kind::Moments),
            bytes if bytes.starts_with(&moments::BASIS_MAGIC) => Some(Kind::Basis),
            bytes if bytes.starts_with(&identities::MAGIC) => Some(Kind::Identities),
            bytes if bytes.starts_with(retention::MAGIC) => Some(Kind::Retention),
            [b'E', b'D', b'C', b'K', b'P', b'T', ..] => Some(Kind::Checkpoint),
            bytes if bytes.starts_with(b"-----BEGIN ") => Some(Kind::Key),
            [_, _, _, _, b'T', b'O', b'R', b'T', ..] => Some(Kind::OnnxAdapter),
            bytes if bytes.starts_with(b"<svg ") => Some(Kind::Picture),
            _ if has(b"content=\"edgetune report\"") => Some(Kind::Page),
            bytes if bytes.starts_with(b"\x89PNG") && has(b"PLTE\0\0\0\x80\0\0\0\x80\0\x80\x80\0") => Some(Kind::Mask),
            _ if has(b".TH edgetune") => Some(Kind::ManualPage),
            [b'{', ..] => of_json(path)?,
            [_, _, _, _, _, _, _, _, b'{', ..] if has(b"\"dtype\"") => Some(Kind::Safetensors),
            _ => onnx::external_files(path).is_ok().then_some(Kind::Model),
        })
    }

    /// Whether the file at `path`, of the kind `found`, may give way to one of this kind.
    fn replaces(self, found: Option<Kind>, path: &Path) -> bool {
        // Raw weights look like nothing: the model beside them knows.
        let model = || path.with_extension("");
        let belongs = |files: Vec<PathBuf>| files.iter().any(|file| Some(file.as_os_str()) == path.file_name());
        match self {
            Kind::Weights => onnx::external_files(&model()).is_ok_and(belongs),
            _ => found == Some(self),
        }
    }
}

fn of_json(path: &Path) -> io::Result<Option<Kind>> {
    let value: serde_json::Value = serde_json::from_reader(io::BufReader::new(File::open(path)?)).unwrap_or_default();
    let has = |key| value.get(key).is_some();
    Ok(match () {
        () if has("recipe_hash") && has("base_hash") => Some(Kind::Report),
        () if has("peft_type") => Some(Kind::PeftConfig),
        () => None,
    })
}

/// How a command names the model that it reads.
const MODEL: &str = "the model";
/// What is read beside a model without being named.
const BESIDE_A_MODEL: [&str; 5] =
    ["preprocessor_config.json", "config.json", "tokenizer.json", "tokenizer_config.json", "labels.txt"];

/// What a command reads and what it is about to write.
#[derive(Debug, Default)]
pub struct Files {
    /// The option or word that names it, and the file.
    inputs: Vec<(&'static str, PathBuf)>,
    /// Data: a file, or a folder in which everything is a sample.
    data: Vec<(&'static str, PathBuf)>,
    outputs: Vec<(&'static str, PathBuf, Kind)>,
    folders: Vec<(&'static str, PathBuf)>,
    cache: Option<PathBuf>,
}

impl Files {
    /// What a training reads.
    pub fn of_recipe(recipe: &Recipe) -> Self {
        let Recipe { model, data, test, val, from, retention, samples, classes, .. } = recipe;
        let classes = classes.as_ref().map(PathBuf::from);
        let files = Self::default().reads(MODEL, model).reads("--from", from).reads("--classes", &classes);
        files
            .reads("--tokenizer", &samples.tokenizer)
            .data("--data", data)
            .data("--val", val)
            .data("--test", test)
            .data("--retention", &retention.set)
    }

    /// A file that is read.
    pub fn reads<'p>(mut self, what: &'static str, path: impl IntoIterator<Item = &'p PathBuf>) -> Self {
        for path in path {
            self.inputs.push((what, path.clone()));
            let beside = BESIDE_A_MODEL.iter().map(|name| path.with_file_name(name)).filter(|_| what == MODEL);
            self.inputs
                .extend(beside.filter(|path| path.is_file()).map(|path| ("what is read beside the model", path)));
        }
        self
    }

    /// Data that are read.
    pub fn data<'p>(mut self, what: &'static str, path: impl IntoIterator<Item = &'p PathBuf>) -> Self {
        self.data.extend(path.into_iter().map(|path| (what, path.clone())));
        self
    }

    /// A file that is written.
    pub fn writes<'p>(mut self, option: &'static str, path: impl IntoIterator<Item = &'p PathBuf>, kind: Kind) -> Self {
        self.outputs.extend(path.into_iter().map(|path| (option, path.clone(), kind)));
        self
    }

    /// A folder, made where it is missing, and the files that are written into it.
    pub fn fills(mut self, option: &'static str, folder: &Path, files: &[(&str, Kind)]) -> Self {
        self.folders.push((option, folder.into()));
        self.outputs.extend(files.iter().map(|(name, kind)| (option, folder.join(name), *kind)));
        self
    }

    /// The folder of the cache, where one is named.
    pub fn cache(mut self, global: &Global) -> Self {
        self.cache.clone_from(&global.cache);
        self
    }

    /// Holds the rule.
    ///
    /// # Errors
    /// The first output that must not be written, or cannot be, with the option that names it and the remedy.
    pub fn check(&self, replacing: Replacing) -> Result<()> {
        for (option, folder) in &self.folders {
            if folder.exists() && !folder.is_dir() {
                bail!("{option} {}: this is a file; name a folder", folder.display());
            }
            self.refuse_among_samples(option, folder)?;
        }
        for (place, (option, path, kind)) in self.outputs.iter().enumerate() {
            if path.is_dir() {
                bail!("{option} {0}: this is a folder; name a file, such as {0}/{1}", path.display(), example(*kind));
            }
            self.refuse_among_samples(option, path)?;
            let earlier = self.outputs[..place].iter().find(|(_, other, _)| same(other, path));
            if let Some((other, ..)) = earlier {
                bail!("{option} {}: {other} names the same file; give each a file of its own", path.display());
            }
            if let Ok(found) = fs::metadata(path) {
                self.refuse_input(option, path, &found, replacing)?;
                refuse_other_kind(option, path, *kind, &found, replacing)?;
            }
            if !self.folders.iter().any(|(_, folder)| path.starts_with(folder)) {
                refuse_unwritable(option, path)?;
            }
        }
        self.refuse_cache_among_samples()
    }

    fn refuse_among_samples(&self, option: &str, path: &Path) -> Result<()> {
        let folder = self.data.iter().find(|(_, folder)| folder.is_dir() && lies_in(path, folder).is_some());
        match folder {
            Some((data, folder)) => bail!(
                "{option} {}: this is inside {data} {}, where every file is a sample; name a file outside of that folder",
                path.display(),
                folder.display()
            ),
            None => Ok(()),
        }
    }

    /// What is kept among the samples would be taken for a class; hidden folders are not looked at.
    fn refuse_cache_among_samples(&self) -> Result<()> {
        let Some(cache) = &self.cache else { return Ok(()) };
        let visible = |folder: &Path| {
            let inside = lies_in(cache, folder)?;
            (!inside.to_string_lossy().starts_with('.')).then_some(())
        };
        match self.data.iter().find(|(_, folder)| folder.is_dir() && visible(folder).is_some()) {
            Some((data, folder)) => bail!(
                "--cache {}: this is inside {data} {}, where every folder is a class; name a folder outside of it",
                cache.display(),
                folder.display()
            ),
            None => Ok(()),
        }
    }

    /// `found` is the file that an output would replace.
    fn refuse_input(&self, option: &str, path: &Path, found: &Metadata, replacing: Replacing) -> Result<()> {
        let refuse = |what: &str, input: &Path| {
            let (path, input) = (path.display(), input.display());
            bail!("{option} {path}: this file is an input ({what} {input}), and is never replaced; name another file")
        };
        for (what, input) in &self.inputs {
            let beside = input.parent().unwrap_or(Path::new(""));
            // The weights of a model may lie in other files.
            let weights = || onnx::external_files(input).unwrap_or_default().into_iter().map(|file| beside.join(file));
            if is(input, found) {
                refuse(what, input)?;
            }
            if *what == "the model"
                && let Some(weights) = weights().find(|file| is(file, found))
            {
                refuse("the model's weights", &weights)?;
            }
        }
        for (what, samples) in &self.data {
            if is(samples, found) {
                refuse(what, samples)?;
            }
            // No sample is of a kind that is replaced without being asked for.
            if replacing.force {
                let named = || data::file_in_table(samples, &|file| is(file, found));
                let sample = if samples.is_dir() { holding(samples, found, DEPTH) } else { named() };
                sample.map_or(Ok(()), |sample| refuse(what, &sample))?;
            }
        }
        Ok(())
    }
}

/// Folders in folders that are looked through: links may lead round.
const DEPTH: u32 = 4;

/// The file below a folder that is `found`, also as a link.
fn holding(folder: &Path, found: &Metadata, depth: u32) -> Option<PathBuf> {
    let mut paths = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    paths.find_map(|path| match path.is_dir() {
        true if depth > 0 => holding(&path, found, depth - 1),
        true => None,
        false => is(&path, found).then_some(path),
    })
}

fn refuse_other_kind(option: &str, path: &Path, kind: Kind, found: &Metadata, replacing: Replacing) -> Result<()> {
    if !found.is_file() {
        bail!("{option} {}: this is a device or a pipe, which cannot be replaced; name a file", path.display());
    }
    // Nothing is lost with an empty file.
    if replacing.force || found.len() == 0 {
        return Ok(());
    }
    let there =
        Kind::detect(path).map_err(|source| anyhow!("{option} {}: {source}; name another file", path.display()))?;
    if kind.replaces(there, path) {
        return Ok(());
    }
    let what = there.map_or("something else".into(), |kind| kind.to_string());
    bail!(
        "{option} {}: there is a file already, and it is not {kind} but {what}; name another file, or add --force to replace it",
        path.display()
    )
}

/// A run must not find out at its end that its result has no place.
fn refuse_unwritable(option: &str, path: &Path) -> Result<()> {
    atomic::probe(path).map_err(|source| {
        anyhow!("{option} {}: {source}; name a file in a folder that exists and is writable", path.display())
    })
}

fn example(kind: Kind) -> &'static str {
    match kind {
        Kind::Delta => "adapter.edelta",
        Kind::Moments => "device.emoments",
        Kind::Basis => "model.ebasis",
        Kind::Retention => "base.retention",
        Kind::Model => "model.onnx",
        Kind::Report => "report.json",
        Kind::Picture => "plot.svg",
        _ => "file",
    }
}

/// Whether a path leads to that file, by device and inode.
fn is(path: &Path, file: &Metadata) -> bool {
    fs::metadata(path).is_ok_and(|found| (found.dev(), found.ino()) == (file.dev(), file.ino()))
}

/// Whether two paths lead to one file, be it there or not.
fn same(one: &Path, other: &Path) -> bool {
    fs::metadata(other).map_or_else(|_| resolved(one) == resolved(other), |found| is(one, &found))
}

/// The path from a folder to what lies below it.
fn lies_in(path: &Path, folder: &Path) -> Option<PathBuf> {
    let folder = folder.canonicalize().ok()?;
    resolved(path).strip_prefix(folder).ok().map(Path::to_path_buf)
}

/// The path without links, as far as it is there. What is replaced is the name, so the last link is not followed.
fn resolved(path: &Path) -> PathBuf {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let Some(name) = path.file_name() else { return path.canonicalize().unwrap_or_else(|_| path.into()) };
    match parent.canonicalize() {
        Ok(parent) => parent.join(name),
        Err(_) if parent == path || parent == Path::new(".") => path.into(),
        Err(_) => resolved(parent).join(name),
    }
}
