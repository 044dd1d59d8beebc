//! A server as files, and back: what its database holds, what of the store belongs to that, and its keys.
//!
//! ```text
//! DIR/database.jsonl     all tables as they were at one moment (db/copy.rs)
//! DIR/store/…            adapters and deltas under their keys
//! DIR/keys/…             the files of the server's folder: keys and certificate
//! DIR/backup.json        what there is, with hashes; written last, so that what was cut off is no backup
//! ```
//!
//! A backup is made beside the running server, and is the same for SQLite and a folder as for PostgreSQL and S3. What comes of it is a
//! server with a new epoch: its releases are newer than all that devices have seen of the one before, whatever their versions.

use super::db::{Audited, Belonging, Db};
use super::store::{Store, adapter_key, chunk_key};
use super::{Error, Folder, choose_cryptography};
use crate::atomic::write_secret;
use crate::sync::wire::{CHUNK_BYTES, Hex};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File};
use std::io::{self, BufReader, BufWriter, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

/// Files of the server's folder that are a part of it.
const KEYS: [&str; 6] = ["release.pem", "operator.hash", "operator.token", "root.json", "tls.crt", "tls.key"];
/// How often a backup is begun anew where what belongs to the database has been cleared away meanwhile.
const BEGUN_MAX: u32 = 3;
const FORMAT: u32 = 1;
const DATABASE: &str = "database.jsonl";
const MANIFEST: &str = "backup.json";

/// What a backup says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backup {
    format: u32,
    /// Version of the database's tables.
    tables: usize,
    /// When it was made, in milliseconds since 1970.
    pub made_ms: u64,
    /// All files but this one, with BLAKE3 of their bytes.
    pub files: BTreeMap<String, Hex<32>>,
}

/// Where a server's state lies.
#[derive(Debug)]
pub struct Place<'a> {
    /// `sqlite:…` or `postgres://…`.
    pub database: &'a str,
    /// Adapters and deltas.
    pub store: &'a Store,
}

/// Writes a server's state to the folder `to`, which must be missing or empty, while the server runs or not. `data` is the server's own
/// folder.
///
/// # Errors
/// A database that is not there; a folder that is not empty or cannot be written; what belongs to the database and is lost.
pub fn back_up(data: &Path, place: &Place<'_>, to: &Path, now_ms: u64) -> Result<Backup, Error> {
    in_runtime(async {
        empty(to)?;
        let db = Db::attach(place.database).await?;
        let made = gathered(&db, data, place.store, to, now_ms).await;
        db.close().await;
        made
    })
}

/// Makes a server of a backup: in `folder`, which holds no other one, an empty database and a store. The database comes last, so that
/// what was cut off can be begun anew.
///
/// # Errors
/// A backup that is damaged or cut off; a place that holds a server already.
pub fn restore(from: &Path, folder: &Folder, place: &Place<'_>, now_ms: u64) -> Result<Backup, Error> {
    in_runtime(async {
        let path = from.join(MANIFEST);
        let text = fs::read(&path).map_err(|error| match error.kind() {
            ErrorKind::NotFound => in_file(&path, "there is none: this is no backup, or one that was cut off"),
            _ => in_file(&path, error),
        })?;
        let backup: Backup = serde_json::from_slice(&text).map_err(|error| in_file(&path, error))?;
        if backup.format != FORMAT {
            return Err(in_file(&path, "a backup of a later version; use a newer edgetune-fleet"));
        }
        let db = Db::fresh(place.database, backup.tables).await?;
        let restored = put_back(&backup, from, folder, place.store, &db, now_ms).await;
        db.close().await;
        restored.map(|()| backup)
    })
}

fn in_runtime<T>(act: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    choose_cryptography();
    tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Error::Socket)?.block_on(act)
}

fn in_file(path: &Path, problem: impl std::fmt::Display) -> Error {
    Error::File { path: path.into(), problem: problem.to_string() }
}

/// Makes a folder for its owner's eyes only: keys lie in it.
fn make(folder: &Path) -> Result<(), Error> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|error| in_file(folder, error))
}

fn empty(folder: &Path) -> Result<(), Error> {
    make(folder)?;
    match fs::read_dir(folder).map_err(|error| in_file(folder, error))?.next() {
        None => Ok(()),
        Some(_) => Err(in_file(folder, "is not empty; name a new folder for the backup")),
    }
}

async fn gathered(db: &Db, data: &Path, store: &Store, to: &Path, now_ms: u64) -> Result<Backup, Error> {
    let mut files = BTreeMap::new();
    for name in KEYS {
        match fs::read(data.join(name)) {
            Ok(bytes) => keep(to, &format!("keys/{name}"), &bytes, &mut files)?,
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(in_file(&data.join(name), error)),
        }
    }
    if !files.contains_key("keys/release.pem") {
        return Err(in_file(&data.join(KEYS[0]), "there is none; name the server's folder with setting `data = DIR`"));
    }
    for begun in 1.. {
        let (hash, belonging) = dumped(db, &to.join(DATABASE)).await?;
        files.insert(DATABASE.into(), hash);
        match copied(store, &belonging, to, &mut files).await {
            // A round has turned since, and its deltas were cleared away: of this moment they belong to nothing.
            Err(Error::Lost(_)) if begun < BEGUN_MAX => {}
            Err(error) => return Err(error),
            Ok(()) => break,
        }
    }
    let backup = Backup { format: FORMAT, tables: super::db::TABLES_VERSION, made_ms: now_ms, files };
    let text = serde_json::to_vec_pretty(&backup).map_err(|error| in_file(to, error))?;
    write_secret(&to.join(MANIFEST), &text).map_err(|error| in_file(&to.join(MANIFEST), error))?;
    Ok(backup)
}

