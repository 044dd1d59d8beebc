//! Model files: what is read, what is written. `refused` has what is not.

mod opsets;
mod refused;
mod sklearn;
mod wire;

use edgetune::graph::{Attr, Builder, DType, Dim, Graph, Tensor, TensorType, ValueId};
use edgetune::onnx::{self, Error, Weights, WeightsFile};
use std::path::PathBuf;
use wire::{Message, adds, attribute, external, graph, model, node, subgraph, tensor, value};

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/onnx").join(name)
}

fn read(model: wire::Message) -> Graph {
    onnx::read_bytes(model.into(), None).unwrap().graph
}

fn again(graph: &Graph) -> Graph {
    onnx::read_bytes(onnx::encode(graph, &Weights::Embedded).into(), None).unwrap().graph
}

fn names(graph: &Graph, ids: &[ValueId]) -> Vec<String> {
    ids.iter().map(|id| graph.value_name(*id).to_string()).collect()
}

fn ops(graph: &Graph) -> Vec<&str> {
    graph.nodes.iter().map(|node| node.op.as_str()).collect()
}

/// `y = leaky(x · w + b)` with a weight that is large enough to go into a weights file.
fn small() -> Graph {
    let mut graph = Graph::new("small", 17);
    let w = graph.add_initializer("w", Tensor::from_f32(&[16, 32], &(0..512).map(|i| i as f32).collect::<Vec<_>>()));
    let b = graph.add_initializer("b", Tensor::from_f32(&[32], &[0.5; 32]));
    let build = Builder::new(graph, "");
    let x = build.input("x", TensorType::new(DType::Float, vec![Dim::Named("batch".into()), Dim::Fixed(16)]));
    let y = x.matmul(build.val(w)) + build.val(b);
    build.output("y", build.op("LeakyRelu", &[y], &[("alpha", Attr::Float(0.25))]));
    build.finish()
}

#[test]
fn embedded_and_external_weights_read_back_as_the_same_graph() {
    let graph = small();
    let folder = tempfile::tempdir().unwrap();
    let embedded = folder.path().join("embedded.onnx");
    let external = folder.path().join("external.onnx");
    let file = onnx::write_weights(&folder.path().join("weights.bin"), onnx::initializers(&graph)).unwrap();
    assert_eq!(file.tensors.keys().collect::<Vec<_>>(), ["w"], "b is too small to leave the model file");
    std::fs::write(&embedded, onnx::encode(&graph, &Weights::Embedded)).unwrap();
    std::fs::write(&external, onnx::encode(&graph, &Weights::External(&file))).unwrap();
    assert!(std::fs::metadata(&external).unwrap().len() < 1000);
    for path in [&embedded, &external] {
        let read = onnx::read(path).unwrap();
        assert_eq!(onnx::hash(&read.graph), onnx::hash(&graph));
        assert_eq!(read.graph.initializers.values().next().unwrap().shape, [16, 32]);
        assert_eq!(ops(&read.graph), ["MatMul", "Add", "LeakyRelu", "Identity"]);
        assert_eq!(read.graph.nodes[2].float("alpha", 0.0), 0.25);
        assert_eq!(read.graph.ty(read.graph.inputs[0]).unwrap().to_string(), "float[batch,16]");
        assert_eq!((read.ir_version, read.producer.starts_with("edgetune ")), (8, true));
    }
    assert_eq!(WeightsFile::reopen([external.as_path(), embedded.as_path()]).unwrap(), Some(file));
    assert_eq!(WeightsFile::reopen([embedded.as_path()]).unwrap(), None);
}

#[test]
fn a_weights_file_is_aligned_shared_and_refuses_two_meanings() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.bin");
    let a = Tensor::from_f32(&[257], &[1.0; 257]);
    let b = Tensor::from_f32(&[256], &[2.0; 256]);
    let tied = a.clone();
    let tensors = [("a", &a), ("tied", &tied), ("b", &b), ("a", &a)];
    let file = onnx::write_weights(&path, tensors).unwrap();
    assert_eq!((file.tensors["a"].clone(), file.tensors["tied"].clone()), (0..1028, 0..1028));
    assert_eq!(file.tensors["b"], 1088..2112, "the next multiple of 64");
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!(bytes.len(), 2112);
    assert_eq!((&bytes[..1028], &bytes[1088..]), (&a.data[..], &b.data[..]));
    let error = onnx::write_weights(&path, [("a", &a), ("a", &b)]).unwrap_err();
    assert!(matches!(error.fault(), Error::WeightsDiffer { tensor } if tensor == "a"), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), bytes, "a failed write leaves the old file");
}

