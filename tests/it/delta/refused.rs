//! What a reader refuses, and with which reason.

use super::*;

#[test]
fn foreign_bytes_are_refused() {
    assert_eq!(refusal(b""), Error::TooShort);
    assert_eq!(refusal(&[0; 11]), Error::TooShort);
    assert_eq!(refusal(&[0; 99]), Error::Magic);
    let changed = |at: usize, byte: u8| {
        let mut bytes = golden();
        bytes[at] = byte;
        refusal(&bytes)
    };
    assert_eq!(changed(4, 3), Error::Version(3));
    assert_eq!(changed(4, 0), Error::Version(0));
    assert_eq!(changed(6, 2), Error::Flags(2));
    assert_eq!(
        changed(11, 0xff),
        Error::HeaderLength(u32::from_le_bytes([golden()[8], golden()[9], golden()[10], 0xff]))
    );
    assert_eq!(changed(12, 9), Error::Checksum);
}

#[test]
fn infinities_and_nan_are_refused_by_reader_and_writer() {
    for value in [f16::INFINITY, f16::NEG_INFINITY, f16::NAN, f16::from_bits(0xfc01)] {
        assert_eq!(encode(&[value.to_f32()], Encoding::Fp16), Err(Error::NotFinite(0)));
        let block = [&value.to_le_bytes()[..], &[1]].concat();
        let raw = |encoding, bytes| Payload { encoding, packing: Packing::Raw, difference: false, bytes };
        assert_eq!(hostile(&[], raw(Encoding::Fp16, value.to_le_bytes().to_vec())), Error::NotFinite(0));
        assert_eq!(hostile(&[], raw(Encoding::Int8 { block: 1 }, block.clone())), Error::NotFinite(0));
        assert_eq!(hostile(&[], raw(Encoding::Int4 { block: 1 }, block.clone())), Error::NotFinite(0));
        assert_eq!(hostile(&[], raw(Encoding::Sign { block: 1 }, block)), Error::NotFinite(0));
        let stored = [&[0][..], &value.to_le_bytes()].concat();
        assert_eq!(hostile(&[], raw(Encoding::Sparse { count: 1 }, stored)), Error::NotFinite(0));
    }
    for encoding in [Encoding::Fp16, Encoding::Steps] {
        assert_eq!(encode_difference(&[f32::NAN], &[0.0], encoding), Err(Error::NotFinite(0)));
        assert_eq!(encode_difference(&[0.0], &[f32::INFINITY], encoding), Err(Error::NotFinite(0)));
    }
    assert_eq!(encode(&[70000.0], Encoding::Fp16), Err(Error::NotFinite(0)));
}

/// Each encoding has numbers that no writer writes, and one form for what it can say.
#[test]
fn payloads_that_no_writer_writes_are_refused() {
    let raw =
        |encoding, bytes: &[u8]| Payload { encoding, packing: Packing::Raw, difference: false, bytes: bytes.into() };
    let one = f16::ONE.to_le_bytes();
    let scaled = |bytes: &[u8]| [&one[..], bytes].concat();
    let int8 = Encoding::Int8 { block: 1 };
    let (int4, sign) = (Encoding::Int4 { block: 3 }, Encoding::Sign { block: 3 });
    assert_eq!(hostile(&[], raw(int8, &scaled(&[0x80]))), Error::Values(0), "-128");
    assert_eq!(hostile(&[3], raw(int4, &scaled(&[0x08, 0]))), Error::Values(0), "-8");
    assert_eq!(hostile(&[3], raw(int4, &scaled(&[0, 0x10]))), Error::Values(0), "filling bits");
    assert_eq!(hostile(&[3], raw(sign, &scaled(&[8]))), Error::Values(0), "filling bits");
    assert_eq!(hostile(&[3], raw(int4, &scaled(&[0, 0, 0]))), Error::Values(0), "a byte too many");
    assert_eq!(hostile(&[3], raw(int4, &one)), Error::Values(0), "no numbers");
    assert_eq!(hostile(&[3], raw(Encoding::Sign { block: 3 }, &[0xff, 0xbb, 0])), Error::NotFinite(0), "scale < 0");
    for block in [0, 4] {
        assert_eq!(hostile(&[3], raw(Encoding::Int8 { block }, &scaled(&[0; 3]))), Error::Encoding(0));
    }
    let coded = Payload { packing: Packing::Coded, ..raw(sign, &scaled(&[0; 8])) };
    assert_eq!(hostile(&[3], coded), Error::Encoding(0));
    let steps = raw(Encoding::Steps, &[0; 6]);
    assert_eq!(hostile(&[3], steps), Error::Encoding(0), "steps from nowhere");
    let sparse = |count, bytes: &[u8]| hostile(&[300], raw(Encoding::Sparse { count }, bytes));
    assert_eq!(sparse(1, &[0, 0, 0x80]), Error::Values(0), "a stored zero");
    assert_eq!(sparse(1, &[0x80, 0, 0, 0x3c]), Error::Encoding(0), "superfluous zeros");
    assert_eq!(sparse(1, &[0xac, 2, 0, 0x3c]), Error::Values(0), "place 300 of 300");
    assert_eq!(sparse(2, &[0, 0, 0x3c]), Error::Values(0), "one of two");
    assert_eq!(sparse(0, &[0, 0, 0x3c]), Error::Values(0), "one of none");
    let gap = [0xff, 0xff, 0xff, 0xff, 0x1f, 0, 0x3c];
    assert_eq!(sparse(1, &gap), Error::Encoding(0), "more than 32 bits");
    // Few bytes that promise much: the reader would work for long.
    assert_eq!(hostile(&[1 << 20], raw(Encoding::Fp16, &[0; 4])), Error::Shape(0));
    assert_eq!(hostile(&[1 << 28], raw(Encoding::Sparse { count: 0 }, &[])), Error::Shape(0));
    let full = raw(Encoding::Sparse { count: 0 }, &[]);
    let two = ["a", "b"].map(|name| TensorValues { name, shape: &[1 << 27], payload: &full });
    assert_eq!(write(&plain_header(), &[], &two), Err(Error::ValueCount));
}

