//! What goes wrong says what and what helps, and leaves nothing half-written.

use super::{Place, finished, project};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const TRAIN: &str = "train base.onnx --data train --out a.edelta";

/// `base.onnx`, four photographs of two classes in `train`, and an older delta.
fn ready() -> Place {
    let place = Place::with_model("mobilenet_folded");
    place.photographs("train", &["cat", "dog"], 4);
    place.write("a.edelta", b"EDLT old");
    place
}

/// Runs all of these, each of which must fail with a message that has all its parts and leave the folder as it was.
#[track_caller]
fn each_fails(place: &Place, cases: &[(&str, &[&str])]) {
    let before = place.names();
    for (arguments, parts) in cases {
        let message = place.run(arguments).fails(parts);
        assert_eq!(place.names(), before, "{arguments} left something behind");
        assert_eq!(temporary(&place.path("")), [] as [PathBuf; 0], "{arguments}");
        let twice = message.match_indices("os error").count();
        assert!(twice <= 1, "a cause is told twice: {message}");
        if before.contains(&"a.edelta".into()) {
            assert_eq!(place.read("a.edelta"), b"EDLT old", "{arguments}");
        }
    }
}

/// Temporary files below a folder.
fn temporary(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            found.extend(temporary(&path));
        } else if path.extension().is_some_and(|extension| extension == "tmp") {
            found.push(path);
        }
    }
    found
}

#[test]
fn a_model_that_is_none() {
    let place = ready();
    place.write("text.onnx", "no model");
    place.write("empty.onnx", "");
    let whole = place.read("base.onnx");
    place.write("cut.onnx", &whole[..whole.len() / 2]);
    let rest = "--data train --epochs 1 --out a.edelta";
    each_fails(
        &place,
        &[
            (&format!("train missing.onnx {rest}"), &["missing.onnx", "check the path"]),
            (&format!("train text.onnx {rest}"), &["text.onnx", "not an ONNX model", "copy it again"]),
            (&format!("train empty.onnx {rest}"), &["empty.onnx", "is empty"]),
            (&format!("train cut.onnx {rest}"), &["cut.onnx", "cut off", "copy it again"]),
            (&format!("train train {rest}"), &["train", "not a regular file", ".onnx"]),
            ("inspect missing.onnx", &["missing.onnx", "check the path"]),
            ("prepare cut.onnx --classes 2 --out bundle", &["cut.onnx", "cut off"]),
        ],
    );
}

#[test]
fn data_that_are_none() {
    let place = ready();
    place.photographs("empty", &["cat"], 2);
    fs::create_dir(place.path("empty/dog")).unwrap();
    place.write("corrupt/cat/a.png", b"\x89PNG\r\n\x1a\n");
    place.photographs("corrupt", &["dog"], 2);
    place.photographs("one", &["cat"], 4);
    place.photographs("parts/train", &["cat"], 1);
    place.photographs("frog", &["cat", "frog"], 2);
    let with = |data: &str| format!("train base.onnx --data {data} --epochs 1 --out a.edelta");
    each_fails(
        &place,
        &[
            ("train base.onnx --out a.edelta", &["no data", "--data PATH"]),
            (&with("missing"), &["missing", "check the path"]),
            (
                &with("empty"),
                &["empty/dog", "add photographs (JPEG, PNG, WebP, BMP, GIF or TIFF) or remove the folder"],
            ),
            (&with("corrupt"), &["corrupt/cat", "a.png", "add photographs"]),
            (&with("one"), &["1 class", "add samples of another class"]),
            (&with("parts"), &["parts/train", "not classes"]),
            (&with("train/cat"), &["outside of any class folder", "move it"]),
            (&with("base.onnx"), &["base.onnx", "unknown kind of data", ".csv"]),
            (&format!("{} --test frog", with("train")), &["frog/frog", "class `frog`", "cat, dog", "remove it"]),
            (&format!("{} --test missing", with("train")), &["missing", "check the path"]),
        ],
    );
}

