//! The service on what a sensor measures: NumPy arrays through the socket and the spool, and what is none.

use super::api::{get, post, predict};
use super::{CONFIG, Service, picture, samples, until};
use crate::cli::Place;
use crate::cli::models::{noise, npy, perceptron};
use std::fs;

/// What is measured, a class each: told by the first number.
fn reading(class: &str, number: u64) -> Vec<u8> {
    let mut values = noise(number, 4);
    values[0] = values[0].abs() * if class == "up" { 1.0 } else { -1.0 };
    npy(&[4], &values)
}

#[test]
fn readings_become_an_adapter_in_use() {
    let place = Place::new();
    place.write("base.onnx", perceptron(2));
    place.write("recipe.toml", "model = \"base.onnx\"\ntrain = [\"last:2\"]\nepochs = 40\nbatch = 8\nlr = 0.02\n");
    place.write("edgetune.toml", format!("{CONFIG}\n[api]\nlisten = \"unix:api.sock\"\n[samples]\nshape = [4]\n"));
    let service = Service::start_answering(&place);
    let shape = ["samples.shape", "[4]"];
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
    place.write("edgetune.toml", config.replace("shape = [4]", "shape = [5]"));
    service.send("HUP");
    service.hear("RELOADING=1");
    service.hear("READY=1");
    let wrong = post(&place, "/predict", &npy(&[5], &[0.0; 5])).unwrap();
    wrong.problem(415, &["where the model takes [4]", "samples.shape"]);
    place.write("edgetune.toml", config.replace("shape = [4]", "shape = [0]"));
    place.run("agent status --config edgetune.toml").fails(&["samples.shape", "such as [3, 128]"]);
    service.stop();
}
