//! Data in forms that people bring: cut files, data sets in parts, tables of numbers for models of pictures.

use super::models::{convolutional, noise};
use super::{Place, project};
use std::fs;

const TRAIN: &str = "--epochs 1 --batch 8 --out a.edelta";

/// Photographs of two classes with some that are cut off.
fn with_cut_files(count: usize) -> Place {
    let place = Place::with_model("mobilenet_folded");
    place.photographs("photos", &["cat", "dog"], 6);
    let whole = fs::read(project("tests/goldens/images/mosaic.jpg")).unwrap();
    for number in 0..count {
        place.write(&format!("photos/cat/half-{number}.jpg"), &whole[..whole.len() / 2 + number]);
    }
    place
}

#[test]
fn cut_photographs_are_no_samples_and_are_told() {
    let place = with_cut_files(1);
    let told = place.run(&format!("train base.onnx --data photos {TRAIN}")).done().err;
    assert!(told.contains("1 file was skipped") && told.contains("half-0.jpg: the JPEG file ends early"), "{told}");
    let told = place.run("eval base.onnx --adapter a.edelta --data photos").done().err;
    assert!(told.contains("half-0.jpg: the JPEG file ends early"), "{told}");
    let ran = place.run("predict base.onnx --adapter a.edelta photos/cat").done();
    assert!(ran.err.contains("half-0.jpg: the JPEG file ends early"), "{}", ran.err);
    assert_eq!(ran.out.lines().count(), 6, "{}", ran.out);
    place
        .run("predict base.onnx --adapter a.edelta photos/cat/half-0.jpg")
        .fails(&["half-0.jpg", "the JPEG file ends early"]);
    assert!(!place.path("a.edelta.skipped.txt").exists(), "one is told in a line");
}

#[test]
fn all_that_is_skipped_is_in_a_file_beside_the_run() {
    let place = with_cut_files(9);
    let train = format!("train base.onnx --data photos {TRAIN}");
    let told = place.run(&train).done().err;
    assert!(told.contains("9 files were skipped") && told.contains("… and 4 more"), "{told}");
    assert!(told.contains("all 9 are in a.edelta.skipped.txt"), "{told}");
    let listed = String::from_utf8(place.read("a.edelta.skipped.txt")).unwrap();
    for number in 0..9 {
        assert!(listed.contains(&format!("photos/cat/half-{number}.jpg\tthe JPEG file ends early\n")), "{listed}");
    }
    // A list of an earlier run gives way, somebody's own file does not.
    place.run(&train).done();
    place.write("a.edelta.skipped.txt", "my own");
    let told = place.run(&train).done().err;
    assert!(told.contains("warning: a.edelta.skipped.txt: this is no list"), "{told}");
    assert_eq!(place.read("a.edelta.skipped.txt"), b"my own");
    let told = place.run("predict base.onnx --adapter a.edelta photos/cat").done().err;
    assert_eq!(told.matches("the JPEG file ends early").count(), 9, "each answer that is missing is told: {told}");
}

#[test]
fn a_data_set_in_parts_is_taken_apart() {
    let place = Place::with_model("mobilenet_folded");
    place.photographs("photos/train", &["cat", "dog"], 8);
    place.photographs("photos/val", &["cat", "dog"], 5);
    place.photographs("photos/test", &["cat", "dog"], 3);
    let train = format!("train base.onnx --data photos --report r.json {TRAIN}");
    let told = place.run(&train).done().err;
    let parts = "parts     photos/train trains, photos/val validates, photos/test measures at the end";
    assert!(told.contains(parts), "{told}");
    assert!(told.contains("10 of the 10 samples of --val are in --data, too"), "{told}");
    let report = |place: &Place| serde_json::from_slice::<serde_json::Value>(&place.read("r.json")).unwrap();
    let counts =
        |report: &serde_json::Value| ["train_samples", "validation_samples"].map(|name| report[name].as_u64().unwrap());
    assert_eq!(counts(&report(&place)), [16, 10]);
    assert!(report(&place)["test"].is_object());
    // What is typed wins.
    let told = place.run(&format!("{train} --val-fraction 0.25 --test photos/val")).done().err;
    assert!(told.contains("parts     photos/train trains\n"), "{told}");
    assert_eq!(counts(&report(&place)), [12, 4]);
    place.run(&format!("train base.onnx --data photos/train --val photos/test --report r.json {TRAIN}")).done();
    assert_eq!(counts(&report(&place)), [16, 6]);
    let wrong = place.run(&format!("{train} --val photos/val --val-fraction 0.2"));
    assert!(wrong.code == Some(2) && wrong.err.contains("cannot be used with"), "{}", wrong.err);
    place.run(&format!("{train} --val photos/none")).fails(&["photos/none", "check the path"]);
    place.run("train base.onnx --data photos/train --val photos/test --out photos/test/a.edelta").fails(&["--val"]);
    let told = place.run("eval base.onnx --adapter a.edelta --data photos").done().err;
    assert!(told.contains("parts     photos/test is measured"), "{told}");
}

#[test]
fn a_table_of_numbers_is_fed_to_a_model_of_pictures() {
    let place = Place::new();
    place.write("base.onnx", convolutional(1));
    let columns: Vec<String> = (0..18).map(|place| format!("v{place}")).collect();
    let mut table = format!("{},label\n", columns.join(","));
    let (mut lists, classes) = (String::new(), ["low", "high", "none"]);
    for (number, row) in noise(3, 48 * 18).chunks_exact(18).enumerate() {
        let class = classes[number % 3];
        let cells: Vec<String> = row.iter().map(f32::to_string).collect();
        table += &format!("{},{class}\n", cells.join(","));
        let rows: Vec<String> = cells.chunks(3).map(|row| format!("[{}]", row.join(","))).collect();
        let planes: Vec<String> = rows.chunks(3).map(|plane| format!("[{}]", plane.join(","))).collect();
        lists += &format!("{{\"x\": [{}], \"label\": \"{class}\"}}\n", planes.join(","));
    }
    place.write("table.csv", table);
    place.write("lists.jsonl", lists);
    let told = place.run(&format!("train base.onnx --data table.csv --train last:2 {TRAIN}")).done().err;
    assert!(told.contains("18 numbers a sample are read as [2, 3, 3], the last axis running fastest"), "{told}");
    let flat = place.run("predict base.onnx --adapter a.edelta table.csv --json").json();
    // The same numbers as lists, of which nothing needs to be said.
    let ran = place.run("predict base.onnx --adapter a.edelta lists.jsonl --json").done();
    assert!(!ran.err.contains("numbers a sample are read as"), "{}", ran.err);
    let nested: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    let classes = |answers: &serde_json::Value| {
        answers.as_array().unwrap().iter().map(|answer| answer["classes"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(classes(&flat), classes(&nested));
    place.run(&format!("train base.onnx --data table.csv --size 3 {TRAIN}")).fails(&["--size", "table of numbers"]);
}
