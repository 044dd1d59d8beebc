//! What is refused: every row is a file that a reader must survive, and words that its message must have.

use super::wire::*;
use edgetune::onnx::{self, Error};
use std::path::Path;

fn error_of(model: Message) -> String {
    match onnx::read_bytes(model.into(), None) {
        Err(error) => error.to_string(),
        Ok(read) => panic!("read: {read:?}"),
    }
}

#[track_caller]
fn refuses(model: Message, words: &[&str]) {
    let error = error_of(model);
    for word in words {
        assert!(error.contains(word), "`{word}` is missing in: {error}");
    }
}

fn relu() -> Message {
    node("Relu", &["x"], &["y"])
}

#[test]
fn versions_outside_the_supported_ones() {
    let of = |ir, opset| header(ir, opset).message(7, &graph(&[relu()]));
    onnx::read_bytes(of(3, 7).into(), None).unwrap();
    onnx::read_bytes(of(13, 28).into(), None).unwrap();
    refuses(of(2, 17), &["IR version 2", "export the model again"]);
    refuses(of(3, 6), &["operator set 6", "7 to 28"]);
    refuses(of(13, 29), &["operator set 29"]);
    refuses(Message::new().int(1, 8).message(7, &graph(&[relu()])), &["opset_import"]);
    refuses(Message::new().int(1, 8), &["no graph"]);
    refuses(Message::new().message(7, &graph(&[relu()])), &["no ir_version"]);
}

#[test]
fn old_forms_that_have_no_new_one() {
    let of = |node: Message| header(6, 9).message(7, &graph(&[node]));
    let branch = node("If", &["x"], &["y"]).message(5, &subgraph("then_branch", &graph(&[relu()])));
    refuses(of(branch), &["`If_0`", "operator set 9", "control flow", "model.ir_version = 8"]);
    let statistics = node("BatchNormalization", &["x"; 5], &["y"])
        .message(5, &Message::new().text(1, "spatial").int(20, 2).int(3, 0));
    refuses(of(statistics), &["`BatchNormalization_0`", "spatial = 0"]);
    refuses(of(node("Upsample", &["x", "x"], &["y"])), &["`Upsample_0`", "scales are not constants"]);
}

#[test]
fn graphs_that_are_no_graphs() {
    let two = [node("Add", &["x", "b"], &["a"]).text(3, "first"), node("Relu", &["a"], &["b"]).text(3, "second")];
    let cyclic = graph(&[two[0].clone(), two[1].clone(), node("Relu", &["b"], &["y"])]);
    refuses(model(&cyclic), &["`first`", "cycle"]);
    refuses(model(&graph(&[node("Add", &["y", "x"], &["y"])])), &["`Add_0`", "cycle"]);
    refuses(model(&graph(&[node("Add", &["x", "gone"], &["y"])])), &["`Add_0`", "`gone`", "nothing writes"]);
    refuses(model(&graph(&[relu(), relu()])), &["`y` is defined twice", "by node `Relu_1`"]);
    refuses(model(&graph(&[node("Relu", &["x"], &["x"]), relu()])), &["`x` is defined twice"]);
    refuses(model(&graph(&[])), &["output `y` is written by no node"]);
    refuses(model(&Message::new().message(1, &relu()).message(11, &value("x"))), &["no outputs"]);
    refuses(model(&graph(&[relu()]).message(12, &Message::new())), &["output number 1 has no name"]);
    refuses(model(&graph(&[relu()]).message(11, &Message::new().text(1, "z"))), &["input `z` is not a tensor"]);
    refuses(model(&graph(&[relu().text(7, "acme")])), &["`Relu_0`", "domain `acme`"]);
}

