//! A folder whose power can be cut, for tests of this repository: the program of this package, where `EDGETUNE_POWER` names it.

use std::io::{BufRead, BufReader, Lines, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

/// The program's exit code where it may not mount.
const NOT_MOUNTED: i32 = 77;

/// A mounted folder; unmounted when dropped, so that whoever uses it has to be gone before.
pub struct Power {
    program: Child,
    answers: Lines<BufReader<ChildStdout>>,
    /// Operations that the cuts so far have lost.
    lost: u64,
}

impl Power {
    /// Mounts a file system on a folder; `None` where nobody has named the program, or nothing may be mounted.
    pub fn on(folder: &Path, seed: u64) -> Option<Self> {
        let program = std::env::var_os("EDGETUNE_POWER")?;
        let mut command = Command::new(program);
        command.arg(folder).arg(seed.to_string()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut program = command.spawn().expect("EDGETUNE_POWER names the program of tests/power");
        let answers = BufReader::new(program.stdout.take().unwrap()).lines();
        let mut power = Self { program, answers, lost: 0 };
        let told = power.answers.next();
        if told.is_none() && power.program.wait().unwrap().code() == Some(NOT_MOUNTED) {
            return None;
        }
        assert_eq!(told.expect("it answers").unwrap(), "mounted");
        Some(power)
    }

    /// Cuts the power, once all processes that work in `folder` or were told of it are gone. Gives how many operations were lost.
    pub fn cut(&mut self, folder: &Path) -> u64 {
        let begun = Instant::now();
        while self.uses(folder) {
            assert!(begun.elapsed() < Duration::from_secs(20), "a process outlives the power");
            std::thread::sleep(Duration::from_millis(2));
        }
        self.program.stdin.as_mut().unwrap().write_all(b"cut\n").unwrap();
        let answer = self.answers.next().expect("it answers").unwrap();
        let lost = answer.rsplit(' ').next().unwrap().parse().unwrap_or_else(|_| panic!("{answer}"));
        lost - std::mem::replace(&mut self.lost, lost)
    }

    /// Whether a process besides the file system's own works in the folder, or has it among its arguments.
    fn uses(&self, folder: &Path) -> bool {
        let others = std::fs::read_dir("/proc").unwrap().flatten().filter(|entry| {
            let number = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok());
            number.is_some_and(|number| number != self.program.id() && number != std::process::id())
        });
        let text = folder.to_str().unwrap();
        others.into_iter().any(|process| {
            let told = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
            let there = std::fs::read_link(process.path().join("cwd"));
            String::from_utf8_lossy(&told).contains(text) || there.is_ok_and(|there| there.starts_with(folder))
        })
    }
}

impl Drop for Power {
    fn drop(&mut self) {
        drop(self.program.stdin.take());
        let _ = self.program.wait();
    }
}
