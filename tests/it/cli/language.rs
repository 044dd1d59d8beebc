//! Language models, from a text to a text.

use super::Place;
use serde_json::{Value, json};

/// A folder with a small decoder as `base.onnx`, and its tokenizer.
fn with_decoder(model: &str) -> Place {
    let place = Place::new();
    place.link(&format!("tests/goldens/language/{model}.onnx"), "base.onnx");
    for file in ["tokenizer.json", "config.json"] {
        place.link(&format!("tests/goldens/language/{file}"), file);
    }
    place.write("text.txt", "the king and the queen of the land\nwhat is the matter with thee\n".repeat(40));
    place
}

const TRAIN: &str = "train base.onnx --tokenizer tokenizer.json --train last:4 --epochs 6 --lr 0.01 --max-length 24";

fn perplexities(report: &Value) -> (f64, f64) {
    let of = |when: &str| report["validation"][when]["perplexity"].as_f64().unwrap_or_else(|| panic!("{report}"));
    (of("before"), of("after"))
}

#[test]
fn a_text_is_learned_measured_and_gone_on_with_and_a_cache_changes_nothing() {
    let mut texts = Vec::new();
    for model in ["decoder", "decoder_cache"] {
        let place = with_decoder(model);
        let ran = place.run(&format!("{TRAIN} --data text.txt --test text.txt --out a.edelta")).done();
        assert!(ran.out.contains("perplexity ") && ran.out.contains(" tokens"), "{}", ran.out);
        let report = place.run(&format!("{TRAIN} --data text.txt --out a.edelta --json")).json();
        let (before, after) = perplexities(&report);
        assert!(after < 0.2 * before, "{before} → {after}");
        let last = report["epochs"].as_array().unwrap().last().unwrap();
        assert!(last["validation_perplexity"].as_f64().unwrap() < before, "{last}");

        let eval = "eval base.onnx --adapter a.edelta --data text.txt --tokenizer tokenizer.json";
        let measured = place.run(&format!("{eval} --json")).json();
        let (loss, perplexity) = (measured["loss"].as_f64().unwrap(), measured["perplexity"].as_f64().unwrap());
        assert!((loss.exp() - perplexity).abs() < 1e-9 * perplexity && perplexity < 0.2 * before, "{measured}");
        assert!(measured["tokens"].as_u64().unwrap() > 500, "{measured}");
        assert!(place.run(eval).done().out.starts_with("perplexity "));

        let predict = "predict base.onnx --adapter a.edelta --tokenizer tokenizer.json --max-new-tokens 12";
        place.write("prompts.txt", "the king\nwhat is\n");
        let made = place.run(&format!("{predict} prompts.txt --json")).json();
        assert_eq!(made.as_array().unwrap().len(), 2);
        assert_eq!(made[0]["prompt"], "the king");
        let completion = made[0]["completion"].as_str().unwrap();
        assert!(!completion.is_empty() && !made[0]["tokens"].as_array().unwrap().is_empty(), "{made}");
        let shown = place.run(&format!("{predict} --prompt what")).done().out;
        assert!(shown.starts_with("what") && shown.len() > 6, "{shown}");
        let drawn = |seed: u32| {
            place.run(&format!("{predict} --prompt what --temperature 5 --top-k 50 --seed {seed}")).done().out
        };
        assert_eq!(drawn(1), drawn(1));
        assert_ne!(drawn(1), drawn(2));
        texts.push(made);
    }
    assert_eq!(texts[0], texts[1], "with and without a cache");
}

#[test]
fn completions_are_learned_alone_or_packed() {
    let place = with_decoder("decoder");
    let rows: String = (0..60)
        .map(|row| json!({ "prompt": format!("{row} the king"), "completion": " and the queen" }).to_string() + "\n")
        .collect();
    place.write("rows.jsonl", rows);
    let tokens = |report: &Value| report["validation"]["after"]["tokens"].as_u64().unwrap();
    let alone = place.run(&format!("{TRAIN} --data rows.jsonl --out a.edelta --json")).json();
    let (before, after) = perplexities(&alone);
    assert!(after < 0.05 * before && after < 1.5, "{before} → {after}: there is one completion");
    assert_eq!(alone["train_samples"].as_u64().unwrap() + alone["validation_samples"].as_u64().unwrap(), 60);
    let each = tokens(&alone) / alone["validation_samples"].as_u64().unwrap();
    assert!((2..15).contains(&each), "{each} tokens of a completion are learned, not those of its prompt");
    let made = place.run("predict base.onnx --adapter a.edelta --tokenizer tokenizer.json rows.jsonl --json").json();
    assert_eq!(made[3]["completion"], " and the queen", "it ends where the completions did");

    let packed = place.run(&format!("{TRAIN} --packing --data rows.jsonl --out b.edelta --json")).json();
    let samples = packed["train_samples"].as_u64().unwrap() + packed["validation_samples"].as_u64().unwrap();
    assert!(samples < 60, "{samples} sequences of 60 rows");
    let (before, after) = perplexities(&packed);
    assert!(after < 0.2 * before, "{before} → {after}");
    let eval = "eval base.onnx --adapter b.edelta --tokenizer tokenizer.json --data rows.jsonl --json";
    let (plain, packed) = (place.run(eval).json(), place.run(&format!("{eval} --packing")).json());
    assert_eq!(plain["tokens"], packed["tokens"], "packing neither loses nor repeats a token");
    assert!(packed["samples"].as_u64() < plain["samples"].as_u64());
}

