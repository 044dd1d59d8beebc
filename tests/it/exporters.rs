//! Models as exporters write them by default, for the batch of the example: trained with batches of another size beside PyTorch, and
//! freed so that each sample has the answer that it has in the file. `tests/goldens/README.md` has the format.

mod page;
mod rows;
mod verbs;

use crate::engine::runtime;
use crate::training::follow::follows_pytorch;
use crate::training::golden::Goldens;
use edgetune::adapter::{Kind, Method, Request};
use edgetune::cut;
use edgetune::engine::{Options, Session};
use edgetune::graph::{Builder, DType, Dim, Graph, Tensor, TensorType};
use edgetune::onnx;
use edgetune::train::prepare::{Base, prepare};
use std::path::{Path, PathBuf};

/// Largest relative difference from PyTorch's loss in any of the ten steps.
const TOLERANCE: f64 = 1e-3;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/exporters")
}

macro_rules! models {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                follows_pytorch(&Goldens::read("exporters"), stringify!($name), "deep", TOLERANCE);
            }
        )*

        const TESTED: &[&str] = &[$(stringify!($name)),*];
    };
}

models! {
    cnn_default_1 cnn_default_2 cnn_torchscript_1 attention_default_1 attention_default_2 attention_torchscript_1
    attention_second_default_1 attention_second_default_2 attention_second_torchscript_1 encoder_default_1 encoder_default_2
    encoder_torchscript_1 vit_default_1 vit_default_2 vit_torchscript_1 windows_default_1 windows_default_2 windows_torchscript_1
    lstm_default_1 lstm_default_2 lstm_torchscript_1 gru_default_1 gru_default_2 gru_torchscript_1 bert_default_1 bert_default_2 bert_torchscript_1
    grouped_default_1 grouped_default_2 grouped_torchscript_1 einsum_default_1 einsum_default_2 einsum_torchscript_1
    rnn_default_1 rnn_default_2 rnn_torchscript_1 causal_default_1 causal_default_2 causal_torchscript_1 cosine_default_1 cosine_default_2
    cosine_torchscript_1 llama_classes_default_1 llama_classes_default_2 llama_classes_torchscript_1 llama_classes_torchscript_2
    bert_torchscript14_1 swin_torchscript_1
}

#[test]
fn every_golden_is_tested_and_learns() {
    for model in Goldens::read("exporters").models {
        assert!(TESTED.contains(&model.name.as_str()), "no test for {}", model.name);
        let losses = &model.run("deep").losses;
        let (first, last) = (losses[0] + losses[1], losses[8] + losses[9]);
        assert!(last < 0.98 * first, "{}: from {first} to {last}", model.name);
    }
}

/// Angles and masks with a dimension of 1 at operator sets 23 and 24: ONNX Runtime refuses the files for more than one sample or query.
#[test]
fn what_the_standard_spreads_is_spread() {
    let newest = Goldens::read("newest");
    assert_eq!(newest.models.len(), 6);
    for model in &newest.models {
        follows_pytorch(&newest, &model.name, "deep", TOLERANCE);
        let base = Base::read(&newest.path(model)).unwrap();
        let layers = cut::layers(&base.graph, base.graph.outputs[0]);
        assert_eq!(layers.len(), 2, "{}: angles are no layer", model.name);
    }
}

#[test]
fn a_model_that_mixes_samples_says_where_and_what_helps() {
    runtime();
    let base = Base::read(&folder().join("mixes_default_2.onnx")).unwrap();
    let refusal = base.refuse_fixed_batch().unwrap_err().to_string();
    for words in [
        "mixes_default_2.onnx",
        "(ReduceMean) mixes the samples of a batch",
        "exported for a fixed batch of 2",
        "dynamic_shapes",
    ] {
        assert!(refusal.contains(words), "{refusal}");
    }
}

/// One run over all samples gives what the file gives for one batch after another.
#[test]
fn a_freed_model_answers_as_its_file() {
    runtime();
    let goldens = Goldens::read("exporters");
    for model in &goldens.models {
        let path = goldens.path(model);
        let base = Base::read(&path).unwrap();
        let batch = base.baked.expect("the file fixes the batch");
        let options = Options { threads: 1, ..Options::default() };
        let mut file = Session::from_file(&path, &options).unwrap();
        let mut free = Session::from_graph(&base.graph, &options).unwrap();
        let mut arrays = goldens.arrays(model);
        let all: Vec<(String, Tensor)> = base
            .graph
            .inputs
            .iter()
            .map(|id| {
                (
                    base.graph.value_name(*id).to_string(),
                    arrays.tensor(base.graph.value_name(*id), 0, base.graph.ty(*id).unwrap().dtype),
                )
            })
            .collect();
        let together = answers(&mut free, &all);
        let rows = all[0].1.shape[0];
        let mut apart = Vec::new();
        for first in (0..rows).step_by(batch as usize) {
            let some: Vec<_> = all.iter().map(|(name, tensor)| (name.clone(), part(tensor, first, batch))).collect();
            apart.extend(answers(&mut file, &some));
        }
        assert_eq!(together.len(), apart.len(), "{}", model.name);
        for (one, other) in together.iter().zip(&apart) {
            assert!((one - other).abs() < 1e-5, "{}: {one} together, {other} apart", model.name);
        }
    }
}

