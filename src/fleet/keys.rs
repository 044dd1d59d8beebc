//! The keys in the server's folder.
//!
//! ```text
//! release.pem      signs releases; devices trust no other
//! operator.hash    BLAKE3 of the operator's token: all that the server needs of it
//! operator.token   the token itself, for the commands on this machine; it may be taken elsewhere
//! root.json        which keys sign releases, signed by keys that are kept offline; optional
//! ```
//!
//! They are made with the database and never afterwards: a server that made a new key where one is missing would be a stranger to all
//! of its devices.

use super::Error;
use super::tls::{read_secret, write_secret};
use crate::delta::KeyPair;
use crate::sync::wire::{Hex, Root};
use std::path::Path;

const RELEASE: &str = "release.pem";
const TOKEN: &str = "operator.token";
const HASH: &str = "operator.hash";
const ROOT: &str = "root.json";

/// What a server works with.
pub struct Keys {
    /// Signs releases.
    pub key: KeyPair,
    /// BLAKE3 of the operator's token.
    pub operator: blake3::Hash,
    /// Whose word counts, where keys that are kept offline say it.
    pub root: Option<Root>,
}

fn in_file(path: &Path, problem: impl std::fmt::Display) -> Error {
    Error::File { path: path.into(), problem: problem.to_string() }
}

/// Makes what is missing, for a server that is new.
///
/// # Errors
/// Files that cannot be written; no random bytes.
pub fn make(folder: &Path, random: &dyn Fn() -> Result<[u8; 32], Error>) -> Result<(), Error> {
    let release = folder.join(RELEASE);
    if read_secret(&release)?.is_none() {
        let pem = KeyPair::from_secret(&random()?).to_pem().map_err(|error| in_file(&release, error))?;
        write_secret(&release, pem.as_bytes())?;
    }
    if read_secret(&folder.join(TOKEN))?.is_none() && read_secret(&folder.join(HASH))?.is_none() {
        write_secret(&folder.join(TOKEN), format!("{}\n", Hex(random()?)).as_bytes())?;
    }
    Ok(())
}

/// What is there. The token is hashed on the first start, and where another one was written since.
///
/// # Errors
/// A file that is missing or is none of these.
pub fn read(folder: &Path) -> Result<Keys, Error> {
    let release = folder.join(RELEASE);
    let pem = read_secret(&release)?.ok_or_else(|| {
        let problem = "it is missing, and the database belongs to a server that has had one: devices trust no other key. Put it back \
                       from a backup, or name that server's folder with setting `data = DIR`";
        in_file(&release, problem)
    })?;
    let key = KeyPair::from_pem(&pem).map_err(|error| in_file(&release, error))?;
    let path = folder.join(HASH);
    let kept = read_secret(&path)?;
    let operator = match (read_secret(&folder.join(TOKEN))?, &kept) {
        (Some(token), _) => blake3::hash(token.trim().as_bytes()),
        (None, Some(hash)) => blake3::Hash::from_hex(hash.trim()).map_err(|error| in_file(&path, error))?,
        (None, None) => {
            let problem = format!(
                "it is missing, and so is {TOKEN}; write a new token into {TOKEN}, 32 characters or more that nobody guesses"
            );
            return Err(in_file(&path, problem));
        }
    };
    let text = format!("{operator}\n");
    if kept.as_ref() != Some(&text)
        && let Err(error) = write_secret(&path, text.as_bytes())
    {
        // Keys may lie where nothing can be written; the token is then read there each time.
        tracing::warn!("{error}");
    }
    let root = root(&folder.join(ROOT), &key)?;
    Ok(Keys { key, operator, root })
}

/// The root, if there is one: whole, signed, and naming the key that releases are signed with here.
fn root(path: &Path, key: &KeyPair) -> Result<Option<Root>, Error> {
    let Some(text) = read_secret(path)? else { return Ok(None) };
    let root: Root = serde_json::from_str(&text).map_err(|error| in_file(path, error))?;
    root.check().map_err(|error| in_file(path, error))?;
    if !root.releases.contains(&Hex(key.public())) {
        let problem = format!(
            "the root names other keys than {RELEASE}, whose releases no device would take; put the key that it names there, or have \
             this one named: edgetune-fleet root rotate"
        );
        return Err(in_file(path, problem));
    }
    Ok(Some(root))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn the_token_may_be_taken_away_and_the_key_may_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        make(folder.path(), &|| Ok([7; 32])).unwrap();
        let first = read(folder.path()).unwrap();
        let token = fs::read_to_string(path(TOKEN)).unwrap();
        assert_eq!(first.operator, blake3::hash(token.trim().as_bytes()));
        fs::remove_file(path(TOKEN)).unwrap();
        make(folder.path(), &|| Ok([8; 32])).unwrap();
        assert!(!path(TOKEN).exists() && read(folder.path()).unwrap().operator == first.operator);
        fs::write(path(TOKEN), "another\n").unwrap();
        assert_eq!(read(folder.path()).unwrap().operator, blake3::hash(b"another"));
        for name in [TOKEN, HASH] {
            fs::remove_file(path(name)).unwrap();
        }
        assert!(read(folder.path()).err().unwrap().to_string().contains("write a new token into operator.token"));
        fs::remove_file(path(RELEASE)).unwrap();
        let refused = read(folder.path()).err().unwrap().to_string();
        assert!(refused.contains("release.pem") && refused.contains("from a backup"), "{refused}");
    }
}
