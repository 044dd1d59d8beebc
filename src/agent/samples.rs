//! Samples on disk: from the spool or the API into the state, durable before they leave the spool or are acknowledged.
//!
//! `SPOOL/<class>/<file>` becomes `STATE/samples/{train,held-out}/<class>/<BLAKE3>.<extension>`. The content's hash
//! decides on which side a sample lies, so the same content never lies on both. A file that is not taken stays in
//! the spool; one that will never be of use goes to `SPOOL/.refused`, where the last ones stay.

use super::board::lock;
use super::config::{Kind, Samples};
use crate::data::{self, Limits};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// The two sides.
pub const SIDES: [&str; 2] = ["train", "held-out"];
/// Hexadecimal digits of the hash in a name: 128 bits.
const NAME_DIGITS: usize = 32;
/// Bytes of a class's name.
const CLASS_BYTES_MAX: usize = 100;
/// Classes that samples may have together: a client that makes up names must not fill the folder of a side.
const CLASSES_MAX: usize = 10_000;
/// Files that are kept of those that were refused, and their bytes.
const REFUSED_MAX: usize = 1000;
const REFUSED_BYTES_MAX: u64 = 64 << 20;
/// Endings of files that are still being written.
const UNFINISHED: [&str; 3] = ["tmp", "part", "partial"];

/// What a look into the spool found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Files that are samples now.
    pub taken: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Files moved to `.refused`, with the reason.
    pub refused: Vec<(PathBuf, String)>,
    /// Whether samples wait because there is no room for them.
    pub full: bool,
}

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

/// How many samples there are. Whoever adds or removes one holds its lock until that is on the disk.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Inventory {
    /// Samples of each side by class; no class without any.
    classes: [BTreeMap<String, u64>; 2],
    /// Bytes of all.
    pub bytes: u64,
}

impl Inventory {
    /// Counts what lies in a state, and removes what a killed process left unfinished there.
    ///
    /// # Errors
    /// The system's.
    pub fn read(state: &Path) -> io::Result<Self> {
        let mut found = Self::default();
        for (index, side) in SIDES.iter().enumerate() {
            let side = state.join("samples").join(side);
            fs::create_dir_all(&side).map_err(|error| with(&side, error))?;
            for class in visible(&side)? {
                remove_unfinished(&class)?;
                for file in visible(&class)? {
                    found.bytes += file.metadata().map_or(0, |file| file.len());
                    *found.classes[index].entry(name_of(&class)).or_default() += 1;
                }
            }
        }
        File::open(state.join("samples"))?.sync_all()?;
        Ok(found)
    }

    /// Samples to train on and held-out ones.
    pub fn counts(&self) -> [u64; 2] {
        [0, 1].map(|side| self.classes[side].values().sum())
    }

    /// Classes of the samples to train on.
    pub fn classes(&self) -> usize {
        self.classes[0].len()
    }

    fn knows(&self, class: &str) -> bool {
        self.classes.iter().any(|side| side.contains_key(class))
    }

    fn add(&mut self, side: usize, class: &str, bytes: u64) {
        *self.classes[side].entry(class.into()).or_default() += 1;
        self.bytes += bytes;
    }

