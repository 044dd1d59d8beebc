//! Sensor series: which windows are cut out of them, by what they are scaled, and what is refused.

use super::{folder, refusal};
use edgetune::data::{
    Dataset, Labels, Options, Preprocessing, Scaler, SeriesColumns, SeriesPreprocessing, Target, TimeUnit,
    decode_window, is_series, series_width, split_groups, survey_series,
};
use ndarray::{IxDyn, OwnedRepr};
use ndarray_npy::{NpzReader, ReadableElement};
use std::fs::File;
use std::path::{Path, PathBuf};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/sensors").join(name)
}

/// An array of the golden, row-major.
fn array<T: ReadableElement>(name: &str) -> Vec<T> {
    let mut npz = NpzReader::new(File::open(golden("sensors.npz")).unwrap()).unwrap();
    npz.by_name::<OwnedRepr<T>, IxDyn>(name).unwrap().into_iter().collect()
}

/// Windows of `rows` rows every `hop` of the channels `x` and `y`, ten rows in a second.
fn plain(rows: u32, hop: u32) -> SeriesPreprocessing {
    SeriesPreprocessing {
        rate: 10.0,
        resampled: false,
        rows,
        hop,
        channels_first: false,
        time: Some("t".into()),
        unit: TimeUnit::Seconds,
        channels: vec!["x".into(), "y".into()],
        scaler: None,
    }
}

fn series(series: SeriesPreprocessing) -> Options {
    Options { preprocessing: Preprocessing::Series(series), splits: true, ..Options::default() }
}

fn values(data: &Dataset, sample: usize) -> Vec<f32> {
    data.load(sample).unwrap()[0].1.to_f32().unwrap()
}

fn close(found: &[f32], wanted: &[f32], tolerance: f32) {
    assert_eq!(found.len(), wanted.len());
    let apart = found.iter().zip(wanted).map(|(found, wanted)| (found - wanted).abs() / wanted.abs().max(1.0));
    let furthest = apart.fold(0.0, f32::max);
    assert!(furthest <= tolerance, "{furthest}");
}

#[test]
fn windows_labels_and_scales_are_numpy_s() {
    let path = golden("steady.csv");
    let survey = survey_series(&path, &SeriesColumns::default(), &Options::default()).unwrap().unwrap();
    assert_eq!((&survey.channels[..], survey.rate), (&["a".to_string(), "b".into(), "c".into()][..], Some(25.0)));
    let settings = SeriesPreprocessing {
        rate: 25.0,
        time: Some("time".into()),
        channels: survey.channels.clone(),
        channels_first: true,
        ..plain(16, 6)
    };
    let (mut data, _) = Dataset::open(&path, &series(settings)).unwrap();
    let (windows, scaled) = (array::<f32>("windows"), array::<f32>("scaled"));
    assert_eq!(data.len(), 23);
    let transposed = |all: &[f32], sample: usize| -> Vec<f32> {
        let window = &all[sample * 48..(sample + 1) * 48];
        (0..3).flat_map(|channel| window.iter().skip(channel).step_by(3).copied()).collect()
    };
    (0..23).for_each(|sample| assert_eq!(values(&data, sample), transposed(&windows, sample), "{sample}"));
    let Labels::Classes { names, index } = data.labels() else { panic!() };
    let names: Vec<&str> = index.iter().map(|class| names[*class as usize].as_str()).collect();
    let wanted: Vec<&str> =
        array::<i64>("labels").iter().map(|label| ["still", "moving", "shaking"][*label as usize]).collect();
    assert_eq!(names, wanted);

    let trained: Vec<usize> = (0..23).step_by(2).collect();
    let scaler = data.scaler(&trained).unwrap();
    close(&scaler.mean, &array::<f32>("mean"), 1e-6);
    close(&scaler.std, &array::<f32>("std"), 1e-6);
    let keys = data.keys().to_vec();
    data.scale(&scaler);
    (0..23).for_each(|sample| close(&values(&data, sample), &transposed(&scaled, sample), 3e-3));
    assert_eq!(data.keys(), keys, "a window is the same one, scaled or not");
}

