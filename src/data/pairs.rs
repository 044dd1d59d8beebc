//! Pairs and triplets in a table: which of its texts or files are alike, and how much.
//!
//! Takes CSV or JSONL with the columns `query` and `passage`, `sentence1` and `sentence2` (with a `score`, where there is one), or
//! `anchor`, `positive` and `negative`; gives a sample for each of a row's cells. Never runs a model.

use super::folder::{Files, Kind};
use super::groups::Groups;
use super::labels::{Labels, finite};
use super::members::{Member, Role};
use super::names::Names;
use super::records::{self, Format, Row};
use super::table::{self, Told, named_file};
use super::text::{self, Encoded, Texts, Tokens};
use super::{Dataset, Error, Options, Preprocessing, ReadingReport, Samples, Target, kinds};
use std::collections::HashMap;
use std::path::Path;

/// Usual names of columns, in the order in which they are tried.
const ANCHORS: [&str; 7] = ["anchor", "query", "question", "sentence1", "text1", "file1", "image1"];
const POSITIVES: [&str; 7] = ["positive", "passage", "answer", "sentence2", "text2", "file2", "image2"];
const NEGATIVES: [&str; 1] = ["negative"];
const SCORES: [&str; 3] = ["score", "similarity", "similarity_score"];

/// Where a row's cells are.
#[derive(Clone, Copy)]
struct Columns {
    anchor: usize,
    positive: usize,
    negative: Option<usize>,
    score: Option<usize>,
}

impl Columns {
    /// Finds the columns of pairs in a table's header; `None` where it holds none.
    fn find(header: &[String]) -> Option<Self> {
        let place = |names: &[&str]| names.iter().find_map(|name| header.iter().position(|column| is(column, name)));
        let (anchor, positive) = (place(&ANCHORS)?, place(&POSITIVES)?);
        Some(Self { anchor, positive, negative: place(&NEGATIVES), score: place(&SCORES) })
    }
}

fn is(column: &str, name: &str) -> bool {
    column.trim().eq_ignore_ascii_case(name)
}

/// What pairs say of their likeness.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pairs {
    /// That they are alike.
    Alike,
    /// How much.
    Scored,
}

/// Whether the data are a table of pairs or triplets, by the names of its columns.
pub fn holds_pairs(path: &Path) -> Option<Pairs> {
    let file = table::resolve(path, false).ok()??;
    let columns = Columns::find(&table::header(&file).ok()?)?;
    Some(if columns.score.is_some() && columns.negative.is_none() { Pairs::Scored } else { Pairs::Alike })
}

/// Rows as they were read so far.
struct Reading<'a> {
    path: &'a Path,
    columns: Option<Columns>,
    members: Vec<Member>,
    lines: Vec<u32>,
    /// What each text or file is called, and which stand for the same.
    known: HashMap<String, u32>,
    leads_to: Vec<u32>,
    report: ReadingReport,
}

impl<'a> Reading<'a> {
    fn new(path: &'a Path) -> Self {
        let (members, lines, leads_to) = (Vec::new(), Vec::new(), Vec::new());
        Self { path, columns: None, members, lines, known: HashMap::new(), leads_to, report: ReadingReport::default() }
    }

