//! Models that ONNX Runtime refuses or that stop while they run: whatever command meets one says in its own words what is wrong and what
//! helps, before ONNX Runtime has a word.

use super::Place;
use super::models::{noise, npy, npy_i64};
use edgetune::graph::{Attr, Builder, DType, Dim, Graph, Node, Tensor, TensorType, Val};
use edgetune::onnx::{self, Weights};

/// A model, what a message about it has to name, and whether a command may succeed with it.
struct Odd {
    name: &'static str,
    file: Vec<u8>,
    names: &'static str,
}

fn odd(name: &'static str, names: &'static str, change: impl FnOnce(&mut Graph)) -> Odd {
    let b = Builder::new(Graph::new(name, 17), "");
    let batch = Dim::Named("batch".into());
    let x = b.input("x", TensorType::new(DType::Float, vec![batch, Dim::Fixed(4)]));
    let hidden = dense(&b, x, 4, 6).unary("Relu");
    b.output("y", dense(&b, hidden, 6, 3));
    let mut graph = b.finish();
    for (node, name) in graph.nodes.iter_mut().zip(["lower", "bend", "upper"]) {
        node.name = name.into();
    }
    change(&mut graph);
    Odd { name, file: onnx::encode(&graph, &Weights::Embedded), names }
}

fn dense<'b>(b: &'b Builder, x: Val<'b>, from: u64, to: u64) -> Val<'b> {
    let weight =
        |shape: &[u64]| b.constant(Tensor::from_f32(shape, &noise(from, shape.iter().product::<u64>() as usize)));
    b.op("Gemm", &[x, weight(&[from, to]), weight(&[to])], &[])
}

fn node<'g>(graph: &'g mut Graph, name: &str) -> &'g mut Node {
    graph.nodes.iter_mut().find(|node| node.name == name).unwrap()
}

/// Another tensor in the place of a node's input.
fn exchange(graph: &mut Graph, name: &str, input: usize, tensor: Tensor) {
    let id = graph.add_initializer("other", tensor);
    node(graph, name).inputs[input] = Some(id);
}

fn models() -> Vec<Odd> {
    let zeros = |shape: &[u64]| Tensor::from_f32(shape, &vec![0.0; shape.iter().product::<u64>() as usize]);
    vec![
        odd("unknown_operator", "operator", |graph| {
            let node = node(graph, "bend");
            (node.op, node.domain) = ("Best".into(), "com.mine".into());
            graph.domains.insert("com.mine".into(), 1);
        }),
        odd("misspelt_operator", "bend", |graph| node(graph, "bend").op = "Rellu".into()),
        odd("sizes", "lower", |graph| exchange(graph, "lower", 1, zeros(&[5, 6]))),
        odd("types", "lower", |graph| exchange(graph, "lower", 1, Tensor::from_i64(&[4, 6], &[0; 24]))),
        odd("no_inputs", "upper", |graph| node(graph, "upper").inputs.truncate(1)),
        odd("no_such_attribute", "upper", |graph| {
            node(graph, "upper").attributes.insert("sideways".into(), Attr::Int(1));
        }),
        odd("later_operators", "opset", |graph| graph.opset = 99),
        odd("stops", "node `", |graph| {
            let target = graph.add_initializer("target", Tensor::from_i64(&[2], &[-1, 5]));
            let hidden = node(graph, "bend").outputs[0];
            let rows = graph.add_value("rows", None);
            let reshape = Node {
                name: "rows".into(),
                op: "Reshape".into(),
                inputs: vec![hidden, Some(target)],
                outputs: vec![Some(rows)],
                ..Node::default()
            };
            graph.nodes.insert(2, reshape);
            exchange(graph, "upper", 1, zeros(&[5, 3]));
            node(graph, "upper").inputs[0] = Some(rows);
        }),
        table(),
    ]
}

/// `x` [batch, 3], numbers of rows of a table that has two.
fn table() -> Odd {
    let b = Builder::new(Graph::new("table", 17), "");
    let batch = Dim::Named("batch".into());
    let x = b.input("x", TensorType::new(DType::Int64, vec![batch, Dim::Fixed(3)]));
    let rows = b.constant(Tensor::from_f32(&[2, 4], &noise(1, 8))).gather(x, 0);
    let flat = rows.reshape_to(&[-1, 12]);
    b.output("y", dense(&b, flat, 12, 3));
    let mut graph = b.finish();
    graph.nodes[0].name = "look_up".into();
    Odd { name: "table", file: onnx::encode(&graph, &Weights::Embedded), names: "look_up" }
}

#[test]
fn whoever_meets_an_odd_model_names_the_node_and_what_helps() {
    let place = Place::new();
    place.write("floats/x.npy", npy(&[12, 4], &noise(3, 48)));
    place.write("floats/y.npy", npy_i64(&[12], &(0..12).map(|row| row % 3).collect::<Vec<_>>()));
    place.write("numbers/x.npy", npy_i64(&[12, 3], &[7; 36]));
    place.write("numbers/y.npy", npy_i64(&[12], &(0..12).map(|row| row % 3).collect::<Vec<_>>()));
    for Odd { name, file, names } in models() {
        place.write("model.onnx", file);
        let data = if name == "table" { "numbers" } else { "floats" };
        let commands = [
            "inspect model.onnx".to_string(),
            "check model.onnx --train last:2".to_string(),
            "prepare model.onnx --classes 3 --out bundle".to_string(),
            format!("train model.onnx --data {data} --train last:2 --epochs 1 --out a.edelta"),
            format!("train model.onnx --data {data} --train head --epochs 1 --out a.edelta"),
        ];
        let mut failed = 0;
        for command in commands {
            let ran = place.run(&command);
            if ran.code == Some(0) {
                continue;
            }
            failed += 1;
            let message = ran.fails(&[names]);
            // What the runtime says is the end of a message.
            let (own, _) = message.split_once(" says: ").unwrap_or((&message, ""));
            let says = own.contains("model.onnx") || own.contains("node `");
            assert!(says && own.contains(names), "{name}, {command}: {message}");
            assert!(own.contains("; "), "{name}, {command}: no remedy: {message}");
            assert!(!place.path("a.edelta").exists(), "{name}, {command}");
        }
        assert!(failed > 0, "{name}: nothing is wrong with it");
    }
}