/// Writes one file of a backup.
fn keep(to: &Path, name: &str, bytes: &[u8], files: &mut BTreeMap<String, Hex<32>>) -> Result<(), Error> {
    let path = to.join(name);
    make(path.parent().unwrap_or(to))?;
    write_secret(&path, bytes).map_err(|error| in_file(&path, error))?;
    files.insert(name.into(), Hex(blake3::hash(bytes).into()));
    Ok(())
}

/// The database in a file, its hash, and what belongs to it.
async fn dumped(db: &Db, path: &Path) -> Result<(Hex<32>, Belonging), Error> {
    let file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    let mut file =
        Hashed { file: BufWriter::new(file.map_err(|error| in_file(path, error))?), hasher: blake3::Hasher::new() };
    let belonging = db.dump(&mut file).await?;
    let synced = file.file.flush().and_then(|()| file.file.get_ref().sync_all());
    synced.map_err(|error| in_file(path, error))?;
    Ok((Hex(file.hasher.finalize().into()), belonging))
}

/// A file, and the hash of what is written to it.
struct Hashed {
    file: BufWriter<File>,
    hasher: blake3::Hasher,
}

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Copies what belongs to a state of the database out of the store; what was copied before is not copied again.
async fn copied(
    store: &Store,
    belonging: &Belonging,
    to: &Path,
    files: &mut BTreeMap<String, Hex<32>>,
) -> Result<(), Error> {
    let adapters = belonging.adapters.iter().map(|hash| adapter_key(hash));
    let deltas = belonging.deltas.iter().flat_map(|delta| {
        let offsets = (0..delta.length.max(0) as u64).step_by(CHUNK_BYTES as usize);
        offsets.map(|offset| chunk_key(&delta.device, &delta.hash, offset))
    });
    for key in adapters.chain(deltas) {
        let name = format!("store/{key}");
        if !files.contains_key(&name) {
            let bytes = store.get(&key).await?.ok_or(Error::Lost(key))?;
            keep(to, &name, &bytes, files)?;
        }
    }
    Ok(())
}

/// The bytes of one file of a backup, whole and as they were.
fn read(from: &Path, name: &str, hash: &Hex<32>) -> Result<Vec<u8>, Error> {
    let path = from.join(name);
    let bytes = fs::read(&path).map_err(|error| in_file(&path, error))?;
    match Hex(blake3::hash(&bytes).into()) == *hash {
        true => Ok(bytes),
        false => Err(in_file(&path, "is not what was backed up: it is damaged; take another backup")),
    }
}

async fn put_back(
    backup: &Backup,
    from: &Path,
    folder: &Folder,
    store: &Store,
    db: &Db,
    now_ms: u64,
) -> Result<(), Error> {
    let mut database = None;
    for (name, hash) in &backup.files {
        if name == DATABASE {
            database = Some(hash);
        } else if let Some(key) = name.strip_prefix("store/") {
            store.put(key, read(from, name, hash)?.into()).await?;
        } else if let Some(key) = name.strip_prefix("keys/").filter(|key| KEYS.contains(key)) {
            put_key(&folder.path().join(key), &read(from, name, hash)?)?;
        } else {
            return Err(in_file(&from.join(MANIFEST), format!("`{name}` is no part of a backup")));
        }
    }
    let hash = database.ok_or_else(|| in_file(&from.join(MANIFEST), "it has no database"))?;
    // Read twice rather than held: it may be large.
    let path = from.join(DATABASE);
    let lines = || File::open(&path).map_err(|error| in_file(&path, error));
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(lines()?).map_err(|error| in_file(&path, error))?;
    if Hex(hasher.finalize().into()) != *hash {
        return Err(in_file(&path, "is not what was backed up: it is damaged; take another backup"));
    }
    // Later than the epoch of any server that was restored before, of this backup or another.
    let epoch = now_ms / 1000;
    let detail = format!("from a backup of {} ms since 1970", backup.made_ms);
    let line = Audited { at_ms: now_ms as i64, who: "server".into(), what: "restored".into(), detail };
    let id = hash.to_string();
    Ok(db.load(BufReader::new(lines()?), epoch, (&line, &id[..32])).await?)
}

/// Puts a key where it was; another one that is there is another server's.
fn put_key(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    match fs::read(path) {
        Ok(there) if there == bytes => Ok(()),
        Ok(_) => Err(in_file(path, "belongs to another server; name a new folder with setting `data = DIR`")),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            write_secret(path, bytes).map_err(|error| in_file(path, error))
        }
        Err(error) => Err(in_file(path, error)),
    }
}
