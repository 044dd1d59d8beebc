//! `train --encoding` and what a delta says of itself: what was evaluated is what ships, and where it came from stands in it.

use super::Place;
use edgetune::delta::{Delta, Encoding};
use serde_json::Value;
use std::time::{SystemTime, UNIX_EPOCH};

/// Photographs of three classes in `photos`, and a model whose head has values enough to be worth an encoding.
fn place() -> Place {
    let place = Place::with_model("mobilenet_folded");
    place.photographs("photos", &["cat", "dog", "ship"], 30);
    place
}

const TRAIN: &str = "train base.onnx --data photos --epochs 4 --batch 8 --lr 0.001";

fn values(bytes: &[u8]) -> Vec<u32> {
    Delta::parse(bytes).unwrap().tensors().flat_map(|t| t.values().map(f32::to_bits).collect::<Vec<_>>()).collect()
}

/// The encoded values are measured, told and written; they are those that `delta convert` makes of the fp16 delta.
#[test]
fn what_is_evaluated_is_what_ships() {
    let place = place();
    place.run(&format!("{TRAIN} --out fp16.edelta")).done();
    let report = place.run(&format!("{TRAIN} --encoding int8 --test photos --out int8.edelta --json")).json();
    assert_eq!(report["encoding"], "int8");
    let tried = report["encodings"].as_array().unwrap();
    assert_eq!(tried.iter().map(|tried| &tried["encoding"]).collect::<Vec<_>>(), ["fp16", "int8"]);
    assert_eq!(tried[1]["loss"], report["validation"]["after"]["loss"]);
    assert_ne!(tried[1]["loss"], tried[0]["loss"]);
    assert!(tried[1]["payload_bytes"].as_u64() < tried[0]["payload_bytes"].as_u64());
    // To the last bit, though int8 values are no fp16 numbers.
    let eval = place.run("eval base.onnx --adapter int8.edelta --data photos --json").json();
    assert_eq!(eval["loss"], report["test"]["after"]["loss"]);

    let bytes = place.read("int8.edelta");
    let delta = Delta::parse(&bytes).unwrap();
    let measured = delta.header().metrics.validation.unwrap();
    assert_eq!(f64::from(measured.loss[1]), tried[1]["loss"].as_f64().unwrap() as f32 as f64);
    assert!(delta.tensors().any(|tensor| matches!(tensor.entry.encoding, Encoding::Int8 { .. })));
    place.run("delta convert fp16.edelta --encoding int8 --out converted.edelta").done();
    assert_eq!(values(&bytes), values(&place.read("converted.edelta")));
}

#[test]
fn auto_ships_the_smallest_encoding_within_the_bound() {
    let place = place();
    let mut sizes = Vec::new();
    for bound in [0.0, 0.02, 100.0] {
        let report = place.run(&format!("{TRAIN} --max-loss-increase {bound} --out a.edelta --json")).json();
        let tried = report["encodings"].as_array().unwrap();
        let increase =
            |tried: &Value| tried["loss"].as_f64().unwrap() - report["encodings"][0]["loss"].as_f64().unwrap();
        let taken = tried.iter().position(|tried| tried["encoding"] == report["encoding"]).unwrap();
        assert!(increase(&tried[taken]) <= bound, "{report}");
        let too_much = if taken == 0 { &tried[1..] } else { &tried[1..taken] };
        assert!(too_much.iter().all(|tried| increase(tried) > bound), "{report}");
        assert_eq!(tried[taken]["loss"], report["validation"]["after"]["loss"]);
        let tensors = shown(&place, "a.edelta")["tensors"].as_array().unwrap().clone();
        sizes.push(tensors.iter().map(|tensor| tensor["bytes"].as_u64().unwrap()).sum::<u64>());
    }
    assert!(sizes.is_sorted_by(|a, b| a >= b) && sizes[0] > sizes[2], "{sizes:?}");
    let report = place.run(&format!("{TRAIN} --encoding auto --out a.edelta --json")).json();
    let loss = |at: &Value| at["loss"].as_f64().unwrap();
    assert!(loss(&report["validation"]["after"]) - loss(&report["encodings"][0]) <= 0.01, "{report}");
}

#[test]
fn what_cannot_be_decided_or_written_is_refused_before_training() {
    let place = place();
    for (more, parts) in [
        ("--encoding auto --val-fraction 0", ["--encoding auto", "--val-fraction"]),
        ("--encoding int4 --max-loss-increase 0.1", ["--max-loss-increase", "int4"]),
        ("--max-loss-increase=-0.1", ["--max-loss-increase", "0 or more"]),
        (&format!("--device-id {}", "x".repeat(65)), ["--device-id", "64 bytes"]),
        (&format!("--licence {}", "x".repeat(65)), ["--licence", "64 bytes"]),
        (&format!("--notes {}", "x".repeat(1025)), ["--notes", "1024 bytes"]),
    ] {
        place.run(&format!("{TRAIN} {more} --out a.edelta")).fails(&parts);
    }
    assert_eq!(place.run(&format!("{TRAIN} --encoding int5 --out a.edelta")).code, Some(2));
    place
        .run_with("SOURCE_DATE_EPOCH", "today", &format!("{TRAIN} --out a.edelta"))
        .fails(&["SOURCE_DATE_EPOCH", "today"]);
    assert!(!place.path("a.edelta").exists());
    // No validation, no verdict; an encoding can still be asked for.
    let report = place.run(&format!("{TRAIN} --encoding int4 --val-fraction 0 --out a.edelta --json")).json();
    assert!(report["encodings"][1]["loss"].is_null(), "{report}");
    assert!(shown(&place, "a.edelta")["gate"].is_null());
}

fn shown(place: &Place, name: &str) -> Value {
    place.run(&format!("delta show {name} --json")).json()
}

