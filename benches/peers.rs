//! `cargo bench --bench peers`: edgetune and the tools that a user would otherwise take, at the same job, one after the
//! other in one run, and a table of what each took. `peers/README.md` says what the job is and what each field means.
//!
//! Every contender is a process of its own, started anew for each repeat; repeats alternate, so that what else the machine
//! does falls on all alike. A peer whose environment is missing is named, not missed silently.

use anyhow::{Context, Result, bail, ensure};
use clap::{Parser, ValueEnum};
use serde::Serialize;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

/// Does the same job with edgetune and with its peers, alternately, and prints what each took
#[derive(Debug, Parser)]
struct Args {
    /// What learns: the classifier (head), the last convolution too (tail), or one after the other
    #[arg(long, value_enum, default_value = "both")]
    mode: ModeArg,
    /// Runs of every contender; medians are printed
    #[arg(long, default_value_t = 3)]
    repeats: usize,
    /// Folder that benches/peers/setup.sh has filled with environments
    #[arg(long, value_name = "DIR", env = "EDGETUNE_PEERS")]
    env: Option<PathBuf>,
    /// An interpreter that has PyTorch [default: DIR/pytorch/bin/python]
    #[arg(long, value_name = "PATH")]
    pytorch_python: Option<PathBuf>,
    /// Folder of further packages for that interpreter
    #[arg(long, value_name = "DIR")]
    pytorch_packages: Option<PathBuf>,
    /// An interpreter that has ONNX Runtime Training [default: DIR/ort-training/bin/python]
    #[arg(long, value_name = "PATH")]
    ort_training_python: Option<PathBuf>,
    /// The ONNX Runtime library for edgetune [default: what `edgetune runtime which` names]
    #[arg(long, value_name = "PATH")]
    onnxruntime: Option<PathBuf>,
    /// Contenders to run, by their names in the table; repeatable [default: all]
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    #[arg(long, default_value_t = 5)]
    epochs: u32,
    #[arg(long, default_value_t = 32)]
    batch: u32,
    #[arg(long, default_value_t = 2)]
    threads: u32,
    #[arg(long, default_value_t = 0.001)]
    lr: f64,
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Leave out counting the right answers on the test images, which is outside all times but takes its own
    #[arg(long)]
    no_accuracy: bool,
    /// Where the JSON document goes
    #[arg(long, value_name = "FILE", default_value = "target/peers.json")]
    json: PathBuf,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
enum ModeArg {
    Head,
    Tail,
    Both,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Mode {
    Head,
    Tail,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Contender {
    Cold,
    Warm,
    OrtTraining,
    PyTorch,
    PyTorchCache,
}

/// In the order of running: the warm run needs the cold one's cache.
const CONTENDERS: [Contender; 5] =
    [Contender::Cold, Contender::Warm, Contender::OrtTraining, Contender::PyTorch, Contender::PyTorchCache];

/// One run's numbers; the fields are those of the peers' line of JSON.
#[derive(Debug, Clone, Serialize)]
struct Cost {
    mode: Mode,
    contender: &'static str,
    version: String,
    /// From the start of the process to the end of the last epoch (edgetune: to the end of the process).
    seconds_total: f64,
    /// The median of the epochs after the first.
    seconds_epoch_steady: f64,
    step_ms_median: f64,
    first_step_s: f64,
    peak_rss_bytes: u64,
    peak_private_bytes: u64,
    accuracy: Option<f64>,
    /// The machine's load average of the last minute when the run began: above 0.5 something else was running.
    load_before: f64,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let modes: &[Mode] = match args.mode {
        ModeArg::Head => &[Mode::Head],
        ModeArg::Tail => &[Mode::Tail],
        ModeArg::Both => &[Mode::Head, Mode::Tail],
    };
    ensure!(args.repeats > 0, "--repeats must be at least 1");
    let wanted = |contender: &Contender| args.only.is_empty() || args.only.iter().any(|name| name == contender.name());
    let mut running = Vec::new();
    for contender in CONTENDERS.into_iter().filter(wanted) {
        match args.missing(contender) {
            None => running.push(contender),
            Some(path) => println!(
                "{}: not set up ({} is missing): run `sh benches/peers/setup.sh DIR`, then give --env DIR",
                contender.name(),
                path.display()
            ),
        }
    }
    ensure!(!running.is_empty(), "nothing to run; the names are {}", CONTENDERS.map(Contender::name).join(", "));
    let scratch = tempfile::tempdir().context("no temporary folder")?;
    let mut costs = Vec::new();
    for repeat in 0..args.repeats {
        for mode in modes {
            let cache = scratch.path().join(format!("{mode:?}{repeat}"));
            for contender in &running {
                eprint!("repeat {}/{}, {mode:?}, {} … ", repeat + 1, args.repeats, contender.name());
                let accuracy = repeat == 0 && !args.no_accuracy;
                let cost = contender.run(&args, *mode, &cache, accuracy)?;
                eprintln!("{:.2} s", cost.seconds_total);
                costs.push(cost);
                // After each run: an interrupted measurement keeps what it has.
                write_json(&args, &costs)?;
            }
        }
    }
    println!("\n{}\n", machine());
    for mode in modes {
        print!("{}", table(&costs, *mode, &running, &args));
    }
    Ok(())
}

fn write_json(args: &Args, costs: &[Cost]) -> Result<()> {
    let document = serde_json::json!({
        "machine": machine(), "epochs": args.epochs, "batch": args.batch, "threads": args.threads, "runs": costs,
    });
    fs::write(&args.json, serde_json::to_string_pretty(&document)?)
        .with_context(|| format!("cannot write {}", args.json.display()))
}

impl Args {
    fn python(&self, contender: Contender) -> Option<PathBuf> {
        let (given, name) = match contender {
            Contender::Cold | Contender::Warm => return None,
            Contender::OrtTraining => (&self.ort_training_python, "ort-training"),
            Contender::PyTorch | Contender::PyTorchCache => (&self.pytorch_python, "pytorch"),
        };
        let made = || self.env.clone().unwrap_or_else(|| "DIR".into()).join(name).join("bin/python");
        Some(given.clone().unwrap_or_else(made))
    }

    /// The interpreter that is not there.
    fn missing(&self, contender: Contender) -> Option<PathBuf> {
        self.python(contender).filter(|python| !python.exists())
    }
}

impl Contender {
    fn name(self) -> &'static str {
        match self {
            Self::Cold => "edgetune-cold",
            Self::Warm => "edgetune-warm",
            Self::OrtTraining => "onnxruntime-training",
            Self::PyTorch => "pytorch",
            Self::PyTorchCache => "pytorch-cache",
        }
    }

    fn run(self, args: &Args, mode: Mode, cache: &Path, accuracy: bool) -> Result<Cost> {
        let cost = match self {
            Self::Cold => {
                ensure!(!cache.exists(), "the cache of a cold run is there already");
                edgetune(args, mode, cache, accuracy)
            }
            Self::Warm if !cache.exists() => {
                edgetune(args, mode, cache, false).and_then(|_| edgetune(args, mode, cache, accuracy))
            }
            Self::Warm => edgetune(args, mode, cache, accuracy),
            Self::OrtTraining => peer(args, mode, self, "ort_training.py", accuracy),
            Self::PyTorch | Self::PyTorchCache => peer(args, mode, self, "pytorch.py", accuracy),
        };
        let cost = cost.with_context(|| format!("{}, {mode:?}", self.name()))?;
        Ok(Cost { contender: self.name(), ..cost })
    }
}

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn edgetune(args: &Args, mode: Mode, cache: &Path, accuracy: bool) -> Result<Cost> {
    let (model, load_before) = (project("models/efficientnet_lite0/model.onnx"), load_average());
    let (adapter, report) = (cache.join("adapter.edelta"), cache.join("report.json"));
    fs::create_dir_all(cache)?;
    let command = |name: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_edgetune"));
        command.arg(name).arg(&model).arg("--cache").arg(cache.join("cache")).stdout(Stdio::null());
        if let Some(library) = &args.onnxruntime {
            command.arg("--onnxruntime").arg(library);
        }
        command
    };
    let mut train = command("train");
    train.arg("--data").arg(project("models/cifar10/train")).arg("--out").arg(&adapter).arg("--report").arg(&report);
    train.args(["--train", if mode == Mode::Head { "head" } else { "last:2" }, "--optimizer", "adamw"]);
    train.args(["--size", "224", "--scale", "1", "--mean", "127", "--std", "128", "--val-fraction", "0"]);
    train.args(["--epochs".into(), args.epochs.to_string(), "--batch".into(), args.batch.to_string()]);
    train.args(["--threads".into(), args.threads.to_string(), "--lr".into(), args.lr.to_string()]);
    train.args(["--seed".into(), args.seed.to_string()]);
    let began = Instant::now();
    succeed(&mut train)?;
    let seconds = began.elapsed().as_secs_f64();
    let report: Value = serde_json::from_slice(&fs::read(&report)?)?;
    let epochs = report["epochs"].as_array().context("no epochs in the report")?;
    let epochs: Vec<f64> = epochs.iter().filter_map(|epoch| epoch["seconds"].as_f64()).collect();
    // The report's clock starts within the process: what it does not see is counted as time before the first step.
    let unseen = seconds - number(&report, "seconds")?;
    let accuracy = match accuracy {
        true => {
            let mut eval = command("eval");
            eval.arg("--adapter").arg(&adapter).arg("--data").arg(project("models/cifar10/test")).arg("--json");
            number(&serde_json::from_slice(&succeed(eval.stdout(Stdio::piped()))?)?, "accuracy").ok()
        }
        false => None,
    };
    let versions = &report["versions"];
    Ok(Cost {
        mode,
        contender: "",
        version: format!("{} on ONNX Runtime {}", text(&versions["edgetune"]), text(&versions["onnxruntime"])),
        seconds_total: seconds,
        seconds_epoch_steady: median(epochs[1.min(epochs.len())..].to_vec()),
        step_ms_median: number(&report["step_ms"], "p50")?,
        first_step_s: number(&report, "first_step_s")? + unseen,
        peak_rss_bytes: number(&report, "peak_rss_bytes")? as u64,
        peak_private_bytes: number(&report, "peak_private_bytes")? as u64,
        accuracy,
        load_before,
    })
}

fn peer(args: &Args, mode: Mode, contender: Contender, script: &str, accuracy: bool) -> Result<Cost> {
    let load_before = load_average();
    let python = args.python(contender).context("a peer has an interpreter")?;
    let mut command = Command::new(&python);
    command.arg(project("benches/peers").join(script)).arg(project("models/cifar10/train"));
    command.args(["--mode", if mode == Mode::Head { "head" } else { "tail" }]);
    command.args(["--epochs".into(), args.epochs.to_string(), "--batch".into(), args.batch.to_string()]);
    command.args(["--threads".into(), args.threads.to_string(), "--lr".into(), args.lr.to_string()]);
    command.args(["--seed".into(), args.seed.to_string()]).env_remove("PYTHONPATH");
    match contender {
        Contender::OrtTraining => {
            command.arg("--model").arg(project("models/efficientnet_lite0/model.onnx"));
        }
        _ => {
            command.args((contender == Contender::PyTorchCache).then_some("--cache"));
            command.envs(args.pytorch_packages.iter().map(|folder| ("PYTHONPATH", folder)));
        }
    }
    if accuracy {
        command.arg("--test").arg(project("models/cifar10/test"));
    }
    let output = succeed(command.stdout(Stdio::piped()))?;
    let line = String::from_utf8_lossy(&output).lines().last().context("it printed nothing")?.to_string();
    let report: Value = serde_json::from_str(&line).with_context(|| format!("not a line of JSON: {line}"))?;
    let epochs = report["seconds_epochs"].as_array().context("no seconds_epochs")?;
    let epochs: Vec<f64> = epochs.iter().filter_map(Value::as_f64).collect();
    Ok(Cost {
        mode,
        contender: "",
        version: text(&report["version"]),
        seconds_total: number(&report, "seconds_total")?,
        seconds_epoch_steady: median(epochs[1.min(epochs.len())..].to_vec()),
        step_ms_median: number(&report, "step_ms_median")?,
        first_step_s: number(&report, "first_step_s")?,
        peak_rss_bytes: number(&report, "peak_rss_bytes")? as u64,
        peak_private_bytes: number(&report, "peak_private_bytes")? as u64,
        accuracy: report["accuracy"].as_f64(),
        load_before,
    })
}

/// Runs a command to its end and gives its output; its errors are shown only if it fails.
fn succeed(command: &mut Command) -> Result<Vec<u8>> {
    let output = command.stderr(Stdio::piped()).spawn().and_then(std::process::Child::wait_with_output);
    let output = output.with_context(|| format!("cannot start {}", command.get_program().display()))?;
    if !output.status.success() {
        bail!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim_end());
    }
    Ok(output.stdout)
}

