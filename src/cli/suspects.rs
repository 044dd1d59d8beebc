//! What `edgetune data check` found: told, and set aside.

use super::moments::Looked;
use super::print::{Printer, percent};
use crate::data::Labels;
use crate::learn::{LabelError, curve_line, curve_of, label_errors};
use crate::suspect::{Neighbours, Outlier, Pair};
use crate::train::solve::LearningCurve;
use anyhow::{Context, Result, bail};
use serde::Serialize;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

/// Lines of a kind that a person is shown.
const SHOWN: usize = 10;

/// Everything that should be looked at, the clearest of each kind first.
#[derive(Debug, Serialize)]
pub struct Suspects {
    samples: usize,
    label_errors: Vec<LabelError>,
    /// Whether labels are of a kind that is judged.
    #[serde(skip)]
    are_judged: bool,
    duplicates: Vec<Duplicate>,
    outliers: Vec<Far>,
    leakage: Vec<Duplicate>,
    unreadable: Vec<Unreadable>,
    /// Whether more samples would help; null where that cannot be told.
    learning_curve: Option<LearningCurve>,
}

/// A sample that is nearly the same as an earlier one, or as one that is learned from.
#[derive(Debug, Serialize)]
struct Duplicate {
    sample: String,
    of: String,
    /// A share of the usual distance to the nearest neighbour.
    distance: f64,
    same_label: bool,
}

/// A sample that is like no other.
#[derive(Debug, Serialize)]
struct Far {
    sample: String,
    /// A multiple of the usual distance to the nearest neighbours.
    distance: f64,
}

/// A file that is no sample.
#[derive(Debug, Serialize)]
struct Unreadable {
    sample: PathBuf,
    reason: String,
}

/// Finds what should be looked at in data, and in what is measured by.
pub fn find_suspects(looked: Looked, tested: Option<Looked>, stop: &AtomicBool) -> Suspects {
    let are_judged = matches!(looked.dataset.labels(), Labels::Classes { .. } | Labels::Values(_));
    let neighbours = Neighbours::new(looked.rows.view());
    let (duplicates, far) = (neighbours.duplicates(), neighbours.outliers());
    let leakage = tested.as_ref().map_or(Vec::new(), |tested| neighbours.shared_with(tested.rows.view()));
    let name = |of: &Looked, row: usize| of.dataset.name(of.samples[row]);
    let same = |pair: &Pair, other: &Looked| {
        label(&looked, pair.first).is_some() && label(&looked, pair.first) == label(other, pair.second)
    };
    let duplicate = |pair: &Pair, other: &Looked| Duplicate {
        sample: name(other, pair.second),
        of: name(&looked, pair.first),
        distance: pair.distance,
        same_label: same(pair, other),
    };
    let lonely = |Outlier { row, distance }: &Outlier| Far { sample: name(&looked, *row), distance: *distance };
    Suspects {
        samples: looked.samples.len(),
        duplicates: duplicates.iter().map(|pair| duplicate(pair, &looked)).collect(),
        leakage: tested
            .as_ref()
            .map_or(Vec::new(), |tested| leakage.iter().map(|pair| duplicate(pair, tested)).collect()),
        outliers: far.iter().map(lonely).collect(),
        unreadable: unreadable(&looked),
        learning_curve: curve_of(&looked.dataset, &looked.samples, &looked.rows, stop),
        label_errors: label_errors(&looked.dataset, &looked.samples, looked.rows).unwrap_or_default(),
        are_judged,
    }
}

fn unreadable(looked: &Looked) -> Vec<Unreadable> {
    let one = |(file, reason): &(PathBuf, String)| Unreadable { sample: file.clone(), reason: reason.clone() };
    looked.report.skipped.iter().map(one).collect()
}

/// A row's label, as far as labels can be equal.
fn label(of: &Looked, row: usize) -> Option<String> {
    match of.dataset.labels() {
        Labels::Classes { names, index } | Labels::Ordinal { names, index } => {
            Some(names[index[of.samples[row]] as usize].clone())
        }
        Labels::Values(values) => Some(format!("{:?}", values.row(of.samples[row]))),
        Labels::MultiLabel { rows, .. } => Some(format!("{:?}", rows.row(of.samples[row]))),
        _ => None,
    }
}

