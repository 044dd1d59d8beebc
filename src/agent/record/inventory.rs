//! Which samples there are: an index in memory of what lies in a state, so that nothing is searched for on the disk.
//!
//! Reads the state's folders once, when the service starts; whoever adds, moves or removes a sample then changes both, under one lock.
//! `STATE/learned` names what the last training that came to a verdict has learned from, so that "new" means what
//! nothing has learned from, whatever was deleted meanwhile. It decides nothing.

use super::aside::Aside;
use super::folders::{error_at, file_name, visible};
use super::sample_name::{Name, name_of};
use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// The two sides.
pub const SIDES: [&str; 2] = ["train", "held-out"];
/// What has been learned from.
const LEARNED: &str = "learned";
/// Bytes of an entry there.
const MARK_BYTES: usize = 8;

/// Where a sample is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    class: u32,
    side: u8,
    learned: bool,
}

/// The samples of a state.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Inventory {
    places: HashMap<Name, Place>,
    /// Each class that has been seen, with its samples to train on and its held-out ones.
    classes: Vec<(String, [u64; 2])>,
    numbers: HashMap<String, u32>,
    /// Bytes of all.
    pub bytes: u64,
    /// Samples to train on that no training has learned from.
    new: u64,
    /// Samples that came or got another label since the service started.
    pub added: u64,
    /// What was set aside.
    pub aside: Aside,
}

impl Inventory {
    /// Counts what lies in a state, and removes what a killed process left unfinished there.
    ///
    /// # Errors
    /// The system's.
    pub fn read(state: &Path) -> io::Result<Self> {
        for side in SIDES {
            let side = state.join("samples").join(side);
            fs::create_dir_all(&side).map_err(|error| error_at(&side, error))?;
            visible(&side)?.iter().try_for_each(|class| remove_unfinished(class))?;
        }
        File::open(state.join("samples"))?.sync_all()?;
        Aside::clear(state)?;
        Self::count_in(state)
    }

    /// Counts what lies in a state, and leaves it as it is: another process may be at work there.
    ///
    /// # Errors
    /// The system's.
    pub fn count_in(state: &Path) -> io::Result<Self> {
        let mut found = Self { aside: Aside::read(state)?, ..Self::default() };
        let learned = learned(state)?;
        for (index, side) in SIDES.iter().enumerate() {
            let side = state.join("samples").join(side);
            for class in visible(&side)? {
                let class_name = file_name(&class);
                for file in visible(&class)? {
                    let bytes = file.symlink_metadata().map_or(0, |file| file.len());
                    let name = name_of(&file);
                    // A label's correction is one rename; two places of one sample were made by hand.
                    if found.find(&name).is_none() {
                        found.add(name, index, &class_name, bytes);
                        found.mark(&name, &learned);
                    }
                }
            }
        }
        found.added = 0;
        Ok(found)
    }

    /// Samples to train on and held-out ones.
    pub fn counts(&self) -> [u64; 2] {
        [0, 1].map(|side| self.classes.iter().map(|(_, counts)| counts[side]).sum())
    }

    /// Classes of the samples to train on.
    pub fn classes(&self) -> u64 {
        self.classes.iter().filter(|(_, counts)| counts[0] > 0).count() as u64
    }

    /// Their names.
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> =
            self.classes.iter().filter(|(_, counts)| counts[0] > 0).map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        names
    }

    /// Classes with some samples to train on, but fewer than that, and how many, in the order of their names.
    pub fn few(&self, least: u64) -> Vec<(&str, u64)> {
        let of = self.classes.iter().map(|(name, counts)| (name.as_str(), counts[0]));
        let mut few: Vec<(&str, u64)> = of.filter(|(_, count)| (1..least).contains(count)).collect();
        few.sort_unstable();
        few
    }

    /// Classes of all samples.
    pub fn classes_of_all(&self) -> usize {
        self.classes.iter().filter(|(_, counts)| *counts != [0, 0]).count()
    }

    /// Samples to train on that no training has learned from.
    pub fn unlearned(&self) -> u64 {
        self.new
    }

    /// Whether some sample has that label.
    pub fn knows(&self, class: &str) -> bool {
        self.numbers.get(class).is_some_and(|number| self.classes[*number as usize].1 != [0, 0])
    }

    /// A sample's side and label.
    pub fn find(&self, name: &Name) -> Option<(usize, &str)> {
        self.places.get(name).map(|place| (place.side.into(), self.classes[place.class as usize].0.as_str()))
    }

    /// One sample more.
    pub fn add(&mut self, name: Name, side: usize, class: &str, bytes: u64) {
        let class = self.number(class);
        self.classes[class as usize].1[side] += 1;
        self.places.insert(name, Place { class, side: side as u8, learned: false });
        self.bytes += bytes;
        self.added += 1;
        self.new += u64::from(side == 0);
    }

    /// One sample less.
    pub fn remove(&mut self, name: &Name, bytes: u64) {
        let Some(place) = self.places.remove(name) else { return };
        let count = &mut self.classes[place.class as usize].1[usize::from(place.side)];
        *count = count.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
        self.new -= u64::from(place.side == 0 && !place.learned);
    }

    /// Another label for a sample, which is to be learned anew.
    pub fn relabel(&mut self, name: &Name, class: &str) {
        if let Some((side, _)) = self.find(name) {
            self.remove(name, 0);
            self.add(*name, side, class, 0);
        }
    }

    /// Reads again what has been learned from.
    ///
    /// # Errors
    /// The system's.
    pub fn read_learned(&mut self, state: &Path) -> io::Result<()> {
        let learned = learned(state)?;
        let names: Vec<Name> = self.places.keys().copied().collect();
        names.iter().for_each(|name| self.mark(name, &learned));
        Ok(())
    }

    fn mark(&mut self, name: &Name, learned: &HashSet<[u8; MARK_BYTES]>) {
        let Some(place) = self.places.get_mut(name) else { return };
        let was_new = place.side == 0 && !place.learned;
        place.learned = learned.contains(&mark(name, &self.classes[place.class as usize].0));
        let is_new = place.side == 0 && !place.learned;
        self.new = self.new + u64::from(is_new) - u64::from(was_new);
    }

    fn number(&mut self, class: &str) -> u32 {
        if let Some(number) = self.numbers.get(class) {
            return *number;
        }
        let number = self.classes.len() as u32;
        self.classes.push((class.into(), [0, 0]));
        self.numbers.insert(class.into(), number);
        number
    }
}

