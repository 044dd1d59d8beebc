//! The spool: `SPOOL/<class>/<file>` becomes a sample; a file that is not taken stays, one that will never be of use goes to
//! `SPOOL/.refused`, where the last ones stay.
//!
//! Others write here, so nothing is followed: each folder is opened as what it is and each file through its folder, links are refused,
//! and a sample is a copy of the bytes that were looked at. What goes wrong with one folder ends with that folder. A look takes as
//! long as its caller says.

use crate::agent::record::refused::{REFUSED, RefusedFile};
use crate::agent::record::samples::{Door, GROUP_FOLDER, Refusal, Store, group_of, refuse_large};
use crate::data;
use crate::order::Order;
use rustix::fs::{
    Access, AtFlags, Dir, FileType, Mode, OFlags, Stat, accessat, mkdirat, openat, renameat, statat, unlinkat,
};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// Files that are kept of those that were refused, and their bytes.
const REFUSED_MAX: usize = 1000;
const REFUSED_BYTES_MAX: u64 = 64 << 20;
/// Endings of files that are still being written.
const UNFINISHED: [&str; 3] = ["tmp", "part", "partial"];
/// Names of one folder that are looked at together.
const NAMES_MAX: usize = 10_000;
/// Seconds until a folder that had an error is looked into again, or a spool that has no room.
const REST_S: f64 = 60.0;

/// What a look into the spool found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Files that are samples now.
    pub taken: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Files moved to `.refused`, with the reason.
    pub refused: Vec<RefusedFile>,
    /// Folders and files that cannot be used now, with the reason.
    pub errors: Vec<(PathBuf, String)>,
    /// Whether samples wait because there is no room for them.
    pub full: bool,
    /// Whether the look ended before all was looked at.
    pub more: bool,
}

/// One look: where, into what, when, and when it is to end.
pub struct Look<'a> {
    /// Where samples lie.
    pub store: &'a Store,
    /// What may be taken.
    pub door: Door<'a>,
    /// Seconds of the clock that nobody sets.
    pub now_s: f64,
    /// Whether to end now; asked before each file.
    pub ends: &'a dyn Fn() -> bool,
}

/// The spool, and what is remembered of it from look to look.
#[derive(Debug, Default)]
pub struct Spool {
    /// Folders that had an error, and until when they rest.
    resting: BTreeMap<OsString, f64>,
    /// The class that the last look did not finish.
    next: Option<OsString>,
    /// Until when nothing is looked at, for there is no room.
    full_until_s: f64,
}

/// A class's folder while it is looked into.
struct Class {
    name: OsString,
    path: PathBuf,
    folder: OwnedFd,
    /// The folder inside the class's that it is, where such folders tell groups.
    within: Option<String>,
}

impl Spool {
    /// Takes in what lies in the spool, as far as there is room and time.
    ///
    /// # Errors
    /// The spool itself cannot be read.
    pub fn take_in(&mut self, spool: &Path, look: &Look<'_>) -> io::Result<Taken> {
        let mut found = Taken::default();
        if look.now_s < self.full_until_s {
            return Ok(found);
        }
        self.resting.retain(|_, until| *until > look.now_s);
        let root = File::open(spool)?.into();
        let mut names = names(&root)?;
        // Where the last look ended, so that one busy class does not hold up the others.
        if let Some(place) = self.next.take().and_then(|next| names.iter().position(|name| *name >= next)) {
            names.rotate_left(place);
        }
        for name in names {
            if self.resting.contains_key(&name) {
                continue;
            }
            if (look.ends)() {
                (found.more, self.next) = (true, Some(name));
                break;
            }
            let path = spool.join(&name);
            let errors = found.errors.len();
            match open_folder(&root, &name) {
                Ok(folder) => {
                    let class = Class { name: name.clone(), path, folder, within: None };
                    look.take_class(&root, &class, &mut found);
                }
                Err(Errno::NOTDIR | Errno::LOOP) => {
                    let reason = "lies outside of any class; put it into a folder with its class's name";
                    refuse(&root, (&root, &name), path, reason.into(), &mut found);
                }
                Err(Errno::NOENT) => {}
                Err(error) => found.errors.push((path, format!("{error}; let the agent read, write and enter it"))),
            }
            if found.errors.len() > errors {
                self.resting.insert(name.clone(), look.now_s + REST_S);
            }
            if found.more || found.full {
                self.next = Some(name);
                break;
            }
        }
        if found.full {
            self.full_until_s = look.now_s + REST_S;
        }
        if !found.refused.is_empty()
            && let Err(error) = forget_refused(&root, REFUSED_MAX, REFUSED_BYTES_MAX)
        {
            found.errors.push((spool.join(REFUSED), error.to_string()));
        }
        Ok(found)
    }

