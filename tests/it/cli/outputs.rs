//! No command replaces what it reads, what lies among the samples, or a file of another kind; a file of its own kind it does.

use super::{Place, project};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

const EPOCH: &str = "--data train --train head --epochs 1";

/// A model under three names, photographs, a recipe, a delta, a key, an adapter of PEFT, and a person's notes.
fn place() -> Place {
    let place = Place::new();
    place.write("base.onnx", fs::read(project("tests/goldens/training/mobilenet_folded.onnx")).unwrap());
    place.photographs("train", &["cat", "dog"], 4);
    place.run(&format!("train base.onnx {EPOCH} --out a.edelta")).done();
    fs::copy(place.path("a.edelta"), place.path("b.edelta")).unwrap();
    place.run("delta keygen --out K.pem").done();
    fs::hard_link(place.path("base.onnx"), place.path("hard.onnx")).unwrap();
    std::os::unix::fs::symlink("base.onnx", place.path("soft.onnx")).unwrap();
    place.write("peft/adapter_config.json", "{\"peft_type\": \"LORA\"}");
    place.write("peft/adapter_model.safetensors", "tensors");
    place.write("models/model.onnx", "a model of somebody's");
    place.write("models/adapter_config.json", "{\"a\": \"setting\"}");
    place.write("models/edgetune.1", "notes");
    place.write("notes.txt", "do not lose me");
    place.write(
        "recipe.toml",
        "model = \"base.onnx\"\ndata = \"train\"\ntest = \"test\"\ntrain = [\"head\"]\nepochs = 1\n",
    );
    place.write("demo.toml", place.read("recipe.toml"));
    place
}

/// All files below a folder that are somebody's, by name.
fn contents(folder: &Path, found: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        match path.is_dir() {
            true if path.ends_with("home") => {}
            true => contents(&path, found),
            false => drop(found.insert(path.clone(), fs::read(&path).unwrap())),
        }
    }
}

/// Each of these fails with a message that has all its parts, and changes nothing.
#[track_caller]
fn each_is_refused(place: &Place, cases: &[(String, &[&str])]) {
    let all = || {
        let mut found = BTreeMap::new();
        contents(&place.path(""), &mut found);
        found
    };
    let before = all();
    for (arguments, parts) in cases {
        place.run(arguments).fails(parts);
        assert!(all() == before, "{arguments} changed a file");
    }
}

#[test]
fn an_input_is_never_replaced_even_by_force() {
    let place = place();
    let photo = place.path("train/cat").read_dir().unwrap().next().unwrap().unwrap().file_name();
    let photo = photo.to_str().unwrap();
    std::os::unix::fs::symlink(place.path("train/cat").join(photo), place.path("photo")).unwrap();
    let train = format!("train base.onnx {EPOCH}");
    place.write("labels.txt", "cat\ndog\n");
    let mut cases: Vec<(String, &[&str])> = vec![
        (format!("{train} --out base.onnx"), &["--out base.onnx", "an input", "another file"]),
        (format!("{train} --out hard.onnx"), &["--out hard.onnx", "the model base.onnx"]),
        (format!("{train} --out soft.onnx"), &["--out soft.onnx", "the model base.onnx"]),
        (format!("{train} --out x.edelta --report ./base.onnx"), &["--report ./base.onnx", "the model base.onnx"]),
        (format!("{train} --out train/cat/{photo}"), &["inside --data train", "outside of that folder"]),
        (format!("{train} --out train/new.edelta"), &["inside --data train"]),
        (format!("{train} --test train/cat --out train/x/a"), &["inside --data train"]),
        (format!("{train} --cache train/cache --out x.edelta"), &["--cache train/cache", "every folder is a class"]),
        (format!("{train} --out labels.txt"), &["--out labels.txt", "beside the model"]),
        (format!("{train} --out x --report x"), &["--report x", "--out names the same file"]),
        ("train recipe.toml --data train --out recipe.toml".into(), &["the recipe recipe.toml"]),
        ("train base.onnx --data train --from a.edelta --out a.edelta".into(), &["--from a.edelta"]),
        ("export --adapter a.edelta --model base.onnx --to onnx --out base.onnx".into(), &["the model base.onnx"]),
        ("export --adapter a.edelta --model base.onnx --to onnx --out a.edelta".into(), &["--adapter a.edelta"]),
        ("delta apply base.onnx a.edelta --out base.onnx".into(), &["the model base.onnx"]),
        ("delta apply a.edelta b.edelta --out a.edelta".into(), &["the older delta a.edelta"]),
        ("delta sign a.edelta --key K.pem --out a.edelta".into(), &["the delta a.edelta"]),
        ("delta sign a.edelta --key K.pem --out K.pem".into(), &["--key K.pem"]),
        ("delta merge a.edelta b.edelta --out b.edelta".into(), &["the delta b.edelta"]),
        ("delta diff a.edelta b.edelta --out b.edelta".into(), &["the newer delta b.edelta"]),
        ("delta convert a.edelta --encoding int8 --out a.edelta".into(), &["the delta a.edelta"]),
        ("import peft --model base.onnx --out base.onnx".into(), &["the model base.onnx"]),
        ("import peft --model base.onnx --out peft/adapter_config.json".into(), &["PEFT's peft/adapter_config.json"]),
        ("demo --models . --out demo.toml".into(), &["the recipe ./demo.toml"]),
    ];
    let forced = cases.iter().map(|(arguments, parts)| (format!("{arguments} --force"), *parts)).collect::<Vec<_>>();
    cases.extend(forced);
    let predict = "predict base.onnx --adapter a.edelta train --cache train/cat";
    cases.push((predict.into(), &["--cache train/cat", "inside INPUT train"]));
    // By another name, outside of the folder.
    cases.push((format!("{train} --out photo --force"), &["--out photo", "--data"]));
    // Named by a table alone, which lies elsewhere.
    place.write("lists/table.csv", format!("file,label\n../train/cat/{photo},cat\n../train/dog/x.png,dog\n"));
    let listed = "train base.onnx --data lists/table.csv --epochs 1 --out";
    cases.push((format!("{listed} train/cat/{photo} --force"), &["an input", "--data", "lists/../train/cat"]));
    cases.push((format!("{listed} photo --force"), &["--out photo", "an input"]));
    each_is_refused(&place, &cases);
}