#[test]
fn settings_that_make_no_sense() {
    let place = ready();
    let with = |more: &str| format!("{TRAIN} {more}");
    each_fails(
        &place,
        &[
            (&with("--epochs 0"), &["--epochs", "1 or more"]),
            (&with("--max-steps 0"), &["--max-steps", "1 or more"]),
            (&with("--batch 0"), &["--batch", "1 or more"]),
            (&with("--accumulate 0"), &["--accumulate", "1 or more"]),
            (&with("--patience 0"), &["--patience", "1 or more"]),
            (&with("--patience 3 --val-fraction 0"), &["--patience", "--val-fraction"]),
            (&with("--lr 0"), &["--lr", "0.001"]),
            (&with("--lr nan"), &["--lr", "NaN", "0.001"]),
            (&with("--lr=-1"), &["--lr", "-1"]),
            (&with("--val-fraction 1"), &["--val-fraction 1", "0.2"]),
            (&with("--val-fraction=-0.1"), &["--val-fraction", "0.2"]),
            (&with("--warmup 2"), &["--warmup", "0 to 1"]),
            (&with("--clip-norm 0"), &["--clip-norm", "leave it out"]),
            (&with("--weight-decay=-1"), &["--weight-decay", "0 or more"]),
            (&with("--momentum 0.9"), &["--momentum", "--optimizer sgd"]),
            (&with("--optimizer sgd --momentum 1"), &["--momentum", "below 1"]),
            (&with("--label-smoothing 1"), &["--label-smoothing", "below 1"]),
            (&with("--loss huber --label-smoothing 0.1"), &["--label-smoothing", "cross-entropy"]),
            (&with("--loss huber --class-weights balanced"), &["--class-weights", "cross-entropy"]),
            (&with("--class-weights 1,2,3"), &["--class-weights", "3 weights for 2 classes (cat, dog)"]),
            (&with("--class-weights 0,0"), &["--class-weights", "cat, dog"]),
            (&with("--class-weights heavy"), &["--class-weights `heavy`", "balanced"]),
            (&with("--loss huber"), &["--loss", "`huber`", "cross-entropy"]),
            (&with("--per-class 0"), &["--per-class", "1 or more"]),
        ],
    );
}

#[test]
fn what_does_not_fit_the_model() {
    let place = ready();
    place.write("tokenizer.json", "{}");
    let with = |more: &str| format!("{TRAIN} {more}");
    each_fails(
        &place,
        &[
            (&with("--size 24"), &[".png", "[3, 24, 24]", "float[batch,3,16,16]", "--size"]),
            (&with("--size huge"), &["`size`", "`huge`", "224"]),
            (&with("--layout nhwc"), &["float[batch,3,16,16]", "--layout"]),
            (&with("--std 0"), &["`std`", "above 0"]),
            (&with("--mean 1,2"), &["`mean`", "0.485"]),
            (&with("--tokenizer tokenizer.json"), &["--tokenizer", "float[batch,3,16,16]", "remove"]),
            (&with("--output logit"), &["--output `logit`", "outputs are logits"]),
            (&with("--train nothing*"), &["--train `nothing*`", "edgetune inspect"]),
            (&with("--train last:0"), &["--train `last:0`", "N ≥ 1"]),
            (&with("--provider cuda"), &["`cuda`", "--features cuda"]),
            (&with("--onnxruntime nowhere.so"), &["nowhere.so", "--onnxruntime", "correct the path"]),
            (&with("--onnxruntime base.onnx"), &["base.onnx", "--onnxruntime"]),
        ],
    );
}

#[test]
fn a_node_without_a_gradient_is_named_with_its_remedy() {
    let place = Place::with_sequences();
    let train = "train recurrent.onnx --data sequences --epochs 1 --out a.edelta --train";
    each_fails(&place, &[(&format!("{train} last:3"), &["LSTM", "opset 17", "no gradient", "last:N"])]);
    place.run(&format!("{train} last:2")).done();
}

#[test]
fn a_result_without_a_place_is_refused_before_training() {
    let place = ready();
    let train = "train base.onnx --data train --epochs 1";
    each_fails(
        &place,
        &[
            (&format!("{train} --out nowhere/a.edelta"), &["--out nowhere/a.edelta", "folder that exists"]),
            (&format!("{train} --out a.edelta/b.edelta"), &["--out a.edelta/b.edelta", "folder that exists"]),
            (&format!("{train} --out train"), &["--out train", "is a folder", "train/adapter.edelta"]),
            (&format!("{TRAIN} --report nowhere/r.json"), &["--report nowhere/r.json", "folder that exists"]),
            (&format!("{TRAIN} --cache a.edelta"), &["a.edelta", "writable"]),
            ("prepare base.onnx --classes 2 --out a.edelta", &["--out a.edelta", "this is a file; name a folder"]),
            ("man --out nowhere", &["--out nowhere", "exists"]),
        ],
    );
}

