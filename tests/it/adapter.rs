//! Methods beside the layers: they begin as the base, their gradients are right, a delta rebuilds them, and merging gives
//! the same outputs.

use crate::engine::runtime;
use edgetune::adapter::{self, Change, Error, Kind, Learned, Method, Places, Request};
use edgetune::cut::Selection;
use edgetune::engine::{Options, Session};
use edgetune::graph::{Builder, DType, Dim, Graph, Tensor, TensorType};
use edgetune::train::check::{Agreement, check};
use edgetune::train::loss::Loss;
use edgetune::train::prepare::{Base, Bundle, prepare, prepare_for_delta};
use std::collections::HashMap;
use std::path::Path;

/// Convolutions with a kernel and without, `Gemm`, `MatMul` + `Add` in two exporters' forms.
pub const MODELS: [&str; 4] =
    ["mobilenet_bn.onnx", "mobilenet_folded.onnx", "encoder_torchscript.onnx", "encoder_dynamo.onnx"];

const METHODS: [Method; 7] = [
    Method { kind: Kind::Lora, rank: 4, alpha: 8.0 },
    Method { kind: Kind::RsLora, rank: 4, alpha: 8.0 },
    Method { kind: Kind::Dora, rank: 4, alpha: 8.0 },
    Method { kind: Kind::LoraFa, rank: 4, alpha: 8.0 },
    Method { kind: Kind::Ia3, rank: 0, alpha: 0.0 },
    Method { kind: Kind::BitFit, rank: 0, alpha: 0.0 },
    Method { kind: Kind::Norm, rank: 0, alpha: 0.0 },
];

pub const LORA: Method = METHODS[0];

pub fn base(model: &str) -> Base {
    runtime();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/training").join(model);
    Base::read(&path).unwrap_or_else(|error| panic!("{error}"))
}

/// Random values of the model's inputs, three samples.
pub fn samples(graph: &Graph) -> Vec<(String, Tensor)> {
    let mut random = fastrand::Rng::with_seed(3);
    let mut tensor = |name: &str, ty: &TensorType| {
        let size = |(axis, dim): (usize, &Dim)| if axis == 0 { 3 } else { dim.fixed().unwrap_or(7) };
        let shape: Vec<u64> = ty.shape.as_ref().unwrap().iter().enumerate().map(size).collect();
        let count = shape.iter().product::<u64>() as usize;
        match ty.dtype {
            DType::Int64 if name.contains("mask") => Tensor::from_vec(&shape, vec![1i64; count]),
            DType::Int64 => Tensor::from_vec(&shape, (0..count).map(|_| random.i64(0..2)).collect()),
            _ => Tensor::from_vec(&shape, (0..count).map(|_| random.f32() - 0.5).collect()),
        }
    };
    graph
        .inputs
        .iter()
        .map(|id| (graph.value_name(*id).into(), tensor(graph.value_name(*id), graph.ty(*id).unwrap())))
        .collect()
}

/// Unoptimised, so that fusions do not change the rounding.
fn plain() -> Options {
    Options { optimisation: edgetune::engine::Optimisation::Off, ..Options::default() }
}

fn fed<'a>(session: &Session, known: &'a HashMap<String, Tensor>) -> Vec<(String, &'a Tensor)> {
    session.inputs().iter().map(|(name, _)| (name.clone(), &known[name])).collect()
}

fn run(session: &mut Session, known: &HashMap<String, Tensor>) -> Vec<(String, Tensor)> {
    let fed = fed(session, known);
    let fed: Vec<(&str, &Tensor)> = fed.iter().map(|(name, tensor)| (name.as_str(), *tensor)).collect();
    let outputs = session.run(&fed).unwrap_or_else(|error| panic!("{error}"));
    session.outputs().iter().map(|(name, _)| name.clone()).zip(outputs).collect()
}

/// The output of body and tail with these parameter values.
pub fn answer(bundle: &Bundle, values: &[Vec<f32>], samples: &[(String, Tensor)]) -> Vec<f32> {
    let mut known: HashMap<String, Tensor> = samples.iter().cloned().collect();
    if let Some(body) = &bundle.body {
        let features = run(&mut Session::from_file(body, &plain()).unwrap(), &known);
        known.extend(features);
    }
    for (parameter, values) in bundle.parameters.iter().zip(values) {
        known.insert(parameter.name.clone(), Tensor::from_vec(&parameter.shape, values.clone()));
    }
    let mut tail = Session::from_file(&bundle.tail, &plain()).unwrap();
    run(&mut tail, &known).remove(0).1.to_f32().unwrap()
}

