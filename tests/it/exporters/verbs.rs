//! Every golden of an exporter goes all the way: it is inspected, its gradient checked, ten steps are learned, new samples are answered,
//! and the merged model answers the same. That the steps are those of PyTorch, scikit-learn or the dequantised model is held where the
//! goldens have the figures of those; `every_golden_has_its_ten_steps` says where, or why not.

use super::page::{goldens, names};
use crate::adapter::{LORA, answer, change, moved, samples};
use crate::engine::runtime;
use crate::training::follow::Trainer;
use edgetune::adapter::{self, HeadChoice, Request};
use edgetune::cut::{self, Selection};
use edgetune::engine::{Options, Session};
use edgetune::graph::{Graph, Tensor};
use edgetune::learn::loss_of;
use edgetune::train::check::{Agreement, check, random_batch};
use edgetune::train::loss::Loss;
use edgetune::train::optimizer::Optimizer;
use edgetune::train::prepare::{Base, Bundle, prepare};
use std::collections::HashMap;
use std::path::Path;

/// Goldens that cannot go all the way, each with the reason.
const OTHERWISE: [(&str, &str); 3] = [
    ("exporters/mixes_default_2", "mixes the samples of its batch, which every command but `inspect` refuses"),
    (
        "exporters/second_encoder",
        "says that its time is open, and fixes it in a `Reshape`: only samples of that length run",
    ),
    ("sklearn/sgd", "its sigmoids are flat for random samples, so that ten steps move nothing"),
];

/// Goldens whose merged model gives probabilities, of which the tail gives the logarithms.
const PROBABILITIES: [&str; 1] = ["sklearn/perceptron_binary"];

/// Ten steps on one batch, with a rate that is small enough for any of the models.
const STEPS: usize = 10;
const RATE: f64 = 0.005;

fn base_of(folder: &str, name: &str) -> Base {
    Base::read(&goldens().join(folder).join(format!("{name}.onnx"))).unwrap_or_else(|error| panic!("{error}"))
}

/// What the two topmost layers that can learn, factors beside packed ones, or else a new head make of a golden.
fn bundle_of(base: &Base, loss: &Loss, folder: &Path) -> Result<Bundle, String> {
    let output = adapter::output_of(&base.graph, None, loss.positions()).unwrap();
    let layers = cut::layers(&base.graph, output);
    let learns = |layer: &&cut::Layer| !layer.weights.is_empty();
    let packed = layers.iter().rev().take(2).any(|layer| layer.packed.is_some());
    let selections = match layers.iter().rev().take(2).take_while(learns).count() {
        0 => vec![],
        count => vec![Selection::Last(count)],
    };
    let request = Request {
        selections: &selections,
        method: packed.then_some(LORA),
        activation: Some(loss.activation()),
        positions: loss.positions(),
        width: layers.is_empty().then_some(3),
        head: if layers.is_empty() { HeadChoice::Append } else { HeadChoice::Keep },
        ..Request::default()
    };
    prepare(base, &request, folder).map_err(|error| error.to_string())
}

/// The value that learns, of a merged graph.
fn answer_of(graph: &Graph, bundle: &Bundle, samples: &[(String, Tensor)]) -> Vec<f32> {
    let mut graph = graph.clone();
    // A head that was appended is the last output.
    graph.outputs = match bundle.head {
        Some(_) => graph.outputs.last().copied().into_iter().collect(),
        None => vec![graph.find(&bundle.output).unwrap_or_else(|| panic!("no value `{}`", bundle.output))],
    };
    let options = Options { optimisation: edgetune::engine::Optimisation::Off, ..Options::default() };
    let mut session = Session::from_graph(&graph, &options).unwrap_or_else(|error| panic!("{error}"));
    let read = |name: &str| session.inputs().iter().any(|(known, _)| known == name);
    let fed: Vec<(&str, &Tensor)> =
        samples.iter().filter(|(name, _)| read(name)).map(|(name, tensor)| (name.as_str(), tensor)).collect();
    session.run(&fed).unwrap_or_else(|error| panic!("{error}")).remove(0).to_f32().unwrap()
}

