//! Labels of a loss of the user's own: several arrays, as one row of numbers a sample.

use super::npy::Array;
use super::{Error, Options};
use crate::amounts::counted;
use ndarray::Array2;
use std::path::Path;

/// Takes the arrays that the loss's inputs are named after out of a file's; gives `[samples, values]`, one array behind the
/// other.
///
/// # Errors
/// An array that is missing, has other sizes than the loss's input, or holds what float32 cannot.
pub(super) fn take(path: &Path, arrays: &mut Vec<(String, Array)>, options: &Options) -> Result<Array2<f32>, Error> {
    let have = arrays.iter().map(|(name, _)| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let mut found = Vec::new();
    for (name, size) in options.label.iter().zip(&options.label_sizes) {
        let Some(place) = arrays.iter().position(|(array, _)| array == name) else {
            let problem = format!("no array `{name}`, which the loss takes (found {have}); save one under that name");
            return Err(Error::content(path, problem));
        };
        let array = arrays.swap_remove(place).1;
        found.push((name, *size as usize, values(path, name, &array, *size)?));
    }
    let samples = found.iter().map(|(_, size, values)| values.len() / size).next().unwrap_or_default();
    if let Some((name, size, values)) = found.iter().find(|(_, size, values)| values.len() / size != samples) {
        let problem = format!("`{name}` has {} samples, `{}` has {samples}", values.len() / size, found[0].0);
        return Err(Error::content(path, problem));
    }
    let mut rows = Vec::with_capacity(found.iter().map(|(_, _, values)| values.len()).sum());
    for sample in 0..samples {
        found.iter().for_each(|(_, size, values)| rows.extend_from_slice(&values[sample * size..(sample + 1) * size]));
    }
    let columns = found.iter().map(|(_, size, _)| size).sum();
    Ok(Array2::from_shape_vec((samples, columns), rows).expect("each sample has all its values"))
}

/// An array's numbers, `size` a sample.
fn values(path: &Path, name: &str, array: &Array, size: u64) -> Result<Vec<f32>, Error> {
    let fail = |problem: String| Error::content(path, format!("`{name}`: {problem}"));
    let [_, sizes @ ..] = &array.shape[..] else { return Err(fail("one number; give one a sample".into())) };
    if array.is_text() || size == 0 || sizes.iter().product::<u64>() != size {
        let found = if array.is_text() { "text".into() } else { format!("shape {:?}", array.shape) };
        return Err(fail(format!("{found}; the loss takes {} a sample", counted(size, "number"))));
    }
    let number = |place: usize| {
        let number = array.number(place);
        match number as f32 {
            value if !value.is_finite() => {
                Err(fail(format!("row {}: a label that is not finite", place / size as usize)))
            }
            value if number.fract() == 0.0 && f64::from(value) != number => Err(fail(format!(
                "row {}: {number} is a whole number that float32 cannot hold; labels are at most 16777216",
                place / size as usize
            ))),
            value => Ok(value),
        }
    };
    (0..array.len()).map(number).collect()
}
