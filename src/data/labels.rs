//! What the samples are: classes, sets of classes or numbers, from the text of a label column.
//!
//! Takes one string a label column and row, gives [`Labels`]. Knows no file format; the caller says where a row came from.

use super::boxes::{Grid, Picture};
use super::classes::Names;
use super::lines::{Lines, alphabet, blank_of, characters_in, steps_needed};
use super::masks::Masks;
use super::members::{Member, Role};
use super::{Error, Options};
use crate::amounts::counted;
use crate::nearest::suggestion;
use crate::order::{Order, gathered};
use ndarray::Array2;
use std::collections::{BTreeSet, HashMap};

/// What a label column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Target {
    /// One class a sample.
    #[default]
    Classes,
    /// Any number of classes a sample: `cat;indoor` or `["cat","indoor"]`; none is written `[]`.
    MultiLabel,
    /// Numbers to predict.
    Values,
    /// One class a sample, of classes in an order: the caller's, or that of numbers.
    Ordinal,
    /// A class for each word of a text.
    Tokens,
    /// A class for each pixel of a picture.
    Pixels,
    /// Boxes around objects in a photograph, each with its class.
    Boxes,
    /// The text that stands in a picture, a character at a time.
    Lines,
    /// Which samples are alike: an identity each, or pairs and triplets of them.
    Identities,
    /// Whether a sample is normal; nothing is learned from those that are not.
    Anomalies,
    /// Numbers that a loss of the user's own takes, under the names of its inputs.
    OfLoss,
    /// The text itself: each token is to be foretold from those before it.
    NextTokens,
}

/// The label of a position that does not count: padding, the prompt, a sequence's end. PyTorch's `ignore_index`.
pub const IGNORED: i64 = -100;

/// What is said of data without masks.
pub(super) const NO_MASKS: &str =
    "a class for each pixel is learned from a folder with the folders `images` and `masks`; give that";

/// What is said of data without pictures of lines.
pub(super) const NO_LINES: &str =
    "texts are read from pictures of lines; give a table of pictures with the columns `file` and `text`";

/// The labels of a data set, sample by sample.
#[derive(Debug, Clone, PartialEq)]
pub enum Labels {
    /// One class a sample.
    Classes {
        /// Class names in the order of the model's outputs.
        names: Vec<String>,
        /// For each sample, the position in `names`.
        index: Vec<u32>,
    },
    /// One class a sample, of classes in an order.
    Ordinal {
        /// Class names, the lowest first.
        names: Vec<String>,
        /// For each sample, the position in `names`.
        index: Vec<u32>,
    },
    /// Any number of classes a sample.
    MultiLabel {
        /// Class names in the order of the model's outputs.
        names: Vec<String>,
        /// `[samples, names]`, 1 where the class applies, else 0.
        rows: Array2<f32>,
    },
    /// `[samples, targets]`, numbers to predict.
    Values(Array2<f32>),
    /// `[samples, values]`: what the inputs of the user's own loss hold for a sample, one behind the other.
    OfLoss(Array2<f32>),
    /// A class for each word of a text.
    Tokens {
        /// Class names in the order of the model's outputs.
        names: Vec<String>,
        /// `[samples, sequence]`: the class at the first token of each word, elsewhere [`IGNORED`].
        rows: Array2<i64>,
    },
    /// A class for each pixel of a picture.
    Pixels {
        /// Class names in the order of the model's outputs.
        names: Vec<String>,
        /// The class of each pixel, as the model sees the picture.
        masks: Masks,
    },
    /// Boxes around objects in photographs.
    Boxes {
        /// Class names in the order of the model's scores.
        names: Vec<String>,
        /// For each sample, its size and its objects.
        pictures: Vec<Picture>,
        /// Where the model looks for them.
        grid: Grid,
    },
    /// The text that stands in a picture.
    Lines {
        /// The characters in the order of the model's outputs, the blank among them.
        names: Vec<String>,
        /// For each sample, its characters' positions in `names`.
        lines: Lines,
    },
    /// Which samples are alike.
    Identities {
        /// Names of the identities; empty where they have none, as in pairs.
        names: Vec<String>,
        /// What each sample is to the others.
        members: Vec<Member>,
        /// Whether pairs say how alike they are.
        scored: bool,
    },
    /// Whether each sample is none of the normal ones.
    Anomalies(Vec<bool>),
    /// `[samples, sequence]`: for each position the number of the token that follows, [`IGNORED`] where none is learned.
    NextTokens(Array2<i64>),
    /// So many samples without labels, for prediction.
    Unlabelled(usize),
}

