//! Rust source as tokens, as far as `tidy` needs it: comments and strings apart from code, test code left out, and
//! every path (`a::b`, `use a::{b, c::d}`) spelled out from the crate root. It knows no types and expands no macro.

/// A piece of code with the line it stands on, counted from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Where it stands.
    pub line: usize,
    /// What it is.
    pub kind: Kind,
}

/// The kinds of token that are told apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// An identifier, keyword or number.
    Word(String),
    /// The contents of a string literal, escapes as written.
    Text(String),
    /// `::`
    Joint,
    /// Any other single character.
    Mark(char),
}

impl Token {
    /// The identifier or keyword, if it is one.
    pub fn word(&self) -> Option<&str> {
        match &self.kind {
            Kind::Word(word) => Some(word),
            _ => None,
        }
    }

    /// The string literal's contents, if it is one.
    pub fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Whether it is this single character.
    pub fn is(&self, mark: char) -> bool {
        self.kind == Kind::Mark(mark)
    }

    fn is_joint(&self) -> bool {
        self.kind == Kind::Joint
    }
}

/// Splits a file into code and its comments, each comment with its first line.
pub fn lex(source: &str) -> (Vec<Token>, Vec<(usize, String)>) {
    let chars: Vec<char> = source.chars().collect();
    let at = |index: usize| chars.get(index).copied().unwrap_or('\0');
    let (mut tokens, mut comments) = (Vec::new(), Vec::new());
    let (mut i, mut line) = (0, 1);
    while i < chars.len() {
        let start = i;
        let c = chars[i];
        let kind = if c == '/' && (at(i + 1) == '/' || at(i + 1) == '*') {
            i = comment_end(&chars, i);
            comments.push((line, chars[start..i].iter().collect()));
            None
        } else if let Some(open) = string_start(&chars, i) {
            let (from, to, end) = string_span(&chars, open);
            i = end;
            Some(Kind::Text(chars[from..to].iter().collect()))
        } else if c == '\'' {
            // 'a' and '\n' are characters; 'a without a closing quote is a lifetime.
            i = if at(i + 1) == '\\' {
                (i + 3..chars.len()).find(|&k| chars[k] == '\'').unwrap_or(chars.len()) + 1
            } else if at(i + 2) == '\'' {
                i + 3
            } else {
                word_end(&chars, i + 1)
            };
            None
        } else if c.is_alphanumeric() || c == '_' {
            i = word_end(&chars, i);
            if at(i) == '#' && i - start == 1 && c == 'r' {
                i = word_end(&chars, i + 1);
            }
            Some(Kind::Word(chars[start..i].iter().collect()))
        } else if c == ':' && at(i + 1) == ':' {
            i += 2;
            Some(Kind::Joint)
        } else {
            i += 1;
            (!c.is_whitespace()).then_some(Kind::Mark(c))
        };
        tokens.extend(kind.map(|kind| Token { line, kind }));
        i = i.min(chars.len());
        line += chars[start..i].iter().filter(|&&c| c == '\n').count();
    }
    (tokens, comments)
}

fn word_end(chars: &[char], from: usize) -> usize {
    (from..chars.len()).find(|&k| !chars[k].is_alphanumeric() && chars[k] != '_').unwrap_or(chars.len())
}

/// The end of the comment that starts at `from`; block comments nest.
fn comment_end(chars: &[char], from: usize) -> usize {
    if chars[from + 1] == '/' {
        return (from..chars.len()).find(|&k| chars[k] == '\n').unwrap_or(chars.len());
    }
    let (mut depth, mut k) = (1, from + 2);
    while k < chars.len() && depth > 0 {
        match (chars[k], chars.get(k + 1)) {
            ('/', Some('*')) => (depth, k) = (depth + 1, k + 2),
            ('*', Some('/')) => (depth, k) = (depth - 1, k + 2),
            _ => k += 1,
        }
    }
    k
}

/// The position of the quote or first `#` after the prefix (`r`, `b`, `br`, `c`, `cr`), if a string starts here.
fn string_start(chars: &[char], from: usize) -> Option<usize> {
    let prefix = chars[from..].iter().take_while(|c| "rbc".contains(**c)).take(2).count();
    let open = from + prefix;
    let hashes = chars[open..].iter().take_while(|c| **c == '#').count();
    let raw = prefix > 0 && chars[open - 1] == 'r';
    (chars.get(open + hashes) == Some(&'"') && (hashes == 0 || raw)).then_some(open)
}