    /// A row's cells with what each is; `None` for a row that is left out.
    fn row<'r>(&mut self, row: &Row<'r>) -> Result<Option<Vec<(&'r str, Role)>>, Error> {
        let columns = match self.columns {
            Some(columns) => columns,
            None => *self.columns.insert(Columns::find(row.columns).ok_or_else(|| {
                Error::content(
                    self.path,
                    "no columns `query` and `passage`, `sentence1` and `sentence2`, or `anchor` and `positive`",
                )
            })?),
        };
        let negative = columns.negative.map(|place| (place, Role::Negative));
        let places = [(columns.anchor, Role::Anchor), (columns.positive, Role::Positive)].into_iter().chain(negative);
        let cells: Vec<(&str, Role)> = places.clone().map(|(place, role)| (row.cells[place].trim(), role)).collect();
        if let Some(((place, _), _)) = places.zip(&cells).find(|(_, (cell, _))| cell.is_empty()) {
            let reason = format!("column `{}` is empty; fill it in or remove the row", row.columns[place]);
            self.report.skipped.push((format!("{}:{}", self.path.display(), row.line).into(), reason));
            return Ok(None);
        }
        let score = match columns.score.filter(|_| columns.negative.is_none()) {
            None => 1.0,
            Some(place) => score(&row.cells[place]).map_err(|problem| Error::line(self.path, row.line, problem))?,
        };
        let group = (self.members.len() / cells.len()) as u32;
        let identities: Vec<u32> = cells.iter().map(|(cell, _)| self.identity(cell)).collect();
        self.unite(identities[0], identities[1]);
        for ((_, role), identity) in cells.iter().zip(identities) {
            self.members.push(Member { identity, group, role: *role, score });
            self.lines.push(u32::try_from(row.line).unwrap_or(u32::MAX));
        }
        Ok(Some(cells))
    }

    fn identity(&mut self, cell: &str) -> u32 {
        if let Some(known) = self.known.get(cell) {
            return *known;
        }
        let new = self.leads_to.len() as u32;
        self.known.insert(cell.into(), new);
        self.leads_to.push(new);
        new
    }

    fn root(&self, mut identity: u32) -> u32 {
        while self.leads_to[identity as usize] != identity {
            identity = self.leads_to[identity as usize];
        }
        identity
    }

    /// What is like the same is alike: the passage of two queries is no negative of either.
    fn unite(&mut self, one: u32, other: u32) {
        let (one, other) = (self.root(one), self.root(other));
        self.leads_to[one.max(other) as usize] = one.min(other);
    }

    /// The labels. A row stays on one side of a split, with those that share a text with it.
    fn finish(mut self, options: &Options) -> Result<Told, Error> {
        if self.members.is_empty() {
            let (row, reason) = self.report.skipped.swap_remove(0);
            return Err(Error::content(row, reason));
        }
        let scored = self.columns.is_some_and(|columns| columns.score.is_some() && columns.negative.is_none());
        let mut groups = Groups::new(if scored { "pair" } else { "identity" }.into());
        let mut of_row = 0;
        for place in 0..self.members.len() {
            let root = self.root(self.members[place].identity);
            let member = &mut self.members[place];
            // Scored pairs need not be alike.
            member.identity = if scored { member.group } else { root };
            of_row = if member.role == Role::Anchor { member.identity } else { of_row };
            groups.push(&of_row.to_string());
        }
        let labels = Labels::Identities { names: Vec::new(), members: self.members, scored };
        let names = Names::Lines { file: self.path.into(), lines: self.lines };
        Ok(Told { labels, names, groups: options.splits.then_some(groups), report: self.report })
    }
}

/// A likeness between −1 and 1.
fn score(cell: &str) -> Result<f32, String> {
    match finite(cell) {
        Some(score) if (-1.0..=1.0).contains(&score) => Ok(score),
        Some(score) => Err(format!(
            "score {score} is outside of −1 to 1, which a cosine can be; divide all scores by the highest that there can be (5 for STS)"
        )),
        None => Err(format!("score `{}` is no number; fill it in or remove the row", cell.trim())),
    }
}

impl Dataset {
    /// Pairs or triplets of a table, else an identity for each class.
    pub(super) fn open_identities(path: &Path, options: &Options) -> Result<(Self, ReadingReport), Error> {
        if holds_pairs(path).is_none() {
            let classes = Options { target: Target::Classes, ..options.clone() };
            let (dataset, report) = Self::opened(path, &classes)?;
            let (labels, groups) = identities(dataset.labels).map_err(|problem| Error::content(path, problem))?;
            return Ok((Self { labels, groups: Some(groups), ..dataset }, report));
        }
        let table = table::resolve(path, false)?.unwrap_or_else(|| path.into());
        let Some(format) = records::format(&table) else {
            return Err(Error::content(path, kinds::no_table(path, true)));
        };
        if let Preprocessing::Text { max_length, .. } = options.preprocessing {
            let (tokens, Told { labels, names, groups, report }) = texts(&table, format, max_length, options)?;
            let keys = tokens.keys();
            return Ok((Self { samples: Samples::Tokens(tokens), labels, keys, names, groups }, report));
        }
        let (files, told) = files(&table, format, &mut kinds::kind_of_rows(&table, options)?, options)?;
        let dataset = Self::of_files(&table, files, told.labels, options)?;
        Ok((Self { groups: told.groups, ..dataset }, told.report))
    }
}

/// Reads and tokenises pairs or triplets of texts.
///
/// # Errors
/// No tokenizer; no such columns; a score that is no cosine.
pub(super) fn texts(path: &Path, format: Format, max_length: u32, options: &Options) -> Result<(Tokens, Told), Error> {
    let texts = Texts::open(path, max_length, options)?;
    let mut reading = Reading::new(path);
    let mut samples: Vec<Encoded> = Vec::new();
    let notes = records::read(path, format, options.limits.table_bytes_max, &mut |row| {
        for (cell, _) in reading.row(&row)?.into_iter().flatten() {
            let encoded = text::encode(&texts.tokenizer, cell);
            samples.push(encoded.map_err(|problem| Error::line(path, row.line, problem))?);
        }
        Ok(())
    })?;
    reading.report.notes.extend(notes);
    Ok((texts.tokens(samples), reading.finish(options)?))
}

