//! Any bytes as a model file: an error, or a graph that can be written and read back as the same graph.
//!
//! `cargo +nightly fuzz run onnx_read fuzz/corpus/onnx_read tests/goldens/onnx`
#![no_main]

use bytes::Bytes;
use edgetune::onnx::{self, Weights};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Ok(model) = onnx::read_bytes(Bytes::copy_from_slice(data), None) else { return };
    let written = onnx::encode(&model.graph, &Weights::Embedded);
    let again = onnx::read_bytes(written.into(), None).expect("what was written can be read");
    assert_eq!(onnx::hash(&again.graph), onnx::hash(&model.graph));
});
