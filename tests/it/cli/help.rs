//! What the program says of itself: help, usage errors, completions, manual pages.

use super::{Place, project};
use std::fs;

/// Every command, with the file that holds its help.
const COMMANDS: &[(&str, &str)] = &[
    ("", "edgetune"),
    ("demo", "demo"),
    ("inspect", "inspect"),
    ("check", "check"),
    ("prepare", "prepare"),
    ("train", "train"),
    ("eval", "eval"),
    ("predict", "predict"),
    ("enroll-identity", "enroll-identity"),
    ("delta", "delta"),
    ("delta keygen", "delta-keygen"),
    ("delta sign", "delta-sign"),
    ("delta verify", "delta-verify"),
    ("delta show", "delta-show"),
    ("delta diff", "delta-diff"),
    ("delta apply", "delta-apply"),
    ("delta merge", "delta-merge"),
    ("delta convert", "delta-convert"),
    ("moments", "moments"),
    ("moments add", "moments-add"),
    ("moments merge", "moments-merge"),
    ("moments remove", "moments-remove"),
    ("moments solve", "moments-solve"),
    ("moments known", "moments-known"),
    ("moments show", "moments-show"),
    ("moments verify", "moments-verify"),
    ("moments basis", "moments-basis"),
    ("retention", "retention"),
    ("retention make", "retention-make"),
    ("export", "export"),
    ("import", "import"),
    ("runtime", "runtime"),
    ("runtime which", "runtime-which"),
    ("runtime install", "runtime-install"),
    ("ops", "ops"),
    ("tasks", "tasks"),
    ("data", "data"),
    ("data check", "data-check"),
    ("board", "board"),
    ("report", "report"),
    ("doctor", "doctor"),
    ("cache", "cache"),
    ("cache show", "cache-show"),
    ("cache clear", "cache-clear"),
    ("cache limit", "cache-limit"),
    ("agent", "agent"),
    ("agent run", "agent-run"),
    ("agent status", "agent-status"),
    ("agent history", "agent-history"),
    ("agent train", "agent-train"),
    ("agent accept", "agent-accept"),
    ("agent rollback", "agent-rollback"),
    ("agent samples", "agent-samples"),
    ("agent samples list", "agent-samples-list"),
    ("agent samples relabel", "agent-samples-relabel"),
    ("agent samples delete", "agent-samples-delete"),
    ("forget", "forget"),
    ("ledger", "ledger"),
    ("ledger show", "ledger-show"),
    ("ledger verify", "ledger-verify"),
    ("ledger trace", "ledger-trace"),
    ("ledger export", "ledger-export"),
    ("fleet", "fleet"),
    ("fleet enroll", "fleet-enroll"),
    ("fleet push", "fleet-push"),
    ("fleet pull", "fleet-pull"),
    ("fleet report", "fleet-report"),
    ("fleet sync", "fleet-sync"),
    ("fleet status", "fleet-status"),
    ("completions", "completions"),
    ("man", "man"),
];

/// `UPDATE=1 cargo test help_is` writes the files anew.
#[test]
fn help_is_what_the_files_say_and_has_an_example() {
    let update = std::env::var_os("UPDATE").is_some();
    let place = Place::new();
    for (command, file) in COMMANDS {
        let help = place.run(&format!("{command} --help")).done().out;
        assert!(help.contains("Example"), "{command}: no example");
        let path = project("tests/it/cli/help").join(file).with_extension("txt");
        if update {
            fs::write(&path, &help).unwrap();
        }
        let expected = fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(help, expected, "`{command} --help` changed; if that is meant: UPDATE=1 cargo test help_is");
    }
}

/// A manual page indents a description by 14 columns: a word of more than 64 leaves a line of 78 that can neither be filled nor
/// broken, and `man --warnings` says so.
#[test]
fn no_word_of_help_is_too_long_for_a_manual_page() {
    let place = Place::new();
    for (command, _) in COMMANDS {
        let help = place.run(&format!("{command} --help")).done().out;
        let descriptions = help.lines().filter(|line| line.starts_with("          "));
        for word in descriptions.flat_map(str::split_whitespace) {
            assert!(word.chars().count() <= 64, "`{command} --help`: the word {word} is too long");
        }
    }
}

