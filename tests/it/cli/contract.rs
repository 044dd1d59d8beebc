//! The names that others script against: what `--json` prints and `--report` writes.

use super::{Place, names};
use serde_json::Value;

/// `base.onnx`, twelve photographs of three classes in `train`, as many in `test`.
fn trained() -> Place {
    let place = Place::with_model("mobilenet_folded");
    place.photographs("train", &["cat", "dog", "ship"], 12);
    place.photographs("test", &["cat", "dog", "ship"], 4);
    place
}

const TRAIN: &str = "train base.onnx --data train --epochs 2 --batch 8 --out a.edelta";

#[test]
fn train_reports_what_the_contract_names() {
    let place = trained();
    let printed = place.run(&format!("{TRAIN} --test test --report r.json --json")).json();
    let report: Value = serde_json::from_slice(&place.read("r.json")).unwrap();
    assert_eq!(names(&printed), names(&report));
    let contract = [
        "epochs",
        "first_step_s",
        "steps_per_s",
        "body_samples_per_s",
        "peak_rss_bytes",
        "peak_private_bytes",
        "delta_bytes",
        "cache_bytes",
        "parameters",
        "seed",
        "base_hash",
        "versions",
    ];
    for name in contract {
        assert!(!report[name].is_null(), "{name}: {report}");
    }
    let epochs = report["epochs"].as_array().unwrap();
    assert_eq!(epochs.len(), 2);
    let epoch = ["seconds", "train_loss", "validation_accuracy", "validation_loss", "validation_perplexity"];
    assert_eq!(names(&epochs[0]), epoch);
    assert_eq!(names(&report["versions"]), ["edgetune", "onnxruntime"]);
    assert_eq!(report["delta_bytes"], place.read("a.edelta").len());
    assert_eq!(report["base_hash"].as_str().unwrap().len(), 64);
    assert_eq!(report["test"]["after"]["samples"], 12);
    assert_eq!((&report["train_samples"], &report["validation_samples"]), (&29.into(), &7.into()));
    assert!(report["first_step_s"].as_f64().unwrap() < report["seconds"].as_f64().unwrap());
    assert!(report["peak_private_bytes"].as_u64() < report["peak_rss_bytes"].as_u64());
}

#[test]
fn eval_and_predict_answer_as_the_contract_says() {
    let place = trained();
    place.run(TRAIN).done();
    let measured = place.run("eval base.onnx --adapter a.edelta --data test --json").json();
    assert_eq!(names(&measured), ["accuracy", "loss", "macro_f1", "per_class", "samples"]);
    assert_eq!(names(&measured["per_class"]), ["cat", "dog", "ship"]);
    assert_eq!(names(&measured["per_class"]["cat"]), ["accuracy", "samples"]);
    assert_eq!(measured["samples"], 12);
    let text = place.run("eval base.onnx --adapter a.edelta --data test").done().out;
    assert!(text.starts_with("accuracy  ") && text.contains("\nloss      ") && text.contains("ship"), "{text}");

    let predictions = place.run("predict base.onnx --adapter a.edelta test --top 2 --json").json();
    let predictions = predictions.as_array().unwrap();
    assert_eq!(predictions.len(), 12);
    let right = predictions.iter().filter(|prediction| {
        assert_eq!(names(prediction), ["classes", "input"]);
        let classes = prediction["classes"].as_array().unwrap();
        assert_eq!((classes.len(), names(&classes[0])), (2, vec!["name", "probability"]));
        assert!(classes[0]["probability"].as_f64() >= classes[1]["probability"].as_f64());
        prediction["input"].as_str().unwrap().contains(classes[0]["name"].as_str().unwrap())
    });
    let accuracy = right.count() as f64 / 12.0;
    assert_eq!(measured["accuracy"].as_f64(), Some(accuracy), "predict and eval disagree");
}

#[test]
fn ops_lists_the_rules_as_the_contract_says() {
    let place = Place::new();
    let rows = place.run("ops --json").json();
    let rows = rows.as_array().unwrap();
    assert!(rows.len() > 50);
    for row in rows {
        assert_eq!(names(row), ["domain", "gradient", "note", "op", "opset_max", "opset_min"]);
        let gradient = row["gradient"].as_str().unwrap();
        assert!(["flows", "stops", "refuses"].contains(&gradient), "{row}");
        assert!(gradient != "refuses" || !row["note"].as_str().unwrap().is_empty(), "{row}");
        assert!(row["opset_min"].as_i64() <= row["opset_max"].as_i64(), "{row}");
    }
    let text = place.run("ops matmul").done().out;
    assert!(text.lines().count() >= 2 && text.lines().skip(1).all(|line| line.contains("MatMul")), "{text}");
}

#[test]
fn the_machine_and_its_library_are_described() {
    let place = Place::new();
    let library = place.run("runtime which --json").json();
    assert_eq!(names(&library), ["build_info", "origin", "passed_over", "path", "providers", "version"]);
    assert_eq!(library["origin"], "named by ORT_DYLIB_PATH");
    for finding in place.run("doctor --json").json().as_array().unwrap() {
        assert_eq!(names(finding), ["fine", "found", "remedy", "what"]);
    }
}

#[test]
fn tasks_are_listed_with_an_example_that_the_program_understands() {
    let place = Place::new();
    let rows = place.run("tasks --json").json();
    let listed: Vec<&str> = rows.as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap()).collect();
    assert_eq!(listed, edgetune::task::TASKS.iter().map(|task| task.name).collect::<Vec<_>>());
    for row in rows.as_array().unwrap() {
        assert_eq!(names(row), ["answer", "data", "example", "losses", "metric", "name"]);
        let example = row["example"].as_str().unwrap().strip_prefix("edgetune ").unwrap();
        // The options are right, so what is missed is the model.
        place.run(example).fails(&["model.onnx"]);
    }
    let text = place.run("tasks").done().out;
    assert!(text.contains("\nordinal\n") && text.contains("  loss     coral\n"), "{text}");
}

/// `UPDATE=1 cargo test page_of_tasks` writes the table anew.
#[test]
fn the_page_of_tasks_has_the_table_that_the_program_knows() {
    const HEAD: &str = "| task | data |";
    let table = Place::new().run("tasks --markdown").done().out;
    let path = super::project("docs/tasks.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let start = page.find(HEAD).expect("a table");
    let end = start + page[start..].find("\n\n").expect("a line behind the table") + 1;
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, format!("{}{table}{}", &page[..start], &page[end..])).unwrap();
        return;
    }
    assert!(page[start..end] == table, "the tasks changed: UPDATE=1 cargo test page_of_tasks");
}

/// `UPDATE=1 cargo test page_lists_operators` writes the table anew.
#[test]
fn the_page_lists_operators_as_the_program_knows_them() {
    const MARKS: (&str, &str) = ("<!-- ops: begin -->\n", "<!-- ops: end -->");
    let table = Place::new().run("ops --markdown").done().out;
    assert!(table.lines().count() > 50 && table.contains("| `MatMul` |"), "{table}");
    let path = super::project("docs/operators.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(MARKS.0).expect("the first mark");
    let (found, after) = rest.split_once(MARKS.1).expect("the second mark");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, format!("{before}{}{table}{}{after}", MARKS.0, MARKS.1)).unwrap();
        return;
    }
    assert!(found == table, "the rules changed: UPDATE=1 cargo test page_lists_operators");
}
