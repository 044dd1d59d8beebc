//! Texts in pictures of lines: from the files that people have to texts of new pictures.

use super::Place;
use super::models::{bmp, reader};
use serde_json::Value;
use std::fs;

const CHARACTERS: &str = " \na\nb\nc\nd";
const TRAIN: &str = "train base.onnx --train last:2 --epochs 60 --batch 4 --lr 0.03 --val-fraction 0.25";

/// A line of coloured bars with white between them, a colour a character, 16 pixels high.
fn line(text: &str) -> Vec<u8> {
    let letters: Vec<char> = text.chars().collect();
    bmp(8 * letters.len() as u32, 16, |x, _| match (x % 8 < 4, letters[x as usize / 8]) {
        (false, _) => [255; 3],
        (_, 'a') => [255, 0, 0],
        (_, 'b') => [0, 255, 0],
        (_, 'c') => [0, 0, 255],
        (_, 'd') => [0; 3],
        _ => [255, 255, 0],
    })
}

/// A text of one or two words, by a number.
fn text(number: u64) -> String {
    let mut random = fastrand::Rng::with_seed(number);
    let mut word = |most: usize| -> String {
        let letters = random.usize(1..=most);
        (0..letters).map(|_| char::from(b"abcd"[random.usize(0..4)])).collect()
    };
    if number.is_multiple_of(2) { word(7) } else { format!("{} {}", word(4), word(3)) }
}

/// A model of `width` outputs, and lines with their texts in the layouts that people have.
fn place(width: u64, metadata: &[(&str, &str)]) -> Place {
    let place = Place::new();
    place.write("base.onnx", reader(width, metadata));
    let (mut table, mut list, mut rows) = ("file,kind,text\n".to_string(), String::new(), String::new());
    for number in 0..40 {
        let (text, name) = (text(number), format!("{number:02}.bmp"));
        let picture = line(&text);
        for folder in ["table/lines", "list", "rows", "beside/a"] {
            place.write(&format!("{folder}/{name}"), &picture);
        }
        place.write(&format!("beside/a/{number:02}.gt.txt"), format!("{text}\n"));
        table += &format!("lines/{name},print,{text}\n");
        list += &format!("{name}\t{text}\n");
        rows += &format!("{}\n", serde_json::json!({ "image": name, "transcription": text }));
    }
    place.write("table/labels.csv", table);
    place.write("list/rec_gt_train.txt", list);
    place.write("rows/metadata.jsonl", rows);
    place
}

fn number(document: &Value, name: &str) -> f64 {
    document[name].as_f64().unwrap_or_else(|| panic!("{document}"))
}

#[test]
fn lines_are_learned_from_every_form_and_told_as_texts() {
    let place = place(6, &[("character", CHARACTERS)]);
    let mut deltas = Vec::new();
    for data in ["table/labels.csv", "table", "list/rec_gt_train.txt", "list", "rows", "beside"] {
        let ran = place.run(&format!("{TRAIN} --data {data} --out a.edelta --force")).done();
        for part in ["5 characters from the model's metadata `character`", "32x8", "kept: 6 outputs"] {
            assert!(ran.err.contains(part), "{data}: {part}: {}", ran.err);
        }
        assert!(ran.out.contains("cer ") && ran.out.contains("wer "), "{data}: {}", ran.out);
        deltas.push(place.read("a.edelta"));
    }
    assert!(deltas.iter().all(|delta| *delta == deltas[0]), "the same lines gave another delta");
    // Columns by their names; and whoever names the loss of classes means that of texts here.
    place.run(&format!("{TRAIN} --loss cross-entropy --data list --out again.edelta")).done();
    assert!(place.read("again.edelta") == deltas[0]);
    place.run(&format!("{TRAIN} --data table --text text --file file --out named.edelta")).done();
    let measured = place.run("eval base.onnx --adapter a.edelta --data beside --json").json();
    assert!(number(&measured, "cer") < 0.05 && number(&measured, "wer") < 0.1, "{measured}");
    assert!(number(&measured, "accuracy") > 0.9 && number(&measured, "loss") < 0.1, "{measured}");

    place.write("new/one.bmp", line("dacb ab"));
    let predict = "predict base.onnx --adapter a.edelta new";
    let told = place.run(&format!("{predict} --json")).json();
    assert_eq!(told[0]["transcription"], "dacb ab", "{told}");
    assert!(number(&told[0], "confidence") > 0.5, "{told}");
    let lines = place.run(predict).done().out;
    assert!(lines.starts_with("new/one.bmp: \"dacb ab\" ") && lines.trim_end().ends_with('%'), "{lines}");
    let table = place.run(&format!("{predict} --csv")).done().out;
    assert!(table.starts_with("input,transcription,confidence\nnew/one.bmp,dacb ab,0."), "{table}");
}

