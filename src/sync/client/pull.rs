//! How a release comes to the device: asked for, fetched from where the last try has ended, and looked at before it is anybody's
//! adapter.

use super::line::{Answer, Request};
use super::{Client, Error, Folder, Member, Taken, escaped};
use crate::atomic::write_atomically;
use crate::delta::{DELTA_BYTES_MAX, Delta};
use crate::sync::wire::{Clocks, Distrusted, Hex, Release, Root, Unchanged, Uprooted};
use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// What a channel's devices are to use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pulled {
    /// The release.
    pub release: Release,
    /// The adapter, verified.
    pub path: PathBuf,
    /// Whether it is another one than the last time.
    pub is_new: bool,
    /// Bytes that were fetched now.
    pub fetched: u64,
}

/// Brings a channel's adapter up to date.
///
/// # Errors
/// A server that is not reached or refuses; a release that is older than the last one, or whose adapter is not what it says or not
/// signed by the release key. What was there before is then still there.
pub fn pull(client: &mut Client<'_>, folder: &Folder, channel: &str) -> Result<Pulled, Error> {
    Error::unless_channel(channel)?;
    let mut member = folder.member()?;
    let (mut seen, path) = (folder.seen()?, folder.adapter(channel));
    let taken = seen.0.get(channel).cloned();
    // The server is told what is known only if it is also there.
    let kept = taken
        .filter(|taken| fs::read(&path).is_ok_and(|bytes| Hex(blake3::hash(&bytes).into()) == taken.release.adapter));
    let still_counts =
        |client: &Client<'_>, taken: &Taken, signed_ms| taken.release.expires_ms > client.clocks(signed_ms).latest().0;
    let mut signed_ms = seen.signed_ms();
    let known = kept.clone().filter(|taken| still_counts(client, taken, signed_ms));
    let mut heard = current(client, channel, known.as_ref().map(|taken| taken.etag.as_str()))?;
    if let (Heard::Unchanged(word), Some(taken)) = (&heard, known) {
        let mut clocks = client.clocks(signed_ms);
        let verified =
            word.is_some_and(|word| word.verify(member.release_keys(), channel, &taken.etag, &mut clocks).is_ok());
        signed_ms = clocks.signed_ms;
        // Unless somebody else has said it, or the release's word has ended by what was heard of the time.
        if verified && still_counts(client, &taken, signed_ms) {
            let pulled = Pulled { release: taken.release.clone(), path, is_new: false, fetched: 0 };
            seen.0.insert(channel.into(), Taken { at_ms: signed_ms, ..taken });
            folder.see(&seen)?;
            return Ok(pulled);
        }
        heard = current(client, channel, None)?;
    }
    let Heard::Release { etag, release } = heard else {
        return Err(client.odd("nothing new, for who knows nothing"));
    };
    let last = seen.0.get(channel).map(|taken| &taken.release);
    let mut clocks = client.clocks(signed_ms);
    let root = believed(&member, channel, &release, last, &mut clocks)
        .map_err(|problem| Error::Release { channel: channel.into(), problem })?;
    if root.is_some() {
        member.root = root;
        folder.hold(&member)?;
    }
    let at_ms = clocks.signed_ms;
    let mut pulled = Pulled { release, path, is_new: false, fetched: 0 };
    let is_kept = kept.is_some_and(|taken| taken.release.adapter == pulled.release.adapter);
    if !is_kept {
        let bytes = fetch(client, folder, &mut pulled, &member)?;
        let written: io::Result<()> = write_atomically(&pulled.path, |file| file.write_all(&bytes));
        written.map_err(|error| Error::file(&pulled.path, error))?;
        remove_parts(&pulled.path);
        pulled.is_new = true;
    }
    seen.0.insert(channel.into(), Taken { etag, release: pulled.release.clone(), at_ms });
    folder.see(&seen)?;
    Ok(pulled)
}

/// What the server says of a channel.
enum Heard {
    /// This is to be used.
    Release {
        /// What the server calls this state of the channel.
        etag: String,
        /// The release.
        release: Release,
    },
    /// It is as it was, with the fleet's word for it where there is one.
    Unchanged(Option<Unchanged>),
}

