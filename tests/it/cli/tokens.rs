//! A class for each word, from the files that people have to spans in a text.

use super::Place;
use super::kinds::tokenizer;
use super::models::{npy, npy_i64, tagger};
use serde_json::{Value, json};

const WORDS: [&str; 14] =
    ["anna", "bob", "lives", "in", "new", "york", "rome", "works", "at", "acme", "and", "the", ",", "."];
const SENTENCES: [(&str, &str); 6] = [
    ("anna lives in new york .", "B-PER O O B-LOC I-LOC O"),
    ("bob works at acme , in rome", "B-PER O O B-ORG O O B-LOC"),
    ("the bob and anna", "O B-PER O B-PER"),
    ("acme lives in rome and new york", "B-ORG O O B-LOC O B-LOC I-LOC"),
    ("anna works at the acme", "B-PER O O O B-ORG"),
    ("in rome , bob lives", "O B-LOC O B-PER O"),
];
const TRAIN: &str =
    "train base.onnx --tokenizer tokenizer.json --train last:2 --epochs 60 --batch 4 --lr 0.02 --val-fraction 0.2";

/// A model of tokens and the sentences, five times each, in every form.
fn place(width: u64) -> Place {
    let place = Place::new();
    place.write("base.onnx", tagger(2 + WORDS.len() as u64, width));
    place.write("tokenizer.json", tokenizer(&WORDS));
    let (mut words, mut listed, mut spans, mut conll) = (String::new(), String::new(), String::new(), String::new());
    for number in 0..30 {
        // Each row is another one: equal ones stand on one side.
        let (text, tags) = SENTENCES[number % 6];
        let (text, tags) =
            (format!("{text}{}", " the".repeat(number / 6)), format!("{tags}{}", " O".repeat(number / 6)));
        let (tokens, tags): (Vec<&str>, Vec<&str>) = (text.split(' ').collect(), tags.split(' ').collect());
        words += &format!("{}\n", json!({ "tokens": tokens, "ner_tags": tags }));
        listed += &format!("{}\n", json!({ "text": text, "label": tags }));
        spans += &format!("{}\n", json!({ "text": text, "spans": spans_of(&tokens, &tags) }));
        tokens.iter().zip(&tags).for_each(|(word, tag)| conll += &format!("{word}\tx\t{tag}\n"));
        conll += "\n";
    }
    place.write("words.jsonl", words);
    place.write("listed.jsonl", listed);
    place.write("spans.jsonl", spans);
    place.write("conll.txt", &conll);
    place.write("names.conll", conll);
    place
}

/// Where entities are, in characters.
fn spans_of(tokens: &[&str], tags: &[&str]) -> Vec<Value> {
    let (mut spans, mut at): (Vec<(usize, usize, &str)>, usize) = (Vec::new(), 0);
    for (token, tag) in tokens.iter().zip(tags) {
        match tag.split_once('-') {
            Some(("B", class)) => spans.push((at, at + token.len(), class)),
            Some(_) => spans.last_mut().unwrap().1 = at + token.len(),
            None => {}
        }
        at += token.len() + 1;
    }
    spans.into_iter().map(|(start, end, label)| json!({ "start": start, "end": end, "label": label })).collect()
}

fn number(document: &Value, name: &str) -> f64 {
    document[name].as_f64().unwrap_or_else(|| panic!("{document}"))
}