/// Names of classes go into a file of their own beside an export: somebody's own are left as they are.
#[test]
fn class_names_beside_an_export_replace_nothing() {
    let place = place();
    let own = ["labels.txt", "merged.labels.txt"];
    own.iter().for_each(|name| place.write(name, format!("my {name}\n")));
    for _ in 0..2 {
        let export = "export --adapter a.edelta --model base.onnx --to onnx --out merged.onnx";
        assert!(place.run(export).done().out.contains("merged.labels-2.txt"));
    }
    own.iter().for_each(|name| assert_eq!(place.read(name), format!("my {name}\n").as_bytes()));
    assert_eq!(place.read("merged.labels-2.txt"), b"cat\ndog\n");
    assert!(!place.path("merged.labels-3.txt").exists(), "the same names are written once");
}

/// A folder that is filled may hold the model that it is made of; weights may lie beside the model.
#[test]
fn an_input_in_a_folder_that_is_filled_is_not_replaced_either() {
    let place = place();
    fs::copy(place.path("base.onnx"), place.path("model.onnx")).unwrap();
    let export = "export --adapter a.edelta --model model.onnx --to";
    place.run(&format!("{export} onnx --out beside.onnx --external-weights")).done();
    let apply = "delta apply beside.onnx a.edelta --out";
    each_is_refused(
        &place,
        &[
            (format!("{export} onnx-adapter --out ."), &["./model.onnx", "the model model.onnx"]),
            (format!("{apply} beside.onnx.data --force"), &["the model's weights beside.onnx.data"]),
            (format!("{export} onnx-adapter --out notes.txt"), &["notes.txt", "a file", "name a folder"]),
            ("prepare model.onnx --classes 2 --out notes.txt".into(), &["notes.txt", "a file", "name a folder"]),
        ],
    );
}

#[test]
fn a_file_of_another_kind_is_replaced_only_by_force() {
    let place = place();
    let train = format!("train base.onnx {EPOCH}");
    let parts: &[&str] = &["notes.txt", "not a delta but something else", "--force"];
    let model: &[&str] = &["notes.txt", "not an ONNX model but something else", "--force"];
    let cases: Vec<(String, &[&str])> = vec![
        (format!("{train} --out notes.txt"), parts),
        (format!("{train} --out x.edelta --report notes.txt"), &["not a training's report"]),
        (format!("{train} --out K.pem"), &["not a delta but a key"]),
        (format!("{train} --out /dev/null"), &["/dev/null", "a device"]),
        ("demo --models . --out notes.txt".into(), parts),
        ("import peft --model base.onnx --out notes.txt".into(), parts),
        ("delta sign a.edelta --key K.pem --out notes.txt".into(), parts),
        ("delta merge a.edelta b.edelta --out notes.txt".into(), parts),
        ("delta diff a.edelta b.edelta --out notes.txt".into(), parts),
        ("delta convert a.edelta --encoding int8 --out notes.txt".into(), parts),
        ("delta apply a.edelta b.edelta --out notes.txt".into(), parts),
        ("delta apply base.onnx a.edelta --out notes.txt".into(), model),
        ("export --adapter a.edelta --model base.onnx --to onnx --out notes.txt".into(), model),
        ("export --adapter a.edelta --model base.onnx --to onnx --out b.edelta".into(), &["but a delta", "--force"]),
        (
            "export --adapter a.edelta --model base.onnx --to onnx-adapter --out models".into(),
            &["models/model.onnx", "not an ONNX model"],
        ),
        (
            "export --adapter a.edelta --to safetensors --out models".into(),
            &["models/adapter_config.json", "not a configuration of PEFT"],
        ),
        ("man --out models".into(), &["models/edgetune.1", "not a manual page"]),
        ("fleet pull --channel photos --out notes.txt".into(), parts),
    ];
    each_is_refused(&place, &cases);
    place.write("a.edelta.checkpoint", "my checkpoints");
    each_is_refused(&place, &[(format!("{train} --out a.edelta"), &["a.edelta.checkpoint", "not a checkpoint"])]);
    place.run("delta convert a.edelta --encoding int8 --out notes.txt --force").done();
    assert!(place.read("notes.txt").starts_with(b"EDLT"));
}

#[test]
fn a_file_of_the_same_kind_and_an_empty_one_are_replaced() {
    let place = place();
    place.write("empty", "");
    for arguments in [
        "train base.onnx --data train --train head --epochs 1 --out b.edelta --report r.json",
        "delta convert a.edelta --encoding int8 --out b.edelta",
        "delta convert a.edelta --encoding int8 --out empty",
        "delta apply base.onnx a.edelta --out merged.onnx --external-weights",
        "export --adapter a.edelta --model base.onnx --to onnx --out merged.onnx",
        "export --adapter a.edelta --model base.onnx --to onnx-adapter --out folder --external-weights",
        "prepare base.onnx --classes 2 --out folder",
        "man --out models2",
    ] {
        fs::create_dir_all(place.path("models2")).unwrap();
        place.run(arguments).done();
        place.run(arguments).done();
    }
}
