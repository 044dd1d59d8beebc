//! What a device did with data and adapters, as evidence: `STATE/ledger.jsonl` has a line for each event, only ever appended.
//!
//! A line is JSON: `follows`, the BLAKE3 hash of the whole line before it (of nothing, for the first); `key`, the device's public key; `what`
//! happened; and `signature`, which is Ed25519 over all that stands before it in the line. So a line that was changed, moved, put in or left out
//! is found by [`walk`]. What was cut off at the end is not, unless somebody noted [`Walked::head`] earlier.
//!
//! The key is the one that the device has in its fleet (`STATE/fleet/key.pem`), else one of its own (`STATE/ledger.pem`, made with the first
//! line). `STATE/ledger/<BLAKE3>.txt` name the samples that an adapter was learned from.

use super::events::Event;
use super::folders::{error_at, give_to_owner};
use super::lines::append_after;
use crate::delta::{KeyPair, check_statement, sign_statement};
use crate::order::Order;
use crate::sync::wire::Hex;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::{self, BufRead, ErrorKind, Write};
use std::path::{Path, PathBuf};

/// The file of all lines.
pub const FILE: &str = "ledger.jsonl";
/// The folder of the lists of samples.
pub const LISTS: &str = "ledger";
/// What a line's signature is for.
const PURPOSE: &str = "ledger 1";
/// What stands between a line's content and its signature.
const SEAM: &[u8] = b",\"signature\":\"";
/// Bytes of a line's end: 128 digits of the signature, `"`, `}`.
const END_BYTES: usize = 130;
/// Bytes of a line, at most.
const LINE_BYTES_MAX: u64 = 1 << 16;

/// A line without its signature.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Hash of the line before it, with its end.
    pub follows: Hex<32>,
    /// The device's public key.
    pub key: Hex<32>,
    /// What happened.
    pub what: Event,
}

/// What [`walk`] found of a whole ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Walked {
    /// How many lines there are.
    pub lines: u64,
    /// Hash of the last one: whoever notes it can tell later that nothing was cut off.
    pub head: Hex<32>,
    /// Each key that signed, with the first line that it signed (from 1), in that order.
    pub keys: Vec<(u64, Hex<32>)>,
}

/// Why a ledger is no evidence, from which line on.
#[derive(Debug, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct Fault {
    /// The line, from 1.
    pub line: u64,
    /// What is wrong with it.
    pub problem: String,
}

/// Appends an event and brings it to the disk.
///
/// # Errors
/// The system's; a key that cannot be read or made.
pub fn write(state: &Path, event: &Event) -> io::Result<()> {
    let key = key(state)?;
    let public = Hex(key.public());
    append_after(state, FILE, &|last| {
        let entry = Entry { follows: Hex(*blake3::hash(last).as_bytes()), key: public, what: event.clone() };
        let mut line = serde_json::to_vec(&entry).expect("an entry is JSON");
        line.pop();
        let signature = Hex(sign_statement(PURPOSE, &line, &key));
        line.extend_from_slice(SEAM);
        line.extend_from_slice(format!("{signature}\"}}").as_bytes());
        line
    })
}

/// The device's key, made where there is none. A key of the fleet's that this user may not read is none.
fn key(state: &Path) -> io::Result<KeyPair> {
    let own = state.join("ledger.pem");
    if let Ok(Ok(key)) = fs::read_to_string(state.join("fleet/key.pem")).map(|text| KeyPair::from_pem(&text)) {
        return Ok(key);
    }
    match fs::read_to_string(&own) {
        Ok(text) => {
            let no_key = |error| error_at(&own, io::Error::new(ErrorKind::InvalidData, format!("{error}")));
            return KeyPair::from_pem(&text).map_err(no_key);
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error_at(&own, error)),
    }
    let mut secret = [0; 32];
    getrandom::fill(&mut secret).map_err(io::Error::other)?;
    let key = KeyPair::from_secret(&secret);
    let pem = key.to_pem().map_err(|error| io::Error::other(format!("{error}")))?;
    crate::atomic::write_secret(&own, pem.as_bytes()).map_err(|error| error_at(&own, error))?;
    give_to_owner(state, &own)?;
    Ok(key)
}

