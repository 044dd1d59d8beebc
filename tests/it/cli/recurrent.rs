//! Recurrent layers, from `inspect` to the model with what was learned in it.

use super::Place;
use super::models::{noise, npy, npy_i64, sequences};
use edgetune::engine::{Options, Session};
use edgetune::graph::Tensor;

const SAMPLES: u64 = 48;

/// A folder with `base.onnx`, in which two recurrent layers learn, and sequences of which those with a positive sum of the
/// first column are of class 1.
fn place() -> Place {
    let place = Place::new();
    place.write("base.onnx", sequences());
    let x = noise(3, SAMPLES as usize * 24);
    let sum = |sample: &[f32]| sample.iter().step_by(4).sum::<f32>();
    let y: Vec<i64> = x.chunks_exact(24).map(|sample| (sum(sample) > 0.0).into()).collect();
    place.write("x/x.npy", npy(&[SAMPLES, 6, 4], &x));
    place.write("x/y.npy", npy_i64(&[SAMPLES], &y));
    place
}

#[test]
fn recurrent_layers_learn_and_stay_what_they_are() {
    let place = place();
    let inspected = place.run("inspect base.onnx --json").json();
    let layers = inspected["layers"].as_array().unwrap().len();
    assert_eq!(
        (&inspected["deepest"], &inspected["blocking"]),
        (&layers.into(), &serde_json::json!([])),
        "{inspected}"
    );
    let checked = place.run("check base.onnx --train last:3").done().out;
    assert_eq!(checked.matches("agrees").count(), 8, "{checked}");

    let train =
        "train base.onnx --data x --train last:3 --solver steps --epochs 60 --batch 8 --lr 0.03 --val-fraction 0";
    let report = place.run(&format!("{train} --out a.edelta --json")).json();
    let epochs = report["epochs"].as_array().unwrap();
    let loss = |epoch: &serde_json::Value| epoch["train_loss"].as_f64().unwrap();
    assert!(loss(epochs.last().unwrap()) < 0.5 * loss(&epochs[0]), "{report}");

    place.run("delta apply base.onnx a.edelta --out merged.onnx").done();
    let graph = edgetune::onnx::read(&place.path("merged.onnx")).unwrap().graph;
    let ops: Vec<&str> = graph.nodes.iter().map(|node| node.op.as_str()).collect();
    assert_eq!(ops.iter().filter(|op| ["GRU", "LSTM", "Scan"].contains(op)).collect::<Vec<_>>(), [&"GRU", &"LSTM"]);
    let mut session = Session::from_graph(&graph, &Options::default()).unwrap();
    let x = Tensor::from_f32(&[SAMPLES, 6, 4], &noise(3, SAMPLES as usize * 24));
    let logits = session.run(&[("x", &x)]).unwrap()[0].to_f32().unwrap();
    let told = place.run("predict base.onnx x --adapter a.edelta --json").json();
    let told = told.as_array().unwrap();
    assert_eq!(told.len() as u64, SAMPLES);
    for (row, told) in logits.chunks_exact(2).zip(told) {
        let probability = told["classes"][0]["probability"].as_f64().unwrap();
        let larger = 1.0 / (1.0 + (-f64::from((row[0] - row[1]).abs())).exp());
        assert!((probability - larger).abs() < 1e-5, "{row:?}: {told}");
    }
}

/// PEFT puts no factors on recurrent layers either; their biases learn with all others.
#[test]
fn methods_say_what_they_do_with_recurrent_layers() {
    let place = place();
    let train = "train base.onnx --data x --epochs 1 --out a.edelta --adapter";
    place.run(&format!("{train} lora --layers last:3")).fails(&["recurrent layers learn as a whole", "--train last:N"]);
    let learned = place.run(&format!("{train} bitfit")).done().err;
    // The new head's weight and bias, and the recurrent layers' biases.
    assert!(learned.contains(&format!("{} values in 4 tensors", 6 + 2 + 24 + 36)), "{learned}");
}
