//! `edgetune cache`, and what `eval` and `predict` take from it.

use super::{Place, finished};
use std::fs;
use std::process::Stdio;
use std::time::Duration;

fn place() -> Place {
    let place = Place::with_model("mobilenet_folded");
    place.photographs("train", &["cat", "dog"], 6);
    place.photographs("test", &["cat", "dog"], 10);
    place.run("train base.onnx --data train --epochs 1 --out a.edelta --cache cache").done();
    place
}

/// The bytes of features that a run found in the cache are those that it would have computed.
#[test]
fn eval_and_predict_answer_the_same_from_the_cache() {
    let place = place();
    let show = || place.run("cache show --cache cache --json").json();
    let features = |shown: &serde_json::Value| {
        let entries = shown["entries"].as_array().unwrap().iter().filter(|entry| entry["holds"] == "features");
        entries.map(|entry| entry["bytes"].as_u64().unwrap()).sum::<u64>()
    };
    let before = features(&show());
    for command in
        ["eval base.onnx --adapter a.edelta --data test --json", "predict base.onnx --adapter a.edelta test --json"]
    {
        let fresh = place.run(&format!("{command} --no-cache --cache cache")).done().out;
        assert_eq!(place.run(&format!("{command} --cache cache")).done().out, fresh);
        assert_eq!(place.run(&format!("{command} --cache cache")).done().out, fresh);
    }
    let after = features(&show());
    assert!(after > before, "{before} → {after}");
    // What training has computed, nothing computes again: both look under the same key.
    place.run("eval base.onnx --adapter a.edelta --data train --cache cache").done();
    assert_eq!(features(&show()), after);
    let photo = fs::read_dir(place.path("train/cat")).unwrap().next().unwrap().unwrap().path();
    place.photographs("new", &["frog"], 1);
    let new = fs::read_dir(place.path("new/frog")).unwrap().next().unwrap().unwrap().path();
    place
        .run(&format!("predict base.onnx --adapter a.edelta {} {} --cache cache", photo.display(), new.display()))
        .done();
    assert_eq!(features(&show()), after, "photographs that are named one by one are not kept");
}

#[test]
fn it_is_shown_limited_and_cleared() {
    let place = place();
    let show = || place.run("cache show --cache cache --json").json();
    let shown = show();
    let holds: Vec<&str> = shown["entries"].as_array().unwrap().iter().map(|e| e["holds"].as_str().unwrap()).collect();
    assert!(holds.contains(&"model") && holds.contains(&"features"), "{shown}");
    let parts: u64 = shown["entries"].as_array().unwrap().iter().map(|entry| entry["bytes"].as_u64().unwrap()).sum();
    assert_eq!(shown["taken_bytes"].as_u64().unwrap(), parts + shown["types_bytes"].as_u64().unwrap());
    let text = place.run("cache show --cache cache").done().out;
    assert!(text.contains("limit") && text.contains("a tenth of the file system"), "{text}");

    let doctor = place.run("doctor --cache cache --json").out;
    assert!(doctor.contains("of at most") && doctor.contains("edgetune cache"), "{doctor}");
    place.run("cache limit little --cache cache").fails(&["`little`", "500MB"]);
    place.run("cache limit 10kB --cache cache").done();
    assert_eq!(show()["limit_bytes"], 10_000);
    assert!(show()["taken_bytes"].as_u64().unwrap() <= 10_000 + show()["types_bytes"].as_u64().unwrap());
    // Too little for anything: the run takes longer, and is right.
    let before = place.read("a.edelta");
    place.run("train base.onnx --data train --epochs 1 --out a.edelta --cache cache").done();
    assert_eq!(place.read("a.edelta"), before);
    assert!(show()["taken_bytes"].as_u64().unwrap() <= 10_000 + show()["types_bytes"].as_u64().unwrap());
    place.run("cache limit default --cache cache").done();
    assert_eq!(show()["limit_is_set"], false);
    place.run("train base.onnx --data train --epochs 1 --out a.edelta --cache cache").done();
    let cleared = place.run("cache clear --cache cache --json").json();
    assert!(cleared["removed_bytes"].as_u64().unwrap() > 0 && cleared["kept"].as_array().unwrap().is_empty());
    assert_eq!(show()["taken_bytes"], 0);
}

/// A process that runs has its model and its features until it ends.
#[test]
fn what_a_running_process_uses_is_not_cleared() {
    let place = place();
    let mut running = place.command("train base.onnx --data train --epochs 100000 --out b.edelta --cache cache");
    let mut child =
        running.stdout(Stdio::null()).stderr(fs::File::create(place.path("said")).unwrap()).spawn().unwrap();
    while !String::from_utf8_lossy(&place.read("said")).contains("epoch 2/") {
        assert!(child.try_wait().unwrap().is_none(), "it ended");
        std::thread::sleep(Duration::from_millis(20));
    }
    let shown = place.run("cache show --cache cache --json").json();
    assert_eq!(
        shown["entries"].as_array().unwrap().iter().filter(|entry| entry["in_use"] == true).count(),
        2,
        "{shown}"
    );
    let cleared = finished(place.command("cache clear --cache cache")).done().out;
    assert!(child.try_wait().unwrap().is_none());
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(cleared.matches("a running process uses it").count(), 2, "{cleared}");
}
