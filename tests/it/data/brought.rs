//! What people bring that is not as this program's own documents say: rows for models of several axes, names as labels, folders of
//! other kinds of data sets, samples that nobody has sorted.

use super::{folder, refusal};
use edgetune::data::{
    Dataset, ImagePreprocessing, Labels, Options, Preprocessing, SampleShape, Target, holds_numbers, unknown_text_input,
};
use edgetune::graph::DType;
use std::path::{Path, PathBuf};

const MOSAIC: &[u8] = include_bytes!("../../goldens/images/mosaic.png");
const TOKENIZER: &str = r#"{
    "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
    "normalizer": null, "pre_tokenizer": {"type": "Whitespace"}, "post_processor": null, "decoder": null,
    "model": {"type": "WordLevel", "unk_token": "[UNK]", "vocab": {"[UNK]": 0, "a": 1, "b": 2}}
}"#;

fn images() -> Options {
    Options { preprocessing: Preprocessing::Image(ImagePreprocessing::new(8, 8)), ..Options::default() }
}

/// For a model with the input `x` of this shape.
fn wants(shape: &[Option<u64>]) -> Options {
    let shapes: Vec<SampleShape> = vec![Some(shape.to_vec())];
    Options { inputs: vec![("x".into(), DType::Float)], shapes, ..Options::default() }
}

/// The shape and the numbers of a data set's first sample.
fn first(data: &Dataset) -> (Vec<u64>, Vec<f32>) {
    let (_, tensor) = data.load(0).unwrap().remove(0);
    (tensor.shape.clone(), tensor.to_f32().unwrap())
}

fn npy(shape: &str, count: u16) -> Vec<u8> {
    let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}");
    let data: Vec<u8> = (0..count).flat_map(|value| f32::from(value).to_le_bytes()).collect();
    [b"\x93NUMPY\x01\x00", &(header.len() as u16).to_le_bytes()[..], header.as_bytes(), &data].concat()
}

#[test]
fn rows_of_numbers_take_the_model_s_shape_and_say_so() {
    let root = folder(&[
        ("flat.csv", b"a,b,c,d,e,f,label\n0,1,2,3,4,5,x\n6,7,8,9,10,11,y\n"),
        (
            "nested.jsonl",
            b"{\"x\": [[0, 1, 2], [3, 4, 5]], \"label\": \"x\"}\n{\"x\": [[6, 7, 8], [9, 1, 1]], \"label\": \"y\"}\n",
        ),
        ("ragged.jsonl", b"{\"x\": [[0, 1, 2], [3, 4]], \"label\": \"x\"}\n"),
        ("other.jsonl", b"{\"x\": [[0, 1], [3, 4]], \"label\": \"x\"}\n{\"x\": [[0, 1, 3, 4]], \"label\": \"x\"}\n"),
        ("flat/x.npy", &npy("(2, 6)", 12)),
        ("flat/y.npy", &npy("(2,)", 2)),
    ]);
    let fixed = wants(&[Some(2), Some(3)]);
    for name in ["flat.csv", "nested.jsonl", "flat"] {
        let (data, report) = Dataset::open(&root.path().join(name), &fixed).unwrap();
        assert_eq!(first(&data), (vec![2, 3], vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0]), "{name}");
        let told = report.notes.iter().any(|note| note.contains("6 numbers a sample are read as [2, 3]"));
        assert_eq!(told, name != "nested.jsonl", "{name}: {:?}", report.notes);
    }
    // Where the model leaves a size open, or takes another count, a row does not tell the shape; lists do.
    let open = wants(&[None, Some(3)]);
    for name in ["flat.csv", "flat"] {
        let message = refusal(&root.path().join(name), &open);
        assert!(message.contains("the model takes [any, 3]") && message.contains("lists in lists"), "{message}");
        let message = refusal(&root.path().join(name), &wants(&[Some(2), Some(4)]));
        assert!(message.contains("6 numbers a sample, but the model takes 8 of shape [2, 4]"), "{message}");
    }
    let (data, _) = Dataset::open(&root.path().join("nested.jsonl"), &open).unwrap();
    assert_eq!(first(&data).0, [2, 3]);
    let (data, _) = Dataset::open(&root.path().join("nested.jsonl"), &wants(&[Some(1), Some(2), Some(3)])).unwrap();
    assert_eq!(first(&data).0, [1, 2, 3], "an axis of size 1 may be left out");
    let message = refusal(&root.path().join("ragged.jsonl"), &open);
    assert!(message.contains("ragged.jsonl:1") && message.contains("lists of different lengths"), "{message}");
    let message = refusal(&root.path().join("other.jsonl"), &open);
    assert!(message.contains("other.jsonl:2") && message.contains("[1, 4]") && message.contains("[2, 2]"), "{message}");
}

