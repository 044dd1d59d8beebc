//! Learns with a loss of one's own: too low an answer is nine times as bad as one that is as much too high, so that nine of ten
//! readings end up below the answers (the 0.9 quantile).
//!
//! `cargo run --example own_loss`. A loss is an ONNX file, as PyTorch exports one; here it is written with the library.

use edgetune::graph::{Attr, Builder, DType, Dim, Graph, TensorType};
use edgetune::onnx::{self, Weights};
use edgetune::prelude::*;
use ndarray::Array2;

/// Readings of a machine, and how long each job took.
pub fn main() -> Result<(), Box<dyn std::error::Error>> {
    edgetune::configure_process();
    let folder = std::env::temp_dir().join(format!("edgetune-loss-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let (model, loss) = (folder.join("model.onnx"), folder.join("quantile.onnx"));
    std::fs::write(&model, linear())?;
    std::fs::write(&loss, quantile(0.9))?;

    // 100 jobs of one size; each took 1 to 2 minutes, one as probable as the other.
    let minutes = |job: usize| 1.0 + (job * 37 % 100) as f32 / 100.0;
    let sizes = Tensor::from_f32(&[100, 1], &[1.0; 100]);
    let took = Labels::OfLoss(Array2::from_shape_fn((100, 1), |(job, _)| minutes(job)));

    let run = Trainer::new(&model)
        .samples(vec![("x".into(), sizes)], took)
        .set(|recipe| {
            (recipe.loss_file, recipe.val_fraction) = (Some(loss.clone()), Some(0.0));
            (recipe.epochs, recipe.lr) = (Some(200), Some(0.02.into()));
        })
        .run()?;
    let delta = folder.join("minutes.edelta");
    run.save(&delta)?;
    let answer = Predictor::open(&model, &delta)?.predict_numbers(&[1], &[1.0])?.values[0];
    println!("nine of ten jobs take less than {answer:.2} minutes");
    assert!((answer - 1.9).abs() < 0.05, "{answer}");
    Ok(std::fs::remove_dir_all(folder)?)
}

/// y = x w + b, one number in and one out, as the bytes of an ONNX file.
fn linear() -> Vec<u8> {
    let builder = Builder::new(Graph::new("linear", 17), "");
    let x = builder.input("x", column());
    let (w, b) = (Tensor::from_f32(&[1, 1], &[0.5]), Tensor::from_f32(&[1], &[0.0]));
    builder.output("y", builder.op("Gemm", &[x, builder.weight(w), builder.weight(b)], &[]));
    onnx::encode(&builder.finish(), &Weights::Embedded)
}

/// The mean of max(q · d, (q − 1) · d) with d = wanted − answer. The first input is the model's output, the other a label.
fn quantile(q: f64) -> Vec<u8> {
    let builder = Builder::new(Graph::new("quantile", 17), "");
    let (answer, wanted) = (builder.input("answer", column()), builder.input("wanted", column()));
    let missing = wanted - answer;
    let times = |factor| missing * builder.scalar(DType::Float, factor);
    let each = builder.op("Max", &[times(q), times(q - 1.0)], &[]);
    builder.output("loss", builder.op("ReduceMean", &[each], &[("keepdims", Attr::Int(0))]));
    onnx::encode(&builder.finish(), &Weights::Embedded)
}

fn column() -> TensorType {
    TensorType::new(DType::Float, vec![Dim::Named("N".into()), Dim::Fixed(1)])
}
