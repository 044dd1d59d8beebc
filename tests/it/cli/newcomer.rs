//! A new user's first hour, from an empty home: own photographs, a spreadsheet's export, texts, windows of sensors, wrong paths and
//! typing errors. Each command gives a result, or a message that names the file or option and what to do.

use super::kinds::tokenizer;
use super::models::{noise, npy};
use super::{Place, Ran};

/// The error of a run that failed in any way (1) or was wrongly called (2), in one line or a few.
fn told(ran: &Ran) -> String {
    assert!(matches!(ran.code, Some(1 | 2)), "{ran:?}");
    let from = ran.err.find("error: ").unwrap_or_else(|| panic!("no error told: {}", ran.err));
    ran.err[from..].to_string()
}

#[test]
fn a_folder_of_own_photographs() {
    let place = Place::new();
    place.link("models/efficientnet_lite0/model.onnx", "model.onnx");
    place.photographs("photos", &["cat", "ship"], 6);
    let ran = place.run("train model.onnx --data photos --out A.edelta").done();
    // What was done to the pixels, and how good it is beside what needs no learning.
    for words in ["224", "commonest class"] {
        assert!(format!("{}{}", ran.out, ran.err).contains(words), "`{words}`: {}{}", ran.out, ran.err);
    }
    let said = place.run("predict model.onnx --adapter A.edelta photos/ship").done().out;
    assert_eq!(said.lines().count(), 6, "{said}");
    assert!(said.lines().filter(|line| line.contains(": ship ")).count() >= 5, "{said}");
    // Her own model is not written over.
    let error = told(&place.run("train model.onnx --data photos --out model.onnx"));
    assert!(error.contains("model.onnx") && error.contains("--out"), "{error}");
}

#[test]
fn a_spreadsheet_s_export() {
    let place = Place::with_table(2, "unused", |_| "0".into());
    let mut table = "\u{feff}a;b;c;d;Kategorie\r\n".to_string();
    for (number, row) in noise(5, 64 * 4).chunks_exact(4).enumerate() {
        let class = if row[0] > 0.0 { "gut" } else { "schlecht" };
        // A cell that was left empty.
        let class = if number == 7 { "" } else { class };
        let cells: Vec<String> = row.iter().map(|value| value.to_string().replace('.', ",")).collect();
        table += &format!("{};{class}\r\n", cells.join(";"));
    }
    place.write("Messung.csv", table);
    let ran = place.run("train base.onnx --data Messung.csv --train last:2 --out A.edelta").done();
    let said = format!("{}{}", ran.out, ran.err);
    assert!(said.contains("Kategorie") && said.contains("--label"), "which column was taken: {said}");
    let said = place.run("predict base.onnx --adapter A.edelta Messung.csv").done().out;
    assert!(said.contains("gut") && said.contains("schlecht"), "{said}");
    place.write("Messung.xlsx", b"PK\x03\x04 what a spreadsheet writes by itself");
    let error = told(&place.run("train base.onnx --data Messung.xlsx --out B.edelta"));
    assert!(error.contains("Messung.xlsx") && error.to_lowercase().contains("csv"), "{error}");
}

#[test]
fn texts() {
    let place = Place::with_model("encoder_torchscript");
    let words = ["the", "lamp", "is", "fine", "warm", "broken", "cold"];
    place.write(
        "texts.csv",
        "text,label\nthe lamp is fine,good\nlamp is warm,good\nthe lamp is broken,bad\nlamp is cold,bad\n".repeat(5),
    );
    // Without its tokenizer, the message says what is missing.
    let error = told(&place.run("train base.onnx --data texts.csv --out A.edelta"));
    assert!(error.contains("tokenizer"), "{error}");
    place.write("tokenizer.json", tokenizer(&words));
    place.run("train base.onnx --data texts.csv --tokenizer tokenizer.json --out A.edelta").done();
    place.write("new.txt", "the lamp is fine\n");
    let said = place.run("predict base.onnx --adapter A.edelta --tokenizer tokenizer.json new.txt").done().out;
    assert!(said.contains("good"), "{said}");
}

#[test]
fn windows_of_sensors() {
    let place = Place::with_table(2, "unused", |_| "0".into());
    for (number, values) in noise(5, 48 * 4).chunks_exact(4).enumerate() {
        let class = if values[0] > 0.0 { "walking" } else { "resting" };
        place.write(&format!("readings/{class}/{number}.npy"), npy(&[4], values));
    }
    place.run("train base.onnx --data readings --out A.edelta").done();
    let answer = place.run("predict base.onnx --adapter A.edelta readings/walking --json").json();
    assert!(answer.as_array().unwrap().len() > 10, "{answer}");
    place.write("wide/walking/1.npy", npy(&[9], &[0.0; 9]));
    place.write("wide/resting/1.npy", npy(&[9], &[1.0; 9]));
    let error = told(&place.run("train base.onnx --data wide --out B.edelta"));
    assert!(error.contains("1.npy") && error.contains('9') && error.contains('4'), "{error}");
}

