//! Every kind of data, loss and head, from the files to the predictions.

use super::models::{noise, npy, npy_i64, two_outputs};
use super::{Place, project};
use serde_json::Value;
use std::io::Write;

/// The report of a run with these options.
fn report(place: &Place, arguments: &str) -> Value {
    place.run(&format!("{arguments} --json")).json()
}

/// Loss on held-out samples before and after.
fn held_out(report: &Value) -> (f64, f64) {
    let loss = |when: &str| report["validation"][when]["loss"].as_f64().unwrap_or_else(|| panic!("{report}"));
    (loss("before"), loss("after"))
}

fn losses(report: &Value) -> Vec<f64> {
    report["epochs"].as_array().unwrap().iter().map(|epoch| epoch["train_loss"].as_f64().unwrap()).collect()
}

/// A sensor's reading a file: what is measured is told by its first number.
#[test]
fn a_folder_of_arrays_is_learned_and_predicted() {
    let place = Place::with_table(2, "label", |_| "unused".into());
    for (number, values) in noise(5, 64 * 4).chunks_exact(4).enumerate() {
        let class = if values[0] > 0.0 { "up" } else { "down" };
        place.write(&format!("readings/{class}/{number}.npy"), npy(&[4], values));
    }
    let run = report(&place, &format!("train base.onnx --data readings {LONG}"));
    let (before, after) = held_out(&run);
    assert!(after < 0.5 * before, "{before} → {after}");
    let measured = place.run("eval base.onnx --adapter a.edelta --data readings --json").json();
    assert!(measured["accuracy"].as_f64().unwrap() > 0.9, "{measured}");
    let answers = place.run("predict base.onnx --adapter a.edelta readings --json").json();
    let answers = answers.as_array().unwrap();
    let right = |answer: &&Value| {
        answer["input"].as_str().unwrap().contains(&format!("/{}/", answer["classes"][0]["name"].as_str().unwrap()))
    };
    assert_eq!(answers.len(), 64);
    assert!(answers.iter().filter(right).count() > 57, "{answers:?}");
    place.write("wide/up/1.npy", npy(&[5], &[0.0; 5]));
    place.write("wide/down/1.npy", npy(&[5], &[1.0; 5]));
    place.run("train base.onnx --data wide --out b.edelta").fails(&["1.npy: input", "shape [5]", "float[batch,4]"]);
}

const LONG: &str = "--train last:2 --epochs 40 --batch 8 --lr 0.02 --out a.edelta";

