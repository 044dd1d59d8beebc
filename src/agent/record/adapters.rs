//! Adapters of a device and what happened to them: which one is in use, which were, and why.
//!
//! `STATE/adapters/<BLAKE3>.edelta` are the adapters, `STATE/active.edelta` is a link to the one in use, replaced by
//! rename, so that whoever opens it sees the old one or the new one. `STATE/history.jsonl` has a line for each event,
//! only ever appended; a line that a lost power cut off is taken away before the next. Each event is in the ledger, too ([`super::ledger`]);
//! what concerns samples alone is nowhere else.

pub use super::events::{Event, Learned, Release};
use super::folders::error_at;
use super::ledger;
use super::lines::{append, whole_lines};
use crate::agent::judge::gate::Promise;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// Hexadecimal digits of an adapter's hash in its name.
const NAME_DIGITS: usize = 16;
const ACTIVE: &str = "active.edelta";
/// The file of all events.
pub(in crate::agent) const HISTORY: &str = "history.jsonl";
/// Who puts an adapter to use when the one in use is found to be bad.
const FEEDBACK: &str = "feedback";
/// Who puts a release to use.
pub const FLEET: &str = "fleet";

/// All events, from the first. A last line without its end is no event.
///
/// # Errors
/// The system's; a line that is no event, with its number.
pub fn history(state: &Path) -> io::Result<Vec<Event>> {
    whole_lines(&state.join(HISTORY))
}

/// Appends an event to the history and to the ledger, and brings it to the disk. The ledger goes first: what is done without being written
/// there would be done unseen.
///
/// # Errors
/// The system's.
pub fn record(state: &Path, event: &Event) -> io::Result<()> {
    ledger::write(state, event)?;
    append(state, HISTORY, event)
}

/// The name of the adapter in use; `None` before there is one.
///
/// # Errors
/// A link that cannot be read, or to something that is no adapter of the state.
pub fn active(state: &Path) -> io::Result<Option<String>> {
    let link = state.join(ACTIVE);
    match fs::read_link(&link) {
        Ok(target) => Ok(target.file_stem().map(|name| name.to_string_lossy().into_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error_at(&link, error)),
    }
}

/// Where an adapter lies.
pub fn path(state: &Path, adapter: &str) -> PathBuf {
    state.join("adapters").join(format!("{adapter}.edelta"))
}

/// The name that a file's content gives it.
///
/// # Errors
/// The system's.
pub fn name_of(file: &Path) -> io::Result<String> {
    let content = fs::read(file).map_err(|error| error_at(file, error))?;
    Ok(blake3::hash(&content).to_hex()[..NAME_DIGITS].to_string())
}

/// Moves a finished adapter to its place. Doing it again does nothing.
///
/// # Errors
/// The system's.
pub fn keep(state: &Path, file: &Path, adapter: &str) -> io::Result<()> {
    let target = path(state, adapter);
    if !target.exists() {
        fs::create_dir_all(state.join("adapters"))?;
        fs::rename(file, &target).map_err(|error| error_at(file, error))?;
        File::open(state.join("adapters"))?.sync_all()?;
    }
    Ok(())
}

/// Puts an adapter to use and says so in the history; gives the one before.
///
/// # Errors
/// An adapter that is not there, or the system's.
pub fn activate(state: &Path, adapter: &str, by: &str, at: i64) -> io::Result<Option<String>> {
    switch(state, adapter, (by, None), at)
}

/// Takes the adapter in use back, for what people say of its predictions: puts `instead` to use.
///
/// # Errors
/// As [`activate`].
pub fn withdraw(state: &Path, instead: &str, reason: String, at: i64) -> io::Result<Option<String>> {
    switch(state, instead, (FEEDBACK, Some(reason)), at)
}

fn switch(state: &Path, adapter: &str, (by, reason): (&str, Option<String>), at: i64) -> io::Result<Option<String>> {
    let target = path(state, adapter);
    target.metadata().map_err(|error| error_at(&target, error))?;
    let _one = alone(state)?;
    let before = active(state)?;
    if before.as_deref() == Some(adapter) {
        return Ok(before);
    }
    // What was done is said before it is done: a line without the switch is repeated, a switch without the line is lost.
    let event = Event::Activated { at, adapter: adapter.into(), before: before.clone(), by: by.into(), reason };
    record(state, &event)?;
    let new = state.join(".active.tmp");
    let _ = fs::remove_file(&new);
    std::os::unix::fs::symlink(Path::new("adapters").join(format!("{adapter}.edelta")), &new)?;
    fs::rename(&new, state.join(ACTIVE))?;
    File::open(state)?.sync_all()?;
    Ok(before)
}

/// Takes the adapter in use away, so that the base stands alone, and says so in the history; gives the one that was in use.
///
/// # Errors
/// The system's.
pub fn deactivate(state: &Path, by: &str, at: i64) -> io::Result<Option<String>> {
    let _one = alone(state)?;
    let Some(before) = active(state)? else { return Ok(None) };
    record(state, &Event::Withdrawn { at, before: before.clone(), by: by.into() })?;
    let link = state.join(ACTIVE);
    fs::remove_file(&link).map_err(|error| error_at(&link, error))?;
    File::open(state)?.sync_all()?;
    Ok(Some(before))
}

/// While this is kept, nobody else changes which adapter is in use.
fn alone(state: &Path) -> io::Result<File> {
    let folder = File::open(state).map_err(|error| error_at(state, error))?;
    folder.lock().map_err(|error| error_at(state, error))?;
    Ok(folder)
}

/// The last adapter that was judged and is not in use, which a person may put to use all the same.
pub fn judged_last<'a>(history: &'a [Event], active: Option<&str>) -> Option<&'a str> {
    history.iter().rev().find_map(|event| match event {
        Event::Judged { adapter, .. } if active != Some(adapter.as_str()) => Some(adapter.as_str()),
        _ => None,
    })
}

