//! The files of one body's features.
//!
//! | file | what it is |
//! |---|---|
//! | `records` | the features: slot n lies at n × stride; nothing else is in it, so it is mapped and used in place |
//! | `keys` | 64 bytes of head (magic `EDFC`, version u32, id, stride u64, rest 0), then for each slot the sample's key and the first 8 bytes of BLAKE3(key ‖ record) |
//! | `used` | a number that is larger than in every folder that was opened earlier |
//!
//! A record is written before its key, so a killed process leaves at worst a record without a key, whose slot is taken
//! next. A device that loses power may leave keys without their records; the checksum, which is compared when a process
//! first reads a record, finds those, as it finds every damage. Slots with a key are never written again, which is what
//! makes mapping them sound. In memory there is an index alone (see `index.rs`): keys are read from their file, one by one.
//!
//! Whoever holds the lock on `keys` writes. Everybody holds a shared lock on `records` as long as it may be mapped;
//! whoever gets that lock for itself may shorten or remove the file.

use super::file_names::{KEYS, RECORDS};
use super::index::{Index, SLOTS_MAX};
use super::layout::aligned;
use super::space::free_bytes;
use super::{Key, Limits, evict, room};
use crate::mapped;
use bytes::Bytes;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, BufReader, ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const MAGIC: &[u8; 4] = b"EDFC";
const VERSION: u32 = 1;
const HEAD_BYTES: u64 = 64;
const ENTRY_BYTES: u64 = 40;

/// So often, in bytes written, the free space and the other bodies are looked at again: by so much may processes that
/// write at the same time go over the limit together.
const CHECK_BYTES: u64 = 16 << 20;

/// Why nothing is written (any more).
#[derive(Debug)]
pub(super) enum Stop {
    Busy,
    DiskFull,
    LimitReached,
    Failed(io::Error),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Stop::DiskFull,
            _ => Stop::Failed(error),
        }
    }
}

#[derive(Debug)]
pub(super) struct Disk {
    root: PathBuf,
    folder: PathBuf,
    records: Arc<File>,
    keys: File,
    /// Whether this process is the one that writes: it holds the lock on `keys`.
    writes: bool,
    index: Index,
    slots: u64,
    /// Of each slot, whether its record was compared with its checksum.
    verified: Vec<bool>,
    stride: usize,
    map: Bytes,
    scratch: Vec<u8>,
    limits: Limits,
    /// Bytes that may be written before the limits are looked at again.
    allowed_bytes: u64,
    /// Records that were found damaged.
    pub damaged: u64,
}

