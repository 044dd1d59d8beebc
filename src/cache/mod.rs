//! Stage 6: features on disk, so that the body runs once per sample.
//!
//! Takes features as bytes under the key of a sample; gives them back out of a memory map, without a copy. A cache is an
//! assistant: when its folder cannot be written, its disk is full or another process writes, it keeps what it can in
//! memory, says so once ([`Cache::take_warnings`]) and training goes on. It never fails a run, never grows over its
//! limits and never hands out a record that differs from what was appended: each carries a checksum, and a record that a
//! crash or a flipped bit has damaged is a miss.
//!
//! The files are described in `disk.rs`, what gives way in `evict.rs`, what may not in `in_use.rs`, how much there may be in `room.rs`. Beside the features,
//! the cache holds the bundles of models, which count under the same limit.

mod disk;
mod evict;
mod file_names;
mod in_use;
mod index;
mod layout;
mod room;
mod space;

use crate::graph::{Tensor, TensorType};
use bytes::Bytes;
use disk::{Disk, Stop};
use layout::{Layout, aligned};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use evict::{Entry, Holds, entries, erase_features, mark};
pub use in_use::{InUse, hold};
pub use room::{LIMIT_BYTES_MAX, Limit, clear, limit, make_room_for_bundle, set_limit, taken_bytes, types_bytes};
pub use space::free_bytes;

/// What identifies a sample or a body.
pub type Key = [u8; 32];

/// A key from anything that identifies: no two lists of parts give the same.
pub fn key(parts: &[&[u8]]) -> Key {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    *hasher.finalize().as_bytes()
}

/// The folder for caches of this user: `$XDG_CACHE_HOME/edgetune`, else `~/.cache/edgetune`. As the XDG specification
/// asks, a relative path in the variable counts as none. Arguments are the values of the variables.
pub fn root(xdg_cache_home: Option<&OsStr>, home: Option<&OsStr>) -> Option<PathBuf> {
    let absolute = |path: &&OsStr| Path::new(path).is_absolute();
    let base = xdg_cache_home.filter(absolute).map(PathBuf::from);
    let base = base.or_else(|| home.filter(absolute).map(|home| Path::new(home).join(".cache")));
    base.map(|base| base.join("edgetune"))
}

/// How much a cache may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes on disk of all that the cache holds.
    pub disk_bytes: u64,
    /// Bytes that stay free on the disk, for checkpoints and for everybody else.
    pub disk_free_bytes_min: u64,
    /// Bytes in memory of what the disk does not take.
    pub memory_bytes: u64,
}

/// Why an argument is refused; everything else is a [`Warning`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// A feature without a fixed size cannot have a place of fixed size.
    #[error(
        "feature {index} of the cut ({ty}) has no fixed size per sample; fix the size in the preprocessing, or cut \
             the model later"
    )]
    Layout {
        /// Position in the layout.
        index: usize,
        /// Its type as given.
        ty: String,
    },
    /// The bytes of a sample do not fit the layout.
    #[error("sample has {given:?} bytes of features, the cut has {expected:?}; the cache was opened for another body")]
    Record {
        /// Bytes of each feature as given.
        given: Vec<usize>,
        /// Bytes of each feature in the layout.
        expected: Vec<usize>,
    },
}