/// A sample and its label: another label is something new.
fn mark(name: &Name, class: &str) -> [u8; MARK_BYTES] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(name).update(class.as_bytes());
    hasher.finalize().as_bytes()[..MARK_BYTES].try_into().expect("eight bytes")
}

fn learned(state: &Path) -> io::Result<HashSet<[u8; MARK_BYTES]>> {
    let path = state.join(LEARNED);
    match fs::read(&path) {
        Ok(bytes) => Ok(bytes.as_chunks::<MARK_BYTES>().0.iter().copied().collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(HashSet::new()),
        Err(error) => Err(error_at(&path, error)),
    }
}

/// Keeps what was learned from: the samples of folders of class folders.
///
/// # Errors
/// The system's.
pub fn keep_learned(state: &Path, folders: &[PathBuf]) -> io::Result<()> {
    let mut marks = Vec::new();
    for folder in folders {
        for class in visible(folder)? {
            for file in visible(&class)? {
                marks.extend(mark(&name_of(&file), &file_name(&class)));
            }
        }
    }
    let path = state.join(LEARNED);
    crate::atomic::write_atomically(&path, |file| file.write_all(&marks))
        .map_err(|error: io::Error| error_at(&path, error))
}

/// Removes what [`crate::atomic::write_atomically`] did not finish: hidden files, which nothing reads.
fn remove_unfinished(folder: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        // A file beside the classes is no class.
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => return Ok(()),
        entries => entries.map_err(|error| error_at(folder, error))?,
    };
    for entry in entries {
        let path: PathBuf = entry?.path();
        if file_name(&path).starts_with('.') && path.extension().is_some_and(|extension| extension == "tmp") {
            fs::remove_file(&path).map_err(|error| error_at(&path, error))?;
        }
    }
    Ok(())
}

/// How many samples a side has on the disk, and its classes.
#[cfg(test)]
pub fn count(state: &Path, side: &str) -> io::Result<(u64, Vec<String>)> {
    let (mut samples, mut classes) = (0, Vec::new());
    for class in visible(&state.join("samples").join(side))? {
        let files = visible(&class)?.len() as u64;
        if files > 0 {
            samples += files;
            classes.push(file_name(&class));
        }
    }
    Ok((samples, classes))
}

#[cfg(test)]
mod tests {
    use super::super::sample_name::{name_of_content, text};
    use super::*;

    /// Differences of totals would be negative here, and training would never begin again.
    #[test]
    fn new_is_what_nothing_has_learned_from_whatever_was_deleted() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path();
        let put = |class: &str, number: u32| {
            let folder = state.join("samples/train").join(class);
            fs::create_dir_all(&folder).unwrap();
            let path = folder.join(format!("{}.txt", text(&name_of_content(&number.to_le_bytes()))));
            fs::write(&path, number.to_le_bytes()).unwrap();
            path
        };
        let old: Vec<PathBuf> = (0..20).map(|number| put("cat", number)).collect();
        let mut inventory = Inventory::read(state).unwrap();
        assert_eq!((inventory.counts(), inventory.unlearned()), ([20, 0], 20));
        keep_learned(state, &[state.join("samples/train")]).unwrap();
        inventory.read_learned(state).unwrap();
        assert_eq!(inventory.unlearned(), 0);
        for file in &old[..15] {
            inventory.remove(&name_of(file), 4);
            fs::remove_file(file).unwrap();
        }
        for number in 100..107 {
            inventory.add(name_of(&put("dog", number)), 0, "dog", 4);
        }
        assert_eq!((inventory.counts(), inventory.unlearned(), inventory.added), ([12, 0], 7, 7));
        assert_eq!(Inventory::read(state).unwrap().unlearned(), 7, "a restart knows it, too");
        inventory.relabel(&name_of(&old[19]), "dog");
        assert_eq!((inventory.unlearned(), inventory.counts()), (8, [12, 0]), "a corrected label is to be learned");
    }
}
