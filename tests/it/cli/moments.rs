//! `edgetune moments`: sums of real features, from files to files.

use super::{Place, names};
use edgetune::delta::Delta;
use std::fs;

/// `base.onnx`, and photographs of three classes in three folders that share none.
fn place() -> Place {
    let place = Place::with_model("mobilenet_folded");
    place.photographs("all", &["cat", "dog", "ship"], 18);
    for (part, range) in [("monday", 0..10), ("tuesday", 10..14), ("withdrawn", 14..18)] {
        for class in ["cat", "dog", "ship"] {
            let mut files: Vec<_> =
                fs::read_dir(place.path(format!("all/{class}"))).unwrap().map(|entry| entry.unwrap().path()).collect();
            files.sort();
            let folder = place.path(format!("{part}/{class}"));
            fs::create_dir_all(&folder).unwrap();
            for file in &files[range.clone()] {
                fs::copy(file, folder.join(file.file_name().unwrap())).unwrap();
            }
        }
    }
    place
}

#[test]
fn what_is_added_merged_and_removed_is_exact_and_gives_a_head() {
    let place = place();
    let add = |data: &str, more: &str, out: &str| {
        place.run(&format!("moments add base.onnx --data {data} {more} --out {out}"))
    };
    let said = add("all", "", "all.emoments").done().out;
    assert!(said.contains("54 samples of 3 labels"), "{said}");
    add("monday", "", "monday.emoments").done();
    add("tuesday", "--to monday.emoments", "both.emoments").done();
    add("withdrawn", "", "withdrawn.emoments").done();
    add("tuesday", "", "tuesday.emoments").done();
    place.run("moments merge withdrawn.emoments tuesday.emoments monday.emoments --out merged.emoments").done();
    let all = place.read("all.emoments");
    assert!(place.read("merged.emoments") == all, "merged in another order: other bytes");
    place.run("moments merge both.emoments withdrawn.emoments --out again.emoments").done();
    assert!(place.read("again.emoments") == all, "added in two ways: other bytes");

    place.run("moments remove all.emoments --moments withdrawn.emoments --out left.emoments").done();
    place.run("moments remove all.emoments --data withdrawn --model base.onnx --out by-data.emoments").done();
    let never = place.read("both.emoments");
    assert!(place.read("left.emoments") == never, "what was removed left a trace");
    assert!(place.read("by-data.emoments") == never, "what was removed by its data left a trace");
    place.run("moments verify left.emoments --from all.emoments --removed withdrawn.emoments").done();
    place
        .run("moments verify tuesday.emoments --from all.emoments --removed withdrawn.emoments")
        .fails(&["tuesday.emoments", "not what"]);
    place.run("moments remove tuesday.emoments --moments monday.emoments --out x.emoments").fails(&[
        "tuesday.emoments",
        "never added",
        "samples",
    ]);

    place.run("moments solve both.emoments --model base.onnx --out both.edelta").done();
    place.run("moments solve left.emoments --model base.onnx --out left.edelta").done();
    let head = |name: &str| {
        let bytes = place.read(name);
        Delta::parse(&bytes)
            .unwrap()
            .tensors()
            .flat_map(|tensor| tensor.values().collect::<Vec<_>>())
            .collect::<Vec<f32>>()
    };
    assert_eq!(head("both.edelta"), head("left.edelta"));
    let measured = place.run("eval base.onnx --adapter both.edelta --data all --json").json();
    assert!(measured["accuracy"].as_f64().unwrap() > 0.45, "{measured}");
    assert_eq!(names(&measured["per_class"]), ["cat", "dog", "ship"]);
    // By the solver that has the samples it is the same, as far as fewer coordinates let it be.
    place.run("train base.onnx --data all --solver ridge --head replace --val-fraction 0 --out ridge.edelta").done();
    let solved = place.run("moments solve all.emoments --model base.onnx --data all --out all.edelta --json").json();
    assert_eq!(solved["left_out"]["samples"], 54);
    let loss = |delta: &str| {
        place.run(&format!("eval base.onnx --adapter {delta} --data all --json")).json()["loss"].as_f64().unwrap()
    };
    let (moments, ridge) = (loss("all.edelta"), loss("ridge.edelta"));
    assert!((moments - ridge).abs() < 0.15, "loss {moments} by moments, {ridge} by ridge");
}

