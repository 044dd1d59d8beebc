//! Samples of one recording or person: told by a column, an array, a folder or a file's name.

use super::{folder, refusal};
use edgetune::data::{Dataset, Options, Preprocessing, split_groups};
use std::path::PathBuf;

fn asked(group: Option<&str>) -> Options {
    Options { group: group.map(Into::into), splits: true, ..Options::default() }
}

/// Rows of six people, ten each, of two classes.
fn rows(mut each: impl FnMut(usize, usize) -> String) -> String {
    (0..60).map(|row| each(row, row / 10)).collect()
}

/// Splits the data and gives how many groups train and validate; none may do both.
fn divided(data: &Dataset) -> (usize, usize) {
    let groups = data.groups().expect("groups");
    let split = split_groups(data.labels(), data.keys(), groups, 0.34, 3).unwrap();
    let (train, validation) = (groups.count_of(&split.train), groups.count_of(&split.validation));
    assert_eq!(train + validation, groups.count());
    (train, validation)
}

#[test]
fn tables_tell_groups_by_a_column() {
    let csv = format!("person,a,label\n{}", rows(|row, person| format!("p{person},{row},{}\n", row % 2)));
    let json = rows(|row, person| format!("{{\"a\": {row}, \"label\": \"{}\", \"person\": {person}}}\n", row % 2));
    let root = folder(&[("t.csv", csv.as_bytes()), ("t.jsonl", json.as_bytes())]);
    for name in ["t.csv", "t.jsonl"] {
        let path = root.path().join(name);
        let (data, report) = Dataset::open(&path, &asked(Some("person"))).unwrap();
        assert_eq!((data.groups().unwrap().count(), divided(&data)), (6, (4, 2)), "{name}");
        assert_eq!(data.load(0).unwrap()[0].1.shape, [1], "the group is nothing to learn from");
        assert_eq!(report.perhaps_groups, None);
        // What is only measured needs no groups, but the column is no feature there either.
        let (data, _) = Dataset::open(&path, &Options { splits: false, ..asked(Some("person")) }).unwrap();
        assert!(data.groups().is_none() && data.load(0).unwrap()[0].1.shape == [1]);
        assert!(refusal(&path, &asked(Some("who"))).contains("no group column `who`; the columns are"));
    }
    // A usual name is taken and told; another that may be one is asked about.
    let usual = csv.replacen("person", "subject", 1);
    let numbers = csv.replace("p", "").replacen("erson", "person", 1);
    let root = folder(&[("t.csv", usual.as_bytes()), ("n.csv", numbers.as_bytes())]);
    let (data, report) = Dataset::open(&root.path().join("t.csv"), &asked(None)).unwrap();
    assert_eq!(divided(&data), (4, 2));
    assert!(report.notes.iter().any(|note| note.contains("group: column subject; ")), "{:?}", report.notes);
    let (data, report) = Dataset::open(&root.path().join("n.csv"), &asked(None)).unwrap();
    assert!(data.groups().is_none());
    assert_eq!(report.perhaps_groups.unwrap().0, "person");
}

/// A `.npy` file of bytes along one axis.
fn npy(descr: &str, count: usize, data: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({count},), }}\n");
    [b"\x93NUMPY\x01\x00", &(header.len() as u16).to_le_bytes()[..], header.as_bytes(), data].concat()
}

#[test]
fn folders_and_names_tell_groups() {
    let mut files = Vec::new();
    for (class, person, number) in (0..48).map(|file| (file % 2, file / 2 % 4, file)) {
        let array = npy("|u1", 1, &[number]);
        files.push((format!("folders/c{class}/anna{person}/{number}.npy"), array.clone()));
        files.push((format!("names/c{class}/subject{person}_{number}.npy"), array.clone()));
        files.push((format!("plain/c{class}/{number}.npy"), array));
    }
    let files: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
    let root = folder(&files);
    let at = |name: &str| -> PathBuf { root.path().join(name) };
    for (name, option, suggested) in [
        ("folders", "folder", "folder"),
        ("names", "subject([0-9]+)", "'subject[0-9]+'"),
        ("names", "^[a-z0-9]+", "'subject[0-9]+'"),
    ] {
        let (data, _) = Dataset::open(&at(name), &asked(Some(option))).unwrap();
        assert_eq!((data.len(), data.groups().unwrap().count(), divided(&data)), (48, 4, (3, 1)), "{name} {option}");
        let (data, report) = Dataset::open(&at(name), &asked(None)).unwrap();
        assert!(data.groups().is_none());
        assert_eq!(report.perhaps_groups.unwrap().0, suggested);
        let (data, report) = Dataset::open(&at(name), &asked(Some("none"))).unwrap();
        assert!(data.groups().is_none() && report.perhaps_groups.is_none());
    }
    assert_eq!(Dataset::open(&at("plain"), &asked(None)).unwrap().1.perhaps_groups, None);
    assert!(refusal(&at("plain"), &asked(Some("folder"))).contains("no folders that tell groups"));
    assert!(
        refusal(&at("plain"), &asked(Some("person")))
            .contains("has no part that setting `samples.group` 'person' fits")
    );
    let text = Options { preprocessing: Preprocessing::Plain, ..asked(Some("[")) };
    assert!(refusal(&at("plain"), &text).contains("no pattern"));
}
