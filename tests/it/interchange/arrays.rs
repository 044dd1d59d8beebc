//! Arrays between the tests and Python.

use edgetune::graph::{DType, Tensor};
use ndarray::{ArrayD, IxDyn};
use ndarray_npy::{NpzReader, NpzWriter};
use std::collections::HashMap;
use std::fs::File;
use std::path::Path;

/// Writes tensors as an `.npz`.
pub fn save(path: &Path, tensors: &[(String, Tensor)]) {
    let mut archive = NpzWriter::new(File::create(path).unwrap());
    for (name, tensor) in tensors {
        let shape: Vec<usize> = tensor.shape.iter().map(|size| *size as usize).collect();
        match tensor.dtype {
            DType::Int64 => {
                let values = ArrayD::from_shape_vec(IxDyn(&shape), tensor.to_i64().unwrap()).unwrap();
                archive.add_array(name.as_str(), &values).unwrap();
            }
            _ => {
                let values = ArrayD::from_shape_vec(IxDyn(&shape), tensor.to_f32().unwrap()).unwrap();
                archive.add_array(name.as_str(), &values).unwrap();
            }
        }
    }
    archive.finish().unwrap();
}

/// The float32 arrays of an `.npz`, by name.
pub fn load(path: &Path) -> HashMap<String, Vec<f32>> {
    let mut archive = NpzReader::new(File::open(path).unwrap()).unwrap();
    let names = archive.names().unwrap();
    let read = |name: String| {
        let values: ArrayD<f32> = archive.by_name(&name).unwrap();
        (name.trim_end_matches(".npy").to_string(), values.iter().copied().collect())
    };
    names.into_iter().map(read).collect()
}

/// Equal to 1e-4 of the larger of the value and 1.
#[track_caller]
pub fn close(found: &[f32], expected: &[f32], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() <= 1e-4 * expected.abs().max(1.0), "{what}: {found} {expected}");
    }
}
