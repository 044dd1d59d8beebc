//! Sensor series, from the files to the predictions.

use super::Place;
use super::models::{noise, npy, series};
use serde_json::Value;
use std::f32::consts::TAU;

/// Rows in a second of the series.
const RATE: usize = 20;

/// Three channels of a person who does one thing after another, each for 8 s: `t,x,y,z,activity,subject,note` line by line. What is done
/// is told by the frequency, and every person moves by an own amount around an own mean.
fn person(number: usize) -> Vec<String> {
    let noise = noise(number as u64, 3 * 3 * 8 * RATE);
    let things = [("rest", 0.0f32), ("walk", 1.5), ("run", 4.0)];
    let row = |row: usize| {
        let (name, frequency) = things[row / (8 * RATE)];
        let time = row as f32 / RATE as f32;
        let wave = |place: usize| {
            let size = 20.0 + 3.0 * number as f32;
            100.0 * place as f32 + size * (TAU * frequency * time + place as f32).sin() + noise[3 * row + place]
        };
        format!("{time:.3},{:.4},{:.4},{:.4},{name},p{number},free text", wave(0), wave(1), wave(2))
    };
    (0..3 * 8 * RATE).map(row).collect()
}

const HEADER: &str = "t,x,y,z,activity,subject,note\n";

/// `base.onnx`, which takes 3 channels of 40 rows, and `all.csv` with the series of eight people.
fn place() -> Place {
    let place = Place::new();
    place.write("base.onnx", series(3, Some(40)));
    let rows: Vec<String> = (0..8).flat_map(person).collect();
    place.write("all.csv", format!("{HEADER}{}\n", rows.join("\n")));
    place
}

const LONG: &str = "--train head --out a.edelta";

fn right(answers: &Value, class: impl Fn(&Value) -> &'static str) -> f64 {
    let answers = answers.as_array().unwrap();
    let right = answers.iter().filter(|answer| answer["classes"][0]["name"] == class(answer)).count();
    right as f64 / answers.len() as f64
}

#[test]
fn a_table_is_learned_person_by_person_and_each_window_answered() {
    let place = place();
    let run = place.run(&format!("train base.onnx --data all.csv --window 2s --hop 1s {LONG}")).done();
    for told in [
        "20 Hz, windows of 40 rows (2 s) every 20 (1 s), 3 channels (x, y, z)",
        "not read: note",
        "label: column activity",
        "group: column subject",
        "groups    8 by column `subject`: 6 train, 2 validate",
        "training windows: mean",
    ] {
        assert!(run.err.contains(told), "{told}: {}", run.err);
    }
    // A new person, whose file has neither label nor group, and the columns in another order.
    let rows = person(9).into_iter().map(|row| {
        let cells: Vec<&str> = row.split(',').collect();
        format!("{},{},{},{}\n", cells[3], cells[1], cells[0], cells[2])
    });
    place.write("new.csv", format!("z,x,t,y\n{}", rows.collect::<String>()));
    let answers = place.run("predict base.onnx --adapter a.edelta new.csv --json").json();
    assert_eq!(answers.as_array().unwrap().len(), 23);
    assert_eq!((&answers[1]["from"], &answers[1]["to"]), (&1.0.into(), &3.0.into()));
    assert!(answers[1]["input"].as_str().unwrap().ends_with("new.csv[1-3 s]"), "{}", answers[1]);
    let class = |answer: &Value| match answer["from"].as_f64().unwrap() + 1.0 {
        middle if middle < 8.0 => "rest",
        middle if middle < 16.0 => "walk",
        _ => "run",
    };
    assert!(right(&answers, class) > 0.85, "{answers}");
    let table = place.run("predict base.onnx --adapter a.edelta new.csv --csv").done().out;
    assert!(table.starts_with("input,from,to,class,probability\nnew.csv[0-2 s],0,2,rest,"), "{table}");
    let told = place.run("predict base.onnx --adapter a.edelta new.csv").done().out;
    assert!(told.starts_with("new.csv[0-2 s]: rest "), "{told}");
    let measured = place.run("eval base.onnx --adapter a.edelta --data all.csv --json").json();
    assert!(
        measured["accuracy"].as_f64().unwrap() > 0.85 && measured["macro_f1"].as_f64().unwrap() > 0.85,
        "{measured}"
    );
    // All of it travels in the delta.
    let shown = place.run("delta show a.edelta --json").json();
    let series = &shown["preprocessing"]["Series"];
    assert_eq!(
        (&series["rows"], &series["hop"], &series["channels"]),
        (&40.into(), &20.into(), &serde_json::json!(["x", "y", "z"]))
    );
    assert!((series["scaler"]["mean"][2].as_f64().unwrap() - 200.0).abs() < 20.0, "{series}");
    // And in the model that is made of both.
    place.run("export --adapter a.edelta --model base.onnx --to onnx --out whole.onnx").done();
    let run = place.run("train whole.onnx --data all.csv --out again.edelta").done();
    assert!(run.err.contains("from the model's metadata") && !run.err.contains("training windows"), "{}", run.err);
    let again = place.run("delta show again.edelta --json").json();
    assert_eq!(again["preprocessing"]["Series"]["scaler"], series["scaler"]);
    // Without the channels' scale nothing is like what was learned.
    place.write("other.csv", "t,x,y\n0,1,1\n0.05,1,1\n");
    place.run("predict base.onnx --adapter a.edelta other.csv").fails(&[
        "other.csv:1",
        "no channel column `z`",
        "t, x, y",
    ]);
}

