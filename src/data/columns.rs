//! Which columns of a table hold what: those that were named, else those of usual names, which is told.
//!
//! Takes the first row, gives positions. Knows nothing of what the cells hold.

use super::records::Row;
use super::usual::TEXTS;
pub(super) use super::usual::{FILES, GROUPS, LABELS};
use super::{Error, Options};
use crate::nearest::suggestion;
use std::path::Path;

/// Names that may stand for a group, which is worth a question.
const PERHAPS_GROUPS: &[&str] = &[
    "person",
    "patient",
    "speaker",
    "recording",
    "session",
    "user",
    "user_id",
    "video",
    "video_id",
    "proband",
    "aufnahme",
];
/// The column of a second text, for the first one's: cross-encoders read both.
const SECOND_TEXTS: &[(&str, &[&str])] = &[
    ("text", &["text_pair", "text2", "pair"]),
    ("text_a", &["text_b"]),
    ("text1", &["text2"]),
    ("sentence", &["sentence_pair"]),
    ("sentence1", &["sentence2"]),
    ("sentence_a", &["sentence_b"]),
    ("question1", &["question2"]),
    ("premise", &["hypothesis"]),
    ("question", &["sentence", "context", "passage", "answer"]),
    ("query", &["passage", "document", "text"]),
    ("anchor", &["positive"]),
];
/// What is given as a group where none is wanted.
pub(super) const NO_GROUPS: &str = "none";

/// What a sample is, besides its label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    Numbers,
    Text,
    Files,
}

/// Positions of columns.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Columns {
    /// Of the text, or of the file's path; numbers have none.
    pub content: Option<usize>,
    /// Of a second text, which is read together with the first.
    pub second: Option<usize>,
    pub label: Vec<usize>,
    pub group: Option<usize>,
    /// What was not named and is taken, for a person to read.
    pub taken: Option<String>,
    /// A column that may tell groups, though nobody named it.
    pub perhaps_group: Option<String>,
}

impl Columns {
    /// Whether a column holds nothing that a model is fed with.
    pub fn sets_aside(&self, column: usize) -> bool {
        self.label.contains(&column) || self.group == Some(column)
    }
}

/// The columns of a table. Without `labelled` a table need not have any labels, and only columns that would hold them are found.
///
/// # Errors
/// A column that was named and is not there; no column for the content or the label.
pub(super) fn choose(
    row: &Row,
    path: &Path,
    content: Content,
    options: &Options,
    labelled: bool,
) -> Result<Columns, Error> {
    let table = Table { row, path };
    let mut columns = Columns { group: table.group(content, options)?, ..Columns::default() };
    let usual = |names: &[&str]| names.iter().find_map(|name| table.find(name));
    columns.label = match &options.label[..] {
        [] => usual(LABELS).into_iter().collect(),
        named if labelled => named.iter().map(|name| table.named("label", name)).collect::<Result<_, _>>()?,
        named => named.iter().filter_map(|name| table.find(name)).collect(),
    };
    let (option, names) = match content {
        Content::Numbers => (&None, &[][..]),
        Content::Text => (&options.text, TEXTS),
        Content::Files => (&options.file, FILES),
    };
    let pair = if content == Content::Text { table.pair(option.as_deref(), &columns)? } else { None };
    columns.second = pair.map(|(_, second)| second);
    columns.content = match option {
        _ if pair.is_some() => pair.map(|(first, _)| first),
        Some(name) => Some(table.named(if content == Content::Text { "text" } else { "file" }, name)?),
        None => names.iter().filter_map(|name| table.find(name)).find(|place| !columns.sets_aside(*place)),
    };
    if labelled && columns.label.is_empty() {
        // A list of pictures often has columns besides, such as a picture's size: the last is its label only where no other can be.
        columns.label.extend(match content {
            Content::Files => table.only_other(&columns),
            _ => table.last(&columns),
        });
    }
    if content == Content::Text && columns.content.is_none() {
        columns.content = table.only_other(&columns);
    }
    table.refuse_missing(content, &columns, labelled)?;
    columns.taken = table.taken(&columns, content, options);
    let perhaps = |name: &&str| {
        table.find(name).is_some_and(|place| !columns.sets_aside(place) && columns.content != Some(place))
    };
    if options.group.is_none() && columns.group.is_none() {
        let found = PERHAPS_GROUPS.iter().copied().find(perhaps).and_then(|name| table.find(name));
        columns.perhaps_group = found.map(|place| row.columns[place].clone());
    }
    Ok(columns)
}

struct Table<'a> {
    row: &'a Row<'a>,
    path: &'a Path,
}

