//! Control flow below and above the cut: in the body it runs as it is, in the tail it is refused with a remedy.

use crate::engine::{graph_proto, runtime};
use edgetune::adapter::Request;
use edgetune::cut::Selection;
use edgetune::engine::{Options, Session};
use edgetune::graph::{Attr, Builder, DType, Dim, Graph, Node, Steps, Tensor, TensorType};
use edgetune::onnx::{self, Weights};
use edgetune::train::check::{Agreement, check};
use edgetune::train::loss::Loss;
use edgetune::train::prepare::{Base, prepare};
use edgetune::train::step::Again;

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
    assert!(found.len() == 1 && found[0].verdict == Agreement::Agrees, "{found:?}");
    let refused = prepared(2).step(&loss, Again::Cheap).unwrap_err().to_string();
    assert!(refused.contains("choice") && refused.contains("setting `train = last:N`"), "{refused}");
}

/// `y` of `x` [steps, 2] and `w` [2, 2]: states sₜ = sₜ₋₁·w + xₜ from zeros, the last element first where `backwards`.
fn looping(backwards: bool) -> Graph {
    let b = Builder::new(Graph::new("looping", 17), "loop/");
    b.input("before", rows(1));
    let x = b.input("x", rows(2));
    let w = b.input("w", TensorType::new(DType::Float, vec![Dim::Fixed(2); 2]));
    let zeros = b.constant(Tensor::from_f32(&[2], &[0.0; 2]));
    let over = Steps { states: &[zeros], sequences: &[x], whole: &[w], backwards };
    let made = b.scan(over, |state, element, whole| {
        let next = state[0].matmul(whole[0]) + element[0];
        (vec![next], vec![next, element[0]])
    });
    b.output("y", made[1]);
    b.output("same", made[2]);
    b.finish()
}

#[test]
fn a_loop_that_is_written_here_goes_through_its_elements() {
    runtime();
    let run = |graph: &Graph| {
        let mut session = Session::from_graph(graph, &Options::default()).unwrap_or_else(|error| panic!("{error}"));
        let x = Tensor::from_f32(&[3, 2], &[1.0, 1.0, 2.0, 2.0, 3.0, 3.0]);
        let w = Tensor::from_f32(&[2, 2], &[2.0, 0.0, 0.0, 1.0]);
        let before = Tensor::from_f32(&[1, 1], &[0.0]);
        let known = [("before", &before), ("x", &x), ("w", &w)];
        let asked = known.iter().filter(|(name, _)| session.inputs().iter().any(|(input, _)| input == name));
        let fed: Vec<_> = asked.copied().collect();
        let found = session.run(&fed).unwrap();
        assert_eq!(found[1].to_f32(), x.to_f32(), "what a step gives lies in the order of the elements");
        found[0].to_f32().unwrap()
    };
    let forwards = [1.0, 1.0, 4.0, 3.0, 11.0, 6.0];
    assert_eq!(run(&looping(false)), forwards);
    assert_eq!(run(&looping(true)), [17.0, 6.0, 8.0, 5.0, 3.0, 3.0]);

    // A part of the graph numbers its values anew, and another name outside is another name inside.
    let graph = looping(false);
    let ids: Vec<_> = ["x", "w"].iter().map(|name| graph.find(name).unwrap()).collect();
    let mut part = graph.extract("part", &ids, &graph.outputs);
    assert_eq!(run(&part), forwards);
    let scan = part.nodes.iter().find(|node| node.op == "Scan").unwrap().clone();
    assert_eq!(scan.attributes["body"].captures(), [part.find("w").unwrap()]);
    let Attr::Body { graph: inner, .. } = &scan.attributes["body"] else { panic!("a sub-graph that was written here") };
    for value in &inner.values {
        part.add_value(&value.name, None);
    }
    assert_eq!(run(&part), forwards, "names inside are taken outside, too");
}

#[test]
fn a_loop_that_is_written_here_is_known_again_in_the_file() {
    let written = looping(false);
    let model = onnx::read_bytes(onnx::encode(&written, &Weights::Embedded).into(), None)
        .unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(onnx::hash(&model.graph), onnx::hash(&written));
    assert_ne!(onnx::hash(&looping(true)), onnx::hash(&written));
    let mut other = looping(false);
    for attribute in other.nodes.iter_mut().filter_map(|node| node.attributes.get_mut("body")) {
        let Attr::Body { graph, .. } = attribute else { continue };
        let mut changed = Graph::clone(graph);
        changed.nodes[1].op = "Sub".into();
        *graph = changed.into();
    }
    assert_ne!(onnx::hash(&other), onnx::hash(&written), "what the steps do counts");
}