#[test]
fn class_folders_of_tables_and_arrays_are_learned_with_each_file_on_one_side() {
    let place = Place::new();
    place.write("base.onnx", series(3, None));
    for (thing, name) in ["rest", "walk", "run"].iter().enumerate() {
        for number in 0..6 {
            let rows = person(number)[thing * 8 * RATE..(thing + 1) * 8 * RATE].to_vec();
            let rows: Vec<Vec<f32>> =
                rows.iter().map(|row| row.split(',').take(4).map(|cell| cell.parse().unwrap()).collect()).collect();
            match number {
                0 => {
                    let values: Vec<f32> = rows.iter().flat_map(|row| row[1..].to_vec()).collect();
                    place.write(&format!("things/{name}/{number}.npy"), npy(&[rows.len() as u64, 3], &values));
                }
                _ => {
                    let line = |row: &Vec<f32>| row.iter().map(f32::to_string).collect::<Vec<_>>().join(",") + "\n";
                    let text: String = rows.iter().map(line).collect();
                    place.write(&format!("things/{name}/{number}.csv"), format!("time,x,y,z\n{text}"));
                }
            }
        }
    }
    let run = place.run(&format!("train base.onnx --data things --window 2s --hop 10 {LONG}")).done();
    assert!(run.err.contains("groups    18 by file") && run.err.contains("every 10 (0.5 s)"), "{}", run.err);
    let answers = place.run("predict base.onnx --adapter a.edelta things --json").json();
    let class = |answer: &Value| {
        let input = answer["input"].as_str().unwrap();
        ["rest", "walk", "run"].into_iter().find(|name| input.contains(&format!("/{name}/"))).unwrap()
    };
    assert!(right(&answers, class) > 0.85, "{answers}");
    // Arrays alone have neither names nor a rate.
    for name in ["rest", "walk"] {
        let array = place.read(&format!("things/{name}/0.npy"));
        place.write(&format!("arrays/{name}/0.npy"), &array);
        place.write(&format!("arrays/{name}/1.npy"), [&array[..array.len() - 4], &[0; 4]].concat());
    }
    let run = "train base.onnx --data arrays --epochs 1 --out b.edelta";
    place.run(&format!("{run} --window 2s")).fails(&["--window 2s", "--sample-rate"]);
    let run = place.run(&format!("{run} --window 2s --sample-rate 20")).done();
    assert!(run.err.contains("3 channels (0, 1, 2)") && run.err.contains("windows of 40 rows (2 s)"), "{}", run.err);
    let told = place.run("predict base.onnx --adapter b.edelta arrays/walk/0.npy").done().out;
    assert!(told.starts_with("arrays/walk/0.npy[0-2 s]: "), "{told}");
}

