//! What `train` does for those who choose nothing: closed forms, few samples, more layers than there are.

use super::{Place, models};

/// Rows whose class is told by one feature.
fn table() -> Place {
    Place::with_table(2, "label", |row| if row[0] > 0.0 { "a".into() } else { "b".into() })
}

#[test]
fn a_fresh_head_is_solved_unless_steps_are_asked_for() {
    let place = table();
    let train =
        |more: &str| place.run(&format!("train base.onnx --data table.csv --out a.edelta {more} --json")).json();
    let loss = |report: &serde_json::Value| report["validation"]["after"]["loss"].as_f64().unwrap();
    let default = train("");
    assert_eq!((&default["solved"]["solver"], &default["steps"]), (&"lbfgs".into(), &0.into()));
    // All samples are learned from once the penalty is chosen.
    let all = default["train_samples"].as_u64().unwrap() + default["validation_samples"].as_u64().unwrap();
    assert_eq!(default["solved"]["samples"].as_u64(), Some(all));
    let zero = train("--solver steps --epochs 2");
    assert!(zero["steps"].as_u64().unwrap() > 0 && zero["solved"].is_null());
    assert!(loss(&default) < loss(&zero), "{} steps {}", loss(&default), loss(&zero));
    // Steps begin with the closed form, and are kept only where they lower the validation loss.
    let from_there = train("--epochs 2");
    assert!(from_there["steps"].as_u64().unwrap() > 0);
    assert!(loss(&from_there) < loss(&zero), "{} from zero {}", loss(&from_there), loss(&zero));
}

#[test]
fn numbers_are_solved_by_ridge_and_sets_by_lbfgs() {
    let place = Place::with_table(2, "u", |row| format!("{}", row[0] - row[1]));
    let report = place.run("train base.onnx --data table.csv --label u --loss mse --out a.edelta --json").json();
    assert_eq!(report["solved"]["solver"], "ridge");
    let place = Place::with_table(2, "label", |row| if row[0] > 0.0 { "left;up".into() } else { "up;on".into() });
    let report = place.run("train base.onnx --data table.csv --loss bce --out a.edelta --json").json();
    assert_eq!(report["solved"]["solver"], "lbfgs");
}

#[test]
fn layers_and_adapters_start_from_the_closed_form() {
    let place = Place::with_model("mobilenet_folded");
    place.photographs("train", &["cat", "dog", "ship"], 24);
    for what in ["--train last:2", "--adapter lora --rank 2"] {
        let train = format!("train base.onnx --data train {what} --epochs 1 --out a.edelta");
        let ran = place.run(&train).done();
        assert!(ran.err.contains("the head in closed form"), "{what}: {ran:?}");
        let first = place.read("a.edelta");
        place.run(&train).done();
        assert!(place.read("a.edelta") == first, "{what}: other bytes");
        let zero = place.run(&format!("{train} --solver steps")).done();
        assert!(!zero.err.contains("closed form"), "{what}: {zero:?}");
    }
}

#[test]
fn of_few_samples_all_learn_and_each_is_left_out_in_turn() {
    let place = Place::with_model("mobilenet_folded");
    place.photographs("train", &["cat", "dog", "ship"], 3);
    let ran = place.run("train base.onnx --data train --out a.edelta --report r.json").done();
    assert!(ran.err.contains("too few to validate by"), "{ran:?}");
    assert!(ran.out.contains("9 samples, each left out in turn"), "{ran:?}");
    let report: serde_json::Value = serde_json::from_slice(&place.read("r.json")).unwrap();
    assert_eq!((&report["train_samples"], &report["validation_samples"]), (&9.into(), &0.into()));
    // One a class: nothing can be left out, so each class is its sample's direction.
    let one = place.run("train base.onnx --data train --per-class 1 --val-fraction 0 --out a.edelta --json").json();
    assert_eq!(one["solved"]["solver"], "imprint");
    // By steps no epoch is chosen by a sample or two: the last one stays.
    let steps = place.run("train base.onnx --data train --train last:2 --epochs 3 --out a.edelta --json").json();
    assert_eq!(steps["best_epoch"], 3);
    let told = place.run("train base.onnx --data train --train last:2 --epochs 3 --out a.edelta").done().out;
    assert!(
        told.contains("choose no epoch: the values are those of the last") && !told.contains("also chose"),
        "{told}"
    );
}

