//! NumPy arrays: `.npz` files, and folders with `x.npy` and `y.npy`.
//!
//! Takes bytes, gives tensors with the samples along the first axis. The header (NumPy's format 1.0 to 3.0) is checked
//! against the bytes that are there before anything is allocated.

use super::labels::{self, Labels, Target};
use super::{Error, Options};
use crate::graph::{DType, Tensor};
use ndarray::Array2;
use std::fs;
use std::io::{Cursor, Read};
use std::path::Path;

/// Names under which arrays of labels are looked for.
const LABEL_KEYS: [&str; 3] = ["y", "label", "labels"];

/// An array of numbers, row-major.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Array {
    pub shape: Vec<u64>,
    pub numbers: Numbers,
}

/// Elements, narrowed to what models take.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Numbers {
    Floats(Vec<f32>),
    Integers(Vec<i64>),
}

/// Arrays that have been read: one tensor `[samples, …]` a model input.
pub(super) struct Arrays {
    pub inputs: Vec<(String, Tensor)>,
    pub labels: Labels,
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
    let labels = take_labels(path, &mut arrays, options, labelled)?;
    let inputs = take_inputs(path, arrays, options)?;
    let samples = inputs[0].1.shape[0];
    for (name, tensor) in &inputs {
        if tensor.shape[0] != samples {
            let problem = format!("`{name}` has {} samples, `{}` has {samples}", tensor.shape[0], inputs[0].0);
            return Err(Error::content(path, problem));
        }
    }
    let labels = labels.unwrap_or(Labels::Unlabelled(samples as usize));
    if labels.len() as u64 != samples {
        return Err(Error::content(path, format!("{samples} samples but {} labels", labels.len())));
    }
    Ok(Arrays { inputs, labels })
}

fn read_npz(path: &Path, bytes_max: u64) -> Result<Vec<(String, Array)>, Error> {
    let fail = |problem: String| Error::content(path, format!("no readable .npz file ({problem})"));
    let bytes = super::folder::read_at_most(path, bytes_max).map_err(|source| Error::io(path, source))?;
    let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).map_err(|error| fail(error.to_string()))?;
    let mut left = bytes_max;
    let mut arrays = Vec::new();
    for place in 0..archive.len() {
        let entry = archive.by_index(place).map_err(|error| fail(error.to_string()))?;
        let Some(name) = entry.name().strip_suffix(".npy").map(str::to_string) else { continue };
        let mut bytes = Vec::new();
        // One byte more than allowed tells a bomb from an array that just fits; the size in the header may lie.
        entry.take(left + 1).read_to_end(&mut bytes).map_err(|error| fail(error.to_string()))?;
        left = left.checked_sub(bytes.len() as u64).ok_or_else(|| fail(format!("more than {bytes_max} bytes")))?;
        let array = parse_npy(&bytes).map_err(|problem| Error::content(path, format!("`{name}`: {problem}")))?;
        arrays.push((name, array));
    }
    Ok(arrays)
}

