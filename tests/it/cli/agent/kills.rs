//! Services that are killed at random moments, whose writes are torn, or whose disk is full: nothing acknowledged is lost,
//! nothing is corrupt, and what comes out is what an undisturbed service gives. `EDGETUNE_KILLS` asks for more of them.

use super::api::{BLUE, RED, listening, post};
use super::{CONFIG, Service, count, drop_pictures, drop_reds_and_blues, history, picture, ready, samples, until};
use crate::cli::{Place, not_tested};
use crate::power::Power;
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

fn kills(by_default: u32) -> u32 {
    std::env::var("EDGETUNE_KILLS").map_or(by_default, |count| count.parse().expect("a number of kills"))
}

#[test]
fn a_service_that_is_killed_again_and_again_ends_with_the_same_adapter() {
    let undisturbed = ready();
    drop_reds_and_blues(&undisturbed);
    let service = Service::start(&undisturbed);
    until(&undisturbed, "an adapter in use", || undisturbed.path("state/active.edelta").exists());
    service.stop();
    let expected = undisturbed.read("state/active.edelta");

    let kills = kills(12);
    let mut random = fastrand::Rng::with_seed(11);
    let (mut done, mut lives) = (0, 0);
    while done < kills {
        let place = ready();
        drop_reds_and_blues(&place);
        // Longer and longer lives, so that an end is reached.
        let mut longest_ms = 300;
        while !place.path("state/active.edelta").exists() {
            let mut service = Service::start(&place);
            std::thread::sleep(Duration::from_millis(random.u64(0..longest_ms)));
            service.child.kill().unwrap();
            service.child.wait().unwrap();
            (done, longest_ms) = (done + 1, longest_ms * 11 / 10);
            // What was killed between both is in the spool and taken, and is taken once.
            let waiting = ["red", "blue"].map(|class| contents(&place.path("spool").join(class))).concat();
            let all: BTreeSet<Vec<u8>> = stored(&place).into_iter().chain(waiting).collect();
            assert_eq!(all.len(), 90, "each sample is in the spool or taken, after {done} kills");
            history(&place);
        }
        lives += 1;
        // What was killed between two steps is finished.
        let service = Service::start(&place);
        service.hear("READY=1");
        until(&place, "an end of the run", || !place.path("state/run").exists());
        service.stop();
        place.run("ledger verify --config edgetune.toml").done();
        assert!(place.read("state/active.edelta") == expected, "another adapter, after {done} kills");
        assert_eq!(count(&history(&place), "failed"), 0, "{:?}", history(&place));
    }
    println!("{done} kills in {lives} lives of a state");
}

fn contents(folder: &Path) -> Vec<Vec<u8>> {
    let files = fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
    files.map(|file| fs::read(file).unwrap()).collect()
}

fn entries(folder: &Path) -> usize {
    fs::read_dir(folder).map_or(0, Iterator::count)
}

/// Sends pictures until all are acknowledged, whoever is killed meanwhile; each acknowledged one is told at once.
fn send_reds_and_blues(place: &Place, acknowledged: &Mutex<Vec<Vec<u8>>>, alive: &AtomicBool) {
    for number in 0..45 {
        for (label, colour) in [("red", [190, 0, 0]), ("blue", [0, 0, 190])] {
            let picture = picture(colour, number);
            while !post(place, &format!("/samples?label={label}"), &picture).is_ok_and(|answer| answer.status < 300) {
                if !alive.load(Ordering::Relaxed) {
                    return;
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            acknowledged.lock().unwrap().push(picture);
        }
    }
}

/// All files of the samples.
fn stored(place: &Place) -> Vec<Vec<u8>> {
    let folders = |folder: PathBuf| fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
    let classes = ["train", "held-out"].into_iter().flat_map(|side| folders(place.path("state/samples").join(side)));
    let hidden = |path: &PathBuf| path.file_name().unwrap().as_encoded_bytes().starts_with(b".");
    classes.flat_map(folders).filter(|path| !hidden(path)).map(|path| fs::read(path).unwrap()).collect()
}

/// Whether the process in a temporary file's name (`.<name>.<process>-<number>.tmp`) has not ended yet: a trainer ends a moment
/// after its agent, where a lost power takes both at once.
fn writer_lives(name: &str) -> bool {
    let process = name.rsplit('.').nth(1).and_then(|part| part.split('-').next());
    process.is_some_and(|process| Path::new("/proc").join(process).exists())
}

/// What a lost power does to what was not brought to the disk: files under their temporary names end anywhere, and so does
/// the last line of a file that lines are appended to.
fn tear(folder: &Path, random: &mut fastrand::Rng) -> u32 {
    let mut torn = 0;
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            torn += tear(&path, random);
        } else if name.ends_with(".tmp") && !writer_lives(&name) {
            let bytes = fs::metadata(&path).unwrap().len();
            fs::File::options().write(true).open(&path).unwrap().set_len(random.u64(0..=bytes)).unwrap();
            torn += 1;
        } else if name.ends_with(".jsonl") {
            let line = br#"{"event":"trained","at":1700000000,"seconds":7}"#;
            let mut file = fs::File::options().append(true).open(&path).unwrap();
            std::io::Write::write_all(&mut file, &line[..random.usize(0..line.len())]).unwrap();
            torn += 1;
        }
    }
    torn
}

