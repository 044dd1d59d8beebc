//! Bytes from the network: as they are, and with the identity made right so that the fuzzer gets behind it.
#![no_main]

use edgetune::delta::{Delta, PREAMBLE_BYTES};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    read(bytes);
    read(&sealed(bytes));
});

/// With the identity that the header demands, where there is room for a header.
fn sealed(bytes: &[u8]) -> Vec<u8> {
    let mut sealed = bytes.to_vec();
    let Some(length) = bytes.get(8..PREAMBLE_BYTES) else { return sealed };
    let end = PREAMBLE_BYTES + u32::from_le_bytes(length.try_into().expect("four bytes")) as usize;
    if let Some(covered) = bytes.get(8..end).filter(|_| end + 32 <= bytes.len()) {
        let identity = blake3::hash(&[&bytes[..6], covered].concat());
        sealed[end..end + 32].copy_from_slice(identity.as_bytes());
    }
    sealed
}

fn read(bytes: &[u8]) {
    if let Ok(delta) = Delta::parse(bytes) {
        assert!(delta.labels().all(|label| !label.name.is_empty()));
        assert!(delta.tensors().len() == delta.tensors().count());
        assert!(delta.tensors().flat_map(|tensor| tensor.values()).all(f32::is_finite));
    }
}