#[test]
fn tensors_whose_bytes_do_not_fit_their_shape() {
    let with = |tensor: Message| model(&adds(&tensor));
    let four = [0u8; 4];
    onnx::read_bytes(with(tensor("w", 1, &[1]).bytes(9, &four)).into(), None).unwrap();
    refuses(with(tensor("w", 1, &[2]).bytes(9, &four)), &["`w`", "8 bytes", "4 are stored"]);
    refuses(with(tensor("w", 1, &[0]).bytes(9, &four)), &["0 bytes", "4 are stored"]);
    refuses(with(tensor("w", 1, &[1])), &["4 bytes", "0 are stored"]);
    refuses(with(tensor("w", 1, &[-1]).bytes(9, &four)), &["`w`", "[-1]"]);
    refuses(with(tensor("w", 1, &[i64::MAX, 2]).bytes(9, &four)), &["not a shape that can exist"]);
    refuses(with(tensor("w", 1, &[1 << 62]).bytes(9, &four)), &["not a shape that can exist"]);
    refuses(with(tensor("w", 1, &[1 << 40]).bytes(9, &four)), &["4398046511104 bytes"]);
    refuses(with(tensor("w", 22, &[3]).bytes(9, &[0])), &["int4", "2 bytes"]);
    refuses(with(tensor("w", 8, &[1]).bytes(6, b"a")), &["`w`", "element type 8"]);
    refuses(with(tensor("w", 17, &[1]).bytes(9, &[0])), &["element type 17"]);
    refuses(with(tensor("w", 1, &[1]).bytes(9, &four).message(3, &Message::new())), &["segments"]);
    refuses(with(tensor("", 1, &[1]).bytes(9, &four)), &["initializer number 0 has no name"]);
    let sparse = Message::new().message(1, &tensor("s", 1, &[1]));
    refuses(model(&graph(&[relu()]).message(15, &sparse)), &["`s`", "sparse"]);
}

#[test]
fn attributes_that_cannot_be_kept() {
    let with = |attribute: Message| model(&graph(&[relu().text(3, "here").message(5, &attribute)]));
    refuses(with(attribute("a", 3, 4, &[0xff])), &["`here` (Relu)", "`a`", "UTF-8"]);
    refuses(with(attribute("a", 13, 14, &[])), &["attribute type 13"]);
    refuses(with(attribute("a", 9, 10, &[])), &["attribute type 9"]);
    refuses(with(Message::new().text(1, "a").int(20, 4)), &["has no value"]);
    refuses(with(Message::new().text(1, "a").int(20, 2).text(21, "b")), &["refers to `b`"]);
    let constant = |attribute: Message| {
        model(&graph(&[node("Constant", &[], &["c"]).message(5, &attribute), node("Add", &["x", "c"], &["y"])]))
    };
    refuses(constant(attribute("sparse_value", 11, 22, &[])), &["`Constant_0`", "`sparse_value`", "type 11"]);
    refuses(constant(attribute("value", 1, 4, &[])), &["`value`", "not a constant's"]);
    refuses(model(&graph(&[node("Constant", &[], &["y"])])), &["exactly one attribute"]);
}