impl Labels {
    /// The number of samples.
    pub fn len(&self) -> usize {
        match self {
            Labels::Classes { index, .. } | Labels::Ordinal { index, .. } => index.len(),
            Labels::MultiLabel { rows, .. } | Labels::Values(rows) | Labels::OfLoss(rows) => rows.nrows(),
            Labels::NextTokens(rows) | Labels::Tokens { rows, .. } => rows.nrows(),
            Labels::Pixels { masks, .. } => masks.len(),
            Labels::Boxes { pictures, .. } => pictures.len(),
            Labels::Lines { lines, .. } => lines.len(),
            Labels::Identities { members, .. } => members.len(),
            Labels::Anomalies(anomalous) => anomalous.len(),
            Labels::Unlabelled(count) => *count,
        }
    }

    /// Whether there is no sample.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Class names in the order of the model's outputs; empty for numbers.
    pub fn names(&self) -> &[String] {
        match self {
            Labels::Classes { names, .. }
            | Labels::Ordinal { names, .. }
            | Labels::Tokens { names, .. }
            | Labels::Pixels { names, .. }
            | Labels::Boxes { names, .. }
            | Labels::Lines { names, .. }
            | Labels::MultiLabel { names, .. } => names,
            // Identities are no outputs of the model.
            Labels::Values(_)
            | Labels::OfLoss(_)
            | Labels::NextTokens(_)
            | Labels::Identities { .. }
            | Labels::Anomalies(_)
            | Labels::Unlabelled(_) => &[],
        }
    }

    /// Whether a sample has a label for each of its positions, so that its output is large.
    pub fn of_positions(&self) -> bool {
        matches!(
            self,
            Labels::NextTokens(_)
                | Labels::Tokens { .. }
                | Labels::Pixels { .. }
                | Labels::Boxes { .. }
                | Labels::Lines { .. }
        )
    }

    /// Whether two samples are labelled alike.
    pub fn same(&self, one: usize, other: usize) -> bool {
        match self {
            Labels::Classes { index, .. } | Labels::Ordinal { index, .. } => index[one] == index[other],
            Labels::MultiLabel { rows, .. } | Labels::Values(rows) | Labels::OfLoss(rows) => {
                rows.row(one) == rows.row(other)
            }
            Labels::NextTokens(rows) | Labels::Tokens { rows, .. } => rows.row(one) == rows.row(other),
            Labels::Pixels { masks, .. } => masks.same(one, other),
            Labels::Anomalies(anomalous) => anomalous[one] == anomalous[other],
            Labels::Boxes { pictures, .. } => pictures[one] == pictures[other],
            Labels::Lines { lines, .. } => lines.line(one) == lines.line(other),
            // The same text may be in several pairs.
            Labels::Identities { members, .. } => {
                let (one, other) = (&members[one], &members[other]);
                one.role != Role::Any || one.identity == other.identity
            }
            Labels::Unlabelled(_) => true,
        }
    }

    /// The same labels with their classes at the places that `names` gives them, in which each is found; labels without classes stay.
    pub fn with_names(self, names: Vec<String>) -> Self {
        let found = Names::new(&names);
        let place = |name: &String| found.find(name).expect("each class has a place among the names");
        let places: Vec<usize> = self.names().iter().map(place).collect();
        drop(found);
        match self {
            Labels::Classes { index, .. } => {
                let index = index.into_iter().map(|class| places[class as usize] as u32).collect();
                Labels::Classes { names, index }
            }
            Labels::Boxes { mut pictures, grid, .. } => {
                let objects = pictures.iter_mut().flat_map(|picture| &mut picture.objects);
                objects.for_each(|object| object.class = places[object.class as usize] as u32);
                Labels::Boxes { names, pictures, grid }
            }
            Labels::Tokens { rows, .. } => {
                let place = |class: i64| usize::try_from(class).map_or(class, |class| places[class] as i64);
                Labels::Tokens { names, rows: rows.mapv(place) }
            }
            Labels::Lines { lines, .. } => Labels::Lines { names, lines: lines.renumbered(&places) },
            Labels::Pixels { masks, .. } => Labels::Pixels { names, masks: masks.renumbered(&places) },
            Labels::Ordinal { index, .. } => {
                let index = index.into_iter().map(|class| places[class as usize] as u32).collect();
                Labels::Ordinal { names, index }
            }
            Labels::MultiLabel { rows, .. } => {
                let mut placed = ndarray::Array2::<f32>::zeros((rows.nrows(), names.len()));
                for (column, place) in places.into_iter().enumerate() {
                    placed.column_mut(place).zip_mut_with(&rows.column(column), |to, from| *to = to.max(*from));
                }
                Labels::MultiLabel { names, rows: placed }
            }
            other => other,
        }
    }
}

