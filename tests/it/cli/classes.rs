//! Which of the model's outputs are the data's classes: by name, by what the base answers, and what becomes of the others.

use super::Place;
use edgetune::onnx;
use edgetune::train::artifact::Adapter;
use serde_json::Value;
use std::fs;

/// A step so small that it is lost in fp16.
const STILL: &str = "--lr 1e-12 --allow-idle --weight-decay 0 --epochs 1 --batch 8 --out a.edelta --json";
/// What `known.onnx` knows, in the order of its outputs, as its `labels.txt` has it.
const KNOWN: [&str; 3] = ["truck", "frog", "ship"];

/// `known.onnx`: a model that tells trucks, frogs and ships apart, in this order; its photographs in `train`.
pub fn knowing() -> Place {
    let place = Place::with_model("mobilenet_folded");
    place.photographs("train", &KNOWN, 12);
    let learn = "--solver lbfgs --l2 0.01 --val-fraction 0 --out base.edelta";
    place.run(&format!("train base.onnx --data train --classes {} {learn}", KNOWN.join(","))).done();
    place.run("export --adapter base.edelta --model base.onnx --to onnx --out known.onnx").done();
    fs::remove_file(place.path("base.onnx")).unwrap();
    assert_eq!(place.read("labels.txt"), b"truck\nfrog\nship\n");
    fs::remove_file(place.path("labels.txt")).unwrap();
    fs::rename(place.path("known.onnx"), place.path("told.onnx")).unwrap();
    // The model as other programs write it, which says nothing of its classes.
    let model = onnx::read(&place.path("told.onnx")).unwrap();
    place.write("known.onnx", onnx::encode(&model.graph, &onnx::Weights::Embedded));
    place
}

