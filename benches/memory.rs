//! `cargo bench --bench memory`: what edgetune holds in memory, as the kernel counts it (`/proc/PID/smaps`), on bases that it
//! makes itself. Each figure is of a process of its own; runs alternate, so that what else the machine does falls on all alike.
//!
//! - `residence`: private memory over a small and a large base with equal tails, for every kind of body and `--memory`; then
//!   a trainer and a predictor over the same base at the same time.
//! - `predictions`: private memory as it is predicted before a run, beside what the run then holds, on real bases.
//! - `scaling`: private memory and time over the number of samples and over the size of the base, as CSV and as a plot.

mod bases;
mod predictions;
mod scaling;

use anyhow::{Context, Result, ensure};
use bases::{KINDS, Kind};
use clap::{Parser, Subcommand};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Measures edgetune's memory on bases made for it
#[derive(Debug, Parser)]
pub struct Args {
    #[command(subcommand)]
    what: What,
    /// The ONNX Runtime library [default: what `edgetune runtime which` names]
    #[arg(long, value_name = "PATH", global = true)]
    onnxruntime: Option<PathBuf>,
    /// Threads of ONNX Runtime
    #[arg(long, default_value_t = 2, global = true)]
    threads: u32,
    /// Folder for bases and caches, emptied at the end [default: a temporary one]
    #[arg(long, value_name = "DIR", global = true)]
    scratch: Option<PathBuf>,
    /// Given by cargo
    #[arg(long, hide = true, global = true)]
    bench: bool,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Write a base to look at: base.onnx, base.bin and data/
    Base {
        /// What its body is made of
        kind: String,
        /// MiB of weights in its body
        mebibytes: u64,
        /// Where it goes
        folder: PathBuf,
    },
    /// Private memory over the size of the base, and what two processes share
    Residence {
        /// Runs of each kind, size and --memory; the largest figure counts
        #[arg(long, default_value_t = 2)]
        repeats: usize,
        /// MiB of weights in the small and in the large body
        #[arg(long, default_values_t = [20, 1024], num_args = 2)]
        mebibytes: Vec<u64>,
        /// Kinds of bodies, by their names in the table [default: all]
        #[arg(long)]
        only: Vec<String>,
    },
    /// Private memory as it is predicted, beside what is then held
    Predictions(predictions::Options),
    /// Private memory and time over the number of samples, then over the size of the base
    Scaling(scaling::Options),
}

const MIB: f64 = 1048576.0;
const MODES: [&str; 3] = ["low", "balanced", "fast"];

fn main() -> Result<()> {
    let args = Args::parse();
    let temporary = tempfile::tempdir().context("no temporary folder")?;
    let scratch = args.scratch.clone().unwrap_or_else(|| temporary.path().into());
    match &args.what {
        What::Base { kind, mebibytes, folder } => {
            let kind = KINDS.into_iter().find(|known| known.name() == kind);
            let kind = kind.with_context(|| format!("KIND: the names are {}", KINDS.map(Kind::name).join(", ")))?;
            bases::write(folder, kind, mebibytes << 20, 64)
                .with_context(|| format!("cannot write {}", folder.display()))?;
            Ok(())
        }
        What::Residence { repeats, mebibytes, only } => {
            let wanted = |kind: &Kind| only.is_empty() || only.iter().any(|name| name == kind.name());
            let kinds: Vec<Kind> = KINDS.into_iter().filter(wanted).collect();
            ensure!(!kinds.is_empty(), "--only: the names are {}", KINDS.map(Kind::name).join(", "));
            residence(&args, &scratch, *repeats, &[mebibytes[0], mebibytes[1]], &kinds)
        }
        What::Predictions(options) => predictions::predictions(&args, &scratch, options),
        What::Scaling(options) => scaling::scaling(&args, &scratch, options),
    }
}

/// What a process held at most, in bytes.
#[derive(Debug, Clone, Copy, Default)]
struct Held {
    /// `Private_Clean` and `Private_Dirty` of maps without a file: nobody else can use these pages.
    private: u64,
    /// Every page divided by the number of processes that have it mapped.
    pss: u64,
    seconds: f64,
}

impl Held {
    fn or_more(self, other: Self) -> Self {
        let seconds = if self.seconds > 0.0 { self.seconds.min(other.seconds) } else { other.seconds };
        Self { private: self.private.max(other.private), pss: self.pss.max(other.pss), seconds }
    }
}

/// The maps of a living process; nothing once it has ended.
fn held(process: u32) -> Option<Held> {
    let text = fs::read_to_string(format!("/proc/{process}/smaps")).ok()?;
    let (mut held, mut has_file) = (Held::default(), false);
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let first = words.next()?;
        if !first.ends_with(':') {
            has_file = words.nth(4).is_some_and(|path| path.starts_with('/'));
            continue;
        }
        let bytes = || words.next().and_then(|number| number.parse::<u64>().ok()).unwrap_or(0) * 1024;
        match first {
            "Pss:" => held.pss += { bytes }(),
            "Private_Clean:" | "Private_Dirty:" if !has_file => held.private += { bytes }(),
            _ => {}
        }
    }
    Some(held)
}