/// What the label columns of rows hold, one behind the other.
#[derive(Debug, Default)]
pub(super) struct Cells {
    text: String,
    ends: Vec<usize>,
    columns: usize,
}

impl Cells {
    /// Appends a row; each must have as many cells.
    pub fn push<'c>(&mut self, row: impl Iterator<Item = &'c str>) {
        let before = self.ends.len();
        for cell in row {
            self.text.push_str(cell);
            self.ends.push(self.text.len());
        }
        self.columns = self.ends.len() - before;
    }

    /// The rows' cells.
    fn rows(&self) -> impl Iterator<Item = Vec<&str>> {
        let cell = |place: usize| {
            let start = place.checked_sub(1).map_or(0, |before| self.ends[before]);
            &self.text[start..self.ends[place]]
        };
        (0..self.len()).map(move |row| (row * self.columns..(row + 1) * self.columns).map(cell).collect())
    }

    fn len(&self) -> usize {
        self.ends.len() / self.columns.max(1)
    }
}

/// Labels of rows of text.
///
/// `cells` is what the label columns hold; `at(row, problem)` makes the error that names the row. `known`
/// are the classes in order, if the caller expects certain ones.
///
/// # Errors
/// An empty label, a class that is not in `known`, a number that is none, or a row with another count of numbers.
pub(super) fn read(
    cells: &Cells,
    target: Target,
    known: Option<&[String]>,
    at: &dyn Fn(usize, String) -> Error,
) -> Result<Labels, Error> {
    match target {
        Target::NextTokens => {
            Err(at(0, "only text can be learned token by token; give the model's tokenizer.json".into()))
        }
        Target::Tokens => Err(at(
            0,
            "only text has a class for each word; give the model's tokenizer.json, or tokens as arrays".into(),
        )),
        Target::Pixels => Err(at(0, NO_MASKS.into())),
        Target::Lines => Err(at(0, NO_LINES.into())),
        Target::Boxes => {
            Err(at(0, "a table has no boxes; give COCO's JSON, a YOLO folder or Pascal VOC's Annotations".into()))
        }
        Target::Values => values(cells, at).map(Labels::Values),
        Target::OfLoss => values(cells, at).map(Labels::OfLoss),
        Target::Classes | Target::Ordinal | Target::Identities | Target::Anomalies => {
            let one = |(row, cells): (usize, Vec<_>)| one_class(&cells).map_err(|problem| at(row, problem));
            let found = cells.rows().enumerate().map(one).collect::<Result<Vec<&str>, Error>>()?;
            let names = class_names(gathered(found), known);
            let find = finder(&names, at);
            let index = cells.rows().enumerate().map(|(row, cells)| find(row, one((row, cells))?));
            let index = index.collect::<Result<_, Error>>()?;
            drop(find);
            Ok(Labels::Classes { names, index })
        }
        Target::MultiLabel => {
            let several = |row, cells: &[&str]| classes(cells).map_err(|problem| at(row, problem));
            let mut found = BTreeSet::new();
            for (row, cells) in cells.rows().enumerate() {
                found.extend(several(row, &cells)?);
            }
            let names = class_names(found.iter().map(String::as_str).collect(), known);
            let find = finder(&names, at);
            let mut table = Array2::zeros((cells.len(), names.len()));
            for (row, cells) in cells.rows().enumerate() {
                for name in several(row, &cells)? {
                    table[(row, find(row, &name)? as usize)] = 1.0;
                }
            }
            drop(find);
            Ok(Labels::MultiLabel { names, rows: table })
        }
    }
}