    fn remove(&mut self, side: usize, class: &str, bytes: u64) {
        if let Some(count) = self.classes[side].get_mut(class) {
            *count = count.saturating_sub(1);
        }
        self.classes[side].retain(|_, count| *count > 0);
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

/// Takes in what lies in the spool, as far as there is room. `held_out` is the share that is never trained on.
///
/// # Errors
/// The system's, with the path; what was taken before it is taken.
pub fn take_in(
    spool: &Path,
    state: &Path,
    limits: &Samples,
    held_out: f64,
    inventory: &Mutex<Inventory>,
) -> io::Result<Taken> {
    let mut found = Taken::default();
    let mut changed = BTreeSet::new();
    for class in visible(spool)? {
        if !class.is_dir() {
            found.refused.push((class, "lies outside of any class; put it into a folder with its class's name".into()));
            continue;
        }
        for file in visible(&class)? {
            if !file.is_file() || is_unfinished(&file) {
                continue;
            }
            let bytes = file.metadata()?.len();
            let usable = usable_file(&file, bytes, limits);
            let took = usable
                .and_then(|content| add(state, limits, held_out, &name_of(&class), &content, Some(&file), inventory));
            match took {
                Ok(stored) => {
                    let side = state.join("samples").join(SIDES[stored.side]);
                    changed.extend([side.join(name_of(&class)), side]);
                    found.bytes += bytes;
                    found.taken += 1;
                }
                Err(Refusal::Full { .. }) => found.full = true,
                Err(Refusal::Disk(error)) => return Err(error),
                Err(refusal) => found.refused.push((file, refusal.to_string())),
            }
        }
    }
    for folder in &changed {
        File::open(folder)?.sync_all()?;
    }
    for (file, _) in &found.refused {
        refuse(spool, file)?;
    }
    if !found.refused.is_empty() {
        forget_refused(spool, REFUSED_MAX, REFUSED_BYTES_MAX)?;
    }
    Ok(found)
}

/// Makes what was sent a sample of its class; it is on the disk when this returns. The same content is one sample: it moves
/// from the class that it had to this one. With `from`, a file in the spool, nothing is written but names where that is on
/// the same disk, the file goes from there, and the caller brings the folders to the disk: a name lies in the one or the other.
///
/// # Errors
/// [`Refusal`].
pub fn add(
    state: &Path,
    limits: &Samples,
    held_out: f64,
    class: &str,
    content: &[u8],
    from: Option<&Path>,
    inventory: &Mutex<Inventory>,
) -> Result<Stored, Refusal> {
    class_name(class, limits).map_err(Refusal::Label)?;
    let extension = usable(content, limits)?;
    let (target, side) = place(state, class, content, extension, held_out);
    let mut inventory = lock(inventory);
    let bytes = content.len() as u64;
    let new = !target.exists();
    let others = of_other_classes(&target, state, class)?;
    if !inventory.knows(class) && inventory.classes.iter().map(BTreeMap::len).max() >= Some(CLASSES_MAX) {
        return Err(Refusal::Label(format!("`{class}` would be one class more than {CLASSES_MAX}; use known labels")));
    }
    if new && others.is_empty() && inventory.bytes + bytes > limits.total_max_mb * 1_000_000 {
        return Err(Refusal::Full { max_mb: limits.total_max_mb });
    }
    store(content, from, &target)?;
    if from.is_none() || !others.is_empty() {
        let folder = target.parent().expect("a class's folder");
        for folder in [folder, folder.parent().expect("a side")] {
            File::open(folder)?.sync_all()?;
        }
    }
    if new {
        inventory.add(side, class, bytes);
    }
    for other in others {
        let folder = other.parent().expect("a class's folder");
        fs::remove_file(&other).map_err(|error| with(&other, error))?;
        inventory.remove(side, &name_of(folder), bytes);
        File::open(folder)?.sync_all()?;
    }
    let sample = target.file_stem().expect("a stored sample has a name").to_string_lossy().into_owned();
    Ok(Stored { sample, side, new })
}

/// How many samples a side has, and its classes.
///
/// # Errors
/// The system's.
pub fn count(state: &Path, side: &str) -> io::Result<(u64, Vec<String>)> {
    let (mut samples, mut classes) = (0, Vec::new());
    for class in visible(&state.join("samples").join(side))? {
        let files = visible(&class)?.len() as u64;
        if files > 0 {
            samples += files;
            classes.push(class.file_name().unwrap_or_default().to_string_lossy().into_owned());
        }
    }
    Ok((samples, classes))
}

/// A folder's entries in the order of names, hidden ones left out; none where there is no folder.
pub fn visible(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(with(folder, error)),
    };
    let mut paths: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    paths.retain(|path| !path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".")));
    paths.sort();
    Ok(paths)
}

