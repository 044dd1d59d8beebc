//! Runs that are stopped, killed and gone on with give the same bytes as runs that nobody disturbed.

use super::Place;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

const EPOCHS: u32 = 100;
/// Long enough to be met in its middle.
const TRAIN: &str = "train base.onnx --data train --test test --train head --batch 4 --seed 3 --epochs 100";

/// `base.onnx` and photographs of three classes.
fn ready() -> Place {
    let place = Place::with_model("mobilenet_folded");
    place.photographs("train", &["cat", "dog", "ship"], 16);
    place.photographs("test", &["cat", "dog", "ship"], 4);
    place
}

/// Starts the program and waits until it has said that so many epochs are done.
pub fn started(place: &Place, arguments: &str, epochs: u32) -> (Child, BufReader<std::process::ChildStderr>) {
    let mut child = place.command(arguments).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap());
    if epochs > 0 {
        wait_for(&mut lines, &format!("epoch {epochs}/"), ": loss");
    }
    (child, lines)
}

/// Reads lines until one has both parts.
fn wait_for(lines: &mut impl BufRead, start: &str, part: &str) {
    let mut line = String::new();
    while !(line.starts_with(start) && line.contains(part)) {
        line.clear();
        assert!(lines.read_line(&mut line).unwrap() > 0, "it ended before `{start}`");
    }
}

/// Sends a signal by its name.
fn send(child: &Child, signal: &str) {
    let sent = Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
}

/// The end of a program whose standard error is read to its end, so that it never waits for its reader.
pub fn end(mut child: Child, mut lines: impl BufRead) -> (ExitStatus, String) {
    let mut rest = String::new();
    lines.read_to_string(&mut rest).unwrap();
    (child.wait().unwrap(), rest)
}

#[test]
fn a_run_of_so_many_steps_ends_there_and_can_be_gone_on_with() {
    let place = ready();
    let train = |steps: &str, out: &str| {
        TRAIN.replace("--epochs 100", &format!("--solver steps --schedule cosine {steps} --out {out}"))
    };
    // 10 steps of 4 are an epoch of the 38 samples: the schedule, too, knows where the run ends.
    place.run(&train("--epochs 2", "epochs.edelta")).done();
    place.run(&train("--max-steps 20 --epochs 5", "steps.edelta")).done();
    // The recipes differ, and with them the hashes in the heads; the values are the same.
    let values = |name: &str| {
        let bytes = place.read(name);
        let head = edgetune::delta::head_length(bytes.first_chunk().unwrap()).unwrap();
        bytes[head..].to_vec()
    };
    assert_eq!(values("steps.edelta"), values("epochs.edelta"));
    place.run(&train("--max-steps 17", "fewer.edelta")).done();
    assert_ne!(values("fewer.edelta"), values("epochs.edelta"));

    place.run(&train("--max-steps 497", "whole.edelta")).done();
    let again = train("--max-steps 497", "a.edelta");
    let (child, lines) = started(&place, &again, 1);
    send(&child, "INT");
    let (_, told) = end(child, lines);
    assert!(!told.contains("epoch 50/50"), "it was not stopped: {told}");
    let resumed = place.run(&format!("{again} --resume")).done();
    assert!(resumed.err.contains("epoch 50/50"), "{}", resumed.err);
    assert_eq!(place.read("a.edelta"), place.read("whole.edelta"));
}

#[test]
fn stopped_runs_go_on_to_the_same_bytes() {
    let place = ready();
    place.run(&format!("{TRAIN} --out whole.edelta")).done();
    let whole = place.read("whole.edelta");
    assert!(!place.names().iter().any(|name| name.contains("checkpoint")), "{:?}", place.names());
    place.write("a.edelta", b"EDLT old");
    let train = format!("{TRAIN} --out a.edelta");
    for (signal, epochs) in [("INT", 1), ("TERM", EPOCHS / 2)] {
        let resumed = format!("{train} --resume");
        let arguments = if epochs == 1 { &train } else { &resumed };
        let (child, lines) = started(&place, arguments, epochs);
        send(&child, signal);
        let (status, said) = end(child, lines);
        assert_eq!(status.code(), Some(130), "{said}");
        assert!(said.contains("a.edelta.checkpoint") && said.contains("--resume"), "{said}");
        assert_eq!(place.read("a.edelta"), b"EDLT old");
        assert!(place.path("a.edelta.checkpoint").exists());
    }
    let resumed = place.run(&format!("{train} --resume")).done();
    assert!(!resumed.err.contains("epoch 1/100: "), "it began anew: {}", resumed.err);
    assert!(place.read("a.edelta") == whole, "another delta after two interruptions");
    assert!(!place.path("a.edelta.checkpoint").exists());
}

