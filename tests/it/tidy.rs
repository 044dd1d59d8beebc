//! The architecture, executable: reads the project's own source and fails when the module table, an owner or a writing
//! habit of `src/architecture.md` is broken. Change the tables here and that page together.

mod broken;
mod laws;
mod source;

use source::{Path, Token, lex, paths, without_tests};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path as FilePath;

/// One row of the module table.
struct Module {
    name: &'static str,
    /// The project's modules (or paths in them, `sync::wire`) that it may import; `*` is all of them.
    imports: &'static [&'static str],
    /// What of the outside world it never touches.
    never: &'static [Outside],
}

/// The outside world, which pure stages get as arguments instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outside {
    Clock,
    Environment,
    Io,
    Random,
}
use Outside::{Clock, Environment, Io, Random};

/// Who may import whom. A module of `src/` without a row here fails.
#[rustfmt::skip]
const MODULES: &[Module] = &[
    row("atomic",    &[],                                                    &[Clock, Environment, Random]),
    row("mapped",    &[],                                                    &[Clock, Environment, Random]),
    row("priority",  &[],                                                    &[Clock, Environment, Random, Io]),
    row("factor",    &[],                                                    &[Clock, Environment, Random, Io]),
    row("ridge",     &[],                                                    &[Clock, Environment, Random, Io]),
    row("evidence",  &[],                                                    &[Clock, Environment, Random, Io]),
    row("nearest",   &[],                                                    &[Clock, Environment, Random, Io]),
    row("suspect",   &[],                                                    &[Clock, Environment, Random, Io]),
    row("graph",     &[],                                                    &[Clock, Environment, Random, Io]),
    row("onnx",      &["atomic", "graph", "mapped"],                         &[Clock, Environment, Random]),
    row("cut",       &["graph", "nearest"],                                  &[Clock, Environment, Random, Io]),
    row("adapter",   &["amounts", "cut", "factor", "graph", "nearest"],      &[Clock, Environment, Random, Io]),
    row("grad",      &["graph"],                                             &[Clock, Environment, Random, Io]),
    // Reads nothing of the environment, but forbids ONNX Runtime's telemetry there, which has no other switch in time.
    row("engine",    &["atomic", "graph", "onnx"],                           &[Clock, Random]),
    row("data",      &["amounts", "atomic", "graph", "mapped", "nearest"],   &[Clock, Environment]),
    row("cache",     &["atomic", "engine", "graph", "mapped"],               &[Clock, Environment, Random]),
    row("task",      &["adapter", "amounts", "data", "delta", "graph"],       &[Clock, Environment, Random, Io]),
    row("train",     &["adapter", "amounts", "atomic", "cache", "cut", "data", "delta", "engine", "factor", "grad", "graph", "moments", "onnx", "ridge", "task"],
                                                                             &[Clock, Environment]),
    row("delta",     &[],                                                    &[Clock, Environment, Random]),
    row("moments",   &["delta", "factor", "ridge"],                          &[Clock, Environment, Random, Io]),
    row("sync",      &["atomic", "delta"],                                   &[Clock, Environment, Random]),
    row("aggregate", &["delta", "factor"],                                   &[Clock, Environment, Random, Io]),
    row("fleet",     &["aggregate", "amounts", "atomic", "delta", "evidence", "sync::wire"],
                                                                             &[Environment]),
    row("order",     &[],                                                    &[Clock, Environment, Random, Io]),
    row("plot",      &[],                                                    &[Clock, Environment, Random, Io]),
    row("simulate",  &["aggregate", "data", "delta", "engine", "moments", "train"], &[Clock, Environment, Io]),
    row("agent",     &["amounts", "atomic", "cache", "data", "delta", "evidence", "graph", "host", "nearest", "sync"],
                                                                             &[Environment]),
    row("amounts",   &[],                                                    &[Clock, Environment, Random, Io]),
    row("host",      &["atomic", "cache"],                                   &[Clock, Random]),
    row("recipe",    &["adapter", "cut", "data", "delta", "engine", "host", "nearest", "task", "train"],
                                                                             &[Clock, Environment, Random]),
    row("learn",     &["adapter", "amounts", "cut", "data", "delta", "engine", "evidence", "graph", "host", "recipe", "suspect", "task", "train"],
                                                                             &[Clock, Environment, Random]),
    row("predict",   &["amounts", "data", "delta", "engine", "graph", "host", "learn", "recipe", "task", "train"],
                                                                             &[Clock, Environment, Random]),
    row("facade",    &["cut", "data", "engine", "graph", "host", "learn", "predict", "recipe", "task", "train"], &[Random]),
    row("prelude",   &["cut", "data", "facade", "graph", "learn", "predict", "recipe"],
                                                                             &[Clock, Environment, Random, Io]),
    row("cli",       &["*"],                                                 &[]),
    row("bin",       &["cli"],                                               &[Clock, Environment, Random]),
];

