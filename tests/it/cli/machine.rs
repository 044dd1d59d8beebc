//! What `inspect` says is true of `prepare`, and what `doctor` looks at.

use super::{Place, models};
use serde_json::Value;

fn strings(value: &Value) -> Vec<&str> {
    value.as_array().unwrap().iter().map(|value| value.as_str().unwrap()).collect()
}

#[test]
fn the_deepest_cut_is_one_that_prepare_takes() {
    for model in ["mobilenet_bn", "mobilenet_folded", "encoder_torchscript", "encoder_dynamo"] {
        let place = Place::with_model(model);
        let found = place.run("inspect base.onnx --json").json();
        let layers = found["layers"].as_array().unwrap();
        let deepest = found["deepest"].as_u64().unwrap() as usize;
        assert_eq!(deepest, layers.len(), "{model}: every operator in it has a rule");
        assert!(strings(&found["outputs"]).contains(&found["trains_on"].as_str().unwrap()), "{model}");
        for last in [1, deepest / 2, deepest] {
            let prepare = format!("prepare base.onnx --train last:{last} --classes 3 --out bundle-{last} --json");
            let bundle = place.run(&prepare).json();
            let features = bundle["features"].as_array().unwrap();
            let names: Vec<&str> = features.iter().map(|feature| feature["name"].as_str().unwrap()).collect();
            let layer = layers.iter().find(|layer| layer["last"] == last).unwrap();
            let mut cut: Vec<&str> =
                strings(&layer["cut"]).iter().map(|feature| feature.split_once(' ').unwrap().0).collect();
            let mut crossing = names.clone();
            cut.sort_unstable();
            crossing.sort_unstable();
            assert_eq!(cut, crossing, "{model} last:{last}");
        }
    }
}

#[test]
fn costs_grow_with_depth_and_batch_and_time_is_measured_where_asked_for() {
    let place = Place::with_model("mobilenet_folded");
    let costs = |more: &str, name: &str| -> Vec<Option<f64>> {
        let found = place.run(&format!("inspect base.onnx --json {more}")).json();
        // From the top down.
        found["layers"].as_array().unwrap().iter().rev().map(|layer| layer[name].as_f64()).collect()
    };
    let known = |costs: Vec<Option<f64>>| -> Vec<f64> { costs.into_iter().map(Option::unwrap).collect() };
    let memory = known(costs("", "memory_bytes"));
    assert!(memory.last().unwrap() > &memory[0], "{memory:?}");
    assert!(known(costs("--batch 256", "memory_bytes")).last().unwrap() > memory.last().unwrap());
    assert!(costs("", "step_ms").iter().all(Option::is_none));
    assert!(known(costs("--time --batch 4", "step_ms")).iter().all(|step_ms| *step_ms > 0.0));
    let text = place.run("inspect base.onnx").done().out;
    assert!(text.contains("memory") && text.contains("ms/step"), "{text}");
}

#[test]
fn nothing_below_an_lstm_that_clips_can_learn() {
    let place = Place::with_sequences();
    let found = place.run("inspect recurrent.onnx --json").json();
    assert_eq!((&found["deepest"], found["layers"].as_array().unwrap().len()), (&2.into(), 4));
    let below = &found["layers"][1];
    assert_eq!((&below["trainable"], &below["last"]), (&false.into(), &3.into()));
    assert!(below["blocked_by"].as_str().unwrap().contains("LSTM"), "{below}");
    assert_eq!(found["layers"][2]["feature_bytes"], 3 * 4);
    let text = place.run("inspect recurrent.onnx").done().out;
    assert!(text.contains("deepest cut: --train last:2; below it, node `LSTM_"), "{text}");
    place.run("prepare recurrent.onnx --train last:2 --classes 2 --out bundle").done();
    place.run("prepare recurrent.onnx --train last:3 --classes 2 --out bundle").fails(&["LSTM", "no gradient"]);
}

