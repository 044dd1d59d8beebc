//! Samples that an application holds in memory.

use super::names::Names;
use super::{Dataset, Error, Labels};
use crate::graph::Tensor;
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
                let problem = format!("input `{name}` has {samples} samples, but there are {} labels", labels.len());
                return Err(Error::content(origin, problem));
            }
        }
        Ok(Self::of_tensors(inputs, labels, Names::Numbered(origin.into())))
    }
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
