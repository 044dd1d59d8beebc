//! Files of a state with a JSON object a line, only ever appended: a line that a lost power cut off says nothing, and is taken
//! away before the next one is written.

use super::folders::{error_at, give_to_owner};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::path::Path;

/// Bytes of a line, at most: a reason is one line of a program's words.
const LINE_BYTES_MAX: u64 = 1 << 16;

/// What each line of a file says; a last line without its end says nothing, nor does a file that is not there.
pub(in crate::agent) fn whole_lines<T: DeserializeOwned>(path: &Path) -> io::Result<Vec<T>> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error_at(path, error)),
    };
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let parse = |(number, line): (usize, &str)| {
        serde_json::from_str(line).map_err(|error| {
            let problem = format!("{}: line {}: {error}; take the line away", path.display(), number + 1);
            io::Error::new(io::ErrorKind::InvalidData, problem)
        })
    };
    whole.lines().enumerate().filter(|(_, line)| !line.is_empty()).map(parse).collect()
}

/// Appends a line to a file of the state and brings it to the disk. What a lost power cut off goes first.
pub(in crate::agent) fn append(state: &Path, name: &str, line: &impl Serialize) -> io::Result<()> {
    append_after(state, name, &|_| serde_json::to_vec(line).expect("lines are JSON"))
}

/// The same, where a line depends on the one before it: `line` is given that one with its end, or nothing where there is none.
pub(in crate::agent) fn append_after(state: &Path, name: &str, line: &dyn Fn(&[u8]) -> Vec<u8>) -> io::Result<()> {
    let path = state.join(name);
    let new = !path.exists();
    let mut file =
        OpenOptions::new().read(true).append(true).create(true).open(&path).map_err(|e| error_at(&path, e))?;
    // A command may append while the service does: without this, one takes the other's line for what was cut off.
    file.lock().map_err(|error| error_at(&path, error))?;
    let whole = whole_end(&mut file).map_err(|error| error_at(&path, error))?;
    let last = whole[..whole.len().saturating_sub(1)].iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let mut line = line(&whole[last..]);
    line.push(b'\n');
    let written = file.write_all(&line).and_then(|()| file.sync_data());
    written.map_err(|error| error_at(&path, error))?;
    if new {
        give_to_owner(state, &path)?;
        File::open(state)?.sync_all()?;
    }
    Ok(())
}

/// Takes away what a lost power has left of a file's last line; a file that is not there has none.
pub(super) fn cut_off(path: &Path) -> io::Result<()> {
    match OpenOptions::new().read(true).append(true).open(path) {
        Ok(mut file) => {
            let mended = file.lock().and_then(|()| whole_end(&mut file));
            mended.map(drop).map_err(|error| error_at(path, error))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error_at(path, error)),
    }
}

/// The last bytes of a file, up to the end of its last whole line; what stands behind that is taken away. A line is shorter than what is
/// read: the rest of the file, years of it, need not be.
fn whole_end(file: &mut File) -> io::Result<Vec<u8>> {
    let length = file.metadata()?.len();
    file.seek(io::SeekFrom::Start(length.saturating_sub(2 * LINE_BYTES_MAX)))?;
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    if whole < text.len() {
        file.set_len(length - (text.len() - whole) as u64)?;
        text.truncate(whole);
    }
    Ok(text)
}
