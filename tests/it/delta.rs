//! The delta format: exact bytes, round trips, and everything that must be refused.

mod chains;
mod refused;

use edgetune::delta::{
    AppendedHead, Channels, Delta, Encoding, EncodingChoice, Error, Field, GateVerdict, Head, Header,
    ImagePreprocessing, KeptPreprocessing, KeyPair, Label, Layout, Measured, Method, MethodKind, Metrics,
    PREAMBLE_BYTES, Packing, Payload, Preprocessing, RECIPE_BYTES_MAX, SeriesPreprocessing, Task, TensorValues,
    TimeUnit, apply, change, convert, encode, encode_difference, f16, head_length, join, merge, public_key, sign,
    write,
};
use proptest::prelude::*;

/// Every field filled, as the goldens were written.
fn golden_header() -> Header<'static> {
    let image = ImagePreprocessing {
        width: 224,
        height: 192,
        resize: 256,
        scale: 0.5,
        mean: ImagePreprocessing::shortened([1.0, 2.0, 3.0]),
        std: ImagePreprocessing::shortened([128.0; 3]),
        layout: Layout::Nhwc,
        channels: Channels::Rgb,
    };
    Header {
        base: std::array::from_fn(|index| index as u8),
        parent: Some([0xee; 32]),
        tool: "0.1.0",
        created_unix_s: Some(1_700_000_000),
        device: "pi-7",
        round: Some(3),
        recipe: Some([0x5a; 32]),
        task: Task::MultiLabel,
        loss: "binary_cross_entropy",
        output: "logits",
        head: Some(AppendedHead { value: "/Flatten_output_0", features: 3, classes: 2 }),
        method: Some(Method { kind: MethodKind::Dora, rank: 8, alpha: 16.0 }),
        preprocessing: Preprocessing::Image(image),
        metrics: Metrics {
            validation: Some(Measured { loss: [2.5, 0.25], accuracy: Some([0.5, 1.0]) }),
            test: Some(Measured { loss: [2.25, 0.5], accuracy: None }),
        },
        gate: Some(GateVerdict { passed: true, reason: "accuracy 1.0, at least 0.9" }),
        seed: 7,
        samples: 300,
        licence: "CC-BY-4.0",
        notes: "photographs of the hall, spring",
        recipe_text: "",
    }
}

fn plain_header() -> Header<'static> {
    Header { base: [9; 32], tool: "0.1.0", loss: "cross_entropy", output: "logits", ..Header::default() }
}

const LABELS: [Label; 2] = [Label { name: "cat", samples: 100 }, Label { name: "Hündin", samples: 200 }];

fn fp16(values: &[f32]) -> Payload {
    encode(values, Encoding::Fp16).unwrap()
}

/// 96 values between -1 and 1 that all encodings have something to do with, and 96 near them.
fn samples() -> ([f32; 96], [f32; 96]) {
    let value = |index: usize| f16::from_f32(((index * 37 + 11) % 96) as f32 / 48.0 - 1.0).to_f32();
    let values = std::array::from_fn(value);
    (values, values.map(|value| f16::from_f32(value * 1.001 + 0.0001).to_f32()))
}

/// A golden for each encoding, and a signed one.
fn goldens() -> Vec<(&'static str, Vec<u8>)> {
    let (values, reference) = samples();
    let payloads = [
        ("fp16", fp16(&values)),
        ("fp16-coded", fp16(&[0.25; 96])),
        ("int8", encode(&values, Encoding::Int8 { block: 32 }).unwrap()),
        ("int4", encode(&values, Encoding::Int4 { block: 31 }).unwrap()),
        ("sign", encode_difference(&values, &reference, Encoding::Sign { block: 96 }).unwrap()),
        ("sparse", encode(&values, Encoding::Sparse { count: 7 }).unwrap()),
        ("steps", encode_difference(&values, &reference, Encoding::Steps).unwrap()),
    ];
    let of = |payload: &Payload| {
        let bias = fp16(&[1.0, -2.0]);
        let tensors = [
            TensorValues { name: "head.weight", shape: &[2, 48], payload },
            TensorValues { name: "head.bias", shape: &[2], payload: &bias },
        ];
        write(&golden_header(), &LABELS, &tensors).unwrap()
    };
    let mut goldens: Vec<_> = payloads.iter().map(|(name, payload)| (*name, of(payload))).collect();
    goldens.push(("signed", sign(&golden(), &key()).unwrap()));
    goldens.push(("recipe", with_recipe()));
    goldens.push(("series", of_series()));
    goldens
}

