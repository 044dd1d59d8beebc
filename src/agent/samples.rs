//! Samples on disk: from the spool into the state, durable before they leave the spool.
//!
//! `SPOOL/<class>/<file>` becomes `STATE/samples/{train,held-out}/<class>/<BLAKE3>.<extension>`. The content's hash
//! decides on which side a sample lies, so the same photograph never lies on both. A file that is not taken stays in
//! the spool; one that will never be of use goes to `SPOOL/.refused`.

use super::config::Samples;
use crate::data::{Limits, photograph};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// The two sides.
pub const SIDES: [&str; 2] = ["train", "held-out"];
/// Hexadecimal digits of the hash in a name: 128 bits.
const NAME_DIGITS: usize = 32;
/// Bytes of a class's name.
const CLASS_BYTES_MAX: usize = 100;
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

/// Takes in what lies in the spool, up to `room` bytes. `held_out` is the share that is never trained on.
///
/// # Errors
/// The system's, with the path; what was taken before it is taken.
pub fn take_in(spool: &Path, state: &Path, limits: &Samples, held_out: f64, room: u64) -> io::Result<Taken> {
    let mut found = Taken::default();
    let mut changed = BTreeSet::new();
    for class in visible(spool)? {
        let name = class.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !class.is_dir() {
            found.refused.push((class, "lies outside of any class; put it into a folder with its class's name".into()));
            continue;
        }
        for file in visible(&class)? {
            if !file.is_file() || is_unfinished(&file) {
                continue;
            }
            let bytes = file.metadata()?.len();
            let usable = class_name(&name).and_then(|()| content(&file, bytes, limits));
            let (content, extension) = match usable {
                Ok(usable) => usable,
                Err(reason) => {
                    found.refused.push((file, reason));
                    continue;
                }
            };
            if found.bytes + bytes > room {
                found.full = true;
                continue;
            }
            let target = place(state, &name, &content, extension, held_out);
            changed.extend(store(&file, &target, state, &name)?);
            found.bytes += bytes;
            found.taken += 1;
        }
    }
    // Only now are the new names on the disk; the old ones may go.
    for folder in &changed {
        File::open(folder)?.sync_all()?;
    }
    for (file, _) in &found.refused {
        refuse(spool, file)?;
    }
    Ok(found)
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

fn class_name(name: &str) -> Result<(), String> {
    let plain = !name.is_empty() && name.len() <= CLASS_BYTES_MAX && !name.contains(['\0', '\n', '\u{fffd}']);
    plain.then_some(()).ok_or_else(|| format!("a class's name has 1 to {CLASS_BYTES_MAX} bytes of UTF-8 in one line"))
}

/// The content of a usable photograph and the ending that its name gets.
fn content(file: &Path, bytes: u64, limits: &Samples) -> Result<(Vec<u8>, &'static str), String> {
    if bytes > limits.each_max_kb * 1000 {
        return Err(format!("{bytes} bytes are more than samples.each-max-kb = {}", limits.each_max_kb));
    }
    let mut content = Vec::new();
    let read = File::open(file).and_then(|file| file.take(bytes).read_to_end(&mut content));
    read.map_err(|error| error.to_string())?;
    photograph(&content, &Limits::default())?;
    let extension = if content.starts_with(b"\x89PNG") { "png" } else { "jpg" };
    Ok((content, extension))
}

fn place(state: &Path, class: &str, content: &[u8], extension: &str, held_out: f64) -> PathBuf {
    let hash = blake3::hash(content);
    let drawn = u32::from_le_bytes(hash.as_bytes()[16..20].try_into().expect("four bytes"));
    let side = SIDES[usize::from(f64::from(drawn) < held_out * 2f64.powi(32))];
    let name = &hash.to_hex()[..NAME_DIGITS];
    state.join("samples").join(side).join(class).join(format!("{name}.{extension}"))
}

/// Moves a file to its place and takes the same content away from other classes, which its label corrects. Gives the folders
/// that changed.
fn store(file: &Path, target: &Path, state: &Path, class: &str) -> io::Result<Vec<PathBuf>> {
    let folder = target.parent().expect("a class's folder").to_path_buf();
    fs::create_dir_all(&folder).map_err(|error| with(&folder, error))?;
    let mut changed = vec![folder.parent().expect("a side").to_path_buf(), folder];
    File::open(file)?.sync_all()?;
    match fs::rename(file, target) {
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
            crate::atomic::write_atomically(target, |to| io::copy(&mut File::open(file)?, to).map(drop))?;
            fs::remove_file(file)?;
        }
        other => other.map_err(|error| with(target, error))?,
    }
    for other in
        SIDES.iter().map(|side| visible(&state.join("samples").join(side))).collect::<io::Result<Vec<_>>>()?.concat()
    {
        let name = other.file_name().unwrap_or_default();
        let same = other.join(target.file_name().unwrap_or_default());
        if name != class && same.is_file() {
            fs::remove_file(&same)?;
            changed.push(other);
        }
    }
    Ok(changed)
}

fn refuse(spool: &Path, file: &Path) -> io::Result<()> {
    let folder = spool.join(".refused");
    fs::create_dir_all(&folder)?;
    fs::rename(file, folder.join(file.file_name().unwrap_or_default())).map_err(|error| with(file, error))
}

/// Bytes of all samples.
///
/// # Errors
/// The system's.
pub fn stored_bytes(state: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for side in SIDES {
        for class in visible(&state.join("samples").join(side))? {
            for file in visible(&class)? {
                bytes += file.metadata().map(|file| file.len()).unwrap_or(0);
            }
        }
    }
    Ok(bytes)
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

    fn take(spool: &Path, state: &Path) -> Taken {
        take_in(spool, state, &Samples::default(), 0.2, u64::MAX).unwrap()
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
        assert_eq!(stored_bytes(&state).unwrap(), 200 * photograph(0).len() as u64);
    }

    #[test]
    fn a_second_label_corrects_the_first() {
        let (_folder, spool, state) = places();
        put(&spool, "cat/a.png", &photograph(1));
        take(&spool, &state);
        put(&spool, "dog/a.png", &photograph(1));
        take(&spool, &state);
        let classes: Vec<String> = SIDES.iter().flat_map(|side| count(&state, side).unwrap().1).collect();
        assert_eq!(classes, ["dog"]);
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
        let two = 2 * photograph(0).len() as u64;
        let found = take_in(&spool, &state, &Samples::default(), 0.2, two).unwrap();
        assert!(found.full && found.taken == 2 && found.bytes == two, "{found:?}");
        assert_eq!(visible(&spool.join("cat")).unwrap().len(), 1);
        assert_eq!(take(&spool, &state).taken, 1);
    }
}