fn number(value: &Value, field: &str) -> Result<f64> {
    value[field].as_f64().with_context(|| format!("no number `{field}` in {value}"))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or("unknown").to_string()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        len if len % 2 == 1 => values[len / 2],
        len => (values[len / 2 - 1] + values[len / 2]) / 2.0,
    }
}

fn load_average() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|load| load.parse().ok()).unwrap_or(f64::NAN)
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
    let (cpu, memory) = (field("/proc/cpuinfo", "model name"), field("/proc/meminfo", "MemTotal"));
    format!("{cpu} ({}), {cores} cores, {memory}, Linux {}", std::env::consts::ARCH, kernel.trim())
}

/// Medians of the repeats, and how many times as much each contender took as edgetune from a cold cache.
fn table(costs: &[Cost], mode: Mode, contenders: &[Contender], args: &Args) -> String {
    let of = |contender: Contender, field: fn(&Cost) -> f64| {
        let chosen = costs.iter().filter(|cost| cost.mode == mode && cost.contender == contender.name());
        median(chosen.map(field).collect())
    };
    let mut lines = vec![
        format!("### {mode:?}: medians of {} runs\n", args.repeats),
        format!(
            "| contender | {} epochs, s | × cold | × warm | later epoch, s | step, ms | first step, s | private, MB | RSS, \
             MB | accuracy | version |",
            args.epochs
        ),
        format!("|---|{}---|", "---:|".repeat(9)),
    ];
    for contender in contenders {
        let seconds = of(*contender, |cost| cost.seconds_total);
        let times = |other| seconds / of(other, |cost| cost.seconds_total);
        let own = costs.iter().filter(|cost| cost.mode == mode && cost.contender == contender.name());
        let accuracy = own.clone().find_map(|cost| cost.accuracy);
        lines.push(format!(
            "| {} | {seconds:.2} | {:.2} | {:.1} | {:.4} | {:.3} | {:.3} | {:.0} | {:.0} | {} | {} |",
            contender.name(),
            times(Contender::Cold),
            times(Contender::Warm),
            of(*contender, |cost| cost.seconds_epoch_steady),
            of(*contender, |cost| cost.step_ms_median),
            of(*contender, |cost| cost.first_step_s),
            of(*contender, |cost| cost.peak_private_bytes as f64 / 1e6),
            of(*contender, |cost| cost.peak_rss_bytes as f64 / 1e6),
            accuracy.map_or("–".into(), |share| format!("{:.1} %", share * 100.0)),
            own.clone().next().map_or("", |cost| &cost.version),
        ));
    }
    lines.join("\n") + "\n\n"
}