impl Disk {
    /// Opens or makes a body's folder. Gives why it is only read, if so.
    pub fn open(
        root: &Path,
        folder: &Path,
        id: &Key,
        stride: usize,
        limits: Limits,
    ) -> io::Result<(Self, Option<Stop>)> {
        // Features tell about the samples: they are nobody else's to read.
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        evict::mark_used(root, folder)?;
        let keys = open_file(&folder.join(KEYS))?;
        let writes = match keys.try_lock() {
            Ok(()) => true,
            Err(TryLockError::WouldBlock) => false,
            Err(TryLockError::Error(error)) => return Err(error),
        };
        refuse_removed(&keys)?;
        let path = folder.join(RECORDS);
        let slots_max = limits.disk_bytes / (stride as u64 + ENTRY_BYTES);
        if writes && !has_head(&keys, id, stride)? {
            start_over(&keys, &path, id, stride)?;
        }
        let records = open_file(&path)?;
        if writes {
            shorten_if_alone(&records, &keys, stride, slots_max)?;
        }
        records.try_lock_shared()?;
        refuse_removed(&records)?;
        // Only now: what is read under the lock nobody takes away again.
        let in_keys = if has_head(&keys, id, stride)? { slots_of(&keys)? } else { 0 };
        let slots = in_keys.min(records.metadata()?.len() / stride as u64).min(SLOTS_MAX);
        if writes {
            keys.set_len(HEAD_BYTES + slots * ENTRY_BYTES)?;
        }
        let disk = Self {
            root: root.to_owned(),
            folder: folder.to_owned(),
            records: Arc::new(records),
            index: indexed(&keys, slots)?,
            keys,
            writes,
            slots,
            verified: vec![false; slots as usize],
            stride,
            map: Bytes::new(),
            scratch: vec![0; stride],
            limits,
            allowed_bytes: 0,
            damaged: 0,
        };
        Ok((disk, (!writes).then_some(Stop::Busy)))
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub fn len(&self) -> usize {
        self.index.len()
    }

    pub fn bytes(&self) -> u64 {
        HEAD_BYTES + self.slots * self.slot_bytes()
    }

    pub fn contains(&self, sample: &Key) -> bool {
        self.find(sample).is_some()
    }

    /// The slot of a sample, with its record's checksum.
    fn find(&self, sample: &Key) -> Option<(u32, [u8; 8])> {
        let mut found = None;
        let slot = self.index.find(sample, |slot| {
            found = sealed(&self.keys, slot).ok().filter(|(key, _)| key == sample);
            found.is_some()
        });
        slot.zip(found.map(|(_, checksum)| checksum))
    }

    fn slot_bytes(&self) -> u64 {
        self.stride as u64 + ENTRY_BYTES
    }

    /// The record of a sample, if it is here and whole. A damaged one is forgotten.
    pub fn get(&mut self, sample: &Key) -> Option<Bytes> {
        let (slot, sum) = self.find(sample)?;
        let verified = self.verified[slot as usize];
        let whole = self.read(slot.into()).ok().filter(|bytes| verified || checksum(sample, bytes) == sum);
        if whole.is_some() {
            self.verified[slot as usize] = true;
        } else {
            self.damaged += 1;
            self.index.remove(sample, slot);
        }
        whole
    }

    /// A slot of the mapped file; mapped again where the file has grown over the map.
    fn read(&mut self, slot: u64) -> io::Result<Bytes> {
        let at = slot * self.stride as u64;
        let range = usize::try_from(at).ok().and_then(|start| Some(start..start.checked_add(self.stride)?));
        let Some(range) = range else { return read_unmapped(&self.records, at, self.stride) };
        if range.end > self.map.len() {
            match mapped::map(&self.records, self.slots * self.stride as u64) {
                Ok(map) => self.map = map,
                // A 32-bit device has more disk than addresses.
                Err(_) => return read_unmapped(&self.records, at, self.stride),
            }
        }
        Ok(self.map.slice(range))
    }

    /// Appends a record that `fill` copies into zeros. `false` if writing has stopped earlier.
    pub fn append(&mut self, sample: &Key, fill: impl FnOnce(&mut [u8])) -> Result<bool, Stop> {
        if !self.writes {
            return Ok(false);
        }
        let written = self.make_room().and_then(|()| Ok(self.write(sample, fill)?));
        self.stop_unless(written).map(|()| true)
    }

    /// Lets another process try its luck where this one had none.
    fn stop_unless(&mut self, written: Result<(), Stop>) -> Result<(), Stop> {
        if written.is_err() {
            self.writes = false;
            // What cannot be unlocked is when the process ends.
            let _ = self.keys.unlock();
        }
        written
    }

    fn write(&mut self, sample: &Key, fill: impl FnOnce(&mut [u8])) -> io::Result<()> {
        self.scratch.fill(0);
        fill(&mut self.scratch);
        let checksum = checksum(sample, &self.scratch);
        self.records.write_all_at(&self.scratch, self.slots * self.stride as u64)?;
        let mut entry = [0; ENTRY_BYTES as usize];
        entry[..32].copy_from_slice(sample);
        entry[32..].copy_from_slice(&checksum);
        self.keys.write_all_at(&entry, HEAD_BYTES + self.slots * ENTRY_BYTES)?;
        self.index.insert(sample, self.slots as u32);
        self.verified.push(false);
        self.slots += 1;
        self.allowed_bytes = self.allowed_bytes.saturating_sub(self.slot_bytes());
        Ok(())
    }

    /// Sees to it that one more record fits under the limits; what was used longest ago gives way.
    fn make_room(&mut self) -> Result<(), Stop> {
        let needed_bytes = self.slot_bytes();
        if self.slots == SLOTS_MAX {
            return Err(Stop::LimitReached);
        }
        while self.allowed_bytes < needed_bytes {
            let taken_bytes = room::taken_bytes(&self.root).max(self.bytes());
            let under_limit = self.limits.disk_bytes.saturating_sub(taken_bytes);
            let free = free_bytes(&self.folder)?.saturating_sub(self.limits.disk_free_bytes_min);
            self.allowed_bytes = under_limit.min(free).min(CHECK_BYTES.max(needed_bytes));
            if self.allowed_bytes < needed_bytes && !evict::remove_oldest(&self.root, &self.folder) {
                return Err(if free < needed_bytes { Stop::DiskFull } else { Stop::LimitReached });
            }
        }
        Ok(())
    }

    /// Brings records, then keys to the disk.
    pub fn flush(&mut self) -> Result<(), Stop> {
        if !self.writes {
            return Ok(());
        }
        let flushed = self.records.sync_data().and_then(|()| self.keys.sync_data());
        self.stop_unless(flushed.map_err(Stop::from))
    }
}

fn checksum(sample: &Key, record: &[u8]) -> [u8; 8] {
    let mut hasher = blake3::Hasher::new();
    let hash = hasher.update(sample).update(record).finalize();
    std::array::from_fn(|index| hash.as_bytes()[index])
}

fn head(id: &Key, stride: usize) -> [u8; HEAD_BYTES as usize] {
    let mut head = [0; HEAD_BYTES as usize];
    head[..4].copy_from_slice(MAGIC);
    head[4..8].copy_from_slice(&VERSION.to_le_bytes());
    head[8..40].copy_from_slice(id);
    head[40..48].copy_from_slice(&(stride as u64).to_le_bytes());
    head
}

/// A sample's key and the checksum of its record.
type Sealed = (Key, [u8; 8]);

/// Whether the file is of this body, layout and version.
fn has_head(keys: &File, id: &Key, stride: usize) -> io::Result<bool> {
    let mut found = [0; HEAD_BYTES as usize];
    match keys.read_exact_at(&mut found, 0) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
        read => read.map(|()| found == head(id, stride)),
    }
}

