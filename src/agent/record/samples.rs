//! Samples in a state: what can be one, and how one is added, gets another label, is set aside or deleted, each durable when it
//! returns.
//!
//! A sample lies as `STATE/samples/{train,held-out}/<class>/<BLAKE3>.<extension>`. The content's hash decides on which side it
//! lies, so the same content is one sample, on one side. Where samples come from is told by `spool` and `api`.

use super::aside::Why;
use super::events::Event;
use super::folders::{erase, error_at};
use super::inventory::{Inventory, SIDES};
use super::ledger;
use super::sample_name::{self, Name, name_of_content};
use crate::agent::config::{Kind, Samples};
use crate::agent::locks::lock;
use crate::data::{self, Limits};
use crate::delta::LABELS_MAX;
use bytes::Bytes;
use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// Bytes of a class's name.
const CLASS_BYTES_MAX: usize = 100;
/// Endings of samples' names, one a kind.
const EXTENSIONS: [&str; 10] = ["jpg", "png", "txt", "npy", "webp", "bmp", "gif", "wav", "flac", "csv"];
/// On whose word a sample is deleted that somebody asked for.
pub const PERSON: &str = "a person";
/// What `samples.group` is where the folders inside a class tell groups.
pub const GROUP_FOLDER: &str = "folder";
/// A sample is read by the service's group, and by nobody else.
const MODE: u32 = 0o640;
/// Memory that a photograph may take to be decoded whole at the door; of a larger one the head alone is looked at.
const DECODED_BYTES_MAX: u64 = 64 << 20;

/// Why a sample is not taken.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The label cannot be one.
    #[error("{0}")]
    Label(String),
    /// It is too large.
    #[error("{bytes} bytes are more than samples.each-max-kb = {max_kb}; make the sample smaller or raise the bound")]
    Large {
        /// Its bytes.
        bytes: u64,
        /// The bound.
        max_kb: u64,
    },
    /// It is none of [`Samples::kind`] that can be used.
    #[error("{0}")]
    Content(String),
    /// There is no room.
    #[error("samples.total-max-mb = {max_mb} is reached; raise it, or remove samples from STATE/samples")]
    Full {
        /// The bound.
        max_mb: u64,
    },
    /// There is none of that name.
    #[error("no sample is called `{0}`; `edgetune agent samples list` and GET /samples tell the names")]
    Unknown(String),
    /// The disk does not take it.
    #[error("{0}")]
    Disk(#[from] io::Error),
}

/// Where a sample lies now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its name: the content's hash.
    pub sample: String,
    /// Which of the [`SIDES`].
    pub side: usize,
    /// Whether nothing of this content and label was there before.
    pub new: bool,
}

/// What may be taken, and how it is parted.
#[derive(Debug, Clone, Copy)]
pub struct Door<'a> {
    /// Bounds.
    pub limits: &'a Samples,
    /// The share that is never trained on.
    pub held_out: f64,
    /// The recording or person that it is a sample of: all of one lie on one side.
    pub group: Option<&'a str>,
}

/// The samples of one state. Whoever adds or removes one holds the inventory's lock until that is on the disk.
#[derive(Debug)]
pub struct Store {
    state: PathBuf,
    /// What there is.
    pub inventory: Mutex<Inventory>,
    /// One photograph is decoded at a time: its pixels are many times its bytes.
    decoding: Mutex<()>,
}

impl Store {
    /// The samples that lie in a state.
    ///
    /// # Errors
    /// The system's.
    pub fn read(state: &Path) -> io::Result<Self> {
        Ok(Self { state: state.into(), inventory: Inventory::read(state)?.into(), decoding: Mutex::default() })
    }

    /// The same, to look at: nothing is cleared that another process may be at work on.
    ///
    /// # Errors
    /// The system's.
    pub fn read_only(state: &Path) -> io::Result<Self> {
        Ok(Self { state: state.into(), inventory: Inventory::count_in(state)?.into(), decoding: Mutex::default() })
    }