/// The two counts of `small()` are the header's last bytes before the only entry, which begins with `01 'b'`.
#[test]
fn hostile_counts_are_refused() {
    let entry = position(&small(), &[0, 1, 1, b'b']);
    let changed = |at: usize, with: &[u8]| {
        refusal(&resealed(&small(), |bytes| {
            bytes.splice(at..at + 1, with.iter().copied());
        }))
    };
    let huge = [0xff, 0xff, 0xff, 0xff, 0x0f];
    assert_eq!(changed(entry, &huge), Error::LabelCount(u32::MAX));
    assert_eq!(changed(entry + 1, &huge), Error::TensorCount(u32::MAX));
    assert_eq!(changed(entry + 1, &[0]), Error::TensorCount(0));
    assert_eq!(changed(entry + 1, &[2]), Error::Entry(1));
    assert_eq!(changed(entry + 2, &huge), Error::Entry(0));
    assert_eq!(changed(entry, &[0x80, 0x80, 0x00]), Error::Header, "superfluous zeros");
}

/// After the entry's name come rank 0, encoding 0, packing 0, no difference, length 2, the hash.
#[test]
fn entries_out_of_place_are_refused() {
    let at = position(&small(), &[1, b'b', 0, 0, 0, 0, 2]);
    let changed = |index: usize, byte: u8| refusal(&resealed(&small(), |bytes| bytes[at + index] = byte));
    assert_eq!(changed(1, b'\n'), Error::TensorName(0));
    assert_eq!(changed(3, 6), Error::Entry(0), "an unknown encoding");
    assert_eq!(changed(4, 2), Error::Entry(0), "an unknown packing");
    assert_eq!(changed(5, 2), Error::Entry(0), "neither yes nor no");
    assert_eq!(changed(6, 0), Error::Shape(0));
    assert_eq!(changed(6, 1), Error::Payload(0));
    assert_eq!(changed(6, 3), Error::Payload(0), "values over the end");
    assert_eq!(changed(7, small()[at + 7] ^ 1), Error::Payload(0), "another hash");
    assert_eq!(refusal(&resealed(&small(), |bytes| bytes.push(0))), Error::HeaderRest);
}

#[test]
fn shapes_that_overflow_are_refused() {
    let (none, one) = (Payload { bytes: vec![], ..fp16(&[1.0]) }, fp16(&[1.0]));
    assert_eq!(single("b", &[0, 5], &none), Err(Error::Shape(0)));
    assert_eq!(single("b", &[1 << 31, 1 << 31, 4], &one), Err(Error::Shape(0)));
    assert_eq!(single("b", &[2], &one), Err(Error::Values(0)));
    assert_eq!(single("b", &[1; 9], &one), Err(Error::Shape(0)));
}

