//! Bytes from the network: with a right checksum added, so that the fuzzer gets behind it, and without.
#![no_main]

use edgetune::delta::Delta;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    read(bytes);
    let sealed = [bytes, blake3::hash(bytes).as_bytes()].concat();
    read(&sealed);
});

fn read(bytes: &[u8]) {
    if let Ok(delta) = Delta::parse(bytes) {
        assert!(delta.labels().all(|label| !label.name.is_empty()));
        assert!(delta.tensors().len() == delta.tensors().count());
        assert!(delta.tensors().flat_map(|tensor| tensor.values()).all(|value| value.is_finite()));
    }
}