    /// Makes what was sent a sample of its class; it is on the disk when this returns. The same content is one sample: it moves
    /// from the class that it had to this one.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn add(&self, door: Door<'_>, class: &str, content: &[u8]) -> Result<Stored, Refusal> {
        class_name(class, door.limits).map_err(Refusal::Label)?;
        let name = name_of_content(content);
        let known = lock(&self.inventory).find(&name).map(|(side, _)| side);
        if let Some(side) = known.filter(|_| self.file(&name).is_some()) {
            let new = self.relabel(door.limits, &name, class)?;
            return Ok(Stored { sample: sample_name::text(&name), side, new });
        }
        if let Some(why) = lock(&self.inventory).aside.why(&name) {
            let remedy = "delete it there before it is sent again: `edgetune agent samples delete`";
            let name = sample_name::text(&name);
            return Err(Refusal::Content(format!("{name} was set aside ({}); {remedy}", why.reason)));
        }
        let extension = self.usable_whole(content, door.limits)?;
        let mut inventory = lock(&self.inventory);
        let bytes = content.len() as u64;
        // Somebody took the file away.
        inventory.remove(&name, bytes);
        refuse_more_classes(&inventory, class)?;
        if let Some(max_mb) = door.limits.total_max_mb
            && inventory.bytes + bytes > max_mb.saturating_mul(1_000_000)
        {
            return Err(Refusal::Full { max_mb });
        }
        let side = side_of(door.group.map_or(content, str::as_bytes), door.held_out);
        let folder = self.folder(side, class);
        fs::create_dir_all(&folder).map_err(|error| error_at(&folder, error))?;
        let target = folder.join(format!("{}.{extension}", sample_name::text(&name)));
        let written = crate::atomic::write_atomically(&target, |file| {
            file.get_ref().set_permissions(Permissions::from_mode(MODE))?;
            file.write_all(content)
        });
        written.map_err(|error: io::Error| error_at(&target, error))?;
        sync(folder.parent().expect("a side"))?;
        inventory.add(name, side, class, bytes);
        Ok(Stored { sample: sample_name::text(&name), side, new: true })
    }

    /// Gives a sample another label; gives whether it had another one before.
    ///
    /// # Errors
    /// [`Refusal`]: a label that cannot be one, no such sample, the system's.
    pub fn relabel(&self, limits: &Samples, name: &Name, class: &str) -> Result<bool, Refusal> {
        class_name(class, limits).map_err(Refusal::Label)?;
        let mut inventory = lock(&self.inventory);
        let Some((side, before)) = inventory.find(name).map(|(side, class)| (side, class.to_string())) else {
            return Err(Refusal::Unknown(sample_name::text(name)));
        };
        if before == class {
            return Ok(false);
        }
        refuse_more_classes(&inventory, class)?;
        let file = sample_in(&self.folder(side, &before), name);
        let file = file.ok_or_else(|| Refusal::Unknown(sample_name::text(name)))?;
        let (from, to) = (self.folder(side, &before), self.folder(side, class));
        fs::create_dir_all(&to).map_err(|error| error_at(&to, error))?;
        fs::rename(&file, to.join(file.file_name().unwrap_or_default())).map_err(|error| error_at(&file, error))?;
        [&to, &from, to.parent().expect("a side")].into_iter().map(Path::new).try_for_each(sync)?;
        // A class without samples is no class: its folder would be the end of every training.
        let _ = fs::remove_dir(&from);
        inventory.relabel(name, class);
        Ok(true)
    }

    /// Deletes a sample, also one that was set aside, on the word of `by`; the ledger says so first.
    ///
    /// # Errors
    /// [`Refusal`]: no such sample, the system's.
    pub fn delete(&self, name: &Name, by: &str, at: i64) -> Result<(), Refusal> {
        self.take_away(name, (by, at), &|file| fs::remove_file(file).map_err(|error| error_at(file, error)))
    }

    /// The same, with zeros written over the sample's bytes first.
    ///
    /// # Errors
    /// As [`Store::delete`].
    pub fn erase(&self, name: &Name, by: &str, at: i64) -> Result<(), Refusal> {
        self.take_away(name, (by, at), &erase)
    }

    fn take_away(
        &self,
        name: &Name,
        (by, at): (&str, i64),
        remove: &dyn Fn(&Path) -> io::Result<()>,
    ) -> Result<(), Refusal> {
        let mut inventory = lock(&self.inventory);
        if inventory.find(name).is_some() || inventory.aside.why(name).is_some() {
            let samples = vec![sample_name::text(name)];
            ledger::write(&self.state, &Event::Forgotten { at, samples, by: by.into() })?;
        }
        let Some((side, class)) = inventory.find(name).map(|(side, class)| (side, class.to_string())) else {
            return match inventory.aside.delete(&self.state, name, remove)? {
                true => Ok(()),
                false => Err(Refusal::Unknown(sample_name::text(name))),
            };
        };
        let folder = self.folder(side, &class);
        let mut bytes = 0;
        if let Some(file) = sample_in(&folder, name) {
            bytes = file.symlink_metadata().map_or(0, |file| file.len());
            remove(&file)?;
            sync(&folder)?;
        }
        let _ = fs::remove_dir(&folder);
        inventory.remove(name, bytes);
        Ok(())
    }

    /// Sets a sample aside, so that training goes on without it; gives which side it was on, if it was there.
    ///
    /// # Errors
    /// The system's.
    pub fn set_aside(&self, name: &Name, reason: &str, at: i64) -> io::Result<Option<usize>> {
        let mut inventory = lock(&self.inventory);
        let Some((side, class)) = inventory.find(name).map(|(side, class)| (side, class.to_string())) else {
            return Ok(None);
        };
        let folder = self.folder(side, &class);
        let mut bytes = 0;
        if let Some(file) = sample_in(&folder, name) {
            bytes = file.symlink_metadata().map_or(0, |file| file.len());
            let why = Why { at, label: class, reason: reason.into(), bytes };
            inventory.aside.put(&self.state, &file, why)?;
            sync(&folder)?;
        }
        let _ = fs::remove_dir(&folder);
        inventory.remove(name, bytes);
        Ok(Some(side))
    }

    /// Whether a sample of that name is here, or was set aside.
    pub fn knows(&self, sample: &str) -> bool {
        let inventory = lock(&self.inventory);
        sample_name::parse(sample)
            .is_some_and(|name| inventory.find(&name).is_some() || inventory.aside.why(&name).is_some())
    }

    /// A sample's file.
    pub fn file(&self, name: &Name) -> Option<PathBuf> {
        let inventory = lock(&self.inventory);
        let (side, class) = inventory.find(name)?;
        sample_in(&self.folder(side, class), name)
    }

    fn folder(&self, side: usize, class: &str) -> PathBuf {
        self.state.join("samples").join(SIDES[side]).join(class)
    }

    /// [`usable`], and decoded whole where that takes little memory: what ends early is found before it is taken.
    fn usable_whole(&self, content: &[u8], limits: &Samples) -> Result<&'static str, Refusal> {
        let extension = usable(content, limits)?;
        if limits.kind == Kind::Photograph {
            let _one = lock(&self.decoding);
            let reason = data::whole_photograph(content, &Limits::default(), DECODED_BYTES_MAX);
            reason.map_err(|reason| Refusal::Content(format!("{reason}; send the whole file")))?;
        }
        Ok(extension)
    }
}

