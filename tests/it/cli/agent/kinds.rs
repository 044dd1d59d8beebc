//! The service on what a sensor measures and on what people write: through the socket and the spool, and what is neither.

use super::api::{get, post, predict};
use super::{CONFIG, Service, picture, samples, until};
use crate::cli::Place;
use crate::cli::kinds::tokenizer;
use crate::cli::models::{noise, npy, perceptron, series};
use std::fs;

/// What is measured, a class each: told by the first number.
pub fn reading(class: &str, number: u64) -> Vec<u8> {
    let mut values = noise(number, 4);
    values[0] = values[0].abs() * if class == "up" { 1.0 } else { -1.0 };
    npy(&[4], &values)
}

/// What their service is told.
pub const READINGS: &str = "\n[api]\nlisten = \"unix:api.sock\"\n[samples]\nkind = { array = [4] }\n";

/// A place for readings, whose service listens.
pub fn readings(more: &str) -> Place {
    let place = Place::new();
    place.write("base.onnx", perceptron(2));
    place.write("recipe.toml", "model = \"base.onnx\"\ntrain = [\"last:2\"]\nepochs = 40\nbatch = 8\nlr = 0.02\n");
    place.write("edgetune.toml", format!("{CONFIG}{more}"));
    place
}

#[test]
fn readings_become_an_adapter_in_use() {
    let place = readings(READINGS);
    let service = Service::start_answering(&place);
    let shape = ["samples.kind", "[4]"];
    post(&place, "/samples?label=up", &picture([190, 0, 0], 1)).unwrap().problem(415, &shape);
    post(&place, "/samples?label=up", &npy(&[5], &[0.0; 5])).unwrap().problem(415, &["[5]", "[4] is expected"]);
    post(&place, "/samples?label=up", &npy(&[4], &[f32::NAN; 4])).unwrap().problem(415, &["NaN"]);
    post(&place, "/samples?label=up", b"").unwrap().problem(415, &shape);
    for number in 0..60 {
        for class in ["up", "down"] {
            if number % 2 == 0 {
                assert_eq!(
                    post(&place, &format!("/samples?label={class}"), &reading(class, number)).unwrap().status,
                    201
                );
            } else {
                place.write(&format!("spool/{class}/.{number}"), reading(class, number));
                let name = |name: String| place.path(format!("spool/{class}/{name}"));
                fs::rename(name(format!(".{number}")), name(format!("{number}.npy"))).unwrap();
            }
        }
    }
    place.write("spool/up/wide.npy", npy(&[5], &[0.0; 5]));
    until(&place, "an adapter in use", || place.path("state/active.edelta").exists());
    until(&place, "an end of the run", || !place.path("state/run").exists());
    let right = |class: &&str| predict(&place, &reading(class, 1000))[0] == **class;
    assert_eq!(["up", "down"].iter().filter(|class| right(class)).count(), 2);
    post(&place, "/predict", &npy(&[5], &[0.0; 5])).unwrap().problem(415, &["[5]", "[4] is expected"]);
    until(&place, "all samples", || samples(&place) == 120);
    assert!(place.path("spool/.refused").exists(), "an array of another shape is refused, not trained on");

    // What was predicted becomes a sample by its correction.
    let [_, id, _] = predict(&place, &reading("up", 2000));
    let said = format!(r#"{{"id": "{id}", "label": "down"}}"#);
    assert_eq!(post(&place, "/feedback", said.as_bytes()).unwrap().status, 200);
    assert_eq!(samples(&place), 121);
    assert_eq!(get(&place, "/status").status, 200);

    // A shape that is not the model's is told of, and the service stays.
    let config = String::from_utf8(place.read("edgetune.toml")).unwrap();
    place.write("edgetune.toml", config.replace("array = [4]", "array = [5]"));
    service.send("HUP");
    service.hear("RELOADING=1");
    service.hear("READY=1");
    let wrong = post(&place, "/predict", &npy(&[5], &[0.0; 5])).unwrap();
    wrong.problem(415, &["where the model takes [4]", "samples.kind"]);
    place.write("edgetune.toml", config.replace("array = [4]", "array = [0]"));
    place.run("agent status --config edgetune.toml").fails(&["samples.kind", "such as { array = [3, 128] }"]);
    service.stop();
}

/// One window of what a sensor measures, as a table: told by how fast it swings.
fn window(class: &str, number: u64) -> String {
    let frequency = if class == "fast" { 4.0f32 } else { 0.5 };
    let noise = noise(number, 2 * 20);
    let row = |row: usize| {
        let swing = (std::f32::consts::TAU * frequency * row as f32 / 20.0 + number as f32).sin();
        format!("{},{},{}\n", row as f32 / 20.0, 9.0 + 3.0 * swing + noise[row], noise[20 + row])
    };
    format!("t,x,z\n{}", (0..20).map(row).collect::<String>())
}

#[test]
fn windows_of_a_sensor_become_an_adapter_in_use() {
    let place = Place::new();
    place.write("base.onnx", series(2, None));
    let recipe = "model = \"base.onnx\"\ntrain = [\"head\"]\n[samples]\nwindow = \"1s\"\nchannels = \"x,z\"\n";
    place.write("recipe.toml", recipe);
    let kind = "\n[api]\nlisten = \"unix:api.sock\"\n[samples]\nkind = \"series\"\n";
    place.write("edgetune.toml", format!("{CONFIG}{kind}"));
    let service = Service::start_answering(&place);
    let refused = b"t,x,z\n0,1,2\n0,1,2\n";
    post(&place, "/samples?label=fast", refused).unwrap().problem(415, &["the time of the row before", "one window"]);
    for number in 0..60 {
        for class in ["fast", "slow"] {
            let answer = post(&place, &format!("/samples?label={class}"), window(class, number).as_bytes()).unwrap();
            assert_eq!(answer.status, 201);
        }
    }
    until(&place, "an adapter in use", || place.path("state/active.edelta").exists());
    until(&place, "an end of the run", || !place.path("state/run").exists());
    for class in ["fast", "slow"] {
        assert_eq!(predict(&place, window(class, 1000).as_bytes())[0], class);
    }
    let half = window("fast", 1000).lines().take(11).collect::<Vec<_>>().join("\n");
    post(&place, "/predict", half.as_bytes()).unwrap().problem(415, &["10 rows, where a window has 20"]);
    assert_eq!(samples(&place), 120);
    service.stop();
}

/// Texts that all differ: each word behind each start.
fn sentences(words: [&str; 5]) -> Vec<String> {
    let starts =
        ["the lamp is", "lamp is very", "very very", "is the lamp", "lamp", "the", "is", "very", "the very", "is is"];
    words.iter().flat_map(|word| starts.map(|start| format!("{start} {word}"))).collect()
}

#[test]
fn texts_become_an_adapter_in_use() {
    let place = Place::with_model("encoder_torchscript");
    let (good, bad) = (["fine", "warm", "bright", "new", "sound"], ["broken", "cold", "dim", "old", "cracked"]);
    let words: Vec<&str> = ["the", "lamp", "is", "very"].into_iter().chain(good).chain(bad).collect();
    place.write("words/tokenizer.json", tokenizer(&words));
    place.write(
        "recipe.toml",
        "model = \"base.onnx\"\ntrain = [\"last:3\"]\nepochs = 30\nbatch = 8\nlr = 0.01\n[samples]\ntokenizer = \"words/tokenizer.json\"\n",
    );
    place.write(
        "edgetune.toml",
        format!("{}\n[api]\nlisten = \"unix:api.sock\"\n[samples]\nkind = \"text\"\n", CONFIG.replace("= 40", "= 79")),
    );
    let service = Service::start_answering(&place);
    for content in [&b""[..], b" \n", b"\xff\xfe\x00", &picture([190, 0, 0], 1)] {
        post(&place, "/samples?label=good", content).unwrap().problem(415, &["send the text alone, as UTF-8"]);
    }
    for (class, words) in [("good", good), ("bad", bad)] {
        for text in sentences(words) {
            assert_eq!(post(&place, &format!("/samples?label={class}"), text.as_bytes()).unwrap().status, 201);
        }
    }
    until(&place, "an adapter in use", || place.path("state/active.edelta").exists());
    until(&place, "an end of the run", || !place.path("state/run").exists());
    assert_eq!(predict(&place, b"the lamp is very warm")[0], "good");
    assert_eq!(predict(&place, "the lamp is very cold\n".as_bytes())[0], "bad");
    post(&place, "/predict", b"").unwrap().problem(415, &["send the text alone, as UTF-8"]);
    assert_eq!(samples(&place), 100);
    service.stop();
}