pub fn answer_of(graph: &Graph, output: &str, samples: &[(String, Tensor)]) -> Vec<f32> {
    let mut session = Session::from_graph(graph, &plain()).unwrap_or_else(|error| panic!("{error}"));
    let outputs = run(&mut session, &samples.iter().cloned().collect());
    outputs.into_iter().find(|(name, _)| name == output).unwrap().1.to_f32().unwrap()
}

fn initial(bundle: &Bundle) -> Vec<Vec<f32>> {
    bundle.parameters.iter().map(|parameter| parameter.initial.clone()).collect()
}

/// The first values, each moved a little: what some training might have given.
pub fn moved(bundle: &Bundle) -> Vec<Vec<f32>> {
    let mut random = fastrand::Rng::with_seed(9);
    let mut values = initial(bundle);
    values.iter_mut().flatten().for_each(|value| *value += 0.2 * (random.f32() - 0.5));
    values
}

pub fn change<'a>(bundle: &'a Bundle) -> Change<'a> {
    let learned = |p: &'a adapter::Parameter| Learned { name: &p.name, shape: p.shape.clone() };
    Change {
        output: &bundle.output,
        head: bundle.head.as_ref(),
        method: bundle.method,
        seed: bundle.seed,
        learned: bundle.parameters.iter().map(learned).collect(),
        ..Change::default()
    }
}

/// Calls `each` with a bundle of every method on every model that has a place for it.
pub fn everywhere(models: &[&str], request: &Request<'_>, mut each: impl FnMut(&Base, &Bundle, &str)) {
    let scratch = tempfile::tempdir().unwrap();
    let mut tried = 0;
    for model in models {
        let base = base(model);
        for method in METHODS {
            let request = Request { method: Some(method), ..request.clone() };
            let what = format!("{model} {}", method.kind);
            match prepare(&base, &request, scratch.path()) {
                Ok(bundle) => each(&base, &bundle, &what),
                Err(error) => {
                    let message = error.to_string();
                    assert!(method.kind == Kind::Norm && message.contains("no normalisation"), "{what}: {message}");
                    continue;
                }
            }
            tried += 1;
        }
    }
    assert!(tried + 1 >= 7 * models.len(), "hardly any model has a place for the methods: {tried}");
}

#[test]
fn before_the_first_step_every_method_is_the_base_to_the_last_bit() {
    everywhere(&MODELS, &Request::default(), |base, bundle, what| {
        let samples = samples(&base.graph);
        let found = answer(bundle, &initial(bundle), &samples);
        let expected = answer_of(&base.graph, &bundle.output, &samples);
        assert_eq!(found, expected, "{what}");
        let changed = answer(bundle, &moved(bundle), &samples);
        assert!(changed.iter().zip(&expected).any(|(a, b)| (a - b).abs() > 1e-4), "{what}: nothing is changed by it");
    });
}

#[test]
fn the_gradient_of_every_method_is_how_the_loss_moves() {
    everywhere(&MODELS[1..3], &Request::default(), |_, bundle, what| {
        let loss = Loss::CrossEntropy { label_smoothing: 0.1, class_weights: None };
        let found = check(bundle, &loss, &Options::default(), 1).unwrap_or_else(|error| panic!("{what}: {error}"));
        for row in &found {
            assert_ne!(row.verdict, Agreement::Differs, "{what}: {row:?}");
        }
        let agree = found.iter().filter(|row| row.verdict == Agreement::Agrees).count();
        assert!(2 * agree > found.len(), "{what}: hardly anything could be told: {found:?}");
    });
}

#[test]
fn merging_and_rebuilding_give_the_same_outputs() {
    let scratch = tempfile::tempdir().unwrap();
    everywhere(&MODELS, &Request { seed: 5, ..Request::default() }, |base, bundle, what| {
        let samples = samples(&base.graph);
        let values = moved(bundle);
        let expected = answer(bundle, &values, &samples);
        let change = change(bundle);
        let again = prepare_for_delta(base, &change, scratch.path()).unwrap_or_else(|error| panic!("{what}: {error}"));
        let by_name: HashMap<&str, &[f32]> =
            bundle.parameters.iter().zip(&values).map(|(p, values)| (p.name.as_str(), values.as_slice())).collect();
        let in_order: Vec<Vec<f32>> = again.parameters.iter().map(|p| by_name[p.name.as_str()].to_vec()).collect();
        assert_eq!(answer(&again, &in_order, &samples), expected, "{what}");

        let merged =
            adapter::merge(base.graph.clone(), &change, &by_name).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(
            merged.nodes.len(),
            base.graph.nodes.iter().filter(|node| needed(&merged, &node.name)).count(),
            "{what}"
        );
        let found = answer_of(&merged, &bundle.output, &samples);
        for (found, expected) in found.iter().zip(&expected) {
            assert!((found - expected).abs() <= 1e-4 * expected.abs().max(1.0), "{what}: {found} {expected}");
        }
    });
}

