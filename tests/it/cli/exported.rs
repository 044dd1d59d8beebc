//! Models as exporters write them by default, as users meet them: fixed lengths of texts, tensors that were united, the loss of a check.

use super::kinds::tokenizer;
use super::models::{self, noise};
use super::{Place, project};
use edgetune::graph::{Attr, Builder, DType, Dim, Graph, Tensor, TensorType};
use edgetune::onnx::{self, Weights};
use serde_json::Value;

const WORDS: [&str; 6] = ["the", "lamp", "is", "very", "warm", "cold"];

/// `input_ids` and `attention_mask` of that many tokens, or of any number → the mean of their rows in a table → dense 2.
fn mean_of_words(length: Dim) -> Vec<u8> {
    let b = Builder::new(Graph::new("words", 17), "");
    let ty = TensorType::new(DType::Int64, vec![Dim::Named("batch".into()), length]);
    let (ids, mask) = (b.input("input_ids", ty.clone()), b.input("attention_mask", ty));
    let weight =
        |seed, shape: &[u64]| b.constant(Tensor::from_f32(shape, &noise(seed, shape.iter().product::<u64>() as usize)));
    let counts = mask.cast(DType::Float);
    let sum = (weight(1, &[8, 6]).gather(ids, 0) * counts.unsqueeze(&[2])).reduce_sum(&[1], false);
    let mean = sum / counts.reduce_sum(&[1], true);
    b.output("logits", b.op("Gemm", &[mean, weight(2, &[6, 2]), weight(3, &[2])], &[]));
    onnx::encode(&b.finish(), &Weights::Embedded)
}

/// `model.onnx` of texts, and forty of these of which the last of each kind is long.
fn with_texts(length: Dim) -> Place {
    let place = Place::new();
    place.write("model.onnx", mean_of_words(length));
    let mut rows = String::new();
    for row in 0..40 {
        let (word, label) = if row % 2 == 0 { ("warm", "good") } else { ("cold", "bad") };
        let begins = &WORDS[..row % 4];
        let end = if row >= 38 { " very very very very".to_string() } else { String::new() };
        rows += &serde_json::json!({ "text": format!("{} {word}{end}", begins.join(" ")), "label": label }).to_string();
        rows.push('\n');
    }
    place.write("texts.jsonl", rows);
    place.write("tokenizer.json", tokenizer(&WORDS));
    place
}

const LEARN: &str =
    "train model.onnx --data texts.jsonl --train last:1 --solver steps --epochs 8 --lr 0.1 --threads 1 --out a.edelta";

fn answers(place: &Place) -> Vec<f64> {
    place.write("new.txt", "the lamp is warm\\nvery cold\\n".replace("\\n", "\n"));
    let told = place.run("predict model.onnx --adapter a.edelta new.txt --top 2 --threads 1 --json").json();
    let probability = |class: &Value| class["probability"].as_f64().unwrap();
    told.as_array().unwrap().iter().flat_map(|row| row["classes"].as_array().unwrap().iter().map(probability)).collect()
}

/// A file that holds the example's number of tokens: texts are padded to it and masked, so that they are answered as by a file that holds
/// none; longer ones are cut at it, which is told with what helps.
#[test]
fn a_fixed_number_of_tokens_is_padded_to_and_masked() {
    let (fixed, open) = (with_texts(Dim::Fixed(9)), with_texts(Dim::Named("tokens".into())));
    let [told, other] = [&fixed, &open].map(|place| place.run(LEARN).done().err);
    assert!(!told.contains("cut off") && !other.contains("cut off"), "{told}{other}");
    let (one, other) = (answers(&fixed), answers(&open));
    assert_eq!(one.len(), 4);
    assert!(one.iter().zip(&other).all(|(a, b)| (a - b).abs() < 1e-5), "{one:?} with padding, {other:?} without");
    fixed.run(&format!("{LEARN} --max-length 10")).fails(&["max-length", "fixes 9 tokens", "open sequence"]);

    let short = with_texts(Dim::Fixed(4));
    let told = short.run(LEARN).done().err;
    let line = told.lines().find(|line| line.contains("cut off")).unwrap_or_else(|| panic!("{told}"));
    for words in ["2 of 40 are cut off at 4 tokens", "the model's file fixes", "open sequence length"] {
        assert!(line.contains(words), "{line}");
    }
}

