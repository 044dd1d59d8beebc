//! The delta format: exact bytes, round trips, and everything that must be refused.

use edgetune::delta::{
    AppendedHead, Channels, Delta, Error, Field, Header, ImagePreprocessing, Label, Layout, Measured, Method,
    MethodKind, Metrics, Preprocessing, Task, TensorValues, apply, f16, write,
};
use proptest::prelude::*;

/// Every field filled, as `tests/goldens/delta/v1.edelta` was written.
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
        tool: "0.1.0",
        created_unix_s: Some(1_700_000_000),
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
        seed: 7,
        samples: 300,
    }
}

fn plain_header() -> Header<'static> {
    Header {
        base: [9; 32],
        tool: "0.1.0",
        created_unix_s: None,
        task: Task::Classification,
        loss: "cross_entropy",
        output: "logits",
        head: None,
        method: None,
        preprocessing: Preprocessing::Plain,
        metrics: Metrics::default(),
        seed: 0,
        samples: 0,
    }
}

const LABELS: [Label; 2] = [Label { name: "cat", samples: 100 }, Label { name: "Hündin", samples: 200 }];

fn halves(values: &[f32]) -> Vec<f16> {
    values.iter().map(|value| f16::from_f32(*value)).collect()
}

fn golden() -> Vec<u8> {
    let (weight, bias) = (halves(&[0.5, -1.0, 2.0, 0.0, 65504.0, -0.25]), halves(&[1.0, -2.0]));
    let tensors = [
        TensorValues { name: "head.weight", shape: &[2, 3], values: &weight },
        TensorValues { name: "head.bias", shape: &[2], values: &bias },
    ];
    write(&golden_header(), &LABELS, &tensors).unwrap()
}

/// A delta of one scalar.
fn small() -> Vec<u8> {
    write(&plain_header(), &[], &[TensorValues { name: "b", shape: &[], values: &halves(&[1.5]) }]).unwrap()
}

/// The delta with `change` made to all but the checksum, and the checksum made right again.
fn resealed(mut bytes: Vec<u8>, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    bytes.truncate(bytes.len() - 32);
    change(&mut bytes);
    let checksum = blake3::hash(&bytes);
    bytes.extend(checksum.as_bytes());
    bytes
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
    if !golden_path().exists() {
        std::fs::write(golden_path(), golden()).unwrap();
    }
}

fn golden_path() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/delta/v1.edelta")
}

/// Version 1 stays version 1: this file is never rewritten.
#[test]
fn golden_bytes_are_written_and_read() {
    let committed = std::fs::read(golden_path()).unwrap();
    assert_eq!(golden(), committed);
    let delta = Delta::parse(&committed).unwrap();
    assert_eq!(delta.header(), &golden_header());
    let Preprocessing::Image(image) = &delta.header().preprocessing else { panic!("{:?}", delta.header()) };
    assert_eq!((image.means(), image.stds()), ([1.0, 2.0, 3.0], [128.0; 3]));
    assert_eq!(delta.labels().collect::<Vec<_>>(), LABELS);
    assert_eq!(delta.checksum(), &committed[committed.len() - 32..]);
    let tensors: Vec<_> = delta.tensors().collect();
    assert_eq!(tensors.iter().map(|tensor| tensor.name).collect::<Vec<_>>(), ["head.bias", "head.weight"]);
    assert_eq!(tensors[1].shape, [2, 3]);
    let mut weight = [0.0; 6];
    apply(&delta.tensor("head.weight").unwrap(), &mut weight).unwrap();
    assert_eq!(weight, [0.5, -1.0, 2.0, 0.0, 65504.0, -0.25]);
    assert_eq!(apply(&tensors[0], &mut weight), Err(Error::ApplyLength));
}

#[test]
fn ten_class_head_costs_less_than_300_bytes_over_its_values() {
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
    let (weight, bias) = (vec![f16::ONE; 12800], vec![f16::ZERO; 10]);
    let tensors = [
        TensorValues { name: "_fc.weight", shape: &[10, 1280], values: &weight },
        TensorValues { name: "_fc.bias", shape: &[10], values: &bias },
    ];
    let bytes = write(&header, &labels, &tensors).unwrap();
    let overhead = bytes.len() - 2 * 12810;
    assert!(overhead < 300, "{overhead} bytes");
}

