//! NumPy arrays: `.npz` files, and folders with `x.npy` and `y.npy`.
//!
//! Takes files, gives tensors with the samples along the first axis, over the mapped files where that can be (see `npy.rs`).

use super::groups::Groups;
use super::labels::{self, Cells, IGNORED, Labels, NO_MASKS, Target};
use super::npy::Array;
use super::{Error, Options, columns, filesystem, own, tagged};
use crate::amounts::counted;
use crate::graph::{DType, Tensor};
use crate::mapped;
use crate::nearest::suggestion;
use crate::order::gathered;
use bytes::Bytes;
use ndarray::Array2;
use std::fs;
use std::io::{self, Cursor, Read};
use std::path::Path;

/// Names under which arrays of labels are looked for.
const LABEL_KEYS: [&str; 5] = ["y", "label", "labels", "target", "targets"];
/// Names under which arrays of groups are looked for.
const GROUP_KEYS: [&str; 4] = ["group", "groups", "subject", "subjects"];

/// Arrays that have been read: one tensor `[samples, …]` a model input.
pub(super) struct Arrays {
    pub inputs: Vec<(String, Tensor)>,
    pub labels: Labels,
    pub groups: Option<Groups>,
    /// What a person should know of how they were read.
    pub notes: Vec<String>,
}

/// Reads a `.npz` file, or `x.npy` with `y.npy` beside it.
///
/// # Errors
/// Missing arrays, element types or orders that are not read, values that are not finite, counts that differ.
pub(super) fn open(path: &Path, options: &Options, labelled: bool) -> Result<Arrays, Error> {
    let mut arrays = match path.extension().and_then(|extension| extension.to_str()) {
        Some("npz") => read_npz(path, options.limits.table_bytes_max)?,
        _ => read_npy_pair(path, options.limits.table_bytes_max, labelled)?,
    };
    if let ([(_, array)], false, Some(Some(wanted))) = (&mut arrays[..], labelled, options.shapes.first()) {
        // A file for one sample has no axis for many, as those in class folders.
        let axes = array.shape.len();
        if axes == wanted.len() || (axes == 1 && !wanted.is_empty()) {
            array.shape.insert(0, 1);
        }
    }
    let labels = take_labels(path, &mut arrays, options, labelled)?;
    let groups = take_groups(path, &mut arrays, options)?;
    let inputs = take_inputs(path, arrays, options)?;
    let samples = inputs[0].1.shape[0];
    for (name, tensor) in &inputs {
        if tensor.shape[0] != samples {
            let problem =
                format!("`{name}` has {}, `{}` has {samples}", counted(tensor.shape[0], "sample"), inputs[0].0);
            return Err(Error::content(path, problem));
        }
    }
    let labels = labels.unwrap_or(Labels::Unlabelled(samples as usize));
    if labels.len() as u64 != samples {
        return Err(Error::content(
            path,
            format!("{} but {}", counted(samples, "sample"), counted(labels.len(), "label")),
        ));
    }
    if let Some((_, count)) = groups.as_ref().filter(|(_, count)| *count != samples) {
        return Err(Error::content(path, format!("{} but {}", counted(samples, "sample"), counted(count, "group"))));
    }
    let groups = groups.map(|(groups, _)| groups);
    let notes = groups.iter().filter(|_| options.group.is_none());
    let notes = notes
        .map(|groups| format!("columns   group: {}; setting `samples.group = NAME` to change", groups.source))
        .collect();
    Ok(Arrays { inputs, labels, groups: groups.filter(|_| options.splits), notes })
}

