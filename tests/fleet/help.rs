//! What `edgetune-fleet` says of itself.

use std::path::Path;
use std::process::Command;

/// Every command, with the file that holds its help.
const COMMANDS: &[(&str, &str)] = &[
    ("", "edgetune-fleet"),
    ("serve", "serve"),
    ("channel", "channel"),
    ("channel create", "channel-create"),
    ("channel release", "channel-release"),
    ("channel close", "channel-close"),
    ("token", "token"),
    ("root", "root"),
    ("root init", "root-init"),
    ("root sign", "root-sign"),
    ("root rotate", "root-rotate"),
    ("backup", "backup"),
    ("restore", "restore"),
    ("simulate", "simulate"),
    ("openapi", "openapi"),
    ("completions", "completions"),
    ("man", "man"),
];

fn said(arguments: &[&str]) -> String {
    let mut program = Command::new(env!("CARGO_BIN_EXE_edgetune-fleet"));
    // Help shows what variables say.
    program.env_remove("EDGETUNE_FLEET_DATABASE").env_remove("EDGETUNE_FLEET_STORE");
    let program = program.args(arguments).env("COLUMNS", "100").output().unwrap();
    assert!(program.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&program.stderr));
    String::from_utf8(program.stdout).unwrap()
}

/// `UPDATE=1 cargo test --features fleet --test fleet help_is` writes the files anew.
#[test]
fn help_is_what_the_files_say_and_has_an_example() {
    for (command, file) in COMMANDS {
        let arguments: Vec<&str> = command.split_whitespace().chain(["--help"]).collect();
        let help = said(&arguments);
        assert!(help.contains("Example"), "{command}: no example");
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fleet/help").join(file).with_extension("txt");
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&path, &help).unwrap();
        }
        let expected = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(help, expected, "`edgetune-fleet {command} --help` changed; if that is meant: UPDATE=1");
    }
    let listed = said(&["--help"]);
    assert!(listed.starts_with("The server of a fleet"), "it tells of another program: {listed}");
    let listed = listed.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    for line in listed.filter(|line| !line.starts_with("   ")) {
        let command = line.split_whitespace().next().unwrap();
        assert!(command == "help" || COMMANDS.iter().any(|(known, _)| *known == command), "{command}");
    }
}

/// A manual page for each command, and completions that know them.
#[test]
fn manual_and_completions_are_of_this_program() {
    let folder = tempfile::tempdir().unwrap();
    said(&["man", "--out", folder.path().to_str().unwrap()]);
    let serve = std::fs::read_to_string(folder.path().join("edgetune-fleet-serve.1")).unwrap();
    assert!(serve.contains("insecure"), "{serve}");
    let bash = said(&["completions", "bash"]);
    assert!(bash.contains("edgetune-fleet") && bash.contains("simulate"), "{bash}");
}