#[test]
fn more_layers_than_there_are_and_the_memory_are_told() {
    let place = table();
    let ran = place.run("train base.onnx --data table.csv --train last:99 --epochs 1 --out a.edelta").done();
    assert!(
        ran.err.contains("--train last:99: the model has ") && ran.err.contains("the whole model learns"),
        "{ran:?}"
    );
    assert!(ran.err.contains("are needed, "), "{ran:?}");
    let adapter = "train base.onnx --data table.csv --adapter lora --epochs 1 --out a.edelta";
    let ran = place.run(&format!("{adapter} --layers last:99")).done();
    assert!(ran.err.contains("warning: --layers last:99: the model has "), "{ran:?}");
    assert!(!place.run(&format!("{adapter} --layers last:2")).done().err.contains("layers with weights"));
    let few = place.run("train base.onnx --data table.csv --train head --out a.edelta").done();
    assert!(!few.err.contains("layers with weights"), "{few:?}");
}

/// Layers that have learned something change less than a head that has not.
#[test]
fn layers_below_a_fresh_head_learn_at_a_tenth_of_its_rate() {
    let place = Place::with_table(3, "label", |row| if row[0] > 0.0 { "a".into() } else { "b".into() });
    let epochs = |more: &str| {
        let train = "train base.onnx --data table.csv --solver steps --epochs 3 --batch 8 --out a.edelta --json";
        let report = place.run(&format!("{train} {more}")).json();
        report["epochs"].as_array().unwrap().iter().map(|epoch| epoch["validation_loss"].clone()).collect::<Vec<_>>()
    };
    let by_default = epochs("--train last:2");
    assert_eq!(by_default, epochs("--train last:2 --lr 0.0001 --head-rate 10"));
    assert_ne!(by_default, epochs("--train last:2 --lr 0.001"));
    // A head alone has the rate itself.
    assert_eq!(epochs("--train last:1"), epochs("--train last:1 --lr 0.001"));
}

#[test]
fn features_that_are_no_numbers_are_named() {
    let place = Place::new();
    place.write("base.onnx", models::without_bias());
    place.write("table.csv", "a,b,c,d,label\n1,0,0,0,x\nnan,0,0,0,y\n0,1,0,0,x\n0,0,1,0,y\n");
    let ran = place.run("train base.onnx --data table.csv --val-fraction 0 --out a.edelta").done();
    assert!(ran.err.contains("table.csv:3: column `a`: `nan` is no number"), "the row is left out and told: {ran:?}");
}

/// What a setting of the loss changes, it changes in the closed form, too.
#[test]
fn weights_of_classes_and_smoothing_count_in_the_closed_form() {
    let rare = |row: &[f32]| if row[0] + 0.5 * row[1] > 0.3 { "rare".into() } else { "usual".into() };
    // The base has other classes, so that the head is fresh.
    let place = Place::with_table(3, "label", rare);
    let train = |more: &str| {
        let command = format!("train base.onnx --data table.csv --out a.edelta {more} --json");
        let report = place.run(&command).json();
        assert_eq!(report["solved"]["solver"], "lbfgs", "{report}");
        place.run("eval base.onnx --adapter a.edelta --data table.csv --json").json()
    };
    let (plain, weighted) = (train("--l2 3"), train("--l2 3 --class-weights balanced"));
    let recall = |measured: &serde_json::Value| measured["per_class"]["rare"]["accuracy"].as_f64().unwrap();
    assert!(recall(&weighted) > recall(&plain) + 0.1, "{weighted} {plain}");

    let surest = || {
        let answers = place.run("predict base.onnx table.csv --adapter a.edelta --json").json();
        let share = |answer: &serde_json::Value| answer["classes"][0]["probability"].as_f64().unwrap();
        answers.as_array().unwrap().iter().map(share).fold(0.0, f64::max)
    };
    train("--l2 0.001");
    let sharp = surest();
    train("--l2 0.001 --label-smoothing 0.4");
    assert!(surest() < sharp - 0.05, "{sharp} {}", surest());
}