/// A recipe's text, as `train` writes it.
const RECIPE: &str = "train = [\"last:2\"]\nlr = 0.01\n\n[samples]\npacking = false\n";

/// The header with the recipe that it names.
fn recipe_header() -> Header<'static> {
    Header { recipe: Some(blake3::hash(RECIPE.as_bytes()).into()), recipe_text: RECIPE, ..golden_header() }
}

fn with_recipe() -> Vec<u8> {
    let weight = fp16(&[0.5, -1.0, 2.0, 0.0, 65504.0, -0.25]);
    write(&recipe_header(), &LABELS, &[TensorValues { name: "head.weight", shape: &[2, 3], payload: &weight }]).unwrap()
}

/// Mean and deviation of two channels, as a header holds them.
const SCALER: [u8; 16] = [0, 0, 0x80, 0x3f, 0, 0, 0, 0x40, 0, 0, 0x20, 0xc1, 0, 0, 0, 0x3f];

fn series() -> SeriesPreprocessing<'static> {
    SeriesPreprocessing {
        rate: 31.25,
        resampled: true,
        rows: 64,
        hop: 32,
        channels_first: true,
        time: "t",
        unit: TimeUnit::Milliseconds,
        channels: "ax\nBeschleunigung ü",
        scaler: &SCALER,
    }
}

/// The header of what was learned from sensor series.
fn series_header() -> Header<'static> {
    Header { preprocessing: Preprocessing::Series(series()), ..golden_header() }
}

fn of_series() -> Vec<u8> {
    let weight = fp16(&[0.5, -1.0, 2.0, 0.0, 65504.0, -0.25]);
    write(&series_header(), &LABELS, &[TensorValues { name: "head.weight", shape: &[2, 3], payload: &weight }]).unwrap()
}

fn key() -> KeyPair {
    KeyPair::from_secret(&[7; 32])
}

fn golden() -> Vec<u8> {
    let (weight, bias) = (fp16(&[0.5, -1.0, 2.0, 0.0, 65504.0, -0.25]), fp16(&[1.0, -2.0]));
    let tensors = [
        TensorValues { name: "head.weight", shape: &[2, 3], payload: &weight },
        TensorValues { name: "head.bias", shape: &[2], payload: &bias },
    ];
    write(&golden_header(), &LABELS, &tensors).unwrap()
}

/// A delta of one tensor.
fn single(name: &str, shape: &[u32], payload: &Payload) -> Result<Vec<u8>, Error> {
    write(&plain_header(), &[], &[TensorValues { name, shape, payload }])
}

/// A delta of one scalar.
fn small() -> Vec<u8> {
    single("b", &[], &fp16(&[1.5])).unwrap()
}

/// The unsigned delta with `change` made to its header, and length and identity made right again.
fn resealed(bytes: &[u8], change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let header_end = PREAMBLE_BYTES + u32::from_le_bytes(bytes[8..12].try_into().unwrap()) as usize;
    let mut covered = bytes[..header_end].to_vec();
    change(&mut covered);
    let length = (covered.len() as u32).saturating_sub(PREAMBLE_BYTES as u32);
    if covered.len() >= PREAMBLE_BYTES && covered[8..12] == bytes[8..12] {
        covered[8..12].copy_from_slice(&length.to_le_bytes());
    }
    let rest = covered.get(8..).unwrap_or_default();
    let identity = blake3::hash(&[&covered[..6.min(covered.len())], rest].concat());
    [&covered, identity.as_bytes().as_slice(), &bytes[header_end + 32..]].concat()
}

