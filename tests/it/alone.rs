//! A sample's features are those that the sample alone gives, whatever stands beside it and in whatever mode the model was exported.

use crate::engine::runtime;
use edgetune::adapter::Request;
use edgetune::cut::Selection;
use edgetune::data::{self, Dataset, Preprocessing};
use edgetune::engine::{Options, Session};
use edgetune::graph::{Attr, Builder, DType, Dim, Graph, Tensor, TensorType, Val};
use edgetune::onnx::{self, Weights};
use edgetune::train::features::{Features, Source, Store};
use edgetune::train::prepare::{Base, Bundle, prepare};
use ndarray::{Array1, Array2};
use std::path::Path;
use std::sync::Arc;

const SAMPLES: usize = 9;

/// `x` [batch, 4] → `what` → Gemm to three scores, `y`.
fn base(folder: &Path, what: &str) -> Base {
    runtime();
    let b = Builder::new(Graph::new("alone", 17), "");
    let x = b.input("x", TensorType::new(DType::Float, vec![Dim::Named("batch".into()), Dim::Fixed(4)]));
    let ones = |size: u64| b.constant(Tensor::from_f32(&[size], &vec![1.0; size as usize]));
    let axis = |axis: i64| ("axis", Attr::Int(axis));
    let hidden: Val<'_> = match what {
        "relu" => x.unary("Relu"),
        "mean of the batch" => x - b.op("ReduceMean", &[x], &[("axes", Attr::Ints(vec![0]))]),
        "softmax over the batch" => b.op("Softmax", &[x], &[axis(0)]),
        "dropout" => {
            let on = b.constant(Tensor { dtype: DType::Bool, shape: vec![], data: vec![1u8].into() });
            b.op("Dropout", &[x, b.scalar(DType::Float, 0.5), on], &[])
        }
        "noise" => x + b.op("RandomNormalLike", &[x], &[]),
        other => panic!("{other}"),
    };
    let weight =
        b.constant(Tensor::from_f32(&[4, 3], &[0.5, -0.25, 0.1, 0.3, 0.2, -0.6, 0.7, 0.8, -0.9, 1.0, -1.1, 1.2]));
    b.output("y", b.op("Gemm", &[hidden, weight, ones(3)], &[]));
    let path = folder.join(format!("{}.onnx", what.replace(' ', "_")));
    std::fs::write(&path, onnx::encode(&b.finish(), &Weights::Embedded)).unwrap();
    Base::read(&path).unwrap_or_else(|error| panic!("{what}: {error}"))
}

fn head(base: &Base, folder: &Path) -> Result<Bundle, edgetune::train::Error> {
    let request = Request { selections: &[Selection::Head], width: Some(3), ..Request::default() };
    prepare(base, &request, folder)
}

/// Rows that differ much from each other, so that neighbours would be seen.
fn rows() -> Array2<f32> {
    Array2::from_shape_fn((SAMPLES, 4), |(row, column)| ((row * 7 + column * 5) % 11) as f32 - 3.0 * column as f32)
}

fn dataset(folder: &Path) -> Dataset {
    let path = folder.join("rows.npz");
    let mut archive = ndarray_npy::NpzWriter::new(std::fs::File::create(&path).unwrap());
    archive.add_array("x", &rows()).unwrap();
    archive.add_array("y", &Array1::from_iter((0..SAMPLES as i64).map(|row| row % 3))).unwrap();
    archive.finish().unwrap();
    Dataset::open(&path, &data::Options::default()).unwrap().0
}

/// All features, and what was said about them.
fn features(bundle: &Bundle, folder: &Path) -> (Vec<f32>, Vec<String>) {
    let order: Vec<usize> = (0..SAMPLES).collect();
    let (options, clock) = (Options::default(), Arc::new(|| 0.0));
    let dataset = Arc::new(dataset(folder));
    let source = Source { dataset, order: &order, preprocessing: &Preprocessing::Plain };
    let mut features = Features::open(bundle, source, Store::Memory, &options, clock).unwrap();
    let values = features.batch(&order).unwrap()[0].1.to_f32().unwrap();
    (values, features.take_warnings())
}

/// The body over one row after the other.
fn alone(bundle: &Bundle) -> Vec<f32> {
    let mut body = Session::from_file(bundle.body.as_deref().unwrap(), &Options::default()).unwrap();
    let one = |row: ndarray::ArrayView1<'_, f32>| {
        let fed = Tensor::from_f32(&[1, 4], row.to_vec().as_slice());
        body.run(&[("x", &fed)]).unwrap()[0].to_f32().unwrap()
    };
    rows().rows().into_iter().flat_map(one).collect()
}

#[test]
fn what_looks_at_the_batch_sees_one_sample() {
    let folder = tempfile::tempdir().unwrap();
    for (what, mixes) in [("relu", false), ("mean of the batch", true), ("softmax over the batch", true)] {
        let bundle = head(&base(folder.path(), what), folder.path()).unwrap();
        let (found, warnings) = features(&bundle, folder.path());
        let expected = alone(&bundle);
        assert_eq!(found.len(), expected.len(), "{what}");
        assert!(
            found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-5),
            "{what}: {found:?}, alone {expected:?}"
        );
        assert_eq!(!warnings.is_empty(), mixes, "{what}: {warnings:?}");
        assert!(warnings.iter().all(|warning| warning.contains("mixes the samples of a batch")), "{warnings:?}");
    }
}

#[test]
fn a_dropout_that_was_left_on_is_the_identity() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = head(&base(folder.path(), "dropout"), folder.path()).unwrap();
    assert_eq!(features(&bundle, folder.path()).0, rows().into_raw_vec_and_offset().0);
}

#[test]
fn what_is_left_to_chance_is_refused_by_its_node() {
    let folder = tempfile::tempdir().unwrap();
    let error = head(&base(folder.path(), "noise"), folder.path()).unwrap_err().to_string();
    assert!(error.contains("(RandomNormalLike) draws random numbers") && error.contains("model.eval()"), "{error}");
}