#[test]
fn without_a_home_the_cache_needs_a_place() {
    let place = ready();
    let mut command = place.command(TRAIN);
    command.env_remove("HOME");
    finished(command).fails(&["HOME", "--cache DIR"]);
    assert_eq!(place.read("a.edelta"), b"EDLT old");
    assert_eq!(place.names(), ["a.edelta", "base.onnx", "train"]);
    place.run_with("XDG_CACHE_HOME", place.path("cache"), TRAIN).done();
    assert!(place.names().contains(&"cache".into()));
}

#[test]
fn a_delta_that_does_not_belong() {
    let place = ready();
    place.link("tests/goldens/training/mobilenet_bn.onnx", "other.onnx");
    place.run("train base.onnx --data train --epochs 1 --out good.edelta").done();
    place.photographs("frog", &["cat", "frog"], 2);
    let whole = place.read("good.edelta");
    place.write("cut.edelta", &whole[..whole.len() - 7]);
    let mut damaged = whole.clone();
    damaged[whole.len() / 2] ^= 1;
    place.write("damaged.edelta", damaged);
    for command in ["eval MODEL --data train --adapter", "predict MODEL train --adapter"] {
        let with = |model: &str, delta: &str| format!("{} {delta}", command.replace("MODEL", model));
        each_fails(
            &place,
            &[
                (&with("other.onnx", "good.edelta"), &["good.edelta", "other.onnx", "that it was trained on"]),
                (&with("base.onnx", "cut.edelta"), &["cut.edelta", "cut off", "fetch it again"]),
                (&with("base.onnx", "damaged.edelta"), &["damaged.edelta", "damaged", "fetch it again"]),
                (&with("base.onnx", "base.onnx"), &["base.onnx", "not a delta", "file that edgetune wrote"]),
                (&with("base.onnx", "missing.edelta"), &["missing.edelta", "check the path"]),
            ],
        );
    }
    each_fails(
        &place,
        &[
            ("eval base.onnx --adapter good.edelta --data frog", &["frog/frog", "cat, dog", "rename or remove"]),
            ("predict base.onnx --adapter good.edelta no.png", &["no.png", "check the path"]),
            ("predict base.onnx --adapter good.edelta base.onnx", &["base.onnx", "name images"]),
        ],
    );
}

#[test]
fn a_recipe_with_a_mistake_names_field_and_file() {
    let place = ready();
    let recipes = [
        ("unknown.toml", "model = 'base.onnx'\nepoch = 3", &["unknown.toml", "epoch", "line 2"][..]),
        ("type.toml", "epochs = 'three'", &["type.toml", "epochs = 'three'", "correct the line"]),
        ("value.toml", "optimizer = 'lamb'", &["value.toml", "optimizer", "adamw"]),
        ("nested.toml", "[samples]\nsizes = 3", &["nested.toml", "sizes"]),
        ("syntax.toml", "model = 'base.onnx", &["syntax.toml", "line 1"]),
    ];
    for (name, text, parts) in recipes {
        place.write(name, text);
        let ran = place.run(&format!("train {name} --data train"));
        assert_eq!(ran.code, Some(1), "{}", ran.err);
        parts.iter().for_each(|part| assert!(ran.err.contains(part), "`{part}` is not in: {}", ran.err));
    }
    place.write("empty.toml", "");
    each_fails(
        &place,
        &[
            ("train empty.toml --data train", &["no model", "recipe"]),
            ("train missing.toml", &["missing.toml", "check the path"]),
            ("demo --models train", &["--models DIR", "train/demo.toml"]),
        ],
    );
}

#[test]
fn too_large_a_learning_rate_is_told() {
    let place = ready();
    each_fails(&place, &[(&format!("{TRAIN} --lr 1e20"), &["lower --lr", "--clip-norm 1", "epoch 1"])]);
}

#[test]
fn wheels_that_are_none() {
    let place = Place::new();
    place.write("onnxruntime-1.32.0-cp311-cp311-any.whl", "PK");
    place.write("wheel.zip", "PK");
    each_fails(
        &place,
        &[
            ("runtime install --wheel missing.whl", &["missing.whl", "onnxruntime-VERSION"]),
            ("runtime install --wheel wheel.zip", &["wheel.zip", "onnxruntime-VERSION"]),
            ("runtime install --wheel onnxruntime-1.32.0-cp311-cp311-any.whl", &["SHA-256", "fetch it again"]),
            ("runtime install --wheel onnxruntime-1.32.0-cp312-x.whl", &["cp312-x.whl", "check the path"]),
            ("runtime install --version 1.2.3", &["1.2.3", "1.32.0"]),
        ],
    );
}

