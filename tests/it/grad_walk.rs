//! The reverse walk, apart from the rules: what it visits, adds up, sums back and refuses.

use edgetune::engine::{self, Options, Session};
use edgetune::grad::{self, Error};
use edgetune::graph::{Attr, Builder, DType, Dim, Graph, Node, Tensor, TensorType, Val, ValueId};

fn float(shape: &[Dim]) -> TensorType {
    TensorType::new(DType::Float, shape.to_vec())
}

fn named(name: &str) -> Dim {
    Dim::Named(name.into())
}

fn vector() -> TensorType {
    float(&[named("n")])
}

/// The graph of `loss = Σ y` for what `write` gives as y.
fn graph(write: impl for<'b> FnOnce(&'b Builder) -> Val<'b>) -> Graph {
    let b = Builder::new(Graph::new("walk", 17), "");
    let y = write(&b);
    b.output("loss", y.sum_all());
    b.finish()
}

/// The gradient of `loss` for the inputs `wanted`, as further outputs `d` + name. Nothing is pruned.
fn with_gradients(mut graph: Graph, wanted: &[&str]) -> Result<Graph, Error> {
    crate::engine::runtime();
    engine::infer_types(&mut graph).unwrap();
    let ids: Vec<_> = wanted.iter().map(|name| graph.find(name).unwrap()).collect();
    let loss = graph.find("loss").unwrap();
    let b = Builder::new(graph, "grad/");
    for (name, gradient) in wanted.iter().zip(grad::differentiate(&b, loss, &ids)?) {
        b.output(&format!("d{name}"), gradient);
    }
    Ok(b.finish())
}

/// Runs the graph and gives the outputs after the loss.
fn run(graph: &Graph, feeds: &[(&str, Tensor)]) -> Vec<Tensor> {
    let mut session = Session::from_graph(graph, &Options { threads: 1, ..Options::default() }).unwrap();
    let feeds: Vec<(&str, &Tensor)> = feeds.iter().map(|(name, tensor)| (*name, tensor)).collect();
    session.run(&feeds).unwrap().split_off(1)
}

/// The gradients at the vectors `feeds`.
fn gradients(graph: Graph, wanted: &[&str], feeds: &[(&str, &[f32])]) -> Vec<Vec<f32>> {
    let graph = with_gradients(graph, wanted).unwrap();
    let tensor = |values: &[f32]| Tensor::from_f32(&[values.len() as u64], values);
    let feeds: Vec<(&str, Tensor)> = feeds.iter().map(|(name, values)| (*name, tensor(values))).collect();
    run(&graph, &feeds).iter().map(|tensor| tensor.to_f32().unwrap()).collect()
}

fn value<'b>(b: &'b Builder, name: &str) -> Val<'b> {
    let id = b.graph().find(name).unwrap();
    b.val(id)
}

fn ops(graph: &Graph) -> Vec<&str> {
    graph.nodes.iter().map(|node| node.op.as_str()).collect()
}

#[test]
fn a_value_read_twice_by_one_node_gets_both_gradients() {
    let square = graph(|b| {
        let x = b.input("x", vector());
        x * x
    });
    assert_eq!(gradients(square, &["x"], &[("x", &[3.0, -1.5])]), [[6.0, -3.0]]);
}

#[test]
fn a_value_read_by_several_nodes_gets_the_sum_of_their_gradients() {
    // y = a·b + a with a = 2x, b = −a: dy/dx = 2 (−2a + 1)
    let diamond = graph(|b| {
        let a = b.input("x", vector()) * 2.0;
        a * (-a) + a
    });
    assert_eq!(gradients(diamond, &["x"], &[("x", &[1.0, -0.5])]), [[-6.0, 6.0]]);
}

#[test]
fn a_value_and_what_depends_on_it_can_both_be_wanted() {
    let mut chain = graph(|b| {
        let x = b.input("x", vector());
        b.output("square", x * x);
        value(b, "square") * 3.0
    });
    chain.outputs.remove(0);
    assert_eq!(gradients(chain, &["x", "square"], &[("x", &[2.0])]), [[12.0], [3.0]]);
}