/// Reads pairs or triplets of files, which are relative to the table's folder.
///
/// # Errors
/// No such columns; a score that is no cosine; a file that cannot be used.
pub(super) fn files(path: &Path, format: Format, kind: &mut Kind, options: &Options) -> Result<(Files, Told), Error> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut reading = Reading::new(path);
    let mut files = Files::default();
    let notes = records::read(path, format, options.limits.table_bytes_max, &mut |row| {
        for (cell, _) in reading.row(&row)?.into_iter().flatten() {
            let file = named_file(folder, cell);
            let refuse = |reason| Error::line(path, row.line, format!("{}: {reason}", file.display()));
            files.push(&file, kind, &options.limits).map_err(refuse)?;
        }
        Ok(())
    })?;
    reading.report.notes.extend(notes);
    Ok((files, reading.finish(options)?))
}

/// Labels of classes, each of which is an identity, and groups that keep the samples of an identity on one side of a split.
///
/// # Errors
/// Labels that are no classes.
fn identities(labels: Labels) -> Result<(Labels, Groups), &'static str> {
    let Labels::Classes { names, index } = labels else {
        return Err("likeness is learned from a folder for each identity, or from pairs or triplets in a table");
    };
    let mut groups = Groups::new("identity".into());
    index.iter().for_each(|place| groups.push(&names[*place as usize]));
    let member = |place: u32| Member { identity: place, group: place, role: Role::Any, score: 1.0 };
    Ok((Labels::Identities { names, members: index.into_iter().map(member).collect(), scored: false }, groups))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(table: &str) -> Result<Told, String> {
        let path = Path::new("t.csv");
        let mut reading = Reading::new(path);
        let read = records::read_bytes(path, Format::Separated(b','), table.as_bytes(), &mut |row| {
            reading.row(&row).map(|_| ())
        });
        read.map_err(|error| error.to_string())?;
        reading.finish(&Options { splits: true, ..Options::default() }).map_err(|error| error.to_string())
    }

    fn members(told: &Told) -> &[Member] {
        let Labels::Identities { members, .. } = &told.labels else { panic!() };
        members
    }

    #[test]
    fn what_is_like_the_same_is_alike_and_stays_together() {
        let told = read("query,passage\na,p\nb,q\nc,p\n").unwrap();
        let identities: Vec<u32> = members(&told).iter().map(|member| member.identity).collect();
        assert_eq!(identities[0], identities[1]);
        assert_eq!(identities[4..], identities[..2]);
        assert_ne!(identities[0], identities[2]);
        assert_eq!(members(&told).iter().map(|member| member.group).collect::<Vec<_>>(), [0, 0, 1, 1, 2, 2]);
        assert_eq!(told.groups.unwrap().count(), 2);
    }

    #[test]
    fn a_negative_is_like_nobody_and_stays_with_its_row() {
        let told = read("anchor,positive,negative\na,b,c\nd,e,b\n").unwrap();
        let members = members(&told);
        assert_ne!(members[2].identity, members[0].identity);
        assert_eq!(members[5].identity, members[0].identity, "it is the first row's positive");
        assert_eq!(told.groups.unwrap().count_of(&[3, 4, 5]), 1);
    }

    #[test]
    fn scores_are_cosines_and_bad_rows_are_named() {
        let told = read("sentence1,sentence2,score\na,b,0.5\na,c,-1\n").unwrap();
        assert_eq!(members(&told).iter().map(|member| member.score).collect::<Vec<_>>(), [0.5, 0.5, -1.0, -1.0]);
        let refused = read("sentence1,sentence2,score\na,b,4.2\n").err().unwrap();
        assert!(refused.starts_with("t.csv:2:") && refused.contains("outside of −1 to 1"), "{refused}");
        assert!(read("sentence1,sentence2,score\na,b,x\n").err().unwrap().contains("`x` is no number"));
        assert!(read("sentence1,sentence2,score\na,b,NaN\n").err().unwrap().contains("no number"));
        let told = read("query,passage\na,\nb,c\n").unwrap();
        assert_eq!(told.report.skipped.len(), 1);
        assert!(
            told.report.skipped[0].0.ends_with("t.csv:2") && told.report.skipped[0].1.contains("`passage` is empty")
        );
        assert!(read("query,passage\na,\n").err().unwrap().contains("is empty"));
        assert!(read("x,y\n1,2\n").err().unwrap().contains("no columns"));
    }
}