/// Crates with owners: only files in these folders (or modules) may name them.
const OWNERS: &[(&str, &[&str])] = &[
    ("anyhow", &["cli", "agent"]),
    ("base64", &["cli/page"]),
    ("axum", &["fleet"]),
    ("claxon", &["data"]),
    ("clap", &["cli"]),
    ("clap_complete", &["cli"]),
    ("clap_mangen", &["cli"]),
    ("csv", &["cli", "data"]),
    ("ed25519_dalek", &["delta"]),
    ("fancy_regex", &["data"]),
    ("fast_image_resize", &["data"]),
    ("form_urlencoded", &["agent/api", "fleet/dashboard"]),
    ("getrandom", &["agent/record", "cli"]),
    ("hashbrown", &["cache"]),
    ("hound", &["data"]),
    ("http_body_util", &["agent/api", "fleet/connections"]),
    ("hyper", &["agent/api", "fleet/connections"]),
    ("hyper_util", &["agent/api", "fleet/connections"]),
    ("image", &["data"]),
    ("indicatif", &["cli"]),
    ("jiff", &["cli", "fleet/dashboard"]),
    ("libc", &["mapped", "priority"]),
    ("listenfd", &["cli"]),
    ("maud", &["agent/api", "cli/page", "fleet/dashboard"]),
    ("memmap2", &["mapped"]),
    ("object_store", &["fleet/store"]),
    ("ort", &["engine"]),
    ("percent_encoding", &["sync/client"]),
    ("pkcs8", &["cli/locked"]),
    ("png", &["cli/page", "data"]),
    ("prost", &["onnx"]),
    ("rcgen", &["fleet/tls"]),
    ("reqwest", &[]),
    ("rustix", &["agent", "cache", "cli", "fleet/readiness", "priority"]),
    ("rustls", &["fleet/tls", "sync/client/line"]),
    ("safetensors", &["train"]),
    ("signal_hook", &["cli", "agent"]),
    ("sqlx", &["fleet/db"]),
    ("strsim", &["nearest"]),
    ("tokenizers", &["data"]),
    ("tokio", &["agent", "fleet", "sync"]),
    ("tokio_rustls", &["fleet"]),
    ("tracing_subscriber", &["cli"]),
    ("ureq", &["sync/client/line"]),
    ("utoipa", &["fleet", "sync/wire"]),
];

/// All that the delta module may name besides itself: it compiles without `std`, and then on a microcontroller.
/// (`std` itself is under its feature; the build without features proves that.)
const DELTA_CRATES: &[&str] =
    &["alloc", "blake3", "core", "ed25519_dalek", "half", "heapless", "postcard", "serde", "std", "thiserror"];

/// Macros that print, for the command line alone.
const PRINTING: &[&str] = &["eprint", "eprintln", "print", "println"];

/// Macros that leave work undone or traces behind, for nobody.
const UNFINISHED: &[&str] = &["dbg", "todo", "unimplemented"];

/// Marks of work left undone, wherever a comment carries them.
const MARKS: &[&str] = &["FIXME", "TODO", "XXX"];

/// Names that say nothing about what is inside.
const EMPTY_NAMES: &[&str] = &["common", "helper", "helpers", "manager", "misc", "util", "utils"];

const FILE_LINES_MAX: usize = 600;

/// Files that may be longer, because they are one table.
const LONG_TABLES: &[&str] = &["tests/it/grad_cases.rs"];