#[test]
fn wrong_paths_and_typing_errors() {
    let place = Place::with_table(2, "label", |row| if row[0] > 0.0 { "up" } else { "down" }.into());
    place.write("recipe.toml", "model = \"base.onnx\"\ndata = \"table.csv\"\nepoch = 3\n");
    place.write("out.toml", "model = \"base.onnx\"\ndata = \"table.csv\"\nout = \"A.edelta\"\n");
    let cases: &[(&str, &[&str])] = &[
        ("train modle.onnx --data table.csv --out A.edelta", &["modle.onnx"]),
        ("train base.onnx --data tabel.csv --out A.edelta", &["tabel.csv", "check the path"]),
        ("train base.onnx --out A.edelta", &["--data"]),
        ("train base.onnx --data table.csv --out missing/A.edelta", &["missing/A.edelta", "--out"]),
        ("train base.onnx --data table.csv --train last2 --out A.edelta", &["last2", "last:2"]),
        ("train base.onnx --data table.csv --lr -1 --out A.edelta", &["--lr", "-1"]),
        ("train base.onnx --data table.csv --epochs 0 --out A.edelta", &["--epochs", "0"]),
        ("train base.onnx --data table.csv --batch 0 --out A.edelta", &["--batch", "0"]),
        ("train base.onnx --data table.csv --epohcs 3 --out A.edelta", &["--epohcs", "--epochs"]),
        ("train base.onnx --data table.csv --train lst:2 --out A.edelta", &["lst:2", "did you mean last:2?"]),
        ("train base.onnx --data table.csv --label lable --out A.edelta", &["lable", "did you mean `label`?"]),
        ("train base.onnx --data table.csv --group lable --out A.edelta", &["lable", "did you mean `label`?"]),
        (
            "train base.onnx --data table.csv --classes 3 --out A.edelta",
            &["--classes 3", "--classes down,up", "a file"],
        ),
        ("train base.onnx --data table.csv --classes 2 --out A.edelta", &["--classes 2", "called 0 to 1"]),
        ("train base.onnx --data table.csv --lr 1e400 --out A.edelta", &["--lr", "so large", "0.001"]),
        ("train base.onnx --data table.csv --lr 1e-50 --out A.edelta", &["--lr", "1e-50 is so small", "0.001"]),
        ("train base.onnx --data table.csv --lr 1e20 --out A.edelta", &["lower --lr (now 1e20; 0.001"]),
        ("train recipe.toml --out A.edelta", &["recipe.toml", "epoch", "epochs"]),
        ("train out.toml", &["out.toml", "line 3", "--out where you start the training"]),
        ("train base.onnx --data table.csv --resume --out A.edelta", &["--resume"]),
        ("predict base.onnx --adapter A.edelta table.csv", &["A.edelta"]),
        ("predict base.onnx --adapter table.csv table.csv", &["table.csv"]),
        ("eval base.onnx --data table.csv --adapter base.onnx", &["base.onnx"]),
        ("trian base.onnx", &["trian", "train"]),
    ];
    for (arguments, parts) in cases {
        let error = told(&place.run(arguments));
        for part in *parts {
            assert!(error.contains(part), "{arguments}: `{part}` is not in: {error}");
        }
    }
    assert_eq!(place.names(), ["base.onnx", "out.toml", "recipe.toml", "table.csv"], "nothing is left behind");
}

#[test]
fn a_table_without_names_whose_labels_are_measured() {
    let place = Place::with_table(2, "unused", |_| "0".into());
    let table = |label: &dyn Fn(f32) -> String| -> String {
        let rows = noise(5, 64 * 4);
        let row = |row: &[f32]| format!("{},{},{},{},{}\n", row[0], row[1], row[2], row[3], label(row[0]));
        rows.chunks_exact(4).map(row).collect()
    };
    place.write("measured.csv", table(&|value| (value * 3.0 + 0.5).to_string()));
    let ran = place.run("train base.onnx --data measured.csv --out A.edelta").done();
    let said = format!("{}{}", ran.out, ran.err);
    for words in
        ["column1 to column5", "label: column column5; --label COLUMN to change", "mse: the labels in column column5"]
    {
        assert!(said.contains(words), "`{words}`: {said}");
    }
    let answers = place.run("predict base.onnx --adapter A.edelta measured.csv").done();
    assert_eq!(answers.out.lines().count(), 64, "{}{}", answers.out, answers.err);
    assert!(answers.err.contains("not read: column5, for the model takes 4 numbers"), "{}", answers.err);
    assert!(
        said.contains("mean absolute error") && said.contains("51 to train"),
        "all 64 rows are read, and numbers are learned: {said}"
    );
    // Many whole numbers may be names, which only a person knows.
    place.write("years.csv", table(&|value| ((value * 400.0) as i32).to_string()));
    let ran = place.run("train base.onnx --data years.csv --out B.edelta");
    let said = format!("{}{}", ran.out, ran.err);
    assert!(said.contains("look like numbers to predict") && said.contains("--loss mse"), "{said}");
    place.run("train base.onnx --data years.csv --loss mse --out C.edelta").done();
}

