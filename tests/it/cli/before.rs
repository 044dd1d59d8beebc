//! What a training's result is compared with: the commonest class, and the base where it has the classes.

use super::Place;
use super::classes::knowing;
use serde_json::Value;

const TRAIN: &str = "train base.onnx --data train --epochs 2 --batch 8 --out a.edelta";

fn accuracy(of: &Value) -> f64 {
    of["accuracy"].as_f64().unwrap_or_else(|| panic!("{of}"))
}

/// A head that starts from nothing is no rival: always answering `dog` is.
#[test]
fn a_fresh_head_is_compared_with_the_commonest_class() {
    let place = Place::with_model("mobilenet_folded");
    place.photographs("train", &["cat"], 20);
    place.photographs("train", &["dog"], 60);
    place.photographs("test", &["cat", "dog"], 4);
    let text = place.run(TRAIN).done().out;
    assert!(text.starts_with("accuracy  commonest class 75.0 %, base –, now "), "{text}");
    assert!(
        text.contains(" on 16 validation samples, which also chose the epoch\n") && !text.contains("held-out"),
        "{text}"
    );
    let report = place.run(&format!("{TRAIN} --json")).json();
    let validation = &report["validation"];
    assert_eq!((accuracy(&validation["commonest"]), &validation["base"]), (0.75, &Value::Null));
    assert_eq!(validation["before"], validation["commonest"]);

    let ran = place.run(&format!("{TRAIN} --test test"));
    let text = ran.done().out;
    // Of the test samples half are dogs; all of these photographs are in `train`, too.
    assert!(text.starts_with("accuracy  commonest class 50.0 %, base –, now "), "{text}");
    assert!(text.contains(" on 8 test samples\n") && !text.contains("validation"), "{text}");
}

#[test]
fn a_base_that_has_the_classes_is_measured() {
    let place = knowing();
    place.write("labels.txt", "truck\nfrog\nship\n");
    let ran = place.run("train known.onnx --data train --epochs 1 --batch 8 --out a.edelta").done();
    assert!(ran.out.starts_with("accuracy  commonest class "), "{}", ran.out);
    assert!(ran.out.contains("%, base 100.0 %, now ") || ran.out.contains("%, base 85.7 %, now "), "{}", ran.out);
    let report = place.run("train known.onnx --data train --epochs 1 --batch 8 --out a.edelta --json").json();
    let validation = &report["validation"];
    assert_eq!(validation["before"], validation["base"]);
    assert!(accuracy(&validation["base"]) > 0.8 && accuracy(&validation["commonest"]) < 0.5, "{report}");
    let again = place.run("train known.onnx --data train --from a.edelta --epochs 1 --batch 8 --out b.edelta").done();
    assert!(again.out.contains("%, before ") && !again.out.contains("base"), "{}", again.out);
}

#[test]
fn numbers_are_compared_with_their_mean() {
    let place = Place::with_table(3, "label", |row| (row[0] * 3.0 + 5.0).to_string());
    let train = "train base.onnx --data table.csv --loss mse --epochs 30 --batch 8 --lr 0.05 --out a.edelta";
    let text = place.run(train).done().out;
    assert!(
        text.starts_with("mean absolute error mean ")
            && text.contains("\nloss      mean ")
            && text.contains(", base –, now "),
        "{text}"
    );
    let report = place.run(&format!("{train} --json")).json();
    let mean = report["validation"]["commonest"]["loss"].as_f64().unwrap();
    assert!(report["validation"]["before"]["loss"] == mean && mean < 25.0, "zeros would be off by 5: {report}");
}

#[test]
fn test_samples_that_were_learned_are_counted() {
    let place = Place::with_model("mobilenet_folded");
    place.photographs("train", &["cat", "dog"], 10);
    place.photographs("some", &["cat", "dog"], 2);
    for (test, told, count) in [("train", "20 of the 20 test samples", 20), ("some", "4 of the 4 test samples", 4)] {
        let ran = place.run(&format!("{TRAIN} --test {test} --json")).done();
        assert!(ran.err.contains(&format!("warning: {told} are in --data, too")), "{}", ran.err);
        assert_eq!(ran.json()["test_samples_in_data"], count);
    }
}
