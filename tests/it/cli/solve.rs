//! `--solver`: closed forms through the program, on every kind of data and head.

use super::{Place, models};
use serde_json::Value;

fn solved(place: &Place, arguments: &str) -> Value {
    let report = place.run(&format!("{arguments} --json")).json();
    assert_eq!(report["steps"], 0, "{report}");
    assert!(report["solved"]["seconds"].as_f64().unwrap() >= 0.0, "{report}");
    report
}

fn losses(report: &Value) -> (f64, f64) {
    let loss = |when: &str| report["validation"][when]["loss"].as_f64().unwrap_or_else(|| panic!("{report}"));
    (loss("before"), loss("after"))
}

/// `base.onnx` and photographs of three classes.
fn photographs() -> Place {
    let place = Place::with_model("mobilenet_folded");
    place.photographs("train", &["cat", "dog", "ship"], 24);
    place
}

#[test]
fn every_solver_beats_chance_and_gives_the_same_bytes() {
    let table = Place::with_table(2, "label", |row| if row[0] > 0.0 { "a".into() } else { "b".into() });
    let place = photographs();
    for (solver, l2) in [("ridge", true), ("moments", true), ("lbfgs", true), ("imprint", false)] {
        let report = solved(&table, &format!("train base.onnx --data table.csv --solver {solver} --out a.edelta"));
        let accuracy = report["validation"]["after"]["accuracy"].as_f64().unwrap();
        // A mean direction cannot tell the halves of a space apart; photographs below are another matter.
        assert!(accuracy > 0.6 || solver == "imprint", "{solver}: {accuracy} on held-out rows of two classes");

        let train = format!("train base.onnx --data train --solver {solver} --out a.edelta");
        let report = solved(&place, &train);
        assert_eq!(report["solved"]["solver"], solver);
        assert_eq!(report["solved"]["l2"].is_number(), l2);
        let first = place.read("a.edelta");
        place.run(&train).done();
        assert!(place.read("a.edelta") == first, "{solver}: other bytes");
        let measured = place.run("eval base.onnx --adapter a.edelta --data train --json").json();
        assert!(measured["accuracy"].as_f64().unwrap() > 0.45, "{solver}: {measured}");
        if solver == "moments" {
            // Each sample left out, the held-out ones too: a share of right answers that all samples tell.
            let told = &report["solved"]["leave_one_out"];
            assert_eq!(told["samples"], 72);
            assert!(told["accuracy"].as_f64().unwrap() > 0.4, "{told}");
        }
    }
    let said = place.run("train base.onnx --data train --solver ridge --out a.edelta").done().out;
    assert!(said.contains("to solve, --l2 ") && !said.contains("best epoch"), "{said}");
    let fixed = solved(&place, "train base.onnx --data train --solver ridge --l2 3 --out a.edelta");
    assert_eq!(fixed["solved"]["l2"], 3.0);
}

#[test]
fn numbers_and_sets_of_classes_are_solved() {
    let place = Place::with_table(2, "u,v", |row| format!("{},{}", row[0] - row[1], row[2] + 0.5));
    let numbers = "train base.onnx --data table.csv --label u --label v --out a.edelta";
    for (loss, solver) in [("mean-squared-error", "ridge"), ("mean-squared-error", "moments"), ("huber", "lbfgs")] {
        let (before, after) = losses(&solved(&place, &format!("{numbers} --loss {loss} --solver {solver}")));
        assert!(after < 0.3 * before, "{loss}: {before} → {after}");
    }
    let set = |row: &[f32]| if row[0] > 0.0 { "left;up" } else { "up" };
    let place = Place::with_table(2, "label", |row| set(row).into());
    for solver in ["ridge", "lbfgs"] {
        let train = "train base.onnx --data table.csv --loss binary-cross-entropy --out a.edelta --solver";
        let (before, after) = losses(&solved(&place, &format!("{train} {solver}")));
        assert!(after < 0.6 * before, "{solver}: {before} → {after}");
    }
}

#[test]
fn a_class_is_added_and_the_others_stay_as_they_are() {
    let place = photographs();
    place.photographs("more", &["cat", "dog", "frog"], 5);
    place.photographs("frogs", &["frog"], 5);
    place.run("train base.onnx --data train --solver ridge --out a.edelta").done();
    for data in ["more", "frogs"] {
        let add =
            format!("train base.onnx --data {data} --solver imprint --from a.edelta --val-fraction 0 --out b.edelta");
        solved(&place, &add);
        let rows = |delta: &str| {
            let adapter = edgetune::train::artifact::Adapter::read(&place.path(delta)).unwrap();
            let classes = adapter.labels.len();
            let rows = |(_, shape, values): &(String, Vec<u64>, Vec<f32>)| {
                let axis = shape.iter().position(|size| *size == classes as u64).unwrap();
                let inner: usize = shape[axis + 1..].iter().product::<u64>() as usize;
                let of = |row: usize| -> Vec<u32> {
                    let own = values.chunks(inner).enumerate().filter(|(place, _)| place % classes == row);
                    own.flat_map(|(_, values)| values).map(|value| value.to_bits()).collect()
                };
                (0..classes).map(of).collect::<Vec<_>>()
            };
            (adapter.labels.clone(), adapter.tensors.iter().map(rows).collect::<Vec<_>>())
        };
        let ((old_names, old), (names, new)) = (rows("a.edelta"), rows("b.edelta"));
        assert_eq!((old_names.join(" "), names.join(" ")), ("cat dog ship".into(), "cat dog ship frog".into()));
        for (old, new) in old.iter().zip(&new) {
            assert!(old[..] == new[..3], "a known class was changed");
            assert_eq!(new.len(), 4);
        }
        let measured = place.run("eval base.onnx --adapter b.edelta --data more --json").json();
        assert!(measured["per_class"]["frog"]["accuracy"].as_f64().unwrap() >= 0.6, "{data}: {measured}");
    }
    let again = "train base.onnx --data train --solver imprint --from a.edelta --out b.edelta";
    place.run(again).fails(&["--data train", "knows all its classes", "--from"]);
}