/// A module that the model uses twice has one set of factors, which work at both places, also where they are merged.
#[test]
fn a_module_that_is_used_twice_learns_once() {
    let scratch = tempfile::tempdir().unwrap();
    let b = Builder::new(Graph::new("twice", 17), "");
    let values = |count: usize| (0..count).map(|at| ((at * 7 % 11) as f32 - 5.0) / 8.0).collect::<Vec<_>>();
    let x = b.input("x", TensorType::new(DType::Float, vec![Dim::Named("batch".into()), Dim::Fixed(4)]));
    let (shared, head) =
        (b.constant(Tensor::from_f32(&[4, 4], &values(16))), b.constant(Tensor::from_f32(&[4, 3], &values(12))));
    b.output("y", x.matmul(shared).unary("Relu").matmul(shared).unary("Relu").matmul(head));
    let path = scratch.path().join("twice.onnx");
    std::fs::write(&path, edgetune::onnx::encode(&b.finish(), &edgetune::onnx::Weights::Embedded)).unwrap();
    runtime();
    let base = Base::read(&path).unwrap();
    let samples = samples(&base.graph);
    for method in METHODS.iter().filter(|method| !matches!(method.kind, Kind::BitFit | Kind::Norm)) {
        let bundle = prepare(&base, &Request { method: Some(*method), ..Request::default() }, scratch.path()).unwrap();
        let what = method.kind.to_string();
        let expected_tensors = match method.kind {
            Kind::Dora => 3,
            Kind::LoraFa | Kind::Ia3 => 1,
            _ => 2,
        };
        assert_eq!(bundle.parameters.len(), expected_tensors, "{what}");
        let values = moved(&bundle);
        let expected = answer(&bundle, &values, &samples);
        assert_ne!(expected, answer(&bundle, &initial(&bundle), &samples), "{what}");
        let by_name: HashMap<&str, &[f32]> =
            bundle.parameters.iter().zip(&values).map(|(p, values)| (p.name.as_str(), values.as_slice())).collect();
        let merged = adapter::merge(base.graph.clone(), &change(&bundle), &by_name).unwrap();
        assert_eq!(merged.initializers.len(), base.graph.initializers.len(), "{what}: one weight for both places");
        for (found, expected) in answer_of(&merged, "y", &samples).iter().zip(&expected) {
            assert!((found - expected).abs() <= 1e-4 * expected.abs().max(1.0), "{what}: {found} {expected}");
        }
    }
}

/// What an exporter wrote of a value, such as the name of an open dimension, decides what crosses the cut; a delta's tail
/// must not have lost it.
#[test]
fn a_delta_is_rebuilt_on_the_cut_that_it_was_learned_on() {
    let scratch = tempfile::tempdir().unwrap();
    let models = [
        "language/decoder",
        "language/decoder_dynamo",
        "transformers/llama",
        "transformers/llama_eager",
        "transformers/gpt2",
        "transformers/qwen2",
        "transformers/vit",
    ];
    for model in models {
        let base = base(&format!("../{model}.onnx"));
        let request = Request { method: Some(LORA), ..Request::default() };
        let bundle = prepare(&base, &request, scratch.path()).unwrap_or_else(|error| panic!("{model}: {error}"));
        let again = prepare_for_delta(&base, &change(&bundle), scratch.path()).unwrap();
        assert_eq!(again.features, bundle.features, "{model}");
    }
}