/// The array that tells groups, with its length. It is no input of the model, whether groups are asked for or not.
fn take_groups(
    path: &Path,
    arrays: &mut Vec<(String, Array)>,
    options: &Options,
) -> Result<Option<(Groups, u64)>, Error> {
    let is_input = |name: &String| options.inputs.iter().any(|(input, _)| input == name);
    let wanted: Vec<&str> = match options.group.as_deref() {
        Some(columns::NO_GROUPS) => return Ok(None),
        Some(named) => vec![named],
        None => GROUP_KEYS.to_vec(),
    };
    let Some(place) = arrays.iter().position(|(name, _)| wanted.contains(&name.as_str()) && !is_input(name)) else {
        return match options.group.as_deref().filter(|_| options.splits) {
            None => Ok(None),
            Some(named) => {
                let have = arrays.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
                let meant = suggestion(named, arrays.iter().map(|(name, _)| name.as_str()));
                let problem =
                    format!("no array `{named}` that tells groups (found {have}){meant}; save one under that name");
                Err(Error::content(path, problem))
            }
        };
    };
    let (name, array) = arrays.swap_remove(place);
    if array.shape.len() != 1 {
        let problem = format!("`{name}`: groups of shape {:?}; give [samples]", array.shape);
        return Err(Error::content(path, problem));
    }
    let mut groups = Groups::new(format!("array `{name}`"));
    (0..array.len()).for_each(|place| groups.push(&array.text(place)));
    Ok(Some((groups, array.len() as u64)))
}

fn read_npz(path: &Path, bytes_max: u64) -> Result<Vec<(String, Array)>, Error> {
    let fail = |problem: String| Error::content(path, format!("no readable .npz file ({problem})"));
    let file = filesystem::map_at_most(path, bytes_max).map_err(|source| Error::io(path, source))?;
    let cut_off = || fail("it is cut off or damaged; copy it again".into());
    let mut archive = zip::ZipArchive::new(Cursor::new(&file[..])).map_err(|_| cut_off())?;
    let mut left = bytes_max;
    let mut arrays = Vec::new();
    for place in 0..archive.len() {
        let entry = archive.by_index(place).map_err(|error| match error {
            zip::result::ZipError::UnsupportedArchive(what) => fail(format!("{what}; save it with numpy.savez")),
            _ => cut_off(),
        })?;
        let Some(name) = entry.name().strip_suffix(".npy").map(str::to_string) else { continue };
        let bytes = read_entry(entry, &file, left).map_err(|error| match error.to_string().contains("checksum") {
            true => fail("it is damaged: a checksum in it does not fit; copy it again".into()),
            false => cut_off(),
        })?;
        left = left.checked_sub(bytes.len() as u64).ok_or_else(|| fail(format!("more than {bytes_max} bytes")))?;
        let array = Array::parse(&bytes).map_err(|problem| Error::content(path, format!("`{name}`: {problem}")))?;
        arrays.push((name, array));
    }
    Ok(arrays)
}

