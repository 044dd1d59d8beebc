//! Moments from the network: as they are, and with the identity made right so that the fuzzer gets behind it. What is read has one form.
#![no_main]

use edgetune::moments::Moments;
use libfuzzer_sys::fuzz_target;

/// Bytes before the header.
const PREAMBLE_BYTES: usize = 16;

fuzz_target!(|bytes: &[u8]| {
    read(bytes);
    read(&sealed(bytes));
});

/// With the identity that header and payload demand, where there is room for them.
fn sealed(bytes: &[u8]) -> Vec<u8> {
    let mut sealed = bytes.to_vec();
    let length = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?) as usize);
    let (Some(header), Some(payload)) = (length(8), length(12)) else { return sealed };
    let end = PREAMBLE_BYTES + header + payload;
    if let Some(covered) = bytes.get(8..end).filter(|_| end + 32 <= bytes.len()) {
        let identity = blake3::hash(&[&bytes[..6], covered].concat());
        sealed[end..end + 32].copy_from_slice(identity.as_bytes());
    }
    sealed
}

fn read(bytes: &[u8]) {
    if let Ok(moments) = Moments::parse(bytes) {
        let again = moments.encode().expect("what was read can be written");
        assert!(bytes[8..].starts_with(&again[8..]), "two forms of the same");
        let mut twice = moments.clone();
        if twice.merge(&moments).is_ok() {
            twice.subtract(&moments).expect("what was added can be taken away");
            assert!(twice == moments, "taking away left something");
        }
    }
}