#[test]
fn sets_of_classes_are_learned_from_csv_and_jsonl() {
    let set = |row: &[f32]| match (row[0] > 0.0, row[1] > 0.0) {
        (true, true) => "left;up",
        (true, false) => "left",
        (false, true) => "up",
        (false, false) => "[]",
    };
    let place = Place::with_table(5, "label", |row| set(row).into());
    let lines: String = noise(5, 64 * 4)
        .chunks_exact(4)
        .map(|row| {
            let names: Vec<&str> = set(row).split(';').filter(|name| *name != "[]").collect();
            serde_json::json!({ "x": row, "label": names }).to_string() + "\n"
        })
        .collect();
    place.write("table.jsonl", lines);
    let mut deltas = Vec::new();
    for table in ["table.csv", "table.jsonl"] {
        let run = report(&place, &format!("train base.onnx --data {table} --loss binary-cross-entropy {LONG}"));
        let (before, after) = held_out(&run);
        assert!(after < 0.5 * before, "{table}: {before} → {after}");
        deltas.push(place.read("a.edelta"));
    }
    assert!(deltas[0] == deltas[1], "the same rows gave another delta");
    let measured = place.run("eval base.onnx --adapter a.edelta --data table.csv --json").json();
    assert!(measured["accuracy"].as_f64().unwrap() > 0.9, "{measured}");
    assert_eq!(measured["per_class"], serde_json::json!({}));
    let answers = place.run("predict base.onnx --adapter a.edelta table.csv --json").json();
    assert_eq!(answers.as_array().unwrap().len(), 64);
    let names: Vec<&str> =
        answers[0]["classes"].as_array().unwrap().iter().map(|class| class["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["left", "up"], "every class has its own probability, in the order of the outputs");
}

#[test]
fn numbers_are_learned_from_a_table() {
    let targets = |row: &[f32]| format!("{},{}", row[0] - row[1], row[2] + 0.5);
    let place = Place::with_table(2, "u,v", targets);
    for loss in ["mean-squared-error", "huber"] {
        let run = report(&place, &format!("train base.onnx --data table.csv --label u --label v --loss {loss} {LONG}"));
        let (before, after) = held_out(&run);
        assert!(after < 0.2 * before, "{loss}: {before} → {after}");
        assert_eq!(run["epochs"][0]["validation_accuracy"], Value::Null);
    }
    let measured = place.run("eval base.onnx --adapter a.edelta --data table.csv --label u --label v --json").json();
    assert_eq!(measured["accuracy"], Value::Null);
    assert!(measured["loss"].as_f64().unwrap() < 0.1);
    place.run("eval base.onnx --adapter a.edelta --data table.csv --label u").fails(&["2", "v"]);
    // Rows to predict have no label columns, or they are named to be left out.
    let table = String::from_utf8(place.read("table.csv")).unwrap();
    let bare: String = table.lines().map(|line| line.rsplitn(3, ',').last().unwrap().to_string() + "\n").collect();
    place.write("bare.csv", bare);
    let bare = place.run("predict base.onnx --adapter a.edelta bare.csv --json").json();
    let named = place.run("predict base.onnx --adapter a.edelta table.csv --label u --label v --json").json();
    for (bare, named) in bare.as_array().unwrap().iter().zip(named.as_array().unwrap()) {
        assert_eq!(bare["values"].as_array().unwrap().len(), 2);
        assert_eq!(bare["values"], named["values"]);
        assert_eq!(bare["input"].as_str().unwrap().replace("bare", "table"), named["input"].as_str().unwrap());
    }
}

/// A tokenizer of the Hugging Face kind whose words are numbered as they are listed.
pub fn tokenizer(words: &[&str]) -> String {
    let vocabulary: serde_json::Map<String, Value> =
        ["[PAD]", "[UNK]"].iter().chain(words).zip(0..).map(|(word, id)| (word.to_string(), id.into())).collect();
    serde_json::json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": { "type": "Whitespace" }, "post_processor": null, "decoder": null,
        "model": { "type": "WordLevel", "vocab": vocabulary, "unk_token": "[UNK]" },
    })
    .to_string()
}