/// First character of the contents, one past the last, and one past the whole literal.
fn string_span(chars: &[char], open: usize) -> (usize, usize, usize) {
    let raw = open > 0 && chars[open - 1] == 'r';
    let hashes = chars[open..].iter().take_while(|c| **c == '#').count();
    let from = open + hashes + 1;
    let mut k = from;
    while k < chars.len() {
        match chars[k] {
            '\\' if !raw => k += 2,
            '"' if chars[k + 1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes => {
                return (from, k, k + 1 + hashes);
            }
            _ => k += 1,
        }
    }
    (from, chars.len(), chars.len())
}

/// The code without the items under `#[cfg(test)]`.
pub fn without_tests(tokens: &[Token]) -> Vec<Token> {
    let mut kept = Vec::new();
    let mut i = 0;
    while i < tokens.len() {
        if is_test_attribute(&tokens[i..]) {
            i = item_end(tokens, i + TEST_ATTRIBUTE.len());
        } else {
            kept.push(tokens[i].clone());
            i += 1;
        }
    }
    kept
}

const TEST_ATTRIBUTE: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];

fn is_test_attribute(tokens: &[Token]) -> bool {
    tokens.len() >= TEST_ATTRIBUTE.len()
        && TEST_ATTRIBUTE.iter().zip(tokens).all(|(expected, token)| match &token.kind {
            Kind::Word(word) => word == expected,
            Kind::Mark(mark) => expected.chars().eq([*mark]),
            _ => false,
        })
}

/// One past the `;` or the closing brace of the item that starts at `from`.
fn item_end(tokens: &[Token], from: usize) -> usize {
    let mut depth = 0usize;
    for (index, token) in tokens.iter().enumerate().skip(from) {
        if token.is('{') {
            depth += 1;
        } else if token.is('}') {
            depth = depth.saturating_sub(1);
            if depth == 0 {
                return index + 1;
            }
        } else if token.is(';') && depth == 0 {
            return index + 1;
        }
    }
    tokens.len()
}

/// A path as written, with groups expanded: `use a::{b, c::*}` gives `a::b` and `a::c::*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path {
    /// Where it starts.
    pub line: usize,
    /// Its segments.
    pub segments: Vec<String>,
}

/// Every path of two or more segments, and every path that a `use` names.
pub fn paths(tokens: &[Token]) -> Vec<Path> {
    let mut found = Vec::new();
    for (index, token) in tokens.iter().enumerate() {
        let before = index.checked_sub(1).map(|k| &tokens[k]);
        let used = before.and_then(Token::word).is_some_and(|word| word == "use");
        let absolute = before.is_some_and(Token::is_joint)
            && index
                .checked_sub(2)
                .is_none_or(|k| tokens[k].word() == Some("use") || "({,<&=;".chars().any(|c| tokens[k].is(c)));
        let continues = before.is_some_and(Token::is_joint) && !absolute;
        let joined = tokens.get(index + 1).is_some_and(Token::is_joint);
        let grouped = used && token.is('{');
        if grouped || (token.word().is_some() && !continues && (joined || used || absolute)) {
            expand(tokens, index, Vec::new(), &mut found);
        }
    }
    found
}

/// Adds the paths of the (part of a) use tree at `index` to `found`; gives the index after it.
fn expand(tokens: &[Token], index: usize, mut prefix: Vec<String>, found: &mut Vec<Path>) -> usize {
    let line = tokens[index].line;
    let mut i = index;
    while let Some(token) = tokens.get(i) {
        if let Some(word) = token.word() {
            prefix.push(word.to_owned());
            i += 1;
            match tokens.get(i) {
                Some(joint) if joint.is_joint() => i += 1,
                _ => break,
            }
        } else if token.is('*') && !prefix.is_empty() {
            prefix.push("*".into());
            i += 1;
            break;
        } else if token.is('{') {
            i += 1;
            while i < tokens.len() && !tokens[i].is('}') {
                // A separator, `as name`, or an item of the group.
                let item = tokens[i].word().is_some_and(|word| word != "as") || tokens[i].is('{') || tokens[i].is('*');
                i = match tokens[i].word() {
                    Some("as") => i + 2,
                    _ if item => expand(tokens, i, prefix.clone(), found),
                    _ => i + 1,
                };
            }
            return i + 1;
        } else {
            break;
        }
    }
    found.push(Path { line, segments: prefix });
    i.max(index + 1)
}
