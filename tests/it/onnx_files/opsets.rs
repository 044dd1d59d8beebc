//! Every operator set that is read computes what it is meant to: the reader's rewritten form, run, beside ONNX Runtime's own run of
//! the file. `tests/goldens/README.md` has the format.

use edgetune::engine::{Options, Session};
use edgetune::graph::Tensor;
use edgetune::onnx;
use ndarray::{ArrayD, OwnedRepr};
use ndarray_npy::NpzReader;
use serde_json::Value;
use std::fs::File;
use std::path::{Path, PathBuf};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/opsets")
}

#[test]
fn operators_of_other_sets_are_read_in_a_form_that_computes_the_same() {
    crate::engine::runtime();
    let cases: Vec<Value> = serde_json::from_slice(&std::fs::read(folder().join("opsets.json")).unwrap()).unwrap();
    let mut arrays = NpzReader::new(File::open(folder().join("opsets.npz")).unwrap()).unwrap();
    let mut array = |name: &str| -> ArrayD<f32> { arrays.by_name::<OwnedRepr<f32>, _>(name).unwrap() };
    for case in &cases {
        let name = case["name"].as_str().unwrap();
        let mut graph = onnx::read(&folder().join(format!("{name}.onnx"))).unwrap_or_else(|e| panic!("{e}")).graph;
        assert!(graph.opset >= 13, "{name}: operator set {}", graph.opset);
        // Tails are written for set 17.
        graph.opset = graph.opset.max(17);
        let (x, y) = (array(&format!("{name}/x")), array(&format!("{name}/y")));
        let sizes: Vec<u64> = x.shape().iter().map(|size| *size as u64).collect();
        let x = Tensor::from_f32(&sizes, x.as_slice().unwrap());
        let mut session = Session::from_graph(&graph, &Options { threads: 1, ..Options::default() })
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let found = session.run(&[("x", &x)]).unwrap().swap_remove(0);
        let sizes: Vec<usize> = found.shape.iter().map(|size| *size as usize).collect();
        assert_eq!(sizes, y.shape(), "{name}");
        for (a, b) in found.to_f32().unwrap().iter().zip(&y) {
            assert!((a - b).abs() <= 1e-5 * b.abs().max(1.0), "{name}: {a} instead of {b}");
        }
    }
    assert!(cases.len() > 20, "only {} cases", cases.len());
}
