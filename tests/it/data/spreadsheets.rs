//! Tables as spreadsheets and other programs write them: separators, encodings, empty cells, an index, decimal commas.

use super::{folder, refusal};
use edgetune::data::{Dataset, Labels, Options, ReadingReport, Target};

/// Opens one file with this content, which must be good; gives its notes without the folder's random name.
fn open(name: &str, content: impl AsRef<[u8]>, options: &Options) -> (Dataset, ReadingReport, String) {
    let root = folder(&[(name, content.as_ref())]);
    let (data, report) = Dataset::open(&root.path().join(name), options).unwrap();
    let notes = report.notes.join("\n").replace(&format!("{}/", root.path().display()), "");
    (data, report, notes)
}

fn floats(data: &Dataset, sample: usize) -> Vec<f32> {
    data.load(sample).unwrap()[0].1.to_f32().unwrap()
}

#[test]
fn separators_are_found_and_told() {
    let comma = "a,b,Kategorie\n1,2.5,\"x,\ny\"\n3,4,z\n";
    for (separator, told) in
        [(",", ""), (";", "separated by `;`"), ("\t", "separated by tabs"), ("|", "separated by `|`")]
    {
        let (data, _, notes) = open("t.csv", comma.replace(',', separator), &Options::default());
        let name = format!("x{separator}\ny");
        assert_eq!(data.labels(), &Labels::Classes { names: vec![name, "z".into()], index: vec![0, 1] });
        assert_eq!(floats(&data, 0), [1.0, 2.5]);
        assert!(data.name(1).ends_with("t.csv:4") && notes.contains(told), "{notes}");
        assert!(notes.contains("label: column Kategorie; setting `samples.label` COLUMN to change"), "{notes}");
    }
    let (data, ..) = open("t.csv", "sep=;\r\na;label\r\n1;x\r\n2;y\r\n", &Options::default());
    assert!(data.name(0).ends_with("t.csv:3") && data.len() == 2);
}

#[test]
fn a_german_excel_file_is_read() {
    let bytes = b"Gr\xf6\xdfe;Gewicht;Klasse\r\n1,5;-20,25;gro\xdf\r\n2;3e1;klein\r\n;;\r\n";
    let (data, report, notes) = open("t.csv", bytes, &Options::default());
    assert_eq!((floats(&data, 0), floats(&data, 1)), (vec![1.5, -20.25], vec![2.0, 30.0]));
    assert_eq!(data.labels().names(), ["groß", "klein"]);
    assert!(report.skipped.is_empty(), "{report:?}");
    for told in ["read as Windows-1252 (Latin-1)", "separated by `;`", "a comma in a number is its decimal point"] {
        assert!(notes.contains(told), "{notes}");
    }
    let values = Options { target: Target::Values, ..Options::default() };
    let (data, ..) = open("t.csv", "a;target\n1;2,5\n2;-3\n", &values);
    assert_eq!(data.labels(), &Labels::Values(ndarray::arr2(&[[2.5], [-3.0]])));
    let units: Vec<u8> = "a\tlabel\n1\tä\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let (data, _, notes) = open("t.csv", [b"\xff\xfe".to_vec(), units].concat(), &Options::default());
    assert!(data.labels().names() == ["ä"] && notes.contains("read as UTF-16"), "{notes}");
}

#[test]
fn an_index_without_a_name_is_left_out() {
    for header in ["", "Unnamed: 0"] {
        let (data, _, notes) = open("t.csv", format!("{header},a,label\n0,7,x\n1,8,y\n"), &Options::default());
        assert_eq!(floats(&data, 1), [8.0]);
        assert!(notes.contains("the first column has no name and is left out"), "{notes}");
    }
    let (data, ..) = open("t.csv", "a,label,\n7,x,\n8,y,\n", &Options::default());
    assert_eq!((floats(&data, 1), data.labels().names().len()), (vec![8.0], 2));
    let root = folder(&[("t.csv", b"a,label,\n7,x,\n8,y,9\n")]);
    assert!(refusal(&root.path().join("t.csv"), &Options::default()).contains("t.csv:3: column 3 has no name"));
}

#[test]
fn rows_with_empty_cells_are_listed_and_left_out() {
    let table = "a,label\r\n\"1\",\"x\ny\"\r\n\r\n2,\r\n,x\r\nNaN,x\r\n3,z\r\n";
    let (data, report, _) = open("t.csv", table, &Options::default());
    assert_eq!((data.len(), floats(&data, 1)), (2, vec![3.0]));
    let skipped: Vec<String> = report
        .skipped
        .iter()
        .map(|(row, reason)| format!("{}: {reason}", row.file_name().unwrap().to_string_lossy()))
        .collect();
    let expected =
        ["t.csv:5: no label", "t.csv:6: column `a`: `` is no number", "t.csv:7: column `a`: `NaN` is no number"];
    assert_eq!(skipped.len(), expected.len(), "{skipped:?}");
    skipped.iter().zip(expected).for_each(|(is, part)| assert!(is.starts_with(part), "{is}"));
    let (data, report, _) = open("t.jsonl", "{\"a\":1,\"y\":null}\n{\"a\":2,\"y\":\"x\"}\n", &Options::default());
    assert_eq!((data.len(), report.skipped.len()), (1, 1));
}

#[test]
fn what_is_no_table_says_what_to_save_it_as() {
    for (name, bytes, expected) in [
        ("t.xlsx", &b"PK\x03\x04"[..], "a spreadsheet; save it as CSV"),
        ("t.csv", b"PK\x03\x04 a workbook", "an Excel workbook or another archive, not a text file; save it as CSV"),
        ("t.parquet", b"PAR1", "df.to_csv"),
        ("t.json", b"[]", "one object a line"),
        ("t.csv", b"a,label\n1,x\0\n", "zero bytes"),
    ] {
        let root = folder(&[(name, bytes)]);
        let message = refusal(&root.path().join(name), &Options::default());
        assert!(message.contains(expected) && message.contains(name), "{message}");
    }
}

#[test]
fn a_table_without_names_loses_no_row() {
    let (data, _, notes) = open("t.csv", "5.1,3.5,setosa\n4.9,3,setosa\n7,3.2,versicolor\n", &Options::default());
    assert_eq!(
        data.labels(),
        &Labels::Classes { names: vec!["setosa".into(), "versicolor".into()], index: vec![0, 0, 1] }
    );
    assert_eq!((data.len(), floats(&data, 0)), (3, vec![5.1, 3.5]));
    assert!(data.name(0).ends_with("t.csv:1") && data.name(2).ends_with("t.csv:3"));
    for told in [
        "t.csv: the first line is read as a sample, for it holds numbers",
        "column1 to column3",
        "label: column column3",
    ] {
        assert!(notes.contains(told), "`{told}`: {notes}");
    }
    let values = Options { target: Target::Values, label: vec!["column1".into()], ..Options::default() };
    let (data, ..) = open("t.csv", "1,5;2;\n2,5;3;\n", &values);
    assert_eq!((data.labels(), floats(&data, 1)), (&Labels::Values(ndarray::arr2(&[[1.5], [2.5]])), vec![3.0]));
    let (data, _, notes) = open("t.csv", ",0,1,2,label\n0,5,6,7,x\n1,8,9,10,y\n", &Options::default());
    assert_eq!((data.len(), floats(&data, 0)), (2, vec![5.0, 6.0, 7.0]), "names that pandas has counted: {notes}");
}
