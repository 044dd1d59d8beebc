//! Classes in an order, from a table to the answers.

use super::Place;
use serde_json::Value;

const LONG: &str = "--train last:2 --epochs 60 --batch 8 --lr 0.02 --out a.edelta";

/// Rows whose class is told by a number: it grows with `a`.
fn grades(names: [&'static str; 4]) -> Place {
    Place::with_table(3, "label", move |row| names[((row[0] + 0.5) * 3.999) as usize].into())
}

#[test]
fn numbers_are_learned_in_their_order() {
    let place = grades(["-1", "2", "10", "20"]);
    let ran = place.run(&format!("train base.onnx --data table.csv --loss coral {LONG}")).done();
    assert!(ran.err.contains("order     -1 < 2 < 10 < 20 (sorted as numbers"), "{}", ran.err);
    assert!(ran.out.contains("mean absolute error"), "{}", ran.out);
    let measured = place.run("eval base.onnx --adapter a.edelta --data table.csv --json").json();
    let number = |name: &str| measured[name].as_f64().unwrap_or_else(|| panic!("{measured}"));
    assert!(number("accuracy") > 0.8 && number("mean_absolute_error") < 0.25, "{measured}");
    assert_eq!(measured["per_class"].as_object().unwrap().len(), 4);
    let answers = place.run("predict base.onnx --adapter a.edelta table.csv --top 4 --json").json();
    for answer in answers.as_array().unwrap() {
        assert_eq!(answer["class"], answer["classes"][0]["name"]);
        let share = |class: &Value| class["probability"].as_f64().unwrap();
        let sum: f64 = answer["classes"].as_array().unwrap().iter().map(share).sum();
        assert!((sum - 1.0).abs() < 1e-5, "{answer}");
    }
    // What is learned goes on with the same classes in the same order.
    place.run("train base.onnx --data table.csv --from a.edelta --epochs 1 --out b.edelta").done();
    let again = place.run("eval base.onnx --adapter b.edelta --data table.csv --json").json();
    assert!(again["mean_absolute_error"].as_f64().unwrap() < 0.3, "{again}");
}

#[test]
fn names_have_the_order_of_classes_and_none_without() {
    let place = grades(["cold", "cool", "warm", "hot"]);
    let train = format!("train base.onnx --data table.csv --loss coral {LONG}");
    place.run(&train).fails(&["table.csv", "nothing tells the order", "`cold`", "--classes"]);
    place.write("order.txt", "cold\ncool\nwarm\nhot\n");
    let ran = place.run(&format!("{train} --classes order.txt")).done();
    assert!(ran.err.contains("order     cold < cool < warm < hot (--classes)"), "{}", ran.err);
    let measured = place.run("eval base.onnx --adapter a.edelta --data table.csv --json").json();
    assert!(measured["mean_absolute_error"].as_f64().unwrap() < 0.25, "{measured}");
    place.run(&format!("{train} --classes cold,cool,warm")).fails(&["class `hot`", "3 classes"]);
    place.run(&format!("{train} --classes order.txt --solver lbfgs")).fails(&["--solver"]);
}