/// Processes looked at every 10 ms until all have ended: the most of each, and the most of their PSS together.
fn watched(mut children: Vec<Child>) -> Result<(Vec<Held>, u64)> {
    let (began, mut most, mut most_pss) = (Instant::now(), vec![Held::default(); children.len()], 0);
    loop {
        let mut running = false;
        for (child, most) in children.iter_mut().zip(&mut most) {
            if child.try_wait()?.is_none() {
                running = true;
                let now = held(child.id()).unwrap_or_default();
                *most = most.or_more(Held { seconds: began.elapsed().as_secs_f64(), ..now });
                most.seconds = began.elapsed().as_secs_f64();
            }
        }
        most_pss = most_pss.max(pss_together(&children));
        if !running {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    for child in children {
        let output = child.wait_with_output()?;
        ensure!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim_end());
    }
    Ok((most, most_pss))
}

/// The PSS of all at one moment. What one process maps while the others are read would count too much: of two sums, forth and
/// back, the smaller is nearer.
fn pss_together(children: &[Child]) -> u64 {
    let pss = |child: &Child| {
        let text = fs::read_to_string(format!("/proc/{}/smaps_rollup", child.id())).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap_or_default();
        line.split_ascii_whitespace().next().and_then(|number| number.parse::<u64>().ok()).unwrap_or(0) * 1024
    };
    let forth: Vec<u64> = children.iter().map(pss).collect();
    let back: Vec<u64> = children.iter().rev().skip(1).map(pss).collect();
    let last = forth.last().copied().unwrap_or(0);
    forth.iter().sum::<u64>().min(last + back.iter().sum::<u64>())
}

impl Args {
    /// The program over the base in a folder, whose cache lies there too.
    fn command(&self, name: &str, folder: &Path) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_edgetune"));
        command.arg(name).arg(folder.join("base.onnx")).arg("--cache").arg(folder.join("cache"));
        command.args(["--threads", &self.threads.to_string()]).stdout(Stdio::null()).stderr(Stdio::piped());
        command.args(self.onnxruntime.iter().flat_map(|path| ["--onnxruntime".as_ref(), path.as_os_str()]));
        command
    }

    fn train(&self, folder: &Path, memory: &str, more: &[&str]) -> Command {
        let mut command = self.command("train", folder);
        command.arg("--data").arg(folder.join("data")).arg("--out").arg(folder.join("a.edelta"));
        command.args(["--train", "last:2", "--memory", memory]).args(more);
        command
    }
}

fn residence(args: &Args, scratch: &Path, repeats: usize, mebibytes: &[u64; 2], kinds: &[Kind]) -> Result<()> {
    println!("{}\n", machine());
    let [small, large] = mebibytes;
    println!("| body | --memory | private, {small} MiB base | private, {large} MiB base | difference | time, × fast |");
    println!("|---|---|---:|---:|---:|---:|");
    let mut shared = String::new();
    for kind in kinds {
        let folders = mebibytes.map(|size| scratch.join(format!("{}{size}", kind.name())));
        for (folder, size) in folders.iter().zip(mebibytes) {
            bases::write(folder, *kind, size << 20, 64)
                .with_context(|| format!("cannot write {}", folder.display()))?;
        }
        let mut most = [[Held::default(); 2]; MODES.len()];
        for _ in 0..repeats {
            for (mode, most) in MODES.iter().zip(&mut most) {
                for (folder, most) in folders.iter().zip(most) {
                    let train = args.train(folder, mode, &["--no-cache", "--epochs", "2"]).spawn()?;
                    *most = most.or_more(watched(vec![train])?.0[0]);
                }
            }
        }
        for (mode, [small, large]) in MODES.iter().zip(most) {
            let [small_mib, large_mib] = [small, large].map(|held| held.private as f64 / MIB);
            println!(
                "| {} | {mode} | {small_mib:.0} MiB | {large_mib:.0} MiB | {:+.0} MiB | {:.2} |",
                kind.name(),
                large_mib - small_mib,
                large.seconds / most[2][1].seconds
            );
        }
        writeln!(shared, "{}", sharing(args, &folders[1], *kind)?)?;
        for folder in &folders {
            fs::remove_dir_all(folder)?;
        }
    }
    println!("\n| body | base | private, trainer | private, predictor | PSS of both | of 1.1 × base + both private |");
    println!("|---|---:|---:|---:|---:|---:|");
    print!("{shared}");
    Ok(())
}

/// A trainer and a predictor over one base at the same time.
fn sharing(args: &Args, folder: &Path, kind: Kind) -> Result<String> {
    let train = args.train(folder, "low", &["--no-cache", "--epochs", "2"]).spawn()?;
    let mut predict = args.command("predict", folder);
    predict.arg("--adapter").arg(folder.join("a.edelta")).arg(folder.join("data/x.npy")).args(["--memory", "low"]);
    let (each, together) = watched(vec![train, predict.spawn()?])?;
    let base = fs::metadata(folder.join("base.bin"))?.len() as f64;
    let allowed = 1.1 * base + (each[0].private + each[1].private) as f64;
    Ok(format!(
        "| {} | {:.0} MiB | {:.0} MiB | {:.0} MiB | {:.0} MiB | {:.2} |",
        kind.name(),
        base / MIB,
        each[0].private as f64 / MIB,
        each[1].private as f64 / MIB,
        together as f64 / MIB,
        together as f64 / allowed
    ))
}

/// Processor, cores, memory and system, in a line.
fn machine() -> String {
    let field = |path: &str, name: &str| {
        let text = fs::read_to_string(path).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_once(':').map_or("unknown", |(_, value)| value.trim()).to_string()
    };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    format!(
        "{} ({}), {cores} cores, {}, Linux {}; load average {}",
        field("/proc/cpuinfo", "model name"),
        std::env::consts::ARCH,
        field("/proc/meminfo", "MemTotal"),
        kernel.trim(),
        load.split(' ').next().unwrap_or("unknown")
    )
}