    /// Looks again at once, whatever rests: something has changed.
    pub fn wake(&mut self) {
        *self = Self { next: self.next.take(), ..Self::default() };
    }
}

impl Look<'_> {
    fn take_class(&self, root: &OwnedFd, class: &Class, found: &mut Taken) {
        let names = match names(&class.folder) {
            Ok(names) => names,
            Err(error) => return found.errors.push((class.path.clone(), error.to_string())),
        };
        let mut may_remove = None;
        for name in names.into_iter().filter(|name| !is_unfinished(name)) {
            if (self.ends)() {
                found.more = true;
                return;
            }
            let Ok(seen) = statat(&class.folder, &name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
            if FileType::from_raw_mode(seen.st_mode) == FileType::Directory {
                self.take_group(root, class, &name, found);
                if found.full || found.more {
                    return;
                }
                continue;
            }
            // What could not be removed would be taken again at each look.
            let remove = || accessat(&class.folder, ".", Access::WRITE_OK | Access::EXEC_OK, AtFlags::empty());
            if let Err(error) = may_remove.get_or_insert_with(remove) {
                let remedy = "let the agent write there (chmod g+w), or taken files could not be removed";
                return found.errors.push((class.path.clone(), format!("{error}; {remedy}")));
            }
            self.take_file(root, class, (&name, &seen), found);
            if found.full {
                return;
            }
        }
    }

    /// What lies in a folder inside a class, where such folders tell groups; else they are left alone.
    fn take_group(&self, root: &OwnedFd, class: &Class, name: &OsStr, found: &mut Taken) {
        if self.door.limits.group.as_deref() != Some(GROUP_FOLDER) || class.within.is_some() {
            return;
        }
        let path = class.path.join(name);
        match open_folder(&class.folder, name) {
            Ok(folder) => {
                let within = Some(name.to_string_lossy().into_owned());
                self.take_class(root, &Class { name: class.name.clone(), path, folder, within }, found);
            }
            Err(Errno::NOENT) => {}
            Err(error) => found.errors.push((path, format!("{error}; let the agent read, write and enter it"))),
        }
    }

    fn take_file(&self, root: &OwnedFd, class: &Class, (name, seen): (&OsStr, &Stat), found: &mut Taken) {
        let path = class.path.join(name);
        let label = class.name.to_string_lossy();
        let took = group_of(&name.to_string_lossy(), class.within.as_deref(), self.door.limits).and_then(|group| {
            let content = read(class, name, seen, self.door)?;
            let door = Door { group: group.as_deref(), ..self.door };
            self.store.add(door, &label, &content).map(|_| content.len() as u64)
        });
        match took {
            Ok(bytes) => {
                found.taken += 1;
                found.bytes += bytes;
                // Another file may have come to that name meanwhile: it is looked at the next time.
                let now = statat(&class.folder, name, AtFlags::SYMLINK_NOFOLLOW);
                if now.is_ok_and(|now| (now.st_ino, now.st_dev) == (seen.st_ino, seen.st_dev))
                    && let Err(error) = unlinkat(&class.folder, name, AtFlags::empty())
                {
                    found.errors.push((path, format!("is taken, and cannot be removed: {error}")));
                }
            }
            Err(Refusal::Full { .. }) => found.full = true,
            Err(Refusal::Disk(error)) if error.kind() == io::ErrorKind::NotFound => {}
            Err(Refusal::Disk(error)) => found.errors.push((path, error.to_string())),
            Err(refusal) => refuse(root, (&class.folder, name), path, refusal.to_string(), found),
        }
    }
}

