//! Tables, text and arrays.

use super::{folder, refusal};
use edgetune::data::{Dataset, Error, Labels, Limits, Options, Preprocessing, Target};
use edgetune::graph::DType;
use std::path::{Path, PathBuf};

/// A whole-word tokenizer that wraps a text into `[CLS]` and `[SEP]`.
const TOKENIZER: &str = r#"{
    "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
    "normalizer": {"type": "Lowercase"}, "pre_tokenizer": {"type": "Whitespace"},
    "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 2], "cls": ["[CLS]", 1]}, "decoder": null,
    "model": {"type": "WordLevel", "unk_token": "[UNK]",
        "vocab": {"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "[PAD]": 3, "good": 4, "bad": 5, "very": 6}}
}"#;

/// Opens one file with this content.
fn open(name: &str, content: impl AsRef<[u8]>, options: &Options) -> Result<Dataset, String> {
    let root = folder(&[(name, content.as_ref())]);
    match Dataset::open(&root.path().join(name), options) {
        Ok((data, report)) => {
            assert!(report.skipped.is_empty());
            Ok(data)
        }
        // Without the folder's random name.
        Err(error) => Err(error.to_string().replace(&format!("{}/", root.path().display()), "")),
    }
}

fn target(target: Target) -> Options {
    Options { target, ..Options::default() }
}

fn floats(data: &Dataset, sample: usize) -> Vec<f32> {
    data.load(sample).unwrap()[0].1.to_f32().unwrap()
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/arrays").join(name)
}

#[test]
fn separated_and_json_tables_read_alike() {
    let csv = "\u{feff}a,label,b\r\n1,cat,2.5\r\n\"-3\",dog,4e1\r\n";
    let tsv = "a\tlabel\tb\n1\tcat\t2.5\n-3\tdog\t4e1\n";
    let json = "{\"a\": 1, \"label\": \"cat\", \"b\": 2.5}\n\n{\"b\": 4e1, \"label\": \"dog\", \"a\": -3}\n";
    let lists = "{\"x\": [1, 2.5], \"label\": \"cat\"}\n{\"x\": [-3, 40], \"label\": \"dog\"}";
    for (name, content) in [("t.csv", csv), ("t.tsv", tsv), ("t.jsonl", json), ("t.ndjson", lists)] {
        let data = open(name, content, &Options::default()).unwrap();
        assert_eq!(data.labels(), &Labels::Classes { names: vec!["cat".into(), "dog".into()], index: vec![0, 1] });
        assert_eq!((floats(&data, 0), floats(&data, 1)), (vec![1.0, 2.5], vec![-3.0, 40.0]), "{name}");
        assert_eq!(data.load(0).unwrap()[0].1.shape, [2]);
        assert_eq!(data.load(0).unwrap()[0].0, "");
    }
}

#[test]
fn label_columns_are_found() {
    let table = "a,b,c\n1,2,0.5\n3,4,-1\n";
    let last = open("t.csv", table, &target(Target::Values)).unwrap();
    assert_eq!(last.labels(), &Labels::Values(ndarray::arr2(&[[0.5], [-1.0]])));
    let two = Options { label: vec!["c".into(), "a".into()], ..target(Target::Values) };
    let two = open("t.csv", table, &two).unwrap();
    assert_eq!(two.labels(), &Labels::Values(ndarray::arr2(&[[0.5, 1.0], [-1.0, 3.0]])));
    assert_eq!(floats(&two, 1), [4.0]);
    let missing = Options { label: vec!["z".into()], ..Options::default() };
    let message = open("t.csv", table, &missing).unwrap_err();
    assert_eq!(message, "t.csv:1: no label column `z`; the columns are a, b, c");
}

#[test]
fn bad_rows_name_file_and_line() {
    let plain = Options::default();
    let known = Options { classes: Some(vec!["x".into()]), ..Options::default() };
    let cases: [(&str, &str, &str, &Options); 18] = [
        ("t.csv", "a,label\n1,x\n2,x,3\n", "t.csv:3: 3 cells in a table of 2 columns", &plain),
        ("t.csv", "a,label\n1,x\n2\n", "t.csv:3: 1 cell in a table of 2 columns", &plain),
        ("t.csv", "a,label\n1,x\n1e39,x\n", "t.csv:3: column `a`: `1e39` is no finite number", &plain),
        ("t.csv", "a,label\n1,x\n-inf,x\n", "t.csv:3: column `a`: `-inf` is no finite number", &plain),
        ("t.csv", "a,label\n1,\n2,\n", "t.csv:2: no label; fill it in or remove the row", &plain),
        ("t.csv", "a,label\n1,x\n\n2,y\n", "t.csv:4: class `y` is not among the model's 1 class (x)", &known),
        ("t.csv", "1,x\nword,y\n", "t.csv:1: the first line holds numbers above words", &plain),
        ("t.csv", "a,a,label\n1,2,x\n", "t.csv:1: two columns are named `a`", &plain),
        ("t.csv", "label\nx\n", "t.csv:2: 0 numbers where 1 are expected", &plain),
        ("t.csv", "a,label\n", "t.csv: no rows", &plain),
        ("t.csv", "", "t.csv: no rows", &plain),
        ("t.jsonl", "{\"a\":1,\"label\":\"x\"}\n{\"a\":1}\n", "t.jsonl:2: other keys than the first line's", &plain),
        ("t.jsonl", "{\"a\":1,\"label\":null}\n", "t.jsonl:1: no label", &plain),
        ("t.jsonl", "{\"a\":1,\"label\":\"x\"}\n[1]\n", "t.jsonl:2: no JSON object", &plain),
        (
            "t.jsonl",
            "{\"a\":[1],\"label\":\"x\"}\n{\"a\":[1,2],\"label\":\"x\"}\n",
            "t.jsonl:2: 2 numbers where 1",
            &plain,
        ),
        ("t.jsonl", "{\"a\":\"hi\",\"label\":\"x\"}\n", "t.jsonl:1: column `a`: `hi` is no finite number", &plain),
        ("t.txt", "hello\n", "t.txt:1: no label", &plain),
        ("t.odd", "?", "t.odd: unknown kind of data", &plain),
    ];
    for (name, content, expected, options) in cases {
        let message = open(name, content, options).unwrap_err();
        assert!(message.starts_with(expected), "{content:?}: {message}");
    }
    let small = Options { limits: Limits { table_bytes_max: 8, ..Limits::default() }, ..Options::default() };
    assert!(open("t.csv", "a,label\n1,x\n", &small).unwrap_err().contains("too many"));
}

#[test]
fn rows_know_their_names_and_keys() {
    let data = open("t.csv", "a,label\n1,x\n2,y\n1,y\n", &Options::default()).unwrap();
    assert!(data.name(2).ends_with("t.csv:4"));
    assert!(data.key(0) == data.key(2) && data.key(0) != data.key(1));
}

#[test]
fn predictions_leave_labels_aside() {
    let root = folder(&[("with.csv", b"a,label,b\n1,x,2\n"), ("without.csv", b"a,b\n1,2\n")]);
    for name in ["with.csv", "without.csv"] {
        let (data, _) = Dataset::open_unlabelled(&[root.path().join(name)], &Options::default()).unwrap();
        assert_eq!((floats(&data, 0), data.labels()), (vec![1.0, 2.0], &Labels::Unlabelled(1)));
    }
    let both = [root.path().join("with.csv"), root.path().join("without.csv")];
    assert!(Dataset::open_unlabelled(&both, &Options::default()).is_err());
}

#[test]
fn a_folder_stands_for_its_file() {
    let one = folder(&[("train.csv", b"a,label\n1,x\n"), ("test.csv", b"a,label\n1,x\n2,x\n")]);
    assert_eq!(Dataset::open(one.path(), &Options::default()).unwrap().0.len(), 1);
    let two = folder(&[("train.csv", b"a,label\n1,x\n"), ("train.jsonl", b"{}")]);
    assert!(refusal(two.path(), &Options::default()).contains("several data files"));
    assert!(matches!(Dataset::open(Path::new("/no/such.csv"), &Options::default()).unwrap_err(), Error::Io { .. }));
}

/// Text options; the tokenizer lies beside the data.
fn text(root: &Path, max_length: u32) -> Options {
    Options {
        preprocessing: Preprocessing::Text { max_length, tokenizer: None },
        tokenizer: Some(root.join("tokenizer.json")),
        ..Options::default()
    }
}

#[test]
fn text_becomes_padded_tokens() {
    let json = r#"{"text": "Good", "label": "pos"}
{"text": "very very bad film", "label": "neg"}"#;
    let csv = "label,text\npos,Good\nneg,very very bad film\n";
    let lines = "pos\tGood\nneg\tvery very bad film\n";
    for (name, content) in [("t.jsonl", json), ("t.csv", csv), ("t.txt", lines)] {
        let root = folder(&[(name, content.as_bytes()), ("tokenizer.json", TOKENIZER.as_bytes())]);
        let (data, _) = Dataset::open(&root.path().join(name), &text(root.path(), 0)).unwrap();
        let inputs = data.load(0).unwrap();
        let named: Vec<(&str, Vec<i64>)> = inputs.iter().map(|(n, t)| (n.as_str(), t.to_i64().unwrap())).collect();
        assert_eq!(named[0], ("input_ids", vec![1, 4, 2, 3, 3, 3]), "{name}");
        assert_eq!(named[1], ("attention_mask", vec![1, 1, 1, 0, 0, 0]));
        assert_eq!(named[2], ("token_type_ids", vec![0; 6]));
        assert_eq!(data.load(1).unwrap()[0].1.to_i64().unwrap(), [1, 6, 6, 5, 0, 2]);
        assert_eq!(data.labels().names(), ["neg", "pos"]);
        let (short, _) = Dataset::open(&root.path().join(name), &text(root.path(), 4)).unwrap();
        assert_eq!(short.load(1).unwrap()[0].1.to_i64().unwrap(), [1, 6, 6, 2]);
        // Another padding is another input to the model, hence to the feature cache.
        assert_ne!(short.key(0), data.key(0));
    }
}

#[test]
fn a_folder_a_class_of_texts() {
    let root = folder(&[
        ("data/neg/1.txt", b"very very bad film\n"),
        ("data/neg/2.txt", b" \n"),
        ("data/neg/3.txt", b"\xff\xfe"),
        ("data/pos/1.txt", b"Good"),
        ("tokenizer.json", TOKENIZER.as_bytes()),
    ]);
    let (data, report) = Dataset::open(&root.path().join("data"), &text(root.path(), 0)).unwrap();
    let ids = |data: &Dataset, sample: usize| data.load(sample).unwrap()[0].1.to_i64().unwrap();
    assert_eq!([ids(&data, 0), ids(&data, 1)], [vec![1, 6, 6, 5, 0, 2], vec![1, 4, 2, 3, 3, 3]]);
    assert_eq!(data.labels(), &Labels::Classes { names: ["neg", "pos"].map(Into::into).into(), index: vec![0, 1] });
    assert!(data.name(1).ends_with("data/pos/1.txt"));
    let skipped: Vec<&str> = report.skipped.iter().map(|(_, reason)| reason.as_str()).collect();
    assert!(
        matches!(skipped[..], [empty, other] if empty.contains("no text") && other.contains("UTF-8")),
        "{skipped:?}"
    );
    // A file and a row of the same text are the same sample.
    let table = root.path().join("t.jsonl");
    std::fs::write(&table, "{\"text\": \"very very bad film\", \"label\": \"neg\"}\n").unwrap();
    assert_eq!(Dataset::open(&table, &text(root.path(), 0)).unwrap().0.key(0), data.key(0));

    let (unlabelled, _) = Dataset::open_unlabelled(&[root.path().join("data")], &text(root.path(), 0)).unwrap();
    assert_eq!(unlabelled.keys(), data.keys());
    let without = Options { tokenizer: None, ..text(root.path(), 0) };
    assert!(refusal(&root.path().join("data"), &without).contains("setting `samples.tokenizer = FILE`"));
}

#[test]
fn only_the_models_inputs_are_made_from_text() {
    let root = folder(&[("t.jsonl", br#"{"text": "bad", "label": "x"}"#), ("tokenizer.json", TOKENIZER.as_bytes())]);
    let with = |inputs: &[(&str, DType)]| Options {
        inputs: inputs.iter().map(|(name, dtype)| (name.to_string(), *dtype)).collect(),
        ..text(root.path(), 0)
    };
    let path = root.path().join("t.jsonl");
    let (data, _) =
        Dataset::open(&path, &with(&[("attention_mask", DType::Int32), ("input_ids", DType::Int64)])).unwrap();
    let inputs = data.load(0).unwrap();
    assert_eq!((inputs.len(), inputs[0].0.as_str(), inputs[0].1.dtype), (2, "attention_mask", DType::Int32));
    assert!(refusal(&path, &with(&[("pixels", DType::Float)])).contains("`pixels` (float) cannot be made from text"));
}

#[test]
fn lines_of_text_can_be_predicted() {
    let root = folder(&[("in.txt", b"very\tgood\n\nbad\n"), ("tokenizer.json", TOKENIZER.as_bytes())]);
    let (data, _) = Dataset::open_unlabelled(&[root.path().join("in.txt")], &text(root.path(), 0)).unwrap();
    assert_eq!(data.load(0).unwrap()[0].1.to_i64().unwrap(), [1, 6, 4, 2]);
    assert!(data.name(1).ends_with("in.txt:3"));
}

#[test]
fn bad_text_is_refused() {
    let cases: [(&str, &str); 4] = [
        ("{\"text\": \" \", \"label\": \"x\"}", "t.jsonl:1: no text"),
        ("{\"text\": \"good\", \"label\": \"\"}", "t.jsonl:1: no label"),
        (
            "{\"one\": \"good\", \"two\": \"x\", \"label\": \"x\"}",
            "t.jsonl:1: no column `text`; name the column of texts with setting `samples.text = COLUMN`; the columns are one, two, label",
        ),
        ("{\"text\": \"good\"}", "t.jsonl:1: no column for the label"),
    ];
    for (content, expected) in cases {
        let root = folder(&[("t.jsonl", content.as_bytes()), ("tokenizer.json", TOKENIZER.as_bytes())]);
        let message = refusal(&root.path().join("t.jsonl"), &text(root.path(), 0));
        assert!(message.contains(expected), "{message}");
    }
    let root = folder(&[("t.jsonl", br#"{"text": "a", "label": "x"}"#), ("tokenizer.json", b"{}")]);
    let path = root.path().join("t.jsonl");
    assert!(refusal(&path, &text(root.path(), 0)).contains("tokenizer.json: no tokenizer"));
    assert!(
        refusal(&path, &Options { tokenizer: None, ..text(root.path(), 0) }).contains("needs the model's tokenizer")
    );
}

#[test]
fn numpy_arrays_are_read() {
    let with = |label: &str, target: Target, inputs: &[(&str, DType)]| Options {
        label: vec![label.into()],
        target,
        inputs: inputs.iter().map(|(name, dtype)| (name.to_string(), *dtype)).collect(),
        ..Options::default()
    };
    let path = golden("packed.npz");
    let both = with("y", Target::Classes, &[("x", DType::Float), ("ids", DType::Int32)]);
    let (data, _) = Dataset::open(&path, &both).unwrap();
    assert_eq!(data.labels(), &Labels::Classes { names: vec!["9".into(), "10".into()], index: vec![1, 0, 1] });
    let inputs = data.load(2).unwrap();
    assert_eq!((inputs[0].1.to_f32().unwrap(), &inputs[0].1.shape), (vec![1.0, 1.25], &vec![2]));
    assert_eq!((inputs[1].1.to_i64().unwrap(), inputs[1].1.dtype), (vec![3, 4, 5, 6], DType::Int32));
    let sets = with("sets", Target::MultiLabel, &[("half", DType::Float16)]);
    let (data, _) = Dataset::open(&path, &sets).unwrap();
    let rows = ndarray::arr2(&[[1.0, 0.0], [0.0, 0.0], [1.0, 1.0]]);
    assert_eq!(data.labels(), &Labels::MultiLabel { names: vec!["0".into(), "1".into()], rows });
    assert_eq!(data.load(1).unwrap()[0].1.to_f32().unwrap(), [0.5, 0.75]);
    // A model's only input may be called `x` in the file.
    let (data, _) = Dataset::open(&path, &with("targets", Target::Values, &[("pixels", DType::Float)])).unwrap();
    assert_eq!(data.labels(), &Labels::Values(ndarray::arr2(&[[0.5], [-1.0], [2.0]])));
    assert_eq!(data.load(0).unwrap()[0].0, "pixels");
    let message = refusal(&path, &with("y", Target::Classes, &[("pixels", DType::Float), ("x", DType::Float)]));
    assert!(message.contains("no array `pixels`"), "{message}");
    assert!(refusal(&path, &with("z", Target::Classes, &[])).contains("no array of labels (z)"));
    assert!(
        refusal(&path, &with("targets", Target::Classes, &[("x", DType::Float)])).contains("row 0: 0.5 is no class")
    );
    assert!(refusal(&path, &with("y", Target::Classes, &[("x", DType::Int64)])).contains("fractions for an input"));
    let image = Preprocessing::Text { max_length: 3, tokenizer: None };
    assert!(refusal(&path, &Options { preprocessing: image, ..Options::default() }).contains("fed as they are"));
}

/// A `.npy` file with this header and data.
fn npy(descr: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n");
    [b"\x93NUMPY\x01\x00", &(header.len() as u16).to_le_bytes()[..], header.as_bytes(), data].concat()
}

#[test]
fn array_pairs_are_read() {
    let x: Vec<u8> = [1f32, 2.0, 3.0, 4.0].iter().flat_map(|value| value.to_le_bytes()).collect();
    let (x, y) = (npy("<f4", "(2, 2)", &x), npy("|u1", "(2,)", &[1, 0]));
    let root = folder(&[("x.npy", &x), ("y.npy", &y)]);
    let (data, _) = Dataset::open(root.path(), &Options::default()).unwrap();
    assert_eq!((data.len(), floats(&data, 1)), (2, vec![3.0, 4.0]));
    let alone = folder(&[("x.npy", &x)]);
    assert!(refusal(alone.path(), &Options::default()).contains("put them beside it as y.npy"));
    let uneven = folder(&[("x.npy", &x), ("y.npy", &npy("|u1", "(3,)", &[1, 0, 1]))]);
    assert!(refusal(uneven.path(), &Options::default()).contains("2 samples but 3 labels"));
}

#[test]
fn a_folder_a_class_of_arrays() {
    let floats_of = |values: [f32; 2]| npy("<f4", "(2,)", &values.map(f32::to_le_bytes).concat());
    let whole = npy("<i2", "(2,)", &[7i16, -3].map(i16::to_le_bytes).concat());
    let wide = npy("<f4", "(3,)", &[0; 12]);
    let root = folder(&[
        ("quiet/1.npy", &floats_of([1.0, 2.0])),
        ("quiet/2.npy", &whole),
        ("rattling/1.npy", &floats_of([5.0, 6.0])),
        ("rattling/2.npy", &wide),
        ("rattling/3.npy", &floats_of([5.0, f32::NAN])),
        ("rattling/4.npy", &whole[..whole.len() - 1]),
        ("rattling/5.npy", &npy("<f4", "()", &[0; 4])),
        ("rattling/notes.txt", b"no array"),
    ]);
    let options = Options { inputs: vec![("x".into(), DType::Float)], ..Options::default() };
    let (data, report) = Dataset::open(root.path(), &options).unwrap();
    assert_eq!(
        data.labels(),
        &Labels::Classes { names: ["quiet", "rattling"].map(Into::into).into(), index: vec![0, 0, 1] }
    );
    assert_eq!([0, 1, 2].map(|sample| floats(&data, sample)), [vec![1.0, 2.0], vec![7.0, -3.0], vec![5.0, 6.0]]);
    assert_eq!(data.load(1).unwrap()[0].1.shape, [2], "a file is one sample, without a batch axis");
    let skipped: Vec<&str> = report.skipped.iter().map(|(_, reason)| reason.as_str()).collect();
    let expected = ["[3], where [2] is expected", "NaN", "do not fill", "no numbers", "no .npy array"];
    assert_eq!(skipped.len(), expected.len(), "{skipped:?}");
    skipped.iter().zip(expected).for_each(|(reason, part)| assert!(reason.contains(part), "{reason}: {part}"));

    let (unlabelled, _) = Dataset::open_unlabelled(&[root.path().into()], &options).unwrap();
    assert_eq!((unlabelled.len(), unlabelled.keys()), (3, data.keys()));
    let two = Options { inputs: vec![("x".into(), DType::Float), ("y".into(), DType::Float)], ..Options::default() };
    assert!(refusal(root.path(), &two).contains("a model of 2 inputs; put the samples into one .npz file"));
    std::fs::write(root.path().join("quiet/1.npy"), floats_of([1.0, 3.0])).unwrap();
    assert!(data.load(0).unwrap_err().to_string().contains("changed while it was in use"));

    let empty = folder(&[("quiet/1.npy", &wide), ("rattling/1.npy", b"")]);
    let message = refusal(empty.path(), &options);
    assert!(message.contains("class folder without a usable array (1 skipped)"), "{message}");
    let loose = folder(&[("quiet/1.npy", &wide), ("2.npy", &wide)]);
    assert!(refusal(loose.path(), &options).contains("an array outside of any class folder"));
}

/// An array is mapped, not read: what somebody writes into it must not pass for what was hashed.
#[test]
fn an_array_that_changes_while_it_is_in_use_is_noticed() {
    let x = npy("<f4", "(3, 1)", &[1f32, 2.0, 3.0].map(f32::to_le_bytes).concat());
    let root = folder(&[("x.npy", &x), ("y.npy", &npy("|u1", "(3,)", &[1, 0, 1]))]);
    let (data, _) = Dataset::open(root.path(), &Options::default()).unwrap();
    assert!(data.name(2).ends_with("x.npy[2]"));
    let path = root.path().join("x.npy");
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &9f32.to_le_bytes(), x.len() as u64 - 8).unwrap();
    assert_eq!((floats(&data, 0), floats(&data, 2)), (vec![1.0], vec![3.0]));
    let message = data.load(1).unwrap_err().to_string();
    assert!(message.contains("x.npy: changed while it was in use"), "{message}");
    // A new file in its place is another file.
    let (data, _) = Dataset::open(root.path(), &Options::default()).unwrap();
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, b"").unwrap();
    assert_eq!(floats(&data, 1), [9.0]);
}

/// What `np.savez` stores as it is stays in the file, with its checksum looked at.
#[test]
fn a_damaged_archive_is_refused() {
    let path = golden("stored.npz");
    let good = std::fs::read(&path).unwrap();
    let (data, _) = Dataset::open(&path, &Options::default()).unwrap();
    assert_eq!((floats(&data, 0), floats(&data, 2)), (vec![0.5, -1.0], vec![4.0, 8.0]));
    let place = good.windows(8).position(|bytes| bytes == [4f32, 8.0].map(f32::to_le_bytes).concat()).unwrap();
    let mut bad = good.clone();
    bad[place] ^= 1;
    let message = open("t.npz", &bad, &Options::default()).unwrap_err();
    assert!(message.contains("no readable .npz file") && message.contains("checksum"), "{message}");
    let limited = Options { limits: Limits { table_bytes_max: 500, ..Limits::default() }, ..Options::default() };
    assert!(good.len() > 500 && refusal(&path, &limited).contains("too many"));
}

#[test]
fn bad_arrays_are_refused() {
    let nan = f32::NAN.to_le_bytes();
    let cases: [(Vec<u8>, &str); 11] = [
        (b"".to_vec(), "no .npy array"),
        (b"\x93NUMPY\x01\x00\xff\xff{".to_vec(), "no .npy array"),
        (npy("<f4", "(1, 2)", &[0; 4]), "4 bytes of data do not fill shape [1, 2]"),
        (npy("<f4", "(4611686018427387904, 4)", &[]), "do not fill shape"),
        (npy("|u1", "(1099511627776, 0)", &[]), "holds no samples"),
        (npy("<f4", "()", &[0; 4]), "holds no samples"),
        (npy("<f4", "(2, 1)", &[[0; 4], nan].concat()), "row 1 holds NaN"),
        (npy("<c8", "(1,)", &[0; 8]), "elements of type `c8`"),
        (npy("|O", "(1,)", &[0; 8]), "Python objects"),
        (std::fs::read(golden("big-endian.npy")).unwrap(), "big-endian"),
        (std::fs::read(golden("texts.npy")).unwrap(), "texts where the model takes numbers"),
    ];
    for (bytes, expected) in cases {
        let root = folder(&[("x.npy", &bytes), ("y.npy", &npy("|u1", "(1,)", &[1]))]);
        let message = refusal(root.path(), &Options::default());
        assert!(message.contains(expected) && message.contains("x.npy"), "{message}");
    }
    let root = folder(&[("t.npz", b"PK\x03\x04 nonsense")]);
    assert!(refusal(&root.path().join("t.npz"), &Options::default()).contains("no readable .npz"));
    let bomb = golden("bomb.npz");
    let small = Options { limits: Limits { table_bytes_max: 100_000, ..Limits::default() }, ..Options::default() };
    assert!(refusal(&bomb, &small).contains("more than 100000 bytes"));
    assert_eq!(Dataset::open(&bomb, &Options::default()).unwrap().0.len(), 1000);
}