#[test]
fn both_of_torchs_exporters_and_external_data() {
    let script = onnx::read(&golden("torchscript.onnx")).unwrap();
    assert_eq!(ops(&script.graph), ["Conv", "Relu", "ReduceMean", "Gemm"]);
    assert_eq!(script.graph.ty(script.graph.inputs[0]).unwrap().to_string(), "float[batch,3,8,8]");
    let shape = script.graph.initializers[&script.graph.find("head.weight").unwrap()].shape.clone();
    assert_eq!(shape, [5, 4]);
    let external = onnx::read(&golden("external.onnx")).unwrap();
    assert_eq!(onnx::hash(&external.graph), onnx::hash(&script.graph));
    let dynamo = onnx::read(&golden("dynamo.onnx")).unwrap();
    assert_eq!(ops(&dynamo.graph), ["Conv", "BatchNormalization", "Relu", "Reshape", "ReduceMean", "Gemm"]);
    assert_eq!((dynamo.ir_version, dynamo.graph.opset), (10, 18));
    assert_ne!(onnx::hash(&dynamo.graph), onnx::hash(&script.graph));
    for model in [script, external, dynamo] {
        assert_eq!(onnx::hash(&again(&model.graph)), onnx::hash(&model.graph));
    }
}

#[test]
fn every_typed_field_becomes_little_endian_bytes() {
    let graph = onnx::read(&golden("typed.onnx")).unwrap().graph;
    let bytes = |name: &str| graph.initializers[&graph.find(name).unwrap()].data.to_vec();
    let both = |a: &[u8], b: &[u8]| [a, b].concat();
    assert_eq!(bytes("float"), both(&1.5f32.to_le_bytes(), &(-2.0f32).to_le_bytes()));
    assert_eq!(bytes("double"), both(&1.5f64.to_le_bytes(), &(-2.0f64).to_le_bytes()));
    assert_eq!(bytes("int64"), both(&(-1i64).to_le_bytes(), &(1i64 << 40).to_le_bytes()));
    assert_eq!(bytes("int32"), both(&(-1i32).to_le_bytes(), &7i32.to_le_bytes()));
    assert_eq!(bytes("int16"), [255, 255, 7, 0]);
    assert_eq!(bytes("uint16"), [255, 255, 7, 0]);
    assert_eq!(bytes("int8"), [255, 7]);
    assert_eq!(bytes("uint8"), [255, 7]);
    assert_eq!(bytes("uint32"), [255, 255, 255, 255, 7, 0, 0, 0]);
    assert_eq!(bytes("uint64"), both(&u64::MAX.to_le_bytes(), &7u64.to_le_bytes()));
    assert_eq!(bytes("bool"), [1, 0]);
    assert_eq!(bytes("float16"), [0x00, 0x3e, 0x00, 0xc0]);
    assert_eq!(bytes("bfloat16"), [0xc0, 0x3f, 0x00, 0xc0]);
    assert_eq!(bytes("uint4"), [0x7f]);
    assert_eq!(bytes("int4"), [0x78]);
}

/// What ONNX Runtime and ONNX's inliner make of the file was compared when it was made.
#[test]
fn local_functions_are_inlined_with_their_attributes_and_sub_graphs() {
    let graph = onnx::read(&golden("functions.onnx")).unwrap().graph;
    let expected = ["MatMul", "LeakyRelu", "Clip", "Neg", "MatMul", "LeakyRelu", "Clip", "Neg", "If", "Add", "If"];
    assert_eq!(ops(&graph), expected);
    assert!(graph.domains.is_empty(), "{:?}", graph.domains);
    let node = |name: &str| graph.nodes.iter().find(|node| node.name == name).unwrap();
    assert_eq!(node("one/act/leaky").float("alpha", 0.0), 0.25, "the call's attribute");
    assert_eq!(node("two/act/leaky").float("alpha", 0.0), 0.5, "the function's default");
    let clip = node("one/act/clip");
    assert_eq!(clip.inputs[1], None, "an omitted argument");
    assert_eq!(graph.initializers[&clip.inputs[2].unwrap()].to_f32(), Some(vec![3.0]));
    let captures = |name: &str, branch: &str| match &node(name).attributes[branch] {
        Attr::Graph { captures, .. } => names(&graph, captures),
        other => panic!("{other:?}"),
    };
    assert_eq!(captures("Choose_2/if", "then_branch"), ["b"], "the function's input by its name outside");
    assert_eq!(captures("last", "then_branch"), ["m"]);
    assert_eq!(onnx::hash(&again(&graph)), onnx::hash(&graph));
    let passing = onnx::read(&golden("passing.onnx")).unwrap().graph;
    assert_eq!(ops(&passing), ["Identity", "Neg", "Identity"]);
    assert_eq!(names(&passing, &passing.outputs), ["same", "y"]);
}