/// Of adapters that were judged and never used, the last one stays.
///
/// # Errors
/// The system's.
pub fn forget_unused(state: &Path, history: &[Event], last: &str) -> io::Result<()> {
    for event in history {
        let Event::Judged { adapter, .. } = event else { continue };
        if adapter != last && activated_by(history, adapter).is_none() {
            match fs::remove_file(path(state, adapter)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(error_at(&path(state, adapter), error));
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// The adapter that was in use before the present one, which a rollback takes back.
///
/// # Errors
/// The history's.
pub fn previous(state: &Path) -> io::Result<Option<String>> {
    let Some(now) = active(state)? else { return Ok(None) };
    let events = history(state)?;
    let before = events.into_iter().rev().find_map(|event| match event {
        Event::Activated { adapter, before, .. } if adapter == now => before,
        _ => None,
    });
    // One that learned from what was forgotten since is not there any more.
    Ok(before.filter(|before| path(state, before).exists()))
}

/// The adapter to go back to when the one in use is bad: the latest before it that is kept and was not itself taken back for feedback.
pub fn fallback<'a>(state: &Path, history: &'a [Event]) -> Option<&'a str> {
    let mut used: Vec<&str> = Vec::new();
    let mut bad: Vec<&str> = Vec::new();
    for event in history {
        if let Event::Withdrawn { before, by, .. } = event {
            used.clear();
            bad.extend((by == FEEDBACK).then_some(before.as_str()));
        }
        let Event::Activated { adapter, before, by, .. } = event else { continue };
        if by == FEEDBACK {
            bad.extend(before.as_deref());
        }
        match used.iter().position(|known| known == adapter) {
            Some(place) => used.truncate(place + 1),
            None => used.push(adapter),
        }
    }
    used.pop();
    used.into_iter().rfind(|adapter| !bad.contains(adapter) && path(state, adapter).exists())
}

/// Who put an adapter to use the last time; nobody has where it never was in use.
pub fn activated_by<'a>(history: &'a [Event], adapter: &str) -> Option<&'a str> {
    history.iter().rev().find_map(|event| match event {
        Event::Activated { adapter: used, by, .. } if used == adapter => Some(by.as_str()),
        _ => None,
    })
}

