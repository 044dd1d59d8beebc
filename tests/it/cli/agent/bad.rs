//! One bad sample never ends learning: it is refused at the door, or set aside with its reason, and the others are learned from.

use super::api::{BLUE, GREEN, RED, ask, listening, post, predict, send, status};
use super::kinds::{READINGS, reading, readings};
use super::{Service, count, history, picture, until};
use crate::cli::Place;
use crate::cli::models::npy;
use serde_json::Value;
use std::fs;

fn in_use(place: &Place) {
    until(place, "an adapter in use", || place.path("state/active.edelta").exists());
    until(place, "an end of the run", || !place.path("state/run").exists());
}

/// A sample's file.
fn file(place: &Place, label: &str, side: &str) -> std::path::PathBuf {
    let folder = place.path("state/samples").join(side).join(label);
    fs::read_dir(folder).unwrap().next().unwrap().unwrap().path()
}

/// Each was the end of every training, also after a restart.
#[test]
fn a_corrected_label_and_damaged_samples_do_not_end_learning() {
    let place = listening();
    let service = Service::start_answering(&place);
    // A class whose only samples get another label.
    for number in 0..8 {
        post(&place, "/samples?label=crimson", &picture(RED, number)).unwrap();
        assert_eq!(post(&place, "/samples?label=red", &picture(RED, number)).unwrap().status, 201);
    }
    let whole = picture(BLUE, 500);
    post(&place, "/samples?label=blue", &whole[..whole.len() - 60]).unwrap().problem(415, &["whole file"]);
    send(&place, "red", RED, 8..30);
    send(&place, "blue", BLUE, 0..8);
    // Samples of both sides, changed on the disk after they were taken.
    for side in ["train", "held-out"] {
        fs::write(file(&place, "red", side), &picture(RED, 700)[..200]).unwrap();
    }
    send(&place, "blue", BLUE, 8..45);
    in_use(&place);
    assert_eq!(predict(&place, &picture(BLUE, 1000))[0], "blue");
    let told = status(&place);
    assert_eq!((told["aside"]["count"].as_u64(), &told["trouble"]), (Some(2), &Value::Null), "{told}");
    let latest = &told["aside"]["latest"][0];
    assert!(latest["reason"].as_str().unwrap().contains("has changed") && latest["label"] == "red", "{told}");
    assert_eq!(told["samples"]["classes"], 2, "{told}");
    let text = place.run("agent status --config edgetune.toml").done().out;
    assert!(text.contains("aside     2 samples"), "{text}");
    let metrics = ask(&place, "GET", "/metrics", "", b"").unwrap().body;
    assert!(metrics.contains("edgetune_samples_aside 2\n") && metrics.contains("edgetune_trouble 0\n"), "{metrics}");
    assert_eq!(count(&history(&place), "failed"), 0, "{:?}", history(&place));
    send(&place, "green", GREEN, 0..1);
    service.stop();
}

/// The loss was NaN each time.
#[test]
fn numbers_out_of_proportion_do_not_end_learning() {
    let place = readings(READINGS);
    let service = Service::start_answering(&place);
    post(&place, "/samples?label=up", &npy(&[4], &[3e38, 0.0, 0.0, 0.0])).unwrap().problem(415, &["3e38", "square"]);
    // What a broken sensor sends, on either side.
    for number in 0..12u8 {
        let values = [1e15 + 1e14 * f32::from(number), -1e15, 1e15, 1e15];
        assert_eq!(post(&place, "/samples?label=up", &npy(&[4], &values)).unwrap().status, 201);
    }
    for number in 0..60 {
        for class in ["up", "down"] {
            post(&place, &format!("/samples?label={class}"), &reading(class, number)).unwrap();
        }
    }
    in_use(&place);
    assert_eq!((status(&place)["trouble"].clone(), count(&history(&place), "failed")), (Value::Null, 0));
    assert_eq!(predict(&place, &reading("down", 1000))[0], "down");
    service.stop();
}