#[test]
fn constants_are_initializers_wherever_they_are_written() {
    let two = [0, 0, 0, 64];
    let value = tensor("", 1, &[]).bytes(9, &two);
    let named = tensor("w", 1, &[]).bytes(9, &two);
    let constant = node("Constant", &[], &["w"]).message(5, &attribute("value", 4, 5, &value.0));
    let add = node("Add", &["x", "w"], &["y"]);
    let as_initializer = read(model(&adds(&named)));
    let as_node = read(model(&graph(&[constant, add.clone()])));
    let as_typed = read(model(&adds(&tensor("w", 1, &[]).bytes(4, &two))));
    let as_input = read(model(&adds(&named).message(11, &wire::value("w"))));
    let of_domain = read(model(&graph(&[add.text(7, "ai.onnx")]).message(5, &named)));
    let hash = onnx::hash(&as_initializer);
    for other in [&as_node, &as_typed, &as_input, &of_domain] {
        assert_eq!(ops(other), ["Add"]);
        assert_eq!(names(other, &other.inputs), ["x"]);
        assert_eq!(onnx::hash(other), hash);
    }
    let ints = Message::new().text(1, "value_ints").int(20, 7).int(8, 3).int(8, -1);
    let graph =
        read(model(&wire::graph(&[node("Constant", &[], &["s"]).message(5, &ints), node("F", &["s"], &["y"])])));
    assert_eq!(graph.initializers[&graph.find("s").unwrap()].to_i64(), Some(vec![3, -1]));
    let text = node("Constant", &[], &["y"]).message(5, &attribute("value_string", 3, 4, b"cat"));
    let graph = read(model(&wire::graph(&[text])));
    assert_eq!(graph.nodes[0].str("value_string", ""), "cat", "a string is no tensor of ours and stays a node");
}

#[test]
fn nodes_are_sorted_and_named() {
    let nodes = [
        node("Neg", &["b"], &["y"]),
        node("Abs", &["a"], &["b"]).text(3, "same"),
        node("Exp", &["x"], &["a"]).text(3, "same"),
    ];
    let graph = read(model(&graph(&nodes)));
    let found: Vec<&str> = graph.nodes.iter().map(|node| node.name.as_str()).collect();
    assert_eq!((ops(&graph), found), (vec!["Exp", "Abs", "Neg"], vec!["same_1", "same", "Neg_0"]));
}

#[test]
fn outputs_that_no_node_writes() {
    let graph = Message::new()
        .message(5, &tensor("w", 1, &[1]).bytes(9, &[0; 4]))
        .message(11, &value("x"))
        .message(12, &value("x"))
        .message(12, &value("w"));
    let graph = read(model(&graph));
    assert_eq!(names(&graph, &graph.outputs), ["x", "w"]);
    assert_eq!(graph.ty(graph.outputs[1]).unwrap().to_string(), "float[1]");
    assert_eq!(names(&again(&graph), &graph.outputs), ["x", "w"]);
}

#[test]
fn the_oldest_file_format_of_the_operator_set_is_written() {
    for (opset, ir_version) in [(13, 7), (14, 7), (15, 8), (18, 8), (19, 9), (20, 9), (21, 10), (25, 10)] {
        let mut graph = small();
        graph.opset = opset;
        let written = onnx::encode(&graph, &Weights::Embedded);
        assert_eq!(onnx::read_bytes(written.into(), None).unwrap().ir_version, ir_version, "opset {opset}");
    }
}

#[test]
fn types_keep_symbolic_names_and_unknown_sizes() {
    let dim = |dim: Message| Message::new().message(1, &dim);
    let shape = [dim(Message::new().int(1, 3)), dim(Message::new().int(1, -1)), dim(Message::new())];
    let shape = Message(shape.iter().flat_map(|dim| dim.0.clone()).collect());
    let tensor = Message::new().int(1, 1).message(2, &shape);
    let info = Message::new().text(1, "t").message(2, &Message::new().message(1, &tensor));
    let sequence = Message::new().text(1, "s").message(2, &Message::new().message(4, &Message::new()));
    let nodes = [node("A", &["x"], &["t"]), node("B", &["t"], &["s"]), node("C", &["s"], &["y"])];
    let graph = read(model(&graph(&nodes).message(13, &info).message(13, &sequence)));
    let ty = |name: &str| graph.ty(graph.find(name).unwrap()).map(|ty| ty.to_string());
    assert_eq!(ty("x"), Some("float[n]".into()));
    assert_eq!(ty("t"), Some("float[3,?,?]".into()));
    assert_eq!(ty("s"), None);
}