#[test]
fn texts_are_learned_with_a_tokenizer() {
    let place = Place::with_model("encoder_torchscript");
    let (good, bad) = (["fine", "warm", "bright"], ["broken", "cold", "dim"]);
    let words: Vec<&str> = ["the", "lamp", "is", "very"].into_iter().chain(good).chain(bad).collect();
    place.write("tokenizer.json", tokenizer(&words));
    let mut texts = Vec::new();
    for (word, label) in good.map(|word| (word, "good")).into_iter().chain(bad.map(|word| (word, "bad"))) {
        for start in ["the lamp is", "lamp is very", "very very", "is the lamp", "lamp"] {
            texts.push((label, format!("{start} {word}")));
        }
    }
    let jsonl: String = texts
        .iter()
        .map(|(label, text)| serde_json::json!({ "text": text, "label": label }).to_string() + "\n")
        .collect();
    place.write("texts.jsonl", jsonl);
    place.write("texts.txt", texts.iter().map(|(label, text)| format!("{label}\t{text}\n")).collect::<String>());
    place.write("new.txt", "the lamp is warm\nvery very cold\n");
    let train = "train base.onnx --tokenizer tokenizer.json --train last:3 --epochs 30 --batch 8 --lr 0.01 --out";
    let run = report(&place, &format!("{train} a.edelta --data texts.jsonl"));
    let (before, after) = held_out(&run);
    assert!(after < 0.5 * before, "{before} → {after}");
    place.run(&format!("{train} b.edelta --data texts.txt")).done();
    assert!(place.read("a.edelta") == place.read("b.edelta"), "the same texts gave another delta");

    let eval = "eval base.onnx --adapter a.edelta --data texts.jsonl --json";
    let found = place.run(eval).done();
    assert!(found.err.contains("tokenizer ") && found.err.contains("tokenizer.json"), "{}", found.err);
    assert_eq!(found.json()["accuracy"], 1.0);
    let said = place.run("predict base.onnx --adapter a.edelta new.txt --tokenizer tokenizer.json").done().out;
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines[0].starts_with("new.txt:1: good ") && lines[1].starts_with("new.txt:2: bad "), "{said}");
    assert!(lines[0].ends_with("\"the lamp is warm\""), "{said}");

    let predict = "predict base.onnx --adapter a.edelta --csv";
    let mut command = place.command(predict);
    command.args(["the lamp is warm", "very very cold"]);
    let table = super::finished(command).done().out;
    let rows: Vec<&str> = table.lines().collect();
    assert_eq!(rows[0], "input,text,class,probability");
    assert!(
        rows[1].starts_with("text:1,the lamp is warm,good,") && rows[2].starts_with("text:2,very very cold,bad,"),
        "{table}"
    );
    place.run(&format!("{predict} nwe.txt")).fails(&["nwe.txt", "check the path"]);
    place.run(&format!("{predict} -")).fails(&["standard input holds no text"]);
    std::fs::rename(place.path("tokenizer.json"), place.path("other.json")).unwrap();
    place.run(eval).fails(&["texts.jsonl", "--tokenizer FILE"]);
}