/// The delta of one tensor whose payload is `payload`, whatever is wrong with that.
fn hostile(shape: &[u32], payload: Payload) -> Error {
    single("b", shape, &payload).unwrap_err()
}

fn position(bytes: &[u8], part: &[u8]) -> usize {
    bytes.windows(part.len()).position(|window| window == part).unwrap()
}

fn refusal(bytes: &[u8]) -> Error {
    Delta::parse(bytes).unwrap_err()
}

/// Writes goldens that are not there; after a release none is ever written again: `cargo test --test it -- --ignored goldens`
#[test]
#[ignore = "writes into tests/goldens"]
fn write_missing_goldens() {
    for (name, bytes) in goldens() {
        if !golden_path(name).exists() {
            std::fs::write(golden_path(name), bytes).unwrap();
        }
    }
}

fn golden_path(name: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join(format!("tests/goldens/delta/v{}-{name}.edelta", if name == "recipe" { 2 } else { 1 }))
}

/// A version stays what it is: these files are never rewritten.
#[test]
fn golden_bytes_are_written_and_read() {
    for (name, bytes) in goldens() {
        let committed = std::fs::read(golden_path(name)).unwrap();
        assert!(bytes == committed, "{name}");
        let delta = Delta::parse(&committed).unwrap();
        let wanted = match name {
            "recipe" => recipe_header(),
            "series" => series_header(),
            _ => golden_header(),
        };
        assert_eq!(delta.header(), &wanted);
        assert_eq!(delta.labels().collect::<Vec<_>>(), LABELS);
    }
    let committed = std::fs::read(golden_path("series")).unwrap();
    let delta = Delta::parse(&committed).unwrap();
    let Preprocessing::Series(series) = &delta.header().preprocessing else { panic!("{:?}", delta.header()) };
    assert_eq!(series.scales().collect::<Vec<_>>(), [[1.0, 2.0], [-10.0, 0.5]]);
    assert_eq!(KeptPreprocessing::from(&delta.header().preprocessing).get(), delta.header().preprocessing);
    let committed = std::fs::read(golden_path("signed")).unwrap();
    let delta = Delta::parse(&committed).unwrap();
    let Preprocessing::Image(image) = &delta.header().preprocessing else { panic!("{:?}", delta.header()) };
    assert_eq!((image.means(), image.stds()), ([1.0, 2.0, 3.0], [128.0; 3]));
    let tensors: Vec<_> = delta.tensors().collect();
    assert_eq!(tensors.iter().map(|tensor| tensor.entry.name).collect::<Vec<_>>(), ["head.bias", "head.weight"]);
    assert_eq!(tensors[1].entry.shape, [2, 3]);
    let mut weight = [0.0; 6];
    apply(&delta.tensor("head.weight").unwrap(), &mut weight).unwrap();
    assert_eq!(weight, [0.5, -1.0, 2.0, 0.0, 65504.0, -0.25]);
    assert_eq!(apply(&tensors[0], &mut weight), Err(Error::ApplyLength));
}

/// The lossless golden gives the very values back, from the one that it is a difference to.
#[test]
fn golden_steps_are_exact() {
    let ((values, mut target), bytes) = (samples(), std::fs::read(golden_path("steps")).unwrap());
    apply(&Delta::parse(&bytes).unwrap().tensor("head.weight").unwrap(), &mut target).unwrap();
    assert_eq!(target, values);
}

