//! Quantised models in every format of ONNX Runtime's tools, trained as PyTorch does on the same quantised numbers:
//! `tests/goldens/quantised/`.

use crate::engine::runtime;
use crate::training::follow::follows_pytorch;
use crate::training::golden::Goldens;
use edgetune::adapter::{HeadChoice, Kind, Method, Places, Request};
use edgetune::cut::Selection;
use edgetune::engine::{Options, Session};
use edgetune::graph::{Attr, Builder, DType, Dim, Graph, Tensor, TensorType};
use edgetune::onnx::{self, Weights};
use edgetune::train::check::{Agreement, check};
use edgetune::train::loss::Loss;
use edgetune::train::prepare::{Base, Bundle, prepare};
use edgetune::train::step::Again;
use std::path::{Path, PathBuf};

/// Largest relative difference from PyTorch's loss in any of the ten steps.
const TOLERANCE: f64 = 1e-3;

macro_rules! models {
    ($($name:ident: $runs:expr;)*) => {
        $(
            #[test]
            fn $name() {
                for run in $runs {
                    follows_pytorch(&Goldens::read("quantised"), stringify!($name), run, TOLERANCE);
                }
            }
        )*

        const TESTED: &[(&str, &[&str])] = &[$((stringify!($name), &$runs)),*];
    };
}

models! {
    mobilenet_qdq: ["head", "deep", "lora"];
    encoder_dynamic: ["floats", "lora"];
    decoder_4_bits: ["lora", "norms"];
    decoder_8_bits: ["lora", "norms"];
    decoder_qdq_4_bits: ["lora", "head"];
}

/// A run that learns nothing would follow any flat line: PyTorch's losses fall, over the same batches.
#[test]
fn every_run_of_the_goldens_is_tested_and_learns() {
    for model in Goldens::read("quantised").models {
        let tested = TESTED.iter().find(|(name, _)| *name == model.name).expect("a test of the model").1;
        assert_eq!(tested.len(), model.runs.len(), "{}: runs without a test", model.name);
        for run in &model.runs {
            let sum = |losses: &[f64]| losses.iter().sum::<f64>();
            let (first, last) = (sum(&run.losses[..2]), sum(&run.losses[run.losses.len() - 2..]));
            assert!(last < 0.95 * first, "{} {}: from {first} to {last}", model.name, run.name);
        }
    }
}

/// The answer is kept where its columns are the data's; that its weight cannot learn is said.
#[test]
fn a_head_that_is_multiplied_as_it_is_quantised_says_that_it_stays() {
    runtime();
    let scratch = tempfile::tempdir().unwrap();
    let base = Base::read(&path("encoder_dynamic")).unwrap();
    let shape = base.graph.ty(base.graph.outputs[0]).unwrap().shape.clone().unwrap();
    let request = Request { width: shape.last().and_then(Dim::fixed), ..Request::default() };
    let note = prepare(&base, &request, scratch.path()).unwrap().head_note;
    assert!(note.starts_with("kept: ") && note.contains("stays as it is quantised"), "{note}");
}

const CROSS_ENTROPY: Loss = Loss::CrossEntropy { label_smoothing: 0.1, class_weights: None };

fn path(model: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/quantised").join(format!("{model}.onnx"))
}

fn base(model: &str) -> Base {
    runtime();
    Base::read(&path(model)).unwrap_or_else(|error| panic!("{error}"))
}

/// Of each parameter, whether the gradient is how the loss moves.
fn verdicts(bundle: &Bundle, loss: &Loss) -> Vec<Agreement> {
    let found = check(bundle, loss, &Options::default(), 1).unwrap_or_else(|error| panic!("{error}"));
    for row in &found {
        assert_ne!(row.verdict, Agreement::Differs, "{row:?}");
    }
    found.iter().map(|row| row.verdict).collect()
}

/// Above what rounds a gradient is exact; through it, an estimate.
#[test]
fn gradients_are_how_the_loss_moves_as_far_as_rounding_lets() {
    let scratch = tempfile::tempdir().unwrap();
    for model in ["mobilenet_qdq", "mobilenet_qoperator"] {
        let train = |selection: &str, width| {
            let selections = [Selection::parse(selection).unwrap()];
            let request = Request { selections: &selections, width, ..Request::default() };
            verdicts(&prepare(&base(model), &request, scratch.path()).unwrap(), &CROSS_ENTROPY)
        };
        assert_eq!(train("head", None), [Agreement::Agrees; 2], "{model}");
        assert_eq!(train("head", Some(7)), [Agreement::Agrees; 2], "{model}");
        let deep = train("last:3", None);
        assert_eq!(deep.len(), 6, "{model}");
        assert!(deep[..4].contains(&Agreement::Estimates) && deep[4..] == [Agreement::Agrees; 2], "{model}: {deep:?}");
    }
    let targets = ["q".to_string(), "down".into()];
    let places = Places { targets: &targets, ..Places::default() };
    let method = Some(Method { kind: Kind::Lora, rank: 4, alpha: 8.0 });
    let request = Request { method, places, ..Request::default() };
    for model in ["decoder_4_bits", "decoder_8_bits"] {
        let found = verdicts(&prepare(&base(model), &request, scratch.path()).unwrap(), &Loss::NextToken);
        assert_eq!(found, [Agreement::Agrees; 8], "{model}: a frozen weight rounds nothing");
    }
}

