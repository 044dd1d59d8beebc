//! What the user sees: text or one JSON document on standard output, progress and warnings on standard error.

use crate::engine::Step;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use std::cell::Cell;
use std::io::{IsTerminal, Write};
use std::time::Duration;

/// Prints in the form that was asked for.
#[derive(Debug)]
pub struct Printer {
    json: bool,
    terminal: bool,
}

impl Printer {
    /// `json` replaces all text on standard output by one document.
    pub fn new(json: bool) -> Self {
        Self { json, terminal: std::io::stderr().is_terminal() }
    }

    /// The result, for a person; nothing where JSON was asked for.
    pub fn text(&self, line: impl AsRef<str>) {
        if !self.json {
            out(line.as_ref());
        }
    }

    /// The result, for a program; nothing where text was asked for.
    pub fn document(&self, value: &impl Serialize) {
        if self.json {
            out(&serde_json::to_string_pretty(value).expect("plain values always encode"));
        }
    }

    /// A part of a text that is still being made, for a person, shown at once.
    pub fn piece(&self, text: &str) {
        if !self.json {
            let mut stdout = std::io::stdout().lock();
            let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
        }
    }

    /// A document that is neither text nor JSON, as it is.
    pub fn raw(&self, bytes: &[u8]) {
        // As in `out`: a reader that has gone away is no failure.
        let _ = std::io::stdout().lock().write_all(bytes);
    }

    /// Something on the way to the result.
    pub fn note(&self, line: impl AsRef<str>) {
        eprintln!("{}", line.as_ref());
    }

    /// Something that the user should look at.
    pub fn warn(&self, line: impl AsRef<str>) {
        eprintln!("warning: {}", line.as_ref());
    }

    /// Warnings that may be given several times, each once.
    pub fn warn_once(&self, warnings: &[String]) {
        let first = |(place, warning): &(usize, &String)| !warnings[..*place].contains(warning);
        warnings.iter().enumerate().filter(first).for_each(|(_, warning)| self.warn(warning));
    }

    /// Why the command failed: the error and those causes that it does not name itself.
    pub fn failed(&self, error: &anyhow::Error) {
        let mut line = String::new();
        for cause in error.chain().map(|cause| cause.to_string()) {
            if !line.contains(&cause) {
                line += if line.is_empty() { "" } else { ": " };
                line += cause.trim_end();
            }
        }
        eprintln!("error: {line}");
    }

    /// A bar on a terminal; on anything else a line at the beginning, and whenever a tenth is done.
    pub fn progress(&self, what: &'static str, total: u64, unit: &'static str) -> Progress {
        let target = if self.terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(total), target);
        let template = "{prefix:<9} {wide_bar} {pos}/{len} {msg} {per_sec}, {eta} left";
        bar.set_style(ProgressStyle::with_template(template).expect("the template is right"));
        bar.set_prefix(what);
        bar.enable_steady_tick(Duration::from_millis(200));
        Progress { bar, what, unit, plain: !self.terminal, tenth: Cell::new(0) }
    }

    /// Tells of an installation's steps.
    pub fn installing(&self) -> impl FnMut(Step) + '_ {
        move |step| match step {
            Step::Downloading { version, arch } => {
                self.note(format!("fetching ONNX Runtime {version} for {arch} through pip …"))
            }
            Step::Verifying => self.note("verifying it"),
            Step::Unpacking { path } => self.note(format!("unpacking it to {}", path.display())),
        }
    }
}

/// One line on standard output. A reader that has gone away (`| head`) ends the output, not the program.
fn out(line: &str) {
    let mut stdout = std::io::stdout().lock();
    let _ = writeln!(stdout, "{line}");
}

/// Progress of one piece of work.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    what: &'static str,
    unit: &'static str,
    plain: bool,
    tenth: Cell<u64>,
}

impl Progress {
    /// So much is done, with something to say about it.
    pub fn at(&self, done: u64, message: String) {
        let total = self.bar.length().unwrap_or(0).max(1);
        let tenth = done * 10 / total;
        if self.plain && tenth > self.tenth.get() {
            let space = if message.is_empty() { "" } else { ", " };
            eprintln!("{}: {done}/{total} {}{space}{message}", self.what, self.unit);
            self.tenth.set(tenth);
        }
        self.bar.set_message(message);
        self.bar.set_position(done);
    }

    /// A line above the bar.
    pub fn line(&self, line: &str) {
        if self.plain {
            eprintln!("{line}");
        } else {
            self.bar.println(line);
        }
    }

    /// Takes the bar away.
    pub fn end(&self) {
        self.bar.finish_and_clear();
    }
}

/// Bytes for a person.
pub fn bytes(count: u64) -> String {
    match count {
        0..10_000 => format!("{count} B"),
        10_000..10_000_000 => format!("{:.1} kB", count as f64 / 1e3),
        _ => format!("{:.1} MB", count as f64 / 1e6),
    }
}

/// A share for a person.
pub fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}