#[test]
fn an_exported_model_says_what_its_outputs_mean() {
    let place = knowing();
    let metadata = onnx::read(&place.path("told.onnx")).unwrap().metadata;
    assert_eq!(metadata["names"], r#"{"0": "truck", "1": "frog", "2": "ship"}"#);
    let told: Value = serde_json::from_str(&metadata["edgetune.preprocessing"]).unwrap();
    assert_eq!((&told["image"]["width"], &told["image"]["layout"]), (&16.into(), &"Nchw".into()), "{told}");
    let ran = place.run(&format!("train told.onnx --data train {STILL}")).done();
    assert!(ran.err.contains("matched by name from the model's metadata `names`"), "{}", ran.err);
    assert!(ran.err.contains("edgetune.preprocessing"), "{}", ran.err);
}

/// What training said, and its report.
fn trained(place: &Place, more: &str) -> (String, Value) {
    let ran = place.run(&format!("train known.onnx --data train {more} {STILL}")).done();
    (ran.err.clone(), ran.json())
}

fn before(report: &Value) -> f64 {
    report["validation"]["before"]["accuracy"].as_f64().unwrap_or_else(|| panic!("{report}"))
}

fn labels(place: &Place) -> Vec<String> {
    Adapter::read(&place.path("a.edelta")).unwrap().labels
}

/// Folders sort as frog, ship, truck; the model's outputs are truck, frog, ship.
#[test]
fn classes_are_matched_by_name_wherever_the_names_are() {
    let place = knowing();
    let labels_txt = format!("{}\n", KNOWN.join("\n"));
    let config = r#"{"id2label": {"0": "Truck", "1": "Frog", "2": "Ship"}}"#;
    for (file, text) in [("labels.txt", &labels_txt[..]), ("config.json", config)] {
        place.write(file, text);
        let (told, report) = trained(&place, "");
        assert!(told.contains(&format!("classes   3 of the model's 3, matched by name from {file}\n")), "{told}");
        assert!(before(&report) > 0.9, "the base is right before the first step: {report}");
        assert_eq!(labels(&place).iter().map(|name| name.to_lowercase()).collect::<Vec<_>>(), KNOWN);
        fs::remove_file(place.path(file)).unwrap();
    }
    place.write("names.txt", &labels_txt);
    for given in ["--classes names.txt", "--classes truck,frog,ship"] {
        let (told, report) = trained(&place, given);
        assert!(told.contains("matched by name from --classes") && before(&report) > 0.9, "{told}{report}");
    }
    place.write("recipes/r.toml", "model = \"../known.onnx\"\ndata = \"../train\"\nclasses = \"names.txt\"\n");
    place.write("recipes/names.txt", &labels_txt);
    let ran = place.run(&format!("train recipes/r.toml {STILL}")).done();
    assert!(ran.err.contains("matched by name from --classes"), "a recipe's file lies beside it: {}", ran.err);

    // The names are in the delta: whoever reads it gives the right ones.
    let measured = place.run("eval known.onnx --adapter a.edelta --data train --json").json();
    assert!(measured["accuracy"].as_f64().unwrap() > 0.9, "{measured}");
    let answers = place.run("predict known.onnx --adapter a.edelta train/truck --json").json();
    let named = answers.as_array().unwrap().iter().filter(|answer| answer["classes"][0]["name"] == "truck");
    assert!(named.count() >= 11, "{answers}");
}

#[test]
fn classes_without_samples_stay_and_new_ones_are_added() {
    let place = knowing();
    place.write("labels.txt", KNOWN.join("\n"));
    fs::rename(place.path("train/frog"), place.path("frogs")).unwrap();
    let (told, report) = trained(&place, "");
    assert!(
        told.contains("2 of the model's 3, matched by name from labels.txt; without samples, kept: frog\n"),
        "{told}"
    );
    assert!(!told.contains("nothing is learnt about it"), "{told}");
    assert_eq!((labels(&place), before(&report) > 0.9), (KNOWN.map(String::from).to_vec(), true), "{report}");
    fs::create_dir(place.path("all")).unwrap();
    fs::rename(place.path("frogs"), place.path("all/frog")).unwrap();
    let frogs = place.run("eval known.onnx --adapter a.edelta --data all --json").json();
    assert!(frogs["accuracy"].as_f64().unwrap() > 0.9, "frogs are still known: {frogs}");

    place.photographs("train", &["cat"], 12);
    for more in ["", "--train head --adapter lora --rank 2"] {
        let (told, report) = trained(&place, more);
        assert!(told.contains("; without samples, kept: frog; new: cat\n"), "{told}");
        assert!(told.contains("(head kept: 3 outputs, and 1 new)"), "{told}");
        assert_eq!(labels(&place), ["truck", "frog", "ship", "cat"], "{report}");
        let frogs = place.run("eval known.onnx --adapter a.edelta --data all --json").json();
        assert!(frogs["accuracy"].as_f64().unwrap() > 0.8, "{more}: the old rows are as they were: {frogs}");
    }
    let ran = place.run("train known.onnx --data train --epochs 20 --lr 0.01 --batch 8 --out a.edelta").done();
    let measured = place.run("eval known.onnx --adapter a.edelta --data train --json").json();
    assert!(
        measured["per_class"]["cat"]["accuracy"].as_f64().unwrap() > 0.3,
        "the new row learns: {measured}{}",
        ran.err
    );
}

/// Nothing names the outputs, and the folders are in another order than they.
#[test]
fn a_head_that_means_something_else_is_replaced_and_said_so() {
    let place = knowing();
    let (told, report) = trained(&place, "");
    assert!(
        told.contains("warning: the model's 3 outputs are not the data's classes in the order frog, ship, truck"),
        "{told}"
    );
    assert!(told.contains("its loss is ") && told.contains("by chance 1.0986") && told.contains("--classes"), "{told}");
    assert!(told.contains("(head replaced: 3 → 3 outputs)"), "{told}");
    assert_eq!(report["head"], "replaced: 3 → 3 outputs");

    // In the order of the outputs nothing is to be done.
    for (from, to) in [("truck", "1-truck"), ("frog", "2-frog"), ("ship", "3-ship")] {
        fs::rename(place.path("train").join(from), place.path("train").join(to)).unwrap();
    }
    let (told, report) = trained(&place, "");
    assert!(told.contains("taken for the model's outputs in this order: 1-truck, 2-frog, 3-ship (loss 0."), "{told}");
    assert!(!told.contains("warning: the model") && before(&report) > 0.9, "{told}{report}");
    let (told, _) = trained(&place, "--head replace");
    assert!(told.contains("(head replaced: 3 → 3 outputs)"), "{told}");
}

#[test]
fn names_that_fit_nothing_are_refused() {
    let place = knowing();
    place.write("names.txt", "a\nb\na\n");
    place.write("empty.txt", "\n");
    for (given, parts) in [
        ("--classes frog,ship", &["--classes", "truck", "2 names"][..]),
        ("--classes nowhere.txt", &["--classes `nowhere.txt`", "no such file", "cat,dog"]),
        ("--classes names.txt", &["--classes names.txt", "`a`", "twice"]),
        ("--classes empty.txt", &["--classes empty.txt", "names no class"]),
        ("--classes 0", &["--classes 0"]),
        ("--classes a,b,c,d,frog,ship,truck --head keep", &["--head keep", "7 names"]),
    ] {
        place.run(&format!("train known.onnx --data train {given} {STILL}")).fails(parts);
    }
    place.photographs("train", &["cat"], 2);
    place.run(&format!("train known.onnx --data train --head keep {STILL}")).fails(&[
        "--head keep",
        "4 classes",
        "--classes",
    ]);
}
