//! A loss of one's own: an ONNX file as PyTorch exports it (tests/goldens/loss).

use super::Place;
use serde_json::Value;

/// The files of the goldens that each test needs.
const FILES: [&str; 11] = [
    "model_newer.onnx",
    "quantile_newer.onnx",
    "model.onnx",
    "data.npz",
    "focal.onnx",
    "quantile.onnx",
    "coral.onnx",
    "fixed.onnx",
    "rows.onnx",
    "hard.onnx",
    "alone.onnx",
];

fn place() -> Place {
    let place = Place::new();
    FILES.iter().for_each(|name| place.link(&format!("tests/goldens/loss/{name}"), name));
    place
}

fn golden() -> Value {
    serde_json::from_slice(&std::fs::read(super::project("tests/goldens/loss/losses.json")).unwrap()).unwrap()
}

/// All samples at once, 20 steps of SGD on the last layer, as the goldens were made.
const TRAIN: &str = "train model.onnx --data data.npz --train head --epochs 20 --batch 48 --optimizer sgd --momentum 0.9 --lr 0.2 \
     --val-fraction 0 --test data.npz --out a.edelta --json";

fn near(found: f64, expected: f64, tolerance: f64, what: &str) {
    assert!((found - expected).abs() <= tolerance * expected.abs(), "{what}: {found}, PyTorch {expected}");
}

#[test]
fn twenty_steps_are_pytorchs() {
    let (place, golden) = (place(), golden());
    for loss in ["focal", "quantile", "coral"] {
        let report = place.run(&format!("{TRAIN} --loss {loss}.onnx")).json();
        let steps = golden[loss]["losses"].as_array().unwrap();
        let epochs = report["epochs"].as_array().unwrap();
        assert_eq!((epochs.len(), steps.len()), (20, 20));
        for (step, (epoch, expected)) in epochs.iter().zip(steps).enumerate() {
            let found = epoch["train_loss"].as_f64().unwrap();
            near(found, expected.as_f64().unwrap(), 1e-4, &format!("{loss}, step {step}"));
        }
        let first = steps[0].as_f64().unwrap();
        let after = golden[loss]["after"].as_f64().unwrap();
        assert!(after < 0.9 * first, "{loss}: nothing was learned");
        // What ships is rounded to fp16; measured in three batches of 16, whose means together are that of all.
        let test = &report["test"];
        near(test["before"]["loss"].as_f64().unwrap(), first, 1e-4, loss);
        near(test["after"]["loss"].as_f64().unwrap(), after, 2e-3, loss);
        assert_eq!(test["after"]["accuracy"], Value::Null);
        let eval = format!("eval model.onnx --adapter a.edelta --data data.npz --loss {loss}.onnx --json");
        assert_eq!(place.run(&eval).json()["loss"], test["after"]["loss"]);
    }
}

#[test]
fn a_loss_and_a_model_of_different_operator_sets_go_together() {
    let (place, golden) = (place(), golden());
    for (model, file, loss) in
        [("model_newer", "focal", "focal"), ("model_newer", "coral", "coral"), ("model", "quantile_newer", "quantile")]
    {
        let train = TRAIN.replace("model.onnx", &format!("{model}.onnx"));
        let report = place.run(&format!("{train} --loss {file}.onnx")).json();
        let last = report["epochs"][19]["train_loss"].as_f64().unwrap();
        near(last, golden[loss]["losses"][19].as_f64().unwrap(), 1e-4, file);
    }
}

#[test]
fn runs_that_are_averaged_weigh_by_their_samples() {
    let (place, golden) = (place(), golden());
    // 48 samples are a run of 32 and one of 16 for one step.
    let train = TRAIN.replace("--batch 48", "--batch 32 --accumulate 2");
    let report = place.run(&format!("{train} --loss focal.onnx")).json();
    let last = report["epochs"][19]["train_loss"].as_f64().unwrap();
    near(last, golden["focal"]["losses"][19].as_f64().unwrap(), 1e-4, "two runs a step");
}

#[test]
fn check_finds_the_gradient_right() {
    let place = place();
    for loss in ["focal", "quantile", "coral"] {
        let rows = place.run(&format!("check model.onnx --train head --loss {loss}.onnx --json")).json();
        assert!(!rows.as_array().unwrap().is_empty());
        rows.as_array().unwrap().iter().for_each(|row| assert_eq!(row["verdict"], "agrees", "{loss}: {row}"));
    }
}