fn answers(session: &mut Session, inputs: &[(String, Tensor)]) -> Vec<f32> {
    let fed: Vec<(&str, &Tensor)> = inputs.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    session.run(&fed).unwrap().remove(0).to_f32().unwrap()
}

/// Some rows of a tensor.
fn part(tensor: &Tensor, first: u64, count: u64) -> Tensor {
    let row = tensor.data.len() / tensor.shape[0] as usize;
    let (from, to) = (first as usize * row, (first + count) as usize * row);
    let shape = std::iter::once(count).chain(tensor.shape[1..].iter().copied()).collect();
    Tensor { dtype: tensor.dtype, shape, data: tensor.data.slice(from..to) }
}

/// Frequencies of rotary embeddings are constants of the model, and so is the number that a mask is filled with.
#[test]
fn what_nobody_learned_is_no_layer() {
    runtime();
    // Where the file fixes the sequence, angles are tables.
    let classes = [("exporters/llama_classes_default_1.onnx", 12), ("exporters/llama_classes_torchscript_2.onnx", 12)];
    let names = [("exporters/llama_names_default.onnx", 12), ("exporters/llama_names_torchscript.onnx", 12)];
    for (file, count) in names.into_iter().chain(classes) {
        let base = Base::read(&folder().join("..").join(file)).unwrap();
        let layers = cut::layers(&base.graph, base.graph.outputs[0]);
        let names = cut::modules(&base.graph, &layers);
        assert_eq!(names.len(), count, "{file}: {names:?}");
        assert!(!names.iter().any(|name| name.contains("rotary")), "{file}: {names:?}");
    }
}

/// Before opset 21 a GroupNorm is an InstanceNormalization by ones and zeros, and what was learned is multiplied and added behind it; a
/// torch.nn.InstanceNorm2d has no weights. An Einsum's weights and the bias behind it are one layer.
#[test]
fn what_a_decomposition_wrote_is_no_layer_and_weights_without_a_module_are() {
    runtime();
    for exporter in ["default_1", "default_2", "torchscript_1"] {
        let layers = |name: &str| {
            let base = Base::read(&folder().join(format!("{name}_{exporter}.onnx"))).unwrap();
            let layers = cut::layers(&base.graph, base.graph.outputs[0]);
            let ops = layers.iter().map(|layer| (base.graph.nodes[layer.node].op.clone(), layer.weights.len()));
            (cut::modules(&base.graph, &layers), ops.collect::<Vec<_>>())
        };
        let of = |ops: &[(&str, usize)]| ops.iter().map(|(op, weights)| (op.to_string(), *weights)).collect::<Vec<_>>();
        let (names, ops) = layers("grouped");
        assert_eq!(ops, of(&[("Conv", 2), ("Mul", 2), ("Conv", 2), ("Gemm", 2)]), "{exporter}");
        assert_eq!(names, ["body.0", "body.1", "body.3", "head"], "{exporter}");
        let (_, ops) = layers("einsum");
        assert_eq!(ops, of(&[("Einsum", 2), ("Einsum", 1), ("Gemm", 2)]), "{exporter}");
    }
}

/// A recurrence that the default exporter writes out step by step multiplies with one weight again and again.
#[test]
fn a_weight_of_every_step_is_one_layer() {
    runtime();
    for (exporter, steps, layers) in [("default_1", 6, 4), ("torchscript_1", 0, 2)] {
        let base = Base::read(&folder().join(format!("rnn_{exporter}.onnx"))).unwrap();
        let output = base.graph.outputs[0];
        let products =
            cut::uses(&base.graph, output).iter().filter(|l| base.graph.nodes[l.node].op == "MatMul").count();
        assert_eq!((products, cut::layers(&base.graph, output).len()), (steps, layers), "{exporter}");
    }
}

/// The method `norm` learns the scale and the shift that were learned before, and not the ones and zeros.
#[test]
fn the_method_norm_learns_a_group_norm_that_was_taken_apart() {
    runtime();
    let scratch = tempfile::tempdir().unwrap();
    for exporter in ["default_1", "torchscript_1"] {
        let base = Base::read(&folder().join(format!("grouped_{exporter}.onnx"))).unwrap();
        let method = Method { kind: Kind::Norm, rank: 0, alpha: 0.0 };
        let request = Request { method: Some(method), ..Request::default() };
        let bundle = prepare(&base, &request, scratch.path()).unwrap_or_else(|error| panic!("{error}"));
        let shapes: Vec<&[u64]> = bundle.parameters.iter().map(|parameter| parameter.shape.as_slice()).collect();
        assert_eq!(shapes, [[8, 1, 1], [8, 1, 1]], "{exporter}");
    }
}