#[test]
fn an_array_for_one_sample_is_one_sample() {
    let root = folder(&[
        ("one.npy", &npy("(2, 3)", 6)),
        ("flat.npy", &npy("(6,)", 6)),
        ("several.npy", &npy("(4, 2, 3)", 24)),
        ("a/1.npy", &npy("(6,)", 6)),
        ("b/1.npy", &npy("(6,)", 6)),
    ]);
    for (name, count) in [("one.npy", 1), ("flat.npy", 1), ("several.npy", 4)] {
        let path = [root.path().join(name)];
        let (data, _) = Dataset::open_unlabelled(&path, &wants(&[Some(2), Some(3)])).unwrap();
        assert_eq!((data.len(), first(&data).0), (count, vec![2, 3]), "{name}");
    }
    let (data, _) = Dataset::open_unlabelled(&[root.path().join("flat.npy")], &wants(&[Some(6)])).unwrap();
    assert_eq!((data.len(), first(&data).0), (1, vec![6]));
    // Files in class folders follow the same rule.
    let classes = folder(&[("a/1.npy", &npy("(6,)", 6)), ("b/1.npy", &npy("(6,)", 6))]);
    let (data, _) = Dataset::open(classes.path(), &wants(&[Some(2), Some(3)])).unwrap();
    assert_eq!(first(&data).0, [2, 3]);
}

#[test]
fn labels_in_arrays_may_be_names() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/arrays/names.npz");
    let with = |label: &str| Options { label: vec![label.into()], ..wants(&[Some(2)]) };
    let (data, _) = Dataset::open(&golden, &with("y")).unwrap();
    let names = |names: &[&str]| names.iter().map(|name| name.to_string()).collect::<Vec<_>>();
    assert_eq!(data.labels(), &Labels::Classes { names: names(&["Hündin", "cat"]), index: vec![1, 0, 1] });
    let rows: Vec<Vec<f32>> = (0..3).map(|row| data.load(row).unwrap()[0].1.to_f32().unwrap()).collect();
    assert_eq!(rows, [[0.0, 0.25], [0.5, 0.75], [1.0, 1.25]], "the file has the first axis fastest");
    let (data, _) = Dataset::open(&golden, &with("raw")).unwrap();
    assert_eq!(data.labels(), &Labels::Classes { names: names(&["a", "bcd"]), index: vec![0, 1, 0] });
}

#[test]
fn a_table_of_numbers_is_told_from_one_of_pictures() {
    let root = folder(&[
        ("numbers.csv", b"a,b,label\n1,2.5,x\n"),
        ("comma.csv", b"a;b;label\n1,5;2;x\n"),
        ("lists.jsonl", b"{\"x\": [[1, 2], [3, 4]], \"label\": \"x\"}\n"),
        ("pictures.csv", b"file,label\na/1.png,x\n"),
        ("texts.csv", b"text,label\ngood,x\n"),
        ("named.csv", b"where,label\n1,x\n"),
    ]);
    let holds = |name: &str, file: Option<&str>| holds_numbers(&root.path().join(name), &[], file);
    for name in ["numbers.csv", "comma.csv", "lists.jsonl", "named.csv"] {
        assert!(holds(name, None), "{name}");
    }
    for (name, file) in [("pictures.csv", None), ("texts.csv", None), ("named.csv", Some("where")), ("none.csv", None)]
    {
        assert!(!holds(name, file), "{name}");
    }
}

#[test]
fn data_sets_of_other_kinds_are_refused_by_what_they_are() {
    for (marks, file, parts) in [
        ("masks", "1.png", ["`images` and `masks`", "a label for each pixel (segmentation)"]),
        ("SegmentationClass", "1.png", ["SegmentationClass", "segmentation"]),
        ("labels", "1.txt", ["`images` and `labels`", "boxes around objects (detection)"]),
        ("annotations", "all.json", ["annotations", "detection"]),
    ] {
        let root = folder(&[("images/1.png", MOSAIC), (&format!("{marks}/{file}"), MOSAIC)]);
        let message = refusal(root.path(), &images());
        for part in parts {
            assert!(message.contains(part) && message.contains("a folder for each class"), "{message}");
        }
    }
    let classes = folder(&[("photos/1.png", MOSAIC), ("masks/carnival.png", MOSAIC)]);
    assert!(Dataset::open(classes.path(), &images()).is_ok(), "masks may be a class, with names of their own");
    for (name, content) in [
        ("t.txt", "anna\tB-PER\nlives\tO\n\nbob\tB-PER\n"),
        ("t.conll", "anna B-PER\n"),
        ("t.jsonl", "{\"text\": \"anna lives in rome\", \"label\": [\"B-PER\", \"O\", \"O\", \"B-LOC\"]}\n"),
        ("t.jsonl", "{\"tokens\": [\"anna\", \"lives\"], \"ner_tags\": [1, 0]}\n"),
    ] {
        let root = folder(&[(name, content.as_bytes()), ("tokenizer.json", TOKENIZER.as_bytes())]);
        let message = refusal(&root.path().join(name), &text(root.path(), 0));
        assert!(message.contains("words with a tag each") && message.contains("label<TAB>text"), "{message}");
    }
}

