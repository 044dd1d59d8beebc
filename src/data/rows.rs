//! Samples as rows of tensors: those of tables and arrays, and those that an application holds in memory.

use super::names::Names;
use super::{Dataset, Error, Labels, Samples};
use crate::amounts::counted;
use crate::graph::{Dim, Tensor, TensorType};
use crate::mapped;
use std::path::Path;

impl Dataset {
    /// Samples that lie in no file: one tensor `[samples, …]` for each input of the model.
    ///
    /// # Errors
    /// No input, or another number of samples in one of them than there are labels.
    pub fn of_arrays(inputs: Vec<(String, Tensor)>, labels: Labels) -> Result<Self, Error> {
        let origin = Path::new("samples in memory");
        if inputs.is_empty() {
            return Err(Error::content(origin, "no tensor; give one for each input of the model"));
        }
        for (name, tensor) in &inputs {
            let samples = tensor.shape.first().copied().unwrap_or(0);
            if samples != labels.len() as u64 {
                let problem = format!(
                    "input `{name}` has {}, and there are {}",
                    counted(samples, "sample"),
                    counted(labels.len(), "label")
                );
                return Err(Error::content(origin, problem));
            }
        }
        Ok(Self::of_tensors(inputs, labels, Names::Numbered(origin.into())))
    }

    pub(super) fn of_tensors(inputs: Vec<(String, Tensor)>, labels: Labels, names: Names) -> Self {
        let row = |sample: usize| {
            let row = inputs.iter().map(|(name, tensor)| (name.as_str(), tensor, bytes_of(tensor, sample)));
            row_key(row)
        };
        let keys = (0..labels.len())
            .map(|sample| {
                let key = row(sample);
                // What a file of arrays has read in is given back now and then.
                if sample % ROWS_READ == ROWS_READ - 1 {
                    inputs.iter().for_each(|(_, tensor)| forget_rows(tensor, sample + 1 - ROWS_READ, sample));
                }
                key
            })
            .collect();
        Self { samples: Samples::Tensors(inputs), labels, keys, names, groups: None }
    }
}

/// Rows of a mapped file that are read before their pages are given back.
const ROWS_READ: usize = 1024;

/// One sample of `[samples, …]`.
pub(super) fn bytes_of(tensor: &Tensor, sample: usize) -> &[u8] {
    let each = row_bytes(tensor);
    &tensor.data[sample * each..(sample + 1) * each]
}

fn row_bytes(tensor: &Tensor) -> usize {
    tensor.shape[1..].iter().product::<u64>() as usize * tensor.dtype.bits() / 8
}

/// Gives the pages of some rows back, if they lie in a file.
fn forget_rows(tensor: &Tensor, first: usize, last: usize) {
    let each = row_bytes(tensor);
    mapped::forget_pages(&tensor.data[first * each..(last + 1) * each]);
}

/// The hash of a row: for each input its name, the tensor that it is a row of, and its bytes.
pub(super) fn row_key<'a>(inputs: impl Iterator<Item = (&'a str, &'a Tensor, &'a [u8])>) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    for (name, tensor, bytes) in inputs {
        let dims = tensor.shape[1..].iter().map(|size| Dim::Fixed(*size)).collect();
        let ty = TensorType::new(tensor.dtype, dims);
        hasher.update(name.as_bytes()).update(ty.to_string().as_bytes()).update(bytes);
    }
    *hasher.finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_input_has_a_row_for_each_label() {
        let labels = || Labels::Classes { names: vec!["a".into(), "b".into()], index: vec![0, 1, 0] };
        let rows = |count: u64| ("x".to_string(), Tensor::from_f32(&[count, 2], &vec![1.0; 2 * count as usize]));
        let dataset = Dataset::of_arrays(vec![rows(3)], labels()).unwrap();
        assert_eq!((dataset.len(), dataset.load(2).unwrap()[0].1.shape.clone()), (3, vec![2]));
        let refused = Dataset::of_arrays(vec![rows(4)], labels()).unwrap_err().to_string();
        assert!(refused.contains("input `x` has 4 samples, but there are 3 labels"), "{refused}");
        assert!(Dataset::of_arrays(vec![], labels()).unwrap_err().to_string().contains("no tensor"));
    }
}