/// Head first, then tensor by tensor, out of a source that gives its bytes once: never the whole file in memory.
#[test]
fn a_stream_is_read_tensor_by_tensor() {
    use std::io::Read;
    let bytes = sign(&golden(), &key()).unwrap();
    let mut stream = bytes.as_slice();
    let mut take = |length: usize| {
        let mut part = vec![0; length];
        stream.read_exact(&mut part).map(|()| part)
    };
    let preamble: [u8; PREAMBLE_BYTES] = take(PREAMBLE_BYTES).unwrap().try_into().unwrap();
    let rest = take(head_length(&preamble).unwrap() - PREAMBLE_BYTES).unwrap();
    let head = [&preamble[..], &rest].concat();
    let head = Head::parse(&head).unwrap();
    head.verify(&key().public()).unwrap();
    let mut sums = Vec::new();
    for located in head.entries() {
        let payload = take(located.entry.length as usize).unwrap();
        sums.push(located.open(&payload).unwrap().values().sum::<f32>());
        let mut other = payload.clone();
        other[0] ^= 1;
        assert_eq!(located.open(&other).unwrap_err(), Error::Payload(located.index));
        assert_eq!(located.open(&payload[1..]).unwrap_err(), Error::Payload(located.index));
    }
    assert_eq!(sums, [-1.0, 65505.25]);
    assert!(take(1).is_err());
}

#[test]
fn signatures_are_of_one_key_and_one_delta() {
    let (unsigned, other) = (golden(), KeyPair::from_secret(&[8; 32]));
    let signed = sign(&unsigned, &key()).unwrap();
    let delta = Delta::parse(&signed).unwrap();
    assert_eq!(delta.head().verify(&key().public()), Ok(()));
    assert_eq!(delta.head().verify(&other.public()), Err(Error::OtherKey));
    let bare = Delta::parse(&unsigned).unwrap();
    assert_eq!(bare.head().verify(&key().public()), Err(Error::Unsigned));
    assert_eq!(bare.identity(), delta.identity(), "signing does not change what a delta is called");
    assert_eq!(sign(&sign(&unsigned, &other).unwrap(), &key()).unwrap(), signed, "a signature is replaced");

    // The signature of another delta, and the key of somebody else beside the right signature.
    let end = delta.head().length();
    let foreign = sign(&small(), &key()).unwrap();
    let foreign_end = Delta::parse(&foreign).unwrap().head().length();
    let moved = [&signed[..end - 64], &foreign[foreign_end - 64..foreign_end], &signed[end..]].concat();
    assert_eq!(refusal(&moved), Error::Signature);
    let claimed = [&signed[..end - 96], &other.public(), &signed[end - 64..]].concat();
    assert_eq!(refusal(&claimed), Error::Signature);
}

#[test]
fn keys_survive_pem_and_nothing_else_is_one() {
    let pem = key().to_pem().unwrap();
    assert!(pem.starts_with("-----BEGIN PRIVATE KEY-----\n"), "{pem}");
    assert_eq!(KeyPair::from_pem(&pem).unwrap().public(), key().public());
    let public = key().public_pem().unwrap();
    assert_eq!(public_key(&public), Ok(key().public()));
    assert_eq!(public_key(&pem), Err(Error::Key));
    assert_eq!(KeyPair::from_pem(&public).unwrap_err(), Error::Key);
    assert_eq!(KeyPair::from_pem(&pem[..pem.len() - 40]).unwrap_err(), Error::Key);
    assert_eq!(format!("{:?}", key()), "KeyPair(secret)");
}

