//! What a base knows: written down, learned again, measured, gone back for, and refused where too much of it would be lost.

use super::Place;
use super::classes::knowing;
use edgetune::train::artifact::Adapter;
use serde_json::Value;

/// Two classes that `known.onnx` does not know, in `new`; what it knows is in `base.retention`.
fn keeping() -> Place {
    let place = knowing();
    place.photographs("new", &["cat", "horse"], 16);
    let made = "retention make known.onnx --data train --classes truck,frog,ship --out base.retention --json";
    let made = place.run(made).json();
    assert_eq!(made["samples"], 36);
    assert!(made["metrics"]["accuracy"].as_f64().unwrap() > 0.9, "{made}");
    assert_eq!(made["bytes"].as_u64().unwrap(), place.read("base.retention").len() as u64);
    place
}

const TRAIN: &str = "train known.onnx --data new --retention base.retention --out a.edelta --force --json";

fn kept(report: &Value, when: &str) -> f64 {
    report["retention"][when]["accuracy"].as_f64().unwrap_or_else(|| panic!("{report}"))
}

/// The names in the file stand for those that the model does not say.
#[test]
fn new_classes_are_learned_and_the_old_ones_stay() {
    let place = keeping();
    let report = place.run(TRAIN).json();
    let labels = Adapter::read(&place.path("a.edelta")).unwrap().labels;
    assert_eq!(labels, ["truck", "frog", "ship", "cat", "horse"]);
    assert_eq!(report["retention"]["of"], "the base's own classes");
    assert!(kept(&report, "after") >= 0.8, "{}", report["retention"]);
    let new = place.run("eval known.onnx --adapter a.edelta --data new --json").json();
    assert!(new["accuracy"].as_f64().unwrap() >= 0.7, "{new}");
    // The same by the data themselves, and by gradient steps.
    let by_data = place.run(&format!("{} --classes truck,frog,ship", TRAIN.replace("base.retention", "train"))).json();
    assert!(kept(&by_data, "after") >= 0.8, "{}", by_data["retention"]);
    let steps = place.run(&format!("{TRAIN} --epochs 20 --lr 0.01")).json();
    assert!(kept(&steps, "after") >= 0.6 && steps["steps"].as_u64().unwrap() > 0, "{}", steps["retention"]);
}

#[test]
fn a_set_that_is_damaged_or_of_something_else_is_refused() {
    let place = keeping();
    let good = place.read("base.retention");
    for at in [0, 20, 60, good.len() - 1] {
        let mut bad = good.clone();
        bad[at] ^= 1;
        place.write("bad.retention", &bad);
        let ran = place.run(&TRAIN.replace("base.retention", "bad.retention"));
        assert!(ran.code == Some(1) && ran.err.contains("bad.retention"), "byte {at}: {ran:?}");
    }
    place.write("bad.retention", &good[..good.len() / 2]);
    place.run(&TRAIN.replace("base.retention", "bad.retention")).fails(&["bad.retention", "is damaged"]);
    // The same model with its classes in its metadata is the same base; one that has learned since is another.
    place.run("train known.onnx --data train --classes truck,frog,ship --epochs 1 --out more.edelta").done();
    place.run("export --adapter more.edelta --model known.onnx --to onnx --out other.onnx").done();
    place.run(&TRAIN.replace("known.onnx", "other.onnx")).fails(&["base.retention", "is of another model"]);
    place.run(&format!("{TRAIN} --train last:2")).fails(&["--retention", "--train"]);
    place.run(&format!("{TRAIN} --head replace")).fails(&["--retention", "`truck`", "--classes"]);
    place.run("train known.onnx --data train --replay 3").fails(&["--replay", "--retention"]);
    place.run(&format!("{TRAIN} --keep-base 5")).fails(&["--keep-base 5", "0.05"]);
    place.run("retention make known.onnx --data new --out n.retention").fails(&["not outputs of the model"]);
    assert!(!place.path("n.retention").exists() && !place.path("a.edelta").exists());
}

/// Trucks that are called frogs are learned at the cost of what the base knows.
#[test]
fn a_training_that_loses_too_much_goes_back_or_ends_with_its_own_code() {
    let place = keeping();
    place.photographs("wrong", &["truck", "frog"], 12);
    std::fs::rename(place.path("wrong/truck"), place.path("wrong/turned")).unwrap();
    std::fs::rename(place.path("wrong/frog"), place.path("wrong/truck")).unwrap();
    std::fs::rename(place.path("wrong/turned"), place.path("wrong/frog")).unwrap();
    let train = TRAIN.replace("--data new", "--data wrong").replace("base.retention", "base.retention --replay 0");
    let lost = place.run(&format!("{train} --epochs 20 --lr 0.02 --rewind 1")).json();
    assert!(kept(&lost, "after") < 0.8 * kept(&lost, "before"), "{}", lost["retention"]);
    assert_eq!(lost["retention"]["way"], 1.0);
    let held = place.run(&format!("{train} --epochs 20 --lr 0.02 --keep-base 0.2")).json();
    assert!(kept(&held, "after") >= 0.8 * kept(&held, "before"), "{}", held["retention"]);
    assert!(held["retention"]["way"].as_f64().unwrap() < 1.0, "{}", held["retention"]);
    std::fs::remove_file(place.path("a.edelta")).unwrap();
    let refused = place.run(&format!("{train} --epochs 20 --lr 5 --keep-base 0"));
    assert!(refused.code == Some(4) && refused.err.contains("--keep-base 0 allows"), "{refused:?}");
    assert!(!place.path("a.edelta").exists(), "nothing is written");
}

/// Each holds what the base knows better than steps alone do.
#[test]
fn pulls_and_answers_of_the_base_hold_what_it_knows() {
    let place = keeping();
    let steps = format!("{TRAIN} --replay 0 --rewind 1 --epochs 20 --lr 0.01");
    let loss = |more: &str| {
        let report = place.run(&format!("{steps} {more}")).json();
        report["retention"]["after"]["loss"].as_f64().unwrap()
    };
    let alone = loss("");
    for more in ["--l2-sp 1000", "--ewc 1000", "--distill 10"] {
        let held = loss(more);
        assert!(held < alone, "{more}: {held}, alone {alone}");
    }
}

/// Without a set, what the base answers rightly among the samples that validate is measured.
#[test]
fn without_a_set_what_was_right_is_measured() {
    let place = knowing();
    place.photographs("more", &["truck", "frog", "ship"], 30);
    let ran = place.run("train known.onnx --data more --classes truck,frog,ship --epochs 2 --out a.edelta").done();
    assert!(ran.out.contains("retention validation samples that were right: 100.0 % before"), "{}", ran.out);
}
