//! What goes wrong says what and what helps, and leaves nothing half-written.

use super::Place;

/// `base.onnx` and four photographs of two classes in `train`.
fn ready() -> Place {
    let place = Place::with_model("mobilenet_folded");
    place.photographs("train", &["cat", "dog"], 4);
    place
}

#[test]
fn without_a_home_the_cache_needs_a_place() {
    let place = ready();
    place.write("a.edelta", b"old");
    let mut command = place.command("train base.onnx --data train --out a.edelta");
    command.env_remove("HOME");
    super::finished(command).fails(&["HOME", "--cache DIR"]);
    assert_eq!(place.read("a.edelta"), b"old");
    let there = place.names();
    assert_eq!(there, ["a.edelta", "base.onnx", "train"]);
    place.run_with("XDG_CACHE_HOME", place.path("cache"), "train base.onnx --data train --out a.edelta").done();
    assert!(place.names().contains(&"cache".into()));
}