/// Why features are not kept, or not on disk. Each is given once; training goes on, only slower.
#[derive(Debug)]
pub enum Warning {
    /// The folder or a file in it cannot be used.
    Unusable {
        /// The body's folder.
        folder: PathBuf,
        /// What the system says.
        cause: std::io::Error,
    },
    /// Another process writes features of the same body.
    Busy {
        /// The body's folder.
        folder: PathBuf,
    },
    /// The features of all bodies take what they may.
    LimitReached {
        /// The limit.
        disk_bytes: u64,
    },
    /// The disk has no more room.
    DiskFull {
        /// The body's folder.
        folder: PathBuf,
    },
    /// What the disk did not take fills the memory that it may.
    MemoryLimitReached {
        /// The limit.
        memory_bytes: u64,
    },
    /// Records were damaged and will be computed again.
    Damaged {
        /// The body's folder.
        folder: PathBuf,
        /// How many.
        records: u64,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Warning::Unusable { folder, cause } => write!(
                f,
                "feature cache {}: {cause}; features are kept in memory. Give a folder that can be written",
                folder.display()
            ),
            Warning::Busy { folder } => write!(
                f,
                "feature cache {}: another process writes it; new features are kept in memory",
                folder.display()
            ),
            Warning::LimitReached { disk_bytes } => write!(
                f,
                "feature cache: the limit of {disk_bytes} bytes is reached; further features are kept in memory. \
                 Raise it with `edgetune cache limit SIZE`, or train on fewer samples"
            ),
            Warning::DiskFull { folder } => write!(
                f,
                "feature cache {}: the disk is full; further features are kept in memory. Free some space",
                folder.display()
            ),
            Warning::MemoryLimitReached { memory_bytes } => write!(
                f,
                "feature cache: the limit of {memory_bytes} bytes in memory is reached; the body runs again for the \
                 other samples in every epoch. Free disk space or raise the limit"
            ),
            Warning::Damaged { folder, records } => write!(
                f,
                "feature cache {}: {records} damaged records are computed again. If it happens again, check the disk",
                folder.display()
            ),
        }
    }
}

/// The features of one body over one preprocessing.
#[derive(Debug)]
pub struct Cache {
    layout: Arc<Layout>,
    limits: Limits,
    disk: Option<Disk>,
    memory: HashMap<Key, Bytes>,
    memory_bytes: u64,
    memory_full: bool,
    warnings: Vec<Warning>,
}

impl Cache {
    /// Opens the features of `body` (a [`key`] over everything that they depend on: the body's hash and the
    /// preprocessing) in `<root>/features/`, making it if it is not there. `layout` is the type of each feature of one
    /// sample, without the batch dimension; another layout is another cache.
    ///
    /// Several processes may open the same features; the first one writes, the others read what was there.
    ///
    /// # Errors
    /// [`Error::Layout`] alone; trouble with the disk is a warning.
    pub fn open(root: &Path, body: &Key, layout: &[TensorType], limits: Limits) -> Result<Self, Error> {
        let mut cache = Self::in_memory(layout, limits.memory_bytes)?;
        cache.limits = limits;
        let folder = root.join("features").join(cache.layout.folder(body));
        match Disk::open(root, &folder, &cache.layout.id(body), cache.layout.stride, limits) {
            Ok((disk, stop)) => {
                cache.disk = Some(disk);
                cache.warn(stop);
            }
            Err(cause) => cache.warnings.push(Warning::Unusable { folder, cause }),
        }
        Ok(cache)
    }

    /// A cache that ends with the process.
    ///
    /// # Errors
    /// [`Error::Layout`]
    pub fn in_memory(layout: &[TensorType], memory_bytes: u64) -> Result<Self, Error> {
        Ok(Self {
            layout: Arc::new(Layout::new(layout)?),
            limits: Limits { disk_bytes: 0, disk_free_bytes_min: 0, memory_bytes },
            disk: None,
            memory: HashMap::new(),
            memory_bytes: 0,
            memory_full: false,
            warnings: Vec::new(),
        })
    }

    /// The features of a sample, if they are here and whole.
    pub fn get(&mut self, sample: &Key) -> Option<Record> {
        let from_memory = self.memory.get(sample).cloned();
        let bytes = from_memory.or_else(|| self.disk.as_mut()?.get(sample))?;
        Some(Record { bytes, layout: Arc::clone(&self.layout) })
    }

    /// Whether features of a sample are here; [`Cache::get`] may yet find them damaged.
    pub fn contains(&self, sample: &Key) -> bool {
        self.memory.contains_key(sample) || self.disk.as_ref().is_some_and(|disk| disk.contains(sample))
    }