/// What is beyond the tokenizer's own truncation is told with the option that keeps it.
#[test]
fn texts_that_the_tokenizer_cuts_are_told_with_number_and_remedy() {
    let place = with_texts(Dim::Named("tokens".into()));
    let mut truncates: Value = serde_json::from_str(&tokenizer(&WORDS)).unwrap();
    truncates["truncation"] = serde_json::json!({
        "direction": "Right", "max_length": 5, "strategy": "LongestFirst", "stride": 0,
    });
    place.write("tokenizer.json", truncates.to_string());
    let told = place.run(LEARN).done().err;
    assert!(told.contains("texts     2 of 40 are cut off at 5 tokens; --max-length 8 keeps them whole"), "{told}");
    let told = place.run(&format!("{LEARN} --max-length 8")).done().err;
    assert!(!told.contains("cut off"), "{told}");
    place.write("long.txt", "the lamp is very very very warm\n");
    let told = place.run("predict model.onnx --adapter a.edelta long.txt --tokenizer tokenizer.json").done();
    assert!(!told.err.contains("cut off"), "the delta says how many tokens there are: {}", told.err);
}

/// Two layers of different modules whose weights are one tensor of the file.
fn united() -> Vec<u8> {
    let b = Builder::new(Graph::new("united", 17), "");
    let x = b.input("x", TensorType::new(DType::Float, vec![Dim::Named("batch".into()), Dim::Fixed(4)]));
    let square = b.constant(Tensor::from_f32(&[4, 4], &noise(1, 16)));
    let hidden = x.matmul(square).unary("Relu").matmul(square).unary("Relu");
    let head = b.constant(Tensor::from_f32(&[4, 3], &noise(2, 12)));
    b.output("y", hidden.matmul(head));
    let mut graph = b.finish();
    let modules = ["towers.left", "", "towers.right", "", "head"];
    for (node, module) in graph.nodes.iter_mut().zip(modules) {
        node.module = module.into();
    }
    onnx::encode(&graph, &Weights::Embedded)
}

#[test]
fn a_tensor_that_modules_share_is_told() {
    let place = Place::with_table(3, "label", |row| if row[0] > 0.0 { "up".into() } else { "down".into() });
    place.write("base.onnx", united());
    let found = place.run("inspect base.onnx --json").json();
    let shared = found["united"].as_array().unwrap();
    assert_eq!(shared.len(), 1, "{shared:?}");
    assert_eq!(shared[0]["modules"], serde_json::json!(["towers.left", "towers.right"]));
    let told = place.run("inspect base.onnx").done().out;
    assert!(told.contains("is one tensor of towers.left and towers.right"), "{told}");
    let train = "train base.onnx --data table.csv --label label --epochs 1 --out a.edelta --train";
    let told = place.run(&format!("{train} last:3")).done().err;
    assert!(told.contains("is one tensor of towers.left and towers.right: all of them change"), "{told}");
    let told = place.run(&format!("{train} last:1")).done().err;
    assert!(!told.contains("is one tensor"), "{told}");
}

/// A quantiser may leave floats without a word: `inspect` tells what weights are stored as.
#[test]
fn what_weights_are_stored_as_is_told() {
    let place = Place::new();
    place.link("tests/goldens/quantised/decoder_4_bits.onnx", "packed.onnx");
    place.link("tests/goldens/language/decoder.onnx", "floats.onnx");
    let stored = |name: &str| place.run(&format!("inspect {name} --json")).json()["weights_stored"].clone();
    let (packed, floats) = (stored("packed.onnx"), stored("floats.onnx"));
    assert!(packed["uint8"].as_u64().is_some_and(|bytes| bytes > 0), "{packed}");
    assert!(floats["uint8"].is_null() && floats["float"].as_u64() > packed["float"].as_u64(), "{floats}, {packed}");
    let told = place.run("inspect packed.onnx").done().out;
    assert!(told.contains("uint8 ") && told.contains("float "), "{told}");
}

/// `x` [batch, 2, 8, 8] → convolution → ReLU → transposed convolution → sigmoid, of the same sizes.
fn autoencoder() -> Vec<u8> {
    let b = Builder::new(Graph::new("autoencoder", 17), "");
    let sizes = [2, 8, 8].map(Dim::Fixed);
    let x =
        b.input("x", TensorType::new(DType::Float, std::iter::once(Dim::Named("batch".into())).chain(sizes).collect()));
    let weight =
        |seed, shape: &[u64]| b.constant(Tensor::from_f32(shape, &noise(seed, shape.iter().product::<u64>() as usize)));
    let strides = [("strides", Attr::Ints(vec![2, 2]))];
    let hidden = b.op("Conv", &[x, weight(1, &[4, 2, 2, 2]), weight(2, &[4])], &strides).unary("Relu");
    b.output(
        "y",
        b.op("ConvTranspose", &[hidden, weight(3, &[4, 2, 2, 2]), weight(4, &[2])], &strides).unary("Sigmoid"),
    );
    onnx::encode(&b.finish(), &Weights::Embedded)
}