/// Of each format: with packed weights a layer has factors beside it, and a delta, but no other weight.
#[test]
fn a_quantised_base_begins_as_it_is_is_rebuilt_and_merged_where_it_has_weights() {
    let scratch = tempfile::tempdir().unwrap();
    for (model, packed) in [
        ("mobilenet_qdq", false),
        ("mobilenet_qoperator", false),
        ("encoder_dynamic", true),
        ("decoder_4_bits", true),
        ("decoder_8_bits", true),
    ] {
        let base = base(&format!("../quantised/{model}.onnx"));
        let samples = samples(&base.graph);
        for method in METHODS {
            let what = format!("{model} {}", method.kind);
            let request = Request { method: Some(method), seed: 5, ..Request::default() };
            let bundle = match prepare(&base, &request, scratch.path()) {
                Ok(bundle) => bundle,
                Err(error) if method.kind == Kind::Dora && packed => {
                    assert!(error.to_string().contains("use setting `adapter.method = lora`"), "{what}: {error}");
                    continue;
                }
                Err(error) => {
                    assert!(matches!(method.kind, Kind::Norm | Kind::BitFit), "{what}: {error}");
                    continue;
                }
            };
            let expected = answer_of(&giving(&base.graph, &bundle.output), &bundle.output, &samples);
            assert_eq!(answer(&bundle, &initial(&bundle), &samples), expected, "{what}");
            let values = moved(&bundle);
            let expected = answer(&bundle, &values, &samples);
            let change = change(&bundle);
            let again =
                prepare_for_delta(&base, &change, scratch.path()).unwrap_or_else(|error| panic!("{what}: {error}"));
            let by_name: HashMap<&str, &[f32]> =
                bundle.parameters.iter().zip(&values).map(|(p, values)| (p.name.as_str(), values.as_slice())).collect();
            let in_order: Vec<Vec<f32>> = again.parameters.iter().map(|p| by_name[p.name.as_str()].to_vec()).collect();
            assert_eq!(answer(&again, &in_order, &samples), expected, "{what}");
            match adapter::merge(base.graph.clone(), &change, &by_name) {
                Ok(merged) => {
                    let found = answer_of(&giving(&merged, &bundle.output), &bundle.output, &samples);
                    let most = expected.iter().fold(0.0f32, |most, value| most.max(value.abs()));
                    for (found, expected) in found.iter().zip(&expected) {
                        // What rounding moves over a step of the quantisation behind it is that step.
                        assert!((found - expected).abs() <= 0.05 * most, "{what}: {found} {expected}");
                    }
                }
                Err(error) => assert!(packed && error.to_string().contains("use it as a delta"), "{what}: {error}"),
            }
        }
    }
}

/// The graph with that value as an output: what is trained may lie below a last quantisation.
fn giving(graph: &Graph, value: &str) -> Graph {
    let mut graph = graph.clone();
    let id = graph.find(value).unwrap();
    if !graph.outputs.contains(&id) {
        graph.outputs.push(id);
    }
    graph
}

fn needed(graph: &Graph, name: &str) -> bool {
    graph.nodes.iter().any(|node| node.name == name)
}

#[test]
fn a_method_mixes_with_a_fresh_head_and_whole_layers() {
    let scratch = tempfile::tempdir().unwrap();
    let base = base("encoder_torchscript.onnx");
    let request = Request { method: Some(LORA), width: Some(7), ..Request::default() };
    let fresh = prepare(&base, &request, scratch.path()).unwrap();
    let heads: Vec<&str> = fresh.parameters.iter().filter(|p| p.fresh).map(|p| p.name.as_str()).collect();
    assert_eq!(heads.len(), 2, "{heads:?}");
    assert!(fresh.parameters.len() > 2 + 2 * 6);

    let selections = [Selection::Last(2)];
    let request = Request { selections: &selections, method: Some(LORA), ..Request::default() };
    let mixed = prepare(&base, &request, scratch.path()).unwrap();
    let names: Vec<&str> = mixed.parameters.iter().map(|p| p.name.as_str()).collect();
    let whole = names.iter().filter(|name| !name.contains(".lora_")).count();
    assert_eq!(whole, 4, "{names:?}");
    let twice = names.iter().filter(|name| names.contains(&format!("{name}.lora_A.weight").as_str())).count();
    assert_eq!(twice, 0, "what learns as a whole gets no factors: {names:?}");
}