#[test]
fn functions_that_never_end() {
    let call = |name: &str| node(name, &["x"], &["y"]).text(7, "local");
    let with = |functions: &[Message]| {
        let model = model(&graph(&[call("F0")])).message(8, &import("local", 1));
        functions.iter().fold(model, |model, function| model.message(25, function))
    };
    refuses(with(&[function("F0", &[call("F0")])]), &["local::F0", "calls itself"]);
    refuses(with(&[function("F0", &[call("F1")]), function("F1", &[call("F0")])]), &["calls itself"]);
    // F0 calls F1 twice, F1 calls F2 twice …: 2⁴⁰ nodes.
    let twice = |n: usize| {
        let next = format!("F{}", n + 1);
        let first = node(&next, &["x"], &["t"]).text(7, "local");
        function(&format!("F{n}"), &[first, node(&next, &["t"], &["y"]).text(7, "local")])
    };
    let mut bomb: Vec<Message> = (0..40).map(twice).collect();
    bomb.push(function("F40", &[relu()]));
    refuses(with(&bomb), &["too large", "onnx.inliner"]);
    let chain: Vec<Message> = (0..100).map(|n| function(&format!("F{n}"), &[call(&format!("F{}", n + 1))])).collect();
    refuses(with(&chain), &["nested more than 64 deep"]);
    // Few bytes in the file, very many after inlining: a long name put before many, one attribute given to many.
    let many_of = |node: &dyn Fn(usize) -> Message| function("F0", &(0..1000).map(node).collect::<Vec<_>>());
    let long = model(&graph(&[call("F0").text(3, &"n".repeat(1 << 20))])).message(8, &import("local", 1));
    refuses(long.message(25, &many_of(&|n| node("Relu", &["x"], &[&format!("t{n}")]))), &["too large"]);
    let refers = |n: usize| {
        let reference = Message::new().text(1, "a").int(20, 3).text(21, "a");
        node("Relu", &["x"], &[&format!("t{n}")]).message(5, &reference)
    };
    let given = call("F0").message(5, &attribute("a", 3, 4, &[b'a'; 1 << 20]));
    let large = model(&graph(&[given])).message(8, &import("local", 1));
    refuses(large.message(25, &many_of(&refers)), &["too large"]);
    let two_inputs = node("F0", &["x", "x"], &["y"]).text(7, "local");
    let wide = model(&graph(&[two_inputs])).message(8, &import("local", 1)).message(25, &function("F0", &[relu()]));
    refuses(wide, &["more inputs or outputs"]);
    refuses(with(&[function("F0", &[relu()]).message(9, &import("", 18))]), &["operator set `` 18", "17"]);
}

#[test]
fn nesting_without_end() {
    // The innermost graph reads `x`, which only the outermost has.
    let nested = |levels: usize| {
        let inner = Message::new().message(1, &relu()).message(12, &value("y"));
        let wrap = |graph: Message, _| {
            let node = node("If", &["x"], &["y"]).message(5, &subgraph("then_branch", &graph));
            Message::new().message(1, &node).message(12, &value("y"))
        };
        model(&(0..levels).fold(inner, wrap).message(11, &value("x")))
    };
    onnx::read_bytes(nested(16).into(), None).unwrap();
    refuses(nested(17), &["nested more than 16 deep"]);
    refuses(nested(1000), &["recursion limit"]);
    refuses(nested(10_000), &["recursion limit"]);
}

#[test]
fn external_data_outside_the_models_folder() {
    let folder = tempfile::tempdir().unwrap();
    let inside = folder.path().join("model");
    std::fs::create_dir(&inside).unwrap();
    std::fs::write(folder.path().join("secret"), [0; 4096]).unwrap();
    std::fs::write(inside.join("data"), [0; 8]).unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink("../secret", inside.join("link")).unwrap();
    let read = |entries: &[(&str, &str)]| {
        onnx::read_bytes(model(&adds(&external("w", &[1], entries))).into(), Some(&inside)).map(|_| ())
    };
    read(&[("location", "data"), ("offset", "4"), ("length", "4")]).unwrap();
    read(&[("location", "./data")]).unwrap();
    let absolute = folder.path().join("secret").to_string_lossy().into_owned();
    for (entries, word) in [
        (&[("location", "../secret")][..], "not a path inside"),
        (&[("location", "data/../../secret")], "not a path inside"),
        (&[("location", absolute.as_str())], "not a path inside"),
        (&[("location", "")], "not a path inside"),
        (&[], "not a path inside"),
        #[cfg(unix)]
        (&[("location", "link")], "link out of"),
        (&[("location", ".")], "not a regular file"),
        (&[("location", "gone")], "copy the data file along"),
        (&[("location", "data\0")], "copy the data file along"),
        (&[("location", "data"), ("offset", "8")], "4 bytes from byte 8"),
        (&[("location", "data"), ("offset", "18446744073709551615"), ("length", "4")], "not in the file of 8 bytes"),
        (&[("location", "data"), ("offset", "-1")], "`-1` is not a number"),
        (&[("location", "data"), ("length", "8")], "4 bytes but 8 are stored"),
        (&[("location", "data"), ("length", "9")], "9 bytes from byte 0"),
    ] {
        let error = read(entries).unwrap_err().to_string();
        assert!(error.contains("`w`") && error.contains(word), "{entries:?}: {error}");
    }
    let error = onnx::read_bytes(model(&adds(&external("w", &[1], &[("location", "data")]))).into(), None).unwrap_err();
    assert!(error.to_string().contains("read it from its file"), "{error}");
}