/// A sample's file in the folder of its class; a link is none.
fn sample_in(folder: &Path, name: &Name) -> Option<PathBuf> {
    let name = sample_name::text(name);
    let paths = EXTENSIONS.iter().map(|extension| folder.join(format!("{name}.{extension}")));
    paths.into_iter().find(|path| path.symlink_metadata().is_ok_and(|file| file.is_file()))
}

/// As many classes as a delta may have: a client that makes up names must not be the end of every training.
fn refuse_more_classes(inventory: &Inventory, class: &str) -> Result<(), Refusal> {
    if !inventory.knows(class) && inventory.classes_of_all() >= LABELS_MAX {
        return Err(Refusal::Label(format!("`{class}` would be one class more than {LABELS_MAX}; use known labels")));
    }
    Ok(())
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|error| error_at(folder, error))
}

/// What may be a class: a folder's name that leads nowhere else, and one of `samples.classes` where those are given.
///
/// # Errors
/// What is wrong with it and what to do.
pub fn class_name(name: &str, limits: &Samples) -> Result<(), String> {
    let leads = name.starts_with('.') || name.contains(|c: char| c == '/' || c == '\u{fffd}' || c.is_control());
    if name.is_empty() || name.len() > CLASS_BYTES_MAX || leads {
        let shown: String = name.chars().take(CLASS_BYTES_MAX).collect();
        return Err(format!(
            "label {shown:?}: write 1 to {CLASS_BYTES_MAX} bytes of UTF-8 in one line, no `/`, no `.` at the beginning"
        ));
    }
    match &limits.classes {
        Some(classes) if !classes.iter().any(|class| class == name) => Err(format!(
            "label `{name}` is none of samples.classes ({}); use one of them or add it",
            classes.join(", ")
        )),
        _ => Ok(()),
    }
}