#[test]
fn a_recipe_names_the_file_beside_it_and_its_delta_knows_which_it_was() {
    let place = place();
    place.write(
        "r/recipe.toml",
        "model = '../model.onnx'\ndata = '../data.npz'\nloss-file = '../focal.onnx'\nepochs = 1\n",
    );
    place.run("train r/recipe.toml --out a.edelta").done();
    let told = place.run("delta show a.edelta --json").done().out;
    let hash = blake3::hash(&place.read("focal.onnx")).to_hex();
    assert!(told.contains(&format!("focal.onnx@{}", &hash[..32])), "{told}");
    // The file's content is a part of what the recipe means.
    assert!(told.contains(&format!("loss-hash = \\\"{hash}\\\"")), "{told}");
    place.write(
        "s.toml",
        format!("model = 'model.onnx'\ndata = 'data.npz'\nloss-file = 'coral.onnx'\nloss-hash = '{hash}'\n"),
    );
    place.run("train s.toml --out b.edelta").fails(&["coral.onnx", "another file", hash.as_str()]);
    // A file by the same name with other content.
    let eval = "eval model.onnx --adapter a.edelta --data data.npz";
    place.run(&format!("{eval} --loss coral.onnx")).fails(&["coral.onnx", "another file"]);
    place.run(eval).fails(&["focal.onnx", "--loss focal.onnx"]);
    place.run("train model.onnx --data data.npz --from a.edelta --out b.edelta").fails(&["--loss"]);
    place.run("train model.onnx --data data.npz --from a.edelta --loss focal.onnx --epochs 1 --out b.edelta").done();
    // A name typed on the command line wins over a file of the recipe.
    place.run("train r/recipe.toml --loss quantile.onnx --out b.edelta").done();
}

#[test]
fn what_is_no_loss_is_refused_with_the_reason() {
    let place = place();
    place.write("text.onnx", "no model");
    let train = |loss: &str| place.run(&format!("train model.onnx --data data.npz --out a.edelta --loss {loss}"));
    train("rows.onnx").fails(&["rows.onnx", "`loss`", "not a float scalar", "reduction='mean'"]);
    train("fixed.onnx").fails(&["fixed.onnx", "`output`", "fixed batch of 48", "dynamic_axes"]);
    train("alone.onnx").fails(&["alone.onnx", "inputs: output", "at least one array"]);
    train("hard.onnx").fails(&["hard.onnx", "node `/Det`", "has no gradient", "edgetune ops"]);
    train("text.onnx").fails(&["text.onnx"]);
    train("missing.onnx").fails(&["missing.onnx", "cannot be read"]);
    train("focal.onnx --label target").fails(&["--label target", "by its inputs"]);
    train("focal.onnx --solver ridge").fails(&["--solver", "gradient steps"]);
    assert!(!place.names().contains(&"a.edelta".to_string()));
}

#[test]
fn arrays_that_do_not_fit_the_loss_are_named() {
    let place = place();
    let save = |name: &str, arrays: &[(&str, Vec<f32>, usize)]| {
        let file = std::fs::File::create(place.path(name)).unwrap();
        let mut npz = ndarray_npy::NpzWriter::new(file);
        for (array, values, columns) in arrays {
            let shape = (values.len() / columns, *columns);
            let values = ndarray::Array2::from_shape_vec(shape, values.clone()).unwrap();
            npz.add_array(*array, &values).unwrap();
        }
        npz.finish().unwrap();
    };
    let train = |data: &str| place.run(&format!("train model.onnx --data {data} --loss quantile.onnx --out a.edelta"));
    save("missing.npz", &[("x", vec![0.5; 48], 6), ("z", vec![1.0; 8], 1)]);
    train("missing.npz").fails(&["missing.npz", "no array `y`", "found `x`, `z`"]);
    save("wide.npz", &[("x", vec![0.5; 48], 6), ("y", vec![1.0; 16], 2)]);
    train("wide.npz").fails(&["wide.npz", "`y`", "[8, 2]", "1 number a sample"]);
    save("few.npz", &[("x", vec![0.5; 48], 6), ("y", vec![1.0; 7], 1)]);
    train("few.npz").fails(&["few.npz", "8 samples", "7"]);
    save("nan.npz", &[("x", vec![0.5; 48], 6), ("y", vec![f32::NAN; 8], 1)]);
    train("nan.npz").fails(&["nan.npz", "`y`", "row 0", "not finite"]);
}

#[test]
fn a_table_has_the_labels_in_columns_of_their_names() {
    let place = place();
    let row = |n: usize| format!("{},{n},0.1,0.2,0.3,{},1,0.5\n", n % 3, n % 5);
    let rows: String = (0..40).map(row).collect();
    place.write("t.csv", format!("target,a,b,c,d,e,f,weight\n{rows}"));
    let report = place.run("train model.onnx --data t.csv --loss focal.onnx --epochs 2 --out a.edelta --json").json();
    assert!(report["validation"]["after"]["loss"].as_f64().unwrap().is_finite(), "{report}");
    place.run("train model.onnx --data t.csv --loss coral.onnx --epochs 2 --out b.edelta").fails(&["t.csv", "grade"]);
}

/// Readers of later versions find the task by this number: see `format.md`.
#[test]
fn anything_is_task_six_on_the_wire() {
    assert_eq!(postcard::to_stdvec(&edgetune::delta::Task::Anything).unwrap(), [6]);
}
