//! A sample's name: half of its content's hash, so that the same content is the same sample wherever it comes from.

use std::path::Path;

/// Bytes of a sample's name: half of a BLAKE3 hash.
const NAME_BYTES: usize = 16;

/// A sample's name as a key: its content's hash.
pub type Name = [u8; NAME_BYTES];

/// The key of a sample's file: the hash that its name writes out, or what stands for it where the file was put there by hand.
pub fn name_of(file: &Path) -> Name {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    parse(&stem).unwrap_or_else(|| name_of_content(stem.as_bytes()))
}

/// The key of a sample's content.
pub fn name_of_content(content: &[u8]) -> Name {
    blake3::hash(content).as_bytes()[..NAME_BYTES].try_into().expect("half of a hash")
}

/// A key as it is written.
pub fn text(name: &Name) -> String {
    name.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A key as it was written.
pub fn parse(text: &str) -> Option<Name> {
    let digits = text.as_bytes();
    if digits.len() != 2 * NAME_BYTES || !digits.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f')) {
        return None;
    }
    let mut name = Name::default();
    for (byte, pair) in name.iter_mut().zip(digits.as_chunks::<2>().0) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_written_and_read() {
        let name = name_of_content(b"cat");
        assert_eq!(parse(&text(&name)), Some(name));
        assert_eq!(text(&name), blake3::hash(b"cat").to_hex()[..32]);
        for wrong in ["", "0g", &"a".repeat(31), &"A".repeat(32), &"é".repeat(16)] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