#[test]
fn a_table_beside_the_files_says_what_is_what_and_numbers_are_learned() {
    let place = place();
    let mut parts = String::from("file,start,end,label,subject\n");
    for number in 0..6 {
        let rows: Vec<String> =
            person(number).iter().map(|row| row.split(',').take(4).collect::<Vec<_>>().join(",")).collect();
        place.write(&format!("people/{number}.csv"), format!("t,x,y,z\n{}\n", rows.join("\n")));
        for (thing, name) in ["rest", "walk", "run"].iter().enumerate() {
            parts += &format!("{number}.csv,{},{},{name},p{number}\n", 8 * thing, 8 * thing + 8);
        }
    }
    place.write("people/parts.csv", parts);
    let run = place.run(&format!("train base.onnx --data people/parts.csv --hop 1s {LONG}")).done();
    assert!(run.err.contains("groups    6 by the table's column of groups"), "{}", run.err);
    let answers = place.run("predict base.onnx --adapter a.edelta people/5.csv --json").json();
    assert_eq!(answers.as_array().unwrap().len(), 23);
    // The numbers that rows have are learned by their mean over the window.
    let rows: Vec<String> = (0..8).flat_map(person).collect();
    let speed = |row: &String| {
        let speed = ["rest", "walk", "run"].iter().position(|name| row.contains(name)).unwrap();
        format!("{},{speed}", row.rsplit_once(",free").unwrap().0)
    };
    let rows: Vec<String> = rows.iter().map(speed).collect();
    place.write("speed.csv", format!("t,x,y,z,activity,subject,speed\n{}\n", rows.join("\n")));
    let run =
        "train base.onnx --data speed.csv --label speed --loss mean-squared-error --train head --out speed.edelta";
    let run = place.run(run).done();
    assert!(run.err.contains("3 channels (x, y, z)") && run.err.contains("not read: activity"), "{}", run.err);
    let answers = place.run("predict base.onnx --adapter speed.edelta speed.csv --json").json();
    let answers = answers.as_array().unwrap();
    let value = |answer: &Value| answer["values"][0].as_f64().unwrap();
    assert!(value(&answers[2]) < 0.6 && value(&answers[20]) > 1.4, "{} {}", answers[2], answers[20]);
}

#[test]
fn what_is_no_series_for_the_model_is_refused_by_name() {
    let place = place();
    let run = "train base.onnx --data all.csv --out b.edelta";
    place.run(&format!("{run} --window 3s")).fails(&["--window 3s", "60 rows", "takes 40"]);
    place.run(&format!("{run} --channels x,y")).fails(&["2 channels (x, y)", "no axis of 2", "--channels"]);
    place.run(&format!("{run} --channels x,y,w")).fails(&["all.csv:1", "no channel column `w`"]);
    place.run(&format!("{run} --hop 0")).fails(&["--hop"]);
    place.run(&format!("{run} --scale 2")).fails(&["--scale 2", "standard"]);
    place.run(&format!("{run} --group none --time subject")).fails(&["all.csv:2", "column `subject`", "no time"]);
    place.run(&format!("{run} --sample-rate 0")).fails(&["--sample-rate 0"]);
    place.run(&format!("{run} --group person")).fails(&["no group column `person`"]);
    place.run("train base.onnx --data none.csv --window 2s --out b.edelta").fails(&["none.csv", "cannot be read"]);
    place.write("all.parquet", "PAR1");
    place.run("train base.onnx --data all.parquet --window 2s --out b.edelta").fails(&["all.parquet", "CSV"]);
    assert!(!place.path("b.edelta").exists());
    // A row that holds all numbers of a window is a sample, though a column is called t.
    let names: Vec<String> = (0..119).map(|place| format!("c{place}")).collect();
    let line = |row: usize| {
        let numbers: Vec<String> = noise(row as u64, 120).iter().map(f32::to_string).collect();
        format!("{},{}\n", numbers.join(","), if row.is_multiple_of(2) { "a" } else { "b" })
    };
    let rows: String = (0..20).map(line).collect();
    place.write("flat.csv", format!("t,{},label\n{rows}", names.join(",")));
    let run = place.run("train base.onnx --data flat.csv --epochs 1 --out flat.edelta").done();
    assert!(!run.err.contains("windows of"), "{}", run.err);
    let moments = "moments add base.onnx --data all.csv --out m.emoments";
    place.run(moments).fails(&["all.csv", "--scale none"]);
    place.run(&format!("{moments} --scale none")).done();
}