#[test]
fn names_are_unique_and_harmless() {
    let payload = fp16(&[1.0]);
    let one = |name| TensorValues { name, shape: &[], payload: &payload };
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
        let payload = fp16(&[1.0]);
        write(&header, &LABELS, &[TensorValues { name: "b", shape: &[], payload: &payload }]).unwrap_err()
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
    let long = "x".repeat(65);
    assert_eq!(refused(Header { device: &long, ..plain_header() }), Error::Text(Field::Device));
    assert_eq!(refused(Header { licence: "\u{7f}", ..plain_header() }), Error::Text(Field::Licence));
    assert_eq!(refused(Header { notes: &"x".repeat(1025), ..plain_header() }), Error::Text(Field::Notes));
    let gate = Some(GateVerdict { passed: false, reason: "\u{1b}[2J" });
    assert_eq!(refused(Header { gate, ..plain_header() }), Error::Text(Field::GateReason));
    let method = |alpha| Some(Method { kind: MethodKind::Lora, rank: 8, alpha });
    assert_eq!(refused(Header { method: method(f32::NAN), ..plain_header() }), Error::Number(Field::Method));
    for accuracy in [[0.0, 1.5], [f32::NAN, 0.0], [0.0, -0.5]] {
        let error = refused(Header { metrics: measured(Some(accuracy)), ..plain_header() });
        assert_eq!(error, Error::Number(Field::Metrics));
    }
    let refused_series = |change: &dyn Fn(&mut SeriesPreprocessing)| {
        let mut series = series();
        change(&mut series);
        refused(Header { preprocessing: Preprocessing::Series(series), ..plain_header() })
    };
    assert_eq!(refused_series(&|series| series.rows = 1), Error::Number(Field::SeriesRows));
    assert_eq!(refused_series(&|series| series.hop = 0), Error::Number(Field::SeriesHop));
    assert_eq!(refused_series(&|series| series.rate = f64::NAN), Error::Number(Field::SeriesRate));
    assert_eq!(refused_series(&|series| series.rate = -1.0), Error::Number(Field::SeriesRate));
    assert_eq!(refused_series(&|series| series.time = "t\x1b[2J"), Error::Text(Field::SeriesTime));
    assert_eq!(refused_series(&|series| series.channels = "ax\n"), Error::Text(Field::SeriesChannels));
    assert_eq!(refused_series(&|series| series.channels = "ax\tay\nz"), Error::Text(Field::SeriesChannels));
    assert_eq!(refused_series(&|series| series.channels = "ax"), Error::Number(Field::SeriesScaler));
    assert_eq!(refused_series(&|series| series.scaler = &SCALER[..12]), Error::Number(Field::SeriesScaler));
    assert_eq!(refused_series(&|series| series.scaler = &[0; 16]), Error::Number(Field::SeriesScaler));
    assert_eq!(image(|image| image.width = 0), Error::Number(Field::ImageSize));
    assert_eq!(image(|image| image.resize = 191), Error::Number(Field::ImageResize));
    assert_eq!(image(|image| image.scale = f32::INFINITY), Error::Number(Field::ImageScale));
    assert_eq!(image(|image| image.mean.truncate(2)), Error::Number(Field::ImageMean));
    assert_eq!(image(|image| image.std[0] = 0.0), Error::Number(Field::ImageStd));
}

/// Version 2 is version 1 with the text of the recipe, which has to be the one that the hash is of.
#[test]
fn a_recipe_that_is_not_the_one_of_the_hash_is_refused() {
    let payload = fp16(&[1.5]);
    let written = |recipe_text: &'static str, hashed: &str| {
        let header = Header { recipe: Some(blake3::hash(hashed.as_bytes()).into()), recipe_text, ..plain_header() };
        write(&header, &[], &[TensorValues { name: "b", shape: &[], payload: &payload }])
    };
    let long: &'static str = "a".repeat(RECIPE_BYTES_MAX + 1).leak();
    assert!(written("lr = 1", "lr = 1").is_ok());
    for (text, hashed) in [("lr = 1", "lr = 2"), ("a\x1b[2J", "a\x1b[2J"), (long, long)] {
        assert_eq!(written(text, hashed), Err(Error::Text(Field::Recipe)), "{}", &text[..6]);
    }
    assert!(written(&long[1..], &long[1..]).is_ok());
    let none = Header { recipe_text: "lr = 1", ..plain_header() };
    let refused = write(&none, &[], &[TensorValues { name: "b", shape: &[], payload: &payload }]);
    assert_eq!(refused, Err(Error::Text(Field::Recipe)), "a text without its hash");

    let bytes = with_recipe();
    let at = position(&bytes, RECIPE.as_bytes());
    let changed = resealed(&bytes, |bytes| bytes[at] ^= 1);
    assert_eq!(refusal(&changed), Error::Text(Field::Recipe));
    // A text may not be empty: such a delta is of version 1.
    let empty = resealed(&bytes, |bytes| {
        bytes.splice(at - 1..at + RECIPE.len(), [0]);
    });
    assert_eq!(refusal(&empty), Error::Text(Field::Recipe));
    // Neither version reads the other's header.
    assert!(Delta::parse(&resealed(&bytes, |bytes| bytes[4] = 1)).is_err());
    assert!(Delta::parse(&resealed(&golden(), |bytes| bytes[4] = 2)).is_err());
}