/// Texts that stand in pictures, one a row, as the numbers of their characters: those of `options.classes`, else all that are found.
///
/// # Errors
/// A character that is not among the classes, or a text that needs more steps than the model gives.
pub(super) fn lines(cells: &Cells, options: &Options, at: &dyn Fn(usize, String) -> Error) -> Result<Labels, Error> {
    let texts = || cells.rows().map(|cells| cells.first().map_or("", |text| text.trim()));
    let names = options.classes.clone().unwrap_or_else(|| alphabet(characters_in(texts()), None));
    let known: HashMap<&str, u32> = (0..).zip(&names).map(|(place, name)| (name.as_str(), place)).collect();
    let steps = options.steps.unwrap_or(u64::MAX) as usize;
    let mut lines = Lines::new(blank_of(&names), steps, []);
    for (row, text) in texts().enumerate() {
        let place = |letter: char| known.get(letter.encode_utf8(&mut [0; 4]) as &str).copied().ok_or(letter);
        let line: Vec<u32> = text.chars().map(place).collect::<Result<_, char>>().map_err(|letter| {
            let code = u32::from(letter);
            let problem = format!(
                "the character `{letter}` (U+{code:04X}) in `{text}` is not among the model's {}; write the text with these, take it out, \
                 or let a head for the characters of the data learn with setting `head = replace`",
                names.len() - 1
            );
            at(row, problem)
        })?;
        let needed = steps_needed(&line);
        if needed > steps {
            let problem = format!(
                "`{text}` needs {needed} steps, one for each character and one between two of the same, and the model gives {steps} for a \
                 picture; make pictures wider with setting `samples.size`, divide the line, or take it out"
            );
            return Err(at(row, problem));
        }
        lines.push(&line);
    }
    drop(known);
    Ok(Labels::Lines { names, lines })
}

/// Sorted; by number where every name is a whole number, so that `10` follows `9`.
pub(super) fn class_names(found: BTreeSet<&str>, known: Option<&[String]>) -> Vec<String> {
    if let Some(known) = known {
        return known.to_vec();
    }
    let mut names: Vec<String> = found.into_iter().map(str::to_string).collect();
    if names.iter().all(|name| name.parse::<i64>().is_ok()) {
        names.order_by_key(|name| name.parse::<i64>().unwrap_or_default());
    }
    names
}

/// Gives the position of a class that a row names.
fn finder(names: &[String], at: &dyn Fn(usize, String) -> Error) -> impl Fn(usize, &str) -> Result<u32, Error> {
    let known = Names::new(names);
    move |row, name| known.find(name).map(|place| place as u32).ok_or_else(|| at(row, unknown_class(name, names)))
}

/// The sentence for a class that the model does not have.
pub(super) fn unknown_class(name: &str, known: &[String]) -> String {
    const SHOWN: usize = 12;
    let rest = if known.len() > SHOWN { ", …" } else { "" };
    let shown = known.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    let hint = suggestion(name, known.iter().map(String::as_str));
    format!(
        "class `{name}` is not among the model's {} ({shown}{rest}){hint}; rename or remove it",
        counted(known.len(), "class")
    )
}

fn one_class<'c>(cells: &[&'c str]) -> Result<&'c str, String> {
    let [cell] = cells else {
        return Err(format!("{} label columns for one class a sample; name one", cells.len()));
    };
    match cell.trim() {
        "" => Err("no label; give the row a class or remove it".into()),
        name if name.starts_with('[') => Err("a list of classes; choose a multi-label loss or give one class".into()),
        name => Ok(name),
    }
}

fn classes(cells: &[&str]) -> Result<Vec<String>, String> {
    let [cell] = cells else {
        return Err(format!("{} label columns for sets of classes; name one", cells.len()));
    };
    let cell = cell.trim();
    if cell.is_empty() {
        return Err("no label; write `[]` if no class applies, or remove the row".into());
    }
    let names: Vec<String> = if cell.starts_with('[') {
        serde_json::from_str(cell).map_err(|_| format!("label `{cell}` is no JSON list of strings"))?
    } else {
        cell.split(';').map(|name| name.trim().to_string()).collect()
    };
    if names.iter().any(|name| name.trim().is_empty()) {
        return Err(format!("label `{cell}` has an empty class name"));
    }
    Ok(names)
}

fn values(cells: &Cells, at: &dyn Fn(usize, String) -> Error) -> Result<Array2<f32>, Error> {
    let mut table = Vec::new();
    let mut width = None;
    for (row, cells) in cells.rows().enumerate() {
        let numbers = numbers(&cells).map_err(|problem| at(row, problem))?;
        let expected = *width.get_or_insert(numbers.len());
        if numbers.len() != expected || expected == 0 {
            return Err(at(row, format!("{} target values where {} are expected", numbers.len(), expected.max(1))));
        }
        table.extend(numbers);
    }
    let shape = (cells.len(), width.unwrap_or(0));
    Ok(Array2::from_shape_vec(shape, table).expect("each row has the same width"))
}

