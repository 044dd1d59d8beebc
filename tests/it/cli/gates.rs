//! What an adapter has to meet before it is written, and probabilities that are calibrated.

use super::Place;
use super::classes::knowing;
use serde_json::Value;

const TRAIN: &str = "train base.onnx --data train --out a.edelta --force";

fn place() -> Place {
    let place = Place::with_model("mobilenet_folded");
    place.photographs("train", &["cat", "ship"], 40);
    place.photographs("test", &["cat", "ship"], 20);
    place
}

fn gate<'r>(report: &'r Value, name: &str) -> &'r Value {
    let gates = report["gates"].as_array().unwrap_or_else(|| panic!("{report}"));
    gates.iter().find(|gate| gate["name"] == name).unwrap_or_else(|| panic!("no gate `{name}`: {}", report["gates"]))
}

#[test]
fn a_refused_adapter_is_not_written_and_the_one_before_stays() {
    let place = place();
    place.run(TRAIN).done();
    let before = place.read("a.edelta");
    for (options, name, part) in [
        ("--test test --gain-min 0.9", "gain", "--gain-min"),
        ("--gain-min 0.6 --confidence 0.99", "gain", "--gain-min"),
        ("--calibration-max 0", "calibration", "--calibrate"),
        ("--latency-max 1us", "latency", "--latency-max"),
        ("--size-max 100B", "size", "--encoding"),
    ] {
        let ran = place.run(&format!("{TRAIN} --epochs 2 {options} --json --report r.html"));
        assert_eq!(ran.code, Some(5), "{options}: {}", ran.err);
        let wrong = ran.err.lines().last().unwrap_or_default();
        for part in [&format!("the gate `{name}`"), "Nothing was written", "wanted", part] {
            assert!(wrong.contains(part), "{options}: `{part}` is not in: {wrong}");
        }
        let report: Value = serde_json::from_str(&ran.out).unwrap();
        let gate = gate(&report, name);
        assert_eq!(gate["passed"], false, "{gate}");
        let (wanted, measured) = (gate["wanted"].as_f64().unwrap(), gate["measured"].as_f64().unwrap());
        assert!(if name == "gain" { measured < wanted } else { measured > wanted }, "{gate}");
        assert!(String::from_utf8(place.read("r.html")).unwrap().contains("a gate refuses it"), "{options}");
        assert_eq!(place.read("a.edelta"), before, "{options}");
        assert!(!place.names().iter().any(|name| name.contains("checkpoint")), "{:?}", place.names());
    }
}

#[test]
fn gates_that_are_met_are_told() {
    let place = place();
    place.write(
        "recipe.toml",
        "model = 'base.onnx'\ndata = 'train'\ntest = 'test'\n[gates]\ngain-min = 0.05\ncalibration-max = 1.0\nlatency-max = '10s'\nsize-max = '1MiB'\n",
    );
    let report = place.run("train recipe.toml --out a.edelta --report r.html --json").json();
    let named: Vec<&str> =
        report["gates"].as_array().unwrap().iter().map(|gate| gate["name"].as_str().unwrap()).collect();
    assert_eq!(named, ["finite", "acts", "gain", "calibration", "latency", "size"]);
    assert!(report["gates"].as_array().unwrap().iter().all(|gate| gate["passed"] == true), "{}", report["gates"]);
    assert_eq!(gate(&report, "size")["measured"].as_f64(), Some(place.read("a.edelta").len() as f64));
    // At least so much: less than what was measured, and above what is wanted.
    let gained = |when: &str| report["test"][when]["accuracy"].as_f64().unwrap();
    let gain = gate(&report, "gain")["measured"].as_f64().unwrap();
    assert!((0.05..gained("after") - gained("before")).contains(&gain), "{gain}");
    assert!(String::from_utf8(place.read("r.html")).unwrap().contains("<h2>Gates</h2>"));
    let ran = place.run("train recipe.toml --out b.edelta --gain-min 0.01").done();
    assert!(ran.out.contains("gate      gain met: +") && ran.out.contains("+1.0 % wanted"), "{}", ran.out);
    place.run(&format!("{TRAIN} --val-fraction 0 --gain-min 0.1")).fails(&["--gain-min", "nothing is held out"]);
    place.run(&format!("{TRAIN} --confidence 0.9")).fails(&["--confidence", "--gain-min"]);
    place.run(&format!("{TRAIN} --latency-max 5")).fails(&["--latency-max", "20ms"]);
}

/// With a head of zeros and a rate that fp16 rounds away, nothing is learned.
#[test]
fn an_adapter_that_does_nothing_is_refused() {
    let place = place();
    let ran = place.run(&format!("{TRAIN} --solver steps --epochs 1 --lr 1e-12"));
    assert!(ran.code == Some(5) && ran.err.contains("the gate `acts`") && ran.err.contains("--lr"), "{ran:?}");
    assert!(!place.path("a.edelta").exists());
}

#[test]
fn what_the_base_keeps_stands_among_the_gates() {
    let place = knowing();
    place.photographs("more", &["truck", "frog", "ship"], 30);
    let train =
        "train known.onnx --data more --classes truck,frog,ship --epochs 2 --keep-base 0.5 --out a.edelta --json";
    let report = place.run(train).json();
    let gate = gate(&report, "retention");
    assert_eq!((gate["wanted"].as_f64(), &gate["passed"]), (Some(0.5), &true.into()), "{gate}");
}

/// The log odds of every answer are divided by one number, and no answer changes.
#[test]
fn calibrated_probabilities_are_in_the_adapter_itself() {
    let place = place();
    let answers = |adapter: &str| -> Vec<(String, f64)> {
        let told = place.run(&format!("predict base.onnx --adapter {adapter} test --json")).json();
        let one = |answer: &Value| {
            let best = &answer["classes"][0];
            let probability = best["probability"].as_f64().unwrap_or_else(|| panic!("{answer}"));
            (best["name"].as_str().unwrap().to_string(), (probability / (1.0 - probability)).ln())
        };
        told.as_array().or(told["predictions"].as_array()).unwrap_or_else(|| panic!("{told}")).iter().map(one).collect()
    };
    for how in
        ["--solver steps --epochs 12 --lr 0.01", "--solver lbfgs --l2 10 --val test", "--train last:2 --epochs 4"]
    {
        place.run(&format!("{TRAIN} {how}")).done();
        let plain = answers("a.edelta");
        let report = place.run(&format!("{TRAIN} {how} --calibrate --json")).json();
        let temperature = report["temperature"].as_f64().unwrap_or_else(|| panic!("{report}"));
        assert!(temperature > 0.0 && temperature != 1.0, "{how}: {temperature}");
        let mut compared = 0;
        for ((class, odds), (same, divided)) in plain.iter().zip(&answers("a.edelta")) {
            assert_eq!(class, same, "{how}");
            // A probability of 1 has no odds.
            if !(odds.is_finite() && *odds < 12.0) {
                continue;
            }
            compared += 1;
            assert!(
                (odds / temperature - divided).abs() < 0.02 * divided.abs().max(1.0),
                "{how}: {odds} and {divided}"
            );
        }
        assert!(compared > 10, "{how}: {compared}");
    }
    place.run(&format!("{TRAIN} --val-fraction 0 --calibrate")).fails(&["--calibrate", "--val-fraction"]);
    // What changes a head by a part of it has nothing that could be divided.
    let place = knowing();
    let lora =
        "train known.onnx --data train --classes truck,frog,ship --adapter lora --targets * --calibrate --out a.edelta";
    place.run(lora).fails(&["--calibrate", "last layer"]);
}