#[test]
fn a_head_without_a_bias_is_solved() {
    let place = Place::with_table(2, "label", |row| if row[0] > 0.0 { "a".into() } else { "b".into() });
    place.write("base.onnx", models::without_bias());
    let train = "train base.onnx --data table.csv --out a.edelta --solver";
    for solver in ["ridge", "lbfgs"] {
        let report = solved(&place, &format!("{train} {solver}"));
        assert_eq!(report["parameters"], 8 * 2, "{report}");
        let (before, after) = losses(&report);
        assert!(after < 0.8 * before, "{solver}: {before} → {after}");
    }
    solved(&place, &format!("{train} imprint"));
    place.write("more.csv", "a,b,c,d,label\n1,0,0,0,c\n0.9,0,0,0,c\n");
    let add = "train base.onnx --data more.csv --solver imprint --from a.edelta --val-fraction 0 --out b.edelta";
    place.run(add).fails(&["--solver", "no bias", "gradient steps"]);
}

#[test]
fn a_pointwise_convolution_is_solved_and_one_that_sees_more_is_not() {
    let place = Place::new();
    place.write("base.onnx", models::convolutional(1));
    place.write("wide.onnx", models::convolutional(3));
    let pixels = models::noise(9, 60 * 18);
    let brighter = |image: &[f32]| i64::from(image[..9].iter().sum::<f32>() > image[9..].iter().sum());
    place.write("data/x.npy", models::npy(&[60, 2, 3, 3], &pixels));
    place.write("data/y.npy", models::npy_i64(&[60], &pixels.chunks(18).map(brighter).collect::<Vec<_>>()));
    for solver in ["ridge", "lbfgs"] {
        let (before, after) = losses(&solved(&place, &format!("train base.onnx --data data --solver {solver}")));
        assert!(after < 0.75 * before, "{solver}: {before} → {after}");
    }
    solved(&place, "train base.onnx --data data --solver imprint");
    place.run("train wide.onnx --data data --solver ridge --out a.edelta").fails(&[
        "--solver",
        "constant_2",
        "not linear",
    ]);
}

#[test]
fn what_only_looks_linear_is_found_out() {
    let place = Place::with_table(2, "label", |row| if row[0] > 0.0 { "a".into() } else { "b".into() });
    place.write("base.onnx", models::rounded());
    for solver in ["ridge", "lbfgs", "imprint"] {
        let train = format!("train base.onnx --data table.csv --out a.edelta --solver {solver}");
        place.run(&train).fails(&["--solver", "changes more than its shape", "gradient steps"]);
        assert!(!place.path("a.edelta").exists());
    }
}

#[test]
fn what_has_no_closed_form_is_refused_with_what_helps() {
    let place = photographs();
    place.run("train base.onnx --data train --train last:2 --epochs 1 --out deep.edelta").done();
    place.photographs("frogs", &["frog"], 2);
    let with = |more: &str| format!("train base.onnx --data train --out a.edelta {more}");
    for (arguments, parts) in [
        (with("--solver ridge --train last:2"), &["--solver", "--train head"][..]),
        (with("--solver ridge --adapter lora"), &["--adapter", "--solver", "remove"]),
        (with("--solver ridge --loss next-token"), &["--solver", "language model", "gradient steps"]),
        (with("--solver ridge --train auto"), &["--train auto", "--solver", "remove"]),
        (with("--solver ridge --resume"), &["--resume", "--solver", "remove"]),
        (with("--solver ridge --epochs 3"), &["--epochs", "no gradient steps", "remove"]),
        (with("--solver ridge --class-weights balanced"), &["--class-weights", "lbfgs"]),
        (with("--solver ridge --l2 0"), &["--l2", "positive"]),
        (with("--solver imprint --l2 1"), &["--l2", "ridge or lbfgs"]),
        (with("--l2 1 --epochs 2"), &["--l2", "--weight-decay"]),
        (with("--l2 1 --solver steps"), &["--l2", "--weight-decay"]),
        (with("--l2 1 --train last:2"), &["--l2", "--weight-decay"]),
        (with("--solver lbfgs --max-steps 3"), &["--max-steps", "no gradient steps", "remove"]),
        (with("--solver ridge --from deep.edelta"), &["--from", "imprint"]),
        (with("--loss huber --solver ridge"), &["--solver", "lbfgs"]),
        (with("--loss mean-squared-error --solver lbfgs"), &["--solver", "ridge"]),
        (with("--loss mean-squared-error --solver imprint"), &["--solver", "one class"]),
        (
            "train base.onnx --data frogs --solver imprint --from deep.edelta --out a.edelta".into(),
            &["--from", "deep.edelta", "train anew"],
        ),
    ] {
        place.run(&arguments).fails(parts);
        assert!(!place.path("a.edelta").exists(), "{arguments}");
    }
}