#[test]
fn nothing_is_written_for_what_is_frozen_or_leads_nowhere() {
    let frozen = graph(|b| {
        let x = b.input("x", vector());
        let below = b.input("frozen", vector()).exp().tanh();
        b.output("aside", (x * 5.0).exp());
        x.sigmoid() * below
    });
    let before = frozen.nodes.len();
    let after = with_gradients(frozen, &["x"]).unwrap();
    let mut pruned = after.clone();
    let aside = pruned.find("aside").unwrap();
    pruned.outputs.retain(|id| *id != aside);
    pruned.prune();
    let dead = ["Mul", "Exp", "Identity"]; // what made `aside`, and nothing of the gradient
    let kept: Vec<&str> = ops(&pruned);
    assert_eq!(after.nodes.len(), kept.len() + dead.len(), "{:?}", ops(&after));
    let added = &ops(&after)[before..];
    assert!(!added.contains(&"Exp") && !added.contains(&"Tanh"), "a frozen branch was differentiated: {added:?}");
}

#[test]
fn a_frozen_operand_costs_nothing() {
    let product = graph(|b| {
        let (rows, columns) = (Dim::Fixed(3), Dim::Fixed(2));
        let x = b.input("x", float(&[named("N"), rows.clone()]));
        x.matmul(b.input("w", float(&[rows, columns])))
    });
    let count = |wanted: &[&str]| {
        let graph = with_gradients(product.clone(), wanted).unwrap();
        ops(&graph).iter().filter(|op| ["MatMul", "Gemm"].contains(op)).count()
    };
    assert_eq!(
        [count(&["w"]), count(&["x"]), count(&["x", "w"])],
        [2, 2, 3],
        "one product forward, one for each wanted"
    );
}

/// Σ x · z for x: [p, 3], z: [q, 3] of any batch sizes.
fn two_batches(x: TensorType, z: TensorType) -> Graph {
    graph(|b| b.input("x", x) * b.input("z", z))
}

#[test]
fn dimensions_of_different_names_are_summed_where_they_broadcast_at_run_time() {
    let batch = |name: &str| float(&[named(name), Dim::Fixed(3)]);
    let unknown = TensorType { dtype: DType::Float, shape: None };
    let types = [(batch("p"), batch("q")), (batch("p"), unknown.clone()), (unknown.clone(), unknown)];
    for (x_type, z_type) in types {
        let graph = with_gradients(two_batches(x_type, z_type), &["x", "z"]).unwrap();
        for (p, q) in [(1, 4), (4, 1), (4, 4), (1, 1)] {
            let count = |rows: u64| (1..=rows * 3).map(|value| value as f32).collect::<Vec<f32>>();
            let (x, z) = (Tensor::from_f32(&[p, 3], &count(p)), Tensor::from_f32(&[q, 3], &count(q)));
            let d = run(&graph, &[("x", x), ("z", z)]);
            assert_eq!((&d[0].shape, &d[1].shape), (&vec![p, 3], &vec![q, 3]), "gradients have their inputs' shapes");
            let summed = |rows: u64, other: u64| match (rows, other) {
                (1, 4) => vec![22.0, 26.0, 30.0],
                (4, 1) => [1.0, 2.0, 3.0].repeat(4),
                _ => count(other),
            };
            assert_eq!(d[0].to_f32().unwrap(), summed(p, q), "dx for {p} and {q} rows");
            assert_eq!(d[1].to_f32().unwrap(), summed(q, p), "dz for {p} and {q} rows");
        }
    }
}