/// Runs the program where `full` is a folder of 64 KiB; `None` where this system lets nobody make one.
fn with_little_room(place: &Place, script: &str) -> Option<super::Ran> {
    fs::create_dir_all(place.path("full")).unwrap();
    let mount = "mount -t tmpfs -o size=64k none full 2>/dev/null || exit 77\n";
    let mut command = Command::new("unshare");
    command.args(["-rm", "sh", "-c", &format!("{mount}{script}")]);
    let ours = place.command("");
    command.current_dir(ours.get_current_dir().unwrap()).env_clear();
    command.envs(ours.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.env("EDGETUNE", super::program());
    let ran = command.output().ok().filter(|output| output.status.code() != Some(77))?;
    // 1 without words of the program: the system has no such namespaces.
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let ran = super::Ran { code: ran.status.code(), out: text(ran.stdout), err: text(ran.stderr) };
    (!ran.err.contains("unshare")).then_some(ran)
}

#[test]
fn a_full_disk_leaves_the_old_delta() {
    let place = ready();
    place.photographs("train", &["ship"], 4);
    let fill = "cp a.edelta full/a.edelta; head -c 40000 /dev/zero > full/filler\n";
    let train = "$EDGETUNE train base.onnx --data train --train last:4 --epochs 1 --out full/a.edelta; code=$?\n";
    let look = "cat full/a.edelta; ls -A full | tr '\\n' ' '; exit $code";
    let Some(ran) = with_little_room(&place, &format!("{fill}{train}{look}")) else {
        return eprintln!("skipped: this system lets no test mount a small file system");
    };
    assert!(ran.out.contains("olda.edelta filler "), "{}", ran.out);
    ran.fails(&["full/a.edelta", "has space"]);
}

#[test]
fn a_full_cache_costs_speed_alone() {
    let place = ready();
    let train = "XDG_CACHE_HOME=$PWD/full $EDGETUNE train base.onnx --data train --epochs 1 --out a.edelta";
    let Some(ran) = with_little_room(&place, train) else {
        return eprintln!("skipped: this system lets no test mount a small file system");
    };
    // The bundle needs the space, features do not.
    ran.fails(&["full/edgetune/bundles", "free space"]);
    let bundles = "mkdir -p full/edgetune cache/bundles; ln -s $PWD/cache/bundles full/edgetune/bundles\n";
    let ran = with_little_room(&place, &format!("{bundles}{train}")).unwrap().done();
    let warnings = ran.err.matches("warning: feature cache").count();
    assert_eq!(warnings, 1, "{}", ran.err);
}

#[test]
fn the_demo_needs_its_folder() {
    Place::new().run("demo").fails(&["project's folder", "--models DIR", "models/demo.toml"]);
    assert!(project("models/demo.toml").exists());
}

/// What was probably meant is told; a number is refused for what is wrong with it.
#[test]
fn slips_are_told_with_what_was_meant() {
    let place = ready();
    each_fails(
        &place,
        &[
            (&format!("{TRAIN} --lr -1"), &["--lr", "-1 is not a positive number"]),
            (&format!("{TRAIN} --head-rate -1"), &["--head-rate", "-1 is not a positive number"]),
            (&format!("{TRAIN} --warmup -1"), &["--warmup", "-1 is no share"]),
            ("check base.onnx --train last2", &["--train `last2`", "did you mean last:2?"]),
            ("check base.onnx --train hed", &["--train `hed`", "did you mean `head`?"]),
            ("check base.onnx --train zebra", &["--train `zebra`", "edgetune inspect MODEL --all"]),
        ],
    );
    for (arguments, part) in [
        ("train base.onnx --epochs -2", "-2 is no whole number of 0 or more"),
        ("inspect base.onnx --batch 0", "0 is not from 1 to 65536"),
        ("train base.onnx --lr many", "write a number"),
    ] {
        let ran = place.run(arguments);
        assert!(ran.code == Some(2) && ran.err.contains(part), "{arguments}: {}", ran.err);
    }
}
