//! Who is told how a training or prediction goes: a printer, an application's function, or nobody.

use crate::amounts::{duration, number, percent};
use crate::train::fit::{self, EpochRecord};
use std::fmt;
use std::rc::Rc;

/// Told of what happens on the way to a result. Nothing is asked back.
pub trait Observer {
    /// Something that was found out or decided, in a line.
    fn note(&self, line: &str);

    /// Something that the user should look at.
    fn warn(&self, line: &str);

    /// Work that can be counted begins: what it is, how much there is to do, and of what.
    fn progress(&self, what: &'static str, total: u64, unit: &'static str) -> Box<dyn Progress>;

    /// Told of the body's pass over samples, where features are computed on the way: samples done, and all that are to do.
    fn body_pass(&self) -> Box<dyn FnMut(usize, usize)>;

    /// Does `work`, which cannot be counted, and tells as long as it takes.
    fn while_doing(&self, what: &str, work: &mut dyn FnMut());
}

/// Work that is being done.
pub trait Progress {
    /// So much is done, with something to say about it.
    fn at(&self, done: u64, message: &str);

    /// An epoch of so many has been learned and measured.
    fn epoch(&self, epoch: u32, epochs: u32, record: &EpochRecord);

    /// Something that was found out while it is done.
    fn line(&self, line: &str);

    /// The work is done, or given up.
    fn end(&self);
}

impl dyn Observer + '_ {
    /// Does what cannot be counted, and tells as long as it takes.
    pub fn during<T>(&self, what: impl AsRef<str>, work: impl FnOnce() -> T) -> T {
        let (mut work, mut outcome) = (Some(work), None);
        self.while_doing(what.as_ref(), &mut || outcome = work.take().map(|work| work()));
        outcome.expect("an observer does the work")
    }

    /// Warnings that may be given several times, each once.
    pub fn warn_once(&self, warnings: &[String]) {
        let first = |(place, warning): &(usize, &String)| !warnings[..*place].contains(warning);
        warnings.iter().enumerate().filter(first).for_each(|(_, warning)| self.warn(warning));
    }
}

/// Tells of the loop's steps and epochs.
pub(super) fn tell_of_step(progress: &dyn Progress, epochs: u32, event: fit::Event<'_>) {
    match event {
        fit::Event::Step { epoch, step, steps, loss, .. } => {
            let done = u64::from(epoch - 1) * u64::from(steps) + u64::from(step);
            progress.at(done, &format!("epoch {epoch}/{epochs} loss {}", number(loss)));
        }
        fit::Event::Epoch { epoch, record } => progress.epoch(epoch, epochs, record),
    }
}

/// An epoch's measurements in a line.
pub fn epoch_line(epoch: u32, epochs: u32, record: &EpochRecord) -> String {
    let validation = match (record.validation_loss, record.validation_accuracy, record.validation_perplexity) {
        (Some(loss), Some(accuracy), _) => {
            format!(", validation loss {}, accuracy {}", number(loss), percent(accuracy))
        }
        (Some(loss), None, Some(perplexity)) => {
            format!(", validation loss {}, perplexity {}", number(loss), number(perplexity))
        }
        (Some(loss), None, None) => format!(", validation loss {}", number(loss)),
        _ => String::new(),
    };
    format!("epoch {epoch}/{epochs}: loss {}{validation}, {}", number(record.train_loss), duration(record.seconds))
}

/// What an application's function is told of. As text, an event is a line.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Event<'a> {
    /// Something that was found out or decided.
    Note(&'a str),
    /// Something that the user should look at.
    Warning(&'a str),
    /// Work that goes on: `done` of `total`, counted in `unit`. A total of 0 is unknown.
    Progress {
        /// What is done.
        what: &'a str,
        /// How much of it is done.
        done: u64,
        /// How much there is to do.
        total: u64,
        /// Steps, samples, …
        unit: &'a str,
    },
    /// An epoch has been learned and measured.
    Epoch {
        /// Which one, from 1.
        epoch: u32,
        /// Of how many.
        epochs: u32,
        /// What was measured.
        record: &'a EpochRecord,
    },
}

impl fmt::Display for Event<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Note(line) => f.write_str(line),
            Self::Warning(line) => write!(f, "warning: {line}"),
            Self::Progress { what, done, total: 0, unit } => write!(f, "{what}: {done} {unit}"),
            Self::Progress { what, done, total, unit } => write!(f, "{what}: {done}/{total} {unit}"),
            Self::Epoch { epoch, epochs, record } => f.write_str(&epoch_line(*epoch, *epochs, record)),
        }
    }
}

/// A function as an observer.
#[derive(Clone)]
pub struct Told(Rc<dyn Fn(&Event<'_>)>);

impl Told {
    /// Each event goes to `function`.
    pub fn new(function: impl Fn(&Event<'_>) + 'static) -> Self {
        Self(Rc::new(function))
    }

    /// Nobody is told.
    pub fn nobody() -> Self {
        Self::new(|_| {})
    }
}

impl Observer for Told {
    fn note(&self, line: &str) {
        (self.0)(&Event::Note(line));
    }

    fn warn(&self, line: &str) {
        (self.0)(&Event::Warning(line));
    }

    fn progress(&self, what: &'static str, total: u64, unit: &'static str) -> Box<dyn Progress> {
        Box::new(ToldProgress { told: self.clone(), what, total, unit })
    }

    fn body_pass(&self) -> Box<dyn FnMut(usize, usize)> {
        let told = self.clone();
        Box::new(move |done, all| {
            let (done, total) = (done as u64, all as u64);
            (told.0)(&Event::Progress { what: "features", done, total, unit: "samples" });
        })
    }

    fn while_doing(&self, what: &str, work: &mut dyn FnMut()) {
        (self.0)(&Event::Note(what));
        work();
    }
}

/// Work that a function is told of.
struct ToldProgress {
    told: Told,
    what: &'static str,
    total: u64,
    unit: &'static str,
}

impl Progress for ToldProgress {
    fn at(&self, done: u64, _message: &str) {
        (self.told.0)(&Event::Progress { what: self.what, done, total: self.total, unit: self.unit });
    }

    fn epoch(&self, epoch: u32, epochs: u32, record: &EpochRecord) {
        (self.told.0)(&Event::Epoch { epoch, epochs, record });
    }

    fn line(&self, line: &str) {
        self.told.note(line);
    }

    fn end(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    #[test]
    fn a_function_is_told_of_everything_in_its_order() {
        let lines = Rc::new(RefCell::new(Vec::new()));
        let kept = Rc::clone(&lines);
        let told = Told::new(move |event| kept.borrow_mut().push(event.to_string()));
        let observer: &dyn Observer = &told;
        assert_eq!(observer.during("reading", || 7), 7);
        let progress = observer.progress("training", 8, "steps");
        progress.at(3, "");
        let record = EpochRecord {
            train_loss: 0.5,
            validation_loss: Some(0.25),
            validation_accuracy: Some(0.75),
            validation_perplexity: None,
            seconds: 1.5,
        };
        progress.epoch(1, 2, &record);
        progress.end();
        observer.body_pass()(2, 4);
        observer.warn_once(&["full".to_string(), "full".to_string()]);
        assert_eq!(
            *lines.borrow(),
            [
                "reading",
                "training: 3/8 steps",
                "epoch 1/2: loss 0.5000, validation loss 0.2500, accuracy 75.0 %, 1.5 s",
                "features: 2/4 samples",
                "warning: full"
            ]
        );
    }
}
