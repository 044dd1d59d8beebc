//! Entities in a sequence of tags: IOB1, IOB2, IOE, IOBES and plain classes alike, as seqeval finds them.
//!
//! The rules are those of `get_entities` in seqeval 1.2.2 (Nakayama 2018), which follow conlleval.pl of the CoNLL-2000 shared task.
//! A plain class such as `PER` is an entity of that name as long as it goes on.

/// An entity: its type, its first word and its last one.
pub type Entity<'t> = (&'t str, usize, usize);

/// What stands for no entity: `O`.
pub const OUTSIDE: &str = "O";

/// A tag's letter and its type.
fn parts(tag: &str) -> (char, &str) {
    let letter = tag.chars().next().unwrap_or('O');
    let rest = &tag[letter.len_utf8().min(tag.len())..];
    let kind = match letter {
        'B' | 'I' | 'E' | 'S' | 'O' if rest.is_empty() || rest.starts_with('-') => {
            rest.strip_prefix('-').unwrap_or(rest)
        }
        // seqeval takes the first letter off what is no tag, whatever it is; the whole name tells a plain class.
        _ => return ('I', tag),
    };
    (letter, if kind.is_empty() { "_" } else { kind })
}

fn starts((before, kind_before): (char, &str), (tag, kind): (char, &str)) -> bool {
    let after_an_end = matches!(before, 'E' | 'S' | 'O') && matches!(tag, 'E' | 'I');
    matches!(tag, 'B' | 'S') || after_an_end || (tag != 'O' && kind_before != kind)
}

fn ends((before, kind_before): (char, &str), (tag, kind): (char, &str)) -> bool {
    let broken = matches!(before, 'B' | 'I') && matches!(tag, 'B' | 'S' | 'O');
    matches!(before, 'E' | 'S') || broken || (before != 'O' && kind_before != kind)
}

/// The entities of a sequence, in their order.
pub fn entities<'t>(tags: &[&'t str]) -> Vec<Entity<'t>> {
    let (mut before, mut first, mut found) = (('O', ""), 0, Vec::new());
    for (place, tag) in tags.iter().copied().chain([OUTSIDE]).enumerate() {
        let now = parts(tag);
        if ends(before, now) {
            found.push((before.1, first, place - 1));
        }
        if starts(before, now) {
            first = place;
        }
        before = now;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemes_and_plain_classes_give_their_entities() {
        for (tags, expected) in [
            (&["B-PER", "I-PER", "O", "B-LOC"][..], &[("PER", 0, 1), ("LOC", 3, 3)][..]),
            (&["I-PER", "I-PER", "I-LOC", "O"], &[("PER", 0, 1), ("LOC", 2, 2)]),
            (&["B-PER", "B-PER", "O"], &[("PER", 0, 0), ("PER", 1, 1)]),
            (&["S-PER", "B-ORG", "E-ORG"], &[("PER", 0, 0), ("ORG", 1, 2)]),
            (&["PER", "PER", "O", "ORG", "LOC"], &[("PER", 0, 1), ("ORG", 3, 3), ("LOC", 4, 4)]),
            (&["B", "I", "O"], &[("_", 0, 1)]),
            (&["O", "O"], &[]),
            (&[], &[]),
        ] {
            assert_eq!(entities(tags), expected, "{tags:?}");
        }
    }
}
