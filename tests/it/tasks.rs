//! Each task's loss, gradient and metrics against PyTorch's and the named library's (tests/goldens/tasks).

mod classification;
mod detection;
mod likeness;
mod ordinal;
mod regression;
mod segmentation;
mod token_classification;
mod transcription;

use crate::engine::runtime;
use edgetune::data::Labels;
use edgetune::engine::{self, Options, Session};
use edgetune::grad;
use edgetune::graph::{Builder, Dim, Graph, Tensor, TensorType};
use edgetune::task::{self, Counts, Loss};
use ndarray::{ArrayD, OwnedRepr};
use ndarray_npy::{NpzReader, ReadableElement};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

/// Largest difference of a loss or of a gradient, relative to the largest value there.
const TOLERANCE: f64 = 1e-5;

/// A golden's arrays, and what stands before the names of its loss and gradient.
pub struct Golden(NpzReader<File>, &'static str);

impl Golden {
    pub fn read(name: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/tasks").join(name);
        Self(NpzReader::new(File::open(path.with_extension("npz")).unwrap()).unwrap(), "")
    }

    /// The golden of another loss on the same output.
    pub fn named(self, before: &'static str) -> Self {
        Self(self.0, before)
    }

    pub fn array<T: ReadableElement + Clone>(&mut self, name: &str) -> ArrayD<T> {
        let array: ArrayD<T> =
            self.0.by_name::<OwnedRepr<T>, _>(name).unwrap_or_else(|error| panic!("{name}: {error}"));
        array
    }

    fn number(&mut self, name: &str) -> f64 {
        *self.array::<f64>(name).first().unwrap()
    }
}

/// The loss of the golden's `output` and its gradient, by the nodes of the step graph.
fn by_nodes(output: &ArrayD<f32>, width: u64, labels: &Tensor, loss: &Loss) -> (f64, Vec<f32>) {
    runtime();
    let shape: Vec<u64> = output.shape().iter().map(|size| *size as u64).collect();
    let fixed = |shape: &[u64]| shape.iter().map(|size| Dim::Fixed(*size)).collect::<Vec<_>>();
    let b = Builder::new(Graph::new("loss", 17), "");
    let given = b.input("output", TensorType::new(edgetune::graph::DType::Float, fixed(&shape)));
    let wanted = b.input("labels", labels.ty());
    b.output("loss", loss.append(&b, given, wanted, width));
    let mut graph = b.finish();
    engine::infer_types(&mut graph).unwrap();
    let ids = ["loss", "output"].map(|name| graph.find(name).unwrap());
    let b = Builder::new(graph, "grad/");
    let gradient = grad::differentiate(&b, ids[0], &[ids[1]]).unwrap().remove(0);
    b.output("gradient", gradient);
    let mut session = Session::from_graph(&b.finish(), &Options { threads: 1, ..Options::default() }).unwrap();
    let values = Tensor::from_vec(&shape, output.iter().copied().collect());
    let found = session.run(&[("output", &values), ("labels", labels)]).unwrap();
    (f64::from(found[0].to_f32().unwrap()[0]), found[1].to_f32().unwrap())
}

/// Whether loss and gradient are PyTorch's, in nodes and in Rust, and the metrics those of the golden. Gives what was counted.
pub fn is_as_pytorch(golden: &mut Golden, labels: &Labels, loss: &Loss, width: u64, figures: &[&str]) -> Counts {
    let task = task::of_labels(labels).unwrap();
    assert!(task.losses.contains(&loss.name()));
    let output = golden.array::<f32>("output");
    let all: Vec<usize> = (0..labels.len()).collect();
    let (found, gradient) = by_nodes(&output, width, &(task.tensor)(labels, &all), loss);
    let expected = golden.number(&format!("{}loss", golden.1));
    assert!((found - expected).abs() <= TOLERANCE * expected.abs(), "loss {found}, PyTorch {expected}");
    let expected = golden.array::<f64>(&format!("{}gradient", golden.1));
    let largest = expected.iter().fold(0.0f64, |largest, value| largest.max(value.abs()));
    for (found, expected) in gradient.iter().zip(&expected) {
        assert!((f64::from(*found) - expected).abs() <= TOLERANCE * largest, "gradient {found}, PyTorch {expected}");
    }
    let (mut counts, whole) = (Counts::new(labels), output.shape().to_vec());
    for (sample, output) in output.outer_iter().enumerate() {
        let mut output: Vec<f32> = output.iter().copied().collect();
        if let (Labels::Pixels { masks, .. }, [_, _, height, width]) = (labels, &whole[..]) {
            output = task::enlarge(&output, [*height as u64, *width as u64], masks.size());
        }
        (task.measure)(&mut counts, labels, loss, &output, sample);
    }
    let told: BTreeMap<&str, f64> = (task.figures)(&counts).into_iter().collect();
    for name in figures {
        let expected = golden.number(name);
        assert!((told[name] - expected).abs() <= 1e-6, "{name} {}, expected {expected}", told[name]);
    }
    counts
}
