//! The laws of form: functions fit a screen, parameter lists are short, and the library speaks of settings, not of options.
//!
//! Where a law has a list of exceptions, an entry that no longer breaks the law is a fault, too.

use super::*;
use std::collections::BTreeMap;

/// Lines of a function, at most.
const FUNCTION_LINES_MAX: usize = 60;
/// Parameters of a function, at most; `self` does not count.
const PARAMETERS_MAX: usize = 6;

/// Names of functions that say nothing without what they are called on.
const VAGUE_FUNCTIONS: [&str; 6] = ["back", "by", "look", "of", "told", "with"];
/// Names of types that fit any module.
const VAGUE_TYPES: [&str; 5] = ["Choice", "Form", "Found", "Report", "Verdict"];

/// A function as it is written.
#[derive(Debug, PartialEq)]
struct Function {
    name: String,
    line: usize,
    lines: usize,
    /// Without `self`.
    parameters: usize,
}

/// The functions of a file with their bodies, in their order.
fn functions(tokens: &[Token]) -> Vec<Function> {
    let mut found = Vec::new();
    for (place, token) in tokens.iter().enumerate() {
        let name = tokens.get(place + 1).and_then(Token::word).filter(|_| token.word() == Some("fn"));
        let Some(name) = name else { continue };
        let Some(open) = parameters_open(&tokens[place..]) else { continue };
        let open = place + open;
        let close = open + closing(&tokens[open..], '(', ')');
        // A function without a body is a trait's or a foreign one.
        let body = tokens[close..].iter().position(|token| token.is('{') || token.is(';'));
        let Some(body) = body.map(|body| close + body).filter(|body| tokens[*body].is('{')) else { continue };
        let end = body + closing(&tokens[body..], '{', '}');
        let last = tokens.get(end).or(tokens.last()).expect("a function has tokens");
        found.push(Function {
            name: name.to_owned(),
            line: token.line,
            lines: last.line + 1 - token.line,
            parameters: parameters(&tokens[open + 1..close]),
        });
    }
    found
}

/// Where a function's parameters begin: after its name and its generic parameters, which may hold parentheses themselves.
fn parameters_open(tokens: &[Token]) -> Option<usize> {
    let mut angles = 0i32;
    for (place, token) in tokens.iter().enumerate().skip(2) {
        let arrow = token.is('>') && tokens[place - 1].is('-');
        angles += i32::from(token.is('<')) - i32::from(token.is('>') && !arrow);
        if token.is('(') && angles == 0 {
            return Some(place);
        }
    }
    None
}

/// The place of the mark that closes the first one.
fn closing(tokens: &[Token], open: char, close: char) -> usize {
    let mut depth = 0i32;
    let closes = |token: &Token| {
        depth += i32::from(token.is(open)) - i32::from(token.is(close));
        depth == 0
    };
    tokens.iter().position(closes).unwrap_or(tokens.len())
}

/// How many parameters stand between a function's parentheses, without `self`.
fn parameters(tokens: &[Token]) -> usize {
    let mut depth = 0i32;
    let mut parts: Vec<Vec<&Token>> = vec![Vec::new()];
    for (place, token) in tokens.iter().enumerate() {
        let arrow = token.is('>') && place > 0 && tokens[place - 1].is('-');
        let opens = ['(', '[', '{', '<'].iter().any(|mark| token.is(*mark));
        let closes = [')', ']', '}', '>'].iter().any(|mark| token.is(*mark)) && !arrow;
        depth += i32::from(opens) - i32::from(closes);
        if token.is(',') && depth == 0 {
            parts.push(Vec::new());
        } else {
            parts.last_mut().expect("one part at least").push(token);
        }
    }
    let is_self = |part: &Vec<&Token>| {
        let named = part.iter().take_while(|token| !token.is(':')).any(|token| token.word() == Some("self"));
        named && part.len() <= 4
    };
    parts.iter().filter(|part| !part.is_empty() && !is_self(part)).count()
}

/// Faults of a law beside its list: what breaks it and is not listed, and what is listed and does not break it.
fn beside(found: &BTreeMap<String, String>, known: &[&str]) -> Vec<String> {
    let new = found.iter().filter(|(name, _)| !known.contains(&name.as_str())).map(|(_, fault)| fault.clone());
    let gone = known.iter().filter(|name| !found.contains_key(**name));
    new.chain(gone.map(|name| format!("{name}: keeps the law now; take it from the list"))).collect()
}

