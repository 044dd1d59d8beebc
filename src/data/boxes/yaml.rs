//! The part of YAML that `data.yaml` of YOLO is written in: keys with a text, a list or a table of numbers and names.

use crate::order::Order;

/// What a key holds, with its line from 1.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Held {
    /// A text.
    Text(String),
    /// A list; of a table, its values in the order of the numbers before them.
    List(Vec<String>),
}

/// What the key holds at the outermost level; `None` where it is not there.
///
/// # Errors
/// The line and what is wrong with it.
pub(super) fn held(text: &str, key: &str) -> Result<Option<Held>, (u64, String)> {
    let mut lines = (1..).zip(text.lines());
    let Some((line, rest)) = lines.by_ref().find_map(|(line, row)| {
        let (name, rest) = row.split_once(':')?;
        (name.trim_end() == key).then(|| (line, without_comment(rest)))
    }) else {
        return Ok(None);
    };
    if rest.starts_with('[') || rest.starts_with('{') {
        let mut whole = rest.to_string();
        while !whole.ends_with([']', '}']) {
            let (_, more) = lines.next().ok_or((line, format!("`{key}` has a list without an end; close it")))?;
            whole += without_comment(more);
        }
        let inner: &str = &whole[1..whole.len() - 1];
        let values: Vec<&str> = pieces(inner).into_iter().filter(|value| !value.trim().is_empty()).collect();
        let listed = match whole.starts_with('{') {
            false => values.iter().map(|value| plain(value)).collect(),
            true => numbered(values.iter().map(|value| (line, *value)))?,
        };
        return Ok(Some(Held::List(listed)));
    }
    if !rest.is_empty() {
        return Ok(Some(Held::Text(plain(rest))));
    }
    let below: Vec<(u64, &str)> = lines
        .map(|(line, row)| (line, row, without_comment(row)))
        .filter(|(_, _, held)| !held.is_empty())
        .take_while(|(_, row, held)| row.starts_with([' ', '\t']) || held.starts_with("- "))
        .map(|(line, _, held)| (line, held))
        .collect();
    let listed = match below.iter().all(|(_, row)| row.starts_with('-')) {
        true => below.iter().map(|(_, row)| plain(row.trim_start_matches('-'))).collect(),
        false => numbered(below.into_iter())?,
    };
    Ok(Some(Held::List(listed)))
}

/// The names of a table `0: cat`, by their numbers, of which none may be missing.
fn numbered<'t>(rows: impl Iterator<Item = (u64, &'t str)>) -> Result<Vec<String>, (u64, String)> {
    let mut found = Vec::new();
    let mut last = 1;
    for (line, row) in rows {
        let pair = row.split_once(':').and_then(|(number, name)| Some((number.trim().parse::<usize>().ok()?, name)));
        let (number, name) = pair.ok_or_else(|| (line, format!("`{row}` is no number with a name, as in `0: cat`")))?;
        found.push((number, plain(name)));
        last = line;
    }
    found.order_by(Ord::cmp);
    match found.iter().enumerate().find(|(place, (number, _))| place != number) {
        None => Ok(found.into_iter().map(|(_, name)| name).collect()),
        Some((place, _)) => Err((last, format!("the names' numbers lack {place} or have it twice; count them from 0"))),
    }
}

/// The parts of a list between commas that stand in no quotes.
fn pieces(list: &str) -> Vec<&str> {
    let (mut found, mut start, mut quote) = (Vec::new(), 0, None);
    for (place, letter) in list.char_indices() {
        match (letter, quote) {
            ('\'' | '"', None) => quote = Some(letter),
            (_, Some(open)) if letter == open => quote = None,
            (',', None) => {
                found.push(&list[start..place]);
                start = place + 1;
            }
            _ => {}
        }
    }
    found.push(&list[start..]);
    found
}

fn without_comment(row: &str) -> &str {
    let row = row.trim();
    if row.starts_with('#') {
        return "";
    }
    row.find(" #").map_or(row, |place| row[..place].trim_end())
}

/// Without spaces and quotes around it.
fn plain(value: &str) -> String {
    let value = value.trim();
    let quoted = ['\'', '"'].into_iter().find_map(|quote| value.strip_prefix(quote)?.strip_suffix(quote));
    quoted.unwrap_or(value).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn names(text: &str) -> Result<Option<Held>, (u64, String)> {
        held(text, "names")
    }

    #[test]
    fn names_are_read_in_every_form_that_people_write() {
        let both = Ok(Some(Held::List(vec!["a cat".into(), "dog".into()])));
        for text in [
            "nc: 2\nnames: ['a cat', \"dog\"]\n",
            "names: [a cat, dog] # two\ntrain: x\n",
            "names: ['a cat',\n  dog\n]\n",
            "names:\n  0: a cat\n  1: dog\ntrain: x\n",
            "names:\n- a cat\n\n- 'dog'\nnc: 2\n",
            "names:\n  # them\n  - a cat\n  - dog\n",
            "names: {0: a cat, 1: dog}\n",
            "names:\n  1: dog\n  0: a cat\n",
        ] {
            assert_eq!(names(text), both, "{text}");
        }
        assert_eq!(names("nc: 2\n"), Ok(None));
        assert_eq!(names("names: ['a, b']"), Ok(Some(Held::List(vec!["a, b".into()]))));
        assert_eq!(held("train: ../train/images # there\n", "train"), Ok(Some(Held::Text("../train/images".into()))));
        assert_eq!(names("x: 1\nnames:\n  0: a\n  2: b\n").unwrap_err().0, 4);
        assert_eq!(names("names:\n  cat\n").unwrap_err().0, 2);
        assert_eq!(names("names: [a,\n b").unwrap_err().0, 1);
    }

    proptest! {
        #[test]
        fn damage_is_an_error_and_never_a_panic(text in "[names:\\[\\]{},'\"0-9 \\n#-]{0,40}") {
            let _ = held(&format!("names:{text}"), "names");
        }
    }
}