/// A file's content, of a plain file alone, and not read where it is too large.
fn read(class: &Class, name: &OsStr, seen: &Stat, door: Door<'_>) -> Result<Vec<u8>, Refusal> {
    if FileType::from_raw_mode(seen.st_mode) != FileType::RegularFile {
        return Err(Refusal::Content("is a link or no plain file; put a copy there".into()));
    }
    refuse_large(seen.st_size as u64, door.limits)?;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let file = match openat(&class.folder, name, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(Errno::LOOP) => return Err(Refusal::Content("is a link; put a copy there".into())),
        Err(error) => return Err(Refusal::Disk(error.into())),
    };
    let opened = file.metadata().map_err(Refusal::Disk)?;
    if !opened.is_file() {
        return Err(Refusal::Content("is no plain file; put a copy there".into()));
    }
    let most = door.limits.each_max_kb.saturating_mul(1000).saturating_add(1);
    let mut content = Vec::with_capacity(opened.len().min(most) as usize);
    file.take(most).read_to_end(&mut content).map_err(Refusal::Disk)?;
    Ok(content)
}

/// Opens a folder in another one, and no link to one.
fn open_folder(of: &OwnedFd, name: &OsStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(of, name, flags, Mode::empty())
}

/// What a folder holds, hidden entries and what systems leave in folders left out, in the order of names.
fn names(folder: &OwnedFd) -> io::Result<Vec<OsString>> {
    let entries = Dir::read_from(folder)?.filter_map(Result::ok);
    let names = entries.map(|entry| OsString::from_vec(entry.file_name().to_bytes().to_vec()));
    let mut names: Vec<OsString> = names.filter(|name| !data::is_no_sample(name)).take(NAMES_MAX).collect();
    names.sort();
    Ok(names)
}

fn is_unfinished(name: &OsStr) -> bool {
    let extension = Path::new(name).extension();
    extension.is_some_and(|extension| UNFINISHED.iter().any(|word| extension.eq_ignore_ascii_case(word)))
}

/// Moves what is of no use to `.refused`, beside others of its name. A link is moved itself, not what it names.
fn refuse(root: &OwnedFd, (from, name): (&OwnedFd, &OsStr), path: PathBuf, reason: String, found: &mut Taken) {
    let moved = refused(root).and_then(|to| {
        let others = (2u64..).map(|number| {
            let mut other = OsString::from(format!("{number}-"));
            other.push(name);
            other
        });
        let free = |name: &OsString| statat(&to, name, AtFlags::SYMLINK_NOFOLLOW).is_err();
        let free = std::iter::once(name.to_os_string()).chain(others).find(free).expect("some number is free");
        renameat(from, name, &to, &free).map(|()| free)
    });
    match moved {
        Ok(kept) => found.refused.push(RefusedFile { path, kept, reason }),
        Err(error) => found.errors.push((path, format!("{reason}; and it cannot be moved to {REFUSED}: {error}"))),
    }
}

fn refused(root: &OwnedFd) -> Result<OwnedFd, Errno> {
    match mkdirat(root, REFUSED, Mode::from_raw_mode(0o770)) {
        Ok(()) | Err(Errno::EXIST) => open_folder(root, OsStr::new(REFUSED)),
        Err(error) => Err(error),
    }
}