/// A `.npz` file.
pub fn npz(arrays: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, bytes) in arrays {
        archive.start_file(format!("{name}.npy"), zip::write::SimpleFileOptions::default()).unwrap();
        archive.write_all(bytes).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

#[test]
fn arrays_are_fed_as_they_are() {
    let place = Place::with_model("encoder_torchscript");
    place.link("tests/goldens/training/mobilenet_folded.onnx", "images.onnx");
    let ids: Vec<i64> = (0..32 * 6).map(|place| 2 + (place * 7 + place / 6) % 20).collect();
    let labels: Vec<i64> = (0..32).map(|row| row % 2).collect();
    let arrays = [
        ("input_ids", npy_i64(&[32, 6], &ids)),
        ("attention_mask", npy_i64(&[32, 6], &[1; 32 * 6])),
        ("labels", npy_i64(&[32], &labels)),
    ];
    place.write("tokens.npz", npz(&arrays));
    place.run("train base.onnx --data tokens.npz --epochs 2 --batch 8 --out a.edelta").done();
    place.run("predict base.onnx --adapter a.edelta tokens.npz").done();
    place.write("one.npz", npz(&arrays[..1]));
    place.run("predict base.onnx --adapter a.edelta one.npz").fails(&["attention_mask", "save one"]);

    place.write("pixels/x.npy", npy(&[32, 3, 16, 16], &noise(1, 32 * 768)));
    place.write("pixels/y.npy", npy_i64(&[32], &labels));
    let train = "train images.onnx --data pixels --epochs 2 --batch 8 --out a.edelta";
    place.run(&format!("{train} --size 16")).fails(&["--size", "arrays are fed as they are", "remove"]);
    place.run(train).done();
    let answers = place.run("predict images.onnx --adapter a.edelta pixels/x.npy --json").json();
    assert_eq!(answers.as_array().unwrap().len(), 32);
    // What was learned from photographs may be asked with arrays, but not silently.
    place.photographs("train", &["cat", "dog"], 6);
    place.run("train images.onnx --data train --epochs 1 --batch 8 --out b.edelta").done();
    let told = place.run("predict images.onnx --adapter b.edelta pixels").done();
    assert!(told.err.contains("warning: pixels: arrays are fed as they are"), "{}", told.err);
}

#[test]
fn heads_are_kept_replaced_or_appended() {
    let place = Place::with_table(2, "label", |row| if row[0] > 0.0 { "a".into() } else { "b".into() });
    place.write("two.onnx", two_outputs());
    let train = "--data table.csv --epochs 30 --batch 8 --lr 0.05 --out a.edelta";
    for (model, more, output, head) in [
        // Nobody trained its outputs, so that they are worse than chance.
        ("base.onnx", "", "Gemm", "replaced: 2 → 2 outputs"),
        ("base.onnx", "--head keep", "Gemm", "kept: 2 outputs"),
        ("base.onnx", "--head append", "Gemm", "appended to"),
        ("two.onnx", "", "Tanh", "appended to"),
        ("two.onnx", "--output other", "Gemm", "replaced: 3 → 2 outputs"),
    ] {
        let run = report(&place, &format!("train {model} {train} {more}"));
        assert!(run["output"].as_str().unwrap().contains(output), "{model} {more}: {}", run["output"]);
        assert!(run["head"].as_str().unwrap().starts_with(head), "{model} {more}: {}", run["head"]);
        let (before, after) = held_out(&run);
        assert!(after < 0.95 * before, "{model} {more}: {before} → {after}");
        let measured = place.run(&format!("eval {model} --adapter a.edelta --data table.csv --json")).json();
        assert!(measured["accuracy"].as_f64().unwrap() > 0.6, "{model} {more}: {measured}");
        place.run(&format!("predict {model} --adapter a.edelta table.csv")).done();
    }
    place.run(&format!("train two.onnx {train} --output embedding --head replace")).fails(&["--head append"]);
    place.run(&format!("train two.onnx {train} --output none")).fails(&["--output `none`", "embedding, other"]);
}

#[test]
fn accumulating_two_batches_is_one_of_twice_the_size() {
    let place = Place::with_table(2, "label", |row| if row[0] > row[1] { "a".into() } else { "b".into() });
    let train = "train base.onnx --data table.csv --train last:2 --optimizer sgd --lr 0.05 --epochs 4 --val-fraction 0";
    let whole = losses(&report(&place, &format!("{train} --batch 16 --out a.edelta")));
    let halves = losses(&report(&place, &format!("{train} --batch 8 --accumulate 2 --out b.edelta")));
    assert!(whole.iter().zip(&halves).all(|(a, b)| (a - b).abs() < 1e-5), "{whole:?} {halves:?}");
    assert!(whole[3] < whole[0]);
}

#[test]
fn each_option_of_the_loop_changes_what_it_should() {
    let place = Place::with_table(2, "label", |row| if row[0] > 0.25 { "rare".into() } else { "usual".into() });
    let train = "train base.onnx --data table.csv --train last:2 --epochs 6 --batch 8 --out a.edelta";
    let with = |more: &str| report(&place, &format!("{train} {more}"));
    let plain = with("");
    let unchanged = with("--schedule constant --warmup 0 --label-smoothing 0");
    assert_eq!(losses(&plain), losses(&unchanged));
    for more in ["--schedule cosine", "--warmup 0.5", "--clip-norm 0.01", "--weight-decay 0.5", "--seed 1"] {
        assert_ne!(losses(&plain), losses(&with(more)), "{more} changes nothing");
    }
    let smooth = with("--label-smoothing 0.3");
    assert!(losses(&smooth)[5] > losses(&plain)[5] + 0.01, "{:?} {:?}", losses(&smooth), losses(&plain));
    // A bound on the gradients is a bound on the steps of SGD.
    let slow = with("--optimizer sgd --momentum 0 --lr 0.5 --clip-norm 1e-6 --val-fraction 0 --allow-idle");
    assert!((losses(&slow)[0] - losses(&slow)[5]).abs() < 1e-3, "{:?}", losses(&slow));

    // `balanced` is the inverse of each class's share of the training samples, and a heavy class is preferred.
    let rare = |run: &Value, field: &str| {
        let classes = run["validation"]["after"]["per_class"].as_array().unwrap().clone();
        classes.iter().find(|class| class["name"] == "rare").unwrap()[field].as_f64().unwrap()
    };
    let all = noise(5, 64 * 4).chunks_exact(4).filter(|row| row[0] > 0.25).count() as f64;
    let samples = plain["train_samples"].as_f64().unwrap();
    let trained = all - rare(&plain, "samples");
    let shares = format!("--class-weights {},{}", samples / (2.0 * trained), samples / (2.0 * (samples - trained)));
    let (balanced, given) = (losses(&with("--class-weights balanced")), losses(&with(&shares)));
    assert!(balanced.iter().zip(&given).all(|(a, b)| (a - b).abs() < 1e-5), "{balanced:?} {given:?}");
    assert_eq!(rare(&with("--class-weights 100,1 --lr 0.05"), "recall"), 1.0);
    assert_eq!(rare(&with("--class-weights 1,100 --lr 0.05"), "recall"), 0.0);
}

#[test]
fn early_stopping_keeps_the_best_epoch() {
    let place =
        Place::with_table(2, "label", |row| if row[3].to_bits() / 64 % 2 == 0 { "a".into() } else { "b".into() });
    let run = report(
        &place,
        "train base.onnx --data table.csv --train last:2 --epochs 200 --lr 0.02 --batch 8 --patience 5 --out a.edelta",
    );
    let epochs = run["epochs"].as_array().unwrap();
    let validation: Vec<f64> = epochs.iter().map(|epoch| epoch["validation_loss"].as_f64().unwrap()).collect();
    let best = run["best_epoch"].as_u64().unwrap() as usize;
    assert!(epochs.len() < 200, "labels of pure chance were learned for 200 epochs");
    assert_eq!(epochs.len(), best + 5);
    assert!(validation.iter().all(|loss| *loss >= validation[best - 1]), "{validation:?}");
    let kept = run["validation"]["after"]["loss"].as_f64().unwrap();
    assert!((kept - validation[best - 1]).abs() < 1e-9, "{kept} {validation:?}");
}

#[test]
fn batches_larger_than_the_data_and_lonely_samples_train() {
    let place = Place::with_model("mobilenet_folded");
    place.photographs("train", &["cat", "dog"], 1);
    let ran = place.run("train base.onnx --data train --batch 1000 --epochs 2 --out a.edelta").done();
    assert!(ran.err.contains("warning: the data: class `cat` has 1 sample; add samples"), "{}", ran.err);
    assert!(ran.err.contains("2 to train, 0 to validate"), "{}", ran.err);
}

#[test]
fn what_is_odd_about_the_data_is_told_and_reported() {
    let place = Place::with_model("mobilenet_folded");
    place.photographs("train", &["cat", "dog"], 12);
    let first = std::fs::read(project("models/cifar10/train/cat").join(first_name(&place, "train/cat"))).unwrap();
    place.write("train/dog/conflict.png", &first);
    place.write("train/cat/notes.txt", "no photograph");
    let ran = place.run("train base.onnx --data train --epochs 1 --out a.edelta --report r.json").done();
    assert!(ran.err.contains("different label") && ran.err.contains("train/dog/conflict.png"), "{}", ran.err);
    assert!(ran.err.contains("1 file was skipped") && ran.err.contains("notes.txt"), "{}", ran.err);
    let report: Value = serde_json::from_slice(&place.read("r.json")).unwrap();
    assert_eq!(report["findings"][0]["severity"], "warning");
    assert_eq!(report["findings"][0]["samples"], 2);
    assert!(report["findings"][0]["remedy"].as_str().unwrap().contains("decide which label is right"));
    assert_eq!(report["skipped"].as_array().unwrap().len(), 1);
}

fn first_name(place: &Place, folder: &str) -> String {
    let entries = std::fs::read_dir(place.path(folder)).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).min().unwrap()
}