/// An exported model carries what its outputs mean: it was refused without an adapter.
#[test]
fn an_exported_model_needs_no_adapter() {
    let place = Place::with_table(2, "label", |row| if row[0] > 0.0 { "up" } else { "down" }.into());
    place.run("train base.onnx --data table.csv --out A.edelta").done();
    std::fs::create_dir(place.path("out")).unwrap();
    place.run("export --adapter A.edelta --model base.onnx --to onnx --out out/merged.onnx").done();
    let with = place.run("predict base.onnx --adapter A.edelta table.csv --json").json();
    let without = place.run("predict out/merged.onnx table.csv --json").json();
    let (with, without) = (with.as_array().unwrap(), without.as_array().unwrap());
    assert!(!with.is_empty() && with.len() == without.len());
    for (with, without) in with.iter().zip(without) {
        let of = |answer: &serde_json::Value| {
            let best = &answer["classes"][0];
            (best["name"].as_str().unwrap().to_string(), best["probability"].as_f64().unwrap())
        };
        let ((label, share), (other, near)) = (of(with), of(without));
        assert!(label == other && (share - near).abs() < 1e-3, "{with} {without}");
    }
    let error = told(&place.run("predict base.onnx table.csv"));
    assert!(error.contains("base.onnx") && error.contains("--adapter") && error.contains("labels.txt"), "{error}");
    // Another adapter over the same file: the names beside it are the new ones.
    assert_eq!(place.read("out/labels.txt"), b"down\nup\n");
    place.write("other.csv", String::from_utf8(place.read("table.csv")).unwrap().replace(",up", ",hinauf"));
    place.run("train base.onnx --data other.csv --out B.edelta").done();
    place.run("export --adapter B.edelta --model base.onnx --to onnx --out out/merged.onnx").done();
    assert_eq!(place.read("out/labels.txt"), b"down\nhinauf\n");
    let mut names: Vec<String> = std::fs::read_dir(place.path("out"))
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["labels.txt", "merged.onnx"], "no file of names that are wrong is left");
    // What somebody has changed stays.
    place.write("out/labels.txt", "runter\nrauf\n");
    place.run("export --adapter A.edelta --model base.onnx --to onnx --out out/merged.onnx").done();
    assert_eq!(
        (place.read("out/labels.txt"), place.read("out/merged.labels.txt")),
        (b"runter\nrauf\n".to_vec(), b"down\nup\n".to_vec())
    );
}

/// Answers by another tokenizer are wrong without a sign of it.
#[test]
fn another_tokenizer_than_the_one_trained_with_is_told() {
    let place = Place::with_model("encoder_torchscript");
    let words = ["the", "lamp", "is", "fine", "warm", "broken", "cold"];
    let table = "text,label\nthe lamp is fine,good\nlamp is warm,good\nthe lamp is broken,bad\nlamp is cold,bad\n";
    place.write("texts.csv", table.repeat(5));
    place.write("own.json", tokenizer(&words));
    place.write("other.json", tokenizer(&["cold", "the", "broken", "lamp", "is", "fine", "warm"]));
    place.run("train base.onnx --data texts.csv --tokenizer own.json --out A.edelta").done();
    let said = place.run("predict base.onnx --adapter A.edelta --tokenizer own.json texts.csv").done().err;
    assert!(!said.contains("another tokenizer"), "{said}");
    for command in ["predict base.onnx texts.csv", "eval base.onnx --data texts.csv"] {
        let said = place.run(&format!("{command} --adapter A.edelta --tokenizer other.json")).done().err;
        assert!(
            said.contains("warning: other.json: the adapter was trained with another tokenizer"),
            "{command}: {said}"
        );
    }
    // Of two that lie there, the one that was trained with is taken.
    std::fs::rename(place.path("other.json"), place.path("tokenizer.json")).unwrap();
    std::fs::create_dir(place.path("kept")).unwrap();
    std::fs::rename(place.path("own.json"), place.path("kept/tokenizer.json")).unwrap();
    std::fs::rename(place.path("A.edelta"), place.path("kept/A.edelta")).unwrap();
    let said = place.run("predict base.onnx --adapter kept/A.edelta texts.csv").done().err;
    assert!(said.contains("tokenizer kept/tokenizer.json") && !said.contains("another tokenizer"), "{said}");
}
