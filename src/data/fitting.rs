//! A sample's numbers and the shape that the model takes: where one is read as the other, and what is said where it cannot be.
//!
//! The rule, for tables and arrays alike: numbers in one row are read in their order, the last axis running fastest, where the model
//! declares all sizes of a sample and they make as many numbers; axes of size 1 may be left out. Lists in lists, and arrays, have a
//! shape of their own, of which no other axis is moved or divided.

use super::Options;
use super::error::Error;
use crate::amounts::counted;
use crate::graph::Tensor;
use std::path::Path;

/// The sizes of a sample's axes in a model's input, `None` for an open one; `None` where even their number is not known.
pub type SampleShape = Option<Vec<Option<u64>>>;

/// The shape that samples of shape `given` are read in; `None`: as they are.
///
/// # Errors
/// A row of numbers for a model that takes a sample of several axes, which cannot be told from it.
pub(super) fn fitted(given: &[u64], wanted: &[Option<u64>]) -> Result<Option<Vec<u64>>, String> {
    let as_is = given.len() == wanted.len()
        && given.iter().zip(wanted).all(|(size, dim)| dim.is_none_or(|fixed| fixed == *size));
    if as_is {
        return Ok(None);
    }
    let fixed: Option<Vec<u64>> = wanted.iter().copied().collect();
    let size = |shape: &[u64]| shape.iter().product::<u64>();
    let long = |shape: &[u64]| shape.iter().copied().filter(|size| *size != 1).collect::<Vec<_>>();
    match fixed {
        Some(fixed) if long(given) == long(&fixed) || (given.len() == 1 && given[0] == size(&fixed)) => Ok(Some(fixed)),
        fixed if given.len() == 1 && wanted.len() > 1 => {
            Err(not_in_a_row(given[0], wanted, fixed.map(|fixed| size(&fixed))))
        }
        // What feeds the model says what it wants.
        _ => Ok(None),
    }
}

fn not_in_a_row(count: u64, wanted: &[Option<u64>], size: Option<u64>) -> String {
    let shape =
        wanted.iter().map(|size| size.map_or("any".into(), |size| size.to_string())).collect::<Vec<_>>().join(", ");
    let nested = "give each sample as lists in lists (.jsonl), or an array [samples, …] of that shape (.npz)";
    match size {
        Some(size) => format!(
            "{} a sample, but the model takes {size} of shape [{shape}]; give so many in a row, the last axis running \
             fastest, or {nested}",
            counted(count, "number")
        ),
        None => format!(
            "{} a sample in a row, but the model takes [{shape}], of which a row does not tell the shape; {nested}",
            counted(count, "number")
        ),
    }
}

/// Samples `[samples, …]` of an input in the model's shape, and a line that says what was made of them.
///
/// # Errors
/// As of [`fitted`].
pub(super) fn shaped(name: &str, tensor: Tensor, options: &Options) -> Result<(Tensor, Option<String>), String> {
    let place = options.inputs.iter().position(|(input, _)| input == name);
    let wanted = place.and_then(|place| options.shapes.get(place)).and_then(Option::as_ref);
    let Some(shape) = wanted.map(|wanted| fitted(&tensor.shape[1..], wanted)).transpose()?.flatten() else {
        return Ok((tensor, None));
    };
    let given = tensor.shape[1..].to_vec();
    let note = (given.len() == 1 && shape.len() > 1).then(|| {
        format!("shape     {} numbers a sample are read as {shape:?}, the last axis running fastest", given[0])
    });
    Ok((Tensor { shape: [&tensor.shape[..1], &shape].concat(), ..tensor }, note))
}

/// Samples in the shape that the model takes them in; what was made of them is noted.
pub(super) fn in_shape(
    path: &Path,
    inputs: Vec<(String, Tensor)>,
    options: &Options,
    notes: &mut Vec<String>,
) -> Result<Vec<(String, Tensor)>, Error> {
    let shaped = inputs.into_iter().map(|(name, tensor)| {
        let (tensor, note) = shaped(&name, tensor, options).map_err(|problem| Error::content(path, problem))?;
        notes.extend(note);
        Ok((name, tensor))
    });
    shaped.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read_in_order_where_the_model_says_all_sizes() {
        let of = |sizes: &[u64]| sizes.iter().map(|size| Some(*size)).collect::<Vec<_>>();
        assert_eq!(fitted(&[30], &of(&[10, 3])), Ok(Some(vec![10, 3])));
        assert_eq!(fitted(&[10, 3], &of(&[10, 3])), Ok(None));
        assert_eq!(fitted(&[10, 3], &of(&[1, 10, 3])), Ok(Some(vec![1, 10, 3])), "an axis of size 1 may be left out");
        assert_eq!(fitted(&[1], &[]), Ok(Some(vec![])));
        assert_eq!(fitted(&[7], &[None]), Ok(None));
        assert_eq!(fitted(&[3, 10], &of(&[10, 3])), Ok(None), "no axis is moved");
        assert_eq!(fitted(&[5, 6], &of(&[10, 3])), Ok(None), "and none divided");
        let problem = fitted(&[28], &of(&[10, 3])).unwrap_err();
        assert!(problem.contains("28 numbers") && problem.contains("takes 30 of shape [10, 3]"), "{problem}");
        let problem = fitted(&[30], &[None, Some(3)]).unwrap_err();
        assert!(problem.contains("[any, 3]") && problem.contains("lists in lists"), "{problem}");
    }
}