#[test]
fn samples_that_nobody_has_sorted_are_no_class() {
    for name in ["unlabelled", "Unlabeled", "un_sorted"] {
        let root = folder(&[("cat/1.png", MOSAIC), (&format!("{name}/1.png"), MOSAIC)]);
        let message = refusal(root.path(), &images());
        assert!(message.contains(&format!("/{name}: ")) && message.contains("move the folder out"), "{message}");
        let known = Options { classes: Some(vec!["cat".into(), name.into()]), ..images() };
        assert!(Dataset::open(root.path(), &known).is_ok(), "a class that the model has is one");
    }
    let root = folder(&[("cat/1.png", MOSAIC), ("unknown/1.png", MOSAIC)]);
    let (data, report) = Dataset::open(root.path(), &images()).unwrap();
    assert_eq!(data.labels().names(), ["cat", "unknown"]);
    assert!(report.notes.iter().any(|note| note.contains("`unknown` is learned as a class")), "{:?}", report.notes);
}

#[test]
fn two_data_sets_are_one_behind_the_other() {
    let classes = |names: &[&str]| Some(names.iter().map(|name| name.to_string()).collect::<Vec<_>>());
    let one = folder(&[("a/1.png", MOSAIC), ("b/2.png", MOSAIC)]);
    let other = folder(&[("b/3.png", MOSAIC)]);
    let (first, _) = Dataset::open(one.path(), &images()).unwrap();
    let (second, _) = Dataset::open(other.path(), &Options { classes: classes(&["a", "b"]), ..images() }).unwrap();
    let both = first.followed_by(second).unwrap();
    let Labels::Classes { index, .. } = both.labels() else { panic!() };
    assert_eq!((both.len(), &index[..]), (3, &[0, 1, 1][..]));
    assert!(both.name(1).ends_with("b/2.png") && both.name(2).ends_with("b/3.png"));
    assert_eq!(both.load(2).unwrap()[0].1.shape, [3, 8, 8]);
    let few = both.with_pixels(&[0, 2], ImagePreprocessing::new(4, 4)).unwrap();
    assert_eq!((few.len(), few.load(0).unwrap()[0].1.shape.as_slice()), (1, &[3, 4, 4][..]), "of the first alone");
    // Texts of both have the length of the longest, and keys that tell it.
    let root = folder(&[
        ("one.csv", b"text,label\na b,x\na,y\n"),
        ("other.csv", b"text,label\nb b b a,x\n"),
        ("tokenizer.json", TOKENIZER.as_bytes()),
    ]);
    let text = text(root.path(), 0);
    let open = |name: &str, options: &Options| Dataset::open(&root.path().join(name), options).unwrap().0;
    let alone = open("one.csv", &text);
    let both = open("one.csv", &text)
        .followed_by(open("other.csv", &Options { classes: classes(&["x", "y"]), ..text.clone() }));
    let both = both.unwrap();
    for sample in 0..3 {
        assert_eq!(both.load(sample).unwrap()[0].1.shape, [4]);
    }
    assert!(both.key(0) != alone.key(0) && both.keys().len() == 3);
    let root = folder(&[("n.csv", b"a,x\n1,2\n"), ("two.csv", b"a,x,y\n1,2,3\n")]);
    let values = |name: &str, label: &[&str]| {
        let label = label.iter().map(|name| name.to_string()).collect();
        let path: PathBuf = root.path().join(name);
        Dataset::open(&path, &Options { target: Target::Values, label, ..Options::default() }).unwrap().0
    };
    let message = values("n.csv", &["x"]).followed_by(values("two.csv", &["x", "y"])).unwrap_err().to_string();
    assert!(message.contains("2 numbers a sample, where setting `data` has 1"), "{message}");
}