#[test]
fn killed_runs_go_on_from_their_last_epoch_to_the_same_bytes() {
    let place = ready();
    place.run(&format!("{TRAIN} --out whole.edelta")).done();
    for after_ms in [0, 17] {
        let (child, lines) = started(&place, &format!("{TRAIN} --out a.edelta"), 3);
        std::thread::sleep(Duration::from_millis(after_ms));
        send(&child, "KILL");
        assert_eq!(end(child, lines).0.code(), None);
        assert!(place.path("a.edelta.checkpoint").exists() && !place.path("a.edelta").exists());
        place.run(&format!("{TRAIN} --out a.edelta --resume")).done();
        assert!(place.read("a.edelta") == place.read("whole.edelta"), "killed {after_ms} ms after an epoch");
        std::fs::remove_file(place.path("a.edelta")).unwrap();
    }
}

#[test]
fn the_same_command_gives_the_same_bytes() {
    let place = ready();
    let train = "train base.onnx --data train --train last:6 --epochs 2 --batch 8";
    for threads in [1, 2] {
        let delta = |name: &str, more: &str| {
            place.run(&format!("{train} --threads {threads} --out {name} {more}")).done();
            place.read(name)
        };
        let cold = delta("cold.edelta", &format!("--cache cache-{threads}"));
        assert!(cold == delta("warm.edelta", &format!("--cache cache-{threads}")), "a warm cache, {threads} threads");
        assert!(cold == delta("none.edelta", "--no-cache"), "no cache, {threads} threads");
        assert!(cold != delta("seed.edelta", "--seed 1"), "the seed decides nothing");
    }
}

#[test]
fn a_checkpoint_of_another_run_or_a_damaged_one_is_refused() {
    let place = ready();
    let train = format!("{TRAIN} --out a.edelta");
    let nothing = place.run("train base.onnx --data train --epochs 1 --out a.edelta --resume");
    nothing.fails(&["--resume", "no checkpoint a.edelta.checkpoint", "leave --resume out"]);
    assert!(!place.names().contains(&"a.edelta".into()));
    let (child, lines) = started(&place, &train, 2);
    send(&child, "INT");
    assert_eq!(end(child, lines).0.code(), Some(130));
    let whole = place.read("a.edelta.checkpoint");
    for other in ["--lr 0.1", "--size 16 --mean 0.5", "--train last:2", "--val-fraction 0.5", "--label-smoothing 0.1"] {
        let command = if other.contains("--train") { train.replace("--train head", "") } else { train.clone() };
        place.run(&format!("{command} --resume {other}")).fails(&["a.edelta.checkpoint", "without --resume"]);
    }
    for damaged in [&whole[..whole.len() - 1], &whole[..5], b"", &[&whole[..100], b"!", &whole[101..]].concat()] {
        place.write("a.edelta.checkpoint", damaged);
        place.run(&format!("{train} --resume")).fails(&["a.edelta.checkpoint", "damaged", "without --resume"]);
    }
    place.write("a.edelta.checkpoint", &whole);
    let anew = place.run(&train.replace("--epochs 100", "--epochs 2")).done();
    assert!(anew.err.contains("--resume would go on"), "{}", anew.err);
}

#[test]
fn data_that_changed_since_the_checkpoint_are_noticed() {
    let place = ready();
    let train = format!("{TRAIN} --out a.edelta");
    let (child, lines) = started(&place, &train, 1);
    send(&child, "INT");
    assert_eq!(end(child, lines).0.code(), Some(130));
    let mut files: Vec<_> = std::fs::read_dir(place.path("train/cat")).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    let other = std::fs::read_dir(place.path("test/dog")).unwrap().next().unwrap().unwrap().path();
    std::fs::remove_file(&files[0]).unwrap();
    std::fs::copy(std::fs::canonicalize(other).unwrap(), &files[0]).unwrap();
    place.run(&format!("{train} --resume")).fails(&["a.edelta.checkpoint", "another base, data or settings"]);
}