/// The ending that the name of such a sample gets.
///
/// # Errors
/// Nothing that can be a sample: [`Refusal::Large`], [`Refusal::Content`].
pub fn usable(content: &[u8], limits: &Samples) -> Result<&'static str, Refusal> {
    refuse_large(content.len() as u64, limits)?;
    let refused = |remedy: &str| {
        let remedy = remedy.to_string();
        move |reason: String| Refusal::Content(format!("{reason}; {remedy}"))
    };
    match &limits.kind {
        Kind::Photograph => {
            let remedy = "send the bytes of one whole file (JPEG, PNG, WebP, BMP, GIF, TIFF), without a form around it";
            data::photograph(content, &Limits::default()).map_err(refused(remedy))?;
            Ok(match content {
                [0x89, b'P', ..] => "png",
                [b'R', b'I', b'F', b'F', ..] => "webp",
                [b'G', b'I', b'F', ..] => "gif",
                [b'B', b'M', ..] => "bmp",
                [b'I', b'I', 42, 0, ..] | [b'M', b'M', 0, 42, ..] => "tif",
                _ => "jpg",
            })
        }
        Kind::Sound => {
            let remedy = "send the bytes of one whole WAV or FLAC file, without a form around them";
            let extension = match content {
                [b'R', b'I', b'F', b'F', ..] => "wav",
                [b'f', b'L', b'a', b'C', ..] => "flac",
                _ => return Err(refused(remedy)("neither WAV nor FLAC".into())),
            };
            data::decode_sound(&Bytes::copy_from_slice(content), &Limits::default()).map_err(refused(remedy))?;
            Ok(extension)
        }
        Kind::Series => {
            let remedy = "send one window: a CSV table with a header, or a .npy file of shape [rows, channels]";
            data::is_series(content).map_err(refused(remedy))
        }
        Kind::Text => {
            data::is_text(content).map_err(refused("send the text alone, as UTF-8"))?;
            Ok("txt")
        }
        Kind::Array(shape) => {
            let remedy = format!("send the bytes of one .npy file of shape {shape:?} (samples.kind)");
            let content = Bytes::copy_from_slice(content);
            data::array(&content, shape).and_then(|()| data::not_huge(&content)).map_err(refused(&remedy))?;
            Ok("npy")
        }
    }
}

/// # Errors
/// [`Refusal::Large`].
pub fn refuse_large(bytes: u64, limits: &Samples) -> Result<(), Refusal> {
    let max_kb = limits.each_max_kb;
    if bytes > max_kb * 1000 { Err(Refusal::Large { bytes, max_kb }) } else { Ok(()) }
}

/// The group of a file with this name in a class's folder, or in the folder `within` of it, as `samples.group` says; `None`: it is one
/// of its own.
///
/// # Errors
/// [`Refusal::Content`]: a name that the pattern does not fit.
pub fn group_of(name: &str, within: Option<&str>, limits: &Samples) -> Result<Option<String>, Refusal> {
    match limits.group.as_deref() {
        None => Ok(None),
        Some(GROUP_FOLDER) => Ok(within.map(String::from)),
        Some(pattern) => match data::group_in_name(pattern, name) {
            Ok(Some(group)) => Ok(Some(group)),
            Ok(None) => {
                Err(Refusal::Content(format!("its name has no part that samples.group = '{pattern}' fits; rename it")))
            }
            Err(problem) => Err(Refusal::Content(format!("samples.group: {problem}"))),
        },
    }
}

/// Which side a content, or the name of a group, lies on, by chance that its hash decides.
fn side_of(content: &[u8], held_out: f64) -> usize {
    let hash = blake3::hash(content);
    let drawn = u32::from_le_bytes(hash.as_bytes()[16..20].try_into().expect("four bytes"));
    usize::from(f64::from(drawn) < held_out * 2f64.powi(32))
}

#[cfg(test)]
mod tests {
    use super::super::inventory::count;
    use super::*;

    const PHOTOGRAPH: &[u8] = include_bytes!("../../../tests/goldens/images/mosaic.png");

    /// A photograph of its own: bytes behind a PNG's end are no part of the picture.
    fn photograph(number: u32) -> Vec<u8> {
        [PHOTOGRAPH, &number.to_le_bytes()].concat()
    }