#[test]
fn words_are_learned_from_every_form_and_told_as_spans() {
    let place = place(5);
    let mut deltas = Vec::new();
    for data in ["words.jsonl", "listed.jsonl", "conll.txt", "names.conll", "spans.jsonl"] {
        let ran = place.run(&format!("{TRAIN} --data {data} --out {data}.edelta")).done();
        assert!(ran.out.contains("entity f1") && ran.err.contains("kept: 5 outputs"), "{data}: {}{}", ran.out, ran.err);
        deltas.push(place.read(&format!("{data}.edelta")));
    }
    assert!(deltas.iter().all(|delta| *delta == deltas[0]), "the same words gave another delta");
    // Whoever names the loss of classes means those of words here.
    place.run(&format!("{TRAIN} --loss cross-entropy --data words.jsonl --out again.edelta")).done();
    assert!(place.read("again.edelta") == deltas[0]);
    let eval = "eval base.onnx --adapter words.jsonl.edelta --tokenizer tokenizer.json --json --data";
    let measured = place.run(&format!("{eval} conll.txt")).json();
    for name in ["entity_f1", "entity_precision", "entity_recall", "accuracy"] {
        assert!(number(&measured, name) > 0.95, "{measured}");
    }
    let predict = "predict base.onnx --adapter words.jsonl.edelta --tokenizer tokenizer.json";
    let text = "anna works at acme, in new york.";
    let answers = place.command(predict).arg("--json").arg(text).output().unwrap();
    let answers: Value = serde_json::from_slice(&answers.stdout).unwrap();
    let told: Vec<(u64, u64, &str, &str)> = answers[0]["spans"]
        .as_array()
        .unwrap_or_else(|| panic!("{answers}"))
        .iter()
        .map(|span| {
            let at = |name: &str| span[name].as_u64().unwrap();
            (at("start"), at("end"), span["text"].as_str().unwrap(), span["class"].as_str().unwrap())
        })
        .collect();
    assert_eq!(told, [(0, 4, "anna", "PER"), (14, 18, "acme", "ORG"), (23, 31, "new york", "LOC")]);
    assert!(answers[0]["spans"][0]["score"].as_f64().unwrap() > 0.5);
    let table = place.run(&format!("{predict} words.jsonl --csv")).done().out;
    assert!(table.starts_with("input,start,end,text,class,score\nwords.jsonl:1,0,4,anna,PER,"), "{table}");
    let line = place.run(&format!("{predict} names.conll")).done().out;
    assert!(line.contains("PER \"anna\" 0–4"), "{line}");
}

#[test]
fn another_number_of_tags_gets_a_head_of_its_own_and_what_is_learned_goes_on() {
    let place = place(3);
    let ran = place.run(&format!("{TRAIN} --data words.jsonl --class-weights balanced --out a.edelta")).done();
    assert!(ran.err.contains("replaced: 3 → 5 outputs"), "{}", ran.err);
    let eval = "eval base.onnx --tokenizer tokenizer.json --data conll.txt --json --adapter";
    assert!(number(&place.run(&format!("{eval} a.edelta")).json(), "entity_f1") > 0.9);
    // A head on features, and a merged model that gives the same.
    place.run(&format!("{TRAIN} --data words.jsonl --output hidden --head append --out b.edelta")).done();
    let before = place.run(&format!("{eval} b.edelta")).json();
    assert!(number(&before, "entity_f1") > 0.9, "{before}");
    place.run("export --adapter b.edelta --model base.onnx --to onnx --out merged.onnx").done();
    let more = "--tokenizer tokenizer.json --data words.jsonl --from b.edelta --epochs 2 --lr 0.01 --out c.edelta";
    place.run(&format!("train base.onnx {more}")).done();
    assert!(number(&place.run(&format!("{eval} c.edelta")).json(), "entity_f1") > 0.9);
}