#[test]
fn paths_that_are_no_model() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.onnx");
    let fault = |path: &Path| {
        let error = onnx::read(path).unwrap_err();
        assert!(error.to_string().starts_with(&*path.to_string_lossy()), "{error}");
        format!("{:?}", error.fault())
    };
    assert!(fault(&path).starts_with("Open"));
    assert!(fault(folder.path()).starts_with("NotAFile"));
    std::fs::write(&path, []).unwrap();
    assert!(fault(&path).starts_with("Empty"));
    std::fs::write(&path, "version https://git-lfs.github.com/spec/v1\n").unwrap();
    assert!(fault(&path).starts_with("Decode"));
    std::fs::write(&path, [0x93, b'N', b'U', b'M', b'P', b'Y']).unwrap();
    assert!(fault(&path).starts_with("Decode"));
}

#[test]
fn a_model_cut_off_at_any_byte() {
    let whole = include_bytes!("../../goldens/onnx/torchscript.onnx");
    onnx::read_bytes(whole[..].into(), None).unwrap();
    for length in 0..whole.len() {
        let error = onnx::read_bytes(whole[..length].into(), None).unwrap_err();
        assert!(matches!(error, Error::Decode { .. } | Error::Missing { .. } | Error::Empty), "{length}: {error}");
    }
    let functions = include_bytes!("../../goldens/onnx/functions.onnx");
    for length in 0..functions.len() {
        // Without its functions the rest is a model with operators of a custom domain.
        let _ = onnx::read_bytes(functions[..length].into(), None);
    }
}

#[test]
fn damaged_bytes_give_an_error_or_a_graph_that_can_be_written() {
    let wholes: [&[u8]; 4] = [
        include_bytes!("../../goldens/onnx/functions.onnx"),
        include_bytes!("../../goldens/onnx/torchscript.onnx"),
        include_bytes!("../../goldens/onnx/passing.onnx"),
        include_bytes!("../../goldens/onnx/typed.onnx"),
    ];
    let mut random = fastrand::Rng::with_seed(17);
    let mut readable = 0;
    for case in 0..2000 {
        let mut bytes = wholes[case % wholes.len()].to_vec();
        for _ in 0..random.usize(1..=4) {
            let at = random.usize(0..bytes.len());
            match random.u8(0..4) {
                0 => bytes[at] = random.u8(..),
                1 => bytes[at] ^= 1 << random.u8(0..8),
                2 => drop(bytes.splice(at..at, std::iter::repeat_with(|| random.u8(..)).take(3))),
                _ => drop(bytes.drain(at..(at + random.usize(1..16)).min(bytes.len()))),
            }
            if bytes.is_empty() {
                break;
            }
        }
        let Ok(model) = onnx::read_bytes(bytes.into(), None) else { continue };
        readable += 1;
        let written = onnx::encode(&model.graph, &onnx::Weights::Embedded);
        let again = onnx::read_bytes(written.into(), None).unwrap_or_else(|error| panic!("case {case}: {error}"));
        assert_eq!(onnx::hash(&again.graph), onnx::hash(&model.graph), "case {case}");
    }
    assert!(readable > 100, "only {readable} of 2000 were readable: the damage is too coarse to test anything");
}