#[test]
fn a_new_class_comes_without_the_samples_of_the_others() {
    let place = place();
    fs::create_dir(place.path("known")).unwrap();
    fs::create_dir(place.path("new")).unwrap();
    fs::rename(place.path("monday/ship"), place.path("new/ship")).unwrap();
    fs::rename(place.path("monday/cat"), place.path("known/cat")).unwrap();
    fs::rename(place.path("monday/dog"), place.path("known/dog")).unwrap();
    place.run("moments add base.onnx --data new --out new.emoments").done();
    place.run("moments add base.onnx --data known --out known.emoments").done();
    place.run("moments add base.onnx --data new --to known.emoments --out all.emoments").done();
    place.run("moments merge new.emoments known.emoments --out merged.emoments").done();
    assert!(place.read("all.emoments") == place.read("merged.emoments"));
    let shown = place.run("moments show all.emoments --json").json();
    let labels: Vec<&str> =
        shown["labels"].as_array().unwrap().iter().map(|label| label["name"].as_str().unwrap()).collect();
    assert_eq!(labels, ["cat", "dog", "ship"]);
    place.run("moments solve all.emoments --model base.onnx --out all.edelta").done();
    let measured = place.run("eval base.onnx --adapter all.edelta --data all --json").json();
    assert!(measured["accuracy"].as_f64().unwrap() > 0.45, "{measured}");
    // And goes again.
    place.run("moments remove all.emoments --moments new.emoments --out left.emoments").done();
    assert!(place.read("left.emoments") == place.read("known.emoments"));
}

#[test]
fn moments_are_signed_shown_and_refused_by_what_differs() {
    let place = place();
    place.run("delta keygen --out K.pem").done();
    place.run("delta keygen --out other.pem").done();
    place.run("moments add base.onnx --data monday --key K.pem --out a.emoments").done();
    place.run("moments add base.onnx --data tuesday --coordinates 20 --out small.emoments").done();
    place.run("moments verify a.emoments --public K.pub.pem").done();
    place.run("moments verify a.emoments --public other.pub.pem").fails(&["a.emoments", "another key"]);
    place.run("moments verify small.emoments --public K.pub.pem").fails(&["small.emoments", "not signed"]);
    place
        .run("moments merge a.emoments small.emoments --out x.emoments")
        .fails(&["a.emoments and small.emoments", "`coordinates`"]);
    place.run("moments merge a.emoments a.emoments --out x.emoments").fails(&["same moments", "twice"]);
    let shown = place.run("moments show a.emoments").done().out;
    assert!(shown.contains("signed by") && shown.contains("classification") && shown.contains("cat: 10"), "{shown}");

    // Nothing that is read is written over, and nothing of another kind.
    let before = place.read("a.emoments");
    place.run("moments add base.onnx --data tuesday --to a.emoments --out a.emoments").fails(&["a.emoments", "input"]);
    place.run("moments solve a.emoments --model base.onnx --out a.emoments --force").fails(&["a.emoments", "input"]);
    place.write("notes.txt", "mine");
    place.run("moments add base.onnx --data tuesday --out notes.txt").fails(&["notes.txt", "not moments"]);
    assert!(place.read("a.emoments") == before && place.read("notes.txt") == b"mine");

    place.link("tests/goldens/training/mobilenet_bn.onnx", "other.onnx");
    place.run("moments solve a.emoments --model other.onnx --out x.edelta").fails(&[
        "a.emoments",
        "other.onnx",
        "name that model",
    ]);
    let mut damaged = before.clone();
    damaged[60] ^= 1;
    place.write("damaged.emoments", damaged);
    place.run("moments show damaged.emoments").fails(&["damaged.emoments", "checksum"]);
    place.run("moments show K.pem").fails(&["K.pem", "EMOM"]);
    assert!(!place.names().iter().any(|name| name.starts_with("x.")));
}