#[test]
fn missing_dimensions_are_summed_at_run_time_where_the_rank_is_unknown() {
    let unknown = TensorType { dtype: DType::Float, shape: None };
    let graph = with_gradients(two_batches(unknown, float(&[Dim::Fixed(3)])), &["z"]).unwrap();
    let x = Tensor::from_f32(&[2, 1, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let d = run(&graph, &[("x", x), ("z", Tensor::from_f32(&[3], &[1.0; 3]))]);
    assert_eq!((d[0].shape.as_slice(), d[0].to_f32().unwrap()), ([3].as_slice(), vec![5.0, 7.0, 9.0]));
}

#[test]
fn no_shape_is_read_at_run_time_where_names_or_sizes_say_enough() {
    let batch = |rows: Dim| float(&[rows, Dim::Fixed(3)]);
    for z in [batch(named("N")), batch(Dim::Fixed(1)), float(&[Dim::Fixed(3)]), float(&[])] {
        let b = Builder::new(Graph::new("walk", 17), "");
        let y = b.input("x", batch(named("N"))) * b.input("z", z);
        b.output("y", y);
        let mut graph = b.finish();
        crate::engine::runtime();
        engine::infer_types(&mut graph).unwrap();
        let [x, z, y] = ["x", "z", "y"].map(|name| graph.find(name).unwrap());
        let b = Builder::new(graph, "grad/");
        let cotangent = b.input("w", batch(named("N")));
        grad::differentiate_from(&b, &[(y, cotangent)], &[x, z]).unwrap();
        assert!(!ops(&b.graph()).contains(&"Shape"), "{:?}", ops(&b.graph()));
    }
}

#[test]
fn the_gradient_has_the_element_type_of_its_value() {
    for dtype in [DType::Float, DType::Double, DType::Float16] {
        let type_of = |dtype| TensorType::new(dtype, vec![named("n")]);
        let mixed = graph(|b| (b.input("x", type_of(dtype)) * 3.0).cast(DType::Float).tanh());
        let graph = with_gradients(mixed, &["x"]).unwrap();
        let session = Session::from_graph(&graph, &Options::default()).unwrap();
        assert_eq!(session.outputs()[1].1.dtype, dtype);
    }
}

#[test]
fn a_gradient_stops_where_the_output_is_a_step() {
    let floor = graph(|b| {
        let x = b.input("x", vector());
        x * x.unary("Floor")
    });
    assert_eq!(gradients(floor, &["x"], &[("x", &[2.5, -0.25])]), [[2.0, -1.0]]);
}

#[test]
fn a_parameter_that_only_steps_or_nothing_reads_is_an_error() {
    let write = |b: &Builder| {
        let x = b.input("x", vector());
        let stepped = b.input("stepped", vector()).unary("Sign");
        let counted = b.input("counted", vector()).unary("Size").cast(DType::Float);
        b.input("unread", vector());
        b.output("y", x * stepped * counted);
        b.output("loss", value(b, "y").sum_all());
    };
    for name in ["stepped", "counted", "unread"] {
        let b = Builder::new(Graph::new("walk", 17), "");
        write(&b);
        let error = with_gradients(b.finish(), &["x", name]).unwrap_err();
        assert_eq!(error, Error::Unreached { value: name.into() });
        assert!(error.to_string().contains("leave it out of setting `train`"), "{error}");
    }
}

/// `loss = Σ node(x)` for a node that has no types, so that no runtime need know it.
fn through(node: Node) -> Result<(), Error> {
    let b = Builder::new(Graph::new("walk", 17), "");
    b.input("x", vector());
    let mut graph = b.finish();
    let y = graph.add_value("y", Some(vector()));
    graph.domains.insert("com.example".into(), 3);
    graph.nodes.push(Node { inputs: vec![Some(x_id(&graph))], outputs: vec![Some(y)], ..node });
    let b = Builder::new(graph, "grad/");
    let cotangent = b.input("w", vector());
    grad::differentiate_from(&b, &[(y, cotangent)], &[x_id(&b.graph())]).map(|_| ())
}

fn x_id(graph: &Graph) -> ValueId {
    graph.find("x").unwrap()
}

#[test]
fn a_refusal_names_the_node_its_operator_and_the_remedy() {
    let text = |op: &str, domain: &str| {
        let node = Node { name: "/enc/3".into(), op: op.into(), domain: domain.into(), ..Node::default() };
        through(node).unwrap_err().to_string()
    };
    let looped = text("Loop", "");
    assert!(looped.starts_with("node `/enc/3` (Loop, opset 17): no gradient; "), "{looped}");
    assert!(looped.contains("setting `train = last:N`"), "{looped}");
    let foreign = text("Twist", "com.example");
    assert!(foreign.starts_with("node `/enc/3` (com.example.Twist, opset 3): no gradient; "), "{foreign}");
    assert!(foreign.contains("edgetune ops"), "{foreign}");
}

/// What a recurrent layer may have that has no gradient, so that `inspect` can say so before anything is trained.
#[test]
fn a_recurrent_layer_without_a_gradient_says_what_is_in_the_way() {
    let names = |names: &[&str]| Attr::Strs(names.iter().map(|name| name.to_string()).collect());
    let cases = [
        ("LSTM", "clip", Attr::Float(3.0)),
        ("GRU", "layout", Attr::Int(1)),
        ("LSTM", "input_forget", Attr::Int(1)),
        ("LSTM", "activations", names(&["Sigmoid", "Relu", "Tanh"])),
        ("GRU", "activations", names(&["HardSigmoid", "Tanh"])),
        ("GRU", "activations", names(&["Sigmoid", "Tanh", "Sigmoid", "Relu"])),
        ("RNN", "activations", names(&["Affine"])),
    ];
    for (op, name, value) in cases {
        let attributes = [(name.to_string(), value)].into();
        let error = through(Node { name: "/enc/3".into(), op: op.into(), attributes, ..Node::default() }).unwrap_err();
        let begins = format!("node `/enc/3` ({op}, opset 17): no gradient; attribute {name} ");
        assert!(error.to_string().starts_with(&begins), "{error}");
        assert!(error.to_string().ends_with("with a smaller setting `train = last:N`"), "{error}");
    }
    let mut graph = Graph::new("peepholes", 17);
    let x = graph.add_input("x", vector());
    let inputs = vec![Some(x), Some(x), Some(x), None, None, None, None, Some(x)];
    let node = Node { op: "LSTM".into(), inputs, ..Node::default() };
    let refusal = grad::blocked(&graph, &node).expect("peepholes have no gradient").to_string();
    assert!(refusal.contains("input P") && refusal.contains("peepholes"), "{refusal}");
    let shouted = [("activations".to_string(), names(&["SIGMOID", "tanh", "Tanh"]))].into();
    let node = Node { attributes: shouted, inputs: vec![Some(x); 3], ..node };
    assert!(grad::blocked(&graph, &node).is_none(), "ONNX Runtime takes the names in any case");
}

#[test]
fn what_a_rule_misses_is_told_with_the_node() {
    let b = Builder::new(Graph::new("walk", 17), "");
    let x = b.input("x", vector());
    let (ratio, training) = (b.scalar(DType::Float, 0.5), b.input("training", TensorType::new(DType::Bool, vec![])));
    let y = b.op("Dropout", &[x, ratio, training], &[("seed", Attr::Int(1))]);
    b.output("loss", y.sum_all());
    let error = with_gradients(b.finish(), &["x"]).unwrap_err().to_string();
    assert!(error.contains("(Dropout, opset 17): ") && error.contains("model.eval()"), "{error}");
}

#[test]
fn outputs_that_need_each_other_share_the_walk() {
    // z = y², y = 3x, cotangents 1 for y and 10 for z: dx = 3 · (1 + 10 · 2y)
    let b = Builder::new(Graph::new("walk", 17), "");
    b.output("y", b.input("x", vector()) * 3.0);
    let y = value(&b, "y");
    b.output("z", y * y);
    let mut graph = b.finish();
    crate::engine::runtime();
    engine::infer_types(&mut graph).unwrap();
    let [x, y, z] = ["x", "y", "z"].map(|name| graph.find(name).unwrap());
    let b = Builder::new(graph, "grad/");
    let cotangents = [(y, b.scalar(DType::Float, 1.0)), (z, b.scalar(DType::Float, 10.0))];
    let dx = grad::differentiate_from(&b, &cotangents, &[x]).unwrap();
    b.output("dx", dx[0]);
    let d = run(&b.finish(), &[("x", Tensor::from_f32(&[1], &[0.5]))]);
    assert_eq!(d[1].to_f32().unwrap(), [93.0]);
}

#[test]
fn an_einsum_without_a_gradient_says_what_to_write_instead() {
    for equation in ["...ij->...ji", "ij,jk", "ii->i", "ij->i", "ij,ij->"] {
        let b = Builder::new(Graph::new("walk", 17), "");
        let x = b.input("x", float(&[Dim::Fixed(2), Dim::Fixed(2)]));
        let inputs = vec![x; equation.split(',').count()];
        let y = b.op("Einsum", &inputs, &[("equation", Attr::Str(equation.into()))]);
        b.output("loss", y.sum_all());
        let error = with_gradients(b.finish(), &["x"]).unwrap_err().to_string();
        assert!(error.contains(equation) && error.contains("MatMul"), "{equation}: {error}");
    }
}

/// A convolution of three channels, each with its own kernel `w`, over space of 4×4.
fn depthwise(w: impl for<'b> FnOnce(&'b Builder) -> Val<'b>) -> Graph {
    let fixed = |sizes: &[u64]| sizes.iter().map(|size| Dim::Fixed(*size)).collect::<Vec<_>>();
    let mut graph = graph(|b| {
        let x = b.input("x", float(&[&[named("n")], &fixed(&[3, 4, 4])[..]].concat()));
        let attributes = [("group", Attr::Int(3)), ("pads", Attr::Ints(vec![1; 4]))];
        b.op("Conv", &[x, w(b)], &attributes)
    });
    crate::engine::runtime();
    engine::infer_types(&mut graph).unwrap();
    graph
}

#[test]
fn a_convolution_whose_kernels_learn_becomes_products_with_the_same_result() {
    let fixed = [3, 1, 3, 3].map(Dim::Fixed);
    let learned = depthwise(|b| b.input("w", float(&fixed)));
    let exchanged = grad::with_faster_nodes(learned.clone());
    assert!(ops(&learned).contains(&"Conv") && !ops(&exchanged).contains(&"Conv"));
    let ramp = |shape: &[u64], step: f32| {
        let count = shape.iter().product::<u64>();
        Tensor::from_f32(shape, &(0..count).map(|i| (i as f32 * step).sin()).collect::<Vec<_>>())
    };
    let feeds = [("x", ramp(&[2, 3, 4, 4], 0.7)), ("w", ramp(&[3, 1, 3, 3], 1.3))];
    let loss = |graph: &Graph| {
        let mut session = Session::from_graph(graph, &Options { threads: 1, ..Options::default() }).unwrap();
        let feeds: Vec<(&str, &Tensor)> = feeds.iter().map(|(name, tensor)| (*name, tensor)).collect();
        session.run(&feeds).unwrap()[0].to_f32().unwrap()[0]
    };
    assert!((loss(&learned) - loss(&exchanged)).abs() < 1e-4);
    assert!(loss(&learned).abs() > 0.1);
}

#[test]
fn a_convolution_with_constant_kernels_stays_as_it_is() {
    let frozen = depthwise(|b| b.constant(Tensor::from_f32(&[3, 1, 3, 3], &[0.5; 27])));
    assert_eq!(ops(&grad::with_faster_nodes(frozen.clone())), ops(&frozen));
}

/// The standard deviation of a channel that does not vary is 0, where the slope of √ is infinite and what it is multiplied by is
/// 0: speaker models pool such deviations (x-vector, ECAPA-TDNN). Elsewhere the gradient is what it was.
#[test]
fn the_deviation_of_a_constant_channel_has_a_gradient_of_zero() {
    let deviation = graph(|b| {
        let x = b.input("x", vector());
        let centred = x - x.reduce_sum(&[0], true) * 0.5;
        ((centred * centred).reduce_sum(&[0], true) * 0.5).sqrt()
    });
    assert_eq!(gradients(deviation.clone(), &["x"], &[("x", &[3.0, 3.0])]), [[0.0, 0.0]]);
    assert_eq!(gradients(deviation, &["x"], &[("x", &[1.0, 5.0])]), [[-0.5, 0.5]]);
}

/// Every function whose slope is infinite at the edge of where it is defined: one such sample must not make all weights NaN.
#[test]
fn a_slope_that_is_infinite_counts_as_zero() {
    let at = |name: &str, edge: f32, write: &dyn for<'b> Fn(Val<'b>) -> Val<'b>| {
        let graph = graph(|b| write(b.input("x", vector())));
        let found = gradients(graph, &["x"], &[("x", &[edge])]);
        assert_eq!(found, [[0.0]], "{name} at {edge}");
    };
    for (name, edge) in [("Sqrt", 0.0), ("Log", 0.0), ("Asin", 1.0), ("Acos", -1.0), ("Acosh", 1.0), ("Atanh", 1.0)] {
        at(name, edge, &|x| x.unary(name));
    }
    at("Pow 0.5", 0.0, &|x| x.binary("Pow", x.scalar_like(0.5)));
    at("Pow 0.3", 0.0, &|x| x.binary("Pow", x.scalar_like(0.3)));
    at("Pow by a value", 0.0, &|x| x.binary("Pow", x * 0.0 + 0.3));
    at("ReduceL2", 0.0, &|x| x.builder().op("ReduceL2", &[x], &[]));
    at("ReduceLogSum", 0.0, &|x| x.builder().op("ReduceLogSum", &[x], &[]));
    at("LpNormalization", 0.0, &|x| x.builder().op("LpNormalization", &[x], &[("axis", Attr::Int(0))]));
}