/// Prints what was found.
pub fn tell(found: &Suspects, printer: &Printer) {
    printer.document(found);
    let of = found.samples;
    if !found.are_judged {
        printer.note("labels    are judged where each sample has one class or numbers: those of these data are not");
    }
    section("wrong labels, probably", &found.label_errors, of, printer, |one| {
        let LabelError { sample, given, likely, .. } = one;
        match (one.given_probability, one.likely_probability) {
            (Some(given_share), Some(likely_share)) => {
                format!(
                    "{sample}: given {given} ({}), likely {likely} ({})",
                    percent(given_share),
                    percent(likely_share)
                )
            }
            _ => format!("{sample}: given {given}, expected {likely}"),
        }
    });
    let duplicate = |Duplicate { sample, of, same_label, .. }: &Duplicate| {
        let label = if *same_label { "" } else { ", with another label" };
        format!("{sample} is nearly {of}{label}")
    };
    section("duplicates", &found.duplicates, of, printer, duplicate);
    section("like no other", &found.outliers, of, printer, |Far { sample, distance }| {
        format!("{sample}: {distance:.1} times as far from its neighbours as is usual")
    });
    section("learned and measured by", &found.leakage, of, printer, duplicate);
    section("unreadable", &found.unreadable, of, printer, |Unreadable { sample, reason }| {
        format!("{}: {reason}", sample.display())
    });
    let nothing = found.label_errors.is_empty()
        && found.duplicates.is_empty()
        && found.outliers.is_empty()
        && found.leakage.is_empty()
        && found.unreadable.is_empty();
    if nothing {
        printer.text(format!("nothing to look at in {of} samples"));
    }
    if let Some(curve) = &found.learning_curve {
        printer.text(curve_line(curve));
    }
}

/// A heading with the number of what was found, and the first of it; nothing where nothing was.
fn section<T>(what: &str, found: &[T], of: usize, printer: &Printer, line: impl Fn(&T) -> String) {
    if found.is_empty() {
        return;
    }
    printer.text(format!("{what}: {} of {of} samples", found.len()));
    found.iter().take(SHOWN).for_each(|one| printer.text(format!("  {}", line(one))));
    if found.len() > SHOWN {
        printer.text(format!("  … and {} more: --json lists all", found.len() - SHOWN));
    }
}

/// Moves the files of wrong labels and of later duplicates into folders of their own.
///
/// # Errors
/// Samples that are no files; a file that cannot be moved, or that would replace another.
pub fn set_aside(found: &Suspects, folder: &Path, printer: &Printer) -> Result<()> {
    let wrong = found.label_errors.iter().map(|one| (&one.sample, folder.join("label-errors").join(plain(&one.given))));
    let twice = found.duplicates.iter().map(|one| (&one.sample, folder.join("duplicates")));
    let mut moves: Vec<(PathBuf, PathBuf)> = Vec::new();
    for (sample, to) in wrong.chain(twice) {
        let from = PathBuf::from(sample);
        if !from.is_file() {
            bail!(
                "--fix: {sample} is no file of its own that could be moved; take such samples out of their table by hand (--json lists them)"
            );
        }
        let Some(name) = from.file_name() else { continue };
        let to = to.join(name);
        if !moves.iter().any(|(known, _)| *known == from) {
            moves.push((from, to));
        }
    }
    if let Some((_, to)) = moves.iter().find(|(_, to)| to.exists()) {
        bail!("--fix: {} is there already; name another folder", to.display());
    }
    let mut moved = 0;
    for (from, to) in &moves {
        if to.exists() {
            printer.warn(format!("{} stays: another file of its name was moved already", from.display()));
            continue;
        }
        let parent = to.parent().unwrap_or(folder);
        fs::create_dir_all(parent).with_context(|| parent.display().to_string())?;
        rename(from, to).with_context(|| format!("cannot move {} to {}", from.display(), to.display()))?;
        moved += 1;
    }
    printer.text(format!("moved {moved} files into {}", folder.display()));
    Ok(())
}

/// A class's name as a folder's.
fn plain(name: &str) -> String {
    name.replace('/', "_")
}

/// Moves a file, to another file system by copying.
fn rename(from: &Path, to: &Path) -> std::io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() == std::io::ErrorKind::CrossesDevices => {
            fs::copy(from, to)?;
            fs::remove_file(from)
        }
        done => done,
    }
}
