//! Delta files as the commands handle them: reading, writing, keys, and the choice of an encoding by measurement.

use super::args::{Compute, Global};
use super::print::{Printer, bytes};
use super::stop::flag_on_signals;
use crate::delta::{self, Delta, EncodingChoice};
use crate::engine;
use crate::learn::samples::{self, inputs_of};
use crate::learn::{Forward, increase_max};
use crate::recipe::Reading;
use crate::task;
use crate::train::artifact::{self, Adapter};
use anyhow::{Context, Result, bail};
use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// A delta's file in memory.
pub struct File {
    path: PathBuf,
    /// All of it.
    pub bytes: Vec<u8>,
}

impl File {
    /// Reads a file, whatever it is; no more of it than a delta can have.
    pub fn read(path: &Path) -> Result<Self> {
        let mut bytes = Vec::new();
        let open = std::fs::File::open(path)
            .and_then(|file| file.take(delta::DELTA_BYTES_MAX as u64 + 1).read_to_end(&mut bytes));
        open.with_context(|| path.display().to_string())?;
        Ok(Self { path: path.into(), bytes })
    }

    /// The delta in it.
    pub fn parsed(&self) -> Result<Delta<'_>> {
        Delta::parse(&self.bytes).with_context(|| self.path.display().to_string())
    }
}

/// Whether a file begins as a delta does.
pub fn is_delta(path: &Path) -> Result<bool> {
    let mut start = [0; 4];
    let read = std::fs::File::open(path).and_then(|mut file| file.read(&mut start));
    Ok(read.with_context(|| path.display().to_string())? == 4 && start == delta::MAGIC)
}

/// Writes a delta and tells of it.
pub fn write(path: &Path, delta: &[u8], printer: &Printer) -> Result<()> {
    artifact::save(path, delta)?;
    printer.document(&serde_json::json!({ "delta": path, "bytes": delta.len() }));
    printer.text(format!("{}: {}", path.display(), bytes(delta.len() as u64)));
    Ok(())
}

/// Writes a file that must not be there yet.
pub fn create_new(path: &Path, text: &str, mode: u32) -> Result<()> {
    let created = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let written = created.and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()));
    written.with_context(|| format!("{}: keys are never written over; name another file", path.display()))
}

/// What an encoding is chosen by.
pub struct Bound<'a> {
    /// The delta's base.
    pub model: &'a Path,
    /// What the loss is measured on.
    pub data: &'a Path,
    /// How the data is read.
    pub reading: &'a Reading,
    /// How ONNX Runtime computes.
    pub compute: &'a Compute,
    /// By how much the loss may grow, if not by [`increase_max`].
    pub increase_max: Option<f64>,
}

impl Bound<'_> {
    /// The smallest of all encodings whose loss stays within the bound. All are measured in one pass over the data.
    pub fn smallest(&self, file: &File, global: &Global, printer: &Printer) -> Result<Vec<u8>> {
        let began = Instant::now();
        let delta = file.parsed()?;
        let choices = EncodingChoice::TRIED;
        let recoded = choices.iter().map(|choice| delta::convert(&delta, *choice)).collect::<Result<Vec<_>, _>>();
        let recoded = recoded.with_context(|| file.path.display().to_string())?;
        let adapter = Adapter::from_bytes(&file.path, &file.bytes)?;
        engine::load(&global.choice())?;
        let base = adapter.base(self.model)?;
        let (bundle, values) = adapter.bundle(&base, &global.bundles()?)?;
        let mut sets = vec![values];
        for bytes in &recoded {
            sets.push(Adapter::from_bytes(&file.path, bytes)?.values_for(&bundle));
        }
        let classes = (!adapter.labels.is_empty()).then(|| adapter.labels.clone());
        let preprocessing = samples::of_adapter(&adapter.preprocessing, self.data, printer);
        let target = task::of_wire(adapter.task).target;
        let reading = samples::with_tokenizer(self.reading.clone(), &base, (None, &preprocessing), printer);
        let options = samples::options(preprocessing.clone(), reading, &inputs_of(&base), target, classes);
        let (dataset, _) = samples::open(self.data, &options, printer)?;
        let dataset = Arc::new(dataset);
        samples::refuse_other_width(&dataset, bundle.width)?;
        let stop = flag_on_signals()?;
        let context = &global.context(self.compute, began, &stop, printer)?;
        let options = &context.computing.options();
        let forward = Forward { context, bundle: &bundle, options, preprocessing: &preprocessing };
        let all: Vec<usize> = (0..dataset.len()).collect();
        let sets: Vec<&[Vec<f32>]> = sets.iter().map(Vec::as_slice).collect();
        let Some(answers) = forward.measure("measuring", &dataset, &all, (&sets, &adapter.loss))? else {
            bail!("stopped; nothing was written")
        };
        context.observer.warn_once(&answers.warnings);
        let (before, after) = answers.found.split_first().context("nothing was measured")?;
        for ((choice, recoded), metrics) in choices.iter().zip(&recoded).zip(after) {
            let accuracy = metrics.accuracy.map_or(String::new(), |accuracy| format!(", accuracy {accuracy:.4}"));
            let (size, loss) = (recoded.len(), metrics.loss);
            printer.note(format!("{choice}: {size} bytes, loss {loss:.4} ({:+.4}){accuracy}", loss - before.loss));
        }
        let bound = self.increase_max.unwrap_or_else(|| increase_max(&adapter.loss, before.loss));
        let within = recoded.into_iter().zip(after).filter(|(_, after)| after.loss - before.loss <= bound);
        let smallest = within.map(|(recoded, _)| recoded).min_by_key(Vec::len);
        smallest.with_context(|| format!("no encoding keeps the loss within +{bound}; raise the bound"))
    }
}