#[test]
fn sub_graphs_follow_the_names_around_them() {
    // The branch reads `x` and writes `t`; around it `x` gets another name and `t` is taken.
    let branch = Message::new().message(1, &node("Neg", &["x"], &["t"])).message(12, &value("t"));
    let node = node("If", &["c"], &["y"]).message(5, &subgraph("then_branch", &branch));
    let old = read(model(&graph(&[node]).message(11, &value("c"))));
    let mut new = Graph::new("new", 17);
    let ty = old.ty(old.inputs[0]).cloned().unwrap();
    new.add_input("x", ty.clone());
    new.add_input("t", ty.clone());
    let c = new.add_input("c", ty.clone());
    let renamed = new.add_input("x", ty);
    let y = new.add_value("y", None);
    let mut choice = old.nodes[0].clone();
    (choice.inputs, choice.outputs) = (vec![Some(c)], vec![Some(y)]);
    let Some(Attr::Graph { captures, .. }) = choice.attributes.get_mut("then_branch") else { panic!() };
    assert_eq!(names(&old, captures), ["x"]);
    *captures = vec![renamed];
    new.nodes.push(choice);
    new.outputs.push(y);
    let written = again(&new);
    let Attr::Graph { encoded, captures } = &written.nodes[0].attributes["then_branch"] else { panic!() };
    assert_eq!(names(&written, captures), ["x_1"]);
    let has = |name: &[u8]| encoded.windows(name.len()).any(|window| window == name);
    assert!(has(b"t_inner1"), "a value that `t` would shadow: {encoded:?}");
    assert_eq!(onnx::hash(&written), onnx::hash(&new));
}

#[test]
fn the_hash_is_of_the_meaning() {
    let graph = small();
    let hash = onnx::hash(&graph);
    let mut same = graph.clone();
    same.add_initializer("idle", Tensor::from_f32(&[1], &[1.0]));
    same.nodes[0].name = "other".into();
    same.name = "other".into();
    assert_eq!(onnx::hash(&same), hash, "what no output depends on, and names of nodes and graphs");
    let (neg, abs, add) = (node("Neg", &["x"], &["a"]), node("Abs", &["x"], &["b"]), node("Add", &["a", "b"], &["y"]));
    let ordered = |nodes: [&Message; 3]| onnx::hash(&read(model(&wire::graph(&nodes.map(Message::clone)))));
    assert_eq!(ordered([&neg, &abs, &add]), ordered([&abs, &neg, &add]), "the order in which nodes are listed");
    let changed = |change: fn(&mut Graph)| {
        let mut other = graph.clone();
        change(&mut other);
        onnx::hash(&other)
    };
    let w = |graph: &Graph| graph.find("w").unwrap();
    assert_ne!(w(&graph), graph.find("b").unwrap());
    let changes: [fn(&mut Graph); 6] = [
        |graph| graph.opset = 18,
        |graph| graph.nodes[2].attributes.insert("alpha".into(), Attr::Float(0.5)).map_or((), drop),
        |graph| graph.nodes[1].op = "Sub".into(),
        |graph| graph.nodes[1].inputs.swap(0, 1),
        |graph| graph.initializers.values_mut().next().unwrap().shape.swap(0, 1),
        |graph| {
            let b = graph.find("b").unwrap();
            graph.initializers.insert(b, Tensor::from_f32(&[32], &[0.25; 32]));
        },
    ];
    for (index, change) in changes.into_iter().enumerate() {
        assert_ne!(changed(change), hash, "change {index}");
    }
}

#[test]
fn weights_are_not_copied() {
    let bytes = bytes::Bytes::from(onnx::encode(&small(), &Weights::Embedded));
    let range = bytes.as_ptr_range();
    let graph = onnx::read_bytes(bytes.clone(), None).unwrap().graph;
    for tensor in graph.initializers.values() {
        assert!(range.contains(&tensor.data.as_ptr()));
    }
}

#[cfg(target_pointer_width = "64")]
#[test]
fn external_weights_of_more_than_two_gigabytes() {
    const BYTES: u64 = 3 << 30;
    let folder = tempfile::tempdir().unwrap();
    let file = std::fs::File::create(folder.path().join("data")).unwrap();
    file.set_len(BYTES + 64).unwrap(); // sparse: takes no disk
    let entries = [("location", "data"), ("offset", "64"), ("length", "3221225472")];
    let path = folder.path().join("large.onnx");
    std::fs::write(&path, model(&adds(&external("w", &[3, 1 << 28], &entries))).0).unwrap();
    let graph = onnx::read(&path).unwrap().graph;
    assert_eq!(graph.initializers.values().next().unwrap().data.len() as u64, BYTES);
}
