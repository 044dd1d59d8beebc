//! The recipe of a channel: it lies in what is released, devices train by it, and who trains otherwise is told in what.

use super::circle::Place;
use super::server::{Server, unique};
use edgetune::delta::Delta;
use std::fs;

/// What a delta says of its recipe: the hash, and the text.
fn recipe(bytes: &[u8]) -> ([u8; 32], String) {
    let delta = Delta::parse(bytes).unwrap();
    (delta.header().recipe.unwrap(), delta.header().recipe_text.to_owned())
}

#[test]
fn a_device_trains_by_the_recipe_that_it_was_given() {
    let server = Server::with(&[]);
    let place = Place::new();
    let first = place.trained("photographs", ["blue", "green", "red"]);
    let channel = server.channel_of("rule=mean", &first);
    let url = format!("https://127.0.0.1:{}", server.port());
    let ca = server.folder.path().join("tls.crt").display().to_string();
    let enroll = ["fleet", "enroll", &url, "--token", &server.token(), "--name", &unique("device"), "--ca", &ca];
    place.run(&[&enroll, ["--state", "state"].as_slice()].concat());
    let train = |options: &[&str]| {
        let always = ["train", "recipe.toml", "--data", "photographs", "--round", "1", "--out", "A.edelta", "--force"];
        place.run(&[&always, options].concat());
        fs::read(place.path("A.edelta")).unwrap()
    };
    let push = || {
        let arguments = ["fleet", "push", "A.edelta", "--channel", &channel, "--state", "state"];
        let output = place.command(&arguments).output().unwrap();
        (output.status.success(), String::from_utf8(output.stderr).unwrap())
    };

    // Another rate, said with both values; and how to get the recipe.
    train(&["--lr", "0.04"]);
    let (sent, told) = push();
    assert!(!sent, "a delta of another recipe was taken");
    for part in ["another recipe", "`lr` is 0.04 instead of 0.02", "fleet pull --recipe"] {
        assert!(told.contains(part), "no `{part}` in: {told}");
    }

    // A default that is typed is no other recipe; nor is how this device holds its weights.
    let same = train(&["--momentum", "0.9", "--optimizer", "sgd"]);
    assert_ne!(recipe(&same), recipe(&first), "another optimiser");
    let same = train(&["--accumulate", "1", "--optimizer", "adamw", "--weight-decay", "0.01", "--memory", "low"]);
    assert_eq!(recipe(&same), recipe(&first));

    // Who has no recipe fetches it, names model and data, and trains the same.
    let pull = ["fleet", "pull", "--channel", &channel, "--recipe", "theirs.toml", "--state", "state"];
    let told = place.run(&pull);
    assert!(told.contains("theirs.toml"), "{told}");
    let written = fs::read_to_string(place.path("theirs.toml")).unwrap();
    let base = fs::read_to_string(place.path("recipe.toml")).unwrap().lines().next().unwrap().to_owned();
    let named =
        written.replace("# model = \"model.onnx\"", &base).replace("# data = \"photos\"", "data = \"photographs\"");
    fs::write(place.path("theirs.toml"), named).unwrap();
    place.run(&["train", "theirs.toml", "--round", "1", "--out", "A.edelta", "--force"]);
    assert_eq!(recipe(&fs::read(place.path("A.edelta")).unwrap()), recipe(&first));
    let (sent, told) = push();
    assert!(sent, "{told}");

    // What somebody has written into the file is not lost.
    let output = place.command(&pull).output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && told.contains("theirs.toml") && told.contains("--force"), "{told}");
}
