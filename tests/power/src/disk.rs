//! What is on the disk, what is only in memory, and what a cut of the power leaves.
//!
//! Files: what was written since a file's last `fsync` is kept, lost or torn at a sector, each write by its own chance, so later
//! writes may be there without earlier ones. Folders: names change in the order of the operations, as a journal keeps them; `fsync` of
//! a folder keeps all up to its last change, and a cut keeps by chance some of the others, never a later one without an earlier. A
//! file's `fsync` keeps nothing of its name, as POSIX has it.

use fuser::Errno;
use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::time::SystemTime;

const ROOT: u64 = 1;
const SECTOR: usize = 512;

type Names = BTreeMap<OsString, u64>;

pub struct Inode {
    pub kind: Kind,
    pub mode: u16,
    pub owner: (u32, u32),
    pub modified: SystemTime,
}

pub enum Kind {
    File(File),
    /// The names as they are now; those on the disk are [`Disk::kept`]'s.
    Folder(Names),
    Link(OsString),
}

#[derive(Default)]
pub struct File {
    pub now: Vec<u8>,
    kept: Vec<u8>,
    since: Vec<Change>,
}

enum Change {
    Write(usize, Vec<u8>),
    Truncate(usize),
}

/// One operation on names, which happens whole or not at all.
type Renaming = Vec<(u64, OsString, Option<u64>)>;

pub struct Disk {
    inodes: HashMap<u64, Inode>,
    next: u64,
    /// The names of each folder on the disk.
    kept: HashMap<u64, Names>,
    /// Operations on names that are not on the disk yet, in their order.
    pending: Vec<Renaming>,
    /// Files that are open.
    pub open: usize,
    random: fastrand::Rng,
    lost: u64,
}

impl Inode {
    pub fn new(kind: Kind, mode: u32, owner: (u32, u32)) -> Self {
        Self { kind, mode: (mode & 0o7777) as u16, owner, modified: SystemTime::now() }
    }
}

impl Disk {
    pub fn new(seed: u64) -> Self {
        let root = Inode::new(Kind::Folder(Names::new()), 0o755, (0, 0));
        Self {
            inodes: HashMap::from([(ROOT, root)]),
            next: ROOT + 1,
            kept: HashMap::new(),
            pending: Vec::new(),
            open: 0,
            random: fastrand::Rng::with_seed(seed),
            lost: 0,
        }
    }

    pub fn inode(&self, number: u64) -> &Inode {
        &self.inodes[&number]
    }

    pub fn inode_mut(&mut self, number: u64) -> &mut Inode {
        self.inodes.get_mut(&number).expect("the kernel asks for what it was told")
    }

    fn names(&mut self, folder: u64) -> &mut Names {
        match &mut self.inode_mut(folder).kind {
            Kind::Folder(names) => names,
            _ => unreachable!("the kernel looks for names in folders alone"),
        }
    }

    fn file(&mut self, number: u64) -> &mut File {
        let inode = self.inode_mut(number);
        inode.modified = SystemTime::now();
        match &mut inode.kind {
            Kind::File(file) => file,
            _ => unreachable!("the kernel writes to files alone"),
        }
    }

    pub fn find(&self, folder: u64, name: &OsStr) -> Option<u64> {
        match &self.inode(folder).kind {
            Kind::Folder(names) => names.get(name).copied(),
            _ => None,
        }
    }

    /// Does an operation on names in memory; the disk follows later.
    fn rename_all(&mut self, renaming: Renaming) {
        for (folder, name, number) in &renaming {
            let names = self.names(*folder);
            match number {
                Some(number) => names.insert(name.clone(), *number),
                None => names.remove(name),
            };
            self.inode_mut(*folder).modified = SystemTime::now();
        }
        self.pending.push(renaming);
    }

    pub fn make(&mut self, folder: u64, name: &OsStr, inode: Inode) -> Result<u64, Errno> {
        let number = self.next;
        self.next += 1;
        self.inodes.insert(number, inode);
        self.link(number, folder, name).map(|()| number)
    }