/// Asks for the channel's release; `known` is the state that the device knows of.
fn current(client: &mut Client<'_>, channel: &str, known: Option<&str>) -> Result<Heard, Error> {
    let target = format!("/v1/releases/{}", escaped(channel));
    let headers: Vec<_> = known.map(|tag| ("if-none-match", tag)).into_iter().collect();
    client.insist(|client, _| {
        let answer = client.once(&Request { method: "GET", target: &target, headers: &headers, body: b"" })?;
        if answer.status() == 304 {
            return Ok(Heard::Unchanged(answer.header(Unchanged::HEADER).and_then(|word| word.parse().ok())));
        }
        let etag = answer.header("etag").unwrap_or_default().to_owned();
        Ok(Heard::Release { etag, release: client.json(answer)? })
    })
}

/// That a release is to be believed, by keys that are trusted already: those that were told when the device was enrolled, or that the root
/// names which it holds, or the next one. Gives the root that it is to hold from now on, where that is another. A device that holds
/// none takes the first one with a release that the key has signed which it was told: whatever that root says, it names nobody for itself.
fn believed(
    member: &Member,
    channel: &str,
    release: &Release,
    last: Option<&Release>,
    clocks: &mut Clocks,
) -> Result<Option<Root>, String> {
    let root = newer_root(member, release).map_err(|error| error.to_string())?;
    let keys = match (root, &member.root) {
        (Some(next), Some(_)) => &next.releases,
        _ => member.release_keys(),
    };
    trusted(release, channel, last, keys, clocks)?;
    if let Some(root) = root.or(member.root.as_ref()) {
        root.still_counts(clocks.latest().0).map_err(|error| error.to_string())?;
    }
    Ok(root.cloned())
}

/// The root that a release comes with, if it may take the place of what the device holds.
fn newer_root<'a>(member: &Member, release: &'a Release) -> Result<Option<&'a Root>, Uprooted> {
    let root = release.root.as_deref();
    match (root, &member.root) {
        (Some(new), Some(held)) if new.epoch > held.epoch => new.follows(held)?,
        (Some(new), None) if new.releases.contains(&member.release_key) => new.check()?,
        _ => return Ok(None),
    }
    Ok(root)
}

/// That a release is the fleet's word, of now, and may take the place of the last one.
fn trusted(
    release: &Release,
    channel: &str,
    last: Option<&Release>,
    keys: &[Hex<32>],
    clocks: &mut Clocks,
) -> Result<(), String> {
    release.verify(keys, channel, last.map(Release::number), clocks).map_err(|distrusted| {
        let remedy = match distrusted {
            Distrusted::Older { .. } => "; if the fleet was set back on purpose, enrol the device again",
            _ => "",
        };
        format!("{distrusted}{remedy}")
    })?;
    let number = release.number();
    if last.is_some_and(|last| last.number() == number && last.adapter != release.adapter) {
        return Err(format!("release {number} was another adapter before; ask an operator"));
    }
    if release.length == 0 || release.length > DELTA_BYTES_MAX as u64 {
        return Err(format!("an adapter of {} bytes is none; ask an operator", release.length));
    }
    Ok(())
}

/// The bytes of a release's adapter, verified. Parts of an earlier try are used; if the whole is then not right, all is fetched anew
/// once.
fn fetch(client: &mut Client<'_>, folder: &Folder, pulled: &mut Pulled, member: &Member) -> Result<Vec<u8>, Error> {
    let release = pulled.release.clone();
    let name = format!("{}.{}.part", escaped(&release.channel), release.adapter);
    let part = folder.path().join("adapters").join(name);
    loop {
        let began = length_of(&part);
        client.insist(|client, failures| {
            let before = length_of(&part);
            let done = go_on(client, &part, &release);
            let fetched = length_of(&part).saturating_sub(before);
            pulled.fetched += fetched;
            if fetched > 0 {
                *failures = 0;
            }
            done
        })?;
        let bytes = fs::read(&part).map_err(|error| Error::file(&part, error))?;
        match verified(&bytes, &release, member) {
            Ok(()) => return Ok(bytes),
            Err(problem) => {
                fs::remove_file(&part).map_err(|error| Error::file(&part, error))?;
                if began == 0 {
                    return Err(Error::Release { channel: release.channel, problem });
                }
            }
        }
    }
}