/// All verbs on one golden.
fn goes_all_the_way(folder: &str, name: &str) {
    let what = format!("{folder}/{name}");
    let base = base_of(folder, name);
    if let Some((_, why)) = OTHERWISE.iter().find(|(golden, _)| *golden == what) {
        let refused = base.refuse_fixed_batch().is_err_and(|error| error.to_string().contains("mixes the samples"));
        assert_eq!(refused, base.stuck.is_some(), "{what}: {why}");
        return;
    }
    let (loss, _) = loss_of(&base, None).unwrap();
    let loss = edgetune::recipe::loss(Some(loss), None);
    let scratch = tempfile::tempdir().unwrap();
    let bundle = bundle_of(&base, &loss, scratch.path()).unwrap_or_else(|error| panic!("{what}: {error}"));

    let options = Options { threads: 1, ..Options::default() };
    let rows = check(&bundle, &loss, &options, 0).unwrap_or_else(|error| panic!("{what}: {error}"));
    let wrong = rows.iter().find(|row| matches!(row.verdict, Agreement::Differs | Agreement::Undefined));
    assert!(wrong.is_none() && !rows.is_empty(), "{what}: {wrong:?}");

    let (batch, _) = random_batch(&bundle, &loss, &options, 8).unwrap_or_else(|error| panic!("{what}: {error}"));
    let optimizer = Optimizer::Sgd { momentum: 0.0, nesterov: false, weight_decay: 0.0 };
    let mut trainer = Trainer::new(&bundle, &loss, optimizer);
    // Trees answer in the units of what they were grown on.
    let rate = if bundle.head.is_some() { RATE / 1e4 } else { RATE };
    let losses: Vec<f64> = (0..STEPS).map(|_| trainer.step_on(batch.features.clone(), &batch.labels, rate)).collect();
    assert!(losses[STEPS - 1] < losses[0], "{what}: {losses:?}");

    let samples = samples(&base.graph);
    let values = moved(&bundle);
    let predicted = answer(&bundle, &values, &samples);
    let first: Vec<(String, Tensor)> = samples.iter().map(|(name, tensor)| (name.clone(), row(tensor))).collect();
    let alone = answer(&bundle, &values, &first);
    // What is rounded by the values at hand is rounded together.
    let together = base.graph.nodes.iter().any(|node| node.op == "DynamicQuantizeLinear");
    let tolerance = if together { 2e-2 } else { 1e-3 };
    close(&alone, &predicted[..alone.len()], tolerance, &format!("{what}: one sample alone"));

    // Factors beside a packed weight are merged as two small products.
    let learned: HashMap<&str, &[f32]> = bundle
        .parameters
        .iter()
        .zip(&values)
        .map(|(parameter, values)| (parameter.name.as_str(), values.as_slice()))
        .collect();
    let merged = adapter::merge(base.graph.clone(), &change(&bundle), &learned);
    let merged = merged.unwrap_or_else(|error| panic!("{what}: {error}"));
    let given = if PROBABILITIES.contains(&what.as_str()) {
        predicted.iter().map(|logarithm| logarithm.exp()).collect()
    } else {
        predicted
    };
    close(&answer_of(&merged, &bundle, &samples), &given, 1e-3, &format!("{what}: merged"));
}

/// The first row of a tensor.
fn row(tensor: &Tensor) -> Tensor {
    let bytes = tensor.data.len() / tensor.shape[0] as usize;
    let shape = std::iter::once(1).chain(tensor.shape[1..].iter().copied()).collect();
    Tensor { dtype: tensor.dtype, shape, data: tensor.data.slice(0..bytes) }
}

fn close(found: &[f32], expected: &[f32], tolerance: f32, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let largest = expected.iter().fold(1e-3f32, |largest, value| largest.max(value.abs()));
    let apart = found.iter().zip(expected).fold(0f32, |apart, (a, b)| apart.max((a - b).abs()));
    assert!(apart <= tolerance * largest, "{what}: {apart} apart, the largest is {largest}");
}

/// A test a folder, so that they run beside each other.
macro_rules! folders {
    ($($test:ident $folder:literal $steps:literal)*) => {
        $(
            #[test]
            fn $test() {
                runtime();
                for name in names($folder) {
                    goes_all_the_way($folder, &name);
                }
            }
        )*

        /// Where the steps of a folder's goldens are compared.
        const STEPS_OF: &[(&str, &str)] = &[$(($folder, $steps)),*];
    };
}

folders! {
    every_golden_of_exporters_goes_all_the_way "exporters" "exporters.json"
    every_golden_of_families_goes_all_the_way "families" "families.json"
    every_golden_of_genai_goes_all_the_way "genai" "genai.json"
    every_golden_of_newest_goes_all_the_way "newest" "newest.json"
    every_golden_of_quantised_goes_all_the_way "quantised" "quantised.json"
    every_golden_of_sklearn_goes_all_the_way "sklearn" "sklearn.json"
}

/// Goldens without ten steps of their own, and why they need none or where they have them.
const WITHOUT_STEPS: [(&str, &str); 8] = [
    ("exporters/llama_names", "its names are what it is for; the steps of such layers are those of `llama_classes`"),
    ("exporters/mixes", "it is refused"),
    ("exporters/packed_lstm", "`grad_recurrent.json` has PyTorch's gradients where sequences end early"),
    ("exporters/second_", "the answers are those of the file, and what learns is as in `lstm` and `encoder`"),
    ("families/sklearn_logistic", "`sklearn/logistic` is the same with steps"),
    ("quantised/mobilenet_qoperator", "`quantised.rs` compares it with `mobilenet_qdq`, which it is once it is read"),
    ("sklearn/forest", "trees have no gradient"),
    ("sklearn/sgd", "scikit-learn has no loss of its shares, sigmoids brought to a sum of 1"),
];

#[test]
fn every_golden_has_its_ten_steps() {
    let mut missing = Vec::new();
    for (folder, file) in STEPS_OF {
        let text = std::fs::read_to_string(goldens().join(folder).join(file)).unwrap();
        let facts: serde_json::Value = serde_json::from_str(&text).unwrap();
        let models = facts["models"].as_array().or(facts.as_array()).expect("a list of models");
        let ten = |losses: &serde_json::Value| losses.as_array().is_some_and(|losses| losses.len() >= STEPS);
        let has = |name: &str| {
            models.iter().filter(|model| model["name"] == name).any(|model| {
                ten(&model["losses"])
                    || model["runs"].as_array().is_some_and(|runs| runs.iter().any(|run| ten(&run["losses"])))
            })
        };
        let without = names(folder).into_iter().map(|name| (format!("{folder}/{name}"), has(&name)));
        missing.extend(without.filter(|(_, has)| !has).map(|(golden, _)| golden));
    }
    missing.retain(|golden| !WITHOUT_STEPS.iter().any(|(known, _)| golden.starts_with(known)));
    assert!(missing.is_empty(), "no ten steps, and no reason: {missing:?}");
}
