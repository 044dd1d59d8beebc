//! The programs in `examples` run, on the project's own models and data; each takes seconds.

#[path = "../../examples/add_an_operator.rs"]
mod add_an_operator;
#[path = "../../examples/own_loss.rs"]
mod own_loss;
#[path = "../../examples/predict.rs"]
mod predict;
#[path = "../../examples/read_delta.rs"]
mod read_delta;
#[path = "../../examples/train.rs"]
mod train;
#[path = "../../examples/train_from_memory.rs"]
mod train_from_memory;

use std::time::Instant;

/// They are one test, for each goes on with the delta of the first.
#[test]
fn every_example_does_what_it_says_within_half_a_minute() {
    super::engine::runtime();
    for (name, run) in [
        ("train", &(|| train::main().map_err(Into::into)) as &dyn Fn() -> Result<(), Box<dyn std::error::Error>>),
        ("predict", &|| predict::main().map_err(Into::into)),
        ("read_delta", &read_delta::main),
        ("train_from_memory", &train_from_memory::main),
        ("own_loss", &own_loss::main),
        ("add_an_operator", &add_an_operator::main),
    ] {
        let began = Instant::now();
        run().unwrap_or_else(|error| panic!("{name}: {error}"));
        let seconds = began.elapsed().as_secs_f64();
        assert!(seconds < 30.0, "{name} took {seconds:.1} s");
    }
}
