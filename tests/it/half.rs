//! Models that compute in half precision: they are read as ones that compute in `float` on their stored weights.

use crate::engine::{graph_proto, runtime};
use edgetune::adapter::{Kind, Method, Places, Request};
use edgetune::cut::{self, Selection};
use edgetune::engine::{Options, Session};
use edgetune::graph::{Attr, Builder, DType, Dim, Graph, Node, Tensor, TensorType};
use edgetune::onnx::{self, Weights};
use edgetune::train::check::{Agreement, check};
use edgetune::train::loss::Loss;
use edgetune::train::prepare::{Base, prepare};
use std::path::{Path, PathBuf};

fn golden(model: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/training").join(format!("{model}.onnx"))
}

/// The model as a converter to half precision writes it: every float of it is of that type.
fn halved(path: &Path, dtype: DType) -> Graph {
    let mut graph = onnx::read(path).unwrap().graph;
    let half = |tensor: &Tensor| Tensor::from_floats(dtype, &tensor.shape, &tensor.to_f32().unwrap());
    for tensor in graph.initializers.values_mut().filter(|tensor| tensor.dtype == DType::Float) {
        *tensor = half(tensor);
    }
    for ty in graph.values.iter_mut().filter_map(|value| value.ty.as_mut()).filter(|ty| ty.dtype == DType::Float) {
        ty.dtype = dtype;
    }
    for (name, attribute) in graph.nodes.iter_mut().flat_map(|node| &mut node.attributes) {
        match attribute {
            Attr::Int(number) if name == "to" && *number == 1 => *number = dtype.onnx().into(),
            Attr::Tensor(tensor) if tensor.dtype == DType::Float => *tensor = half(tensor),
            _ => {}
        }
    }
    graph
}

fn base(graph: &Graph, folder: &Path) -> Base {
    runtime();
    let file = folder.join("half.onnx");
    std::fs::write(&file, onnx::encode(graph, &Weights::Embedded)).unwrap();
    Base::read(&file).unwrap_or_else(|error| panic!("{error}"))
}

/// In fp16 three digits are stored, in bf16 two; but nothing is computed in them.
#[test]
fn the_answers_are_those_of_the_stored_weights() {
    let scratch = tempfile::tempdir().unwrap();
    let mut random = fastrand::Rng::with_seed(4);
    let images = Tensor::from_vec(&[4, 3, 16, 16], (0..4 * 3 * 256).map(|_| random.f32() - 0.5).collect::<Vec<f32>>());
    for (dtype, tolerance) in [(DType::Float16, 0.01), (DType::Bfloat16, 0.06)] {
        let stored = halved(&golden("mobilenet_folded"), dtype);
        let base = base(&stored, scratch.path());
        assert_eq!(base.hash, onnx::hash(&stored), "a delta is bound to the model as it is");
        assert!(
            base.graph
                .inputs
                .iter()
                .chain(&base.graph.outputs)
                .all(|id| base.graph.ty(*id).unwrap().dtype == DType::Float)
        );
        let answers = |mut session: Session| session.run(&[("input", &images)]).unwrap().remove(0).to_f32().unwrap();
        let floats = answers(Session::from_file(&golden("mobilenet_folded"), &Options::default()).unwrap());
        let halves = answers(Session::from_graph(&base.graph, &Options::default()).unwrap());
        let most = floats.iter().fold(0.0f32, |most, value| most.max(value.abs()));
        assert!(most > 0.1);
        for (float, half) in floats.iter().zip(&halves) {
            assert!((float - half).abs() <= tolerance * most, "{dtype}: {float} {half}");
        }
    }
}

