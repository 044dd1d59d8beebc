//! A Python that has the other programs.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// The Python that `EDGETUNE_PYTHON` names, or else `python3`, if it can import the modules. Without it `test` is left out,
/// which is said where the harness does not swallow it.
pub fn python(test: &str, modules: &[&str]) -> Option<Command> {
    let named = std::env::var_os("EDGETUNE_PYTHON");
    let program = named.clone().unwrap_or_else(|| "python3".into());
    let command = || {
        let mut command = Command::new(&program);
        command.stdin(Stdio::null()).env("ORT_DISABLE_TELEMETRY", "1").env("HF_HUB_OFFLINE", "1");
        command
    };
    let imports = command().arg("-c").arg(format!("import {}", modules.join(", "))).output();
    if imports.is_ok_and(|output| output.status.success()) {
        return Some(command());
    }
    let (program, modules) = (program.display(), modules.join(" "));
    let remedy = "set EDGETUNE_PYTHON to one that has them";
    let said = format!("SKIPPED {test}: {program} cannot import {modules}; {remedy}\n");
    std::io::stderr().write_all(said.as_bytes()).unwrap();
    None
}

/// Runs a script of this folder.
pub fn run(mut python: Command, script: &str, folder: &Path) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/interchange").join(script);
    let output = python.arg(script).arg(folder).env("HOME", folder).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
}