/// Of what was refused the last stays, for somebody to look at: so many files and bytes at most.
fn forget_refused(root: &OwnedFd, files_max: usize, bytes_max: u64) -> io::Result<()> {
    let folder = refused(root)?;
    let mut all = Vec::new();
    for name in names(&folder)? {
        let known = statat(&folder, &name, AtFlags::SYMLINK_NOFOLLOW)?;
        // A file's status changes when it is moved.
        all.push((known.st_ctime, known.st_ctime_nsec, name, known));
    }
    all.order_by(|one, other| (one.0, one.1, &one.2).cmp(&(other.0, other.1, &other.2)));
    let (mut files, mut bytes) = (0, 0);
    for (_, _, name, known) in all.iter().rev() {
        (files, bytes) = (files + 1, bytes + known.st_size as u64);
        let is_folder = FileType::from_raw_mode(known.st_mode) == FileType::Directory;
        if (files > files_max || bytes > bytes_max) && !is_folder {
            unlinkat(&folder, name, AtFlags::empty())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::config::Samples;
    use crate::agent::locks::lock;
    use crate::agent::record::folders::visible;
    use crate::agent::record::inventory::SIDES;
    use crate::agent::record::inventory::count;
    use crate::agent::record::sample_name::name_of_content;
    use std::cell::Cell;
    use std::fs;
    use std::os::unix::fs::symlink;

    const PHOTOGRAPH: &[u8] = include_bytes!("../../../tests/goldens/images/mosaic.png");

    fn photograph(number: u32) -> Vec<u8> {
        [PHOTOGRAPH, &number.to_le_bytes()].concat()
    }

    struct Place {
        folder: tempfile::TempDir,
        store: Store,
        spool: Spool,
        limits: Samples,
    }

    impl Place {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            fs::create_dir(folder.path().join("spool")).unwrap();
            let store = Store::read(&folder.path().join("state")).unwrap();
            Self { folder, store, spool: Spool::default(), limits: Samples::default() }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.folder.path().join("spool").join(name)
        }

        fn put(&self, name: &str, content: &[u8]) {
            let path = self.path(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }

        fn take_while_allowed(&mut self, now_s: f64, ends: &dyn Fn() -> bool) -> Taken {
            let door = Door { limits: &self.limits, held_out: 0.2, group: None };
            let look = Look { store: &self.store, door, now_s, ends };
            self.spool.take_in(&self.folder.path().join("spool"), &look).unwrap()
        }

        fn take(&mut self) -> Taken {
            self.take_while_allowed(0.0, &|| false)
        }

        fn samples(&self) -> u64 {
            SIDES.iter().map(|side| count(&self.folder.path().join("state"), side).unwrap().0).sum()
        }
    }

    #[test]
    fn what_is_of_no_use_is_put_aside_and_what_is_unfinished_waits() {
        let mut place = Place::new();
        place.put("cat/text.png", b"no photograph");
        place.put("cat/empty.png", b"");
        place.put("cat/large.png", &[PHOTOGRAPH, &vec![0; 16_000_000]].concat());
        place.put("loose.png", &photograph(1));
        place.put(&format!("{}/a.png", "x".repeat(101)), &photograph(2));
        place.put("cat/later.png.part", &photograph(3));
        place.put("cat/.hidden.png", &photograph(4));
        place.put("cat/Thumbs.db", b"what Windows leaves");
        place.put("__MACOSX/a.png", b"what macOS leaves");
        place.put("cat/good.png", &photograph(5));
        let found = place.take();
        assert_eq!((found.taken, found.refused.len(), found.errors.len()), (1, 5, 0), "{found:?}");
        assert!(found.refused.iter().all(|refused| refused.reason.len() > 10), "{found:?}");
        assert_eq!(visible(&place.path(REFUSED)).unwrap().len(), 4 + 1);
        assert!(place.path("cat/later.png.part").exists() && place.path("cat/.hidden.png").exists());
        assert!(!place.path("cat/good.png").exists(), "what is taken leaves the spool");
        assert_eq!(place.take(), Taken::default(), "nothing is refused twice");
    }

    /// All of one recording are held out or none: by a part of the file's name, or by a folder inside the class's.
    #[test]
    fn a_recording_lies_on_one_side() {
        let recordings = 0..12u32;
        let mut place = Place::new();
        place.limits.group = Some("rec([0-9]+)".into());
        for (recording, frame) in recordings.clone().flat_map(|recording| (0..4).map(move |frame| (recording, frame))) {
            let class = ["cat", "dog"][frame as usize % 2];
            place.put(&format!("{class}/rec{recording}-{frame}.png"), &photograph(recording * 100 + frame));
        }
        place.put("cat/nameless.png", &photograph(9999));
        let found = place.take();
        assert_eq!((found.taken, found.refused.len()), (48, 1), "{found:?}");
        assert!(found.refused[0].reason.contains("samples.group = 'rec([0-9]+)'"), "{found:?}");
        let sides = |place: &Place, recording: u32| {
            let inventory = lock(&place.store.inventory);
            let side = |frame| inventory.find(&name_of_content(&photograph(recording * 100 + frame))).unwrap().0;
            (0..4).map(side).collect::<Vec<usize>>()
        };
        let by_pattern: Vec<Vec<usize>> = recordings.clone().map(|recording| sides(&place, recording)).collect();
        assert!(by_pattern.iter().all(|sides| sides.iter().all(|side| *side == sides[0])), "{by_pattern:?}");
        assert!(by_pattern.iter().any(|sides| sides[0] == 0) && by_pattern.iter().any(|sides| sides[0] == 1));

        let mut place = Place::new();
        place.put("cat/3/a.png", &photograph(1));
        assert_eq!(place.take().taken, 0, "a folder inside a class tells nothing unless that is said");
        place.limits.group = Some(GROUP_FOLDER.into());
        for (recording, frame) in recordings.clone().flat_map(|recording| (0..4).map(move |frame| (recording, frame))) {
            place.put(&format!("cat/{recording}/{frame}.png"), &photograph(recording * 100 + frame));
        }
        place.put("cat/3/deeper/a.png", &photograph(2));
        place.put("cat/alone.png", &photograph(3));
        assert_eq!(place.take().taken, 50);
        assert!(place.path("cat/3/deeper/a.png").exists(), "groups have no groups");
        let by_folder: Vec<Vec<usize>> = recordings.map(|recording| sides(&place, recording)).collect();
        assert_eq!(by_folder, by_pattern, "the name decides, not how it is told");
    }

    /// The agent was made to move its own key, history and lock.
    #[test]
    fn a_link_is_refused_and_what_it_names_stays() {
        let mut place = Place::new();
        let state = place.folder.path().join("state");
        fs::write(state.join("key.png"), photograph(1)).unwrap();
        fs::create_dir(state.join("private")).unwrap();
        fs::write(state.join("private/a.png"), photograph(2)).unwrap();
        place.put("cat/good.png", &photograph(3));
        symlink(state.join("key.png"), place.path("cat/linked.png")).unwrap();
        symlink(state.join("private"), place.path("dog")).unwrap();
        symlink("/nowhere", place.path("cat/nowhere.png")).unwrap();
        let status = std::process::Command::new("mkfifo").arg(place.path("cat/pipe.png")).status().unwrap();
        assert!(status.success());
        let found = place.take();
        assert_eq!((found.taken, found.refused.len(), found.errors.len()), (1, 4, 0), "{found:?}");
        assert!(state.join("key.png").exists() && state.join("private/a.png").exists());
        assert_eq!(place.samples(), 1);
    }

    #[test]
    fn a_refused_folder_that_leads_elsewhere_is_not_followed() {
        let mut place = Place::new();
        let elsewhere = place.folder.path().join("elsewhere");
        fs::create_dir(&elsewhere).unwrap();
        symlink(&elsewhere, place.path(REFUSED)).unwrap();
        place.put("cat/text.png", b"no photograph");
        place.put("dog/good.png", &photograph(1));
        let found = place.take();
        assert_eq!((found.taken, found.errors.len()), (1, 1), "{found:?}");
        assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
        assert!(place.path("cat/text.png").exists());
    }

    /// Permissions mean nothing to root, under whom tests may run: here a folder's error is one that root has, too.
    #[test]
    fn an_error_of_one_folder_ends_with_that_folder_and_rests() {
        let mut place = Place::new();
        place.put("bad/a.png", &photograph(1));
        place.put("good/a.png", &photograph(2));
        // A file in the place of the class's folder in the state.
        let state = place.folder.path().join("state/samples");
        SIDES.iter().for_each(|side| fs::write(state.join(side).join("bad"), "").unwrap());
        let found = place.take();
        assert_eq!((found.taken, found.errors.len()), (1, 1), "{found:?}");
        assert!(found.errors[0].0.ends_with("bad/a.png") && place.path("bad/a.png").exists(), "{found:?}");
        assert_eq!(place.take_while_allowed(REST_S - 1.0, &|| false), Taken::default(), "it is not told at each look");
        assert_eq!(place.take_while_allowed(REST_S + 1.0, &|| false).errors.len(), 1);
        SIDES.iter().for_each(|side| fs::remove_file(state.join(side).join("bad")).unwrap());
        place.spool.wake();
        assert_eq!(place.take_while_allowed(REST_S + 2.0, &|| false).taken, 1);
    }

    /// A backlog went past the watchdog's limit.
    #[test]
    fn a_look_ends_when_it_is_told_to_and_the_next_goes_on() {
        let mut place = Place::new();
        for class in ["a", "b", "c"] {
            (0..5).for_each(|number| {
                place.put(&format!("{class}/{number}.png"), &photograph(number + 10 * class.len() as u32))
            });
            (0..5).for_each(|number| {
                place.put(&format!("{class}/{class}{number}.png"), &[photograph(number), class.into()].concat())
            });
        }
        let mut taken = 0;
        let mut looks = 0;
        loop {
            let asked = Cell::new(0);
            let found = place.take_while_allowed(0.0, &|| asked.replace(asked.get() + 1) >= 4);
            (taken, looks) = (taken + found.taken, looks + 1);
            assert!(found.taken <= 4, "{found:?}");
            if !found.more {
                break;
            }
        }
        assert_eq!((taken, looks > 5), (30, true), "{looks} looks");
        assert_eq!(place.take_while_allowed(0.0, &|| true).taken, 0);
    }

    #[test]
    fn what_has_no_room_waits_in_the_spool() {
        let mut place = Place::new();
        (0..3).for_each(|number| place.put(&format!("cat/{number}.png"), &photograph(number)));
        place.limits.total_max_mb = Some(1);
        lock(&place.store.inventory).bytes = 1_000_000 - 2 * photograph(0).len() as u64;
        let found = place.take();
        assert!(found.full && found.taken == 2, "{found:?}");
        assert_eq!(visible(&place.path("cat")).unwrap().len(), 1);
        lock(&place.store.inventory).bytes = 0;
        assert_eq!(place.take_while_allowed(REST_S / 2.0, &|| false), Taken::default(), "it is not read at each look");
        assert_eq!(place.take_while_allowed(REST_S + 1.0, &|| false).taken, 1);
    }

    #[test]
    fn of_what_was_refused_the_last_stays_each_beside_others_of_its_name() {
        let mut place = Place::new();
        for number in 0..5 {
            place.put("cat/a.png", format!("no photograph {number}").as_bytes());
            place.take();
        }
        let left = |place: &Place| {
            let files = visible(&place.path(REFUSED)).unwrap();
            let mut texts: Vec<String> = files.iter().map(|file| fs::read_to_string(file).unwrap()).collect();
            texts.sort();
            texts
        };
        assert_eq!(left(&place).len(), 5);
        let root = File::open(place.path("")).unwrap().into();
        forget_refused(&root, 4, 1000).unwrap();
        assert_eq!(left(&place), ["no photograph 1", "no photograph 2", "no photograph 3", "no photograph 4"]);
        forget_refused(&root, 4, 40).unwrap();
        assert_eq!(left(&place), ["no photograph 3", "no photograph 4"]);
    }
}