/// Keeps a list of samples; gives its name, the BLAKE3 hash of its text. A sample is a line: its name, a tab, its class.
///
/// # Errors
/// The system's.
pub fn keep_list(state: &Path, samples: &mut [(String, String)]) -> io::Result<String> {
    samples.order_by(Ord::cmp);
    let text: String = samples.iter().map(|(sample, class)| format!("{sample}\t{class}\n")).collect();
    let name = blake3::hash(text.as_bytes()).to_hex().to_string();
    let path = list(&state.join(FILE), &name);
    if !path.exists() {
        let folder = state.join(LISTS);
        fs::create_dir_all(&folder).map_err(|error| error_at(&folder, error))?;
        crate::atomic::write_atomically(&path, |file| file.write_all(text.as_bytes()))
            .map_err(|error: io::Error| error_at(&path, error))?;
    }
    Ok(name)
}

/// Where the list of that name lies, beside a ledger.
pub fn list(ledger: &Path, name: &str) -> PathBuf {
    ledger.with_file_name(LISTS).join(format!("{name}.txt"))
}

/// Reads a ledger from its beginning and gives each line to `each` once its place, its signature and its key are known to be right; `keys`
/// are those that may have signed it, any where there are none.
///
/// # Errors
/// [`Fault`]; lines before it were given.
pub fn walk(mut file: impl BufRead, keys: &[[u8; 32]], each: &mut dyn FnMut(Entry)) -> Result<Walked, Fault> {
    let mut walked = Walked { lines: 0, head: Hex(*blake3::hash(b"").as_bytes()), keys: Vec::new() };
    let mut text = Vec::new();
    loop {
        let fault = |problem: String| Fault { line: walked.lines + 1, problem };
        text.clear();
        let read = io::Read::take(&mut file, LINE_BYTES_MAX).read_until(b'\n', &mut text);
        if read.map_err(|error| fault(error.to_string()))? == 0 {
            return Ok(walked);
        }
        let entry = entry(&text).map_err(fault)?;
        if entry.follows != walked.head {
            return Err(fault(
                "it does not follow the line before it: one of the two was changed, or lines between are missing"
                    .into(),
            ));
        }
        if !keys.is_empty() && !keys.contains(&entry.key.0) {
            return Err(fault(format!("it is signed by the key {}, which is none of those that you named", entry.key)));
        }
        walked.lines += 1;
        walked.head = Hex(*blake3::hash(&text).as_bytes());
        if walked.keys.last().is_none_or(|(_, last)| *last != entry.key) {
            walked.keys.push((walked.lines, entry.key));
        }
        each(entry);
    }
}

/// What a line with its end says, if its signature is right.
fn entry(line: &[u8]) -> Result<Entry, String> {
    let Some(text) = line.strip_suffix(b"\n") else {
        return Err("it has no end: the power was lost while it was written, which the agent mends when it starts, or it was changed".into());
    };
    let changed = || "it was changed: its signature is not of its content".to_string();
    let seam = text.len().checked_sub(END_BYTES + SEAM.len()).filter(|seam| text[*seam..].starts_with(SEAM));
    let (content, rest) = text.split_at(seam.ok_or_else(changed)?);
    let digits = rest[SEAM.len()..].strip_suffix(b"\"}").and_then(|digits| std::str::from_utf8(digits).ok());
    let signature: Hex<64> = digits.and_then(|digits| digits.parse().ok()).ok_or_else(changed)?;
    let entry: Entry = serde_json::from_slice(&[content, b"}"].concat())
        .map_err(|error| format!("it says nothing that is known: {error}"))?;
    check_statement(PURPOSE, content, &entry.key.0, &signature.0).map_err(|_| changed())?;
    Ok(entry)
}