#[test]
fn numbers_of_tags_are_places_among_the_names() {
    let place = place(5);
    let names = ["O", "B-PER", "B-ORG", "B-LOC", "I-LOC"];
    let rows: String = String::from_utf8(place.read("words.jsonl"))
        .unwrap()
        .lines()
        .map(|line| {
            let mut row: Value = serde_json::from_str(line).unwrap();
            for tag in row["ner_tags"].as_array_mut().unwrap() {
                *tag = json!(names.iter().position(|name| *tag == *name).unwrap());
            }
            row.to_string() + "\n"
        })
        .collect();
    place.write("numbers.jsonl", rows);
    place.run(&format!("{TRAIN} --data numbers.jsonl --classes {} --out a.edelta", names.join(","))).done();
    let eval = "eval base.onnx --adapter a.edelta --tokenizer tokenizer.json --json --data";
    assert!(number(&place.run(&format!("{eval} words.jsonl")).json(), "entity_f1") > 0.95);
    // Arrays hold tokens, and −100 where none counts.
    let (mut ids, mut tags) = (vec![0i64; 30 * 4], vec![-100i64; 30 * 4]);
    for row in 0..30 {
        for place in 0..3 {
            ids[row * 4 + place] = 2 + ((row + place) % WORDS.len()) as i64;
            tags[row * 4 + place] = i64::from(ids[row * 4 + place] < 4);
        }
    }
    place.write("arrays/x.npy", npy_i64(&[30, 4], &ids));
    place.write("arrays/y.npy", npy_i64(&[30, 4], &tags));
    let train = "train base.onnx --loss token-cross-entropy --train last:2 --epochs 40 --lr 0.02 --batch 4 --out b.edelta --data";
    let report = place.run(&format!("{train} arrays --json")).json();
    assert!(report["validation"]["after"]["accuracy"].as_f64().unwrap() > 0.9, "{report}");
    place.write("wrong/x.npy", npy_i64(&[30, 4], &ids));
    place.write("wrong/y.npy", npy(&[30, 4], &[0.5; 120]));
    place.run(&format!("{train} wrong")).fails(&["row 0", "0.5 is no class number from 0"]);
    place.write("wrong/y.npy", npy_i64(&[30, 4], &[-100; 120]));
    place.run(&format!("{train} wrong")).fails(&["no token counts"]);
}

#[test]
fn what_is_no_row_of_words_is_told_with_its_line() {
    let place = place(5);
    let train = format!("{TRAIN} --loss token-cross-entropy --out a.edelta --data");
    for (name, content, parts) in [
        ("a.jsonl", r#"{"tokens": ["a", "b"], "ner_tags": ["O"]}"#, &["a.jsonl:1", "1 tags for 2 words"][..]),
        ("b.jsonl", r#"{"tokens": "anna", "ner_tags": ["O"]}"#, &["b.jsonl:1", "`tokens` is no list of words"]),
        ("c.jsonl", r#"{"tokens": ["a"], "ner_tags": [1.5]}"#, &["c.jsonl:1", "1.5 is no tag"]),
        ("d.jsonl", r#"{"tokens": ["a"], "ner_tags": [99999999]}"#, &["class number 99999999"]),
        ("e.jsonl", r#"{"tokens": ["a"], "x": ["O"]}"#, &["e.jsonl:1", "no column `ner_tags`", "tokens, x"]),
        ("f.jsonl", r#"{"text": "anna", "spans": [[2, 9, "PER"]]}"#, &["f.jsonl:1", "span 2–9", "4 characters"]),
        ("g.jsonl", r#"{"text": "anna", "spans": [{"start": 1}]}"#, &["g.jsonl:1", "is no span"]),
        ("h.conll", "anna\tB-PER\nlives\n", &["h.conll:2", "`lives` has no tag"]),
        ("i.conll", "\n\n", &["no words"]),
        ("j.jsonl", r#"{"tokens": [], "ner_tags": []}"#, &["no row has words"]),
    ] {
        place.write(name, content);
        place.run(&format!("{train} {name}")).fails(parts);
    }
    assert!(!place.path("a.edelta").exists());
    // A model with one row a sample has none for a word.
    place.write("plain.onnx", super::models::perceptron(3));
    place.run(&format!("{train} conll.txt").replace("base.onnx", "plain.onnx")).fails(&["takes no token numbers"]);
    let other = "train base.onnx --tokenizer tokenizer.json --loss binary-cross-entropy --out a.edelta --data";
    place.run(&format!("{other} conll.txt")).fails(&["--loss token-cross-entropy"]);
    let known = format!("{train} words.jsonl --classes O,B-PER,B-LOC,I-LOC");
    place.run(&known).fails(&["words.jsonl:2", "`B-ORG`"]);
}