/// What an entry of an archive holds, at most `left` bytes and one more, which tells a bomb from an array that just fits:
/// the size in the header may lie. What `np.savez` has stored as it is stays in the file; it is read once for its checksum.
fn read_entry(entry: zip::read::ZipFile<'_, Cursor<&[u8]>>, file: &Bytes, left: u64) -> io::Result<Bytes> {
    let stored = entry.compression() == zip::CompressionMethod::Stored;
    let start = entry.data_start();
    let mut content = entry.take(left.saturating_add(1));
    if !stored {
        let mut bytes = Vec::new();
        content.read_to_end(&mut bytes)?;
        return Ok(bytes.into());
    }
    let length = io::copy(&mut content, &mut io::sink())?;
    let range = usize::try_from(start).ok().zip(usize::try_from(start + length).ok());
    let (start, end) = range.filter(|(_, end)| *end <= file.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
    mapped::forget_pages(&file[start..end]);
    Ok(file.slice(start..end))
}

fn read_npy_pair(path: &Path, bytes_max: u64, labelled: bool) -> Result<Vec<(String, Array)>, Error> {
    let read = |path: &Path| {
        let bytes = filesystem::map_at_most(path, bytes_max).map_err(|source| Error::io(path, source))?;
        Array::parse(&bytes).map_err(|problem| Error::content(path, problem))
    };
    let mut arrays = vec![("x".to_string(), read(path)?)];
    if labelled {
        let labels = path.with_file_name("y.npy");
        if !fs::exists(&labels).unwrap_or(false) {
            return Err(Error::content(path, "no labels; put them beside it as y.npy"));
        }
        arrays.push(("y".to_string(), read(&labels)?));
    }
    Ok(arrays)
}

fn take_labels(
    path: &Path,
    arrays: &mut Vec<(String, Array)>,
    options: &Options,
    labelled: bool,
) -> Result<Option<Labels>, Error> {
    let wanted: Vec<&str> = match &options.label[..] {
        [] => LABEL_KEYS.to_vec(),
        named => named.iter().map(String::as_str).collect(),
    };
    if options.target == Target::OfLoss && labelled {
        return own::take(path, arrays, options).map(|rows| Some(Labels::OfLoss(rows)));
    }
    let is_input = |name: &String| options.inputs.iter().any(|(input, _)| input == name);
    let place = arrays.iter().position(|(name, _)| wanted.contains(&name.as_str()) && !is_input(name));
    let found = place.map(|place| arrays.swap_remove(place));
    match found {
        Some((name, array)) if labelled => {
            let labels = array_labels(&array, options, &|row, problem| {
                Error::content(path, format!("`{name}`, row {row}: {problem}"))
            });
            labels.map(Some)
        }
        None if labelled => {
            let problem = format!("no array of labels ({}); save one under that name", wanted.join(" or "));
            Err(Error::content(path, problem))
        }
        _ => Ok(None),
    }
}

/// `[samples]` or `[samples, k]` numbers as labels.
fn array_labels(array: &Array, options: &Options, at: &dyn Fn(usize, String) -> Error) -> Result<Labels, Error> {
    let (rows, columns) = match array.shape[..] {
        [rows] => (rows as usize, 1),
        [rows, columns] if columns > 0 => (rows as usize, columns as usize),
        _ => return Err(at(0, format!("labels of shape {:?}; give [samples] or [samples, targets]", array.shape))),
    };
    if array.is_text() {
        let mut cells = Cells::default();
        for row in 0..rows {
            let row: Vec<String> = (0..columns).map(|column| array.text(row * columns + column)).collect();
            cells.push(row.iter().map(String::as_str));
        }
        return labels::read(&cells, options.target, options.classes.as_deref(), at);
    }
    let number = |place: usize| array.number(place);
    if let Some(place) = (0..rows * columns).find(|place| !number(*place).is_finite()) {
        return Err(at(place / columns, "a label that is not finite".into()));
    }
    match options.target {
        Target::MultiLabel => return array_sets(rows, columns, &number, options.classes.as_deref(), at),
        Target::Values => {
            let value = |(row, column)| number(row * columns + column) as f32;
            return Ok(Labels::Values(Array2::from_shape_fn((rows, columns), value)));
        }
        Target::Classes | Target::Ordinal if columns > 1 => {
            let problem = format!(
                "{columns} columns of labels for one class a sample; give one, or for a class of each token setting `loss = \
                 token-cross-entropy`"
            );
            return Err(at(0, problem));
        }
        Target::Classes | Target::Ordinal => {
            if let Some(place) = (0..rows * columns).find(|place| number(*place).fract() != 0.0) {
                let problem =
                    format!("{} is no class number; setting `loss = mse` learns numbers to predict", number(place));
                return Err(at(place / columns, problem));
            }
        }
        Target::Pixels => return Err(at(0, NO_MASKS.into())),
        Target::Tokens => return array_tokens(rows, columns, &number, options.classes.as_deref(), at),
        // Identities and anomalies are opened as classes.
        Target::NextTokens
        | Target::OfLoss
        | Target::Boxes
        | Target::Lines
        | Target::Identities
        | Target::Anomalies => {}
    }
    let mut cells = Cells::default();
    for row in 0..rows {
        let row: Vec<String> = (0..columns).map(|column| number(row * columns + column).to_string()).collect();
        cells.push(row.iter().map(String::as_str));
    }
    labels::read(&cells, options.target, options.classes.as_deref(), at)
}

/// A class number for each token, −100 where none counts.
fn array_tokens(
    rows: usize,
    columns: usize,
    number: &dyn Fn(usize) -> f64,
    known: Option<&[String]>,
    at: &dyn Fn(usize, String) -> Error,
) -> Result<Labels, Error> {
    let most = known.map_or(tagged::CLASSES_MAX, <[String]>::len) as f64;
    let is_class = |value: f64| value == IGNORED as f64 || (value.fract() == 0.0 && (0.0..most).contains(&value));
    if let Some(place) = (0..rows * columns).find(|place| !is_class(number(*place))) {
        let problem = format!(
            "{} is no class number from 0 to {}, nor {IGNORED} for a token that does not count",
            number(place),
            most - 1.0
        );
        return Err(at(place / columns, problem));
    }
    let labels = Array2::from_shape_fn((rows, columns), |(row, column)| number(row * columns + column) as i64);
    let largest = labels.iter().copied().max().unwrap_or(IGNORED);
    if largest < 0 {
        return Err(at(0, format!("no token counts: all labels are {IGNORED}")));
    }
    let names = known.map_or_else(|| (0..=largest).map(|class| class.to_string()).collect(), <[String]>::to_vec);
    Ok(Labels::Tokens { names, rows: labels })
}

/// 0/1 columns, one a class.
fn array_sets(
    rows: usize,
    columns: usize,
    number: &dyn Fn(usize) -> f64,
    known: Option<&[String]>,
    at: &dyn Fn(usize, String) -> Error,
) -> Result<Labels, Error> {
    let names: Vec<String> = known.map_or_else(|| (0..columns).map(|c| c.to_string()).collect(), <[String]>::to_vec);
    if names.len() != columns {
        return Err(at(0, format!("{columns} columns for the model's {} classes", names.len())));
    }
    if let Some(place) = (0..rows * columns).find(|place| ![0.0, 1.0].contains(&number(*place))) {
        return Err(at(place / columns, format!("{} is neither 0 nor 1", number(place))));
    }
    let rows = Array2::from_shape_fn((rows, columns), |(row, column)| number(row * columns + column) as f32);
    Ok(Labels::MultiLabel { names, rows })
}

fn take_inputs(path: &Path, arrays: Vec<(String, Array)>, options: &Options) -> Result<Vec<(String, Tensor)>, Error> {
    let names: Vec<String> = arrays.iter().map(|(name, _)| name.clone()).collect();
    let mut arrays: std::collections::BTreeMap<String, Array> = gathered(arrays);
    let tensor = |name: &str, array: Array, dtype: Option<DType>| {
        let fail = |problem: String| Error::content(path, format!("`{name}`: {problem}"));
        // An axis of size 0 would let a few bytes claim any number of samples.
        match array.shape.is_empty() || array.shape.contains(&0) {
            true => Err(fail(format!("shape {:?} holds no samples along its first axis", array.shape))),
            false => array.tensor(dtype).map_err(fail),
        }
    };
    if options.inputs.is_empty() {
        if let Some(array) = arrays.remove("x") {
            return Ok(vec![(String::new(), tensor("x", array, None)?)]);
        }
        if arrays.is_empty() {
            return Err(Error::content(path, "no arrays; save the samples as `x`"));
        }
        return arrays.into_iter().map(|(name, array)| Ok((name.clone(), tensor(&name, array, None)?))).collect();
    }
    let only = options.inputs.len() == 1;
    let found = options.inputs.iter().map(|(name, dtype)| {
        let array = arrays.remove(name).or_else(|| only.then(|| arrays.remove("x")).flatten()).ok_or_else(|| {
            let have = names.join(", ");
            Error::content(
                path,
                format!("no array `{name}` for the model's input (found {have}); save one under that name"),
            )
        })?;
        Ok((name.clone(), tensor(name, array, Some(*dtype))?))
    });
    found.collect()
}
