//! Whether the first line of a separated table names its columns, or is a row like the others.
//!
//! Takes the first line and some that follow, gives which it is. What is guessed here is told by the caller.

use super::cells::{EMPTY, with_point};
use super::usual::is_usual;

/// How many lines below the first are looked at.
pub(super) const LINES: usize = 200;

/// What the first line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum First {
    /// It names the columns.
    Names,
    /// It is a row, for the reason.
    Row(&'static str),
    /// Numbers above words: neither names nor a row like the others.
    Unclear,
}

/// What the first line of a table is, by what stands below it. `decimal_comma`: whether `1,5` is a number.
pub(super) fn first(line: &[String], below: &[Vec<String>], decimal_comma: bool) -> First {
    let is_number = |cell: &str| {
        let pointed = with_point(cell).filter(|_| decimal_comma);
        pointed.as_deref().unwrap_or(cell).trim().parse::<f64>().is_ok_and(f64::is_finite)
    };
    let is_empty = |cell: &str| EMPTY.contains(&cell.trim().to_lowercase().as_str());
    // Files that were joined have their names again in the middle.
    let below: Vec<&Vec<String>> = below.iter().filter(|row| row.len() == line.len() && *row != line).collect();
    let cells = |place: usize| below.iter().map(move |row| row[place].as_str()).filter(|cell| !is_empty(cell));
    let of_numbers = |place: usize| cells(place).next().is_some() && cells(place).all(is_number);
    let named = |place: &usize| !is_number(&line[*place]) && !is_empty(&line[*place]);
    let numbers: Vec<&str> = line.iter().map(String::as_str).filter(|cell| is_number(cell)).collect();
    if (0..line.len()).any(|place| named(&place) && of_numbers(place)) || counts_up(&numbers) {
        return First::Names;
    }
    if numbers.is_empty() {
        let known = |name: &String| is_usual(name);
        let again = |place: usize| cells(place).filter(|cell| cell.trim() == line[place].trim()).count() > 1;
        return match !line.iter().any(known) && (0..line.len()).any(|place| named(&place) && again(place)) {
            true => First::Row("what stands in it stands in lines below it, too"),
            false => First::Names,
        };
    }
    let above_words =
        |place: usize| is_number(&line[place]) && cells(place).next().is_some_and(|cell| !is_number(cell));
    match (0..line.len()).any(above_words) {
        true => First::Unclear,
        false => First::Row("it holds numbers, as the lines below it do"),
    }
}

/// Whether numbers are `0, 1, 2 …` or `1, 2, 3 …`, as pandas numbers columns that have no names.
fn counts_up(numbers: &[&str]) -> bool {
    let from = |start: usize| numbers.iter().zip(start..).all(|(cell, place)| *cell == place.to_string());
    numbers.len() > 2 && (from(0) || from(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first_of(table: &str) -> First {
        let rows: Vec<Vec<String>> =
            table.lines().map(|line| line.split(',').map(String::from).collect()).collect::<Vec<_>>();
        first(&rows[0], &rows[1..], false)
    }

    #[test]
    fn numbers_above_numbers_are_a_row_and_names_are_none() {
        let is_row = |table: &str| matches!(first_of(table), First::Row(_));
        assert!(is_row("5.1,3.5,setosa\n4.9,3,setosa\n7,3.2,versicolor"));
        assert!(is_row("1,2\n3,4") && is_row("1.5") && is_row("1,?,x\n2,3,y"));
        assert!(is_row("I like it,good\nso do I,good\nnot me,bad\nnor me,good"));
        for names in [
            "a,b,label\n1,2,x",
            "id,2019,2020,label\n7,1.5,2.5,x",
            "0,1,2,label\n5,6,7,x",
            ",0,1,2\n0,5,6,7",
            "text,label\nlabel,x\nlabel,y",
            "class,a\nclass,b\nclass,c",
            "x,y\na,b\nx,y\nc,d\nx,y",
            "text\nsome",
        ] {
            assert_eq!(first_of(names), First::Names, "{names}");
        }
        assert_eq!(first_of("1,x\nword,y"), First::Unclear);
    }
}
