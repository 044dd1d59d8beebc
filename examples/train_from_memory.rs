//! Learns from numbers that the program holds itself: no file of data is read or written.
//!
//! `cargo run --example train_from_memory`. The model is made here as well, as a file: a layer of 8 features.

use edgetune::graph::{Builder, DType, Dim, Graph, TensorType};
use edgetune::onnx::{self, Weights};
use edgetune::prelude::*;

/// Sensor readings of two states, told apart by a model that has never seen them.
pub fn main() -> Result<(), Box<dyn std::error::Error>> {
    edgetune::configure_process();
    let folder = std::env::temp_dir().join(format!("edgetune-memory-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let model = folder.join("model.onnx");
    std::fs::write(&model, layer_of_features())?;

    // 60 readings of 4 numbers; those of the second state are shifted.
    let state = |sample: usize| (sample % 2) as u32;
    let reading = |place: usize| ((place * 37 % 101) as f32) / 101.0 + 2.0 * state(place / 4) as f32;
    let readings = Tensor::from_f32(&[60, 4], &(0..240).map(reading).collect::<Vec<_>>());
    let labels = Labels::Classes { names: vec!["idle".into(), "moving".into()], index: (0..60).map(state).collect() };

    let run = Trainer::new(&model).samples(vec![("x".into(), readings)], labels).run()?;
    let delta = folder.join("state.edelta");
    run.save(&delta)?;
    let mut predictor = Predictor::open(&model, &delta)?;
    for numbers in [[0.2, 0.4, 0.6, 0.8], [2.2, 2.4, 2.6, 2.8]] {
        println!("{numbers:?}: {}", predictor.predict_numbers(&[4], &numbers)?);
    }
    let answer = predictor.predict_numbers(&[4], &[2.2, 2.4, 2.6, 2.8])?;
    assert_eq!(answer.top(1).next().map(|(state, _)| state), Some("moving"));
    Ok(std::fs::remove_dir_all(folder)?)
}

/// y = Relu(x W + b) with 4 numbers in and 8 features out, as the bytes of an ONNX file.
fn layer_of_features() -> Vec<u8> {
    let builder = Builder::new(Graph::new("features", 17), "");
    let x = builder.input("x", TensorType::new(DType::Float, vec![Dim::Named("N".into()), Dim::Fixed(4)]));
    let weights: Vec<f32> = (0..32).map(|place| ((place * 29 % 17) as f32 - 8.0) / 8.0).collect();
    let w = builder.weight(Tensor::from_f32(&[4, 8], &weights));
    let b = builder.weight(Tensor::from_f32(&[8], &[0.1; 8]));
    builder.output("y", (x.matmul(w) + b).unary("Relu"));
    onnx::encode(&builder.finish(), &Weights::Embedded)
}
