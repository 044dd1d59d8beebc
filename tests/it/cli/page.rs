//! `train --report`: a page that a browser shows without anything else, and the same as JSON.

use super::Place;
use serde_json::Value;

const TRAIN: &str = "train base.onnx --data train --out a.edelta --force";

fn place() -> Place {
    let place = Place::with_model("mobilenet_folded");
    place.photographs("train", &["cat", "dog", "ship"], 20);
    place.photographs("test", &["cat", "dog", "ship"], 8);
    place
}

fn page(place: &Place, more: &str) -> String {
    place.run(&format!("{TRAIN} {more} --report r.html")).done();
    String::from_utf8(place.read("r.html")).unwrap()
}

#[test]
fn a_page_needs_nothing_but_itself() {
    let place = place();
    let page = page(&place, "--epochs 3 --test test");
    for part in [
        "<h1>Training of base.onnx</h1>",
        "Accuracy",
        "Learning",
        "<svg ",
        "Confusion",
        "Calibration",
        "Worst mistakes",
        "Recipe",
    ] {
        assert!(page.contains(part), "`{part}` is not in the page");
    }
    assert!(page.contains("24 test samples that were not learned from"));
    assert!(page.contains("src=\"data:image/png;base64,"), "photographs lie in the page");
    let other = page.replace("http://www.w3.org/2000/svg", "");
    assert!(!other.contains("http") && !other.contains("<script"), "the page loads something");
}

/// What an adapter says of itself is a page, too, without data or model.
#[test]
fn an_adapter_has_a_page_of_its_own() {
    let place = place();
    place.run(&format!("{TRAIN} --epochs 3 --test test")).done();
    let shown = place.run("delta show a.edelta --json").json();
    place.run("report a.edelta --out a.html").done();
    let page = String::from_utf8(place.read("a.html")).unwrap();
    let identity = shown["identity"].as_str().unwrap();
    for part in [
        "<h1>Adapter a.edelta</h1>",
        identity,
        "Accuracy, test samples",
        "Signed by",
        "nobody",
        "ship",
        "fp16",
        "Recipe",
    ] {
        assert!(page.contains(part), "`{part}` is not in the page: {page}");
    }
    assert!(!page.contains("http") && !page.contains("<script"), "the page loads something");
    place.run("report a.edelta --out a.edelta").fails(&["a.edelta"]);
    place.run("report a.edelta --out base.onnx").fails(&["base.onnx", "--force"]);
    place.run("report base.onnx --out b.html").fails(&["base.onnx"]);
}

/// What the page shows is what was measured.
#[test]
fn the_report_holds_every_answer() {
    let place = place();
    place.run(&format!("{TRAIN} --test test --report r.json")).done();
    let report: Value = serde_json::from_slice(&place.read("r.json")).unwrap();
    let answers = &report["answers"];
    let sum = |of: &dyn Fn(&Value) -> bool| -> u64 {
        let pairs = answers["confusion"].as_array().unwrap().iter().filter(|pair| of(pair));
        pairs.map(|pair| pair["samples"].as_u64().unwrap()).sum()
    };
    assert_eq!(sum(&|_| true), 24);
    let right = sum(&|pair| pair["given"] == pair["answered"]);
    let accuracy = report["test"]["after"]["accuracy"].as_f64().unwrap();
    assert!((right as f64 / 24.0 - accuracy).abs() < 1e-9, "{report}");
    assert_eq!(answers["mistakes"].as_array().unwrap().len() as u64, 24 - right);
    for class in report["test"]["after"]["per_class"].as_array().unwrap() {
        let recognised = sum(&|pair| pair["given"] == class["name"] && pair["answered"] == class["name"]);
        assert_eq!(recognised as f64 / 8.0, class["recall"].as_f64().unwrap());
    }
    assert!(report["label_errors"].is_array(), "{report}");
    let bins = answers["calibration"]["bins"].as_array().unwrap();
    assert_eq!(bins.iter().map(|bin| bin["samples"].as_u64().unwrap()).sum::<u64>(), 24);
    // A page is no JSON report, and gives way to no other kind of file.
    place.write("notes.html", "my notes");
    place.run("train base.onnx --data train --out b.edelta --report notes.html").fails(&["notes.html", "--force"]);
    assert_eq!(place.read("notes.html"), b"my notes");
}

#[test]
fn numbers_have_no_confusion() {
    let place = Place::with_table(3, "y", |row| (row[0] * 3.0 + 5.0).to_string());
    place.run("train base.onnx --data table.csv --loss mse --label y --out a.edelta --report r.html").done();
    let page = String::from_utf8(place.read("r.html")).unwrap();
    assert!(page.contains("Loss") && page.contains("Cost") && !page.contains("Confusion"), "{page}");
}

/// Two trainings beside each other: the better one first, and what is no report left out.
#[test]
fn trainings_are_compared_by_their_reports() {
    let place = place();
    place.write("runs/notes.json", "{}");
    for (name, more) in [("one", "--epochs 1 --solver steps"), ("more", "--epochs 8 --solver steps --lr 0.01")] {
        place.run(&format!("{TRAIN} {more} --test test --report runs/{name}.json")).done();
    }
    let ran = place.run("board runs --json");
    assert!(ran.err.contains("runs/notes.json is no report"), "{}", ran.err);
    let runs = ran.json();
    let accuracy = |place: usize| runs[place]["after"]["accuracy"].as_f64().unwrap();
    assert!(runs.as_array().unwrap().len() == 2 && accuracy(0) >= accuracy(1), "{runs}");
    assert_eq!(runs[0]["measured_on"], "24 test");
    let text = place.run("board runs --out board.html").done().out;
    assert!(text.starts_with("training ") && text.lines().count() == 3, "{text}");
    let page = String::from_utf8(place.read("board.html")).unwrap();
    assert!(page.contains("<h1>Trainings</h1>") && page.contains("<svg ") && page.contains("epochs = 8"), "{page}");
    place.run("board runs/notes.json").fails(&["notes.json", "--report"]);
    place.run("board missing").fails(&["missing"]);
}