/// Functions of the project's code that break a law, under `path: name`.
fn breaking(breaks: impl Fn(&Function) -> Option<String>) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for file in files(&["src"]) {
        for function in functions(&file.tokens) {
            if let Some(what) = breaks(&function) {
                let name = format!("{}: {}", file.path, function.name);
                found.insert(name, file.fault(function.line, what));
            }
        }
    }
    found
}

#[test]
fn a_function_fits_a_screen() {
    let found = breaking(|function| {
        let Function { name, lines, .. } = function;
        (*lines > FUNCTION_LINES_MAX).then(|| format!("`{name}` has {lines} lines, more than {FUNCTION_LINES_MAX}"))
    });
    demand(beside(&found, TABLES));
}

#[test]
fn a_parameter_list_is_short() {
    let found = breaking(|function| {
        let Function { name, parameters, .. } = function;
        (*parameters > PARAMETERS_MAX)
            .then(|| format!("`{name}` has {parameters} parameters, more than {}", PARAMETERS_MAX))
    });
    demand(found.into_values().collect());
}

#[test]
fn a_functions_name_says_what_it_does() {
    let found = breaking(|function| {
        let name = function.name.as_str();
        VAGUE_FUNCTIONS
            .contains(&name)
            .then(|| format!("`{name}` says nothing: name what it makes, or what it does to what"))
    });
    demand(found.into_values().collect());
}

#[test]
fn a_name_that_could_be_anywhere_is_one_types_alone() {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for file in files(&["src"]) {
        for pair in file.tokens.windows(2) {
            let defines = matches!(pair[0].word(), Some("struct" | "enum" | "trait" | "type"));
            let Some(name) = pair[1].word().filter(|name| defines && VAGUE_TYPES.contains(name)) else { continue };
            found
                .entry(name.to_owned())
                .or_default()
                .push(file.fault(pair[1].line, format!("`{name}` is another type, too")));
        }
    }
    demand(found.into_values().filter(|places| places.len() > 1).flatten().collect());
}

/// What a sentence names as an option of the command line. Commands as a whole (`` `edgetune …` ``) may be named, and words that are handed to
/// a program as they are.
fn option_in(text: &str) -> Option<&str> {
    if text.starts_with("edgetune") || (text.starts_with("--") && !text.contains(' ')) {
        return None;
    }
    let outside = text.split('`').enumerate().filter(|(place, part)| {
        let is_command = ["edgetune ", "cargo ", "train "].iter().any(|name| part.starts_with(name));
        place % 2 == 0 || !is_command
    });
    outside.map(|(_, part)| part).find_map(|part| {
        let start = part.match_indices("--").map(|(at, _)| at).find(|at| {
            let before = part[..*at].chars().next_back();
            let after = part[at + 2..].chars().next();
            !before.is_some_and(|c| c.is_alphanumeric() || c == '-')
                && after.is_some_and(|c| c.is_ascii_lowercase() || c == '{')
        })?;
        part[start..].split_whitespace().next()
    })
}

#[test]
fn only_the_command_line_speaks_of_options() {
    let mut faults = Vec::new();
    for file in files(&["src"]).iter().filter(|file| !file.belongs_to("cli") && !file.belongs_to("bin")) {
        let named = file.tokens.iter().filter_map(|token| Some((token.line, option_in(token.text()?)?)));
        faults.extend(named.map(|(line, option)| {
            file.fault(
                line,
                format!("`{option}` is an option of the command line; write setting `name`, which it maps"),
            )
        }));
    }
    demand(faults);
}

#[test]
fn functions_are_measured() {
    let text = "//! A.\nfn one(a: u8, (b, c): (u8, u8), d: Vec<(u8, u8)>) {\n}\nimpl A {\n fn two(&mut self, f: fn(u8, u8) -> u8)\n \
                {\n }\n fn three<F: Fn(u8, u8)>(self) -> u8 { 3 }\n}\ntrait B { fn four(&self, a: u8); }";
    let found = functions(&File::new("src/a.rs", text).tokens);
    let told: Vec<_> = found.iter().map(|f| (f.name.as_str(), f.line, f.lines, f.parameters)).collect();
    assert_eq!(told, [("one", 2, 2, 3), ("two", 5, 3, 1), ("three", 8, 1, 0)]);
}