#[test]
fn targets_are_named_as_peft_names_modules() {
    let scratch = tempfile::tempdir().unwrap();
    let base = base("encoder_torchscript.onnx");
    let targets = ["query".to_string(), "value".into()];
    let places = Places { targets: &targets, ..Places::default() };
    let names = |places| {
        let request = Request { method: Some(LORA), places, ..Request::default() };
        let bundle = prepare(&base, &request, scratch.path()).unwrap();
        bundle.parameters.iter().map(|p| (p.name.clone(), p.shape.clone())).collect::<Vec<_>>()
    };
    let found = names(places);
    assert_eq!(found.len(), 2 * 2 * 2, "{found:?}");
    assert!(found.contains(&("layers.0.query.lora_A.weight".into(), vec![4, 32])), "{found:?}");
    assert!(found.contains(&("layers.1.value.lora_B.weight".into(), vec![32, 4])), "{found:?}");
    let upper = names(Places { last: Some(9), ..places });
    assert!(upper.iter().all(|(name, _)| name.starts_with("layers.1.")), "{upper:?}");
}

#[test]
fn what_a_few_nodes_compute_again_is_not_kept_as_a_feature() {
    let scratch = tempfile::tempdir().unwrap();
    for model in ["encoder_torchscript.onnx", "encoder_dynamo.onnx"] {
        let base = base(model);
        let targets = ["query".to_string(), "value".into()];
        let places = Places { targets: &targets, last: Some(9), ..Places::default() };
        let bundle =
            prepare(&base, &Request { method: Some(LORA), places, ..Request::default() }, scratch.path()).unwrap();
        // Besides the layer's input only what comes of the mask, which has no hidden dimension.
        let wide =
            |ty: &TensorType| ty.shape.as_ref().unwrap().iter().any(|dim| matches!(dim, Dim::Unknown | Dim::Fixed(32)));
        let wide = bundle.features.iter().filter(|(_, ty)| wide(ty)).count();
        assert_eq!(wide, 1, "{model}: {:?}", bundle.features);
    }
}

#[test]
fn what_names_nothing_is_refused_with_the_remedy() {
    let scratch = tempfile::tempdir().unwrap();
    let base = base("encoder_torchscript.onnx");
    let targets = ["q_proj".to_string()];
    let places = Places { targets: &targets, ..Places::default() };
    let request = Request { method: Some(LORA), places, ..Request::default() };
    let message = prepare(&base, &request, scratch.path()).unwrap_err().to_string();
    assert!(
        message.contains("setting `adapter.targets` `q_proj`") && message.contains("edgetune inspect"),
        "{message}"
    );

    let mut bundle = prepare(&base, &Request { method: Some(LORA), ..Request::default() }, scratch.path()).unwrap();
    let refused = |bundle: &Bundle| adapter::from_delta(base.graph.clone(), &change(bundle)).unwrap_err();
    bundle.parameters[0].shape[0] += 1;
    assert!(matches!(refused(&bundle), Error::Delta { reason, .. } if reason.contains("has shape")));
    bundle.parameters[0].shape[0] -= 1;
    bundle.parameters[0].name = "elsewhere.lora_A.weight".into();
    let lacking = refused(&bundle);
    assert!(matches!(&lacking, Error::Delta { reason, .. } if reason.contains("lacks one")), "{lacking}");
}

#[test]
fn ia3_scales_the_input_of_feedforward_layers() {
    let scratch = tempfile::tempdir().unwrap();
    let base = base("encoder_torchscript.onnx");
    let targets = ["value".to_string()];
    let method = Some(METHODS[4]);
    let all = prepare(&base, &Request { method, ..Request::default() }, scratch.path()).unwrap();
    let last = all.parameters.last().unwrap().name.trim_end_matches(".ia3_l").to_string();
    let inner = [last.clone()];
    let places = Places { targets: &targets, feedforward: &inner, last: None };
    let bundle = prepare(&base, &Request { method, places, ..Request::default() }, scratch.path()).unwrap();
    let shape = |name: &str| bundle.parameters.iter().find(|p| p.name == name).unwrap().shape.clone();
    assert_eq!(shape("layers.0.value.ia3_l"), [32, 1]);
    assert_eq!(shape(&format!("{last}.ia3_l"))[0], 1);
    let samples = samples(&base.graph);
    let values = moved(&bundle);
    let by_name: HashMap<&str, &[f32]> =
        bundle.parameters.iter().zip(&values).map(|(p, values)| (p.name.as_str(), values.as_slice())).collect();
    let merged = adapter::merge(base.graph.clone(), &change(&bundle), &by_name).unwrap();
    let found = answer_of(&merged, &bundle.output, &samples);
    for (found, expected) in found.iter().zip(answer(&bundle, &values, &samples)) {
        assert!((found - expected).abs() <= 1e-4 * expected.abs().max(1.0), "{found} {expected}");
    }
}