/// A place whose service listens, and trains when all samples that [`send_reds_and_blues`] gives to train on are there, so
/// that what is learned does not depend on how fast they come.
fn waiting_for_all() -> Place {
    let place = listening();
    let config = String::from_utf8(place.read("edgetune.toml")).unwrap();
    place.write("edgetune.toml", config.replace("new-samples-min = 40", "new-samples-min = 75"));
    place
}

#[test]
fn what_was_acknowledged_survives_kills_and_torn_writes() {
    let (random, torn) = (RefCell::new(fastrand::Rng::with_seed(12)), Cell::new(0));
    let tears = |place: &Place| torn.set(torn.get() + tear(&place.path("state"), &mut random.borrow_mut()));
    let (done, lives) = acknowledged_survives(kills(10), &|_| Box::new(&tears));
    println!("{done} kills and {} torn writes in {lives} lives of a state", torn.get());
}

/// On a file system that forgets what was not brought to the disk (`tests/power`), where `EDGETUNE_POWER` names its program.
#[test]
fn what_was_acknowledged_survives_cuts_of_power() {
    if Power::on(tempfile::tempdir().unwrap().path(), 0).is_none() {
        return not_tested("cuts of power: EDGETUNE_POWER names no program (tests/power), or nothing may be mounted");
    }
    let (lives, lost) = (Cell::new(0), Cell::new(0));
    let (done, _) = acknowledged_survives(kills(10), &|place| {
        lives.set(lives.get() + 1);
        fs::create_dir(place.path("state")).unwrap();
        let mut power = Power::on(&place.path("state"), lives.get()).unwrap();
        let lost = &lost;
        Box::new(move |place: &Place| lost.set(lost.get() + power.cut(&place.path(""))))
    });
    println!("{done} cuts of power, which lost {} operations, in {} lives of a state", lost.get(), lives.get());
}

/// What is done to a place after each kill.
type Then<'a> = Box<dyn FnMut(&Place) + 'a>;

/// Runs services that are killed until an adapter is in use, each time with what `then` gives for a place done to what is left. What was acknowledged has to be there each time, and the adapter in the end is that of a service that nobody killed. Gives how many
/// kills there were, and in how many lives of a state.
fn acknowledged_survives<'a>(kills: u32, then: &dyn Fn(&Place) -> Then<'a>) -> (u32, u32) {
    let expected = {
        let place = waiting_for_all();
        let service = Service::start_answering(&place);
        send_reds_and_blues(&place, &Mutex::default(), &AtomicBool::new(true));
        until(&place, "an adapter in use", || place.path("state/active.edelta").exists());
        service.stop();
        place.read("state/active.edelta")
    };
    let mut random = fastrand::Rng::with_seed(13);
    let (mut done, mut lives) = (0, 0);
    while done < kills {
        let place = waiting_for_all();
        let mut then = then(&place);
        let (acknowledged, alive) = (Mutex::default(), AtomicBool::new(true));
        std::thread::scope(|scope| {
            scope.spawn(|| send_reds_and_blues(&place, &acknowledged, &alive));
            let mut longest_ms = 300;
            while !place.path("state/active.edelta").exists() {
                let mut service = Service::start(&place);
                std::thread::sleep(Duration::from_millis(random.u64(0..longest_ms)));
                service.child.kill().unwrap();
                service.child.wait().unwrap();
                (done, longest_ms) = (done + 1, longest_ms * 11 / 10);
                // Asked for before what is there, so that none is missed that comes meanwhile.
                let told: Vec<Vec<u8>> = acknowledged.lock().unwrap().clone();
                then(&place);
                let stored = stored(&place);
                let lost = told.iter().filter(|picture| !stored.contains(picture)).count();
                assert_eq!(lost, 0, "of {} acknowledged samples, after {done} kills", told.len());
            }
            alive.store(false, Ordering::Relaxed);
        });
        lives += 1;
        let service = Service::start(&place);
        service.hear("READY=1");
        until(&place, "an end of the run", || !place.path("state/run").exists());
        service.stop();
        assert_eq!(acknowledged.into_inner().unwrap().len(), 90);
        place.run("ledger verify --config edgetune.toml").done();
        assert_eq!(samples(&place), 90);
        assert!(place.read("state/active.edelta") == expected, "another adapter, after {done} kills");
        assert_eq!(count(&history(&place), "failed"), 0, "{:?}", history(&place));
    }
    (done, lives)
}