/// Takes away what a lost power has left of a line, and makes the device's key where it has none.
///
/// # Errors
/// The system's; a key that cannot be read or made.
pub fn begin(state: &Path) -> io::Result<()> {
    super::lines::cut_off(&state.join(FILE))?;
    key(state).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trained(at: i64) -> Event {
        Event::Trained { at, seconds: 7 }
    }

    fn walked(text: &[u8], keys: &[[u8; 32]]) -> Result<(Walked, Vec<i64>), Fault> {
        let mut times = Vec::new();
        let walked = walk(text, keys, &mut |entry| times.push(entry.what.at()))?;
        Ok((walked, times))
    }

    #[test]
    fn one_flipped_bit_anywhere_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path();
        (0..3).for_each(|at| write(state, &trained(at)).unwrap());
        let text = fs::read(state.join(FILE)).unwrap();
        let (whole, times) = walked(&text, &[]).unwrap();
        assert_eq!((whole.lines, whole.keys.len(), times), (3, 1, vec![0, 1, 2]));
        for at in 0..text.len() {
            for bit in 0..8 {
                let mut changed = text.clone();
                changed[at] ^= 1 << bit;
                assert!(walked(&changed, &[]).is_err(), "byte {at}, bit {bit}");
            }
        }
    }

    /// A field of an event and one of the line must not have the same name.
    #[test]
    fn events_of_every_kind_are_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let events = [
            r#"{"event":"trained","at":1,"seconds":7}"#,
            r#"{"event":"activated","at":1,"adapter":"a","before":"b","by":"gate","reason":"r"}"#,
            r#"{"event":"failed","at":1,"samples":3,"reason":"r","cause":"c"}"#,
            r#"{"event":"checked","at":1}"#,
            r#"{"event":"set-aside","at":1,"count":2,"sample":"s","reason":"r"}"#,
            r#"{"event":"withdrawn","at":1,"before":"b","by":"feedback"}"#,
            r#"{"event":"learned","at":1,"adapter":"a","base":"b","recipe":null,"samples":3,"classes":2,"list":"l","keep_days":9}"#,
            r#"{"event":"forgotten","at":1,"samples":["s"],"by":"a person"}"#,
            r#"{"event":"answered","at":1,"adapter":"a","right":true,"instead_of":false}"#,
            r#"{"event":"shared","at":1,"adapter":"a","channel":"c","hash":"h","bytes":9}"#,
        ];
        let events = events.map(|text| serde_json::from_str::<Event>(text).unwrap());
        events.iter().for_each(|event| write(folder.path(), event).unwrap());
        let mut read = Vec::new();
        walk(&fs::read(folder.path().join(FILE)).unwrap()[..], &[], &mut |entry| read.push(entry.what)).unwrap();
        assert_eq!(read, events);
    }

    #[test]
    fn a_line_that_was_moved_or_left_out_is_found_and_a_short_one_by_its_head() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path();
        (0..4).for_each(|at| write(state, &trained(at)).unwrap());
        let text = fs::read(state.join(FILE)).unwrap();
        let lines: Vec<&[u8]> = text.split_inclusive(|byte| *byte == b'\n').collect();
        let whole = walked(&text, &[]).unwrap().0;
        for (without, line) in [(0, 1), (1, 2), (2, 3)] {
            let rest: Vec<u8> =
                (0..4).filter(|index| *index != without).flat_map(|index| lines[index].to_vec()).collect();
            assert_eq!(walked(&rest, &[]).unwrap_err().line, line);
        }
        assert_eq!(walked(&[lines[0], lines[2], lines[1], lines[3]].concat(), &[]).unwrap_err().line, 2);
        let shorter = walked(&lines[..3].concat(), &[]).unwrap().0;
        assert!(shorter.head != whole.head && shorter.lines == 3);
    }

    #[test]
    fn who_signs_is_told_and_may_be_named() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path();
        write(state, &trained(0)).unwrap();
        let (own, of_fleet) = (key(state).unwrap(), KeyPair::from_secret(&[5; 32]));
        fs::create_dir_all(state.join("fleet")).unwrap();
        fs::write(state.join("fleet/key.pem"), of_fleet.to_pem().unwrap()).unwrap();
        write(state, &trained(1)).unwrap();
        // One that is no key, or that this user may not read, is none.
        fs::write(state.join("fleet/key.pem"), "no key").unwrap();
        write(state, &trained(2)).unwrap();
        let text = fs::read(state.join(FILE)).unwrap();
        let keys = [own.public(), of_fleet.public()];
        assert_eq!(walked(&text, &keys).unwrap().0.keys, [(1, Hex(keys[0])), (2, Hex(keys[1])), (3, Hex(keys[0]))]);
        let told = walked(&text, &keys[..1]).unwrap_err();
        assert!(told.line == 2 && told.problem.contains("none of those that you named"), "{told}");
    }

    /// As a power cut or a kill leaves it: the line that was being written is no line, and the next one follows the last whole one.
    #[test]
    fn a_line_cut_off_anywhere_is_mended() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path();
        write(state, &trained(0)).unwrap();
        let first = fs::read(state.join(FILE)).unwrap();
        write(state, &trained(1)).unwrap();
        let both = fs::read(state.join(FILE)).unwrap();
        for cut in first.len() + 1..both.len() {
            fs::write(state.join(FILE), &both[..cut]).unwrap();
            assert!(walked(&both[..cut], &[]).unwrap_err().problem.contains("the agent mends"));
            if cut % 2 == 0 {
                begin(state).unwrap();
                assert_eq!(fs::read(state.join(FILE)).unwrap(), first);
            }
            write(state, &trained(2)).unwrap();
            let (_, times) = walked(&fs::read(state.join(FILE)).unwrap(), &[]).unwrap();
            assert_eq!(times, [0, 2], "cut at {cut}");
        }
    }
}