#[test]
fn a_delta_says_where_it_comes_from() {
    let place = place();
    let told = "--device-id pi-7 --round 3 --licence CC-BY-4.0 --notes hall";
    let report = place.run(&format!("{TRAIN} --encoding int8 {told} --out options.edelta --json")).json();
    let options = shown(&place, "options.edelta");
    assert_eq!((&options["device"], &options["round"]), (&"pi-7".into(), &3.into()));
    assert_eq!((&options["licence"], &options["notes"]), (&"CC-BY-4.0".into(), &"hall".into()));
    assert_eq!(options["created_unix_s"], 1_700_000_000);
    assert_eq!(options["recipe"], report["recipe_hash"]);
    let hash = blake3::hash(report["recipe"].as_str().unwrap().as_bytes());
    assert_eq!(options["recipe"], hash.to_hex().as_str());
    assert_eq!(options["gate"]["passed"], true);
    assert!(options["gate"]["reason"].as_str().unwrap().starts_with("validation loss "), "{options}");
    let text = place.run("delta show options.edelta").done().out;
    for part in
        ["pi-7", "2023-11-14 22:13:20 UTC", "CC-BY-4.0", "hall", "passed validation loss", hash.to_hex().as_str()]
    {
        assert!(text.contains(part), "{part}: {text}");
    }

    // The same words in a file: the same recipe, whatever the folder, the device and the notes.
    place.write(
        "below/recipe.toml",
        "model = \"../base.onnx\"\ndata = \"../photos\"\nepochs = 4\nbatch = 8\nlr = 0.001\n\
         [delta]\nencoding = \"int8\"\ndevice-id = \"pi-8\"\nround = 4\nlicence = \"CC0-1.0\"\nnotes = \"cellar\"\n",
    );
    place.run("train below/recipe.toml --notes attic --out recipe.edelta").done();
    let recipe = shown(&place, "recipe.edelta");
    assert_eq!(recipe["recipe"], options["recipe"]);
    assert_eq!((&recipe["device"], &recipe["notes"]), (&"pi-8".into(), &"attic".into()));
    assert_eq!((&recipe["round"], &recipe["licence"]), (&4.into(), &"CC0-1.0".into()));
    assert_eq!(values(&place.read("recipe.edelta")), values(&place.read("options.edelta")));
    place.run("train below/recipe.toml --lr 0.002 --out other.edelta").done();
    assert_ne!(shown(&place, "other.edelta")["recipe"], options["recipe"]);

    place.run_with("EDGETUNE_DEVICE_ID", "pi-9", &format!("{TRAIN} --out a.edelta")).done();
    assert_eq!(shown(&place, "a.edelta")["device"], "pi-9");
}

/// Without SOURCE_DATE_EPOCH it is the clock's time; a run that did harm says so.
#[test]
fn time_and_verdict_are_those_of_the_run() {
    let place = place();
    let mut command =
        place.command(&TRAIN.replace("--lr 0.001", "--solver steps --lr 50 --val-fraction 0.4 --out a.edelta"));
    command.env_remove("SOURCE_DATE_EPOCH");
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let before = now();
    super::finished(command).done();
    let delta = shown(&place, "a.edelta");
    assert!((before..=now()).contains(&delta["created_unix_s"].as_u64().unwrap()), "{delta}");
    let [first, last] = [0, 1].map(|at| delta["validation"]["loss"][at].as_f64().unwrap());
    assert!(last > first, "the rate was to do harm: {delta}");
    assert_eq!(delta["gate"]["passed"], false);
}

/// A whole layer's change as LoRA factors: near the top rank nothing is lost, a low one costs what it says, and every command
/// takes the delta as any other.
#[test]
fn a_whole_layer_becomes_factors() {
    let place = place();
    place.run(&format!("{TRAIN} --train last:2 --out whole.edelta")).done();
    let convert =
        |more: &str| place.run(&format!("delta convert whole.edelta --model base.onnx --out low.edelta {more}"));
    let loss = |name: &str| {
        let eval = place.run(&format!("eval base.onnx --adapter {name} --data photos --json")).json();
        eval["loss"].as_f64().unwrap()
    };
    // 1,280 channels from 24: the largest rank whose factors are smaller than the layer is 23.
    convert("--encoding low-rank:23").done();
    let whole = loss("whole.edelta");
    assert!((loss("low.edelta") - whole).abs() < 0.01 * whole, "{} {whole}", loss("low.edelta"));
    let delta = shown(&place, "low.edelta");
    assert_eq!((&delta["method"]["kind"], &delta["method"]["rank"]), (&"Lora".into(), &23.into()));
    let names: Vec<_> = delta["tensors"].as_array().unwrap().iter().map(|t| t["name"].as_str().unwrap()).collect();
    assert_eq!(names.iter().filter(|name| name.contains(".lora_")).count(), 2, "{names:?}");
    let told = convert("--encoding low-rank:4").done().err;
    assert!(told.contains("rank 4 loses"), "{told}");
    assert!(place.read("low.edelta").len() < place.read("whole.edelta").len() / 2);
    assert!(loss("low.edelta") < loss("whole.edelta") + 0.5);
    place.run("delta apply base.onnx low.edelta --out merged.onnx").done();
    place.run("delta convert low.edelta --encoding int4 --out low4.edelta").done();

    convert("--encoding low-rank:24").fails(&["--encoding low-rank", "whole.edelta", "lower it"]);
    place
        .run("delta convert low.edelta --encoding low-rank:2 --model base.onnx --out x.edelta")
        .fails(&["low.edelta", "lora"]);
    place.run("delta convert whole.edelta --encoding low-rank:2 --out x.edelta").fails(&["--model"]);
    assert_eq!(convert("--encoding low-rank:0").code, Some(2));
}