#[test]
fn ten_class_head_costs_less_than_370_bytes_over_its_values() {
    let names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];
    let labels = names.map(|name| Label { name, samples: 400 });
    let image = ImagePreprocessing {
        width: 224,
        height: 224,
        resize: 256,
        scale: 1.0,
        mean: ImagePreprocessing::shortened([127.0; 3]),
        std: ImagePreprocessing::shortened([128.0; 3]),
        layout: Layout::Nchw,
        channels: Channels::Rgb,
    };
    let measured = Measured { loss: [2.3, 0.4], accuracy: Some([0.1, 0.86]) };
    let metrics = Metrics { validation: Some(measured), test: Some(measured) };
    let preprocessing = Preprocessing::Image(image);
    let header = Header { preprocessing, metrics, samples: 4000, seed: 1000, ..plain_header() };
    // Values of which nothing is known beforehand, so that the entropy stage finds nothing.
    let noise = |seed: u32, count: u32| -> Vec<f32> {
        let mixed = (seed..seed + count).map(|index| index.wrapping_mul(2_654_435_761) >> 16);
        mixed.map(|bits| f16::from_bits(bits as u16 & 0xbbff).to_f32()).collect()
    };
    let (weight, bias) = (fp16(&noise(1, 12800)), fp16(&noise(77, 10)));
    let tensors = [
        TensorValues { name: "_fc.weight", shape: &[10, 1280], payload: &weight },
        TensorValues { name: "_fc.bias", shape: &[10], payload: &bias },
    ];
    let bytes = write(&header, &labels, &tensors).unwrap();
    let overhead = bytes.len() - weight.bytes.len() - bias.bytes.len();
    assert!(overhead < 370, "{overhead} bytes");
    let signed = sign(&bytes, &key()).unwrap();
    assert_eq!(signed.len(), bytes.len() + 96);
}

#[test]
fn reader_holds_little_stack() {
    assert!(size_of::<Delta>() < 700, "{}", size_of::<Delta>());
    let tensor = Delta::parse(&small()).map(|delta| size_of_val(&delta.tensors().next().unwrap())).unwrap();
    assert!(tensor < 160, "{tensor}");
}

/// Signed and unsigned, of every encoding.
#[test]
fn every_truncation_and_extension_is_refused() {
    for (name, bytes) in goldens() {
        for length in 0..bytes.len() {
            assert!(Delta::parse(&bytes[..length]).is_err(), "{name}: {length} bytes");
        }
        assert_eq!(refusal(&[bytes, vec![0]].concat()), Error::PayloadRest, "{name}");
    }
}