#[test]
fn options_are_seen_in_strings_and_commands_are_not() {
    assert_eq!(option_in("give --epochs N"), Some("--epochs"));
    assert_eq!(option_in("`--{option}` is none"), Some("--{option}"));
    for text in ["see `edgetune inspect MODEL --all`", "a -- b", "r--s 00", "-----BEGIN", "setting `epochs`"] {
        assert_eq!(option_in(text), None, "{text}");
    }
}

/// The file of `src/` that a module path leads to: the deepest one that there is.
fn file_of(path: &[String], known: &BTreeSet<String>) -> Option<String> {
    (1..=path.len()).rev().find_map(|length| {
        let name = path[..length].join("/");
        [format!("src/{name}.rs"), format!("src/{name}/mod.rs")].into_iter().find(|file| known.contains(file))
    })
}

/// Which files of the same module each file imports. A module's root names all of its files, so it is left out.
fn imports(files: &[File]) -> BTreeMap<String, BTreeSet<String>> {
    let known: BTreeSet<String> = files.iter().map(|file| file.path.clone()).collect();
    let module = |path: &str| path.trim_start_matches("src/").split('/').next().map(str::to_owned);
    let mut graph = BTreeMap::new();
    for file in files.iter().filter(|file| !file.path.ends_with("/mod.rs")) {
        let targets = paths(&file.tokens).into_iter().filter_map(|path| file_of(&file.resolve(&path)?, &known));
        let inside = targets.filter(|target| !target.ends_with("/mod.rs") && *target != file.path);
        let inside = inside.filter(|target| module(target) == module(&file.path)).collect();
        graph.insert(file.path.clone(), inside);
    }
    graph
}

/// The files from which one can get back to them by imports.
fn in_circles(graph: &BTreeMap<String, BTreeSet<String>>) -> BTreeSet<String> {
    let reaches_itself = |start: &&String| {
        let mut seen = BTreeSet::new();
        let mut open: Vec<&String> = graph[*start].iter().collect();
        while let Some(file) = open.pop() {
            if file == *start {
                return true;
            }
            if seen.insert(file) {
                open.extend(graph.get(file).into_iter().flatten());
            }
        }
        false
    };
    graph.keys().filter(reaches_itself).cloned().collect()
}

#[test]
fn files_of_one_module_import_each_other_in_one_direction() {
    let found: BTreeMap<String, String> = in_circles(&imports(&files(&["src"])))
        .into_iter()
        .map(|file| (file.clone(), format!("{file}: imports a file of its module that imports it again")))
        .collect();
    demand(found.into_values().collect());
}

#[test]
fn circles_are_found() {
    let file = |path: &str, text: &str| File::new(path, text);
    let files = [
        file("src/a/one.rs", "use super::two::X;"),
        file("src/a/two.rs", "use crate::a::three::Y;"),
        file("src/a/three.rs", "use super::one::Z;\nuse crate::b::four::V;"),
        file("src/b/four.rs", "use super::five;"),
        file("src/b/five.rs", "use std::fs;"),
    ];
    let found: Vec<String> = in_circles(&imports(&files)).into_iter().collect();
    assert_eq!(found, ["src/a/one.rs", "src/a/three.rs", "src/a/two.rs"]);
}

/// What the agent decides, it decides by what it is given: so each decision can be tested, and told again from the history.
#[test]
fn the_agent_decides_without_files_clock_and_chance() {
    let mut faults = Vec::new();
    for file in files(&["src/agent/judge"]) {
        let reached = paths(&file.tokens).into_iter().filter_map(|path| Some((path.line, touches(&path)?)));
        faults.extend(reached.map(|(line, outside)| file.fault(line, format!("{outside:?} in `agent/judge`"))));
    }
    demand(faults);
}

/// Functions that are tables: a row for each case, however many there are.
const TABLES: &[&str] = &["src/delta/error.rs: fmt"];

#[test]
fn every_task_has_a_file_and_each_of_its_losses_a_test_of_the_command() {
    let tests = files(&["tests/it/cli"]);
    let named = |loss: &str| tests.iter().any(|file| file.lines.iter().any(|line| line.contains(loss)));
    for task in edgetune::task::TASKS {
        let file = format!("src/task/{}.rs", task.name.replace('-', "_"));
        assert!(FilePath::new(env!("CARGO_MANIFEST_DIR")).join(&file).is_file(), "{}: no file {file}", task.name);
        for loss in task.losses {
            assert!(named(loss), "`{loss}` of {} has no test in tests/it/cli", task.name);
        }
    }
}