/// Fetches what is missing of a file, once. No more is taken than was announced.
fn go_on(client: &mut Client<'_>, part: &Path, release: &Release) -> Result<(), Error> {
    let have = length_of(part);
    if have == release.length {
        return Ok(());
    }
    let range = format!("bytes={have}-");
    let target = format!("/v1/adapters/{}", release.adapter);
    let headers = [("range", range.as_str())];
    let headers = if (1..release.length).contains(&have) { headers.as_slice() } else { &[] };
    let answer = client.once(&Request { method: "GET", target: &target, headers, body: b"" })?;
    let goes_on = !headers.is_empty() && answer.status() == 206;
    if goes_on && !begins_at(&answer, have) {
        return Err(client.odd("the server sends other bytes than were asked for"));
    }
    let mut file = OpenOptions::new()
        .create(true)
        .write(true)
        .append(goes_on)
        .truncate(!goes_on)
        .open(part)
        .map_err(|error| Error::file(part, error))?;
    let missing = if goes_on { release.length - have } else { release.length };
    let mut reader = client.pace().keep(answer.reader()).take(missing + 1);
    let mut buffer = vec![0; 1 << 16];
    let mut came = 0;
    while came <= missing {
        let count = match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(client.broken(&error)),
        };
        came += count as u64;
        let over = came.saturating_sub(missing) as usize;
        file.write_all(&buffer[..count - over]).map_err(|error| Error::file(part, error))?;
    }
    match came.cmp(&missing) {
        std::cmp::Ordering::Equal => Ok(()),
        std::cmp::Ordering::Less => Err(client.broken(&io::Error::other("the answer ended before its end"))),
        std::cmp::Ordering::Greater => Err(Error::Release {
            channel: release.channel.clone(),
            problem: "the adapter is longer than the release says; ask an operator".into(),
        }),
    }
}

fn begins_at(answer: &Answer, have: u64) -> bool {
    let told =
        answer.header("content-range").and_then(|range| range.strip_prefix("bytes ")?.split('-').next()?.parse().ok());
    told == Some(have)
}

/// That the bytes are the adapter that the release names, signed by the key that releases are signed with. Where a root says whose word
/// counts, the release's is enough, for an older key may have signed the adapter; but an author must have, where there are authors.
fn verified(bytes: &[u8], release: &Release, member: &Member) -> Result<(), String> {
    if Hex(blake3::hash(bytes).into()) != release.adapter {
        return Err(
            "what was fetched is not the adapter that the release names: it was changed on the way or in the server's \
             store. It is not used; ask an operator"
                .into(),
        );
    }
    let delta = Delta::parse(bytes).map_err(|error| format!("the adapter is not usable: {error}; ask an operator"))?;
    match &member.root {
        None => delta.head().verify(&member.release_key.0).map_err(|error| {
            format!(
                "the adapter is not signed by the fleet's release key: {error}. It is not used; if the server has a new key, enrol \
                 the device again"
            )
        })?,
        Some(root) if !root.authors.iter().any(|author| delta.head().verify(&author.0).is_ok()) => {
            if !root.authors.is_empty() {
                return Err("no author of the fleet has signed the adapter. It is not used; ask an operator".into());
            }
        }
        Some(_) => {}
    }
    if delta.head().header().base != release.base.0 {
        return Err("the adapter belongs to another base than the release says; ask an operator".into());
    }
    Ok(())
}

fn length_of(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |file| file.len())
}

