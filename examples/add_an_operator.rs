//! Trains through an operator that edgetune has no gradient for: the application brings the rule.
//!
//! `cargo run --example add_an_operator`. `Shrink` pulls small numbers to zero and large ones nearer to it; with its gradient, the
//! layer below it learns.

use edgetune::grad::{self, Action, At, Grads, Rule};
use edgetune::graph::{Attr, Builder, DType, Dim, Graph, TensorType};
use edgetune::onnx::{self, Weights};
use edgetune::prelude::*;
use ndarray::Array2;

/// The gradient passes where the number was outside of ±λ, and nowhere else. The multiplication is a node of the gradient's graph.
fn shrink<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    let x = n.x(0);
    let outside = x.unary("Abs").binary("Greater", x.scalar_like(n.float("lambd", 0.5)));
    Ok(vec![Some(n.dy(0) * outside.cast(n.dtype(0)))])
}

/// Sixty-four points on a line, and where a line through `Shrink` puts them.
pub fn main() -> Result<(), Box<dyn std::error::Error>> {
    edgetune::configure_process();
    let folder = std::env::temp_dir().join(format!("edgetune-operator-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let model = folder.join("model.onnx");
    std::fs::write(&model, through_shrink())?;

    let points: Vec<f32> = (0..64).map(|point| point as f32 / 16.0 - 2.0).collect();
    let wanted = Array2::from_shape_fn((64, 1), |(point, _)| shrunk(2.0 * points[point]));
    let training = || {
        let inputs = vec![("x".to_string(), Tensor::from_f32(&[64, 1], &points))];
        Trainer::new(&model).samples(inputs, Labels::Values(wanted.clone())).learn("last:1".parse().unwrap()).set(
            |recipe| {
                (recipe.epochs, recipe.lr, recipe.val_fraction) = (Some(100), Some(0.05.into()), Some(0.0));
            },
        )
    };
    let refused = training().run().expect_err("no rule yet").to_string();
    println!("without the rule: {refused}");
    assert!(refused.contains("Shrink"), "{refused}");

    grad::add_rules(vec![Rule::new("Shrink", 9..=28, Action::Flows(shrink))]).map_err(|_| "rules were added before")?;
    let delta = folder.join("line.edelta");
    training().run()?.save(&delta)?;
    let answer = Predictor::open(&model, &delta)?.predict_numbers(&[1], &[1.0])?.values[0];
    println!("with it: 1 becomes {answer:.2}");
    assert!((answer - shrunk(2.0)).abs() < 0.05, "{answer}");
    Ok(std::fs::remove_dir_all(folder)?)
}

/// What `Shrink` does with λ = 0.5 and the bias 0.25.
fn shrunk(x: f32) -> f32 {
    if x.abs() > 0.5 { x - 0.25 * x.signum() } else { 0.0 }
}

/// y = Shrink(x w), one number in and one out, as the bytes of an ONNX file.
fn through_shrink() -> Vec<u8> {
    let builder = Builder::new(Graph::new("shrink", 17), "");
    let x = builder.input("x", TensorType::new(DType::Float, vec![Dim::Named("N".into()), Dim::Fixed(1)]));
    let line = builder.op("MatMul", &[x, builder.weight(Tensor::from_f32(&[1, 1], &[1.0]))], &[]);
    let attributes = [("bias", Attr::Float(0.25)), ("lambd", Attr::Float(0.5))];
    builder.output("y", builder.op("Shrink", &[line], &attributes));
    onnx::encode(&builder.finish(), &Weights::Embedded)
}