    fn place() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::read(folder.path()).unwrap();
        (folder, store)
    }

    fn add(store: &Store, limits: &Samples, class: &str, content: &[u8]) -> Result<Stored, Refusal> {
        store.add(Door { limits, held_out: 0.2, group: None }, class, content)
    }

    fn classes(store: &Store) -> Vec<String> {
        SIDES.iter().flat_map(|side| count(&store.state, side).unwrap().1).collect()
    }

    /// What is counted is there.
    fn agrees(store: &Store) {
        let again = Inventory::read(&store.state).unwrap();
        let told = |inventory: &Inventory| {
            let counts = (inventory.counts(), inventory.bytes, inventory.unlearned(), inventory.classes());
            (counts, inventory.aside.clone())
        };
        assert_eq!(told(&lock(&store.inventory)), told(&again));
    }

    #[test]
    fn photographs_are_taken_once_and_parted_by_their_content() {
        let (_folder, store) = place();
        let limits = Samples::default();
        for number in 0..200 {
            assert!(add(&store, &limits, "cat", &photograph(number)).unwrap().new);
        }
        assert!(!add(&store, &limits, "cat", &photograph(0)).unwrap().new, "the same content is one sample");
        let [train, held_out] = lock(&store.inventory).counts();
        assert_eq!(train + held_out, 200);
        assert!((20..=60).contains(&held_out), "{held_out} of 200, a fifth by chance");
        assert_eq!(lock(&store.inventory).bytes, 200 * photograph(0).len() as u64);
        agrees(&store);
    }

    /// The empty folder of the old class was the end of every training.
    #[test]
    fn a_second_label_corrects_the_first_and_leaves_no_empty_class() {
        let (_folder, store) = place();
        let stored = add(&store, &Samples::default(), "cat", &photograph(1)).unwrap();
        assert!(add(&store, &Samples::default(), "dog", &photograph(1)).unwrap().new);
        assert_eq!(classes(&store), ["dog"]);
        assert!(!store.folder(stored.side, "cat").exists());
        agrees(&store);
        store.delete(&sample_name::parse(&stored.sample).unwrap(), PERSON, 1).unwrap();
        assert!(classes(&store).is_empty() && !store.folder(stored.side, "dog").exists());
        let gone = store.delete(&sample_name::parse(&stored.sample).unwrap(), PERSON, 1).unwrap_err();
        assert!(matches!(gone, Refusal::Unknown(_)), "{gone}");
        agrees(&store);
    }

    #[test]
    fn a_photograph_that_ends_early_is_refused_at_the_door() {
        let (_folder, store) = place();
        let cut = &PHOTOGRAPH[..PHOTOGRAPH.len() * 2 / 3];
        assert!(usable(cut, &Samples::default()).is_err(), "its structure tells, before anything is decoded");
        let error = add(&store, &Samples::default(), "cat", cut).unwrap_err();
        assert!(matches!(&error, Refusal::Content(text) if text.contains("whole file")), "{error}");
        assert!(classes(&store).is_empty());
    }

    #[test]
    fn what_is_set_aside_is_no_sample_and_does_not_come_again() {
        let (_folder, store) = place();
        let limits = Samples::default();
        let stored = add(&store, &limits, "cat", &photograph(1)).unwrap();
        let name = sample_name::parse(&stored.sample).unwrap();
        assert_eq!(store.set_aside(&name, "not finite", 7).unwrap(), Some(stored.side));
        assert_eq!(lock(&store.inventory).aside.why(&name).unwrap().label, "cat");
        assert!(classes(&store).is_empty());
        agrees(&store);
        let error = add(&store, &limits, "cat", &photograph(1)).unwrap_err();
        assert!(error.to_string().contains("set aside (not finite)"), "{error}");
        store.delete(&name, PERSON, 1).unwrap();
        assert!(add(&store, &limits, "cat", &photograph(1)).unwrap().new, "deleted there, it may come again");
    }

    #[test]
    fn a_file_that_was_taken_away_can_be_sent_again() {
        let (_folder, store) = place();
        let stored = add(&store, &Samples::default(), "cat", &photograph(1)).unwrap();
        let file = store.file(&sample_name::parse(&stored.sample).unwrap()).unwrap();
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, MODE);
        fs::remove_file(&file).unwrap();
        assert!(add(&store, &Samples::default(), "dog", &photograph(1)).unwrap().new);
        agrees(&store);
    }

    #[test]
    fn no_more_classes_than_an_adapter_can_have() {
        let (_folder, store) = place();
        for number in 0..LABELS_MAX as u32 {
            lock(&store.inventory).add(name_of_content(&number.to_le_bytes()), 0, &number.to_string(), 0);
        }
        let error = add(&store, &Samples::default(), "one more", &photograph(1)).unwrap_err();
        assert!(error.to_string().contains("4096"), "{error}");
        assert!(add(&store, &Samples::default(), "7", &photograph(1)).unwrap().new);
    }

    #[test]
    fn what_has_no_room_is_refused_and_a_new_label_takes_none() {
        let (_folder, store) = place();
        let limits = Samples { total_max_mb: Some(1), ..Samples::default() };
        add(&store, &limits, "cat", &photograph(0)).unwrap();
        lock(&store.inventory).bytes = 1_000_000;
        add(&store, &limits, "dog", &photograph(0)).unwrap();
        let error = add(&store, &limits, "dog", &photograph(9)).unwrap_err();
        assert!(matches!(error, Refusal::Full { max_mb: 1 }), "{error}");
    }

    #[test]
    fn numbers_whose_squares_are_not_finite_are_refused() {
        let (_folder, store) = place();
        let limits = Samples { kind: Kind::Array(vec![2]), ..Samples::default() };
        let array = |values: [f32; 2]| data::npy_of_floats(&[2], &values);
        let error = add(&store, &limits, "up", &array([1.0, 3e38])).unwrap_err();
        assert!(matches!(&error, Refusal::Content(text) if text.contains("3e38")), "{error}");
        assert!(add(&store, &limits, "up", &array([1.0, -2e3])).unwrap().new);
    }

    #[test]
    fn a_sound_is_taken_whole_and_nothing_else_instead() {
        let (_folder, store) = place();
        let limits = Samples { kind: Kind::Sound, ..Samples::default() };
        let flac = include_bytes!("../../../tests/goldens/sounds/pcm16.flac");
        let wav = include_bytes!("../../../tests/goldens/sounds/pcm24.wav");
        for content in [&flac[..], wav] {
            assert!(add(&store, &limits, "lark", content).unwrap().new);
            let error = add(&store, &limits, "lark", &content[..content.len() / 2]).unwrap_err();
            assert!(matches!(&error, Refusal::Content(text) if text.contains("cut off")), "{error}");
        }
        let error = add(&store, &limits, "lark", &photograph(1)).unwrap_err();
        assert!(matches!(&error, Refusal::Content(text) if text.contains("neither WAV nor FLAC")), "{error}");
    }

    #[test]
    fn a_window_of_readings_is_taken_as_a_table_or_an_array() {
        let (_folder, store) = place();
        let limits = Samples { kind: Kind::Series, ..Samples::default() };
        let array = data::npy_of_floats(&[2, 3], &[1.0; 6]);
        for content in [&b"t,x,y\n0,1,2\n0.1,2,3\n"[..], &array] {
            assert!(add(&store, &limits, "walk", content).unwrap().new);
        }
        for (content, told) in [
            (&b"t,x\n0,1\n0,2\n"[..], "sample.csv:3: has the time of the row before"),
            (b"t,x\n0,nan\n", "`nan` is no finite number"),
            (b"0,1\n0,2\n", "column names"),
            (b"", "no rows"),
            (&array[..array.len() - 1], "sample.npy"),
        ] {
            let error = add(&store, &limits, "walk", content).unwrap_err();
            let is = matches!(&error, Refusal::Content(text) if text.contains(told) && text.contains("one window"));
            assert!(is, "{told}: {error}");
        }
    }

    #[test]
    fn a_label_leads_nowhere_else() {
        let (_folder, store) = place();
        let limits = Samples { classes: Some(vec!["cat".into(), "..".into(), "a/b".into()]), ..Samples::default() };
        for label in ["", ".", "..", "../cat", "a/b", "/etc", ".refused", "a\nb", "a\0", "dog", &"x".repeat(101)] {
            let error = add(&store, &limits, label, &photograph(1)).unwrap_err();
            assert!(matches!(&error, Refusal::Label(text) if text.contains("label")), "{label:?}: {error}");
        }
        add(&store, &limits, "cat", &photograph(1)).unwrap();
        assert_eq!(classes(&store), ["cat"]);
    }

    #[test]
    fn what_was_cut_off_is_cleared() {
        let (_folder, store) = place();
        let stored = add(&store, &Samples::default(), "cat", &photograph(1)).unwrap();
        let class = store.folder(stored.side, "cat");
        fs::write(class.join(".x.png.7-0.tmp"), "half").unwrap();
        agrees(&store);
        assert_eq!(fs::read_dir(&class).unwrap().count(), 1, "only the sample is left");
    }
}
