//! Where weights live: private memory that does not grow with the base, files that go away, places that cannot be written.

#[path = "../../../benches/bases.rs"]
mod bases;

use super::interrupts::{end, started};
use super::{Place, Ran, finished, project};
use bases::Kind;
use std::fs::{self, OpenOptions};
use std::process::Command;

/// A place with `base.onnx` of that many bytes and `data`.
fn with_base(kind: Kind, body_bytes: u64) -> Place {
    let place = Place::new();
    bases::write(&place.path("."), kind, body_bytes, 32).unwrap();
    place
}

#[test]
fn low_memory_does_not_grow_with_the_base() {
    for kind in bases::KINDS {
        let peak = |body_bytes: u64| {
            let place = with_base(kind, body_bytes);
            let train =
                "train base.onnx --data data --train last:2 --epochs 2 --batch 8 --memory low --out a.edelta --json";
            place.run(train).json()["peak_private_bytes"].as_u64().unwrap()
        };
        let (small, large) = (peak(4 << 20), peak(64 << 20));
        // The copies alone would be 60 MiB; a graph of more nodes is a little larger.
        assert!(large < small + (16 << 20), "{}: {small} and {large} bytes", kind.name());
    }
}

#[test]
fn fast_memory_copies_and_a_recipe_may_choose() {
    let place = with_base(Kind::Dense, 48 << 20);
    place.write("recipe.toml", "model = \"base.onnx\"\ndata = \"data\"\nmemory = \"low\"\nepochs = 1\n");
    let peak = |arguments: &str| {
        place.run(&format!("train {arguments} --no-cache --out a.edelta --json")).json()["peak_private_bytes"]
            .as_u64()
            .unwrap()
    };
    let (low, fast) = (peak("recipe.toml"), peak("recipe.toml --memory fast"));
    assert!(fast > low + (40 << 20), "{low} and {fast} bytes");
    place.run("predict base.onnx --adapter a.edelta data/x.npy --memory low").done();
    place.run("eval base.onnx --adapter a.edelta --data data --memory low").done();
    place.run("train recipe.toml --memory little --out b.edelta").code.map(|code| assert_eq!(code, 2)).unwrap();
}

/// Bodies run once a sample and every sample is in the cache; what it costs gradient steps is a key, an index and a place in an
/// order. A closed form holds the features of all samples, up to a bound of its own.
#[test]
fn memory_does_not_grow_with_the_samples() {
    let peak = |samples: u64| {
        let place = Place::new();
        bases::write(&place.path("."), Kind::Dense, 1, samples).unwrap();
        let train = "train base.onnx --data data --train last:1 --solver steps --epochs 1 --batch 64 --cache c --out a.edelta --json";
        place.run(train).json()["peak_private_bytes"].as_u64().unwrap()
    };
    let (few, many) = (peak(200), peak(20_000));
    // The arrays alone are 5 MiB.
    assert!(many < few + (4 << 20), "{few} and {many} bytes");
}

/// What the allocator keeps and the decoding threads hold differs by so much from run to run.
const NOISE_BYTES: f64 = (3 << 20) as f64;

#[test]
fn what_a_run_takes_was_predicted() {
    for model in ["mobilenet_folded", "mobilenet_bn"] {
        let place = Place::with_model(model);
        place.photographs("train", &["cat", "dog", "ship"], 16);
        let inspected = place.run("inspect base.onnx --json").json();
        for selected in
            ["last:1", "last:2", "last:8", "last:8 --adapter lora", "last:8 --memory low", "last:8 --memory fast"]
        {
            let train =
                format!("train base.onnx --data train --epochs 2 --train {selected} --cache c --out a.edelta --json");
            let report = place.run(&train).json();
            fs::remove_dir_all(place.path("c/features")).unwrap();
            let measured = report["peak_private_bytes"].as_f64().unwrap();
            let within = |predicted: &serde_json::Value, who: &str| {
                let predicted = predicted.as_f64().unwrap();
                let off = (predicted - measured).abs();
                assert!(
                    off <= 0.2 * measured + NOISE_BYTES,
                    "{model}, {selected}, {who}: {predicted} for {measured} bytes"
                );
            };
            within(&report["predicted_private_bytes"], "train");
            if let Some(last) = selected.strip_prefix("last:").and_then(|last| last.parse::<u64>().ok()) {
                let layers = inspected["layers"].as_array().unwrap();
                let layer = layers.iter().find(|layer| layer["last"] == last).unwrap();
                within(&layer["memory_bytes"], "inspect");
            }
        }
    }
}