/// `[time, batch, features]`, PyTorch's own default for sequences: samples are given a row each, and what is exported again takes them as
/// the base does.
#[test]
fn a_batch_in_the_second_place_is_found_by_its_name() {
    runtime();
    for (name, dims) in [("second_lstm", "float[batch,6,8]"), ("second_encoder", "float[batch,time,8]")] {
        let path = folder().join(format!("{name}.onnx"));
        let base = Base::read(&path).unwrap();
        assert_eq!(base.graph.ty(base.graph.inputs[0]).unwrap().to_string(), dims, "{name}");
        let options = Options { threads: 1, ..Options::default() };
        let mut file = Session::from_file(&path, &options).unwrap();
        let mut first = Session::from_graph(&base.graph, &options).unwrap();
        let mut as_given = base.graph.clone();
        cut::batch_as_given(&mut as_given);
        let mut again = Session::from_graph(&as_given, &options).unwrap();
        let (samples, time, features) = (3, 6, 8);
        let value =
            |sample: usize, at: usize, feature: usize| ((sample * 31 + at * 7 + feature * 3) % 11) as f32 / 11.0;
        let rows: Vec<f32> = (0..samples)
            .flat_map(|s| (0..time).flat_map(move |t| (0..features).map(move |f| value(s, t, f))))
            .collect();
        let times: Vec<f32> = (0..time)
            .flat_map(|t| (0..samples).flat_map(move |s| (0..features).map(move |f| value(s, t, f))))
            .collect();
        let rows = [("x".to_string(), Tensor::from_vec(&[3, 6, 8], rows))];
        let times = [("x".to_string(), Tensor::from_vec(&[6, 3, 8], times))];
        let right = answers(&mut file, &times);
        assert_eq!(answers(&mut first, &rows), right, "{name}");
        assert_eq!(answers(&mut again, &times), right, "{name}");
    }
}

/// The weights of a model without biases are called `val_…` by torch's default exporter: its metadata have the modules.
#[test]
fn layers_have_the_modules_of_pytorch_whatever_the_exporter() {
    runtime();
    let modules = |file: &str| {
        let mut graph = onnx::read(&folder().join(file)).unwrap().graph;
        edgetune::engine::infer_types(&mut graph).unwrap();
        let output = graph.outputs[0];
        let layers = cut::layers(&graph, output);
        let all = cut::modules(&graph, &layers);
        let product = |node: usize| graph.nodes[node].op == "MatMul";
        layers.iter().zip(all).filter(|(layer, _)| product(layer.node)).map(|(_, module)| module).collect::<Vec<_>>()
    };
    let mut expected: Vec<String> = [
        "self_attn.q_proj",
        "self_attn.k_proj",
        "self_attn.v_proj",
        "self_attn.o_proj",
        "mlp.gate_proj",
        "mlp.up_proj",
        "mlp.down_proj",
    ]
    .map(|module| format!("model.model.layers.0.{module}"))
    .to_vec();
    expected.push("model.lm_head".into());
    assert_eq!(modules("llama_names_default.onnx"), expected);
    assert_eq!(modules("llama_names_torchscript.onnx"), expected);
    // What is written again still tells.
    let read = onnx::read(&folder().join("llama_names_default.onnx")).unwrap().graph;
    let again = onnx::read_bytes(onnx::encode(&read, &onnx::Weights::Embedded).into(), None).unwrap().graph;
    let told = |graph: &edgetune::graph::Graph| graph.nodes.iter().map(|node| node.module.clone()).collect::<Vec<_>>();
    assert_eq!(told(&again), told(&read));
    assert!(told(&read).iter().any(|module| module.ends_with("self_attn.q_proj")));
}

/// The model's input leaves the batch open, and a `Reshape` inside fixes it: the file takes one sample and says that it takes any number.
#[test]
fn an_open_batch_that_a_reshape_inside_fixes_is_freed() {
    runtime();
    let b = Builder::new(Graph::new("digits", 13), "");
    let x = b.input("x", TensorType::new(DType::Float, vec![Dim::Named("N".into()), Dim::Fixed(2), Dim::Fixed(2)]));
    let weight = b.constant(Tensor::from_f32(&[4, 3], &(0..12).map(|at| at as f32).collect::<Vec<_>>()));
    b.output("y", x.unary("Relu").reshape_to(&[1, 4]).matmul(weight));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("digits.onnx");
    std::fs::write(&path, onnx::encode(&b.finish(), &onnx::Weights::Embedded)).unwrap();
    let base = Base::read(&path).unwrap();
    let mut session = Session::from_graph(&base.graph, &Options::default()).unwrap();
    let two = Tensor::from_f32(&[2, 2, 2], &[1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]);
    let answers = session.run(&[("x", &two)]).unwrap().remove(0);
    assert_eq!((&answers.shape[..], answers.to_f32().unwrap()), (&[2, 3][..], vec![0.0, 1.0, 2.0, 9.0, 10.0, 11.0]));
}
