//! What a gradient computes again instead of keeping it.

use edgetune::engine::{self, Optimisation, Options, Session};
use edgetune::grad::{self, AGAIN};
use edgetune::graph::{Builder, DType, Dim, Graph, Node, Tensor, TensorType, Val};
use std::collections::HashSet;

const WIDTH: u64 = 64;
const BACKWARD: &str = "backward/";

/// A layer with SwiGLU's and GELU's elementwise values, its loss and the gradient of its two weights.
fn layer(dims: [Dim; 2]) -> Graph {
    crate::engine::runtime();
    let b = Builder::new(Graph::new("layer", 17), "forward/");
    let weight = |name: &str| b.input(name, TensorType::new(DType::Float, vec![Dim::Fixed(WIDTH), Dim::Fixed(WIDTH)]));
    let x = b.input("x", TensorType::new(DType::Float, dims.to_vec()));
    let gate = x.matmul(weight("gate"));
    let silu = gate * gate.sigmoid();
    let up = silu.matmul(weight("up"));
    let gelu = up * ((up / 2f64.sqrt()).unary("Erf") + 1.0);
    b.output("loss", (gelu + silu).sum_all());
    let mut forward = b.finish();
    engine::infer_types(&mut forward).unwrap();
    let wanted = ["gate", "up"].map(|name| forward.find(name).unwrap());
    let loss = forward.find("loss").unwrap();
    let b = Builder::new(forward, BACKWARD);
    let gradients: Vec<Val<'_>> = grad::differentiate(&b, loss, &wanted).unwrap();
    for (name, gradient) in ["dgate", "dup"].iter().zip(gradients) {
        b.output(name, gradient);
    }
    b.finish()
}

fn rows() -> [Dim; 2] {
    [Dim::Named("n".into()), Dim::Fixed(WIDTH)]
}

fn is_backward(node: &Node) -> bool {
    node.name.starts_with(BACKWARD)
}

/// The operators of the forward values that the gradient reads, but for their shapes.
fn kept(graph: &Graph) -> HashSet<String> {
    let producers = graph.producers();
    let reading = graph.nodes.iter().filter(|node| is_backward(node) && node.op != "Shape");
    let written = reading.flat_map(Node::reads).filter_map(|id| producers.get(&id)).map(|index| &graph.nodes[*index]);
    written.filter(|node| node.name.starts_with("forward/")).map(|node| node.op.clone()).collect()
}

#[test]
fn what_elementwise_operators_make_from_a_kept_value_is_not_kept() {
    let mut graph = layer(rows());
    let before: HashSet<String> = ["MatMul", "Sigmoid", "Mul", "Div", "Add"].map(String::from).into();
    assert!(kept(&graph).is_superset(&before), "{:?}", kept(&graph));
    grad::recompute(&mut graph, BACKWARD);
    assert_eq!(kept(&graph), ["MatMul".to_string()].into(), "the products alone");
    assert_eq!(graph.clone().sort(), Ok(()));
    let mut sorted = graph.clone();
    sorted.sort().unwrap();
    assert_eq!(sorted.nodes, graph.nodes, "each node stands behind what it reads");
}

#[test]
fn narrow_values_are_kept() {
    // Of open dimensions alone nothing says that they are many.
    let mut graph = layer([Dim::Named("n".into()), Dim::Fixed(WIDTH)]);
    for value in &mut graph.values {
        if let Some(shape) = value.ty.as_mut().and_then(|ty| ty.shape.as_mut()) {
            shape.iter_mut().for_each(|dim| *dim = Dim::Named("n".into()));
        }
    }
    let before = graph.nodes.clone();
    grad::recompute(&mut graph, BACKWARD);
    assert_eq!(graph.nodes, before);
}

#[test]
fn gradients_are_the_same_to_the_last_bit() {
    let kept = layer(rows());
    let mut again = kept.clone();
    grad::recompute(&mut again, BACKWARD);
    assert!(again.nodes.iter().any(|node| node.name.starts_with(AGAIN)));
    let mut random = fastrand::Rng::with_seed(3);
    let mut tensor = |shape: &[u64]| {
        let values: Vec<f32> = (0..shape.iter().product()).map(|_| random.f32() - 0.5).collect();
        Tensor::from_f32(shape, &values)
    };
    let feeds = [("x", tensor(&[5, WIDTH])), ("gate", tensor(&[WIDTH, WIDTH])), ("up", tensor(&[WIDTH, WIDTH]))];
    let feeds: Vec<(&str, &Tensor)> = feeds.iter().map(|(name, tensor)| (*name, tensor)).collect();
    let run = |graph: &Graph| {
        let options = Options { threads: 1, optimisation: Optimisation::Off, ..Options::default() };
        Session::from_graph(graph, &options).unwrap().run(&feeds).unwrap()
    };
    assert_eq!(run(&again), run(&kept));
}