#[test]
fn uneven_steps_are_interpolated_as_numpy_does_it_where_a_rate_is_given() {
    let path = golden("unsteady.csv");
    let settings = SeriesPreprocessing {
        rate: 40.0,
        resampled: true,
        time: Some("t_ms".into()),
        unit: TimeUnit::Milliseconds,
        channels: vec!["u".into(), "v".into()],
        ..plain(129, 1)
    };
    let (data, _) = Dataset::open_unlabelled(std::slice::from_ref(&path), &series(settings.clone())).unwrap();
    assert_eq!(data.len(), 1);
    close(&values(&data, 0), &array::<f32>("interpolated"), 1e-5);
    assert!(data.name(0).ends_with("unsteady.csv[2.5-5.725 s]"), "{}", data.name(0));
    // One window that is sent by itself is the same.
    let sent = decode_window(&std::fs::read(&path).unwrap(), &settings).unwrap();
    assert_eq!(sent.to_f32().unwrap(), values(&data, 0));
    let uneven = SeriesPreprocessing { resampled: false, rate: 25.0, ..settings };
    let told = Dataset::open_unlabelled(&[path], &series(uneven)).unwrap_err().to_string();
    assert!(told.contains("unsteady.csv:") && told.contains("samples.sample-rate"), "{told}");
}

/// `t,x,y,label` with ten rows in a second; `change` changes lines.
fn table(rows: usize, change: impl Fn(usize, String) -> String) -> Vec<u8> {
    let line = |row: usize| change(row, format!("{},{row},1,{}", row as f64 / 10.0, if row < 10 { "a" } else { "b" }));
    let lines: Vec<String> = (0..rows).map(line).collect();
    format!("t,x,y,label\n{}\n", lines.join("\n")).into_bytes()
}

#[test]
fn a_window_lies_in_one_series_and_the_group_says_where_that_ends() {
    let people = |row: usize, line: String| {
        let line = line.replacen(&format!("{}", row as f64 / 10.0), &format!("{}", (row % 12) as f64 / 10.0), 1);
        format!("{line},{}", if row < 12 { "anna" } else { "ben" })
    };
    let text = String::from_utf8(table(24, people)).unwrap().replacen("label", "label,subject", 1);
    let root = folder(&[("a.csv", text.as_bytes())]);
    let path = root.path().join("a.csv");
    let (data, report) = Dataset::open(&path, &series(plain(8, 2))).unwrap();
    let names: Vec<String> =
        (0..data.len()).map(|sample| data.name(sample).rsplit('[').next().unwrap().into()).collect();
    assert_eq!(names, ["0-0.8 s]", "0.2-1 s]", "0.4-1.2 s]", "0-0.8 s]", "0.2-1 s]", "0.4-1.2 s]"]);
    assert_eq!(values(&data, 3)[..4], [12.0, 1.0, 13.0, 1.0]);
    assert!(report.notes.iter().any(|note| note.contains("group: column subject")), "{report:?}");
    let Labels::Classes { index, .. } = data.labels() else { panic!() };
    assert_eq!(index, &[0, 0, 0, 1, 1, 1]);
    let groups = data.groups().unwrap();
    assert_eq!((groups.count(), groups.count_of(&[0, 1, 2])), (2, 1));
    // Somebody else's rows follow, so without groups they are out of order.
    let none = Options { group: Some("none".into()), ..series(plain(8, 2)) };
    assert!(refusal(&path, &none).contains("a.csv:14: is earlier than the row before it"), "{}", refusal(&path, &none));
}

#[test]
fn files_are_groups_unless_their_names_or_somebody_says_otherwise() {
    let files: Vec<(String, Vec<u8>)> =
        (0..6).map(|number| (format!("p{}_{number}.csv", number / 2), table(20, |_, line| line))).collect();
    let files: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (name.as_str(), &bytes[..])).collect();
    let root = folder(&files);
    assert!(series_width(root.path()) == Some(4));
    let count = |group: Option<&str>| {
        let options = Options { group: group.map(String::from), ..series(plain(5, 5)) };
        Dataset::open(root.path(), &options).unwrap().0.groups().map(|groups| groups.count())
    };
    assert_eq!((count(None), count(Some("p[0-9]")), count(Some("none"))), (Some(6), Some(3), None));
    let (data, _) = Dataset::open(root.path(), &series(plain(5, 5))).unwrap();
    let split = split_groups(data.labels(), data.keys(), data.groups().unwrap(), 0.3, 0);
    assert!(split.is_ok_and(|split| split.train.len() + split.validation.len() <= data.len()));
}

