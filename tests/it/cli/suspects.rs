//! `edgetune data check`: wrong labels, duplicates, outliers and leakage through the program.

use super::Place;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;

/// The names of what was found of a kind.
fn names<'v>(found: &'v Value, kind: &str) -> BTreeSet<&'v str> {
    found[kind].as_array().unwrap().iter().map(|one| one["sample"].as_str().unwrap()).collect()
}

/// A table whose classes a line tells apart, with every eighth label changed where that is beyond doubt.
fn table() -> Place {
    let place = Place::with_table(3, "label", |row| if row[0] > 0.0 { "a".into() } else { "b".into() });
    let text = String::from_utf8(place.read("table.csv")).unwrap();
    let flip = |(number, line): (usize, &str)| {
        let (row, label) = line.rsplit_once(',').unwrap();
        let first: f32 = row.split(',').next().unwrap().parse().unwrap_or(0.0);
        // Only where no doubt is possible.
        let wrong = number > 0 && number % 8 == 0 && first.abs() > 0.1;
        let other = if label == "a" { "b" } else { "a" };
        format!("{row},{}", if wrong { other } else { label })
    };
    let lines: Vec<String> = text.lines().enumerate().map(flip).collect();
    place.write("flipped.csv", lines.join("\n") + "\n");
    place
}

#[test]
fn labels_that_were_changed_are_found() {
    let place = table();
    let right = String::from_utf8(place.read("table.csv")).unwrap();
    let wrong = String::from_utf8(place.read("flipped.csv")).unwrap();
    let changed: BTreeSet<String> = (right.lines().zip(wrong.lines()).enumerate())
        .filter(|(_, (right, wrong))| right != wrong)
        .map(|(line, _)| format!("flipped.csv:{}", line + 1))
        .collect();
    assert!(changed.len() >= 3, "{changed:?}");
    let found = place.run("data check flipped.csv --model base.onnx --json").json();
    let named: BTreeSet<String> = names(&found, "label_errors").into_iter().map(String::from).collect();
    let hits = named.intersection(&changed).count();
    assert!(10 * hits >= 7 * changed.len(), "{hits} of {changed:?}: {named:?}");
    assert!(2 * hits >= named.len(), "{hits} of {named:?}");
    let text = place.run("data check flipped.csv --model base.onnx").done().out;
    assert!(text.starts_with("wrong labels, probably: ") && text.contains(": given "), "{text}");
    let clean = place.run("data check table.csv --model base.onnx --json").json();
    assert!(names(&clean, "label_errors").len() <= 2, "{clean}");
}

#[test]
fn copies_and_what_is_measured_by_are_found_and_set_aside() {
    let place = Place::with_model("mobilenet_folded");
    place.photographs("train", &["cat", "dog"], 20);
    place.photographs("test", &["cat", "dog"], 4);
    let first = |class: &str| {
        let mut files: Vec<_> =
            fs::read_dir(place.path(format!("train/{class}"))).unwrap().map(|file| file.unwrap().path()).collect();
        files.sort();
        files[0].clone()
    };
    fs::copy(first("cat"), place.path("train/dog/zz.png")).unwrap();
    fs::copy(first("dog"), place.path("test/dog/seen.png")).unwrap();
    fs::write(place.path("train/cat/broken.png"), b"no picture").unwrap();
    let found = place.run("data check train --model base.onnx --test test --json").json();
    let copy = found["duplicates"].as_array().unwrap().iter().find(|one| one["sample"] == "train/dog/zz.png");
    let copy = copy.unwrap_or_else(|| panic!("{found}"));
    assert_eq!((&copy["same_label"], &copy["distance"]), (&Value::from(false), &Value::from(0.0)));
    assert!(names(&found, "leakage").contains("test/dog/seen.png"), "{found}");
    assert!(names(&found, "unreadable").contains("train/cat/broken.png"), "{found}");

    let wrong: Vec<String> = names(&found, "label_errors").into_iter().map(String::from).collect();
    place.run("data check train --model base.onnx --fix train/aside").fails(&["--fix", "train"]);
    place.run("data check train --model base.onnx --fix aside").done();
    assert!(!place.path("train/dog/zz.png").exists());
    let moved = |folder: &str| fs::read_dir(place.path(folder)).map_or(0, Iterator::count);
    let set_aside = wrong.iter().filter(|name| !place.path(name).exists()).count();
    assert!(moved("aside/duplicates") + set_aside >= 1);
    let again = place.run("data check train --model base.onnx --json").json();
    assert!(!names(&again, "duplicates").contains("train/dog/zz.png"), "{again}");
    place.run("data check missing --model base.onnx").fails(&["missing"]);
}

#[test]
fn a_sample_like_no_other_and_a_surprising_number_are_found() {
    let place = Place::with_table(3, "y", |row| (row[0] * 3.0 + 5.0).to_string());
    let mut text = String::from_utf8(place.read("table.csv")).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let (row, number) = lines[7].rsplit_once(',').unwrap();
    let wrong = format!("{row},{}", number.parse::<f32>().unwrap() + 100.0);
    text = text.replace(lines[7], &wrong) + "90,90,90,90,275\n";
    let last = text.lines().count();
    place.write("far.csv", &text);
    let found = place.run("data check far.csv --model base.onnx --loss mse --label y --json").json();
    assert!(names(&found, "outliers").contains(&*format!("far.csv:{last}")), "{found}");
    assert!(names(&found, "label_errors").contains("far.csv:8"), "{found}");
}

/// Sets of classes are not judged, and what needs no labels is told all the same.
#[test]
fn sets_of_classes_are_compared_and_not_judged() {
    let set = |row: &[f32]| {
        if row[0] <= 0.0 {
            "up"
        } else if row[1] > 0.0 {
            "left;up"
        } else {
            "left"
        }
    };
    let place = Place::with_table(2, "label", |row| set(row).into());
    let table = String::from_utf8(place.read("table.csv")).unwrap();
    let copy = table.lines().nth(3).unwrap();
    place.write("twice.csv", format!("{table}{copy}\n"));
    let check = "data check twice.csv --model base.onnx --loss bce --label label";
    let ran = place.run(&format!("{check} --json"));
    assert!(ran.err.contains("those of these data are not"), "{}", ran.err);
    let found = ran.json();
    assert!(
        names(&found, "label_errors").is_empty() && names(&found, "duplicates").contains("twice.csv:66"),
        "{found}"
    );
}