    pub fn link(&mut self, number: u64, folder: u64, name: &OsStr) -> Result<(), Errno> {
        if self.find(folder, name).is_some() {
            return Err(Errno::EEXIST);
        }
        self.rename_all(vec![(folder, name.to_owned(), Some(number))]);
        Ok(())
    }

    pub fn remove(&mut self, folder: u64, name: &OsStr) -> Result<(), Errno> {
        let number = self.find(folder, name).ok_or(Errno::ENOENT)?;
        self.refuse_filled(number)?;
        self.rename_all(vec![(folder, name.to_owned(), None)]);
        Ok(())
    }

    fn refuse_filled(&self, number: u64) -> Result<(), Errno> {
        match &self.inode(number).kind {
            Kind::Folder(names) if !names.is_empty() => Err(Errno::ENOTEMPTY),
            _ => Ok(()),
        }
    }

    pub fn rename(&mut self, from: (u64, &OsStr), to: (u64, &OsStr), replaces: bool) -> Result<(), Errno> {
        let number = self.find(from.0, from.1).ok_or(Errno::ENOENT)?;
        match self.find(to.0, to.1) {
            Some(_) if !replaces => return Err(Errno::EEXIST),
            Some(other) if other == number => return Ok(()),
            Some(other) => self.refuse_filled(other)?,
            None => {}
        }
        self.rename_all(vec![(from.0, from.1.to_owned(), None), (to.0, to.1.to_owned(), Some(number))]);
        Ok(())
    }

    pub fn write(&mut self, number: u64, offset: usize, data: &[u8]) {
        let file = self.file(number);
        let change = Change::Write(offset, data.to_vec());
        change.apply(&mut file.now, data.len());
        file.since.push(change);
    }

    pub fn truncate(&mut self, number: u64, size: usize) {
        let file = self.file(number);
        file.now.resize(size, 0);
        file.since.push(Change::Truncate(size));
    }

    pub fn sync_file(&mut self, number: u64) {
        if let Kind::File(file) = &mut self.inode_mut(number).kind {
            file.kept.clone_from(&file.now);
            file.since.clear();
        }
    }

    pub fn sync_folder(&mut self, folder: u64) {
        let touches = |renaming: &Renaming| renaming.iter().any(|(touched, ..)| *touched == folder);
        let count = self.pending.iter().rposition(touches).map_or(0, |last| last + 1);
        self.keep(count);
    }

    /// Brings so many of the pending operations to the disk.
    fn keep(&mut self, count: usize) {
        for (folder, name, number) in self.pending.drain(..count).flatten() {
            let names = self.kept.entry(folder).or_default();
            match number {
                Some(number) => names.insert(name, number),
                None => names.remove(&name),
            };
        }
    }

    /// Cuts the power. Gives how many files are left, and how many operations were lost by all cuts.
    pub fn cut(&mut self) -> (usize, u64) {
        let count = self.random.usize(0..=self.pending.len());
        self.keep(count);
        self.lost += self.pending.len() as u64;
        self.pending.clear();
        let mut left = HashMap::new();
        let mut folders = vec![ROOT];
        while let Some(folder) = folders.pop() {
            let Some(mut inode) = self.inodes.remove(&folder) else { continue };
            if let Kind::Folder(names) = &mut inode.kind {
                *names = self.kept.get(&folder).cloned().unwrap_or_default();
                folders.extend(names.values());
            }
            left.insert(folder, inode);
        }
        self.inodes = left;
        self.kept.retain(|folder, _| self.inodes.contains_key(folder));
        let mut files = 0;
        for inode in self.inodes.values_mut() {
            if let Kind::File(file) = &mut inode.kind {
                self.lost += file.cut(&mut self.random);
                files += 1;
            }
        }
        (files, self.lost)
    }
}

impl File {
    /// Leaves what was synced, and by chance some of what came after. Gives how many writes were not kept whole.
    fn cut(&mut self, random: &mut fastrand::Rng) -> u64 {
        let mut lost = 0;
        for change in self.since.drain(..) {
            let sectors = change.len() / SECTOR;
            match random.u8(0..4) {
                0 | 1 => change.apply(&mut self.kept, change.len()),
                2 if sectors > 0 => {
                    change.apply(&mut self.kept, SECTOR * random.usize(0..=sectors));
                    lost += 1;
                }
                _ => lost += 1,
            }
        }
        self.now.clone_from(&self.kept);
        lost
    }
}

