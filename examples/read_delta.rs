//! Reads a delta as a microcontroller would: from bytes, without an allocator and without copying.
//!
//! `cargo run --example read_delta`, after `cargo run --example train`. The module `edgetune::delta` compiles with
//! `--no-default-features` for targets that have no standard library.

use edgetune::delta::Delta;

/// Shows what a delta says of itself and what it holds.
pub fn main() -> Result<(), Box<dyn std::error::Error>> {
    let bytes = std::fs::read(std::env::temp_dir().join("edgetune-example.edelta"))?;
    // All sizes, offsets, checksums and values are checked here; nothing is copied.
    let delta = Delta::parse(&bytes)?;
    let header = delta.header();
    println!("learned from {} samples, for the base {:02x}{:02x}…", header.samples, header.base[0], header.base[1]);
    for label in delta.labels() {
        println!("class {} ({} samples)", label.name, label.samples);
    }
    for tensor in delta.tensors() {
        println!("tensor {} {:?}", tensor.entry.name, tensor.entry.shape);
    }
    Ok(())
}
