//! `--adapter`: small changes instead of whole layers, from the command line to the predictions.

use super::Place;

fn place() -> Place {
    Place::with_table(3, "label", |row| if row[0] > row[1] { "a".into() } else { "b".into() })
}

#[test]
fn every_method_learns_and_its_delta_is_used_again() {
    let place = place();
    for method in ["lora", "rslora", "dora", "lora-fa", "ia3", "bitfit"] {
        let options =
            format!("--adapter {method} --epochs 30 --batch 8 --lr 0.02 --val-fraction 0 --out {method}.edelta --json");
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
