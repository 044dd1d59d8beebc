//! Files as memory: mapped once, shared by all processes, and an end with words when such a file goes away.
//!
//! Takes open files and gives their contents as [`Bytes`]; gives pages back that were read once; and ends the process with a
//! message and [`LOST_FILE`] where the kernel can no longer read a mapped file (it was cut off, its disk pulled out, its
//! server is gone), for which the kernel has only the signal SIGBUS. It never writes to a file and never looks into one.

use bytes::Bytes;
use libc::{c_int, c_void, siginfo_t};
use memmap2::{Mmap, MmapOptions};
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// The exit code of a process that lost a mapped file.
pub const LOST_FILE: u8 = 3;

/// Ends by starts of the maps that live.
static MAPS: Mutex<BTreeMap<usize, usize>> = Mutex::new(BTreeMap::new());

/// The first `length` bytes of a file as read-only memory: pages are loaded when first used and shared between processes.
/// Locks that are held on the file are held for as long as a part of the map lives.
///
/// # Errors
/// The system's; [`io::ErrorKind::UnexpectedEof`] for a file of fewer bytes.
pub fn map(file: &Arc<File>, length: u64) -> io::Result<Bytes> {
    let length = usize::try_from(length).map_err(|_| io::ErrorKind::FileTooLarge)?;
    if file.metadata()?.len() < length as u64 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    if length == 0 {
        return Ok(Bytes::new());
    }
    // SAFETY: The map is read-only and is kept for as long as any slice of the `Bytes` lives. The bytes of a map must not
    // change and must stay. Within this project they do: a base and a bundle are never written to, files are replaced by
    // renaming (see `atomic`), which leaves the mapped inode as it is, and the feature cache writes only behind what it has
    // mapped and shortens a file only under an exclusive lock (see `cache/disk.rs`). A program that writes into such a file
    // in place gives wrong numbers, as with every memory map; one that cuts it off, or a disk that goes away, raises SIGBUS
    // at the next read, which never returns to the reader: `exit_on_lost_file` or the system ends the process.
    let map = unsafe { MmapOptions::new().len(length).map(&**file)? };
    let start = map.as_ptr().addr();
    MAPS.lock().unwrap_or_else(PoisonError::into_inner).insert(start, start + length);
    Ok(Bytes::from_owner(Mapped { map, _file: Arc::clone(file) }))
}

/// A map and the open file with its locks.
struct Mapped {
    map: Mmap,
    _file: Arc<File>,
}

impl AsRef<[u8]> for Mapped {
    fn as_ref(&self) -> &[u8] {
        &self.map
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        MAPS.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.map.as_ptr().addr());
    }
}

/// Gives the pages of some bytes back if they lie in a map: whoever reads them again finds the same in the file. For what is
/// read once from end to end, such as a model that is hashed, which else counts to this process for as long as it runs.
pub fn forget_pages(bytes: &[u8]) {
    let maps = MAPS.lock().unwrap_or_else(PoisonError::into_inner);
    let (start, end) = (bytes.as_ptr().addr(), bytes.as_ptr().addr() + bytes.len());
    let Some((_, map_end)) = maps.range(..=start).next_back() else { return };
    if end > *map_end {
        return;
    }
    let inside = start - start % page_bytes();
    // SAFETY: The range begins on a page of a map of this module (maps begin on pages) and ends in it; `maps` is locked, so
    // the map stays until this is done. It is a read-only map of a file: MADV_DONTNEED drops pages that a later read loads
    // from the file again, and changes no byte.
    unsafe {
        libc::madvise(bytes.as_ptr().cast_mut().wrapping_sub(start - inside).cast(), end - inside, libc::MADV_DONTNEED)
    };
}