/// An error that says where.
pub fn with(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

fn is_unfinished(file: &Path) -> bool {
    file.extension().is_some_and(|extension| UNFINISHED.iter().any(|word| extension.eq_ignore_ascii_case(word)))
}

/// A folder's or file's own name.
fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
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
            let remedy = "send the bytes of one JPEG or PNG file, without a form around them";
            data::photograph(content, &Limits::default()).map_err(refused(remedy))?;
            Ok(if content.starts_with(b"\x89PNG") { "png" } else { "jpg" })
        }
        Kind::Text => {
            data::is_text(content).map_err(refused("send the text alone, as UTF-8"))?;
            Ok("txt")
        }
        Kind::Array(shape) => {
            let remedy = format!("send the bytes of one .npy file of shape {shape:?} (samples.kind)");
            data::array(&Bytes::copy_from_slice(content), shape).map_err(refused(&remedy))?;
            Ok("npy")
        }
    }
}

fn refuse_large(bytes: u64, limits: &Samples) -> Result<(), Refusal> {
    let max_kb = limits.each_max_kb;
    if bytes > max_kb * 1000 { Err(Refusal::Large { bytes, max_kb }) } else { Ok(()) }
}

/// A file's content, not read where it is too large. A file that cannot be read is of no use.
fn usable_file(file: &Path, bytes: u64, limits: &Samples) -> Result<Vec<u8>, Refusal> {
    refuse_large(bytes, limits)?;
    let mut content = Vec::new();
    let read = File::open(file).and_then(|file| file.take(bytes).read_to_end(&mut content));
    read.map_err(|error| Refusal::Content(error.to_string()))?;
    Ok(content)
}

fn place(state: &Path, class: &str, content: &[u8], extension: &str, held_out: f64) -> (PathBuf, usize) {
    let hash = blake3::hash(content);
    let drawn = u32::from_le_bytes(hash.as_bytes()[16..20].try_into().expect("four bytes"));
    let side = usize::from(f64::from(drawn) < held_out * 2f64.powi(32));
    let name = &hash.to_hex()[..NAME_DIGITS];
    (state.join("samples").join(SIDES[side]).join(class).join(format!("{name}.{extension}")), side)
}

/// Brings a sample to its place, and its content to the disk.
fn store(content: &[u8], from: Option<&Path>, target: &Path) -> io::Result<()> {
    let folder = target.parent().expect("a class's folder");
    fs::create_dir_all(folder).map_err(|error| with(folder, error))?;
    let write = || crate::atomic::write_atomically(target, |file| file.write_all(content));
    match from {
        Some(file) => {
            File::open(file)?.sync_all()?;
            match fs::rename(file, target) {
                Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
                    write()?;
                    fs::remove_file(file)?;
                }
                other => other.map_err(|error| with(target, error))?,
            }
        }
        None if target.exists() => {}
        None => write().map_err(|error| with(target, error))?,
    }
    Ok(())
}

/// The same content under other labels, which a new label corrects. It lies on the same side.
fn of_other_classes(target: &Path, state: &Path, class: &str) -> io::Result<Vec<PathBuf>> {
    let mut same = Vec::new();
    for side in SIDES {
        for other in visible(&state.join("samples").join(side))? {
            let file = other.join(target.file_name().unwrap_or_default());
            if other.file_name().is_some_and(|name| name != class) && file.is_file() {
                same.push(file);
            }
        }
    }
    Ok(same)
}

/// Moves a file to `.refused`, beside others of its name.
fn refuse(spool: &Path, file: &Path) -> io::Result<()> {
    let folder = spool.join(".refused");
    fs::create_dir_all(&folder)?;
    let name = name_of(file);
    let names = std::iter::once(name.clone()).chain((2u64..).map(|number| format!("{number}-{name}")));
    let free = names.map(|name| folder.join(name)).find(|path| path.symlink_metadata().is_err());
    fs::rename(file, free.expect("some number is free")).map_err(|error| with(file, error))
}

/// Of what was refused the last stays, for somebody to look at: so many files and bytes at most.
fn forget_refused(spool: &Path, files_max: usize, bytes_max: u64) -> io::Result<()> {
    let mut refused = Vec::new();
    for file in visible(&spool.join(".refused"))? {
        let known = file.symlink_metadata().map_err(|error| with(&file, error))?;
        // A file's status changes when it is moved.
        refused.push((known.ctime(), known.ctime_nsec(), file, known.len()));
    }
    refused.sort();
    let (mut files, mut bytes) = (0, 0);
    for (_, _, file, length) in refused.iter().rev() {
        (files, bytes) = (files + 1, bytes + length);
        if files > files_max || bytes > bytes_max {
            fs::remove_file(file).map_err(|error| with(file, error))?;
        }
    }
    Ok(())
}