impl Change {
    fn len(&self) -> usize {
        match self {
            Self::Write(_, data) => data.len(),
            Self::Truncate(_) => 0,
        }
    }

    /// Does the change, of a write its first bytes.
    fn apply(&self, content: &mut Vec<u8>, bytes: usize) {
        match self {
            Self::Write(offset, data) => {
                if content.len() < offset + bytes {
                    content.resize(offset + bytes, 0);
                }
                content[*offset..offset + bytes].copy_from_slice(&data[..bytes]);
            }
            Self::Truncate(size) => content.resize(*size, 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(disk: &mut Disk, name: &str, content: &[u8]) -> u64 {
        let number = disk.make(ROOT, name.as_ref(), Inode::new(Kind::File(File::default()), 0o644, (0, 0))).unwrap();
        disk.write(number, 0, content);
        number
    }

    fn content(disk: &Disk, name: &str) -> Option<Vec<u8>> {
        let number = disk.find(ROOT, name.as_ref())?;
        match &disk.inode(number).kind {
            Kind::File(file) => Some(file.now.clone()),
            _ => None,
        }
    }

    /// What all seeds leave of one story.
    fn left(story: impl Fn(&mut Disk), name: &str) -> Vec<Option<Vec<u8>>> {
        let mut all: Vec<_> = (0..64)
            .map(|seed| {
                let mut disk = Disk::new(seed);
                story(&mut disk);
                disk.cut();
                content(&disk, name)
            })
            .collect();
        all.sort();
        all.dedup();
        all
    }

    #[test]
    fn what_was_brought_to_the_disk_stays() {
        let story = |disk: &mut Disk| {
            let number = file(disk, "a", b"one");
            disk.sync_file(number);
            disk.sync_folder(ROOT);
        };
        assert_eq!(left(story, "a"), [Some(b"one".to_vec())]);
    }

    #[test]
    fn a_name_that_was_not_may_be_missing_and_its_content_too() {
        let story = |disk: &mut Disk| {
            file(disk, "a", b"one");
        };
        assert_eq!(left(story, "a"), [None, Some(Vec::new()), Some(b"one".to_vec())]);
    }

    #[test]
    fn a_renamed_file_is_the_old_or_the_new_one_where_it_was_synced_and_may_be_empty_where_not() {
        let renamed = |synced: bool| {
            move |disk: &mut Disk| {
                let old = file(disk, "a", b"old");
                disk.sync_file(old);
                disk.sync_folder(ROOT);
                let new = file(disk, "b", b"new");
                if synced {
                    disk.sync_file(new);
                }
                disk.rename((ROOT, "b".as_ref()), (ROOT, "a".as_ref()), true).unwrap();
            }
        };
        assert_eq!(left(renamed(true), "a"), [Some(b"new".to_vec()), Some(b"old".to_vec())]);
        assert!(
            left(renamed(false), "a").contains(&Some(Vec::new())),
            "the mistake that this file system is made to find"
        );
    }

    #[test]
    fn later_writes_may_be_there_without_earlier_ones_and_large_ones_are_torn() {
        let story = |disk: &mut Disk| {
            let number = file(disk, "a", &[0; 4096]);
            disk.sync_file(number);
            disk.sync_folder(ROOT);
            disk.write(number, 0, &[1; 1024]);
            disk.write(number, 2048, &[2; 1024]);
        };
        let all = left(story, "a");
        let begins = |content: &Option<Vec<u8>>, first: u8, later: u8| {
            content.as_ref().is_some_and(|content| content[0] == first && content[2048] == later)
        };
        assert!(all.iter().any(|content| begins(content, 0, 2)));
        assert!(all.iter().any(|content| content.as_ref().is_some_and(|content| content[0] == 1 && content[512] == 0)));
    }
}