#[test]
fn a_table_says_which_parts_of_files_are_what() {
    let parts = "file,start,end,label,person\na.csv,0,0.8,still,p\nb.csv,0,2,moving,q\na.csv,1,1.95,moving,p\na.csv,0.8,0.9,still,p\n";
    let own = table(20, |_, line| line);
    let root = folder(&[("parts.csv", parts.as_bytes()), ("a.csv", &own), ("b.csv", &own)]);
    let path = root.path().join("parts.csv");
    assert!(series_width(&path) == Some(4));
    let options = Options { group: Some("person".into()), ..series(plain(4, 4)) };
    let (data, report) = Dataset::open(&path, &options).unwrap();
    let told: Vec<String> = (0..data.len())
        .map(|sample| {
            let Labels::Classes { names, index } = data.labels() else { panic!() };
            format!("{} {}", data.name(sample).rsplit('/').next().unwrap(), names[index[sample] as usize])
        })
        .collect();
    let wanted = [
        "a.csv[0-0.4 s] still",
        "a.csv[0.4-0.8 s] still",
        "a.csv[1-1.4 s] moving",
        "a.csv[1.4-1.8 s] moving",
        "b.csv[0-0.4 s] moving",
        "b.csv[0.4-0.8 s] moving",
        "b.csv[0.8-1.2 s] moving",
        "b.csv[1.2-1.6 s] moving",
        "b.csv[1.6-2 s] moving",
    ];
    assert_eq!(told, wanted);
    assert_eq!(data.groups().unwrap().count(), 2);
    let (file, reason) = &report.skipped[0];
    assert!(file.ends_with("parts.csv:5") && reason.contains("no window of 4 rows"), "{report:?}");
}

#[test]
fn labels_may_be_numbers_whose_mean_a_window_has() {
    let numbers = |row: usize, line: String| line.rsplit_once(',').unwrap().0.to_string() + &format!(",{row}");
    let root = folder(&[("a.csv", &table(8, numbers))]);
    let options = Options { target: Target::Values, ..series(plain(4, 2)) };
    let (data, _) = Dataset::open(&root.path().join("a.csv"), &options).unwrap();
    let Labels::Values(values) = data.labels() else { panic!() };
    assert_eq!(values.iter().copied().collect::<Vec<f32>>(), [1.5, 3.5, 5.5]);
}

#[test]
fn dates_are_times_and_decimal_commas_numbers() {
    let time = |row: usize| match row {
        0..5 => format!("2024-02-28T23:59:59.{}", 5 + row),
        _ => format!("2024-02-29T00:00:00.{}", row - 5),
    };
    let rows: String = (0..8).map(|row| format!("{};{row},5;1;a\n", time(row))).collect();
    let root = folder(&[("a.csv", format!("t;x;y;label\n{rows}").as_bytes())]);
    let (data, _) = Dataset::open(&root.path().join("a.csv"), &series(plain(4, 4))).unwrap();
    assert_eq!(values(&data, 1)[..2], [4.5, 1.0]);
    assert!(data.name(1).ends_with("a.csv[2024-02-28T23:59:59.900 to 2024-02-29T00:00:00.300]"), "{}", data.name(1));
}

#[test]
fn rows_that_cannot_be_meant_are_refused_by_their_line() {
    let good = || table(20, |_, line| line);
    let at = |bad: usize, now: &'static str| table(20, move |row, line| if row == bad { now.into() } else { line });
    let late = |from: usize, by: f64| {
        table(20, move |row, line| {
            let time = row as f64 / 10.0;
            if row < from { line } else { line.replacen(&time.to_string(), &format!("{:.1}", time + by), 1) }
        })
    };
    for (bytes, parts) in [
        (at(3, "0.3,nan,1,a"), &["a.csv:5", "column `x`", "`nan` is no finite number"][..]),
        (at(3, "0.3,,1,a"), &["a.csv:5", "column `x`"]),
        (at(3, "0.3,1e39,1,a"), &["a.csv:5", "no finite number"]),
        (at(3, "soon,3,1,a"), &["a.csv:5", "column `t`", "`soon` is no time"]),
        (at(3, "2024-01-01,3,1,a"), &["a.csv:5", "dates and numbers"]),
        (at(3, "0.2,3,1,a"), &["a.csv:5", "has the time of the row before"]),
        (at(3, "0.1,3,1,a"), &["a.csv:5", "is earlier than the row before", "samples.group"]),
        (at(3, "0.3,3,1"), &["a.csv:5", "3 cells in a table of 4"]),
        (late(5, 0.1), &["a.csv:7", "0.2 s after the row before", "usual step is 0.1 s", "samples.sample-rate"]),
        (late(5, 9.0), &["a.csv:7", "a gap of 9.1 s, longer than a window of 0.8 s"]),
        (table(6, |_, line| line), &["no window of 8 rows in 1 file,", "6 rows", "samples.window"]),
        (b"t,x,z,label\n0,1,2,a\n".to_vec(), &["a.csv:1", "no channel column `y`", "t, x, z, label"]),
        (b"u,x,y,label\n0,1,2,a\n".to_vec(), &["a.csv:1", "no time column `t`"]),
        (b"t,x,y\n0,1,2\n".to_vec(), &["a.csv:1", "no label column", "samples.label"]),
        (b"t,x,y,label\n".to_vec(), &["a.csv", "no rows"]),
        (b"".to_vec(), &["a.csv", "no rows"]),
        (vec![0xff, 0xfe, 0, 1], &["a.csv"]),
    ] {
        let root = folder(&[("a.csv", &bytes)]);
        let told = refusal(&root.path().join("a.csv"), &series(plain(8, 4)));
        parts.iter().for_each(|part| assert!(told.contains(part), "{part}: {told}"));
    }
    let root = folder(&[("a.csv", &good()), ("b.npy", b"\x93NUMPY"), ("c.parquet", b"PAR1")]);
    let told = |name: &str, options: Options| refusal(&root.path().join(name), &options);
    assert!(told("none.csv", series(plain(8, 4))).contains("none.csv: cannot be read"));
    assert!(told("b.npy", series(plain(8, 4))).contains("b.npy: no .npy array"));
    assert!(told("c.parquet", series(plain(8, 4))).contains("write it as CSV"));
    let unknown = Options { classes: Some(vec!["a".into(), "c".into()]), ..series(plain(8, 4)) };
    let refused = told("a.csv", unknown);
    assert!(refused.contains("a.csv:10: class `b` is not among the model's 2 classes"), "{refused}");
    let fast = SeriesPreprocessing { rate: 20.0, ..plain(8, 4) };
    assert!(told("a.csv", series(fast)).contains("10 rows in a second, where 20 are expected"));
    for bad in [plain(1, 1), plain(8, 0), SeriesPreprocessing { rate: f64::NAN, ..plain(8, 4) }] {
        assert!(told("a.csv", series(bad)).starts_with("`samples."));
    }
    let damaged = Some(Scaler { mean: vec![0.0; 2], std: vec![1.0, 0.0] });
    assert!(told("a.csv", series(SeriesPreprocessing { scaler: damaged, ..plain(8, 4) })).contains("samples.scale"));
}

