//! The command line as its users meet it: the real program on small real data, with the real ONNX Runtime.

mod adapters;
mod agent;
mod anomalies;
mod before;
mod boxes;
mod brought;
mod cached;
mod classes;
mod contract;
mod defaults;
mod deltas;
mod encodings;
mod exported;
mod failures;
mod gates;
mod go_on;
mod help;
mod interrupts;
mod kinds;
mod language;
mod likeness;
mod machine;
mod memory;
mod models;
mod moments;
mod odd;
mod ordinal;
mod outputs;
mod own_loss;
mod page;
mod pixels;
mod newcomer;
mod plan;
mod recurrent;
mod retention;
mod segmentation;
mod sensors;
mod solve;
mod suspects;
mod sounds;
mod tokens;
mod transcription;

use crate::engine::runtime;
use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// A folder that the program runs in, with a home of its own.
pub struct Place(TempDir);

/// How a run of the program ended.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Place {
    /// An empty folder.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("home")).unwrap();
        Self(folder)
    }

    /// A folder with `base.onnx`, one of the small models in `tests/goldens/training`.
    pub fn with_model(name: &str) -> Self {
        let place = Self::new();
        place.link(&format!("tests/goldens/training/{name}.onnx"), "base.onnx");
        place
    }

    /// The path of a file in it.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.0.path().join(name)
    }

    /// Puts a file of the project under a name.
    pub fn link(&self, project_file: &str, name: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(project(project_file), path).unwrap();
    }

    /// Writes a file.
    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    /// What a file holds.
    pub fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// The names in the folder, but for the home.
    pub fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.path()).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name != "home")
            .collect();
        names.sort();
        names
    }

    /// `count` photographs of each of some CIFAR-10 classes as `<name>/<class>/*.png`, 32 × 32 pixels.
    pub fn photographs(&self, name: &str, classes: &[&str], count: usize) {
        for class in classes {
            let mut files: Vec<PathBuf> = fs::read_dir(project("models/cifar10/train").join(class))
                .unwrap()
                .map(|entry| entry.unwrap().path())
                .collect();
            files.sort();
            let folder = self.path(name).join(class);
            fs::create_dir_all(&folder).unwrap();
            for file in files.iter().take(count) {
                std::os::unix::fs::symlink(file, folder.join(file.file_name().unwrap())).unwrap();
            }
        }
    }

    /// The program, ready to start in the folder; arguments are separated by spaces. `EDGETUNE_TEST_RUNNER` holds what a
    /// program for another machine is started with (`cross/run` sets it).
    pub fn command(&self, arguments: &str) -> Command {
        let program = program();
        let runner = std::env::var("EDGETUNE_TEST_RUNNER").unwrap_or_default();
        let mut words = runner.split_whitespace().chain([program.as_str()]);
        let mut command = Command::new(words.next().unwrap_or(&program));
        command.args(words).args(arguments.split_whitespace()).current_dir(self.0.path()).stdin(Stdio::null());
        command.env_clear().env("HOME", self.path("home")).env("ORT_DYLIB_PATH", &runtime().path);
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        // The time is in a delta: only with this one are the bytes of equal runs equal.
        command.env("SOURCE_DATE_EPOCH", "1700000000");
        command
    }

    /// Runs the program to its end.
    pub fn run(&self, arguments: &str) -> Ran {
        finished(self.command(arguments))
    }

    /// Runs the program with an environment variable.
    pub fn run_with(&self, variable: &str, value: impl AsRef<OsStr>, arguments: &str) -> Ran {
        let mut command = self.command(arguments);
        command.env(variable, value);
        finished(command)
    }
}

impl Ran {
    /// The run, which must have succeeded.
    #[track_caller]
    pub fn done(self) -> Self {
        assert_eq!(self.code, Some(0), "{}{}", self.out, self.err);
        self
    }

    /// The one JSON document that a run printed.
    #[track_caller]
    pub fn json(self) -> serde_json::Value {
        let ran = self.done();
        serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("{error}: {}", ran.out))
    }

    /// The message of a run that must have failed with exit code 1 and one line that names all these parts.
    #[track_caller]
    pub fn fails(self, parts: &[&str]) -> String {
        assert_eq!(self.code, Some(1), "{}{}", self.out, self.err);
        let message = self.err.lines().rev().find(|line| line.starts_with("error: "));
        let message = message.unwrap_or_else(|| panic!("no error line: {}", self.err)).to_string();
        for part in parts {
            assert!(message.contains(part), "`{part}` is not in: {message}");
        }
        message
    }
}

/// Tells past the test harness, which shows nothing of tests that pass, what this machine cannot test.
pub fn not_tested(what: &str) {
    // Not `eprintln!`, which the harness would keep to itself.
    std::io::stderr().write_all(format!("\nNOT TESTED: {what}\n\n").as_bytes()).unwrap();
}

/// The program that is tested: the one that was built with the tests, or another, faster one that `EDGETUNE_TEST_PROGRAM` names.
pub fn program() -> String {
    std::env::var("EDGETUNE_TEST_PROGRAM").unwrap_or_else(|_| env!("CARGO_BIN_EXE_edgetune").into())
}

/// Waits for the end.
pub fn finished(mut command: Command) -> Ran {
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let ran = Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) };
    // Whoever asks for the runtime's own lines gets them.
    if command.get_envs().all(|(name, _)| name != "EDGETUNE_LOG") {
        ran.err.lines().chain(ran.out.lines()).for_each(begins_with_own_words);
    }
    ran
}

/// Words that ONNX Runtime alone uses.
const RUNTIMES: [&str; 9] = [
    "Non-zero status code",
    "Status Message:",
    "ShapeInferenceError",
    "TypeInferenceError",
    "INVALID_ARGUMENT",
    "INVALID_GRAPH",
    "Load model from",
    "Type Error:",
    "onnxruntime:",
];

/// Whatever a command of any test prints: what the runtime says comes at the end of a line, behind a sentence of edgetune's own.
#[track_caller]
fn begins_with_own_words(line: &str) {
    let Some(raw) = RUNTIMES.iter().filter_map(|words| line.find(words)).min() else { return };
    let says = line.find(" says: ").filter(|at| line[..*at].contains("ONNX Runtime"));
    // A sentence, not only a file's name.
    let own = says.is_some_and(|says| says < raw && line[..says].contains("; "));
    assert!(own, "ONNX Runtime's words reach the user without a sentence before them: {line}");
}

/// A file of the project.
pub fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The names of a JSON object, sorted.
pub fn names(value: &serde_json::Value) -> Vec<&str> {
    let mut names: Vec<&str> =
        value.as_object().unwrap_or_else(|| panic!("{value}")).keys().map(String::as_str).collect();
    names.sort_unstable();
    names
}