/// The tail reads a frozen layer of 4 MiB in every step: what learns is a bias below it.
const LONG: &str = "train base.onnx --data data --train weight3 --epochs 60 --batch 4 --memory low --cache cache --out \
                    a.edelta";

/// The weights file of the one bundle there is.
fn weights(place: &Place) -> std::path::PathBuf {
    let bundle = fs::read_dir(place.path("cache/bundles")).unwrap().next().unwrap().unwrap();
    bundle.path().join("weights.bin")
}

#[test]
fn a_file_that_is_cut_off_while_in_use_ends_the_run_with_words_and_can_be_gone_on_without() {
    let place = with_base(Kind::Dense, 20 << 20);
    place.run(&LONG.replace("a.edelta", "whole.edelta")).done();
    let (child, lines) = started(&place, LONG, 2);
    let file = weights(&place);
    OpenOptions::new().write(true).open(&file).unwrap().set_len(4096).unwrap();
    let (status, told) = end(child, lines);
    assert_eq!(status.code(), Some(3), "{told}");
    let message = told.lines().find(|line| line.starts_with("error: ")).unwrap_or_else(|| panic!("{told}"));
    for part in [file.to_str().unwrap(), "was cut off", "put it back", "--resume"] {
        assert!(message.contains(part), "`{part}`: {message}");
    }
    assert!(place.names().contains(&"a.edelta.checkpoint".to_string()));
    // The cut file is found out before it is used, and written anew from the base.
    place.run(&format!("{LONG} --resume")).done();
    assert!(place.read("a.edelta") == place.read("whole.edelta"), "it went on to other values");
}

#[test]
fn a_base_that_is_cut_off_before_it_is_used_is_refused() {
    let place = with_base(Kind::Dense, 8 << 20);
    OpenOptions::new().write(true).open(place.path("base.bin")).unwrap().set_len(1 << 20).unwrap();
    place.run(LONG).fails(&["base.onnx", "base.bin", "are not in the file of 1048576 bytes", "cut off"]);
}

/// Runs a script with the named folders of the place mounted read-only; `None` where the system lets no test mount.
fn read_only(place: &Place, folders: &[&str], script: &str) -> Option<Ran> {
    let mounts: String = folders
        .iter()
        .map(|folder| format!("mount --bind {folder} {folder} && mount -o remount,bind,ro {folder} && "))
        .collect();
    let probe = Command::new("unshare").args(["--mount", "--map-root-user", "true"]).output();
    if !probe.is_ok_and(|output| output.status.success()) {
        return None;
    }
    let mut command = place.command("");
    let mut unshare = Command::new("unshare");
    unshare.args(["--mount", "--map-root-user", "sh", "-c", &format!("{mounts}{script}")]);
    unshare.current_dir(place.path(".")).env_clear();
    unshare.envs(command.env("EDGETUNE", super::program()).get_envs().filter_map(|(k, v)| Some((k, v?))));
    let ran = finished(unshare);
    (!ran.err.contains("mount:")).then_some(ran)
}

#[test]
fn a_base_and_a_cache_that_cannot_be_written_are_enough() {
    let place = Place::new();
    fs::create_dir_all(place.path("media")).unwrap();
    fs::copy(project("tests/goldens/training/mobilenet_folded.onnx"), place.path("media/base.onnx")).unwrap();
    place.photographs("train", &["cat", "dog"], 4);
    let train = "$EDGETUNE train media/base.onnx --data train --epochs 1 --out a.edelta";
    let predict = "$EDGETUNE predict media/base.onnx --adapter a.edelta train";
    let Some(ran) = read_only(&place, &["media"], &format!("{train} && {predict}")) else {
        return eprintln!("skipped: this system lets no test mount a folder read-only");
    };
    let ran = ran.done();
    assert!(!ran.err.contains("Read-only"), "nothing is written beside the base: {}", ran.err);
    let whole = place.read("a.edelta");
    fs::create_dir_all(place.path("temporary")).unwrap();
    let with = format!("export TMPDIR=$PWD/temporary; {train} --cache media/cache && {predict} --cache media/cache");
    let ran = read_only(&place, &["media"], &with).unwrap().done();
    assert_eq!(place.read("a.edelta"), whole);
    for part in ["media/cache/bundles", "for this command alone", "--cache DIR", "features are kept in memory"] {
        assert!(ran.err.contains(part), "`{part}`: {}", ran.err);
    }
    assert!(fs::read_dir(place.path("temporary")).unwrap().next().is_none(), "the temporary bundle is gone again");
}
