//! The fleet's server as a specification: real processes on a free port, SQLite and a folder, or what `EDGETUNE_FLEET_DATABASE` and
//! `EDGETUNE_FLEET_STORE` name (`tests/fleet/services` starts a PostgreSQL and an S3 server and sets both).

mod attacks;
mod backups;
mod certificates;
mod circle;
mod client;
mod crowds;
mod dashboard;
mod faults;
mod freeze;
mod help;
mod member;
mod operators;
mod patience;
#[path = "../power/client.rs"]
mod power;
mod proxy;
mod recipes;
mod reloads;
mod retention;
mod rollouts;
mod roots;
mod rounds;
mod server;
mod simulate;

use edgetune::delta::{self, Encoding, Header, KeyPair, Label, Method, MethodKind, TensorValues, encode, sign};

/// The base of all deltas here.
const BASE: [u8; 32] = [7; 32];

/// The header that a device of the tests writes.
fn header() -> Header<'static> {
    Header { base: BASE, loss: "cross_entropy", output: "logits", samples: 7, ..Header::default() }
}

/// A delta of one tensor of 64 × 10 and a bias, signed.
fn delta_of(header: &Header<'_>, values: &[f32], key: &KeyPair) -> Vec<u8> {
    let payloads = [encode(values, Encoding::Fp16).unwrap(), encode(&values[..10], Encoding::Fp16).unwrap()];
    let tensors = [
        TensorValues { name: "fc.weight", shape: &[64, 10], payload: &payloads[0] },
        TensorValues { name: "fc.bias", shape: &[10], payload: &payloads[1] },
    ];
    let labels = [Label { name: "cat", samples: 3 }, Label { name: "dog", samples: 4 }];
    sign(&delta::write(header, &labels, &tensors).unwrap(), key).unwrap()
}

/// A delta as devices send it; `round` 1 is the first.
fn plain_delta(seed: u64, round: u32, key: &KeyPair) -> Vec<u8> {
    delta_of(&Header { round: Some(round), ..header() }, &noise(seed, 640), key)
}

/// A LoRA delta, which no channel of the tests takes.
fn lora_delta(key: &KeyPair) -> Vec<u8> {
    let method = Some(Method { kind: MethodKind::Lora, rank: 2, alpha: 4.0 });
    delta_of(&Header { method, ..header() }, &noise(1, 640), key)
}

/// Values of binary16 in ±1.
fn noise(seed: u64, count: usize) -> Vec<f32> {
    let mut random = fastrand::Rng::with_seed(seed);
    (0..count).map(|_| delta::f16::from_f32(random.f32() * 2.0 - 1.0).to_f32()).collect()
}