fn read_npy_pair(path: &Path, bytes_max: u64, labelled: bool) -> Result<Vec<(String, Array)>, Error> {
    let read = |path: &Path| {
        let bytes = super::folder::read_at_most(path, bytes_max).map_err(|source| Error::io(path, source))?;
        parse_npy(&bytes).map_err(|problem| Error::content(path, problem))
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
    let number = |place: usize| match &array.numbers {
        Numbers::Floats(values) => f64::from(values[place]),
        Numbers::Integers(values) => values[place] as f64,
    };
    if let Some(place) = (0..rows * columns).find(|place| !number(*place).is_finite()) {
        return Err(at(place / columns, "a label that is not finite".into()));
    }
    if options.target == Target::MultiLabel {
        return array_sets(rows, columns, &number, options.classes.as_deref(), at);
    }
    let cells: Vec<Vec<String>> =
        (0..rows).map(|row| (0..columns).map(|column| number(row * columns + column).to_string()).collect()).collect();
    if options.target == Target::Classes {
        let broken = (0..rows * columns).find(|place| number(*place).fract() != 0.0);
        if let Some(place) = broken {
            let problem =
                format!("{} is no class number; for numbers to predict choose a regression loss", number(place));
            return Err(at(place / columns, problem));
        }
    }
    labels::read(&cells, options.target, options.classes.as_deref(), at)
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
    let mut arrays: std::collections::BTreeMap<String, Array> = arrays.into_iter().collect();
    let tensor = |name: &str, array: Array, dtype: Option<DType>| {
        let fail = |problem: String| Error::content(path, format!("`{name}`: {problem}"));
        // An axis of size 0 would let a few bytes claim any number of samples.
        match array.shape.is_empty() || array.shape.contains(&0) {
            true => Err(fail(format!("shape {:?} holds no samples along its first axis", array.shape))),
            false => to_tensor(array, dtype).map_err(fail),
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

/// The array as the element type that the model's input has; without one, f32 or i64.
pub(super) fn to_tensor(array: Array, dtype: Option<DType>) -> Result<Tensor, String> {
    let Array { shape, numbers } = array;
    if let Numbers::Floats(values) = &numbers
        && let Some(place) = values.iter().position(|value| !value.is_finite())
    {
        let each: u64 = shape[1..].iter().product();
        return Err(format!("row {} holds {}; correct or remove it", place as u64 / each.max(1), values[place]));
    }
    match (numbers, dtype) {
        (Numbers::Floats(values), None | Some(DType::Float)) => Ok(Tensor::from_vec(&shape, values)),
        (Numbers::Integers(values), None | Some(DType::Int64)) => Ok(Tensor::from_vec(&shape, values)),
        (Numbers::Integers(values), Some(DType::Float)) => {
            Ok(Tensor::from_vec(&shape, values.into_iter().map(|value| value as f32).collect()))
        }
        (Numbers::Integers(values), Some(DType::Int32)) => {
            let narrowed: Result<Vec<i32>, _> = values.into_iter().map(i32::try_from).collect();
            Ok(Tensor::from_vec(&shape, narrowed.map_err(|_| "a number beyond 32 bits for an int32 input")?))
        }
        (Numbers::Floats(values), Some(DType::Double)) => {
            Ok(Tensor::from_vec(&shape, values.into_iter().map(f64::from).collect()))
        }
        (Numbers::Floats(values), Some(DType::Float16)) => {
            let data = values.iter().flat_map(|value| half::f16::from_f32(*value).to_le_bytes()).collect();
            Ok(Tensor { dtype: DType::Float16, shape, data })
        }
        (Numbers::Floats(_), Some(wanted)) => {
            Err(format!("fractions for an input of type {wanted}; save them as {wanted} in an .npz file"))
        }
        (Numbers::Integers(_), Some(wanted)) => {
            Err(format!("integers for an input of type {wanted}; save them as float32"))
        }
    }
}

/// Reads a `.npy` file's bytes (NumPy Enhancement Proposal 1).
///
/// # Errors
/// The reason, with what to do about it.
pub(super) fn parse_npy(bytes: &[u8]) -> Result<Array, String> {
    let (header, data) = split_header(bytes).ok_or("no .npy array, or one that is cut off")?;
    let descr = field(header, "descr").ok_or("the header has no `descr`")?;
    let kind = descr.trim_matches(|c| c == '\'' || c == '"');
    if field(header, "fortran_order") != Some("False") {
        return Err("columns come first (Fortran order); save np.ascontiguousarray(array)".into());
    }
    let shape = field(header, "shape").ok_or("the header has no `shape`")?;
    let sizes = shape.trim_matches(['(', ')']).split(',').map(str::trim).filter(|size| !size.is_empty());
    let shape: Vec<u64> =
        sizes.map(str::parse).collect::<Result<_, _>>().map_err(|_| "the header's `shape` is damaged")?;
    let bits = kind.trim_start_matches(['<', '|', '=']);
    let width: u64 = match bits {
        _ if kind.starts_with('>') => return Err("big-endian numbers; save array.astype('<f4')".into()),
        "b1" | "u1" | "i1" => 1,
        "f2" | "u2" | "i2" => 2,
        "f4" | "u4" | "i4" => 4,
        "f8" | "i8" => 8,
        other => return Err(format!("elements of type `{other}` are not read; save float32 or int64")),
    };
    let size = shape.iter().try_fold(width, |size, side| size.checked_mul(*side));
    if size != Some(data.len() as u64) {
        return Err(format!("{} bytes of data do not fill shape {shape:?}", data.len()));
    }
    let floats = |of: fn(&[u8]) -> f32| Numbers::Floats(data.chunks_exact(width as usize).map(of).collect());
    let integers = |of: fn(&[u8]) -> i64| Numbers::Integers(data.chunks_exact(width as usize).map(of).collect());
    macro_rules! from_le {
        ($rust:ty) => {
            |bytes| <$rust>::from_le_bytes(bytes.try_into().expect("chunks are as wide as the type")).into()
        };
    }
    let numbers = match bits {
        "f2" => floats(from_le!(half::f16)),
        "f4" => floats(from_le!(f32)),
        "f8" => floats(|bytes| f64::from_le_bytes(bytes.try_into().expect("chunks of 8")) as f32),
        "b1" | "u1" => integers(from_le!(u8)),
        "i1" => integers(from_le!(i8)),
        "u2" => integers(from_le!(u16)),
        "i2" => integers(from_le!(i16)),
        "u4" => integers(from_le!(u32)),
        "i4" => integers(from_le!(i32)),
        _ => integers(from_le!(i64)),
    };
    Ok(Array { shape, numbers })
}

fn split_header(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let rest = bytes.strip_prefix(b"\x93NUMPY")?;
    let (version, rest) = rest.split_at_checked(2)?;
    let (length, rest) = match version[0] {
        1 => (usize::from(u16::from_le_bytes(rest.get(..2)?.try_into().ok()?)), &rest[2..]),
        2 | 3 => (u32::from_le_bytes(rest.get(..4)?.try_into().ok()?) as usize, &rest[4..]),
        _ => return None,
    };
    let (header, data) = rest.split_at_checked(length)?;
    Some((std::str::from_utf8(header).ok()?, data))
}

/// The text of one value in the header, a Python dictionary as `repr` writes it.
fn field<'a>(header: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = header.split_once(&format!("'{name}':"))?;
    let rest = rest.trim_start();
    let end = match rest.starts_with('(') {
        true => rest.find(')')? + 1,
        false => rest.find([',', '}'])?,
    };
    Some(rest[..end].trim())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_bytes_are_an_array_or_an_error(
            version in 0u8..5, descr in "[<>|=]?[a-zA-Z]?[0-9]{0,2}", shape in "\\(?[0-9, -]{0,24}\\)?",
            data in prop::collection::vec(any::<u8>(), 0..64),
        ) {
            let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
            let length = header.len() as u32;
            let length = if version == 1 { &length.to_le_bytes()[..2] } else { &length.to_le_bytes()[..] };
            let bytes = [b"\x93NUMPY", &[version, 0][..], length, header.as_bytes(), &data].concat();
            if let Ok(Array { shape, numbers }) = parse_npy(&bytes) {
                let count = match numbers {
                    Numbers::Floats(values) => values.len(),
                    Numbers::Integers(values) => values.len(),
                };
                prop_assert_eq!(shape.iter().product::<u64>(), count as u64);
            }
            let _ = parse_npy(&data);
        }
    }
}
