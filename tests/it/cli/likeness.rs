//! Likeness, from identities, pairs and triplets to who somebody is.

use super::Place;
use super::kinds::tokenizer;
use super::models::{noise, perceptron, tagger};
use serde_json::{Value, json};

const LONG: &str = "--train last:2 --epochs 40 --batch 16 --lr 0.02";
const WORDS: [&str; 12] =
    ["red", "rouge", "blue", "bleu", "green", "vert", "one", "un", "two", "deux", "house", "maison"];

/// Six identities of eight samples that two of four numbers tell, the other two are noise.
fn people() -> Place {
    let place = Place::new();
    place.write("base.onnx", perceptron(5));
    let mut table = "a,b,c,d,label\n".to_string();
    for (sample, row) in noise(9, 48 * 4).chunks_exact(4).enumerate() {
        let person = sample % 6;
        let (x, y) = ((person % 3) as f32 - 1.0, (person / 3) as f32 - 0.5);
        table += &format!("{},{},{},{},p{person}\n", x + 0.1 * row[0], y + 0.1 * row[1], row[2], row[3]);
    }
    place.write("people.csv", table);
    place
}

fn recall(place: &Place, delta: &str, data: &str) -> f64 {
    let measured = place.run(&format!("eval base.onnx --adapter {delta} --data {data} --json")).json();
    measured["recall_at_1"].as_f64().unwrap_or_else(|| panic!("{measured}"))
}

#[test]
fn identities_are_learned_enrolled_and_recognised() {
    let place = people();
    for loss in ["triplet", "supervised-contrastive", "multiple-negatives"] {
        let ran = place
            .run(&format!("train base.onnx --data people.csv --loss {loss} --embedding 3 {LONG} --out {loss}.edelta"));
        let ran = ran.done();
        assert!(ran.err.contains("by identity") && ran.out.contains("recall at 1"), "{}\n{}", ran.err, ran.out);
        let found = recall(&place, &format!("{loss}.edelta"), "people.csv");
        assert!(found > 0.85, "{loss}: {found}");
    }
    let enrol = "enroll-identity base.onnx --adapter triplet.edelta --data people.csv --out people.knn";
    let told = place.run(&format!("{enrol} --false-accepts 0.05 --json")).json();
    assert_eq!((told["identities"].as_u64(), told["samples"].as_u64()), (Some(6), Some(48)), "{told}");
    assert!(told["false_accepts"].as_f64().unwrap() <= 0.05 && told["recognised"].as_f64().unwrap() > 0.5, "{told}");
    let predict = "predict base.onnx --adapter triplet.edelta --identities people.knn people.csv";
    let answers = place.run(&format!("{predict} --json")).json();
    let answers = answers.as_array().unwrap();
    let right = |(row, answer): &(usize, &Value)| answer["identity"] == format!("p{}", row % 6);
    assert!(answers.iter().enumerate().filter(right).count() > 40, "{answers:?}");
    assert!(
        answers.iter().all(|answer| answer["similarity"].as_f64().unwrap() <= 1.0001 && answer.get("values").is_none())
    );
    let table = place.run(&format!("{predict} --csv")).done().out;
    assert!(table.starts_with("input,identity,nearest,similarity\n"), "{table}");
    // Above all cosines nobody is recognised.
    place.run(&format!("{enrol} --threshold 1 --force")).done();
    let lines = place.run(predict).done().out;
    assert!(lines.lines().filter(|line| line.contains("unknown (nearest p")).count() > 20, "{lines}");
}

#[test]
fn identities_belong_to_their_adapter_and_damage_is_told() {
    let place = people();
    let train = "train base.onnx --data people.csv --loss triplet --embedding 3 --epochs 1";
    place.run(&format!("{train} --out a.edelta")).done();
    place.run(&format!("{train} --seed 1 --out b.edelta")).done();
    place.run("enroll-identity base.onnx --adapter a.edelta --data people.csv --out people.knn").done();
    let predict = |delta: &str| format!("predict base.onnx --adapter {delta} --identities people.knn people.csv");
    place.run(&predict("b.edelta")).fails(&["people.knn", "another adapter"]);
    let mut bytes = place.read("people.knn");
    bytes[100] ^= 1;
    place.write("people.knn", bytes);
    place.run(&predict("a.edelta")).fails(&["people.knn", "damaged", "enroll-identity"]);
    place.run("train base.onnx --data people.csv --epochs 1 --out c.edelta").done();
    place.run(&predict("c.edelta")).fails(&["c.edelta", "not trained for likeness", "--loss multiple-negatives"]);
    place
        .run("enroll-identity base.onnx --adapter c.edelta --data people.csv --out n.knn")
        .fails(&["not trained for likeness"]);
    let enrol = "enroll-identity base.onnx --adapter a.edelta --data people.csv --out";
    place.run(&format!("{enrol} n.knn --false-accepts 1")).fails(&["--false-accepts"]);
    place.run(&format!("{enrol} people.csv")).fails(&["people.csv", "input"]);
}

