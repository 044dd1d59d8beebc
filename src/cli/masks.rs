//! Masks that `predict` writes: a PNG for each picture, as large as the picture.

use super::outputs::{Files, Kind, Replacing};
use crate::atomic::write_atomically;
use crate::data::{Dataset, mask_png};
use crate::delta::Task;
use crate::learn::Context;
use crate::predict::{Prediction, Samples};
use crate::recipe::Error;
use crate::train::artifact::Adapter;
use anyhow::{Result, bail, ensure};
use clap::Args;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Where masks are written to.
#[derive(Debug, Clone, Default, Args)]
pub struct MaskArgs {
    /// Write each picture's mask into this folder
    ///
    /// A PNG as large as the picture, with a palette: the class number a pixel, and 255 where the model does not look.
    #[arg(long, value_name = "DIR")]
    pub masks: Option<PathBuf>,
    /// Replace a file there that is no mask
    #[command(flatten)]
    pub replacing: Replacing,
}

/// Predicts a class for each pixel, and writes it where that was asked for; `None` if it was stopped.
///
/// # Errors
/// Two pictures of one name; a file that must not be replaced, or cannot be written.
pub fn predict(samples: &Samples<'_>, args: &MaskArgs, context: &Context<'_>) -> Result<Option<Vec<Prediction>>> {
    let files = args.masks.as_deref().map(|folder| named(folder, &samples.dataset, args.replacing)).transpose()?;
    let mut all = Vec::new();
    let done = samples.masks(context, &mut |sample, mut prediction| {
        let mask = prediction.answer.mask.take();
        if let (Some(files), Some(mask)) = (&files, mask) {
            write(&samples.dataset, sample, &mask.classes, &files[sample])?;
            prediction.mask = Some(files[sample].clone());
        }
        all.push(prediction);
        Ok(())
    })?;
    Ok(done.then_some(all))
}

/// Refuses a folder for masks where there will be none.
///
/// # Errors
/// An adapter of another task.
pub fn refuse_without(adapter: &Adapter, args: &MaskArgs) -> Result<()> {
    let is_of_pixels = adapter.task == Task::Segmentation;
    ensure!(is_of_pixels || args.masks.is_none(), "--masks: the adapter gives no class for each pixel; remove it");
    Ok(())
}

/// The mask's file of each sample.
fn named(folder: &Path, dataset: &Dataset, replacing: Replacing) -> Result<Vec<PathBuf>> {
    let mut known: BTreeMap<String, String> = BTreeMap::new();
    let mut names = Vec::with_capacity(dataset.len());
    for sample in 0..dataset.len() {
        let picture = dataset.name(sample);
        let stem = Path::new(&picture).file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        let name = format!("{stem}.png");
        if let Some(other) = known.insert(name.clone(), picture.clone()) {
            bail!(
                "--masks: {picture} and {other} would have the same mask {name}; predict them one after the other into two folders"
            );
        }
        names.push(name);
    }
    let written: Vec<(&str, Kind)> = names.iter().map(|name| (name.as_str(), Kind::Mask)).collect();
    Files::default().fills("--masks", folder, &written).check(replacing)?;
    std::fs::create_dir_all(folder)?;
    Ok(names.into_iter().map(|name| folder.join(name)).collect())
}

fn write(dataset: &Dataset, sample: usize, seen: &[u8], file: &Path) -> Result<(), Error> {
    let Some((mask, width, height)) = dataset.whole_mask(sample, seen)? else { return Ok(()) };
    let png = mask_png(&mask, width, height).map_err(Error::Refused)?;
    let written = write_atomically(file, |writer| writer.write_all(&png));
    written.map_err(|error| Error::Refused(format!("{}: cannot be written ({error})", file.display())))
}
