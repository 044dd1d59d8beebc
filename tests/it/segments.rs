//! Whole layers that the gradient makes again instead of keeping their inside.

use edgetune::engine::{self, Optimisation, Options, Session};
use edgetune::grad::{self, SEGMENT};
use edgetune::graph::{Builder, DType, Dim, Graph, Node, Tensor, TensorType, Val, ValueId};
use edgetune::train::plan::liveness::{bind, peak};
use std::collections::{BTreeMap, HashMap, HashSet};

const WIDTH: u64 = 64;
const BACKWARD: &str = "backward/";

/// Layers of a residual stream: y = x + tanh(x·A)·B, whose A and B learn. Gives the graph with the gradients of all values.
fn stream(layers: usize) -> (Graph, HashMap<ValueId, ValueId>) {
    crate::engine::runtime();
    let b = Builder::new(Graph::new("stream", 17), "forward/");
    let rows = vec![Dim::Named("n".into()), Dim::Fixed(WIDTH)];
    let mut x = b.input("x", TensorType::new(DType::Float, rows));
    let mut names = Vec::new();
    for layer in 0..layers {
        let weight = |name: String, shape: [u64; 2]| {
            b.input(&name, TensorType::new(DType::Float, shape.iter().map(|size| Dim::Fixed(*size)).collect()))
        };
        let (up, down) =
            (weight(format!("up{layer}"), [WIDTH, 3 * WIDTH]), weight(format!("down{layer}"), [3 * WIDTH, WIDTH]));
        let inside = b.op("Softmax", &[x.matmul(up).tanh()], &[]);
        x = x + inside.matmul(down);
        names.extend([format!("up{layer}"), format!("down{layer}")]);
    }
    b.output("loss", (x * x).sum_all());
    let mut forward = b.finish();
    engine::infer_types(&mut forward).unwrap();
    let wanted: Vec<ValueId> = names.iter().map(|name| forward.find(name).unwrap()).collect();
    let loss = forward.find("loss").unwrap();
    let b = Builder::new(forward, BACKWARD);
    let gradients: HashMap<ValueId, Val<'_>> =
        grad::gradients_of_all(&b, &[(loss, b.scalar(DType::Float, 1.0))], &wanted).unwrap();
    for (name, id) in names.iter().zip(&wanted) {
        b.output(&format!("d{name}"), gradients[id]);
    }
    let gradients = gradients.into_iter().map(|(id, gradient)| (id, gradient.id())).collect();
    (b.finish(), gradients)
}

fn is_forward(node: &Node) -> bool {
    node.name.starts_with("forward/")
}

/// The forward values that the gradient reads, by the operators that write them.
fn kept(graph: &Graph) -> Vec<String> {
    let producers = graph.producers();
    let reading = graph.nodes.iter().filter(|node| !is_forward(node) && node.op != "Shape" && node.op != "Size");
    let read: HashSet<ValueId> = reading.flat_map(Node::reads).collect();
    let written = read.iter().filter_map(|id| producers.get(id)).map(|index| &graph.nodes[*index]);
    let mut kept: Vec<String> = written.filter(|node| is_forward(node)).map(|node| node.op.clone()).collect();
    kept.sort();
    kept
}

#[test]
fn between_layers_the_stream_is_kept_and_nothing_of_a_layer() {
    let (whole, gradients) = stream(9);
    let mut segments = whole.clone();
    grad::segments(&mut segments, BACKWARD, &gradients);
    assert!(segments.nodes.iter().any(|node| node.name.starts_with(SEGMENT)));
    let (before, after) = (kept(&whole), kept(&segments));
    assert!(before.iter().filter(|op| *op == "Softmax").count() == 9, "{before:?}");
    // Of the last segment everything is there.
    assert!(after.iter().filter(|op| *op == "Softmax").count() <= 4, "{after:?}");
    assert_eq!(segments.clone().sort(), Ok(()));
    let sizes = BTreeMap::from([("n".to_string(), 100)]);
    let bytes = |graph: &Graph| peak(&bind(graph, &sizes).unwrap()).bytes;
    let (whole, segments) = (bytes(&whole), bytes(&segments));
    // The weights, their gradients and the stream are there either way.
    assert!(segments * 3 < whole * 2, "{segments} of {whole}");
}

#[test]
fn a_graph_of_one_layer_stays_as_it_is() {
    let (mut graph, gradients) = stream(1);
    let before = graph.nodes.clone();
    grad::segments(&mut graph, BACKWARD, &gradients);
    assert_eq!(graph.nodes, before);
}

#[test]
fn gradients_are_the_same_to_the_last_bit() {
    let (whole, gradients) = stream(6);
    let mut segments = whole.clone();
    grad::segments(&mut segments, BACKWARD, &gradients);
    assert!(segments.nodes.len() > whole.nodes.len());
    let mut random = fastrand::Rng::with_seed(3);
    let mut feeds: Vec<(String, Tensor)> = Vec::new();
    for id in &whole.inputs {
        let shape: Vec<u64> =
            whole.ty(*id).unwrap().shape.iter().flatten().map(|dim| dim.fixed().unwrap_or(5)).collect();
        let values: Vec<f32> = (0..shape.iter().product()).map(|_| random.f32() - 0.5).collect();
        feeds.push((whole.value_name(*id).into(), Tensor::from_f32(&shape, &values)));
    }
    let feeds: Vec<(&str, &Tensor)> = feeds.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    let run = |graph: &Graph| {
        let options = Options { threads: 1, optimisation: Optimisation::Off, ..Options::default() };
        Session::from_graph(graph, &options).unwrap().run(&feeds).unwrap()
    };
    assert_eq!(run(&segments), run(&whole));
}