#[test]
fn recipes_say_the_same_as_options_and_options_win() {
    let place = Place::with_model("mobilenet_folded");
    place.photographs("data/train", &["cat", "dog"], 6);
    place.link("tests/goldens/training/mobilenet_folded.onnx", "data/base.onnx");
    place.write(
        "data/recipe.toml",
        "model = 'base.onnx'\ndata = 'train'\ntrain = ['last:2']\nepochs = 2\nbatch = 4\nlr = 0.002\nseed = 4\n\
         optimizer = 'sgd'\nmomentum = 0.5\nschedule = 'cosine'\nval-fraction = 0.25\n[samples]\nmean = '0.5'\nstd = '0.5'\n",
    );
    place.run("train data/recipe.toml --out recipe.edelta").done();
    let options = "--data data/train --train last:2 --epochs 2 --batch 4 --lr 0.002 --seed 4 --optimizer sgd --momentum \
                   0.5 --schedule cosine --val-fraction 0.25 --mean 0.5 --std 0.5";
    place.run(&format!("train base.onnx {options} --out options.edelta")).done();
    assert!(place.read("recipe.edelta") == place.read("options.edelta"));
    place.run("train data/recipe.toml --seed 5 --out other.edelta").done();
    assert!(place.read("recipe.edelta") != place.read("other.edelta"));
}