#[test]
fn runs_of_one_step_weigh_by_their_tokens() {
    let place = with_decoder("decoder");
    let rows: String = [4, 1, 9, 2, 3, 7]
        .iter()
        .map(|words| json!({ "text": "the king is ".repeat(*words) }).to_string() + "\n")
        .collect();
    place.write("rows.jsonl", rows);
    let short = TRAIN.replace("--lr 0.01", "--lr 0.1");
    let train = |batch: &str, out: &str| {
        let run = format!("{short} {batch} --optimizer sgd --val-fraction 0 --data rows.jsonl --out {out} --json");
        let report = place.run(&run).json();
        report["epochs"].as_array().unwrap().iter().map(|e| e["train_loss"].as_f64().unwrap()).collect::<Vec<_>>()
    };
    let whole = train("--batch 6", "a.edelta");
    let parts = train("--batch 4 --accumulate 2", "b.edelta");
    for (whole, parts) in whole.iter().zip(&parts) {
        assert!((whole - parts).abs() < 1e-4 * whole, "{whole} in one run, {parts} in two");
    }
}

#[test]
fn what_a_language_model_cannot_use_is_told_with_the_remedy() {
    let place = with_decoder("decoder");
    for (name, content) in [
        ("empty.txt", " \n\n"),
        ("word.txt", "a"),
        ("prompt.jsonl", "{\"prompt\": \"the king\"}\n"),
        ("other.jsonl", "{\"body\": \"the king\"}\n"),
        (
            "hole.jsonl",
            "{\"prompt\": \"the king\", \"completion\": \"x\"}\n{\"prompt\": \"b\", \"completion\": \"\"}\n",
        ),
        ("notext.jsonl", "{\"text\": \"the king\"}\n{\"text\": \" \"}\n"),
    ] {
        place.write(name, content);
    }
    let long = json!({ "prompt": "the king ".repeat(30), "completion": "x" });
    place.write("long.jsonl", long.to_string() + "\n");
    let bare = "train base.onnx --loss next-token --out a.edelta --data";
    std::fs::rename(place.path("tokenizer.json"), place.path("kept.json")).unwrap();
    place.run(&format!("{bare} text.txt")).fails(&["text.txt", "--tokenizer FILE"]);
    place.run("predict base.onnx --prompt a").fails(&["--tokenizer FILE"]);
    std::fs::rename(place.path("kept.json"), place.path("tokenizer.json")).unwrap();
    let bare = format!("{bare} empty.txt --tokenizer tokenizer.json");
    place.run(&bare).fails(&["empty.txt", "no text to learn from"]);
    let data = |name: &str| place.run(&format!("{TRAIN} --loss next-token --out a.edelta --data {name}"));
    data("prompt.jsonl").fails(&["prompt.jsonl:1", "`prompt` without `completion`"]);
    data("other.jsonl").fails(&["other.jsonl:1", "no column `text`", "`completion`", "body"]);
    data("hole.jsonl").fails(&["hole.jsonl:2", "no completion"]);
    data("notext.jsonl").fails(&["notext.jsonl:2", "no text"]);
    data("long.jsonl").fails(&["long.jsonl:1", "fills the 24", "--max-length"]);
    place.run(&format!("{TRAIN} --data text.txt --bos-token <x> --out a.edelta")).fails(&["bos-token", "<x>"]);
    place.run("train base.onnx --tokenizer tokenizer.json --data text.txt --max-length 2").fails(&["max-length", "3"]);

    let predict = "predict base.onnx --tokenizer tokenizer.json";
    place.run(&format!("{predict} --prompt {}", "king".repeat(80))).fails(&["--prompt", "too long"]);
    let full = place.run(&format!("{predict} --prompt a --max-new-tokens 80")).done();
    assert!(full.err.contains("no more than 64 tokens; lower --max-new-tokens") && full.out.len() > 60, "{full:?}");
    place.run(&format!("{predict} --prompt a --temperature -1")).fails(&["--temperature"]);
    place.run(&format!("{predict} --prompt a --top-p 2")).fails(&["--top-p"]);
    let classifier = Place::with_table(2, "label", |row| (row[0] > 0.0).to_string());
    classifier.run("train base.onnx --data table.csv --epochs 1 --out a.edelta").done();
    classifier.run("predict base.onnx --adapter a.edelta --prompt a").fails(&["--prompt", "not of a language model"]);
    classifier.run("train base.onnx --data table.csv --packing").fails(&["--packing", "language model"]);
}

#[test]
fn low_rank_factors_of_a_language_model_are_learned_and_gone_on_with() {
    let place = with_decoder("decoder_cache");
    let train = TRAIN.replace("--train last:4", "--adapter lora --targets *q* --targets *v*");
    let report = place.run(&format!("{train} --data text.txt --out a.edelta --json")).json();
    let (before, after) = perplexities(&report);
    assert!(after < 0.7 * before, "{before} → {after}");
    let made = place.run("predict base.onnx --adapter a.edelta --tokenizer tokenizer.json --prompt what --json").json();
    let bare = place.run("predict base.onnx --tokenizer tokenizer.json --prompt what --json").json();
    assert_ne!(made[0]["tokens"], bare[0]["tokens"], "the adapter changes what follows");
}

#[test]
fn check_and_prepare_take_a_language_model() {
    let place = with_decoder("decoder_cache");
    let rows = place.run("check base.onnx --train last:2 --loss next-token --json").json();
    assert!(rows.as_array().unwrap().iter().all(|row| row["verdict"] != "DIFFERS"), "{rows}");
    let made = place.run("prepare base.onnx --train last:2 --loss next-token --out bundle --json").json();
    assert_eq!(made["output"], "logits");
    place.run("prepare base.onnx --loss huber --out bundle").fails(&["--classes"]);
}
