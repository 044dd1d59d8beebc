//! What a shared library says about itself before it is loaded: its machine, its version, the C library it wants.
//!
//! Loading runs code of the library at once, which can kill the process (a build for a newer CPU) or give an error that
//! says little (another architecture). So the file is read first: the ELF header and the dynamic string table, where
//! ONNX Runtime's symbol version `VERS_1.32.0` stands. Layouts: System V ABI, chapters 4 and 5.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

/// Larger string tables belong to no ONNX Runtime.
const STRINGS_MAX: u64 = 16 << 20;
/// More program headers or dynamic entries belong to no shared library.
const ENTRIES_MAX: u64 = 4096;

/// A version `major.minor.patch`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32, pub u32, pub u32);

impl Version {
    /// Reads `1.32.0` at the start of a text; a missing patch is 0.
    pub fn parse(text: &str) -> Option<Self> {
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let mut parts = text[..end].split('.').filter(|part| !part.is_empty());
        let mut next = || parts.next()?.parse().ok();
        Some(Self(next()?, next()?, next().unwrap_or(0)))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// A library's own words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The architecture as `std::env::consts::ARCH` names it, or ELF's number for it.
    pub arch: String,
    /// The version in the name of ONNX Runtime's symbols.
    pub version: Option<Version>,
    /// The newest GNU C library that a symbol asks for.
    pub glibc: Option<Version>,
}

/// Reads a library's header.
///
/// # Errors
/// What keeps the file from being a shared library, as words for a user.
pub fn read(path: &Path) -> Result<Header, String> {
    let mut file = File::open(path).map_err(|error| format!("cannot be opened: {error}"))?;
    let mut ident = [0u8; 20];
    file.read_exact(&mut ident).map_err(|_| "no shared library: the file is empty or cut off".to_string())?;
    if ident[..4] != *b"\x7fELF" {
        return Err("no Linux shared library (it does not start with ELF's mark)".into());
    }
    if ident[5] != 1 {
        return Err("a big-endian library; edgetune runs on little-endian machines".into());
    }
    let wide = ident[4] == 2;
    let arch = machine(u16::from_le_bytes([ident[18], ident[19]]), wide);
    let strings = Elf { file, wide }.dynamic_strings().map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => "the file is cut off; copy or install it again".to_string(),
        _ => format!("cannot be read: {error}"),
    })?;
    let newest = |prefix: &str| names(&strings).filter_map(|name| Version::parse(name.strip_prefix(prefix)?)).max();
    Ok(Header { arch, version: newest("VERS_"), glibc: newest("GLIBC_") })
}

/// Rust's name of an ELF machine number.
fn machine(number: u16, wide: bool) -> String {
    match (number, wide) {
        (3, _) => "x86".into(),
        (40, _) => "arm".into(),
        (62, true) => "x86_64".into(),
        (183, true) => "aarch64".into(),
        (243, true) => "riscv64".into(),
        (other, _) => format!("machine number {other}"),
    }
}

fn names(strings: &[u8]) -> impl Iterator<Item = &str> {
    strings.split(|byte| *byte == 0).filter_map(|name| std::str::from_utf8(name).ok())
}

struct Elf {
    file: File,
    wide: bool,
}

/// A program header: kind, where it lies in the file, where it is mapped, how many bytes of the file it has.
struct Segment {
    kind: u64,
    offset: u64,
    address: u64,
    len: u64,
}

const LOAD: u64 = 1;
const DYNAMIC: u64 = 2;
const STRING_TABLE: u64 = 5;
const STRING_TABLE_LEN: u64 = 10;

impl Elf {
    /// The dynamic string table; empty if the library has none.
    fn dynamic_strings(&mut self) -> io::Result<Vec<u8>> {
        let segments = self.segments()?;
        let Some(dynamic) = segments.iter().find(|segment| segment.kind == DYNAMIC) else { return Ok(vec![]) };
        let word: usize = if self.wide { 8 } else { 4 };
        let entries = (dynamic.len / (2 * word as u64)).min(ENTRIES_MAX);
        let bytes = self.at(dynamic.offset, entries * 2 * word as u64)?;
        let entry = |tag: u64| {
            bytes.chunks_exact(2 * word).find(|pair| number(&pair[..word]) == tag).map(|pair| number(&pair[word..]))
        };
        let (Some(address), Some(len)) = (entry(STRING_TABLE), entry(STRING_TABLE_LEN)) else { return Ok(vec![]) };
        let holds = |segment: &&Segment| {
            segment.kind == LOAD && (segment.address..segment.address.saturating_add(segment.len)).contains(&address)
        };
        let Some(segment) = segments.iter().find(holds) else { return Ok(vec![]) };
        self.at(segment.offset.saturating_add(address - segment.address), len.min(STRINGS_MAX))
    }

    fn segments(&mut self) -> io::Result<Vec<Segment>> {
        // Where the header has the table's offset, the size of an entry and their number.
        let (offset, sizes) = if self.wide { (32, 54) } else { (28, 42) };
        let table = number(&self.at(offset, if self.wide { 8 } else { 4 })?);
        let sizes = self.at(sizes, 4)?;
        let (len, count) = (number(&sizes[..2]), number(&sizes[2..]).min(ENTRIES_MAX));
        let least = if self.wide { 56 } else { 32 };
        if len < least {
            return Ok(vec![]);
        }
        let bytes = self.at(table, len * count)?;
        let segment = |header: &[u8]| {
            let field = |start: usize, len: usize| number(&header[start..start + len]);
            let kind = field(0, 4);
            match least {
                56 => Segment { kind, offset: field(8, 8), address: field(16, 8), len: field(32, 8) },
                _ => Segment { kind, offset: field(4, 4), address: field(8, 4), len: field(16, 4) },
            }
        };
        Ok(bytes.chunks_exact(len as usize).map(segment).collect())
    }

    /// `len` bytes at `offset`. They are bounded by the callers and read piecewise, so that a lying header costs nothing.
    fn at(&mut self, offset: u64, len: u64) -> io::Result<Vec<u8>> {
        self.file.seek(SeekFrom::Start(offset))?;
        let mut bytes = Vec::new();
        (&self.file).take(len).read_to_end(&mut bytes)?;
        if (bytes.len() as u64) < len { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(bytes) }
    }
}

/// A little-endian number of up to 8 bytes.
fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_names() {
        assert_eq!(Version::parse("1.32.0"), Some(Version(1, 32, 0)));
        assert_eq!(Version::parse("1.21"), Some(Version(1, 21, 0)));
        assert_eq!(Version::parse("1.24.1-rc2"), Some(Version(1, 24, 1)));
        assert_eq!(Version::parse("1"), None);
        assert_eq!(Version::parse("1.99999999999"), None);
        assert!(Version(1, 9, 0) < Version(1, 17, 0));
    }
}
