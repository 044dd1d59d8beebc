//! Anomalies, from normal samples to what is none of them.

use super::Place;
use super::models::{noise, perceptron};

/// Rows near a line, as `good`, and others away from it.
fn place() -> Place {
    let place = Place::new();
    place.write("base.onnx", perceptron(5));
    let (mut normal, mut both) = ("a,b,c,d,label\n".to_string(), "a,b,c,d,label\n".to_string());
    for (sample, row) in noise(11, 160 * 4).chunks_exact(4).enumerate() {
        let line = [row[0], 0.5 * row[0] + 0.02 * row[1], -row[0] + 0.02 * row[2], 0.02 * row[3]];
        let [a, b, c, d] = line;
        if sample < 120 {
            normal += &format!("{a},{b},{c},{d},good\n");
        } else if sample % 2 == 0 {
            both += &format!("{a},{b},{c},{d},good\n");
        } else {
            both += &format!("{},{b},{c},{},scratch\n", a + 1.0, d + 1.5);
        }
    }
    place.write("good.csv", normal);
    place.write("both.csv", both);
    place
}

#[test]
fn what_is_unlike_normal_samples_is_told() {
    let place = place();
    for loss in ["residual", "mahalanobis"] {
        let train = format!(
            "train base.onnx --data good.csv --test both.csv --loss {loss} --false-alarms 0.05 --out {loss}.edelta"
        );
        let ran = place.run(&train).done();
        assert!(ran.out.contains("auroc") && ran.out.contains("false alarms"), "{}\n{}", ran.out, ran.err);
        let measured = place.run(&format!("eval base.onnx --adapter {loss}.edelta --data both.csv --json")).json();
        let number = |name: &str| measured[name].as_f64().unwrap_or_else(|| panic!("{measured}"));
        assert!(number("auroc") > 0.9 && number("found") > 0.5 && number("false_alarms") < 0.3, "{loss}: {measured}");
        let answers = place.run(&format!("predict base.onnx --adapter {loss}.edelta both.csv --json")).json();
        for answer in answers.as_array().unwrap() {
            assert_eq!(answer["anomaly"].as_bool().unwrap(), answer["score"].as_f64().unwrap() > 1.0, "{answer}");
            assert!(answer.get("values").is_none());
        }
        let lines = place.run(&format!("predict base.onnx --adapter {loss}.edelta both.csv")).done().out;
        assert!(lines.contains(": anomaly ") && lines.contains(": normal "), "{lines}");
        let table = place.run(&format!("predict base.onnx --adapter {loss}.edelta both.csv --csv")).done().out;
        assert!(table.starts_with("input,from,to,score,anomaly\n"), "{table}");
    }
}

#[test]
fn what_is_no_matter_of_normal_samples_is_refused() {
    let place = place();
    let train = |rest: &str| format!("train base.onnx --out a.edelta {rest}");
    place.run(&train("--data good.csv --loss residual --epochs 3")).fails(&["--epochs", "found at once"]);
    place.run(&train("--data good.csv --loss residual --train last:2")).fails(&["--train", "found at once"]);
    place.run(&train("--data good.csv --loss residual --adapter lora")).fails(&["--adapter", "found at once"]);
    place.run(&train("--data good.csv --loss residual --false-alarms 1")).fails(&["--false-alarms"]);
    place.run(&train("--data good.csv --false-alarms 0.1")).fails(&["--false-alarms", "--loss residual"]);
    place.run(&train("--data nowhere/ --loss residual")).fails(&["nowhere"]);
    place.write("named.csv", "a,b,c,d,label\n1,2,3,4,ann\n2,3,4,5,bob\n");
    place.run(&train("--data named.csv --loss residual")).fails(&[
        "named.csv",
        "no class is called as normal",
        "`ann`",
    ]);
    place.write("few.csv", "a,b,c,d,label\n1,2,3,4,good\n2,3,4,5,good\n2,3,4,6,bad\n");
    place.run(&train("--data few.csv --loss residual")).fails(&["normal samples", "--val-fraction"]);
    assert!(!place.path("a.edelta").exists());
}
