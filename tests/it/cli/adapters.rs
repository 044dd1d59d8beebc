//! `--adapter`: small changes instead of whole layers, from the command line to the predictions.

use super::Place;

fn place() -> Place {
    Place::with_table(3, "label", |row| if row[0] > row[1] { "a".into() } else { "b".into() })
}

#[test]
fn every_method_learns_and_its_delta_is_used_again() {
    let place = place();
    for method in ["lora", "rslora", "dora", "lora-fa", "ia3", "bitfit"] {
        let options = format!(
            "--adapter {method} --solver steps --epochs 30 --batch 8 --lr 0.02 --val-fraction 0 --out {method}.edelta --json"
        );
        let report = place.run(&format!("train base.onnx --data table.csv {options}")).json();
        assert_eq!(report["adapter"]["method"], method);
        let epochs = report["epochs"].as_array().unwrap();
        let loss = |epoch: &serde_json::Value| epoch["train_loss"].as_f64().unwrap();
        assert!(loss(epochs.last().unwrap()) < 0.8 * loss(&epochs[0]), "{method}: {report}");
        let eval = format!("eval base.onnx --adapter {method}.edelta --data table.csv --json");
        let accuracy = place.run(&eval).json()["accuracy"].as_f64().unwrap();
        assert!(accuracy > 0.8, "{method}: {accuracy}");
    }
    // Two classes where the model has three: the head is new, and A need not be sent.
    assert!(place.read("lora-fa.edelta").len() < place.read("lora.edelta").len());
}

/// Merged factors change the weights by the mean of the changes, whatever the ranks; DoRA has no such mean.
#[test]
fn adapters_of_different_ranks_merge_exactly() {
    let place = place();
    let train = |name: &str, options: &str| {
        let options = format!("--epochs 4 --batch 8 --lr 0.02 --val-fraction 0 {options} --out {name}.edelta");
        place.run(&format!("train base.onnx --data table.csv {options}")).done();
    };
    train("a", "--adapter lora --rank 2");
    train("b", "--adapter rslora --rank 3 --alpha 5");
    train("dora", "--adapter dora");
    place.run("delta merge a.edelta b.edelta --weights 3,1 --out m.edelta").done();
    assert_eq!(place.run("delta show m.edelta --json").json()["method"]["rank"], 5);
    let weights = |name: &str| {
        place.run(&format!("delta apply base.onnx {name}.edelta --out {name}.onnx")).done();
        let graph = edgetune::onnx::read(&place.path(format!("{name}.onnx"))).unwrap().graph;
        graph.initializers.values().flat_map(|tensor| tensor.to_f32().unwrap_or_default()).collect::<Vec<f32>>()
    };
    let [a, b, m] = ["a", "b", "m"].map(weights);
    assert!(a.len() == b.len() && a.len() == m.len());
    for ((a, b), m) in a.iter().zip(&b).zip(&m) {
        assert!((0.75 * a + 0.25 * b - m).abs() < 1e-3 * m.abs().max(1.0), "{a} {b} {m}");
    }
    place.run("eval base.onnx --adapter m.edelta --data table.csv").done();
    place.run("delta merge dora.edelta dora.edelta --out x.edelta").fails(&["DoRA", "--adapter lora"]);
    place.run("delta merge a.edelta dora.edelta --out x.edelta").fails(&["DoRA", "--adapter lora"]);
}

#[test]
fn a_recipe_has_the_same_words() {
    let place = place();
    place.write(
        "recipe.toml",
        "model = \"base.onnx\"\ndata = \"table.csv\"\nepochs = 1\n[adapter]\nmethod = \"lora\"\nrank = 2\nalpha = 3\n",
    );
    let report = place.run("train recipe.toml --out a.edelta --json").json();
    assert_eq!(report["adapter"], serde_json::json!({ "method": "lora", "rank": 2, "alpha": 3.0 }));
}

#[test]
fn options_without_effect_and_numbers_out_of_range_are_refused() {
    let place = place();
    for (options, words) in [
        ("--rank 4", ["--rank", "--adapter lora"]),
        ("--adapter ia3 --rank 4", ["--rank", "ia3"]),
        ("--adapter bitfit --targets x", ["--targets", "bitfit"]),
        ("--adapter lora --feedforward x", ["--feedforward", "lora"]),
        ("--adapter lora --rank 0", ["--rank 0", "1 or more"]),
        ("--adapter lora --alpha -1", ["--alpha", "positive"]),
        ("--adapter lora --layers head", ["--layers `head`", "last:N"]),
        ("--adapter lora --targets q_proj", ["--targets `q_proj`", "edgetune inspect"]),
        ("--adapter norm", ["--adapter norm", "no normalisation"]),
    ] {
        place.run(&format!("train base.onnx --data table.csv {options}")).fails(&words);
        assert!(!place.path("adapter.edelta").exists(), "{options}");
    }
}