#[test]
fn every_node_in_the_gradients_way_is_named() {
    let place = Place::with_model("mobilenet_folded");
    place.write("twice.onnx", models::twice_recurrent());
    let found = place.run("inspect twice.onnx --json").json();
    let named = |index: usize| (&found["blocking"][index]["node"], &found["blocking"][index]["op"]);
    assert_eq!(named(0), (&"upper".into(), &"LSTM".into()), "{found}");
    assert_eq!(named(1), (&"lower".into(), &"GRU".into()), "{found}");
    for blocking in found["blocking"].as_array().unwrap() {
        assert_eq!(blocking["opset"], 17, "{blocking}");
        assert!(blocking["remedy"].as_str().unwrap().contains("smaller --train last:N"), "{blocking}");
    }
    assert_eq!((&found["deepest"], found["blocking"].as_array().unwrap().len()), (&1.into(), 2));
    let first = |layer: usize| found["layers"][layer]["blocked_by"].as_str().unwrap();
    assert!(first(0).contains("upper"), "the nearest to the output: {}", first(0));
    let text = place.run("inspect twice.onnx").done().out;
    assert!(text.contains("below it, node `upper` (LSTM, opset 17): no gradient; "), "{text}");
    assert!(text.contains("also in the way: node `lower` (GRU, opset 17): no gradient; "), "{text}");
    assert_eq!(text.matches("`upper`").count(), 1, "{text}");
    assert!(text.contains("float[batch,2]"), "what the last layer gives: {text}");
    // What has no time has a reason beneath the table.
    let text = place.run("inspect twice.onnx --time --batch 4").done().out;
    assert!(text.contains("could not be timed: node `upper` (LSTM, opset 17): no gradient"), "{text}");
    let found = place.run("inspect twice.onnx --time --batch 4 --json").json();
    for layer in found["layers"].as_array().unwrap() {
        assert_ne!(layer["step_ms"].is_null(), layer["time_problem"].is_null(), "{layer}");
    }
    assert_eq!(place.run("inspect base.onnx --json").json()["blocking"], serde_json::json!([]));
}

#[test]
fn a_step_of_a_model_with_open_sizes_is_timed_with_random_samples() {
    let place = Place::with_model("encoder_torchscript");
    let untimed = place.run("inspect base.onnx --json").json();
    assert!(untimed["open_size"].is_null() && untimed["layers"][0]["memory_bytes"].is_null(), "{untimed}");
    let found = place.run("inspect base.onnx --json --time --batch 4").json();
    assert_eq!(found["open_size"], 16);
    for layer in found["layers"].as_array().unwrap() {
        assert!(layer["step_ms"].as_f64().is_some_and(|step_ms| step_ms > 0.0), "{layer}");
        assert!(
            layer["memory_bytes"].as_u64().is_some_and(|bytes| bytes > 0) && layer["time_problem"].is_null(),
            "{layer}"
        );
    }
    let told = place.run("inspect base.onnx --time --batch 4").done().out;
    assert!(told.contains("sizes of 16 where the model leaves a size open"), "{told}");
    // What cannot be run is told with its reason, and the others are timed.
    place.write("regrouped.onnx", models::regrouped());
    let found = place.run("inspect regrouped.onnx --json --time --batch 4").json();
    let layers = found["layers"].as_array().unwrap();
    assert!(layers[1]["time_problem"].as_str().is_some_and(|why| why.contains("mixes samples")), "{found}");
    assert!(layers[1]["step_ms"].is_null() && layers[2]["step_ms"].is_number(), "{found}");
}

#[test]
fn nothing_below_a_choice_can_learn() {
    let place = Place::new();
    place.write("choice.onnx", models::choice());
    let found = place.run("inspect choice.onnx --json").json();
    assert_eq!(found["deepest"], 2, "{found}");
    let below = &found["layers"][0];
    assert!(below["blocked_by"].as_str().unwrap().contains("does not influence the loss"), "{below}");
    place.run("prepare choice.onnx --train last:2 --classes 2 --out bundle").done();
    place.run("prepare choice.onnx --train last:3 --classes 2 --out bundle").fails(&["does not influence the loss"]);
}

#[test]
fn outputs_can_be_chosen() {
    let place = Place::new();
    place.write("two.onnx", models::two_outputs());
    let on = |more: &str| {
        let found = place.run(&format!("inspect two.onnx --json {more}")).json();
        (found["trains_on"].as_str().unwrap().to_string(), found["layers"].as_array().unwrap().len())
    };
    assert_eq!(on(""), ("Tanh_1 float[batch,8]".into(), 1));
    assert_eq!(on("--output other"), ("Gemm_3 float[batch,3]".into(), 2));
    place.run("inspect two.onnx --output none").fails(&["--output `none`", "embedding, other"]);
}