/// Removes what [`crate::atomic::write_atomically`] did not finish: hidden files, which nothing reads.
fn remove_unfinished(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder).map_err(|error| with(folder, error))? {
        let path = entry?.path();
        if name_of(&path).starts_with('.') && path.extension().is_some_and(|extension| extension == "tmp") {
            fs::remove_file(&path).map_err(|error| with(&path, error))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PHOTOGRAPH: &[u8] = include_bytes!("../../tests/goldens/images/mosaic.png");

    /// A photograph of its own: bytes behind a PNG's end are no part of the picture.
    fn photograph(number: u32) -> Vec<u8> {
        [PHOTOGRAPH, &number.to_le_bytes()].concat()
    }

    fn put(spool: &Path, name: &str, content: &[u8]) {
        fs::create_dir_all(spool.join(name).parent().unwrap()).unwrap();
        fs::write(spool.join(name), content).unwrap();
    }

    fn places() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let (spool, state) = (folder.path().join("spool"), folder.path().join("state"));
        (folder, spool, state)
    }

    fn inventory(state: &Path) -> Mutex<Inventory> {
        Mutex::new(Inventory::read(state).unwrap())
    }

    fn take(spool: &Path, state: &Path) -> Taken {
        let inventory = inventory(state);
        let taken = take_in(spool, state, &Samples::default(), 0.2, &inventory).unwrap();
        assert_eq!(inventory.into_inner().unwrap(), Inventory::read(state).unwrap(), "what is counted is there");
        taken
    }

    fn classes(state: &Path) -> Vec<String> {
        SIDES.iter().flat_map(|side| count(state, side).unwrap().1).collect()
    }

    #[test]
    fn photographs_are_taken_once_and_parted_by_their_content() {
        let (_folder, spool, state) = places();
        for number in 0..200 {
            put(&spool, &format!("cat/{number}.png"), &photograph(number));
        }
        put(&spool, "cat/again.png", &photograph(0));
        assert_eq!(take(&spool, &state).taken, 201);
        let [(train, classes), (held_out, _)] = SIDES.map(|side| count(&state, side).unwrap());
        assert_eq!((train + held_out, classes), (200, vec!["cat".to_string()]), "the same content is one sample");
        assert!((20..=60).contains(&held_out), "{held_out} of 200, a fifth by chance");
        assert!(visible(&spool.join("cat")).unwrap().is_empty());
        assert_eq!(Inventory::read(&state).unwrap().bytes, 200 * photograph(0).len() as u64);
    }

    #[test]
    fn a_second_label_corrects_the_first() {
        let (_folder, spool, state) = places();
        put(&spool, "cat/a.png", &photograph(1));
        take(&spool, &state);
        put(&spool, "dog/a.png", &photograph(1));
        take(&spool, &state);
        assert_eq!(classes(&state), ["dog"]);
    }

    #[test]
    fn what_is_of_no_use_is_put_aside_and_what_is_unfinished_waits() {
        let (_folder, spool, state) = places();
        put(&spool, "cat/text.png", b"no photograph");
        put(&spool, "cat/empty.png", b"");
        put(&spool, "cat/large.png", &[PHOTOGRAPH, &vec![0; 16_000_000]].concat());
        put(&spool, "loose.png", &photograph(1));
        put(&spool, &format!("{}/a.png", "x".repeat(101)), &photograph(2));
        put(&spool, "cat/later.png.part", &photograph(3));
        put(&spool, "cat/.hidden.png", &photograph(4));
        let found = take(&spool, &state);
        assert_eq!((found.taken, found.refused.len()), (0, 5), "{found:?}");
        assert!(found.refused.iter().all(|(_, reason)| reason.len() > 10), "{found:?}");
        assert_eq!(visible(&spool.join(".refused")).unwrap().len(), 4 + 1);
        assert!(spool.join("cat/later.png.part").exists() && spool.join("cat/.hidden.png").exists());
        assert_eq!(take(&spool, &state), Taken::default(), "nothing is refused twice");
    }

    #[test]
    fn what_has_no_room_waits_in_the_spool() {
        let (_folder, spool, state) = places();
        for number in 0..3 {
            put(&spool, &format!("cat/{number}.png"), &photograph(number));
        }
        let limits = Samples { total_max_mb: 1, ..Samples::default() };
        let inventory = inventory(&state);
        lock(&inventory).bytes = 1_000_000 - 2 * photograph(0).len() as u64;
        let found = take_in(&spool, &state, &limits, 0.2, &inventory).unwrap();
        assert!(found.full && found.taken == 2, "{found:?}");
        assert_eq!(visible(&spool.join("cat")).unwrap().len(), 1);
        // A new label for what is there takes no room.
        add(&state, &limits, 0.2, "dog", &photograph(0), None, &inventory).unwrap();
        let error = add(&state, &limits, 0.2, "dog", &photograph(9), None, &inventory).unwrap_err();
        assert!(matches!(error, Refusal::Full { max_mb: 1 }), "{error}");
        assert_eq!(take(&spool, &state).taken, 1);
    }

    #[test]
    fn refused_files_of_one_name_lie_beside_each_other() {
        let (_folder, spool, state) = places();
        for (class, content) in [("cat", "one"), ("dog", "two"), ("cow", "three")] {
            put(&spool, &format!("{class}/a.png"), content.as_bytes());
        }
        assert_eq!(take(&spool, &state).refused.len(), 3);
        put(&spool, "cat/a.png", b"four");
        take(&spool, &state);
        let refused = visible(&spool.join(".refused")).unwrap();
        let mut contents: Vec<String> = refused.iter().map(|file| fs::read_to_string(file).unwrap()).collect();
        contents.sort();
        assert_eq!(contents, ["four", "one", "three", "two"]);
    }

    #[test]
    fn of_what_was_refused_the_last_stays() {
        let (_folder, spool, state) = places();
        for number in 0..5 {
            put(&spool, "cat/a.png", format!("no photograph {number}").as_bytes());
            take(&spool, &state);
        }
        let left = || {
            let files = visible(&spool.join(".refused")).unwrap();
            let mut texts: Vec<String> = files.iter().map(|file| fs::read_to_string(file).unwrap()).collect();
            texts.sort();
            texts
        };
        forget_refused(&spool, 4, 1000).unwrap();
        assert_eq!(left(), ["no photograph 1", "no photograph 2", "no photograph 3", "no photograph 4"]);
        forget_refused(&spool, 4, 40).unwrap();
        assert_eq!(left(), ["no photograph 3", "no photograph 4"]);
    }

    #[test]
    fn a_label_leads_nowhere_else() {
        let (_folder, _, state) = places();
        let inventory = inventory(&state);
        let limits = Samples { classes: Some(vec!["cat".into(), "..".into(), "a/b".into()]), ..Samples::default() };
        for label in ["", ".", "..", "../cat", "a/b", "/etc", ".refused", "a\nb", "a\0", "dog", &"x".repeat(101)] {
            let error = add(&state, &limits, 0.2, label, &photograph(1), None, &inventory).unwrap_err();
            assert!(matches!(&error, Refusal::Label(text) if text.contains("label")), "{label:?}: {error}");
        }
        add(&state, &limits, 0.2, "cat", &photograph(1), None, &inventory).unwrap();
        assert_eq!(classes(&state), ["cat"]);
    }

    #[test]
    fn what_is_added_twice_is_one_and_what_was_cut_off_is_cleared() {
        let (_folder, _, state) = places();
        let inventory = inventory(&state);
        let put = |label: &str| add(&state, &Samples::default(), 0.2, label, &photograph(1), None, &inventory).unwrap();
        let first = put("cat");
        assert!(first.new);
        assert_eq!(put("cat"), Stored { new: false, ..first.clone() });
        let class = state.join("samples").join(SIDES[first.side]).join("cat");
        fs::write(class.join(".x.png.7-0.tmp"), "half").unwrap();
        assert_eq!(Inventory::read(&state).unwrap(), lock(&inventory).clone());
        assert_eq!(fs::read_dir(&class).unwrap().count(), 1, "only the sample is left");
    }
}