#[test]
fn reader_holds_little_stack() {
    assert!(size_of::<Delta>() < 512, "{}", size_of::<Delta>());
    let tensor = Delta::parse(&small()).map(|delta| size_of_val(&delta.tensors().next().unwrap())).unwrap();
    assert!(tensor < 128, "{tensor}");
}

#[test]
fn every_truncation_is_refused() {
    let bytes = golden();
    for length in 0..bytes.len() {
        assert!(Delta::parse(&bytes[..length]).is_err(), "{length} bytes");
    }
}

#[test]
fn every_flipped_bit_is_refused() {
    let mut bytes = golden();
    for bit in 0..bytes.len() * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(Delta::parse(&bytes).is_err(), "bit {bit}");
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
}

/// With the checksum made right again, a flipped bit is refused or changes only what the delta says; it never panics.
#[test]
fn resealed_flips_never_panic() {
    let bytes = golden();
    for bit in 0..(bytes.len() - 32) * 8 {
        let flipped = resealed(bytes.clone(), |bytes| bytes[bit / 8] ^= 1 << (bit % 8));
        if let Ok(delta) = Delta::parse(&flipped) {
            assert_eq!(delta.labels().count() + delta.tensors().count(), 4);
            assert!(delta.tensors().flat_map(|tensor| tensor.values()).all(f16::is_finite));
        }
    }
}

#[test]
fn resealed_truncations_and_extensions_are_refused() {
    let bytes = golden();
    for length in 0..bytes.len() - 32 {
        let cut = resealed(bytes.clone(), |bytes| bytes.truncate(length));
        assert!(Delta::parse(&cut).is_err(), "{length} bytes");
    }
    assert_eq!(refusal(&resealed(bytes.clone(), |bytes| bytes.extend([0, 0]))), Error::PayloadRest);
    let longer = [bytes, vec![0]].concat();
    assert_eq!(refusal(&longer), Error::Checksum);
}

#[test]
fn foreign_bytes_are_refused() {
    assert_eq!(refusal(b""), Error::TooShort);
    assert_eq!(refusal(&[0; 43]), Error::TooShort);
    assert_eq!(refusal(&[0; 99]), Error::Magic);
    assert_eq!(refusal(&resealed(golden(), |bytes| bytes[4] = 2)), Error::Version(2));
    assert_eq!(refusal(&resealed(golden(), |bytes| bytes[6] = 1)), Error::Flags(1));
    let length = refusal(&resealed(golden(), |bytes| bytes[8..12].fill(0xff)));
    assert_eq!(length, Error::HeaderLength(u32::MAX));
}

#[test]
fn infinities_and_nan_are_refused_by_reader_and_writer() {
    for value in [f16::INFINITY, f16::NEG_INFINITY, f16::NAN, f16::from_bits(0xfc01)] {
        let tensor = TensorValues { name: "b", shape: &[], values: &[value] };
        assert_eq!(write(&plain_header(), &[], &[tensor]), Err(Error::NotFinite(0)));
        let hostile = resealed(small(), |bytes| {
            let end = bytes.len();
            bytes[end - 2..].copy_from_slice(&value.to_le_bytes());
        });
        assert_eq!(refusal(&hostile), Error::NotFinite(0));
    }
}

/// The two counts of `small()` are the header's last bytes before the only entry, which begins with `01 'b'`.
#[test]
fn hostile_counts_are_refused() {
    let entry = position(&small(), &[0, 1, 1, b'b']);
    // A varint of 5 bytes makes the header 4 bytes longer.
    let huge = |at: usize| {
        resealed(small(), move |bytes| {
            bytes.splice(at..at + 1, [0xff, 0xff, 0xff, 0xff, 0x0f]);
            bytes[8] += 4;
        })
    };
    assert_eq!(refusal(&huge(entry)), Error::LabelCount(u32::MAX));
    assert_eq!(refusal(&huge(entry + 1)), Error::TensorCount(u32::MAX));
    assert_eq!(refusal(&resealed(small(), |bytes| bytes[entry + 1] = 0)), Error::TensorCount(0));
    assert_eq!(refusal(&resealed(small(), |bytes| bytes[entry + 1] = 2)), Error::Entry(1));
    let name = refusal(&huge(entry + 2));
    assert_eq!(name, Error::Entry(0));
}

#[test]
fn superfluous_zeros_in_a_number_are_refused() {
    let entry = position(&small(), &[0, 1, 1, b'b']);
    let padded = resealed(small(), |bytes| {
        bytes.splice(entry..entry + 1, [0x80, 0x80, 0x00]);
        bytes[8] += 2;
    });
    assert_eq!(refusal(&padded), Error::Header);
}