/// A tokenizer that joins two texts as BERT's does, and says of each token which it is of.
const PAIRS: &str = r#"{
    "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
    "pre_tokenizer": {"type": "Whitespace"}, "decoder": null,
    "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 2], "cls": ["[CLS]", 1]},
    "model": {"type": "WordLevel", "unk_token": "[UNK]",
        "vocab": {"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "[PAD]": 3, "a": 4, "b": 5, "c": 6}}
}"#;

fn text(root: &Path, max_length: u32) -> Options {
    Options {
        preprocessing: Preprocessing::Text { max_length, tokenizer: None },
        tokenizer: Some(root.join("tokenizer.json")),
        ..Options::default()
    }
}

#[test]
fn two_texts_a_row_are_one_sequence_with_token_types() {
    let root = folder(&[
        ("pair.jsonl", br#"{"text": "a b", "text_pair": "c", "label": "x"}"#),
        ("sts.csv", b"sentence1,sentence2,score\na b,c,x\n"),
        ("list.jsonl", br#"{"text": ["a b", "c"], "label": "x"}"#),
        ("named.csv", b"one,two,three\na b,c,x\n"),
        ("half.csv", b"text,text_pair,label\na,,x\na b,c,x\n"),
        ("tokenizer.json", PAIRS.as_bytes()),
    ]);
    let options = text(root.path(), 0);
    let named = Options { text: Some("one,two".into()), ..options.clone() };
    for (name, options) in [
        ("pair.jsonl", &options),
        ("sts.csv", &options),
        ("list.jsonl", &options),
        ("named.csv", &named),
        ("half.csv", &options),
    ] {
        let (data, report) = Dataset::open(&root.path().join(name), options).unwrap();
        let values: Vec<Vec<i64>> = data.load(0).unwrap().iter().map(|(_, tensor)| tensor.to_i64().unwrap()).collect();
        assert_eq!(values, [vec![1, 4, 5, 2, 6, 2], vec![1; 6], vec![0, 0, 0, 0, 1, 1]], "{name}");
        assert_eq!(report.skipped.len(), usize::from(name == "half.csv"), "a row with one text is left out");
    }
    let (asked, _) = Dataset::open_unlabelled(&[root.path().join("sts.csv")], &options).unwrap();
    assert_eq!((asked.text(0), asked.load(0).unwrap()[0].1.shape.as_slice()), (Some("a b | c"), &[6][..]));
}

#[test]
fn texts_that_are_cut_off_are_counted() {
    let long = "a b c a b c a b c";
    let table = format!("text,label\n{long},x\na,y\n{long} a,x\n");
    let root = folder(&[("t.csv", table.as_bytes()), ("tokenizer.json", PAIRS.as_bytes())]);
    let cut =
        |max_length| Dataset::open(&root.path().join("t.csv"), &text(root.path(), max_length)).unwrap().0.cut_texts();
    assert_eq!(
        cut(6).as_deref(),
        Some("texts     2 of 3 are cut off at 6 tokens; setting `samples.max-length = 16` keeps them whole")
    );
    assert_eq!(
        cut(11).as_deref(),
        Some("texts     1 of 3 is cut off at 11 tokens; setting `samples.max-length = 16` keeps them whole")
    );
    assert_eq!(cut(12), None, "ten words between two special tokens");
    // Files that are one text each.
    let root = folder(&[("x/1.txt", long.as_bytes()), ("y/1.txt", b"a"), ("tokenizer.json", PAIRS.as_bytes())]);
    let (data, _) = Dataset::open(root.path(), &text(root.path(), 4)).unwrap();
    assert!(data.cut_texts().unwrap().contains("1 of 2 is cut off at 4 tokens; setting `samples.max-length = 16`"));
    // Rows of a language model.
    let root =
        folder(&[("t.csv", b"prompt,completion\na b c,a b c a b c\na,b\n"), ("tokenizer.json", PAIRS.as_bytes())]);
    let options = Options { target: Target::NextTokens, ..text(root.path(), 8) };
    let (data, _) = Dataset::open(&root.path().join("t.csv"), &options).unwrap();
    assert!(data.cut_texts().unwrap().contains("1 of 2 is cut off at 8 tokens"), "{:?}", data.cut_texts());
}

#[test]
fn inputs_that_are_not_made_from_text_are_asked_about() {
    let inputs = |names: &[&str]| names.iter().map(|name| (name.to_string(), DType::Int64)).collect::<Vec<_>>();
    assert_eq!(unknown_text_input(&inputs(&["input_ids", "attention_mask", "token_type_ids"])), None);
    assert_eq!(unknown_text_input(&inputs(&["x", "y"])), None, "no model of text");
    let told = unknown_text_input(&inputs(&["input_ids", "language"])).unwrap();
    assert!(told.contains("`language` (int64)") && told.contains(".npz file with an array for each input"), "{told}");
    let told = unknown_text_input(&inputs(&["input_ids", "attention_mask", "decoder_input_ids"])).unwrap();
    assert!(told.contains("`decoder_input_ids`") && told.contains("is a decoder's"), "{told}");
}
