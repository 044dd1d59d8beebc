//! A signed delta with bytes changed: only the delta itself verifies.
#![no_main]

use edgetune::delta::{Delta, Encoding, Header, KeyPair, TensorValues, encode, sign, write};
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

static SIGNED: LazyLock<(Vec<u8>, [u8; 32])> = LazyLock::new(|| {
    let header = Header { loss: "l", output: "o", ..Header::default() };
    let payload = encode(&[1.0, 2.0, 3.0], Encoding::Fp16).expect("finite");
    let bytes = write(&header, &[], &[TensorValues { name: "w", shape: &[3], payload: &payload }]).expect("fits");
    let key = KeyPair::from_secret(&[7; 32]);
    (sign(&bytes, &key).expect("a delta"), key.public())
});

fuzz_target!(|input: (Vec<(u16, u8)>, u16, &[u8])| {
    let (changes, length, appended) = input;
    let (signed, key) = &*SIGNED;
    let mut bytes = signed.clone();
    for (place, value) in changes {
        let place = usize::from(place) % bytes.len();
        bytes[place] = value;
    }
    bytes.truncate(usize::from(length).max(1));
    bytes.extend(appended);
    let verified = Delta::parse(&bytes).is_ok_and(|delta| delta.head().verify(key).is_ok());
    assert_eq!(verified, bytes == *signed);
});