/// Removes what is left of tries for other releases of the channel whose adapter lies at `path`.
fn remove_parts(path: &Path) {
    let (Some(folder), Some(stem)) = (path.parent(), path.file_stem().and_then(|stem| stem.to_str())) else { return };
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        // What cannot be removed takes room and does nothing else.
        if name.strip_prefix(stem).is_some_and(|rest| rest.starts_with('.') && rest.ends_with(".part")) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delta::{Encoding, Header, KeyPair, Label, TensorValues, encode, sign, write};

    fn release(version: u64, adapter: &[u8]) -> Release {
        Release {
            channel: "photos".into(),
            epoch: 0,
            version,
            base: Hex([7; 32]),
            adapter: Hex(blake3::hash(adapter).into()),
            length: adapter.len() as u64,
            devices_min: 5,
            root: None,
            round: None,
            told_ms: 0,
            expires_ms: 1_000,
            signature: Hex([0; 64]),
        }
    }

    fn at(own_ms: u64) -> Clocks {
        Clocks { own_ms, ..Clocks::default() }
    }

    #[test]
    fn a_release_follows_none_or_an_older_one() {
        let key = KeyPair::from_secret(&[1; 32]);
        let of = |release: Release| release.signed(&key);
        let [one, two, other] = [of(release(1, b"a")), of(release(2, b"b")), of(release(2, b"c"))];
        let public = [Hex(key.public())];
        for (next, last) in [(&one, None), (&two, None), (&two, Some(&one)), (&one, Some(&one))] {
            assert_eq!(trusted(next, "photos", last, &public, &mut at(999)), Ok(()));
        }
        let restored = of(Release { epoch: 1, ..release(1, b"c") });
        assert_eq!(trusted(&restored, "photos", Some(&two), &public, &mut at(999)), Ok(()), "from a backup");
        let endless = of(Release { length: u64::MAX, ..two.clone() });
        let forged = Release { version: 3, ..two.clone() };
        for (next, channel, last, now_ms, reason) in [
            (&one, "photos", Some(&two), 999, "version 1, and version 2 was seen before"),
            (&one, "photos", Some(&two), 999, "enrol the device again"),
            (&two, "photos", Some(&restored), 999, "version 2, and version 1 of epoch 1 was seen before"),
            (&other, "photos", Some(&two), 999, "release 2 was another adapter before"),
            (&one, "texts", None, 999, "channel `photos`"),
            (&one, "photos", None, 1_000, "holding newer ones back"),
            (&forged, "photos", None, 999, "not signed by the fleet's key"),
            (&endless, "photos", None, 999, "18446744073709551615 bytes"),
        ] {
            let refused = trusted(next, channel, last, &public, &mut at(now_ms)).unwrap_err();
            assert!(refused.contains(reason), "{refused}");
        }
    }

    #[test]
    fn an_adapter_is_the_releases_and_signed_by_its_key() {
        let payload = encode(&[0.5; 4], Encoding::Fp16).unwrap();
        let header = Header { base: [7; 32], loss: "cross_entropy", output: "y", ..Header::default() };
        let labels = [Label { name: "cat", samples: 1 }];
        let tensors = [TensorValues { name: "w", shape: &[4], payload: &payload }];
        let unsigned = write(&header, &labels, &tensors).unwrap();
        let [key, other] = [1, 2].map(|seed| KeyPair::from_secret(&[seed; 32]));
        let right = sign(&unsigned, &key).unwrap();
        let theirs = sign(&unsigned, &other).unwrap();
        let member = |release_key| Member {
            url: String::new(),
            fleet: String::new(),
            name: String::new(),
            release_key,
            root: None,
            ca: None,
            client_certificate: None,
        };
        let key = member(Hex(key.public()));
        assert_eq!(verified(&right, &release(1, &right), &key), Ok(()));
        let elsewhere = Release { base: Hex([8; 32]), ..release(1, &right) };
        for (bytes, release, reason) in [
            (right.as_slice(), release(1, &theirs), "is not the adapter"),
            (&theirs, release(1, &theirs), "not signed by the fleet's release key"),
            (&unsigned, release(1, &unsigned), "not signed by the fleet's release key"),
            (b"nothing", release(1, b"nothing"), "not usable"),
            (&right, elsewhere, "another base"),
        ] {
            let refused = verified(bytes, &release, &key).unwrap_err();
            assert!(refused.contains(reason), "{refused}");
        }
    }
}
