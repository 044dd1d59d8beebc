//! A text file's bytes → text: UTF-8, UTF-16 and Windows-1252 (Latin-1), told apart as spreadsheets write them.

use std::borrow::Cow;

/// What the bytes 0x80 to 0x9f mean in Windows-1252; everything else is as in Latin-1.
const WINDOWS_1252: [char; 32] = [
    '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž', '\u{8f}', '\u{90}', '‘', '’',
    '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}', 'ž', 'Ÿ',
];

/// The text, and what it was read as where that is not UTF-8.
///
/// # Errors
/// Why the bytes are no text, with what to do about it.
pub(super) fn decode(bytes: &[u8]) -> Result<(Cow<'_, str>, Option<&'static str>), String> {
    if bytes.starts_with(b"PK\x03\x04") || bytes.starts_with(b"\xd0\xcf\x11\xe0") {
        return Err(
            "an Excel workbook or another archive, not a text file; save it as CSV (in Excel: Save As, CSV UTF-8)"
                .into(),
        );
    }
    if let Some(units) = utf_16(bytes) {
        let text = char::decode_utf16(units).collect::<Result<String, _>>();
        return Ok((text.map_err(|_| "damaged UTF-16; save the file as UTF-8")?.into(), Some("UTF-16")));
    }
    let plain = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let zero = |text: &[u8]| text.contains(&0);
    match std::str::from_utf8(plain) {
        _ if zero(plain) => Err("no text: it holds zero bytes; save the file as UTF-8".into()),
        Ok(text) => Ok((text.into(), None)),
        Err(_) => Ok((
            plain.iter().map(|byte| windows_1252(*byte)).collect::<String>().into(),
            Some("Windows-1252 (Latin-1)"),
        )),
    }
}

/// The text of a file that is one sample: UTF-8, without the white space around it.
///
/// # Errors
/// Why nothing can be learned from it: it is no UTF-8, empty, or holds a zero byte.
pub(super) fn utf8(bytes: &[u8]) -> Result<&str, String> {
    let text = std::str::from_utf8(bytes).map_err(|error| format!("no text as UTF-8 ({error})"))?.trim();
    // So ends what was meant for a C program, and begins what is no text at all.
    if text.is_empty() || text.contains('\0') {
        return Err("no text in it".into());
    }
    Ok(text)
}

fn windows_1252(byte: u8) -> char {
    match byte {
        0x80..=0x9f => WINDOWS_1252[usize::from(byte - 0x80)],
        _ => char::from(byte),
    }
}

/// Units of UTF-16, by the mark at the beginning or by the zero byte beside a first letter of ASCII.
fn utf_16(bytes: &[u8]) -> Option<impl Iterator<Item = u16>> {
    let (little_endian, rest) = match bytes {
        [0xff, 0xfe, rest @ ..] => (true, rest),
        [0xfe, 0xff, rest @ ..] => (false, rest),
        [1..=0x7f, 0, 1..=0xff, 0, ..] => (true, bytes),
        [0, 1..=0x7f, 0, 1..=0xff, ..] => (false, bytes),
        _ => return None,
    };
    let rest = rest.to_vec();
    Some((0..rest.len().div_ceil(2)).map(move |unit| {
        // Half a unit at the end is no letter.
        let pair = [rest[2 * unit], rest.get(2 * unit + 1).copied().unwrap_or(0xd8)];
        if little_endian { u16::from_le_bytes(pair) } else { u16::from_be_bytes(pair) }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_encoding_gives_the_same_text() {
        let text = "Größe;ja\nnein – 5 €;x\n";
        let units = |order: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(order).collect::<Vec<u8>>();
        let cases = [
            (text.as_bytes().to_vec(), None),
            ([b"\xef\xbb\xbf", text.as_bytes()].concat(), None),
            ([b"\xff\xfe".to_vec(), units(u16::to_le_bytes)].concat(), Some("UTF-16")),
            ([b"\xfe\xff".to_vec(), units(u16::to_be_bytes)].concat(), Some("UTF-16")),
            (units(u16::to_le_bytes), Some("UTF-16")),
            (b"Gr\xf6\xdfe;ja\nnein \x96 5 \x80;x\n".to_vec(), Some("Windows-1252 (Latin-1)")),
        ];
        for (bytes, told) in cases {
            assert_eq!(decode(&bytes).unwrap(), (text.into(), told));
        }
    }

    #[test]
    fn what_is_no_text_is_refused() {
        assert!(decode(b"PK\x03\x04....").unwrap_err().contains("Save As, CSV UTF-8"));
        assert!(decode(b"a,b\n\0\0").unwrap_err().contains("zero bytes"));
        assert!(decode(b"\xff\xfea\0b").unwrap_err().contains("damaged UTF-16"));
    }
}