#[test]
fn a_full_disk_is_told_and_the_service_goes_on_where_there_is_room_again() {
    let place = listening();
    // No file may be larger than a block of 512 bytes, which a sample is.
    let program = place.command("agent run --config edgetune.toml");
    let mut limited = Command::new("sh");
    limited.args(["-c", "trap '' XFSZ; ulimit -f 1; exec \"$0\" \"$@\""]).arg(program.get_program());
    limited.args(program.get_args()).current_dir(place.path("")).env_clear();
    limited.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut service = Service::start_by(&place, limited);
    until(&place, "a socket", || place.path("api.sock").exists());
    let large = picture([190, 0, 0], 1);
    let answer = post(&place, "/samples?label=red", &large).unwrap();
    assert_eq!(answer.status, 507, "{}", answer.body);
    assert!(answer.body.contains("log tells"), "{}", answer.body);
    assert_eq!(samples(&place), 0, "no part of it is a sample");
    assert!(service.child.try_wait().unwrap().is_none(), "the service goes on");
    drop(service);
    let service = Service::start_answering(&place);
    assert_eq!(post(&place, "/samples?label=red", &large).unwrap().status, 201);
    service.stop();
    assert_eq!(samples(&place), 1);
}

/// A file system that has room for the samples and not for a training, where a mount of one's own is allowed.
#[test]
fn a_training_on_a_full_disk_fails_and_no_sample_is_lost() {
    let place = ready();
    // What cannot be learned is tried again when there is more to learn from.
    drop_pictures(&place, "red", RED, 100..130);
    drop_pictures(&place, "blue", BLUE, 100..130);
    fs::rename(place.path("spool"), place.path("more")).unwrap();
    drop_reds_and_blues(&place);
    fs::create_dir(place.path("state")).unwrap();
    place.write("edgetune.toml", CONFIG.replace("disk-free-min-mb = 1", "disk-free-min-mb = 0"));
    let program = place.command("agent run --config edgetune.toml");
    let mut unshared = Command::new("unshare");
    let script = "mount -t tmpfs -o size=400k none state || exit 77; timeout -s TERM 8 \"$0\" \"$@\"; \
                  cat state/history.jsonl > told; find state/samples -type f ! -name '.*' | wc -l > kept; \
                  mount -o remount,size=8m state; cp -r more/. spool; timeout -s TERM --preserve-status 20 \"$0\" \"$@\"; echo $? > ended; \
                  cp state/history.jsonl history; find state/samples -type f ! -name '.*' | wc -l > kept-after";
    unshared.args(["-rm", "sh", "-c", script]).arg(program.get_program()).args(program.get_args());
    unshared.current_dir(place.path("")).env_clear();
    unshared.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let Ok(output) = unshared.output() else { return not_tested("a full disk: there is no `unshare`") };
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.code() == Some(77) || said.contains("unshare failed") {
        return not_tested("a full disk: no file system of one's own may be mounted");
    }
    let text = |name: &str| String::from_utf8(place.read(name)).unwrap();
    let number = |name: &str| text(name).trim().parse::<u64>().unwrap();
    let waiting = ["red", "blue"].map(|class| entries(&place.path("spool").join(class)) as u64).iter().sum::<u64>();
    assert!(!text("told").contains("activated"), "it was not full: {}", text("told"));
    assert!(said.contains("No space left"), "{said}");
    // With room again it goes on by itself.
    assert_eq!((number("kept-after") + waiting, number("ended")), (150, 0), "{said}");
    assert!(number("kept") <= 90 && text("history").contains("activated"), "{}{said}", text("history"));
}