/// After the entry's name come rank 0, encoding 0, offset 0, length 2.
#[test]
fn entries_out_of_place_are_refused() {
    let at = position(&small(), &[1, b'b', 0, 0, 0, 2]);
    let changed = |index: usize, byte: u8| refusal(&resealed(small(), |bytes| bytes[at + index] = byte));
    assert_eq!(changed(1, b'\n'), Error::TensorName(0));
    assert_eq!(changed(3, 1), Error::Entry(0), "an unknown encoding");
    assert_eq!(changed(4, 2), Error::Place(0));
    assert_eq!(changed(5, 4), Error::Shape(0));
    let longer = resealed(small(), |bytes| {
        bytes.splice(at + 2..at + 6, [1, 2, 0, 0, 4]);
        bytes[8] += 1;
    });
    assert_eq!(refusal(&longer), Error::Place(0), "values over the end");
}

#[test]
fn filling_is_zero() {
    let two = |name| write(&plain_header(), &[], &[TensorValues { name, shape: &[], values: &[f16::ONE] }]).unwrap();
    let odd = if small().len() == two("bb").len() { small() } else { two("bb") };
    let at = odd.len() - 32 - 3;
    assert_eq!(refusal(&resealed(odd, |bytes| bytes[at] = 1)), Error::Filling);
}

#[test]
fn shapes_that_overflow_are_refused() {
    let zero = TensorValues { name: "b", shape: &[0, 5], values: &[] };
    assert_eq!(write(&plain_header(), &[], &[zero]), Err(Error::Shape(0)));
    let overflow = TensorValues { name: "b", shape: &[1 << 31, 1 << 31, 4], values: &[f16::ONE] };
    assert_eq!(write(&plain_header(), &[], &[overflow]), Err(Error::Shape(0)));
    let wrong = TensorValues { name: "b", shape: &[2], values: &[f16::ONE] };
    assert_eq!(write(&plain_header(), &[], &[wrong]), Err(Error::Shape(0)));
    let deep = TensorValues { name: "b", shape: &[1; 9], values: &[f16::ONE] };
    assert_eq!(write(&plain_header(), &[], &[deep]), Err(Error::Shape(0)));
}

#[test]
fn names_are_unique_and_harmless() {
    let one = |name| TensorValues { name, shape: &[], values: &[f16::ONE] };
    let named = |names: &[&'static str]| {
        write(&plain_header(), &[], &names.iter().map(|name| one(name)).collect::<Vec<_>>()).map(|_| ())
    };
    assert_eq!(named(&["b", "a", "b"]), Err(Error::TensorOrder(2)));
    assert_eq!(named(&["a", ""]), Err(Error::TensorName(0)));
    assert_eq!(named(&["a\x1b[2J"]), Err(Error::TensorName(0)));
    assert_eq!(named(&["x".repeat(1025).leak()]), Err(Error::TensorName(0)));
    assert_eq!(named(&["x".repeat(1024).leak()]), Ok(()));
    assert_eq!(named(&[]), Err(Error::TensorCount(0)));
    let labelled = |labels: &[Label]| write(&plain_header(), labels, &[one("b")]).map(|_| ());
    assert_eq!(labelled(&[LABELS[0], LABELS[1], LABELS[0]]), Err(Error::LabelTwice(2)));
    assert_eq!(labelled(&[LABELS[0], Label { name: "", samples: 0 }]), Err(Error::Label(1)));
}

