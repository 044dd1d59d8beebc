//! One bad sample never ends learning: it is refused at the door, or set aside with its reason, and the others are learned from.

use super::api::{BLUE, GREEN, RED, ask, listening, post, predict, send, status};
use super::kinds::{READINGS, reading, readings};
use super::{Service, count, drop_pictures, history, picture, ready, samples, until};
use crate::cli::models::npy;
use crate::cli::{Place, not_tested};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;

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

/// The user that owns nothing.
const NOBODY: u32 = 65534;

/// One folder that another user made with umask 022 or 077 stopped the intake of all classes. Permissions hold for anybody but root.
#[test]
fn folders_of_another_user_stop_no_other_class() {
    let place = ready();
    if fs::metadata(place.path("")).unwrap().uid() != 0 {
        return not_tested("folders of another user: only root can make them");
    }
    // In the order of names, the bad ones come first.
    for (class, mode, colour) in
        [("a 022", 0o755, RED), ("b 077", 0o700, RED), ("red", 0o777, RED), ("blue", 0o777, BLUE)]
    {
        drop_pictures(&place, class, colour, 0..3);
        fs::set_permissions(place.path("spool").join(class), fs::Permissions::from_mode(mode)).unwrap();
    }
    fs::create_dir(place.path("state")).unwrap();
    for path in ["", "state", "spool"] {
        chown(place.path(path), Some(NOBODY), Some(NOBODY)).unwrap();
    }
    let mut program = place.command("agent run --config edgetune.toml");
    program.uid(NOBODY).gid(NOBODY);
    if program.arg("--help").output().is_err() {
        return not_tested("folders of another user: nobody may not start the program");
    }
    let mut program = place.command("agent run --config edgetune.toml");
    program.uid(NOBODY).gid(NOBODY);
    let service = Service::start_by(&place, program);
    until(&place, "samples of the others", || samples(&place) == 6);
    let log = || String::from_utf8(place.read("log")).unwrap();
    until(&place, "two reasons", || log().contains("a 022") && log().contains("b 077") && log().contains("chmod g+w"));
    assert_eq!(fs::read_dir(place.path("spool/a 022")).unwrap().count(), 3, "they wait");
    service.stop();
}

/// They were moved out of sight: neither counted nor told why.
#[test]
fn files_that_the_spool_refuses_are_counted_with_their_reason() {
    let place = listening();
    place.write("spool/red/notes.png", "no photograph");
    drop_pictures(&place, "red", RED, 0..2);
    let service = Service::start_answering(&place);
    until(&place, "samples", || samples(&place) == 2);
    until(&place, "a refusal", || status(&place)["refused"]["count"] == 1);
    let told = &status(&place)["refused"]["latest"][0];
    assert!(told["file"] == "red/notes.png" && told["reason"].as_str().unwrap().len() > 10, "{told}");
    let metrics = ask(&place, "GET", "/metrics", "", b"").unwrap().body;
    assert!(metrics.contains("edgetune_files_refused 1\n"), "{metrics}");
    let text = place.run("agent status --config edgetune.toml").done().out;
    for words in ["refused   1 file of the spool, now in ", "spool/.refused, such as", "red/notes.png: ", "1 class"] {
        assert!(text.contains(words), "`{words}`: {text}");
    }
    std::fs::remove_file(place.path("spool/.refused/notes.png")).unwrap();
    until(&place, "none left", || status(&place)["refused"]["count"] == 0);
    service.stop();
}
