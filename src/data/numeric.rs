//! Whether what stands as labels are numbers to predict, rather than the names of classes.
//!
//! Takes labels as text, or a table whose column of labels is read. Judges by what the numbers are; who is told, and what follows, is the
//! caller's matter.

use super::cells::with_point;
use super::columns::{self, Content};
use super::{Error, Options, records, table};
use std::collections::HashSet;
use std::path::Path;

/// More different numbers than that are rarely classes.
const CLASSES_MANY: usize = 20;
/// Rows of a table that are looked at.
const ROWS: usize = 10_000;

/// What numbers in the place of classes look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Looks {
    /// Fractions, nearly all of them different: nobody names classes like that.
    Measured,
    /// Fractions, or very many whole numbers: classes or not, a person has to say it.
    PerhapsMeasured,
}

/// What `names` of classes look like that `samples` have. `None`: like classes.
pub(super) fn looks<'a>(names: impl IntoIterator<Item = &'a str>, samples: usize) -> Option<Looks> {
    let (mut distinct, mut fractions) = (0, false);
    for name in names {
        let number = name.trim().parse::<f64>().ok().filter(|number| number.is_finite())?;
        fractions |= number.fract() != 0.0;
        distinct += 1;
    }
    let (many, most) = (distinct > CLASSES_MANY, distinct * 2 > samples);
    match fractions {
        true if distinct > 2 && (many || most) => Some(Looks::Measured),
        true => Some(Looks::PerhapsMeasured),
        false => (many && most).then_some(Looks::PerhapsMeasured),
    }
}

/// The column of a table that holds numbers to predict, where the numbers leave no doubt. `label`: the columns that are named for them.
pub fn numbers_to_predict(path: &Path, label: &[String], file: Option<&str>) -> Option<String> {
    let path = &table::resolve(path, false).ok()??;
    let format = records::format(path)?;
    let options = Options { label: label.to_vec(), file: file.map(String::from), ..Options::default() };
    let (mut place, mut found, mut rows) = (None, HashSet::new(), 0);
    let read = records::read(path, format, options.limits.table_bytes_max, &mut |row| {
        let place = match place {
            Some((place, _)) => place,
            None => {
                let of = |content| columns::choose(&row, path, content, &options, true);
                let columns = of(Content::Files).or_else(|_| of(Content::Text)).or_else(|_| of(Content::Numbers))?;
                let [label] = columns.label[..] else { return Err(Error::content(path, "several columns of labels")) };
                place.insert((label, row.columns[label].clone())).0
            }
        };
        let cell = row.cells[place].trim();
        if rows == ROWS {
            return Err(Error::content(path, "enough is read"));
        }
        if !cell.is_empty() {
            found.insert(with_point(cell).filter(|_| row.decimal_comma).unwrap_or_else(|| cell.into()));
            rows += 1;
        }
        Ok(())
    });
    if read.is_err() && rows < ROWS {
        return None;
    }
    let (_, column) = place?;
    (looks(found.iter().map(String::as_str), rows) == Some(Looks::Measured)).then_some(column)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fractions_are_measured_and_few_whole_numbers_are_classes() {
        let of = |names: &[&str], samples| looks(names.iter().copied(), samples);
        assert_eq!(of(&["0.51", "1.25", "3", "4.5"], 5), Some(Looks::Measured));
        assert_eq!(of(&["0.5", "1", "1.5", "2"], 400), Some(Looks::PerhapsMeasured), "stars in halves");
        assert_eq!(of(&["1.0", "2.0", "3.0"], 3), None, "whole numbers that pandas has made floats");
        assert_eq!(of(&["a", "0.5"], 2), None);
        let years: Vec<String> = (1950..1980).map(|year| year.to_string()).collect();
        let years: Vec<&str> = years.iter().map(String::as_str).collect();
        assert_eq!((of(&years, 40), of(&years, 400)), (Some(Looks::PerhapsMeasured), None));
    }

    #[test]
    fn the_column_of_labels_is_found_as_a_training_finds_it() {
        let folder = tempfile::tempdir().unwrap();
        let of = |name: &str, text: &str, label: &[&str]| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            numbers_to_predict(&path, &label.iter().map(|name| name.to_string()).collect::<Vec<_>>(), None)
        };
        assert_eq!(of("a.csv", "a,price\n1,2.5\n2,3.25\n3,1.5\n", &[]), Some("price".into()));
        assert_eq!(of("a.csv", "a;price\n1;2,5\n2;3,25\n3;1,5\n", &[]), Some("price".into()));
        assert_eq!(of("a.csv", "1,2.5\n2,3.25\n3,1.5\n", &[]), Some("column2".into()));
        assert_eq!(of("a.csv", "a,b,class\n1,2.5,x\n2,3.25,y\n3,1.5,x\n", &[]), None);
        assert_eq!(of("a.csv", "a,b,class\n1,2.5,x\n2,3.25,y\n3,1.5,x\n", &["b"]), Some("b".into()));
        assert_eq!(
            of("a.jsonl", "{\"text\":\"s\",\"y\":0.5}\n{\"text\":\"t\",\"y\":1.5}\n{\"text\":\"u\",\"y\":7.5}\n", &[]),
            Some("y".into())
        );
        assert_eq!(of("a.csv", "file,label\na.png,0.25\nb.png,0.75\nc.png,1.75\n", &[]), Some("label".into()));
        assert_eq!(of("a.txt", "0.5\tone\n0.75\ttwo\n0.25\tthree\n", &[]), Some("label".into()));
    }
}