/// What an adapter promised when it was judged last.
pub fn promise<'a>(history: &'a [Event], adapter: &str) -> Option<&'a Promise> {
    history.iter().rev().find_map(|event| match event {
        Event::Judged { adapter: judged, promise, .. } if judged == adapter => promise.as_ref(),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::ErrorKind;

    fn adapter(state: &Path, content: &str) -> String {
        let file = state.join("candidate.edelta");
        fs::write(&file, content).unwrap();
        let name = name_of(&file).unwrap();
        keep(state, &file, &name).unwrap();
        name
    }

    #[test]
    fn an_adapter_is_put_to_use_and_taken_back() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path();
        assert_eq!((active(state).unwrap(), previous(state).unwrap()), (None, None));
        let (one, other) = (adapter(state, "one"), adapter(state, "other"));
        assert_eq!(activate(state, &one, "gate", 1).unwrap(), None);
        assert_eq!(activate(state, &other, "gate", 2).unwrap(), Some(one.clone()));
        assert_eq!(activate(state, &other, "gate", 3).unwrap(), Some(other.clone()), "again does nothing");
        assert_eq!(fs::read_to_string(state.join(ACTIVE)).unwrap(), "other");
        assert_eq!(previous(state).unwrap(), Some(one.clone()));
        activate(state, &one, "rollback", 4).unwrap();
        assert_eq!(fs::read_to_string(state.join(ACTIVE)).unwrap(), "one");
        assert_eq!(history(state).unwrap().len(), 3);
        assert_eq!(activate(state, "0123", "gate", 5).unwrap_err().kind(), ErrorKind::NotFound);
    }

    #[test]
    fn what_was_taken_back_does_not_come_back() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path();
        let back = || fallback(state, &history(state).unwrap()).map(str::to_string);
        let [one, two, three] = ["one", "two", "three"].map(|content| adapter(state, content));
        assert_eq!(back(), None);
        activate(state, &one, "gate", 1).unwrap();
        assert_eq!(back(), None, "nothing was in use before");
        activate(state, &two, "gate", 2).unwrap();
        activate(state, &three, "gate", 3).unwrap();
        assert_eq!(back().as_ref(), Some(&two));
        assert_eq!(withdraw(state, &two, "7 of 9 wrong".into(), 4).unwrap().as_ref(), Some(&three));
        assert_eq!(active(state).unwrap().as_ref(), Some(&two));
        assert_eq!(back().as_ref(), Some(&one), "and not the bad one");
        activate(state, &three, "rollback", 5).unwrap();
        activate(state, &one, "gate", 6).unwrap();
        assert_eq!(back().as_deref(), None, "the first one has none before it");
        let text = fs::read_to_string(state.join(HISTORY)).unwrap();
        assert!(text.contains(r#""by":"feedback","reason":"7 of 9 wrong""#), "{text}");
    }

    #[test]
    fn a_line_cut_off_anywhere_is_no_event_and_does_not_spoil_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path();
        let event = |at| Event::Trained { at, seconds: 7 };
        record(state, &event(1)).unwrap();
        let path = state.join("history.jsonl");
        let first = fs::read(&path).unwrap();
        record(state, &event(2)).unwrap();
        let both = fs::read(&path).unwrap();
        for cut in first.len()..both.len() {
            fs::write(&path, &both[..cut]).unwrap();
            assert_eq!(history(state).unwrap(), [event(1)], "cut at {cut}");
            record(state, &event(3)).unwrap();
            assert_eq!(history(state).unwrap(), [event(1), event(3)], "cut at {cut}");
        }
        let whole = fs::read(&path).unwrap();
        assert_eq!(whole.len(), 2 * first.len());
        fs::write(&path, b"{}\n").unwrap();
        let error = history(state).unwrap_err().to_string();
        assert!(error.contains("line 1") && error.contains("history.jsonl"), "{error}");
    }

    /// A line of `edgetune agent rollback` was cut off by the service's.
    #[test]
    fn two_that_append_at_the_same_time_lose_no_line() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path();
        std::thread::scope(|scope| {
            for writer in 0..4 {
                scope.spawn(move || {
                    (0..25).for_each(|at| record(state, &Event::Trained { at, seconds: writer }).unwrap());
                });
            }
        });
        let events = history(state).unwrap();
        for writer in 0..4 {
            let of =
                events.iter().filter(|event| matches!(event, Event::Trained { seconds, .. } if *seconds == writer));
            assert_eq!(of.count(), 25, "of writer {writer}");
        }
    }

    #[test]
    fn the_base_can_stand_alone_again() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path();
        assert_eq!(deactivate(state, "rollback", 1).unwrap(), None);
        let one = adapter(state, "one");
        activate(state, &one, "gate", 1).unwrap();
        assert_eq!(deactivate(state, "rollback", 2).unwrap().as_ref(), Some(&one));
        assert_eq!((active(state).unwrap(), previous(state).unwrap()), (None, None));
        assert!(!state.join(ACTIVE).exists() && path(state, &one).exists());
        let two = adapter(state, "two");
        activate(state, &two, "gate", 3).unwrap();
        let events = history(state).unwrap();
        assert_eq!(
            (fallback(state, &events), previous(state).unwrap()),
            (None, None),
            "a person did not want the first one"
        );
    }

    #[test]
    fn of_what_was_judged_and_never_used_the_last_stays() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path();
        let names = ["one", "two", "three"].map(|content| adapter(state, content));
        for name in &names {
            let event = serde_json::json!({"event": "judged", "at": 1, "adapter": name, "against": "b", "samples": 1,
                "verdict": {"counted": {"wins": 0, "losses": 0, "ties": 1}, "p": 1.0, "better": false}});
            record(state, &serde_json::from_value(event).unwrap()).unwrap();
        }
        activate(state, &names[0], "gate", 2).unwrap();
        let events = history(state).unwrap();
        assert_eq!(judged_last(&events, Some(&names[0])), Some(names[2].as_str()));
        forget_unused(state, &events, &names[2]).unwrap();
        assert_eq!(names.map(|name| path(state, &name).exists()), [true, false, true]);
    }
}