#[test]
fn every_flipped_bit_is_refused() {
    for (name, mut bytes) in goldens() {
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(Delta::parse(&bytes).is_err(), "{name}: bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

/// With the hashes made right again, a flipped bit is refused or changes only what the delta says; it never panics.
#[test]
fn resealed_flips_never_panic() {
    for (_, bytes) in goldens().into_iter().filter(|(name, _)| ["int4", "sparse"].contains(name)) {
        let header_bits = u32::from_le_bytes(bytes[8..12].try_into().unwrap()) as usize * 8;
        for bit in 0..header_bits + 96 {
            let flipped = resealed(&bytes, |bytes| bytes[bit / 8] ^= 1 << (bit % 8));
            if let Ok(delta) = Delta::parse(&flipped) {
                assert_eq!(delta.labels().count() + delta.tensors().count(), 4);
                assert!(delta.tensors().flat_map(|tensor| tensor.values()).all(f32::is_finite));
            }
        }
    }
}

/// A payload with any bit changed, under a right hash: refused, or as many finite values as before.
#[test]
fn changed_payloads_never_panic() {
    let ((values, reference), shape) = (samples(), [96]);
    let payloads = [
        fp16(&[0.25; 96]),
        encode(&values, Encoding::Int8 { block: 32 }).unwrap(),
        encode(&values, Encoding::Int4 { block: 31 }).unwrap(),
        encode(&values, Encoding::Sign { block: 96 }).unwrap(),
        encode(&values, Encoding::Sparse { count: 7 }).unwrap(),
        encode_difference(&values, &reference, Encoding::Steps).unwrap(),
    ];
    for payload in payloads {
        for bit in 0..payload.bytes.len() * 8 {
            let mut payload = payload.clone();
            payload.bytes[bit / 8] ^= 1 << (bit % 8);
            if let Ok(bytes) = single("b", &shape, &payload) {
                let delta = Delta::parse(&bytes).unwrap();
                let read: Vec<f32> = delta.tensors().next().unwrap().values().collect();
                assert_eq!(read.len(), 96);
                assert!(read.iter().all(|value| value.is_finite()));
            }
        }
        for length in 0..payload.bytes.len() {
            let cut = Payload { bytes: payload.bytes[..length].to_vec(), ..payload.clone() };
            assert!(single("b", &shape, &cut).is_err(), "{:?} cut to {length}", payload.encoding);
        }
        let longer = Payload { bytes: [payload.bytes.as_slice(), &[0]].concat(), ..payload };
        assert!(single("b", &shape, &longer).is_err());
    }
}

/// A thousand long class names and a few hundred tensors, through a reader that allocates nothing.
#[test]
fn many_labels_and_tensors_fit() {
    let names: Vec<String> = (0..1000).map(|index| format!("class number {index:04} with quite a long name")).collect();
    let labels: Vec<_> = names.iter().map(|name| Label { name, samples: 1_000_000 }).collect();
    let tensor_names: Vec<_> = (0..300).map(|index| format!("block.{index}.lora")).collect();
    let payload = fp16(&[1.0; 8]);
    let tensors: Vec<_> =
        tensor_names.iter().map(|name| TensorValues { name, shape: &[2, 4], payload: &payload }).collect();
    let bytes = write(&plain_header(), &labels, &tensors).unwrap();
    let delta = Delta::parse(&bytes).unwrap();
    assert_eq!((delta.labels().len(), delta.tensors().len()), (1000, 300));
    assert_eq!(delta.labels().last(), labels.last().copied());
    assert!(delta.tensor("block.299.lora").is_some() && delta.tensor("block.300.lora").is_none());
}

#[test]
fn order_of_the_given_tensors_does_not_matter() {
    let (a, b) = (fp16(&[1.0, 2.0]), fp16(&[3.0]));
    let first = TensorValues { name: "a", shape: &[2], payload: &a };
    let second = TensorValues { name: "b", shape: &[1, 1], payload: &b };
    let write = |tensors: &[_]| write(&plain_header(), &[], tensors).unwrap();
    assert_eq!(write(&[first, second]), write(&[second, first]));
}

#[test]
fn differences_to_what_is_not_finite_are_refused() {
    let payload = encode_difference(&[1.0, 2.0], &[0.5, 2.0], Encoding::Steps).unwrap();
    let bytes = single("w", &[2], &payload).unwrap();
    let tensor = Delta::parse(&bytes).unwrap().tensor("w").unwrap();
    let mut target = [0.5, f32::NAN];
    assert_eq!(apply(&tensor, &mut target), Err(Error::Reference));
    let mut largest = [65504.0, 0.0];
    assert_eq!(apply(&tensor, &mut largest), Err(Error::Reference), "a step past the largest number");
    assert_eq!(largest, [65504.0, 0.0], "untouched");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read(
        base in any::<[u8; 32]>(),
        seed in any::<u64>(),
        created_unix_s in any::<Option<u64>>(),
        tool in "[0-9a-z. -]{0,64}",
        labels in prop::collection::btree_map("\\PC{1,40}", any::<u32>(), 0..20),
        tensors in prop::collection::btree_map("[!-~]{1,80}", prop::collection::vec(1u32..5, 0..5), 1..10),
        bits in any::<u16>(),
    ) {
        let header = Header { base, seed, created_unix_s, tool: &tool, samples: seed / 2, ..plain_header() };
        let labels: Vec<_> = labels.iter().map(|(name, samples)| Label { name, samples: *samples }).collect();
        let values: Vec<Vec<f32>> = tensors.values().map(|shape| {
            let count = shape.iter().product::<u32>() as u16;
            (0..count).map(|index| f16::from_bits(bits.wrapping_mul(index + 1) & 0xbbff).to_f32()).collect()
        }).collect();
        let payloads: Vec<_> = values.iter().map(|values| fp16(values)).collect();
        let given: Vec<_> = tensors.iter().zip(&payloads)
            .map(|((name, shape), payload)| TensorValues { name, shape, payload }).collect();
        let bytes = write(&header, &labels, &given).unwrap();
        let delta = Delta::parse(&bytes).unwrap();
        prop_assert_eq!(delta.header(), &header);
        prop_assert_eq!(delta.labels().collect::<Vec<_>>(), labels);
        prop_assert_eq!(delta.tensors().len(), given.len());
        for ((view, given), values) in delta.tensors().zip(&given).zip(&values) {
            prop_assert_eq!((view.entry.name, &view.entry.shape[..]), (given.name, given.shape));
            prop_assert!(view.values().eq(values.iter().copied()));
        }
    }

    /// Lossless encodings are exact, the others within what `encode` states.
    #[test]
    fn encodings_keep_their_bounds(
        values in prop::collection::vec(-3000f32..3000.0, 1..700),
        reference in prop::collection::vec(-3000f32..3000.0, 700),
        small in 0f32..0.01, block in 1u32..80, kept in 0usize..700,
    ) {
        let len = values.len();
        let (block, kept) = (block.min(len as u32), kept.min(len));
        let values: Vec<f32> = values.iter().map(|value| f16::from_f32(value * small).to_f32()).collect();
        let reference: Vec<f32> = reference[..len].iter().map(|value| value * small).collect();
        let read = |payload: &Payload, mut target: Vec<f32>| {
            let bytes = single("w", &[len as u32], payload).unwrap();
            apply(&Delta::parse(&bytes).unwrap().tensor("w").unwrap(), &mut target).unwrap();
            target
        };
        let back = |encoding| read(&encode(&values, encoding).unwrap(), vec![9.0; len]);
        prop_assert_eq!(&back(Encoding::Fp16), &values);
        let steps = encode_difference(&values, &reference, Encoding::Steps).unwrap();
        let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect::<Vec<_>>();
        prop_assert_eq!(bits(read(&steps, reference.clone())), bits(values.clone()));
        for (encoding, largest) in [(Encoding::Int8 { block }, 127.0), (Encoding::Int4 { block }, 7.0)] {
            let read = back(encoding);
            for (block, read) in values.chunks(block as usize).zip(read.chunks(block as usize)) {
                let most = block.iter().fold(0f32, |most, value| most.max(value.abs()));
                // The scale is rounded up to binary16: by 2^-10 of itself, or by its smallest step.
                let half = (most / largest * 1.001 + 6e-8) / 2.0;
                prop_assert!(block.iter().zip(read).all(|(value, read)| (value - read).abs() <= half * 1.0001));
            }
        }
        let read = back(Encoding::Sparse { count: kept as u32 });
        let mut sizes: Vec<f32> = values.iter().map(|value| value.abs()).collect();
        sizes.sort_by(|a, b| b.total_cmp(a));
        let dropped = sizes.get(kept).copied().unwrap_or(0.0);
        prop_assert!(values.iter().zip(&read).all(|(value, read)| value == read || (*read == 0.0 && value.abs() <= dropped)));
        let (mean, read) = (sizes.iter().sum::<f32>() / len as f32, back(Encoding::Sign { block: len as u32 }));
        prop_assert!(values.iter().zip(&read).all(|(value, read)| (*value < 0.0) == (*read < 0.0) || *read == 0.0));
        prop_assert!(read.iter().all(|read| (read.abs() - mean).abs() <= mean * 0.001 + 6e-8));
    }

    /// Anything behind a right preamble and checksum is an error or a delta, never a panic.
    #[test]
    fn resealed_noise_never_panics(noise in prop::collection::vec(any::<u8>(), 0..200), at in 0usize..150) {
        let hostile = resealed(&golden(), |bytes| {
            let end = (at + noise.len()).min(bytes.len());
            let at = at.max(12).min(end);
            bytes.splice(at..end, noise);
        });
        let _ = Delta::parse(&hostile).map(|delta| delta.tensors().map(|tensor| tensor.values().count()).sum::<usize>());
    }
}
