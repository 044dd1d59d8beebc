//! `edgetune-fleet simulate` on real photographs and a real model: what is compared comes out in the order that it must.

use edgetune::engine::{self, LibraryChoice};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A folder with a recipe of LoRA and a head, and photographs of three classes.
fn place() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (set, skip, count) in [("train", 0, 30), ("test", 60, 20)] {
        for class in ["airplane", "frog", "truck"] {
            let mut files: Vec<PathBuf> = fs::read_dir(project("models/cifar10/train").join(class))
                .unwrap()
                .map(|entry| entry.unwrap().path())
                .collect();
            files.sort();
            let to = folder.path().join(set).join(class);
            fs::create_dir_all(&to).unwrap();
            for file in files.iter().skip(skip).take(count) {
                std::os::unix::fs::symlink(file, to.join(file.file_name().unwrap())).unwrap();
            }
        }
    }
    let recipe = format!(
        "model = \"{}\"\ndata = \"train\"\ntest = \"test\"\ntrain = [\"head\"]\nepochs = 2\nbatch = 8\nlr = 0.002\n[adapter]\n\
         method = \"lora\"\nrank = 4\ntargets = [\"*_conv_head*\"]\n[samples]\nsize = \"224\"\nscale = \"1\"\nmean = \"127\"\nstd = \"128\"\n",
        project("models/efficientnet_lite0/model.onnx").display()
    );
    fs::write(folder.path().join("recipe.toml"), recipe).unwrap();
    folder
}

fn simulate(folder: &Path, options: &str) -> Output {
    let mut choice = LibraryChoice::new(None, |_| None);
    choice.data_folder = Some(Path::new(env!("CARGO_TARGET_TMPDIR")).into());
    let library = engine::load_or_install(&choice, &mut |_| {}).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_edgetune-fleet"));
    command.args(["simulate", "recipe.toml", "--cache", "cache"]).args(options.split_whitespace());
    command.current_dir(folder).env("ORT_DYLIB_PATH", &library.path).output().unwrap()
}

fn simulated(folder: &Path, options: &str) -> Value {
    let output = simulate(folder, &format!("{options} --json"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut found: Value = serde_json::from_slice(&output.stdout).unwrap();
    // The one thing that the seed does not decide.
    for row in found["rows"].as_array_mut().unwrap() {
        assert!(row.as_object_mut().unwrap().remove("processor_s").unwrap().as_f64().unwrap() >= 0.0);
    }
    found
}

/// The last accuracy of a row: without an attack, or with the first.
fn accuracy(found: &Value, name: &str, attacked: bool) -> f64 {
    let row = found["rows"].as_array().unwrap().iter().find(|row| row["name"] == name).expect(name);
    let outcome = if attacked { &row["attacked"][0] } else { &row["clean"] };
    outcome["rounds"].as_array().unwrap().last().unwrap()["accuracy"].as_f64().unwrap()
}

/// Of one device the exact mean is what it has sent, whatever the scale of its factors is called by.
#[test]
fn the_mean_of_one_is_that_one() {
    let folder = place();
    let recipe = folder.path().join("recipe.toml");
    let text = fs::read_to_string(&recipe).unwrap();
    fs::write(&recipe, text.replace("rank = 4\n", "rank = 4\nalpha = 32.0\n")).unwrap();
    let found = simulated(folder.path(), "--devices 1 --rounds 1 --rule mean");
    let (exact, together) = (accuracy(&found, "mean (exact)", false), accuracy(&found, "together", false));
    assert_eq!(accuracy(&found, "mean of factors", false), together);
    // One of the photographs may come out otherwise, for the factors are others.
    assert!((exact - together).abs() <= 0.02, "exact {exact}, together {together}");
}

#[test]
fn what_is_learned_together_is_worth_more_and_an_attack_costs_the_mean_more_than_the_median() {
    let folder = place();
    let options = "--devices 6 --alpha 0.3 --rounds 3 --samples-min 3 --poisoned 0.2 --attack scale --rule mean --rule median --plot rounds.svg";
    let found = simulated(folder.path(), options);
    let (alone, mean, together) = (
        accuracy(&found, "alone", false),
        accuracy(&found, "mean (exact)", false),
        accuracy(&found, "together", false),
    );
    assert!(together > alone + 0.1, "alone {alone}, together {together}");
    assert!(mean > alone, "alone {alone}, mean {mean}");
    assert_eq!(found["samples"].as_array().unwrap().iter().map(|count| count.as_u64().unwrap()).sum::<u64>(), 90);
    let lost = |name: &str| accuracy(&found, name, false) - accuracy(&found, name, true);
    assert!(lost("mean (exact)") > lost("median") + 0.05, "{} {}", lost("mean (exact)"), lost("median"));
    let plot = fs::read_to_string(folder.path().join("rounds.svg")).unwrap();
    assert!(plot.contains("mean of factors") && plot.contains("scale") && plot.trim_end().ends_with("</svg>"));
    assert_eq!(found, simulated(folder.path(), options), "the seed decides everything");
}

#[test]
fn what_cannot_be_simulated_is_refused_with_the_remedy() {
    let folder = place();
    for (options, told) in [
        ("--devices 500", "fewer devices (--devices)"),
        ("--alpha 0", "--alpha 0"),
        ("--poisoned 1.5", "--poisoned 1.5"),
        ("--rounds 0", "--rounds 0"),
        ("--rule best", "`best` is no rule"),
        ("--test nowhere", "nowhere"),
    ] {
        let output = simulate(folder.path(), options);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(told), "{options}: {said}");
    }
}

/// The recipe stays, and so does a picture that somebody drew.
#[test]
fn a_plot_replaces_no_other_file() {
    let folder = place();
    fs::write(folder.path().join("notes.txt"), "mine").unwrap();
    for (plot, part) in [("recipe.toml", "an input"), ("notes.txt", "--force"), ("train/plot.svg", "inside --data")] {
        let output = simulate(folder.path(), &format!("--plot {plot}"));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(part), "{plot}: {said}");
    }
    assert_eq!(fs::read(folder.path().join("notes.txt")).unwrap(), b"mine");
}

/// Sums of sums are the sums of all: one round of moments does not depend on how the samples are parted, and what is sent is counted.
#[test]
fn moments_reach_in_one_round_what_all_samples_give_however_they_are_parted() {
    let folder = place();
    let parted =
        |options: &str| simulated(folder.path(), &format!("--rounds 1 --rule mean --coordinates 32 {options}"));
    let (few, many) = (parted("--devices 2 --alpha 100"), parted("--devices 12 --alpha 0.2 --samples-min 1"));
    let found = accuracy(&few, "moments", false);
    assert_eq!(found, accuracy(&many, "moments", false));
    assert!(found > 0.7, "{found}");
    let sent = |found: &Value| {
        let row = found["rows"].as_array().unwrap().iter().find(|row| row["name"] == "moments").unwrap();
        row["clean"]["sent_bytes"].as_u64().unwrap()
    };
    assert!(sent(&many) > 3 * sent(&few) && sent(&many) < 12 * 3_000, "{} {}", sent(&few), sent(&many));
}