/// A large weight is not copied: it stands in the file as it was, behind a `Cast`.
#[test]
fn large_weights_stay_as_they_are_stored() {
    let rows = |width| TensorType::new(DType::Float16, vec![Dim::Named("batch".into()), Dim::Fixed(width)]);
    let b = Builder::new(Graph::new("wide", 17), "");
    let weight = |shape: &[u64]| Tensor::from_floats(DType::Float16, shape, &vec![0.5; (shape[0] * shape[1]) as usize]);
    let x = b.input("x", rows(64));
    let y = x.matmul(b.weight(weight(&[64, 256]))).matmul(b.weight(weight(&[256, 3])));
    b.output("y", y);
    let mut graph = b.finish();
    cut::widen(&mut graph).unwrap();
    let dtypes: Vec<_> = graph.initializers.values().map(|tensor| (tensor.dtype, tensor.shape.clone())).collect();
    assert!(dtypes.contains(&(DType::Float16, vec![64, 256])), "{dtypes:?}");
    assert!(dtypes.contains(&(DType::Float, vec![256, 3])), "a small one is widened at once: {dtypes:?}");
    assert_eq!(graph.nodes.iter().filter(|node| node.op == "Cast").count(), 1);
}

#[test]
fn gradients_are_how_the_loss_moves() {
    let scratch = tempfile::tempdir().unwrap();
    let loss = Loss::CrossEntropy { label_smoothing: 0.1, class_weights: None };
    for dtype in [DType::Float16, DType::Bfloat16] {
        let verdicts = |model: &str, request: &Request<'_>| {
            let base = base(&halved(&golden(model), dtype), scratch.path());
            let bundle =
                prepare(&base, request, &scratch.path().join("bundles")).unwrap_or_else(|error| panic!("{error}"));
            let rows = check(&bundle, &loss, &Options::default(), 1).unwrap_or_else(|error| panic!("{error}"));
            rows.iter().map(|row| row.verdict).collect::<Vec<_>>()
        };
        let last = [Selection::Last(3)];
        let deep = verdicts("mobilenet_folded", &Request { selections: &last, ..Request::default() });
        assert_eq!(deep, [Agreement::Agrees; 6], "{dtype}");
        let head = [Selection::Head];
        let fresh = Request { selections: &head, width: Some(7), ..Request::default() };
        assert_eq!(
            verdicts("mobilenet_folded", &fresh),
            [Agreement::Agrees; 2],
            "{dtype}: a head is replaced, not appended"
        );
        let method = Some(Method { kind: Kind::Lora, rank: 4, alpha: 8.0 });
        let targets = ["query".to_string(), "value".into()];
        let lora = Request { method, places: Places { targets: &targets, ..Places::default() }, ..Request::default() };
        let found = verdicts("encoder_torchscript", &lora);
        assert!(!found.is_empty() && found.iter().all(|verdict| *verdict == Agreement::Agrees), "{dtype}: {found:?}");
    }
}

/// What lies in the bytes of a sub-graph is not widened, so it is not guessed at.
#[test]
fn half_precision_inside_a_sub_graph_is_refused_by_name() {
    let b = Builder::new(Graph::new("choosing", 17), "");
    let rows = TensorType::new(DType::Float16, vec![Dim::Named("batch".into()), Dim::Fixed(4)]);
    let x = b.input("x", rows.clone()).id();
    let mut graph = b.finish();
    let branch = {
        let b = Builder::new(Graph::new("branch", 17), "branch");
        b.output("branch", b.input("x", rows.clone()).unary("Tanh"));
        let mut graph = b.finish();
        graph.inputs.clear();
        graph_proto(&onnx::encode(&graph, &Weights::Embedded))
    };
    let y = graph.add_value("y", Some(rows));
    let attribute = Attr::Graph { encoded: branch.into(), captures: vec![x] };
    let attributes = ["then_branch", "else_branch"].map(|name| (name.to_string(), attribute.clone())).into();
    let choice = Node { name: "choice".into(), op: "If".into(), outputs: vec![Some(y)], attributes, ..Node::default() };
    graph.nodes.push(choice);
    let message = cut::widen(&mut graph).unwrap_err().to_string();
    assert!(message.contains("`choice` (If)") && message.contains("float32"), "{message}");
}