/// In the format of operators a model gives what it gave before it was taken apart, up to the last quantisation.
#[test]
fn a_model_of_quantised_operators_gives_the_same_taken_apart() {
    let model = "mobilenet_qoperator";
    let base = base(model);
    assert!(!base.graph.nodes.iter().any(|node| node.op.starts_with("QLinear") || node.op == "QGemm"));
    let mut random = fastrand::Rng::with_seed(4);
    let images = Tensor::from_vec(&[4, 3, 16, 16], (0..4 * 3 * 256).map(|_| random.f32() - 0.5).collect::<Vec<f32>>());
    let answers = |mut session: Session| session.run(&[("input", &images)]).unwrap().remove(0).to_f32().unwrap();
    let before = answers(Session::from_file(&path(model), &Options::default()).unwrap());
    let after = answers(Session::from_graph(&base.graph, &Options::default()).unwrap());
    let most = before.iter().fold(0.0f32, |most, value| most.max(value.abs()));
    assert!(most > 0.1);
    for (before, after) in before.iter().zip(&after) {
        assert!((before - after).abs() <= 0.02 * most, "{before} {after}: more than a step of the last quantisation");
    }
}

/// Where scales come from the values at hand, a sample's features must not come from a chunk of several.
#[test]
fn a_body_that_quantises_by_the_values_at_hand_is_known() {
    let scratch = tempfile::tempdir().unwrap();
    for (model, selection, expected) in [
        ("encoder_dynamic", "layers.1.output_norm.*", true),
        ("encoder_dynamic", "*", false),
        ("mobilenet_qdq", "last:1", false),
    ] {
        let selections = [Selection::parse(selection).unwrap()];
        let request = Request { selections: &selections, ..Request::default() };
        let bundle = prepare(&base(model), &request, scratch.path()).unwrap();
        assert_eq!(bundle.body_quantises, expected, "{model} {selection}");
    }
}

/// A packed weight is refused with what can be done, and so is a whole selection of nothing else.
#[test]
fn a_packed_weight_is_refused_with_the_remedy() {
    let scratch = tempfile::tempdir().unwrap();
    for (model, selection_text) in [
        ("decoder_4_bits", "last:1"),
        ("decoder_4_bits", "head"),
        ("decoder_4_bits", "*_Q4"),
        ("encoder_dynamic", "*MatMul_285*"),
    ] {
        let selections = [Selection::parse(selection_text).unwrap()];
        let request = Request { selections: &selections, ..Request::default() };
        let refused = prepare(&base(model), &request, scratch.path()).map(|bundle| bundle.parameters);
        let message = refused.expect_err(selection_text).to_string();
        assert!(
            message.contains("as it is quantised") && message.contains("setting `adapter.method = lora`"),
            "{selection_text}: {message}"
        );
    }
    let whole = base("encoder_dynamic");
    let learns = edgetune::cut::layers(&whole.graph, whole.graph.outputs[0]);
    let mut names = learns.iter().flat_map(|layer| &layer.weights).map(|id| whole.graph.value_name(*id));
    assert!(names.all(|name| !name.ends_with("_scale")), "a scale is not what a layer learns");
    let request = Request { width: Some(3), head: HeadChoice::Append, ..Request::default() };
    let bundle = prepare(&base("decoder_4_bits"), &request, scratch.path()).unwrap();
    assert_eq!(bundle.parameters.len(), 2, "a head appended above it learns");
}

/// A model whose weight of 5 million numbers in 4 bits is dequantised in two parts, below it a layer that learns.
fn large() -> Graph {
    let (inner, outer, block) = (1024, 5000, 32);
    let mut random = fastrand::Rng::with_seed(6);
    let b = Builder::new(Graph::new("large", 17), "");
    let x = b.input("x", TensorType::new(DType::Float, vec![Dim::Named("batch".into()), Dim::Fixed(8)]));
    let floats = |count: u64, random: &mut fastrand::Rng| (0..count).map(|_| random.f32() - 0.5).collect::<Vec<f32>>();
    let first = b.weight(Tensor::from_f32(&[8, inner], &floats(8 * inner, &mut random)));
    let blocks = inner / block;
    let bytes: Vec<u8> = (0..outer * inner / 2).map(|_| random.u8(..)).collect();
    let packed = b.weight(Tensor::from_vec(&[outer, blocks, block / 2], bytes));
    let scales: Vec<f32> = (0..outer * blocks).map(|_| 0.01 * random.f32()).collect();
    let scales = b.weight(Tensor::from_f32(&[outer * blocks], &scales));
    let zeros =
        b.weight(Tensor::from_vec(&[outer * blocks / 2], (0..outer * blocks / 2).map(|_| random.u8(..)).collect()));
    let int = |name: &'static str, value: u64| (name, Attr::Int(value as i64));
    let attributes = [int("K", inner), int("N", outer), int("bits", 4), int("block_size", block)];
    let inputs = [Some(x.matmul(first)), Some(packed), Some(scales), Some(zeros)];
    let y = b.node_of("com.microsoft", "MatMulNBits", &inputs, 1, &attributes)[0];
    b.output("y", y);
    b.finish()
}

/// Its parts are those of the one weights file: nothing is stored a second time.
#[test]
fn a_large_weight_is_dequantised_in_parts_of_its_own_bytes() {
    runtime();
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("large.onnx");
    std::fs::write(&file, onnx::encode(&large(), &Weights::Embedded)).unwrap();
    let selections = [Selection::Last(2)];
    let request = Request { selections: &selections, ..Request::default() };
    let bundle = prepare(&Base::read(&file).unwrap(), &request, scratch.path()).unwrap();
    assert_eq!(verdicts(&bundle, &CROSS_ENTROPY), [Agreement::Agrees]);
    let step = bundle.step(&CROSS_ENTROPY, Again::Cheap).unwrap();
    let graph = onnx::read(&step).unwrap().graph;
    let parts = graph.nodes.iter().filter(|node| node.op == "DequantizeLinear").count();
    assert_eq!(parts, 2);
    assert!(std::fs::metadata(&step).unwrap().len() < 50_000, "the step graph holds weights of its own");
}
