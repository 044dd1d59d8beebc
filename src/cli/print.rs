//! What the user sees: text or one JSON document on standard output, progress and warnings on standard error.

use super::flags::with_options;
pub use crate::amounts::{bytes, duration, number, percent, rate};
use crate::engine::Step;
use crate::learn::{self, Observer};
use crate::train::fit::EpochRecord;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use std::cell::Cell;
use std::io::{IsTerminal, Write};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

/// Prints in the form that was asked for.
#[derive(Debug, Clone)]
pub struct Printer {
    json: bool,
    terminal: bool,
    /// All bars that are on the terminal, which lines of text go above of.
    bars: MultiProgress,
}

impl Printer {
    /// `json` replaces all text on standard output by one document.
    pub fn new(json: bool) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let target = if terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        Self { json, terminal, bars: MultiProgress::with_draw_target(target) }
    }

    /// The result, for a person; nothing where JSON was asked for.
    pub fn text(&self, line: impl AsRef<str>) {
        if !self.json {
            out(&with_options(line.as_ref()));
        }
    }

    /// The result, for a program; nothing where text was asked for.
    pub fn document(&self, value: &impl Serialize) {
        if self.json {
            out(&document(value));
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
        self.bars.suspend(|| eprintln!("{}", with_options(line.as_ref())));
    }

    /// Something that the user should look at.
    pub fn warn(&self, line: impl AsRef<str>) {
        self.bars.suspend(|| eprintln!("warning: {}", with_options(line.as_ref())));
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
        eprintln!("error: {}", with_options(&line));
    }

    /// A bar on a terminal; on anything else a line every few seconds, for what takes more than two.
    pub fn progress(&self, what: &'static str, total: u64, unit: &'static str) -> Progress {
        let bar = self.bars.add(ProgressBar::new(total));
        let template = "{prefix:<9} {wide_bar} {pos}/{len} {msg} {eta} left";
        bar.set_style(ProgressStyle::with_template(template).expect("the template is right"));
        bar.set_prefix(what);
        if self.terminal {
            bar.enable_steady_tick(Duration::from_millis(200));
        }
        Progress { bar, what, unit, plain: !self.terminal, began: Instant::now(), pace: Cell::default() }
    }

    /// Does what cannot be counted, and says that it is still at it: a spinner on a terminal, else a line every few seconds.
    pub fn during<T>(&self, what: impl AsRef<str>, work: impl FnOnce() -> T) -> T {
        let observer: &dyn Observer = self;
        observer.during(what, work)
    }

    /// Tells of some work until the other end of the channel is dropped.
    fn keep_telling(&self, what: &str, ended: &mpsc::Receiver<()>) {
        let began = Instant::now();
        let is_over = |wait_s| ended.recv_timeout(Duration::from_secs_f64(wait_s)) != Err(RecvTimeoutError::Timeout);
        if is_over(if self.terminal { 0.5 } else { FIRST_S }) {
            return;
        }
        if !self.terminal {
            eprintln!("{what} …");
            while !is_over(EVERY_S) {
                eprintln!("{what} … {} so far", duration(began.elapsed().as_secs_f64()));
            }
            return;
        }
        let bar = self.bars.add(ProgressBar::new_spinner());
        bar.set_style(ProgressStyle::with_template("{spinner} {msg} … {elapsed}").expect("the template is right"));
        bar.set_message(what.to_owned());
        while !is_over(0.2) {
            bar.tick();
        }
        bar.finish_and_clear();
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

impl Observer for Printer {
    fn note(&self, line: &str) {
        Printer::note(self, line);
    }

    fn warn(&self, line: &str) {
        Printer::warn(self, line);
    }

    fn progress(&self, what: &'static str, total: u64, unit: &'static str) -> Box<dyn learn::Progress> {
        Box::new(Printer::progress(self, what, total, unit))
    }

    fn body_pass(&self) -> Box<dyn FnMut(usize, usize)> {
        let printer = self.clone();
        let mut progress: Option<Progress> = None;
        Box::new(move |done, all| {
            let shown = progress.get_or_insert_with(|| printer.progress("features", all as u64, "samples"));
            shown.at(done as u64, String::new());
            if done >= all {
                shown.end();
            }
        })
    }

    fn while_doing(&self, what: &str, work: &mut dyn FnMut()) {
        let (what, printer) = (what.to_owned(), self.clone());
        let (done, ended) = mpsc::channel::<()>();
        let telling = thread::spawn(move || printer.keep_telling(&what, &ended));
        work();
        drop(done);
        // It only prints; if it could not, the work is done all the same.
        let _ = telling.join();
    }
}

impl learn::Progress for Progress {
    fn at(&self, done: u64, message: &str) {
        Progress::at(self, done, message.to_owned());
    }

    fn epoch(&self, epoch: u32, epochs: u32, record: &EpochRecord) {
        Progress::line(self, &learn::epoch_line(epoch, epochs, record));
    }

    fn line(&self, line: &str) {
        Progress::line(self, line);
    }

    fn end(&self) {
        Progress::end(self);
    }
}

/// Standard error for the log, with options in the place of settings as in everything that a command says.
#[derive(Debug, Clone, Copy, Default)]
pub struct LogWriter;

impl Write for LogWriter {
    /// The log writes a line at once.
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        std::io::stderr().write_all(with_options(&String::from_utf8_lossy(line)).as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stderr().flush()
    }
}

/// A result for a program, with options in the place of settings as in everything that a command says.
pub fn document(value: &impl Serialize) -> String {
    with_options(&serde_json::to_string_pretty(value).expect("plain values always encode"))
}

/// One line on standard output. A reader that has gone away (`| head`) ends the output, not the program.
fn out(line: &str) {
    let mut stdout = std::io::stdout().lock();
    let _ = writeln!(stdout, "{line}");
}

/// Seconds before the first line of progress, and between two lines.
const FIRST_S: f64 = 2.0;
const EVERY_S: f64 = 5.0;
/// Seconds between two lines, at most: long work has them further apart.
const EVERY_S_MAX: f64 = 30.0;

/// When lines of progress are due, and how long the rest will take.
#[derive(Debug, Clone, Copy, Default)]
struct Pace {
    /// Seconds and what was done when progress was first told: what went before is not of this pace.
    first: Option<(f64, u64)>,
    /// Seconds of the last line.
    last_s: Option<f64>,
}

impl Pace {
    /// Whether a line is due now.
    fn due(&mut self, now_s: f64, done: u64) -> Option<()> {
        self.first.get_or_insert((now_s, done));
        let wait_s = (now_s / 20.0).clamp(EVERY_S, EVERY_S_MAX);
        let is_due = self.last_s.map_or(now_s >= FIRST_S, |last_s| now_s - last_s >= wait_s);
        is_due.then(|| self.last_s = Some(now_s))
    }

    /// Seconds that the rest takes at the pace so far.
    fn left_s(&self, now_s: f64, done: u64, total: u64) -> Option<f64> {
        let (first_s, first) = self.first?;
        let made = done.checked_sub(first).filter(|made| *made > 0)?;
        Some((now_s - first_s) / made as f64 * total.saturating_sub(done) as f64)
    }
}

fn plain_line(what: &str, done: u64, total: u64, unit: &str, left_s: Option<f64>, message: &str) -> String {
    let left = left_s.map_or(String::new(), |seconds| format!(", {} left", duration(seconds)));
    let space = if message.is_empty() { "" } else { ", " };
    format!("{what}: {done}/{total} {unit}{left}{space}{message}")
}

/// Progress of one piece of work.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    what: &'static str,
    unit: &'static str,
    plain: bool,
    began: Instant,
    pace: Cell<Pace>,
}

impl Progress {
    /// So much is done, with something to say about it.
    pub fn at(&self, done: u64, message: String) {
        let (total, now_s, mut pace) =
            (self.bar.length().unwrap_or(0).max(1), self.began.elapsed().as_secs_f64(), self.pace.get());
        if self.plain && pace.due(now_s, done).is_some() {
            let left_s = pace.left_s(now_s, done, total);
            eprintln!("{}", plain_line(self.what, done, total, self.unit, left_s, &message));
        }
        self.pace.set(pace);
        self.bar.set_message(message);
        self.bar.set_position(done);
    }

    /// A line above the bar.
    pub fn line(&self, line: &str) {
        let line = with_options(line);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn piped_lines_come_every_few_seconds_with_the_time_that_is_left() {
        let mut pace = Pace::default();
        assert_eq!(pace.due(0.5, 10), None, "nothing in the first seconds");
        assert_eq!(pace.due(2.5, 30), Some(()));
        assert_eq!(pace.due(4.0, 40), None);
        assert_eq!(pace.due(8.0, 60), Some(()));
        // 50 of 110 in 7.5 s: the other 50 take as long.
        assert_eq!(pace.left_s(8.0, 60, 110), Some(7.5));
        assert_eq!(pace.left_s(8.0, 10, 110), None);
        assert_eq!(
            plain_line("training", 60, 110, "steps", Some(7.5), "loss 0.5"),
            "training: 60/110 steps, 7.5 s left, loss 0.5"
        );
    }
}