#[test]
fn the_doctor_says_what_is_wrong_and_what_helps() {
    let place = Place::new();
    let healthy = place.run("doctor").done().out;
    for what in ["library", "c library", "processor", "memory", "cache"] {
        assert!(healthy.contains(&format!("ok    {what} ")), "{healthy}");
    }
    assert!(healthy.contains(" free; "), "{healthy}");
    place.write("file", "");
    let ran = place.run("doctor --cache file/below --onnxruntime nowhere.so");
    assert_eq!(ran.code, Some(1));
    assert!(ran.out.contains("FAIL  library ") && ran.out.contains("→ edgetune runtime install"), "{}", ran.out);
    assert!(ran.out.contains("FAIL  cache ") && ran.out.contains("→ name a writable folder"), "{}", ran.out);
    ran.fails(&["not ready", "remedies above"]);
}

#[test]
fn logs_are_told_when_they_are_asked_for() {
    let place = Place::with_model("mobilenet_folded");
    place.photographs("train", &["cat", "dog"], 4);
    let train = "train base.onnx --data train --epochs 1 --out a.edelta";
    let quiet = place.run(train).done().err;
    assert!(!quiet.contains("INFO"), "{quiet}");
    let told = place.run_with("EDGETUNE_LOG", "info", train).done().err;
    for part in
        ["INFO edgetune::learn::open: read the base", "looked up features cached=8 missing=0", "wrote the delta"]
    {
        assert!(told.contains(part), "`{part}` is not in: {told}");
    }
    assert!(!told.contains("ort::") && !told.contains('\u{1b}'), "{told}");
    let all = place.run_with("EDGETUNE_LOG", "info,ort=info", train).done().err;
    assert!(all.contains("ort::"), "{all}");
    let wrong = place.run_with("EDGETUNE_LOG", "edgetune=loud", train).done().err;
    assert!(wrong.contains("warning: EDGETUNE_LOG=edgetune=loud: ") && wrong.contains("such as info,"), "{wrong}");
}

#[test]
fn onnx_runtime_leaves_no_device_id_and_no_events_in_the_users_home() {
    let place = Place::with_model("mobilenet_folded");
    place.run("inspect base.onnx --json").json();
    let mut pending = vec![place.path("home")];
    while let Some(folder) = pending.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            assert!(!path.ends_with("Microsoft"), "telemetry is on: {}", path.display());
            if path.is_dir() {
                pending.push(path);
            }
        }
    }
}

#[test]
fn the_doctor_tells_where_a_model_runs_and_what_is_fastest() {
    let place = Place::with_model("mobilenet_folded");
    let found = place.run("doctor base.onnx --benchmark --json").json();
    assert!(found["machine"].as_array().unwrap().iter().all(|finding| finding["fine"] == true), "{found}");
    let nodes = found["nodes"].as_array().unwrap();
    assert_eq!((nodes.len(), &nodes[0]["provider"]), (1, &"CPUExecutionProvider".into()), "asked for the CPU: {found}");
    let operators: u64 = nodes[0]["operators"].as_object().unwrap().values().map(|count| count.as_u64().unwrap()).sum();
    assert!(operators > 0 && nodes[0]["nodes"] == operators, "{found}");
    // The CPU with one thread to all, fastest first; the other providers are not in this build, which is said.
    let rows = found["benchmark"].as_array().unwrap();
    let time = |row: &Value, name: &str| row[name].as_f64().unwrap();
    assert!(rows.iter().any(|row| row["threads"] == 1) && rows.iter().all(|row| row["provider"] == "cpu"), "{found}");
    assert!(rows.iter().all(|row| time(row, "body_ms") > 0.0 && time(row, "step_ms") > 0.0), "{found}");
    assert!(rows.windows(2).all(|pair| time(&pair[0], "sample_ms") <= time(&pair[1], "sample_ms")), "{found}");
    assert!(strings(&found["not_measured"]).iter().any(|why| why.contains("cuda")), "{found}");
    // The profile that the nodes were read from is gone.
    let left = |text: &str| text.contains("edgetune-profile");
    let cache = std::fs::read_dir(place.path("home/.cache/edgetune/bundles")).unwrap();
    assert!(!cache.into_iter().any(|entry| left(&entry.unwrap().file_name().to_string_lossy())));
    assert!(!place.names().iter().any(|name| left(name)));

    let text = place.run("doctor base.onnx --benchmark").done().out;
    assert!(text.contains("fastest: --provider cpu --threads "), "{text}");
    place.run("doctor base.onnx --provider cuda").fails(&["cuda", "--features cuda"]);
}