#[test]
fn a_part_of_a_data_set_is_measured_by_the_table_above_it_before_and_after() {
    let place = place(6, &[("character", CHARACTERS)]);
    let mut table = "file,text\n".to_string();
    for number in 0..40 {
        let part = if number < 30 { "train" } else { "test" };
        let name = format!("{part}/{number:02}.bmp");
        place.write(&format!("parts/{name}"), line(&text(number)));
        table += &format!("{name},{}\n", text(number));
    }
    place.write("parts/labels.csv", table);
    let report = place.run(&format!("{TRAIN} --data parts --out a.edelta --json")).json();
    let test = &report["test"];
    assert_eq!(test["after"]["samples"], 10, "{test}");
    assert!(number(&test["after"]["figures"], "cer") < 0.1, "{test}");
    assert!(number(&test["base"]["figures"], "cer") > 0.5, "{test}");
    let measured = place.run("eval base.onnx --adapter a.edelta --data parts/test --json").json();
    assert_eq!(number(&measured, "cer"), number(&test["after"]["figures"], "cer"), "{measured}");
    // What was learned is learned on, and a model with it inside answers the same.
    place.run("train base.onnx --data parts/train --from a.edelta --epochs 2 --lr 0.001 --out b.edelta").done();
    assert!(number(&place.run("eval base.onnx --adapter b.edelta --data parts/test --json").json(), "cer") < 0.1);
    place.run("export --adapter a.edelta --model base.onnx --to onnx --out merged.onnx").done();
    let merged = place.run("predict merged.onnx parts/test --json").json();
    let beside = place.run("predict base.onnx --adapter a.edelta parts/test --json").json();
    for (one, other) in merged.as_array().unwrap().iter().zip(beside.as_array().unwrap()) {
        assert_eq!(one["transcription"], other["transcription"], "{one}");
    }
    // The gradient, and what an application would ship.
    place.run("check base.onnx --train last:2 --loss ctc").done();
    place.run("prepare base.onnx --train last:1 --loss ctc --out bundle").done();
}