/// Windows of one person stand on one side of the split, as the option, the recipe or a column's usual name says; where names suggest it
/// and nobody said so, there is a warning that names the option.
#[test]
fn people_stand_on_one_side_of_the_split() {
    let place = Place::with_table(2, "label,person", |row| if row[0] > 0.0 { "up,?" } else { "down,?" }.into());
    let table = String::from_utf8(place.read("table.csv")).unwrap();
    let rows = table.lines().enumerate().map(|(line, row)| row.replace('?', &format!("p{}", line / 11)) + "\n");
    place.write("table.csv", rows.collect::<String>());
    let train = "train base.onnx --data table.csv --label label --epochs 1 --out a.edelta";
    let ran = place.run(&format!("{train} --group person")).done();
    assert!(ran.err.contains("groups    6 by column `person`: 5 train, 1 validate"), "{}", ran.err);
    place.write(
        "r.toml",
        "model = \"base.onnx\"\ndata = \"table.csv\"\n[samples]\nlabel = [\"label\"]\ngroup = \"person\"\n",
    );
    let ran = place.run("train r.toml --epochs 1 --out b.edelta").done();
    assert!(ran.err.contains("groups    6 by column `person`"), "{}", ran.err);
    assert!(
        place
            .run("eval base.onnx --adapter a.edelta --data table.csv --label label --group person")
            .done()
            .out
            .contains('%')
    );
    place.run(&format!("{train} --group who")).fails(&[
        "table.csv:1",
        "no group column `who`",
        "a, b, c, d, label, person",
    ]);
    for (number, values) in noise(5, 64 * 4).chunks_exact(4).enumerate() {
        let class = if values[0] > 0.0 { "up" } else { "down" };
        place.write(&format!("readings/{class}/subject{}_{number}.npy", number % 5), npy(&[4], values));
    }
    let train = "train base.onnx --data readings --epochs 1 --out c.edelta";
    assert!(place.run(train).done().err.contains("add --group 'subject[0-9]+' to keep them together"));
    let ran = place.run(&format!("{train} --group subject[0-9]+")).done();
    assert!(ran.err.contains("groups    5 by pattern `subject[0-9]+`: 4 train, 1 validate"), "{}", ran.err);
}

/// Of one column cross-entropy says nothing: it is a class and its opposite, and a lone bias has a slope.
#[test]
fn one_column_is_checked_as_a_class_and_its_opposite() {
    let place = Place::new();
    place.write("one.onnx", super::models::one_sigmoid());
    let rows = place.run("check one.onnx --train head --json").done().json();
    let rows = rows.as_array().unwrap();
    assert!(rows.len() == 2 && rows.iter().all(|row| row["verdict"] == "agrees"), "{rows:?}");
}