#[test]
fn parts_that_cannot_be_meant_are_refused_by_their_line() {
    for (rows, parts) in [
        ("a.csv,0,1,a\na.csv,0.9,2,b", &["parts.csv:3", "overlaps the part of line 2"][..]),
        ("a.csv,1,2,a\na.csv,0,1.1,b", &["parts.csv:3", "overlaps the part of line 2"]),
        ("a.csv,1,1,a", &["parts.csv:2", "not behind its start at 1"]),
        ("a.csv,soon,1,a", &["parts.csv:2", "`soon` is no time as those in"]),
        ("a.csv,2024-01-01,2024-01-02,a", &["parts.csv:2", "`2024-01-01` is no time as those in"]),
        ("a.csv,0,1,", &["parts.csv:2", "column `label` is empty"]),
        ("z.csv,0,1,a", &["z.csv: cannot be read"]),
        ("a.csv,7,9,a", &["no window of 8 rows", "parts.csv:2"]),
    ] {
        let listed = format!("file,start,end,label\n{rows}\n");
        let root = folder(&[("parts.csv", listed.as_bytes()), ("a.csv", &table(20, |_, line| line))]);
        let told = refusal(&root.path().join("parts.csv"), &series(plain(8, 4)));
        parts.iter().for_each(|part| assert!(told.contains(part), "{rows}: {told}"));
    }
}

#[test]
fn damaged_files_are_refused_and_nothing_else_happens() {
    let mut random = fastrand::Rng::with_seed(5);
    let array = edgetune::data::npy_of_floats(&[20, 2], &[0.5; 40]);
    for good in [table(20, |_, line| line), array] {
        assert!(decode_window(&good, &plain(20, 1)).is_ok());
        for _ in 0..500 {
            let mut bytes = good.clone();
            for _ in 0..random.usize(1..6) {
                let end = if random.bool() { 80 } else { bytes.len() };
                let place = random.usize(..end);
                bytes[place] = if random.bool() { random.u8(..) } else { *random.choice(b"\n,;\"-.09e\t").unwrap() };
            }
            bytes.truncate(random.usize(1..=bytes.len()));
            if let Ok(window) = decode_window(&bytes, &plain(20, 1)) {
                assert!(window.shape == [20, 2] && window.to_f32().unwrap().iter().all(|value| value.is_finite()));
            }
            let _ = is_series(&bytes);
        }
    }
}

#[test]
fn very_many_columns_are_refused_in_time() {
    let names: Vec<String> = (0..100_000).map(|place| format!("c{place}")).collect();
    let text = format!("time,{}\n{}\n", names.join(","), vec!["0"; 100_001].join(","));
    let root = folder(&[("a.csv", text.as_bytes())]);
    let path = root.path().join("a.csv");
    let told = survey_series(&path, &SeriesColumns::default(), &Options::default()).unwrap_err().to_string();
    assert!(told.contains("a.csv:1: 100001 columns are more than 4096") && told.len() < 400, "{told}");
}