#[test]
fn characters_are_those_of_the_model_of_a_file_or_of_the_data() {
    let place = place(6, &[]);
    let train = format!("{TRAIN} --data list");
    place.run(&format!("{train} --out a.edelta")).fails(&["--classes", "its 6 outputs", "--head replace"]);
    assert!(!place.path("a.edelta").exists());
    place.write("characters.txt", " \na\nb\nc\nd\n");
    place.run(&format!("{train} --classes characters.txt --out file.edelta")).done();
    let told = reader(6, &[("character", CHARACTERS)]);
    place.write("told.onnx", &told);
    // A blank elsewhere is called so.
    place.write("last.txt", "a\nb\nc\nd\n \n<blank>\n");
    place.run(&format!("{train} --classes last.txt --out last.edelta")).done();
    for adapter in ["file", "last"] {
        let eval = format!("eval base.onnx --adapter {adapter}.edelta --data beside --json");
        assert!(number(&place.run(&eval).json(), "cer") < 0.05, "{adapter}");
    }
    // A head for the characters of the data, and one for more characters than the model has.
    let ran = place.run(&format!("{train} --head replace --out new.edelta")).done();
    assert!(ran.err.contains("replaced: 6 → 6 outputs"), "{}", ran.err);
    place.write("more.json", r#"["a", "b", "c", "d", "e", " ", "f"]"#);
    let ran = place.run(&format!("{train} --classes more.json --out more.edelta")).done();
    assert!(ran.err.contains("replaced: 6 → 8 outputs"), "{}", ran.err);
    for adapter in ["new", "more"] {
        let eval = format!("eval base.onnx --adapter {adapter}.edelta --data beside --json");
        assert!(number(&place.run(&eval).json(), "cer") < 0.1, "{adapter}");
    }
    place.run(&format!("{train} --classes aab --out a.edelta")).fails(&["--classes aab", "`a` stands there twice"]);
}

#[test]
fn what_is_no_line_with_its_text_is_told_with_its_row() {
    let place = place(6, &[("character", CHARACTERS)]);
    let train = format!("{TRAIN} --loss ctc --out a.edelta --data");
    for (name, rows, parts) in [
        (
            "unknown.csv",
            "file,text\nlist/00.bmp,abx\n",
            &["unknown.csv:2", "`x` (U+0078) in `abx`", "--head replace"][..],
        ),
        ("long.csv", "file,text\nlist/00.bmp,abcdabcdabcdabcda\n", &["long.csv:2", "needs 17 steps", "gives 16"]),
        ("twice.csv", "file,text\nlist/00.bmp,aaaaaaaaa\n", &["twice.csv:2", "needs 17 steps"]),
        ("missing.csv", "file,text\nlist/none.bmp,ab\n", &["none.bmp", "No such file"]),
        ("empty.csv", "file,text\nlist/00.bmp,\n", &["empty.csv:2", "fill it in or remove the row"]),
        (
            "nothing.csv",
            "file,size,kind\nlist/00.bmp,3,print\n",
            &["nothing.csv:1", "no column `text`", "file, size, kind"],
        ),
        ("files.csv", "text,size\nab,3\n", &["files.csv:1", "--file"]),
    ] {
        place.write(name, rows);
        // The size is that of the whole data set, whatever the table names.
        place.run(&format!("{train} {name} --size 32x8")).fails(parts);
    }
    place.write("gt/0.bmp", line("ab"));
    place.write("gt/0.gt.txt", " \n");
    place.run(&format!("{train} gt")).fails(&["no picture with a text"]);
    fs::create_dir_all(place.path("bare")).unwrap();
    place.write("bare/0.bmp", line("ab"));
    place.run(&format!("{train} bare")).fails(&["no pictures with texts", "NAME.gt.txt"]);
    assert!(!place.path("a.edelta").exists());
    // Rows that cannot be used are told, and the others learn.
    let rows =
        String::from_utf8(place.read("table/labels.csv")).unwrap() + "lines/none.bmp,print,ab\nlines/00.bmp,print,\n";
    place.write("table/some.csv", rows);
    let ran = place.run(&format!("{train} table/some.csv --epochs 1").replace("--epochs 60 ", "")).done();
    assert!(ran.err.contains("2 samples were skipped") && ran.err.contains("some.csv:43"), "{}", ran.err);
    // What is no reader of lines, and settings that a text has no use for.
    place.write("plain.onnx", super::models::perceptron(3));
    place.run(&format!("{train} list").replace("base.onnx", "plain.onnx")).fails(&["--loss ctc", "pictures"]);
    place.write("flat.onnx", super::models::segmenter(6, false));
    let flat = format!("{train} list --size 32x8").replace("base.onnx", "flat.onnx");
    place.run(&flat).fails(&["--loss ctc", "[batch, steps, characters]"]);
    place.run(&format!("{train} list --resize 8")).fails(&["--resize 8", "a line is seen as a whole"]);
    place.run("train base.onnx --loss ctc --solver ridge --data list --out a.edelta").fails(&["--solver", "a text"]);
    let other = "train base.onnx --size 32x8 --data list --loss binary-cross-entropy --out a.edelta";
    place.run(other).fails(&["list"]);
}