#[test]
fn a_basis_of_data_is_made_once_and_needed_by_all() {
    let place = place();
    place.run("moments basis base.onnx --data monday --coordinates 24 --bits 10 --out base.ebasis").done();
    place.run("moments add base.onnx --data tuesday --basis base.ebasis --out a.emoments").done();
    place.run("moments add base.onnx --data withdrawn --basis base.ebasis --to a.emoments --out b.emoments").done();
    place.run("moments add base.onnx --data monday --to a.emoments --out c.emoments").fails(&["--basis FILE"]);
    place.run("moments solve b.emoments --model base.onnx --out b.edelta").fails(&["--basis FILE"]);
    place.run("moments solve b.emoments --model base.onnx --basis base.ebasis --out b.edelta").done();
    let measured = place.run("eval base.onnx --adapter b.edelta --data tuesday --json").json();
    assert!(measured["loss"].as_f64().unwrap() < 1.09, "{measured}: no better than chance");
    let shown = place.run("moments show b.emoments --json").json();
    assert_eq!((&shown["coordinates"], &shown["bits"], &shown["samples"]), (&24.into(), &10.into(), &24.into()));
    place
        .run("moments add base.onnx --data monday --basis a.emoments --out x.emoments")
        .fails(&["a.emoments", "not a basis"]);
}

#[test]
fn numbers_and_sets_of_classes_have_moments_too() {
    let place = Place::with_table(2, "u,v", |row| format!("{},{}", row[0] - row[1], row[2] + 0.5));
    let add = "moments add base.onnx --data table.csv --label u --label v --loss mean-squared-error";
    place.run(&format!("{add} --out a.emoments")).done();
    place.run("moments solve a.emoments --model base.onnx --out a.edelta").done();
    place.run("train base.onnx --data table.csv --label u --label v --loss mean-squared-error --solver ridge --head replace --val-fraction 0 --out r.edelta").done();
    let loss = |delta: &str| {
        let measured =
            place.run(&format!("eval base.onnx --adapter {delta} --data table.csv --label u --label v --json")).json();
        measured["loss"].as_f64().unwrap()
    };
    let (moments, ridge) = (loss("a.edelta"), loss("r.edelta"));
    assert!(moments < 1.05 * ridge + 1e-3, "{moments} by moments, {ridge} by ridge");
    place.run(&format!("{add} --target-step 0.00001 --out x.emoments")).fails(&["--target-step", "beyond"]);
    let set = |row: &[f32]| if row[0] > 0.0 { "left;up" } else { "up" };
    let place = Place::with_table(2, "label", |row| set(row).into());
    place.run("moments add base.onnx --data table.csv --loss binary-cross-entropy --out s.emoments").done();
    place.run("moments solve s.emoments --model base.onnx --out s.edelta").done();
    let measured = place.run("eval base.onnx --adapter s.edelta --data table.csv --json").json();
    assert!(measured["loss"].as_f64().unwrap() < 0.6, "{measured}");
}

/// What was learned is near, what was not is far, and a sample that was learned is measured without itself.
#[test]
fn what_is_none_of_the_classes_is_told_by_distance() {
    let place = Place::new();
    place.link("models/efficientnet_lite0/model.onnx", "base.onnx");
    place.link("models/efficientnet_lite0/preprocessor_config.json", "preprocessor_config.json");
    place.photographs("learned", &["cat", "ship"], 16);
    place.photographs("asked", &["ship", "frog"], 24);
    place.run("moments add base.onnx --data learned --coordinates 64 --out a.emoments").done();
    let asked = |data: &str| {
        place.run(&format!("moments known a.emoments --model base.onnx --learned learned --data {data} --json")).json()
    };
    let found = asked("asked");
    let (learned, answers) = (found["learned"].as_u64().unwrap(), found["answers"].as_array().unwrap());
    assert_eq!((learned, answers.len()), (32, 48));
    for answer in answers {
        let (known, share) = (answer["known"].as_f64().unwrap(), answer["share"].as_f64().unwrap());
        assert!((1.0 / 33.0..=1.0).contains(&known) && (0.5..=1.0).contains(&share), "{answer}");
        assert!(["cat", "ship"].contains(&answer["answer"].as_str().unwrap()), "{answer}");
    }
    let area = found["area_known"].as_f64().unwrap();
    assert!(area > 0.75, "known and unknown are told apart no better than {area}");
    // Where all are learned nothing is unknown, and there is no area.
    assert!(asked("learned")["area_known"].is_null());
    place.run("moments known a.emoments --model base.onnx --learned nowhere --data asked").fails(&["nowhere"]);
}