const fn row(name: &'static str, imports: &'static [&'static str], never: &'static [Outside]) -> Module {
    Module { name, imports, never }
}

/// A source file, read once.
struct File {
    /// Relative to the repository, with `/`.
    path: String,
    lines: Vec<String>,
    /// Code with its tests left out.
    tokens: Vec<Token>,
    comments: Vec<(usize, String)>,
}

impl File {
    fn new(path: &str, text: &str) -> File {
        let (tokens, comments) = lex(text);
        let lines = text.lines().map(str::to_owned).collect();
        File { path: path.to_owned(), lines, tokens: without_tests(&tokens), comments }
    }

    /// `src/grad/rules/mod.rs` is `["grad", "rules"]`, `src/lib.rs` is `[]`, outside `src/` there is none.
    fn module(&self) -> Option<Vec<&str>> {
        let inside = self.path.strip_prefix("src/")?.strip_suffix(".rs")?;
        let mut segments: Vec<&str> = inside.split('/').collect();
        if matches!(segments.last(), Some(&"mod" | &"lib")) {
            segments.pop();
        }
        Some(segments)
    }

    /// Whether it is the module or folder `place` (`fleet/db`), or lies in it.
    fn belongs_to(&self, place: &str) -> bool {
        let place: Vec<&str> = place.split('/').collect();
        self.module().is_some_and(|module| module.starts_with(&place))
    }

    fn fault(&self, line: usize, what: impl std::fmt::Display) -> String {
        format!("{}:{line}: {what}", self.path)
    }

    /// The project's module path that `path` leads to from this file, if it leads to one.
    fn resolve(&self, path: &Path) -> Option<Vec<String>> {
        let first = path.segments.first()?.as_str();
        let ups = path.segments.iter().take_while(|segment| *segment == "super").count();
        let here = self.module()?;
        let (base, rest) = match first {
            "crate" => (0, &path.segments[1..]),
            "edgetune" => (0, &path.segments[1..]),
            "super" => (here.len().saturating_sub(ups), &path.segments[ups..]),
            _ => return None,
        };
        let base = here[..base].iter().map(|segment| (*segment).to_owned());
        Some(base.chain(rest.iter().filter(|segment| *segment != "self").cloned()).collect())
    }
}

fn files(folders: &[&str]) -> Vec<File> {
    let root = FilePath::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    for folder in folders {
        read_folder(root, &root.join(folder), &mut found);
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn read_folder(root: &FilePath, folder: &FilePath, found: &mut Vec<File>) {
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.expect("a folder entry").path();
        if path.is_dir() {
            read_folder(root, &path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let relative = path.strip_prefix(root).expect("inside the repository").to_string_lossy().replace('\\', "/");
            found.push(File::new(&relative, &fs::read_to_string(&path).expect("readable source")));
        }
    }
}

/// Imports between the project's modules, against the module table.
fn import_faults(file: &File) -> Vec<String> {
    let Some(here) = file.module().and_then(|module| module.first().copied()) else { return Vec::new() };
    let Some(row) = MODULES.iter().find(|row| row.name == here) else {
        return vec![file.fault(1, format!("module `{here}` has no row in the module table"))];
    };
    let allowed = |target: &[String]| {
        let lies_in =
            |import: &str| target.iter().map(String::as_str).take(import.split("::").count()).eq(import.split("::"));
        // What only makes the program smaller is everybody's.
        target[0] == here || target[0] == "order" || row.imports.iter().any(|import| *import == "*" || lies_in(import))
    };
    paths(&file.tokens)
        .iter()
        .filter_map(|path| Some((path.line, file.resolve(path).filter(|target| !target.is_empty())?)))
        .filter(|(_, target)| !allowed(target))
        .map(|(line, target)| {
            let may = if row.imports.is_empty() { "nothing".to_owned() } else { row.imports.join(", ") };
            file.fault(line, format!("`{here}` imports `{}`; it may import {may}", target.join("::")))
        })
        .collect()
}

/// Crates named outside the modules that own them, and anything foreign in `delta`.
fn owner_faults(file: &File) -> Vec<String> {
    let mut faults = Vec::new();
    for path in paths(&file.tokens) {
        let name = path.segments[0].as_str();
        let owners = OWNERS.iter().find(|(owned, _)| *owned == name).map(|(_, owners)| *owners);
        if owners.is_some_and(|owners| !owners.iter().any(|owner| file.belongs_to(owner))) {
            let owners = owners.unwrap_or_default().join(", ");
            faults.push(file.fault(path.line, format!("`{name}` belongs to {owners}")));
        }
        if file.belongs_to("delta") && dependencies().contains(name) && !DELTA_CRATES.contains(&name) {
            faults
                .push(file.fault(path.line, format!("`{name}` in delta, which has only {}", DELTA_CRATES.join(", "))));
        }
    }
    faults
}

/// The crates in `Cargo.toml`, as Rust spells them.
fn dependencies() -> BTreeSet<String> {
    include_str!("../../Cargo.toml")
        .lines()
        .skip_while(|line| *line != "[dependencies]")
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| Some(line.split_once(" = ")?.0.replace('-', "_")))
        .collect()
}

/// Clock, environment, files and chance where they should arrive as arguments.
fn outside_faults(file: &File) -> Vec<String> {
    let here = file.module().and_then(|module| module.first().copied());
    let Some(row) = MODULES.iter().find(|row| Some(row.name) == here) else { return Vec::new() };
    paths(&file.tokens)
        .iter()
        .filter_map(|path| touches(path).filter(|outside| row.never.contains(outside)).map(|outside| (path, outside)))
        .map(|(path, outside)| {
            let path_text = path.segments.join("::");
            file.fault(path.line, format!("`{path_text}`: {outside:?} never in `{}`; take it as an argument", row.name))
        })
        .collect()
}

/// What of the outside world a path reaches.
fn touches(path: &Path) -> Option<Outside> {
    let segments: Vec<&str> = path.segments.iter().map(String::as_str).collect();
    let pair = |first: &str, seconds: &[&str]| segments.windows(2).any(|w| w[0] == first && seconds.contains(&w[1]));
    const VARIABLES: &[&str] =
        &["args", "args_os", "current_dir", "current_exe", "home_dir", "set_var", "temp_dir", "var", "var_os", "vars"];
    if segments.iter().any(|segment| ["Instant", "SystemTime", "chrono"].contains(segment)) {
        Some(Clock)
    } else if pair("env", VARIABLES) {
        Some(Environment)
    } else if segments[0] == "memmap2" || pair("std", &["fs", "io", "net", "process"]) || segments[0] == "fs" {
        Some(Io)
    } else if ["fastrand", "getrandom", "rand"].contains(&segments[0]) || segments.contains(&"RandomState") {
        Some(Random)
    } else {
        None
    }
}

/// Names of the macros called in a file, with their lines.
fn macros(file: &File) -> impl Iterator<Item = (usize, &str)> {
    let calls = file.tokens.windows(2).filter(|pair| pair[1].is('!'));
    calls.filter_map(|pair| Some((pair[0].line, pair[0].word()?)))
}

fn printing_faults(file: &File) -> Vec<String> {
    macros(file)
        .filter(|(_, name)| PRINTING.contains(name) && !file.belongs_to("cli"))
        .map(|(line, name)| file.fault(line, format!("`{name}!` outside cli; give the text to the caller or trace it")))
        .collect()
}

fn unfinished_faults(file: &File) -> Vec<String> {
    let calls =
        macros(file).filter(|(_, name)| UNFINISHED.contains(name)).map(|(line, name)| (line, format!("{name}!")));
    let marks = file.comments.iter().filter_map(|(line, comment)| {
        let mut words = comment.split(|c: char| !c.is_alphanumeric());
        words.find(|word| MARKS.contains(word)).map(|word| (*line, word.to_owned()))
    });
    calls.chain(marks).map(|(line, what)| file.fault(line, format!("`{what}`: finish it or open an issue"))).collect()
}

/// `unsafe` outside its places, and `unsafe` without its reason.
fn unsafe_faults(file: &File) -> Vec<String> {
    let mut faults = Vec::new();
    for pair in file.tokens.windows(2).filter(|pair| pair[0].word() == Some("unsafe")) {
        let line = pair[0].line;
        if !["engine", "mapped", "priority"].iter().any(|module| file.belongs_to(module)) {
            faults.push(file.fault(line, "`unsafe` outside engine, mapped and priority"));
        }
        let is_type = pair[1].word() == Some("extern");
        if !is_type && !has_safety_paragraph(&file.lines, line) {
            faults.push(file.fault(line, "`unsafe` without a `SAFETY:` comment above it"));
        }
    }
    faults
}

/// Whether the comment directly above the statement that reaches `line` (counted from 1) says why it is sound.
fn has_safety_paragraph(lines: &[String], line: usize) -> bool {
    const STATEMENT_LINES: usize = 3;
    let is_comment = |text: &&String| text.trim_start().starts_with("//");
    let is_reason = |text: &String| text.contains("SAFETY:") || text.contains("# Safety");
    let above = lines[..line - 1].iter().rev();
    let skipped = above.clone().take_while(|text| !is_comment(text)).count();
    skipped < STATEMENT_LINES && above.skip(skipped).take_while(is_comment).any(is_reason)
}

fn form_faults(file: &File) -> Vec<String> {
    let mut faults = Vec::new();
    if !file.lines.iter().find(|line| !line.is_empty()).is_some_and(|line| line.starts_with("//! ")) {
        faults.push(file.fault(1, "opens without `//!`: say its stage, what it takes, gives and never does"));
    }
    if file.lines.len() > FILE_LINES_MAX && !LONG_TABLES.contains(&file.path.as_str()) {
        faults.push(
            file.fault(file.lines.len(), format!("longer than {FILE_LINES_MAX} lines; divide it by what it does")),
        );
    }
    let is_empty_name = |name: &str| name.split('_').any(|part| EMPTY_NAMES.contains(&part));
    let parts = file.path.trim_end_matches(".rs").split('/').filter(|part| is_empty_name(part));
    faults.extend(parts.map(|part| file.fault(1, format!("`{part}` says nothing; name it after what is inside"))));
    let modules = file.tokens.windows(2).filter(|pair| pair[0].word() == Some("mod"));
    let empty =
        modules.filter_map(|pair| pair[1].word().filter(|name| is_empty_name(name)).map(|name| (pair[1].line, name)));
    faults.extend(empty.map(|(line, name)| file.fault(line, format!("module `{name}`: name it after what is inside"))));
    faults
}

/// The operators with a gradient: rows of the rule table are calls that start with the operator and name opsets
/// (`rule("Relu", 6..=NEWEST, Flows(…))`), and flow unless they say `Stops` or `Refuses`.
fn flowing_operators(file: &File) -> Vec<(usize, String)> {
    let mut operators = Vec::new();
    for (index, window) in file.tokens.windows(3).enumerate() {
        let (Some(_), true, Some(operator)) = (window[0].word(), window[1].is('('), window[2].text()) else { continue };
        let mut depth = 0i32;
        let row: Vec<&Token> = file.tokens[index + 1..]
            .iter()
            .take_while(|token| {
                depth += i32::from(token.is('(')) - i32::from(token.is(')'));
                depth > 0
            })
            .collect();
        let names_opsets = row.windows(3).any(|w| w[0].is('.') && w[1].is('.') && w[2].is('='));
        let flows = !row.iter().any(|token| matches!(token.word(), Some("Stops" | "Refuses")));
        if names_opsets && flows {
            operators.push((window[2].line, operator.to_owned()));
        }
    }
    operators
}

/// One message with every fault, so that one run shows them all.
fn demand(faults: Vec<String>) {
    assert!(faults.is_empty(), "{} found:\n  {}\n", faults.len(), faults.join("\n  "));
}

fn check(folders: &[&str], rule: fn(&File) -> Vec<String>) {
    let files = files(folders);
    assert!(!files.is_empty(), "no source found in {folders:?}");
    demand(files.iter().flat_map(rule).collect());
}

#[test]
fn modules_import_only_what_the_table_allows() {
    check(&["src"], import_faults);
}

#[test]
fn crates_are_named_only_by_their_owners() {
    check(&["src"], owner_faults);
}

#[test]
fn the_outside_world_arrives_as_arguments() {
    check(&["src"], outside_faults);
}

#[test]
fn only_the_command_line_prints() {
    check(&["src"], printing_faults);
}

#[test]
fn unsafe_code_is_in_its_places_and_says_why() {
    check(&["src"], unsafe_faults);
}

#[test]
fn files_are_named_introduced_and_short() {
    check(&["src", "tests", "benches", "examples", "fuzz/fuzz_targets"], form_faults);
}

#[test]
fn nothing_is_left_unfinished() {
    check(&["src", "tests", "benches", "examples", "fuzz/fuzz_targets"], unfinished_faults);
}

#[test]
fn the_library_root_and_the_binaries_hold_no_logic() {
    let mut faults = Vec::new();
    for file in files(&["src"]) {
        let is_root = file.path == "src/lib.rs";
        let logic = ["fn", "impl", "struct", "enum", "trait", "static", "const"];
        let found = file.tokens.iter().find(|token| token.word().is_some_and(|word| logic.contains(&word)));
        if let (true, Some(token)) = (is_root, found) {
            faults.push(file.fault(token.line, "logic in the library root; give it to a module"));
        }
        if file.belongs_to("bin") && file.lines.len() > 5 {
            faults.push(file.fault(1, "a binary calls `cli` and nothing else"));
        }
    }
    demand(faults);
}

#[test]
fn every_gradient_rule_has_a_case() {
    let tables = files(&["src/grad"]);
    if tables.is_empty() {
        return; // The stage has not landed; the next assertion is for when it has.
    }
    let operators: Vec<(String, String)> = tables
        .iter()
        .flat_map(|file| {
            flowing_operators(file).into_iter().map(|(line, op)| (op, file.fault(line, "no case in grad_cases")))
        })
        .collect();
    assert!(!operators.is_empty(), "no row of the rule table was recognised; `flowing_operators` must learn its form");
    let cases: BTreeSet<String> = files(&["tests/it"])
        .iter()
        .filter(|file| file.path.contains("grad_cases"))
        .flat_map(|file| file.tokens.iter().filter_map(|token| token.text().map(str::to_owned)).collect::<Vec<_>>())
        .collect();
    demand(
        operators
            .into_iter()
            .filter(|(op, _)| !cases.contains(op))
            .map(|(op, fault)| format!("{fault}: {op}"))
            .collect(),
    );
}