#[test]
fn short_help_fits_a_screen_and_names_every_option() {
    let place = Place::new();
    let name = |line: &str| line.split_whitespace().find(|word| word.starts_with("--")).map(String::from);
    for (command, _) in COMMANDS {
        let (short, long) =
            (place.run(&format!("{command} -h")).done().out, place.run(&format!("{command} --help")).done().out);
        let lines = short.lines().count();
        assert!(
            lines <= 40,
            "`{command} -h` has {lines} lines: give options a help_heading, or shorten their first line"
        );
        for option in long.lines().filter(|line| line.starts_with("      --")).filter_map(name) {
            let named = short.split_whitespace().any(|word| word.trim_end_matches(['.', ',']) == option);
            assert!(named, "{command}: {option} is not in the short help:\n{short}");
        }
    }
    let short = place.run("train -h").done().out;
    let first =
        short.lines().skip_while(|line| *line != "Options:").skip(1).take_while(|line| !line.contains("--help"));
    let first: Vec<String> = first.filter_map(name).collect();
    assert_eq!(first, ["--data", "--test", "--train", "--adapter", "--epochs", "--lr", "--batch", "--out"]);
}

/// Names that people know from other programs: each is understood, so what is missed is the model.
#[test]
fn names_from_other_programs_are_understood() {
    let place = Place::new();
    for given in [
        "--learning-rate 0.01",
        "--batch-size 8",
        "--num-epochs 2",
        "--optim adam",
        "--max-grad-norm 1",
        "--loss mse",
        "--loss ce",
        "--loss bce",
        "--solver logistic",
        "--target-modules x --adapter lora",
        "--val-split 0.1",
    ] {
        place.run(&format!("train none.onnx --data none {given}")).fails(&["none.onnx"]);
    }
    fs::write(
        place.path("r.toml"),
        "model = 'none.onnx'\ndata = 'none'\nlearning-rate = 0.1\nbatch-size = 4\nloss = 'ce'\n",
    )
    .unwrap();
    place.run("train r.toml").fails(&["none.onnx"]);
}

#[test]
fn no_command_is_forgotten_here() {
    let help = Place::new().run("--help").done().out;
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    for line in listed.filter(|line| !line.starts_with("   ")) {
        let command = line.split_whitespace().next().unwrap();
        assert!(command == "help" || COMMANDS.iter().any(|(known, _)| *known == command), "{command}");
    }
}

#[test]
fn the_version_is_the_packages() {
    assert_eq!(Place::new().run("--version").done().out, format!("edgetune {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn wrong_usage_ends_with_2() {
    let place = Place::new();
    for (arguments, part) in [
        ("", "Usage"),
        ("dream", "dream"),
        ("train", "MODEL|RECIPE.toml"),
        ("train base.onnx --batch many", "--batch"),
        ("train base.onnx --loss hinge", "cross-entropy"),
        ("predict base.onnx --adapter a.edelta", "INPUT"),
        ("predict base.onnx --adapter a.edelta x.png --top 0", "--top"),
        ("runtime install --version 1.32.0 --wheel x.whl", "--wheel"),
        ("completions turbo", "turbo"),
    ] {
        let ran = place.run(arguments);
        assert_eq!(ran.code, Some(2), "{arguments}: {}", ran.err);
        assert!(ran.err.contains(part), "{arguments}: {}", ran.err);
    }
}

#[test]
fn completions_and_manual_pages_are_written() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = place.run(&format!("completions {shell}")).done().out;
        assert!(script.contains("edgetune") && script.contains("no-cache"), "{shell}");
    }
    let page = place.run("man").done().out;
    assert!(page.contains(".TH edgetune") && page.contains("predict"), "{page}");
    fs::create_dir(place.path("pages")).unwrap();
    place.run("man --out pages").done();
    let train = fs::read_to_string(place.path("pages/edgetune-train.1")).unwrap();
    assert!(train.contains("patience"), "{train}");
    place.run("man --out nowhere").fails(&["nowhere", "exists"]);
}