/// The demo's model is large enough that the body takes a while.
#[test]
fn the_body_is_stopped_within_a_second_and_gone_on_with() {
    let place = Place::new();
    place.link("models/efficientnet_lite0/model.onnx", "large.onnx");
    place.photographs("train", &["cat", "dog", "ship", "frog", "horse"], 60);
    let train = "train large.onnx --data train --size 224 --scale 1 --mean 127 --std 128 --epochs 1 --batch 300 \
                 --threads 1 --no-cache --out a.edelta";
    // Before a head in closed form is found there is nothing but features to go on with.
    for (solver, checkpoint) in [("", false), ("--solver steps", true)] {
        let (child, mut lines) = started(&place, &format!("{train} {solver}"), 0);
        wait_for(&mut lines, "samples", "to train");
        std::thread::sleep(Duration::from_millis(700));
        send(&child, "INT");
        let sent = Instant::now();
        let (status, said) = end(child, lines);
        let took = sent.elapsed();
        assert_eq!(status.code(), Some(130), "{said}");
        assert!(!said.contains("epoch 1/1: "), "it had already finished");
        assert!(took < Duration::from_secs(2), "{took:?}");
        assert_eq!(said.contains("the same command goes on"), !checkpoint, "{said}");
        assert_eq!(place.path("a.edelta.checkpoint").exists(), checkpoint);
        assert!(!place.path("a.edelta").exists());
    }
}

#[test]
fn a_solver_that_is_stopped_goes_on_with_the_features_it_has() {
    let place = Place::new();
    place.link("models/efficientnet_lite0/model.onnx", "large.onnx");
    place.photographs("train", &["cat", "dog", "ship"], 60);
    let train = "train large.onnx --data train --size 224 --scale 1 --mean 127 --std 128 --solver ridge --threads 1 \
                 --cache cache --out a.edelta";
    let (child, lines) = started(&place, train, 0);
    wait_for_features(&place);
    send(&child, "INT");
    let sent = Instant::now();
    let (status, said) = end(child, lines);
    let took = sent.elapsed();
    assert_eq!(status.code(), Some(130), "{said}");
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert!(said.contains("the same command goes on") && !said.contains("--resume"), "{said}");
    assert!(!place.path("a.edelta.checkpoint").exists() && !place.path("a.edelta").exists());
    let report = place.run(&format!("{train} --json")).json();
    let [cached, computed] =
        ["body_samples_cached", "body_samples_computed"].map(|name| report[name].as_u64().unwrap());
    assert!(cached > 0 && computed > 0 && cached + computed == 180, "{cached} were kept, {computed} computed");
    let delta = place.read("a.edelta");
    place.run(&train.replace("--cache cache", "--no-cache")).done();
    assert!(delta == place.read("a.edelta"), "another delta after an interruption");
}

/// Waits until the cache `cache` holds features.
fn wait_for_features(place: &Place) {
    let began = Instant::now();
    let folders = || std::fs::read_dir(place.path("cache/features")).into_iter().flatten().flatten();
    let holds = || folders().any(|folder| folder.path().join("records").metadata().is_ok_and(|file| file.len() > 0));
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(60), "no features came");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_stopped_test_goes_on_with_what_was_learned() {
    let place = Place::new();
    place.link("models/efficientnet_lite0/model.onnx", "large.onnx");
    // So many that the fastest machine is still testing when it is told so, after two seconds.
    let classes = ["cat", "dog", "frog", "ship"];
    place.photographs("train", &classes, 2);
    place.photographs("test", &classes, 100);
    let train = "train large.onnx --data train --test test --size 224 --scale 1 --mean 127 --std 128 --epochs 2 --batch 8 \
                 --threads 1 --out a.edelta";
    let (child, mut lines) = started(&place, train, 2);
    wait_for(&mut lines, "testing", "samples");
    send(&child, "INT");
    let (status, said) = end(child, lines);
    assert_eq!(status.code(), Some(130), "{said}");
    assert!(place.path("a.edelta.checkpoint").exists() && !place.path("a.edelta").exists());
    let resumed = place.run(&format!("{train} --resume")).done();
    assert!(!resumed.err.contains("epoch 1/2"), "it learned again: {}", resumed.err);
    let delta = place.read("a.edelta");
    place.run(train).done();
    assert!(delta == place.read("a.edelta"));
}

#[test]
fn a_second_ctrl_c_ends_it_at_once() {
    let place = ready();
    let ended_at_once = || {
        let (child, lines) = started(&place, &format!("{TRAIN} --out a.edelta"), 1);
        send(&child, "INT");
        send(&child, "INT");
        let (status, said) = end(child, lines);
        assert_eq!(status.code(), Some(130));
        !said.contains("--resume")
    };
    // Now and then the first one's checkpoint is written before the second one comes.
    assert!((0..10).any(|_| ended_at_once()), "it took its time");
}

#[test]
fn a_second_sigterm_leaves_it_the_time_to_write_its_checkpoint() {
    let place = ready();
    let (child, lines) = started(&place, &format!("{TRAIN} --out a.edelta"), 1);
    // As timeout(1) does, and systemd beside an agent that ends its trainer.
    send(&child, "TERM");
    send(&child, "TERM");
    let (status, said) = end(child, lines);
    assert_eq!(status.code(), Some(130));
    assert!(said.contains("--resume"), "{said}");
}
