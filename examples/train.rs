//! Learns ten classes of photographs with the last layer of a small model, and saves what was learned.
//!
//! `cargo run --example train`, in the project's folder. ONNX Runtime has to be there: `edgetune runtime install`.

use edgetune::prelude::*;

/// Trains with a few photographs a class, so that it takes seconds.
pub fn main() -> Result<(), edgetune::Error> {
    edgetune::configure_process();
    let run = Trainer::new("models/efficientnet_lite0/model.onnx")
        .data("models/cifar10/train")
        .test("models/cifar10/test")
        .learn("head".parse()?)
        .set(|recipe| recipe.per_class = Some(8))
        .observe(|event| println!("{event}"))
        .run()?;
    let file = std::env::temp_dir().join("edgetune-example.edelta");
    run.save(&file)?;
    let measured = run.report().test.as_ref().expect("there are test data");
    println!("accuracy {:.2} on photographs that it never saw", measured.after.accuracy.unwrap_or(0.0));
    println!("{} bytes in {}", run.report().delta_bytes, file.display());
    Ok(())
}