#[test]
fn one_class_has_nothing_to_tell_apart_and_many_are_solved() {
    let place = Place::with_table(2, "label", |_| "same".into());
    place.run("train base.onnx --data table.csv --out a.edelta").fails(&["1 class", "add samples of another class"]);
    let place = Place::with_table(2, "label", |row| format!("{}{}", (row[0] > 0.0) as u8, (row[1] * 8.0) as i32));
    let ran = place.run("train base.onnx --data table.csv --out a.edelta --report r.json").done();
    let report: serde_json::Value = serde_json::from_slice(&place.read("r.json")).unwrap();
    assert_eq!(report["solved"]["solver"], "lbfgs", "{report}");
    assert!(report["classes"].as_array().is_none_or(|classes| classes.len() > 8), "{report}");
    assert!(
        ran.err.matches("warning: the data: class").count() <= 6,
        "a warning for each of many classes: {}",
        ran.err
    );
}

/// A column behind a sigmoid is a head of two classes.
#[test]
fn a_sigmoid_column_is_solved_as_the_two_classes_that_it_is() {
    let place = Place::with_table(1, "label", |row| if row[0] > 0.0 { "no".into() } else { "yes".into() });
    place.write("base.onnx", models::one_sigmoid());
    let report = place.run("train base.onnx --data table.csv --out a.edelta --json").json();
    assert_eq!(report["solved"]["solver"], "lbfgs", "{report}");
    assert!(report["validation"]["after"]["accuracy"].as_f64().unwrap() > 0.8, "{report}");
    let answers = place.run("predict base.onnx table.csv --adapter a.edelta --json").json();
    let surer = |answer: &serde_json::Value| answer["classes"][0]["probability"].as_f64().unwrap() >= 0.5;
    assert!(answers.as_array().unwrap().iter().all(surer), "{answers}");
}

/// A range test tells a rate, and the run is the one with that rate given.
#[test]
fn a_rate_is_found_by_a_test_that_leaves_nothing_behind() {
    let place = Place::with_model("mobilenet_folded");
    place.photographs("train", &["cat", "dog", "ship"], 30);
    for how in ["--train last:2 --epochs 3", "--train head --solver steps --optimizer sgd --epochs 3 --seed 4"] {
        let train = format!("train base.onnx --data train {how}");
        let ran = place.run(&format!("{train} --lr auto --out found.edelta --report found.json")).done();
        let line =
            ran.err.lines().find(|line| line.starts_with("rate      --lr ")).unwrap_or_else(|| panic!("{}", ran.err));
        let rate: f64 = line["rate      --lr ".len()..].split(':').next().unwrap().parse().unwrap();
        assert!(line.contains("fell steepest") && (1e-5..1.0).contains(&rate), "{line}");
        place.run(&format!("{train} --lr {rate} --out given.edelta --report given.json")).done();
        let losses = |file: &str| {
            let report: serde_json::Value = serde_json::from_slice(&place.read(file)).unwrap();
            report["epochs"].as_array().unwrap().iter().map(|epoch| epoch["train_loss"].clone()).collect::<Vec<_>>()
        };
        assert_eq!(losses("found.json"), losses("given.json"), "{how}");
        // It says another recipe, and nothing else.
        assert!(place.read("found.edelta").len().abs_diff(place.read("given.edelta").len()) < 8);
    }
    let both = "train base.onnx --data train --train auto --lr auto --out a.edelta";
    place.run(both).fails(&["--lr auto", "--train auto"]);
    let ran = place.run("train base.onnx --data train --lr fast --out a.edelta");
    assert!(ran.code == Some(2) && ran.err.contains("or auto"), "{ran:?}");
}