/// How many slots have a whole key.
fn slots_of(keys: &File) -> io::Result<u64> {
    Ok(keys.metadata()?.len().saturating_sub(HEAD_BYTES) / ENTRY_BYTES)
}

/// What the file of keys says of a slot.
fn sealed(keys: &File, slot: u32) -> io::Result<Sealed> {
    let mut entry = [0; ENTRY_BYTES as usize];
    keys.read_exact_at(&mut entry, HEAD_BYTES + u64::from(slot) * ENTRY_BYTES)?;
    Ok((std::array::from_fn(|index| entry[index]), std::array::from_fn(|index| entry[32 + index])))
}

/// The first slots by their samples. Of a sample that was appended again, after damage, the last slot counts.
fn indexed(mut keys: &File, slots: u64) -> io::Result<Index> {
    keys.seek(SeekFrom::Start(HEAD_BYTES))?;
    let mut reader = BufReader::with_capacity(1 << 16, keys);
    let mut index = Index::with_capacity(slots as usize);
    let mut entry = [0; ENTRY_BYTES as usize];
    for slot in 0..slots as u32 {
        reader.read_exact(&mut entry)?;
        let sample: Key = std::array::from_fn(|index| entry[index]);
        let earlier = index.find(&sample, |slot| sealed(keys, slot).is_ok_and(|(key, _)| key == sample));
        if let Some(earlier) = earlier {
            index.remove(&sample, earlier);
        }
        index.insert(&sample, slot);
    }
    Ok(index)
}

/// Begins without records. The old file of records is unlinked, not emptied: somebody may have it mapped.
fn start_over(keys: &File, records: &Path, id: &Key, stride: usize) -> io::Result<()> {
    keys.set_len(0)?;
    match fs::remove_file(records) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => keys.write_all_at(&head(id, stride), 0),
    }
}

/// Unless somebody else has the file open: cuts off what has no key, and what a limit that was lowered does not allow.
fn shorten_if_alone(records: &File, keys: &File, stride: usize, slots_max: u64) -> io::Result<()> {
    if records.try_lock().is_err() {
        return Ok(());
    }
    let slots = slots_of(keys)?;
    let length = slots.min(slots_max) * stride as u64;
    if records.metadata()?.len() > length {
        keys.set_len(HEAD_BYTES + slots.min(slots_max) * ENTRY_BYTES)?;
        records.set_len(length)?;
    }
    records.unlock()
}

fn open_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)
}

/// Between opening and locking a file, another process may have removed it.
fn refuse_removed(file: &File) -> io::Result<()> {
    match file.metadata()?.nlink() {
        0 => Err(io::Error::new(ErrorKind::ResourceBusy, "another process has just removed it")),
        _ => Ok(()),
    }
}

/// A slot read into memory.
fn read_unmapped(records: &File, at: u64, stride: usize) -> io::Result<Bytes> {
    let mut read = Ok(());
    let bytes = aligned(stride, |bytes| read = records.read_exact_at(bytes, at));
    read.map(|()| bytes)
}