/// Without a loss, `check` takes what the output calls for, and says so where that is not cross-entropy.
#[test]
fn a_check_takes_the_loss_that_the_output_calls_for() {
    let place = Place::new();
    let cases = [
        ("classes.onnx", models::perceptron(3), None),
        ("column.onnx", models::one_sigmoid(), Some("binary-cross-entropy: output `")),
        ("again.onnx", models::perceptron(4), Some("has the shape of input `x`")),
        ("autoencoder.onnx", autoencoder(), Some("has scores for each pixel")),
    ];
    for (name, file, words) in cases {
        place.write(name, file);
        let ran = place.run(&format!("check {name} --train last:2")).done();
        let line = ran.err.lines().find(|line| line.starts_with("loss "));
        assert_eq!(line.is_some(), words.is_some(), "{name}: {}", ran.err);
        assert!(words.is_none_or(|words| line.is_some_and(|line| line.contains(words))), "{name}: {line:?}");
        assert!(ran.out.contains("agrees") && !ran.out.contains("DIFFERS"), "{name}: {}", ran.out);
    }
    place.link("tests/goldens/language/decoder.onnx", "decoder.onnx");
    let ran = place.run("check decoder.onnx --train last:2").done();
    assert!(ran.err.contains("next-token: output"), "{}", ran.err);
}

/// `nn.LSTM`'s default, `[time, batch, features]`, under names that say nothing: which dimension is the batch is then told, once.
#[test]
fn a_batch_that_no_name_tells_is_told_once() {
    let place = Place::new();
    let golden = project("tests/goldens/exporters/second_lstm.onnx");
    for (file, [input, output]) in
        [("named.onnx", ["batch"; 2]), ("same.onnx", ["d1"; 2]), ("nothing.onnx", ["d1", "d0"])]
    {
        let mut graph = onnx::read(&golden).unwrap().graph;
        let x = TensorType::new(DType::Float, vec![Dim::Fixed(6), Dim::Named(input.into()), Dim::Fixed(8)]);
        let y = TensorType::new(DType::Float, vec![Dim::Named(output.into()), Dim::Fixed(3)]);
        for (id, ty) in [(graph.inputs[0], x), (graph.outputs[0], y)] {
            graph.values[id.index()].ty = Some(ty);
        }
        place.write(file, onnx::encode(&graph, &Weights::Embedded));
    }
    place.write("data/x.npy", models::npy(&[30, 6, 8], &noise(5, 30 * 48)));
    place.write("data/y.npy", models::npy_i64(&[30], &(0..30).map(|row| row % 3).collect::<Vec<_>>()));
    let inspected = place.run("inspect nothing.onnx --batch-axis 1 --json").json();
    assert_eq!(inspected["inputs"][0], "x float[d1,6,8]", "{inspected}");
    place.run("check nothing.onnx --batch-axis 1").done();

    let learn = "--data data --train head --solver lbfgs --l2 0.1 --val-fraction 0";
    for (file, told) in [("named", ""), ("same", ""), ("nothing", "--batch-axis 1")] {
        place.run(&format!("train {file}.onnx {learn} {told} --out {file}.edelta")).done();
        // Neither is to be told again: the adapter and the merged model say it.
        place
            .run(&format!("export --adapter {file}.edelta --model {file}.onnx --to onnx --out merged-{file}.onnx"))
            .done();
        place
            .run(&format!("train {file}.onnx --data data --from {file}.edelta --epochs 1 --out {file}-2.edelta"))
            .done();
        place.run(&format!("eval {file}.onnx --adapter {file}-2.edelta --data data")).done();
    }
    let predicted = |asked: &str| place.run(&format!("predict {asked} data/x.npy --top 3 --json")).json();
    let right = predicted("named.onnx --adapter named.edelta");
    assert_eq!(predicted("same.onnx --adapter same.edelta"), right);
    assert_eq!(predicted("nothing.onnx --adapter nothing.edelta"), right);
    assert_eq!(predicted("merged-nothing.onnx"), predicted("merged-named.onnx"));
    place.run("inspect nothing.onnx --batch-axis 3").fails(&["--batch-axis 3", "nothing.onnx", "no input", "inspect"]);
}