impl Table<'_> {
    /// Whether there is a column for the content, and one for the label where there has to be.
    fn refuse_missing(&self, content: Content, columns: &Columns, labelled: bool) -> Result<(), Error> {
        match (content, columns.content) {
            (Content::Text, None) => {
                return Err(
                    self.lacks("no column `text`; name the column of texts with setting `samples.text = COLUMN`")
                );
            }
            (Content::Files, None) => {
                return Err(
                self.lacks("a table of images needs a column `file` with their paths; name it with setting `samples.file = COLUMN`")
            );
            }
            _ => {}
        }
        let own = columns.content.is_some_and(|place| columns.label.contains(&place));
        if labelled && (columns.label.is_empty() || own) {
            return Err(self.lacks(
            "no column for the label besides the others; add a column `label`, or name it with setting `samples.label = COLUMN`",
        ));
        }
        Ok(())
    }

    /// A column by its name; where no name is the same, one that differs in case alone.
    fn find(&self, name: &str) -> Option<usize> {
        let columns = self.row.columns;
        let alike = || columns.iter().position(|column| column.to_lowercase() == name.to_lowercase());
        columns.iter().position(|column| column == name).or_else(alike)
    }

    fn named(&self, what: &str, name: &str) -> Result<usize, Error> {
        let meant = || suggestion(name, self.row.columns.iter().map(String::as_str));
        self.find(name).ok_or_else(|| self.lacks(&format!("no {what} column `{name}`{}", meant())))
    }

    fn lacks(&self, problem: &str) -> Error {
        Error::line(self.path, 1, format!("{problem}; the columns are {}", self.row.columns.join(", ")))
    }

    /// In a table of files the groups may as well be told by the files' names.
    fn group(&self, content: Content, options: &Options) -> Result<Option<usize>, Error> {
        match options.group.as_deref() {
            None => Ok(GROUPS.iter().find_map(|name| self.find(name))),
            Some(NO_GROUPS) => Ok(None),
            Some(name) if self.find(name).is_some() || content == Content::Files || !options.splits => {
                Ok(self.find(name))
            }
            Some(name) => self.named("group", name).map(Some),
        }
    }

    /// Two columns of texts: named with a comma between them, or of names that belong together.
    fn pair(&self, named: Option<&str>, columns: &Columns) -> Result<Option<(usize, usize)>, Error> {
        if let Some(named) = named {
            let both = named.split_once(',').filter(|_| self.find(named).is_none());
            return both
                .map(|(first, second)| Ok((self.named("text", first.trim())?, self.named("text", second.trim())?)))
                .transpose();
        }
        let free = |name: &&str| self.find(name).filter(|place| !columns.sets_aside(*place));
        let pair = |(first, seconds): &(&str, &[&str])| {
            let first = free(first)?;
            Some((first, seconds.iter().find_map(&free).filter(|second| *second != first)?))
        };
        Ok(SECOND_TEXTS.iter().find_map(pair))
    }

    /// The last column that is nothing else.
    fn last(&self, columns: &Columns) -> Option<usize> {
        let taken = [columns.content, columns.second, columns.group];
        (0..self.row.columns.len()).rev().find(|place| !taken.contains(&Some(*place)))
    }

    /// The column that is left when the content, label and group are taken away, and what may be a group.
    fn only_other(&self, columns: &Columns) -> Option<usize> {
        let perhaps = |place: usize| PERHAPS_GROUPS.iter().any(|name| self.find(name) == Some(place));
        let is_other =
            |place: &usize| !columns.sets_aside(*place) && columns.content != Some(*place) && !perhaps(*place);
        let mut others = (0..self.row.columns.len()).filter(is_other);
        others.next().filter(|_| others.next().is_none())
    }

    /// What was found without being named, and how to name another.
    fn taken(&self, columns: &Columns, content: Content, options: &Options) -> Option<String> {
        let name = |place: Option<usize>| place.map(|place| self.row.columns[place].as_str());
        let is_text = content == Content::Text;
        let text = name(columns.content).filter(|_| is_text && options.text.is_none());
        let second = name(columns.second).filter(|_| is_text && options.text.is_none());
        let file = name(columns.content).filter(|_| content == Content::Files && options.file.is_none());
        let label = name(columns.label.first().copied()).filter(|_| options.label.is_empty());
        let group = name(columns.group).filter(|_| options.group.is_none());
        let found: Vec<(&str, &str)> = [("label", label), ("text", text), ("file", file), ("group", group)]
            .into_iter()
            .filter_map(|(what, name)| Some((what, name?)))
            .collect();
        if found.is_empty() {
            return None;
        }
        let mut said: Vec<String> = found.iter().map(|(what, name)| format!("{what}: column {name}")).collect();
        if let Some(second) = second {
            said.push(format!("read together with column {second}"));
        }
        // Of numbers all others are read, and a list of files has columns for people.
        let used = [columns.content, columns.second];
        let unread =
            (0..self.row.columns.len()).filter(|place| !columns.sets_aside(*place) && !used.contains(&Some(*place)));
        let unread: Vec<&str> = unread.map(|place| self.row.columns[place].as_str()).filter(|_| is_text).collect();
        if !unread.is_empty() {
            said.push(format!("not read: {}", unread.join(", ")));
        }
        let change: Vec<String> = found.iter().map(|(what, _)| format!("setting `samples.{what}`")).collect();
        Some(format!("{}; {} COLUMN to change", said.join(", "), change.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(columns: &[&str], content: Content, options: &Options, labelled: bool) -> Result<Columns, String> {
        let columns: Vec<String> = columns.iter().map(|name| name.to_string()).collect();
        let row = Row { columns: &columns, cells: &columns, line: 2, decimal_comma: false };
        choose(&row, Path::new("t.csv"), content, options, labelled).map_err(|error| error.to_string())
    }

    #[test]
    fn usual_names_are_found_and_told() {
        let plain = Options { splits: true, ..Options::default() };
        let text = chosen(&["id", "Nachricht", "Kategorie"], Content::Text, &plain, true).unwrap();
        assert_eq!((text.content, text.label, text.group), (Some(1), vec![2], None));
        let told = "label: column Kategorie, text: column Nachricht, not read: id; setting `samples.label`, setting `samples.text` COLUMN to change";
        assert_eq!(text.taken.as_deref(), Some(told));
        let other = chosen(&["phrase", "stars"], Content::Text, &plain, true).unwrap();
        assert_eq!((other.content, other.label), (Some(0), vec![1]));
        let numbers = chosen(&["subject", "a", "b", "class", "c"], Content::Numbers, &plain, true).unwrap();
        assert_eq!((numbers.label, numbers.group), (vec![3], Some(0)));
        let files = chosen(&["Bild", "person", "art"], Content::Files, &plain, true).unwrap();
        assert_eq!((files.content, files.label, files.perhaps_group.as_deref()), (Some(0), vec![2], Some("person")));
        let message = chosen(&["file", "width", "height"], Content::Files, &plain, true).unwrap_err();
        assert!(message.contains("no column for the label") && message.contains("file, width, height"), "{message}");
        let unlabelled = chosen(&["a", "b"], Content::Numbers, &plain, false).unwrap();
        assert_eq!((unlabelled.label, unlabelled.taken), (vec![], None));
    }

    #[test]
    fn two_texts_that_belong_together_are_both_read() {
        let plain = Options::default();
        for (columns, first, second, label) in [
            (&["text", "text_pair", "label"][..], 0, Some(1), 2),
            (&["sentence1", "sentence2", "score"], 0, Some(1), 2),
            (&["id", "premise", "Hypothesis", "label"], 1, Some(2), 3),
            (&["question", "context", "answer_id"], 0, Some(1), 2),
            (&["question", "label", "author"], 0, None, 1),
        ] {
            let found = chosen(columns, Content::Text, &plain, true).unwrap();
            assert_eq!((found.content, found.second, found.label), (Some(first), second, vec![label]), "{columns:?}");
        }
        let told =
            chosen(&["text", "text_pair", "label", "title"], Content::Text, &plain, true).unwrap().taken.unwrap();
        assert!(told.contains("read together with column text_pair") && told.contains("not read: title"), "{told}");
        let named = |text: &str| Options { text: Some(text.into()), ..Options::default() };
        let both = chosen(&["a", "b", "label"], Content::Text, &named("b, a"), true).unwrap();
        assert_eq!((both.content, both.second), (Some(1), Some(0)));
        let one = chosen(&["text", "text_pair", "label"], Content::Text, &named("text"), true).unwrap();
        assert_eq!((one.content, one.second), (Some(0), None), "who names one column wants one");
        assert!(
            chosen(&["a", "b", "label"], Content::Text, &named("a,c"), true)
                .unwrap_err()
                .contains("no text column `c`")
        );
    }

    #[test]
    fn named_columns_win_and_missing_ones_are_refused_with_what_there_is() {
        let named = Options {
            label: vec!["stars".into()],
            text: Some("Body".into()),
            group: Some("author".into()),
            splits: true,
            ..Options::default()
        };
        let columns = ["text", "label", "body", "stars", "author"];
        let found = chosen(&columns, Content::Text, &named, true).unwrap();
        assert_eq!((found.content, &found.label[..], found.group, found.taken), (Some(2), &[3][..], Some(4), None));
        let message = chosen(&columns[..4], Content::Text, &named, true).unwrap_err();
        assert_eq!(message, "t.csv:1: no group column `author`; the columns are text, label, body, stars");
        let slip = Options { label: vec!["starz".into()], ..Options::default() };
        let message = chosen(&columns, Content::Text, &slip, true).unwrap_err();
        assert!(message.contains("no label column `starz`; did you mean `stars`?; the columns are"), "{message}");
        let measured = Options { splits: false, ..named };
        assert_eq!(chosen(&columns[..4], Content::Text, &measured, true).unwrap().group, None);
        let none = Options { group: Some("none".into()), ..Options::default() };
        assert_eq!(chosen(&["subject", "label"], Content::Numbers, &none, true).unwrap().group, None);
    }
}
