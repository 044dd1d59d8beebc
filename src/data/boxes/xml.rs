//! The part of XML that Pascal VOC is written in: elements with text, no mixed content. Attributes are passed over.

/// An element.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Element {
    pub name: String,
    /// The line that it begins in, from 1.
    pub line: u64,
    /// The text between its tags.
    pub text: String,
    pub inner: Vec<Element>,
}

/// Elements that may lie in each other, at most.
const DEPTH_MAX: usize = 32;

impl Element {
    /// The first element of a name in this one.
    pub fn get(&self, name: &str) -> Option<&Element> {
        self.inner.iter().find(|inner| inner.name == name)
    }

    /// All of a name in this one.
    pub fn all<'e>(&'e self, name: &'e str) -> impl Iterator<Item = &'e Element> {
        self.inner.iter().filter(move |inner| inner.name == name)
    }
}

/// The outermost element.
///
/// # Errors
/// The line and what is wrong there.
pub(super) fn parse(text: &str) -> Result<Element, (u64, String)> {
    let (mut line, mut rest) = (1u64, text);
    let mut open: Vec<Element> = Vec::new();
    while let Some(start) = rest.find('<') {
        let before = &rest[..start];
        if let Some(element) = open.last_mut() {
            element.text += &unescaped(before.trim());
        }
        line += lines(before);
        rest = &rest[start..];
        let passed =
            [("<?", "?>"), ("<!--", "-->"), ("<!", ">")].into_iter().find(|(begins, _)| rest.starts_with(begins));
        let closes = passed.map_or(">", |(_, closes)| closes);
        let end = rest.find(closes).ok_or_else(|| (line, "a tag without its end; the file is cut off".to_string()))?;
        let (tag, after) = rest.split_at(end + closes.len());
        let at = line;
        line += lines(tag);
        rest = after;
        if passed.is_some() {
            continue;
        }
        let inner = &tag[1..tag.len() - 1];
        let name = |tag: &str| tag.split([' ', '\t', '\r', '\n', '/']).next().unwrap_or_default().to_string();
        if let Some(closing) = inner.strip_prefix('/') {
            let closed = open.pop().filter(|element| element.name == closing.trim());
            let closed =
                closed.ok_or_else(|| (at, format!("</{}> closes nothing; correct the file", closing.trim())))?;
            match open.last_mut() {
                Some(outer) => outer.inner.push(closed),
                None => return Ok(closed),
            }
            continue;
        }
        let element = Element { name: name(inner), line: at, ..Element::default() };
        let deep = open.len() >= DEPTH_MAX;
        match (inner.ends_with('/'), open.last_mut()) {
            (true, Some(outer)) => outer.inner.push(element),
            (true, None) => return Ok(element),
            (false, _) if deep => return Err((at, "elements in elements without end".into())),
            (false, _) => open.push(element),
        }
    }
    Err((line + lines(rest), "no XML element that is closed; the file is cut off or none".into()))
}

fn lines(text: &str) -> u64 {
    text.bytes().filter(|byte| *byte == b'\n').count() as u64
}

fn unescaped(text: &str) -> String {
    let plain = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&apos;", "'"), ("&amp;", "&")];
    plain.into_iter().fold(text.to_string(), |text, (written, meant)| text.replace(written, meant))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn elements_are_read_with_their_lines() {
        let text = "<?xml version=\"1.0\"?>\n<!-- by\nhand -->\n<annotation v=\"1\">\n <name>a &amp; b</name>\n <part/>\n</annotation>\n";
        let root = parse(text).unwrap();
        assert_eq!((root.name.as_str(), root.line, root.inner.len()), ("annotation", 4, 2));
        let name = root.get("name").unwrap();
        assert_eq!((name.text.as_str(), name.line), ("a & b", 5));
        assert_eq!(root.all("part").count(), 1);
        for (text, line) in [("<a>\n<b>\n</a>", 3), ("<a>\n<b", 2), ("", 1), ("<a>\n", 2), ("</a>", 1)] {
            assert_eq!(parse(text).unwrap_err().0, line, "{text:?}");
        }
        assert!(parse(&"<a>".repeat(1000)).is_err());
    }

    proptest! {
        #[test]
        fn damage_is_an_error_and_never_a_panic(text in "[<>/!?a&; \\n-]{0,40}") {
            let _ = parse(&text);
        }
    }
}
