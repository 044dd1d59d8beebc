//! Any values through every encoding: exact where it is lossless, finite and of the same number elsewhere.
#![no_main]

use edgetune::delta::{Delta, Encoding, Header, Payload, TensorValues, apply, encode, encode_difference, f16, write};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u16, Vec<(u16, u16)>)| {
    let (parameter, pairs) = input;
    let finite = |bits: &u16| f16::from_bits(*bits).is_finite();
    if pairs.is_empty() || !pairs.iter().all(|(value, reference)| finite(value) && finite(reference)) {
        return;
    }
    let value = |bits: u16| f16::from_bits(bits).to_f32();
    let (values, reference): (Vec<f32>, Vec<f32>) = pairs.iter().map(|(v, r)| (value(*v), value(*r))).unzip();
    let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
    let fp16 = encode(&values, Encoding::Fp16).expect("finite");
    assert_eq!(bits(&read(&fp16, &reference)), bits(&values));
    let steps = encode_difference(&values, &reference, Encoding::Steps).expect("finite");
    assert_eq!(bits(&read(&steps, &reference)), bits(&values));
    let block = u32::from(parameter).clamp(1, values.len() as u32);
    let lossy = [
        Encoding::Int8 { block },
        Encoding::Int4 { block },
        Encoding::Sign { block },
        Encoding::Sparse { count: block },
    ];
    for encoding in lossy {
        let payload = encode(&values, encoding).expect("finite");
        assert!(read(&payload, &reference).iter().all(|value| value.is_finite()));
    }
});

fn read(payload: &Payload, reference: &[f32]) -> Vec<f32> {
    let header = Header { loss: "l", output: "o", ..Header::default() };
    let shape = [reference.len() as u32];
    let tensor = TensorValues { name: "w", shape: &shape, payload };
    let bytes = write(&header, &[], &[tensor]).expect("what was encoded can be written");
    let mut target = reference.to_vec();
    let delta = Delta::parse(&bytes).expect("what was written can be read");
    apply(&delta.tensor("w").expect("is there"), &mut target).expect("the lengths are equal");
    target
}
