//! Any bytes as the payload of a tensor of any encoding, through the entropy stage and without: refused, or as many finite
//! values as the shape says, which can be applied.
#![no_main]

use edgetune::delta::{Delta, Encoding, Header, Packing, Payload, TensorValues, apply, write};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u8, bool, bool, u16, u16, &[u8])| {
    let (kind, coded, difference, size, parameter, bytes) = input;
    let (size, parameter) = (u32::from(size).max(1), u32::from(parameter));
    let encoding = match kind % 6 {
        0 => Encoding::Fp16,
        1 => Encoding::Steps,
        2 => Encoding::Int8 { block: parameter },
        3 => Encoding::Int4 { block: parameter },
        4 => Encoding::Sign { block: parameter },
        _ => Encoding::Sparse { count: parameter },
    };
    let packing = if coded { Packing::Coded } else { Packing::Raw };
    let payload = Payload { encoding, packing, difference, bytes: bytes.to_vec() };
    let header = Header { loss: "l", output: "o", ..Header::default() };
    // The writer reads what it has written, so hostile values meet the reader here.
    let Ok(written) = write(&header, &[], &[TensorValues { name: "w", shape: &[size], payload: &payload }]) else {
        return;
    };
    let delta = Delta::parse(&written).expect("was read once");
    let tensor = delta.tensor("w").expect("is there");
    assert_eq!(tensor.values().count(), size as usize);
    assert!(tensor.values().all(f32::is_finite));
    let mut target = vec![0.5; size as usize];
    if apply(&tensor, &mut target).is_ok() {
        assert!(target.iter().all(|value| value.is_finite()));
    }
});