fn page_bytes() -> usize {
    // SAFETY: `sysconf` only reads the system's settings.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}

/// What SIGBUS did before [`exit_on_lost_file`].
static BEFORE: OnceLock<libc::sigaction> = OnceLock::new();

/// From now on a mapped file that can no longer be read ends the process with [`LOST_FILE`] and a message on standard error
/// that names it. This covers ONNX Runtime's maps, of which there is no list: the kernel's own is asked. A SIGBUS for any
/// other reason goes to whoever handled it before, by default to the system. Only for a program: a library's signals are
/// its program's.
pub fn exit_on_lost_file() {
    // SAFETY: all-zero bytes are a `sigaction` without flags and with an empty mask.
    let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    action.sa_sigaction = lost_file as *const () as usize;
    // The thread's own stack: what is handled here is no overflow of it, and the alternative one is small.
    action.sa_flags = libc::SA_SIGINFO;
    let mut before = MaybeUninit::uninit();
    // SAFETY: reads the present action into memory of its size; no action is given.
    if unsafe { libc::sigaction(libc::SIGBUS, std::ptr::null(), before.as_mut_ptr()) } != 0 {
        return;
    }
    // SAFETY: the call above has succeeded and so filled it in. Stored before the handler can run.
    if BEFORE.set(unsafe { before.assume_init() }).is_ok() {
        // SAFETY: the action is complete, and `lost_file` calls nothing but functions that POSIX allows in a handler.
        unsafe { libc::sigaction(libc::SIGBUS, &action, std::ptr::null_mut()) };
    }
}

const BEFORE_PATH: &[u8] = b"error: the file ";
const BEHIND_PATH: &[u8] = b" was cut off, or its disk went away, while it was in use; put it back (mount the disk, copy the \
    file again), remove edgetune's cache of it if that is where it lies, and run the same command again: `train --resume` \
    goes on from the last checkpoint\n";

/// The handler.
extern "C" fn lost_file(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel hands a handler with SA_SIGINFO a valid `info`; its address is one for SIGBUS.
    let (code, address) = unsafe { ((*info).si_code, (*info).si_addr().addr()) };
    let mut buffer = [0; 8192];
    if code == libc::BUS_ADRERR
        && let Some(path) = file_at(address, &mut buffer)
    {
        for part in [BEFORE_PATH, path, BEHIND_PATH] {
            // SAFETY: writes from memory of that length; `write` is allowed in a handler. What it could not write is lost.
            unsafe { libc::write(libc::STDERR_FILENO, part.as_ptr().cast(), part.len()) };
        }
        // SAFETY: ends the process at once, without destructors, which is allowed in a handler.
        unsafe { libc::_exit(LOST_FILE.into()) };
    }
    chain(signal, info, context);
}

/// Lets the handler from before have the signal.
fn chain(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    match BEFORE.get() {
        Some(before) if ![libc::SIG_DFL, libc::SIG_IGN].contains(&before.sa_sigaction) => {
            if before.sa_flags & libc::SA_SIGINFO != 0 {
                // SAFETY: an action with SA_SIGINFO holds a function of this type.
                let handler: extern "C" fn(c_int, *mut siginfo_t, *mut c_void) =
                    unsafe { std::mem::transmute(before.sa_sigaction) };
                handler(signal, info, context);
            } else {
                // SAFETY: an action without SA_SIGINFO holds a function of this type.
                let handler: extern "C" fn(c_int) = unsafe { std::mem::transmute(before.sa_sigaction) };
                handler(signal);
            }
        }
        // SAFETY: both are allowed in a handler; the signal is blocked until it returns and ends the process then.
        _ => unsafe {
            libc::signal(signal, libc::SIG_DFL);
            libc::raise(signal);
        },
    }
}

/// The file that is mapped for reading at an address, from the kernel's list of maps. Allocates nothing.
fn file_at(address: usize, buffer: &mut [u8; 8192]) -> Option<&[u8]> {
    // SAFETY: opens a path that ends with a zero byte; `open` is allowed in a handler. The process is about to end.
    let maps = unsafe { libc::open(c"/proc/self/maps".as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC) };
    let mut filled = 0;
    let found = loop {
        // SAFETY: reads into the rest of the buffer, no more than fits.
        let read = unsafe { libc::read(maps, buffer[filled..].as_mut_ptr().cast(), buffer.len() - filled) };
        let Some(read) = usize::try_from(read).ok().filter(|read| *read > 0) else { break None };
        filled += read;
        let mut start = 0;
        let mut found = None;
        while let Some(length) = buffer[start..filled].iter().position(|byte| *byte == b'\n') {
            if let Some(path) = path_if_at(&buffer[start..start + length], address) {
                found = Some(start + length - path.len()..start + length);
                break;
            }
            start += length + 1;
        }
        if found.is_some() {
            break found;
        }
        buffer.copy_within(start..filled, 0);
        filled -= start;
    };
    // SAFETY: closes what was opened; a failed `open` gives -1, which `close` refuses.
    unsafe { libc::close(maps) };
    found.map(|range| &buffer[range])
}

/// The path in a line of `/proc/self/maps` (proc(5): `start-end perms offset dev inode path`) if the address lies in its
/// range, and it is a file's that is mapped to be read and not to be executed.
fn path_if_at(line: &[u8], address: usize) -> Option<&[u8]> {
    let (range, rest) = line.split_at(line.iter().position(|byte| *byte == b' ')?);
    let dash = range.iter().position(|byte| *byte == b'-')?;
    let inside = hexadecimal(&range[..dash])? <= address && address < hexadecimal(&range[dash + 1..])?;
    let permissions = rest.get(1..4)?;
    let path = &line[line.iter().position(|byte| *byte == b'/')?..];
    (inside && permissions[0] == b'r' && permissions[2] != b'x').then_some(path)
}

fn hexadecimal(digits: &[u8]) -> Option<usize> {
    digits.iter().try_fold(0usize, |number, digit| Some((number << 4) | char::from(*digit).to_digit(16)? as usize))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_line_of_the_kernels_list_names_the_file_of_an_address() {
        let line = b"7f0000001000-7f0000003000 r--s 00000000 fe:00 1234                       /data/my base.onnx";
        assert_eq!(path_if_at(line, 0x7f00_0000_2fff), Some(&b"/data/my base.onnx"[..]));
        assert_eq!(path_if_at(line, 0x7f00_0000_3000), None, "behind it");
        assert_eq!(path_if_at(line, 0x7f00_0000_0fff), None, "before it");
        let code = b"7f0000001000-7f0000003000 r-xp 00000000 fe:00 1234 /usr/lib/libc.so.6";
        assert_eq!(path_if_at(code, 0x7f00_0000_1000), None, "a program's code is no data");
        assert_eq!(path_if_at(b"7f0000001000-7f0000003000 rw-p 00000000 00:00 0 [heap]", 0x7f00_0000_1000), None);
        assert_eq!(path_if_at(b"nonsense", 0), None);
    }

    #[test]
    fn a_map_finds_itself_among_all_maps_and_gives_pages_back_unchanged() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let written: Vec<u8> = (0..40_000u32).map(|number| number as u8).collect();
        file.write_all(&written).unwrap();
        let open = Arc::new(File::open(file.path()).unwrap());
        let bytes = map(&open, 40_000).unwrap();
        assert_eq!(bytes, written);
        let path = file_at(bytes[20_000..].as_ptr().addr(), &mut [0; 8192]).map(<[u8]>::to_vec);
        assert_eq!(path.unwrap(), file.path().as_os_str().as_encoded_bytes());
        forget_pages(&bytes[5_000..30_000]);
        assert_eq!(bytes, written);
        let own = written.clone();
        forget_pages(&own);
        assert_eq!(own, written, "what is no map is left alone");
        assert_eq!(map(&open, 40_001).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert!(map(&open, 0).unwrap().is_empty());
    }
}
