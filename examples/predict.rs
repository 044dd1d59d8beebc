//! Answers with a model and what was learned on it, one photograph at a time.
//!
//! `cargo run --example predict`, after `cargo run --example train`.

use edgetune::prelude::*;

/// Predicts one photograph of each of three classes.
pub fn main() -> Result<(), edgetune::Error> {
    edgetune::configure_process();
    let delta = std::env::temp_dir().join("edgetune-example.edelta");
    let mut predictor = Predictor::open("models/efficientnet_lite0/model.onnx", delta)?;
    for class in ["airplane", "frog", "truck"] {
        let folder = std::path::Path::new("models/cifar10/test").join(class);
        let photograph = std::fs::read_dir(folder).expect("the test data").next().expect("a file").expect("a file");
        let answer = predictor.predict(photograph.path())?;
        println!("a photograph of the class {class}:");
        for (name, share) in answer.top(3) {
            println!("  {name} {share:.2}");
        }
    }
    Ok(())
}