#[test]
fn what_cannot_be_compared_is_refused() {
    let place = people();
    let train = |rest: &str| format!("train base.onnx --out a.edelta {rest}");
    place.write("one.csv", "a,b,c,d,label\n1,2,3,4,ann\n2,3,4,5,ann\n");
    place.run(&train("--data one.csv --loss triplet")).fails(&["one identity"]);
    place.write("alone.csv", "a,b,c,d,label\n1,2,3,4,ann\n2,3,4,5,bob\n");
    place.run(&train("--data alone.csv --loss triplet")).fails(&["no identity has two samples"]);
    place
        .run(&train("--data people.csv --loss cosine-similarity"))
        .fails(&["no pair has a score", "multiple-negatives"]);
    place.run(&train("--data people.csv --loss triplet --solver ridge")).fails(&["--solver", "no closed form"]);
    place.run(&train("--data people.csv --embedding 3")).fails(&["--embedding", "--loss multiple-negatives"]);
    place.run(&train("--data people.csv --loss triplet --embedding 0")).fails(&["--embedding"]);
    place.run(&train("--data nowhere --loss triplet")).fails(&["nowhere"]);
    assert!(!place.path("a.edelta").exists());
}

/// English and French words, alone and beside others.
fn pairs() -> Place {
    let place = Place::new();
    place.write("base.onnx", tagger(2 + WORDS.len() as u64, 4));
    place.write("tokenizer.json", tokenizer(&WORDS));
    let (mut alike, mut triplets, mut scored) =
        (String::new(), String::new(), "sentence1,sentence2,score\n".to_string());
    let text = |kind: usize, other: usize, french: usize| {
        format!("{} {}", WORDS[2 * kind + french], WORDS[2 * other + french])
    };
    for (kind, other) in (0..6).flat_map(|kind| (0..6).map(move |other| (kind, other))) {
        let (query, passage) = (text(kind, other, 0), text(kind, other, 1));
        alike += &format!("{}\n", json!({ "query": query, "passage": passage }));
        let negative = text((kind + 1) % 6, other, 1);
        triplets += &format!("{}\n", json!({ "anchor": query, "positive": passage, "negative": negative }));
        scored += &format!("{query},{passage},1\n{query},{},0.3\n", text((kind + 2) % 6, other, 1));
    }
    place.write("pairs.jsonl", alike);
    place.write("triplets.jsonl", triplets);
    place.write("scored.csv", scored);
    place
}

#[test]
fn pairs_and_triplets_choose_their_loss_and_scores_are_followed() {
    let place = pairs();
    let train = "train base.onnx --tokenizer tokenizer.json --output hidden --train last:2 --epochs 60 --lr 0.02";
    for data in ["pairs.jsonl", "triplets.jsonl"] {
        let ran = place.run(&format!("{train} --data {data} --batch 16 --out a.edelta")).done();
        assert!(
            ran.err.contains("the features as they are") && ran.out.contains("recall at 1"),
            "{}{}",
            ran.err,
            ran.out
        );
        let measured =
            place.run(&format!("eval base.onnx --adapter a.edelta --tokenizer tokenizer.json --data {data} --json"));
        let measured = measured.json();
        assert!(measured["recall_at_1"].as_f64().unwrap() > 0.5, "{data}: {measured}");
    }
    place.run(&format!("{train} --data scored.csv --out b.edelta")).done();
    let measured =
        place.run("eval base.onnx --adapter b.edelta --tokenizer tokenizer.json --data scored.csv --json").json();
    assert!(measured["spearman"].as_f64().unwrap() > 0.5, "{measured}");
    place
        .run(&format!("{train} --data scored.csv --loss triplet --out c.edelta"))
        .fails(&["have scores", "cosine-similarity"]);
    place.write("stars.csv", "sentence1,sentence2,score\nred,rouge,5\n");
    place.run(&format!("{train} --data stars.csv --out c.edelta")).fails(&["stars.csv:2", "outside of", "divide"]);
    place.write("gap.csv", "query,passage\nred,rouge\nblue,\ngreen,vert\none,un\n");
    let short = train.replace("--epochs 60", "--epochs 1");
    let ran = place.run(&format!("{short} --data gap.csv --out d.edelta")).done();
    assert!(ran.err.contains("gap.csv:3") && ran.err.contains("`passage` is empty"), "{}", ran.err);
    let answers = place.run("predict base.onnx --adapter d.edelta --tokenizer tokenizer.json red --json").json();
    let values: Vec<f64> =
        answers[0]["values"].as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect();
    let length: f64 = values.iter().map(|value| value * value).sum();
    assert!(values.len() == 16 && (length - 1.0).abs() < 1e-4, "{answers}");
    let enrol =
        "enroll-identity base.onnx --adapter d.edelta --tokenizer tokenizer.json --data pairs.jsonl --out p.knn";
    place.run(enrol).fails(&["pairs.jsonl", "no names"]);
}