#[test]
fn impossible_headers_are_refused() {
    let refused = |header: Header| {
        write(&header, &LABELS, &[TensorValues { name: "b", shape: &[], values: &[f16::ONE] }]).unwrap_err()
    };
    let head = |features, classes| Some(AppendedHead { value: "features", features, classes });
    let image = |change: fn(&mut ImagePreprocessing)| {
        let Preprocessing::Image(mut image) = golden_header().preprocessing else { unreachable!() };
        change(&mut image);
        refused(Header { preprocessing: Preprocessing::Image(image), ..plain_header() })
    };
    let measured = |accuracy| Metrics { test: Some(Measured { loss: [1.0, 1.0], accuracy }), validation: None };
    assert_eq!(refused(Header { loss: "", ..plain_header() }), Error::Text(Field::Loss));
    assert_eq!(refused(Header { output: "a\tb", ..plain_header() }), Error::Text(Field::Output));
    assert_eq!(refused(Header { tool: "\r", ..plain_header() }), Error::Text(Field::Tool));
    assert_eq!(refused(Header { head: head(0, 2), ..plain_header() }), Error::Number(Field::HeadFeatures));
    assert_eq!(refused(Header { head: head(3, 5), ..plain_header() }), Error::Number(Field::HeadClasses));
    let method = |alpha| Some(Method { kind: MethodKind::Lora, rank: 8, alpha });
    assert_eq!(refused(Header { method: method(f32::NAN), ..plain_header() }), Error::Number(Field::Method));
    for accuracy in [[0.0, 1.5], [f32::NAN, 0.0], [0.0, -0.5]] {
        let error = refused(Header { metrics: measured(Some(accuracy)), ..plain_header() });
        assert_eq!(error, Error::Number(Field::Metrics));
    }
    assert_eq!(image(|image| image.width = 0), Error::Number(Field::ImageSize));
    assert_eq!(image(|image| image.resize = 191), Error::Number(Field::ImageResize));
    assert_eq!(image(|image| image.scale = f32::INFINITY), Error::Number(Field::ImageScale));
    assert_eq!(image(|image| image.mean.truncate(2)), Error::Number(Field::ImageMean));
    assert_eq!(image(|image| image.std[0] = 0.0), Error::Number(Field::ImageStd));
}

/// A thousand long class names and a few hundred tensors, through a reader that allocates nothing.
#[test]
fn many_labels_and_tensors_fit() {
    let names: Vec<String> = (0..1000).map(|index| format!("class number {index:04} with quite a long name")).collect();
    let labels: Vec<_> = names.iter().map(|name| Label { name, samples: 1_000_000 }).collect();
    let tensor_names: Vec<_> = (0..300).map(|index| format!("block.{index}.lora")).collect();
    let values = [f16::ONE; 8];
    let tensors: Vec<_> =
        tensor_names.iter().map(|name| TensorValues { name, shape: &[2, 4], values: &values }).collect();
    let bytes = write(&plain_header(), &labels, &tensors).unwrap();
    let delta = Delta::parse(&bytes).unwrap();
    assert_eq!((delta.labels().len(), delta.tensors().len()), (1000, 300));
    assert_eq!(delta.labels().last(), labels.last().copied());
    assert!(delta.tensor("block.299.lora").is_some() && delta.tensor("block.300.lora").is_none());
}

#[test]
fn order_of_the_given_tensors_does_not_matter() {
    let (a, b) = (halves(&[1.0, 2.0]), halves(&[3.0]));
    let first = TensorValues { name: "a", shape: &[2], values: &a };
    let second = TensorValues { name: "b", shape: &[1, 1], values: &b };
    let write = |tensors: &[_]| write(&plain_header(), &[], tensors).unwrap();
    assert_eq!(write(&[first, second]), write(&[second, first]));
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
        let values: Vec<Vec<f16>> = tensors.values().map(|shape| {
            let count = shape.iter().product::<u32>() as u16;
            (0..count).map(|index| f16::from_bits(bits.wrapping_mul(index + 1) & 0xbbff)).collect()
        }).collect();
        let given: Vec<_> = tensors.iter().zip(&values)
            .map(|((name, shape), values)| TensorValues { name, shape, values }).collect();
        let bytes = write(&header, &labels, &given).unwrap();
        let delta = Delta::parse(&bytes).unwrap();
        prop_assert_eq!(delta.header(), &header);
        prop_assert_eq!(delta.labels().collect::<Vec<_>>(), labels);
        prop_assert_eq!(delta.tensors().len(), given.len());
        for (view, given) in delta.tensors().zip(&given) {
            prop_assert_eq!((view.name, &view.shape[..]), (given.name, given.shape));
            prop_assert!(view.values().eq(given.values.iter().copied()));
        }
    }

    /// Anything behind a right preamble and checksum is an error or a delta, never a panic.
    #[test]
    fn resealed_noise_never_panics(noise in prop::collection::vec(any::<u8>(), 0..200), at in 0usize..150) {
        let hostile = resealed(golden(), |bytes| {
            let end = (at + noise.len()).min(bytes.len());
            let at = at.max(12).min(end);
            bytes.splice(at..end, noise);
        });
        let _ = Delta::parse(&hostile).map(|delta| delta.tensors().map(|tensor| tensor.values().count()).sum::<usize>());
    }
}
