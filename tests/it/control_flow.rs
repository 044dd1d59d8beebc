//! Control flow below and above the cut: in the body it runs as it is, in the tail it is refused with a remedy.

use crate::engine::{graph_proto, runtime};
use edgetune::adapter::Request;
use edgetune::cut::Selection;
use edgetune::engine::Options;
use edgetune::graph::{Attr, Builder, DType, Dim, Graph, Node, Tensor, TensorType};
use edgetune::onnx::{self, Weights};
use edgetune::train::check::{Verdict, check};
use edgetune::train::loss::Loss;
use edgetune::train::prepare::{Base, prepare};

fn rows(width: u64) -> TensorType {
    TensorType::new(DType::Float, vec![Dim::Named("batch".into()), Dim::Fixed(width)])
}

/// `x` [batch, 4] → matrix product → `If` Σx > 0: its tanh, else its sigmoid → matrix product.
fn choosing() -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(1);
    let mut weight = |shape: &[u64]| Tensor::from_vec(shape, (0..20).map(|_| random.f32() - 0.5).collect());
    let branch = |op: &str| {
        let b = Builder::new(Graph::new(op, 17), op);
        b.output(op, b.input("hidden", rows(5)).unary(op));
        let mut graph = b.finish();
        // What a branch reads from outside is no input of it.
        graph.inputs.clear();
        graph_proto(&onnx::encode(&graph, &Weights::Embedded))
    };
    let b = Builder::new(Graph::new("choosing", 17), "");
    let x = b.input("x", rows(4));
    let condition = x.sum_all().greater(b.scalar(DType::Float, 0.0));
    let product = x.matmul(b.constant(weight(&[4, 5])));
    let last = b.constant(weight(&[5, 4]));
    let (condition, product, last) = (condition.id(), product.id(), last.id());
    let mut graph = b.finish();
    graph.values[product.index()].name = "hidden".into();
    let chosen = graph.add_value("chosen", Some(rows(5)));
    let logits = graph.add_value("logits", Some(rows(4)));
    let attribute = |op: &str| Attr::Graph { encoded: branch(op).into(), captures: vec![product] };
    graph.nodes.push(Node {
        name: "choice".into(),
        op: "If".into(),
        inputs: vec![Some(condition)],
        outputs: vec![Some(chosen)],
        attributes: [("then_branch", "Tanh"), ("else_branch", "Sigmoid")]
            .map(|(name, op)| (name.to_string(), attribute(op)))
            .into(),
        ..Node::default()
    });
    graph.nodes.push(Node {
        name: "last".into(),
        op: "MatMul".into(),
        inputs: vec![Some(chosen), Some(last)],
        outputs: vec![Some(logits)],
        ..Node::default()
    });
    graph.outputs.push(logits);
    onnx::encode(&graph, &Weights::Embedded)
}

#[test]
fn what_nothing_trainable_feeds_stays_in_the_body() {
    runtime();
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("choosing.onnx");
    std::fs::write(&path, choosing()).unwrap();
    let base = Base::read(&path).unwrap_or_else(|error| panic!("{error}"));
    let loss = Loss::CrossEntropy { label_smoothing: 0.0, class_weights: None };
    let prepared = |layers: usize| {
        let selections = [Selection::Last(layers)];
        let request = Request { selections: &selections, ..Request::default() };
        prepare(&base, &request, scratch.path()).unwrap_or_else(|error| panic!("{error}"))
    };
    let bundle = prepared(1);
    assert!(bundle.body.is_some() && bundle.features[0].0 == "chosen", "{:?}", bundle.features);
    let found = check(&bundle, &loss, &Options::default(), 1).unwrap_or_else(|error| panic!("{error}"));
    assert!(found.len() == 1 && found[0].verdict == Verdict::Agrees, "{found:?}");
    let refused = prepared(2).step(&loss).unwrap_err().to_string();
    assert!(refused.contains("choice") && refused.contains("setting `train = last:N`"), "{refused}");
}