    /// Keeps the features of a sample: the bytes of each feature, in the order of the layout. What is here already stays.
    /// Gives whether the features are here now.
    ///
    /// # Errors
    /// [`Error::Record`] if a size is not that of the layout.
    pub fn append(&mut self, sample: &Key, features: &[&[u8]]) -> Result<bool, Error> {
        self.layout.check(features)?;
        if self.contains(sample) {
            return Ok(true);
        }
        let layout = Arc::clone(&self.layout);
        if let Some(disk) = &mut self.disk {
            match disk.append(sample, |bytes| layout.fill(features, bytes)) {
                Ok(true) => return Ok(true),
                Ok(false) => {}
                Err(stop) => self.warn(Some(stop)),
            }
        }
        Ok(self.keep_in_memory(sample, features))
    }

    fn keep_in_memory(&mut self, sample: &Key, features: &[&[u8]]) -> bool {
        let bytes = self.layout.stride as u64;
        if self.memory_bytes + bytes > self.limits.memory_bytes {
            if !self.memory_full {
                self.memory_full = true;
                self.warnings.push(Warning::MemoryLimitReached { memory_bytes: self.limits.memory_bytes });
            }
            return false;
        }
        let record = aligned(self.layout.stride, |record| self.layout.fill(features, record));
        self.memory.insert(*sample, record);
        self.memory_bytes += bytes;
        true
    }

    /// Brings what was appended to the disk, for a device that loses power; a killed process loses nothing anyway.
    pub fn flush(&mut self) {
        if let Some(Err(stop)) = self.disk.as_mut().map(Disk::flush) {
            self.warn(Some(stop));
        }
    }

    /// How many samples have features here.
    pub fn len(&self) -> usize {
        self.memory.len() + self.disk.as_ref().map_or(0, Disk::len)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes taken, on disk and in memory.
    pub fn bytes(&self) -> u64 {
        self.memory_bytes + self.disk.as_ref().map_or(0, Disk::bytes)
    }

    /// Bytes that one sample takes.
    pub fn record_bytes(&self) -> usize {
        self.layout.stride
    }

    /// What has gone wrong since the last call.
    pub fn take_warnings(&mut self) -> Vec<Warning> {
        if let Some(disk) = self.disk.as_mut().filter(|disk| disk.damaged > 0) {
            let records = std::mem::take(&mut disk.damaged);
            self.warnings.push(Warning::Damaged { folder: disk.folder().to_owned(), records });
        }
        std::mem::take(&mut self.warnings)
    }

    fn warn(&mut self, stop: Option<Stop>) {
        let folder = self.disk.as_ref().map(|disk| disk.folder().to_owned()).unwrap_or_default();
        self.warnings.extend(stop.map(|stop| match stop {
            Stop::Busy => Warning::Busy { folder },
            Stop::DiskFull => Warning::DiskFull { folder },
            Stop::LimitReached => Warning::LimitReached { disk_bytes: self.limits.disk_bytes },
            Stop::Failed(cause) => Warning::Unusable { folder, cause },
        }));
    }
}

/// The features of one sample. Shares the memory map (or memory), so it outlives the cache and costs no copy.
#[derive(Debug, Clone)]
pub struct Record {
    bytes: Bytes,
    layout: Arc<Layout>,
}

impl Record {
    /// The bytes of a feature, aligned to 64; `index` is its position in the layout.
    pub fn bytes(&self, index: usize) -> &[u8] {
        &self.bytes[self.layout.range(index)]
    }

    /// A feature as a tensor of its shape in the layout (no batch dimension), sharing the bytes.
    pub fn tensor(&self, index: usize) -> Tensor {
        let (dtype, shape) = self.layout.ty(index);
        Tensor { dtype, shape: shape.to_vec(), data: self.bytes.slice(self.layout.range(index)) }
    }

    /// The number of features.
    pub fn len(&self) -> usize {
        self.layout.len()
    }

    /// Whether the layout has no feature.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