fn numbers(cells: &[&str]) -> Result<Vec<f32>, String> {
    let mut found = Vec::with_capacity(cells.len());
    for cell in cells {
        let cell = cell.trim();
        let list = cell.strip_prefix('[').and_then(|cell| cell.strip_suffix(']'));
        let parts: Vec<&str> = list.map_or(vec![cell], |list| list.split(',').collect());
        for part in parts {
            found.push(finite(part).ok_or_else(|| match part.trim() {
                "" => "no target value; fill it in or remove the row".to_string(),
                other => format!("target `{other}` is no finite number"),
            })?);
        }
    }
    Ok(found)
}

/// A finite number, or nothing.
pub(super) fn finite(text: &str) -> Option<f32> {
    text.trim().parse::<f32>().ok().filter(|number| number.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_column(cells: &[&str], target: Target, known: Option<&[&str]>) -> Result<Labels, String> {
        let mut rows = Cells::default();
        cells.iter().for_each(|cell| rows.push(std::iter::once(*cell)));
        let known = known.map(|names| names.iter().map(|name| name.to_string()).collect::<Vec<_>>());
        let at = |row: usize, problem: String| Error::line("t.csv", row as u64 + 1, problem);
        read(&rows, target, known.as_deref(), &at).map_err(|error| error.to_string())
    }

    #[test]
    fn classes_are_sorted_and_numbers_by_value() {
        let Labels::Classes { names, index } = read_column(&["b", "a", " b"], Target::Classes, None).unwrap() else {
            panic!()
        };
        assert_eq!((names, index), (vec!["a".to_string(), "b".into()], vec![1, 0, 1]));
        assert_eq!(read_column(&["10", "9"], Target::Classes, None).unwrap().names(), ["9", "10"]);
    }

    #[test]
    fn known_classes_keep_their_order() {
        let known = Some(&["b", "a", "c"][..]);
        let Labels::Classes { index, .. } = read_column(&["a", "b"], Target::Classes, known).unwrap() else { panic!() };
        assert_eq!(index, [1, 0]);
        let message = read_column(&["a", "dog"], Target::Classes, known).unwrap_err();
        assert!(message.starts_with("t.csv:2:") && message.contains("`dog`"), "{message}");
    }

    #[test]
    fn sets_come_as_lists_or_with_semicolons() {
        let cells = ["b;a", r#"["c"]"#, "[]"];
        let Labels::MultiLabel { names, rows } = read_column(&cells, Target::MultiLabel, None).unwrap() else {
            panic!()
        };
        assert_eq!(names, ["a", "b", "c"]);
        assert_eq!(rows, ndarray::arr2(&[[1.0, 1.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]]));
    }

    #[test]
    fn bad_labels_name_their_row() {
        for (cells, target) in [
            (["a", ""], Target::Classes),
            (["a", "[\"b\"]"], Target::Classes),
            (["a", "b;;c"], Target::MultiLabel),
            (["a", ""], Target::MultiLabel),
            (["a", "[1]"], Target::MultiLabel),
            (["1", ""], Target::Values),
            (["1", "x"], Target::Values),
            (["1", "NaN"], Target::Values),
            (["1", "inf"], Target::Values),
            (["1", "[1,2]"], Target::Values),
        ] {
            let message = read_column(&cells, target, None).unwrap_err();
            assert!(message.starts_with("t.csv:2: "), "{cells:?}: {message}");
        }
    }

    fn owned(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| name.to_string()).collect()
    }

    #[test]
    fn labels_move_to_the_outputs_of_their_names() {
        let labels = Labels::Classes { names: owned(&["blue", "red"]), index: vec![0, 1, 1, 0] };
        let moved = labels.with_names(owned(&["red", "green", "blue"]));
        let Labels::Classes { names, index } = moved else { panic!() };
        assert_eq!((names, index), (owned(&["red", "green", "blue"]), vec![2, 0, 0, 2]));
        let rows = ndarray::arr2(&[[1.0, 0.0], [1.0, 1.0]]);
        let sets = Labels::MultiLabel { names: owned(&["b", "a"]), rows };
        let Labels::MultiLabel { rows, .. } = sets.with_names(owned(&["a", "c", "b"])) else { panic!() };
        assert_eq!(rows, ndarray::arr2(&[[0.0, 0.0, 1.0], [1.0, 0.0, 1.0]]));
    }
}
