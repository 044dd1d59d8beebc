//! `cargo bench --bench peers`: edgetune and the tools that a user would otherwise take, at the same job, one after the
//! other in one run, and a table of what each took. `peers/README.md` says what the job is and what each field means.
//!
//! Every contender is a process of its own, started anew for each repeat; repeats alternate, so that what else the machine
//! does falls on all alike. A peer whose environment is missing is named, not missed silently.

#[path = "peers/workload.rs"]
mod workload;

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use serde::Serialize;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;
use workload::{Samples, Workload};

/// Does the same job with edgetune and with its peers, alternately, and prints what each took
#[derive(Debug, Parser)]
struct Args {
    /// What learns, and from what; repeatable [default: all, with LoRA where --models is given]
    #[arg(long, value_enum)]
    workload: Vec<Workload>,
    /// Folder with the base models and texts of the LoRA workloads
    #[arg(long, value_name = "DIR", env = "EDGETUNE_MODELS")]
    models: Option<PathBuf>,
    /// Runs of every contender; medians are printed
    #[arg(long, default_value_t = 5)]
    repeats: usize,
    /// Photographs of each class
    #[arg(long, default_value_t = 100, value_name = "N")]
    per_class: usize,
    /// Questions
    #[arg(long, default_value_t = 160, value_name = "N")]
    questions: usize,
    /// Bytes of Shakespeare; about 350 make a block of 128 tokens
    #[arg(long, default_value_t = 6_700, value_name = "N")]
    text_bytes: usize,
    /// Folder that benches/peers/setup.sh has filled with environments
    #[arg(long, value_name = "DIR", env = "EDGETUNE_PEERS")]
    env: Option<PathBuf>,
    /// An interpreter with PyTorch and PEFT, in place of DIR's
    #[arg(long, value_name = "PATH")]
    pytorch_python: Option<PathBuf>,
    /// The ONNX Runtime library for edgetune [default: what `edgetune runtime which` names]
    #[arg(long, value_name = "PATH")]
    onnxruntime: Option<PathBuf>,
    /// Contenders to run, by their names in the table; repeatable [default: all]
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    #[arg(long, default_value_t = 5)]
    epochs: u32,
    /// Threads, and cores to which a contender is bound
    #[arg(long, default_value_t = 2)]
    threads: u32,
    #[arg(long, default_value_t = 0.001)]
    lr: f64,
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Leave out the test samples, which are outside all times but take their own
    #[arg(long)]
    no_test: bool,
    /// Where the JSON document goes
    #[arg(long, value_name = "FILE", default_value = "target/peers.json")]
    json: PathBuf,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

/// Who does the job.
struct Contender {
    name: &'static str,
    by: By,
    /// Whether the frozen part runs once a sample: only where there is one.
    caches: bool,
}

enum By {
    /// `edgetune train`, with further options, on an empty cache.
    Edgetune(&'static [&'static str]),
    /// The same once more, with the cache that the first one left.
    Warm,
    /// A script and the environment of `setup.sh` that runs it.
    Script(&'static str, &'static str),
}

/// In the order of running: the warm run needs the cold one's cache.
const CONTENDERS: [Contender; 9] = [
    Contender { name: "edgetune", by: By::Edgetune(&[]), caches: false },
    Contender { name: "edgetune-warm", by: By::Warm, caches: false },
    Contender { name: "edgetune-low", by: By::Edgetune(&["--memory", "low"]), caches: false },
    Contender { name: "onnxruntime-training", by: By::Script("ort_training.py", "ort-training"), caches: false },
    Contender { name: "onnxruntime-training-cache", by: By::Script("ort_training.py", "ort-training"), caches: true },
    Contender { name: "pytorch", by: By::Script("pytorch.py", "pytorch"), caches: false },
    Contender { name: "pytorch-cache", by: By::Script("pytorch.py", "pytorch"), caches: true },
    Contender { name: "onnxsim-graph-grad", by: By::Script("graph_grad.py", "onnxsim"), caches: false },
    Contender { name: "onnxsim-graph-grad-cache", by: By::Script("graph_grad.py", "onnxsim"), caches: true },
];

/// One run's numbers; the fields are those of the peers' line of JSON.
#[derive(Debug, Clone, Serialize)]
struct Cost {
    workload: Workload,
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
    /// Share of right answers, or the loss of a token, on the test samples.
    tested: Option<f64>,
    /// The machine's load average of the last minute when the run began: what runs beside the benchmark shows in it.
    load_before: f64,
}

fn main() -> Result<()> {
    let args = Args::parse();
    ensure!(args.repeats > 0, "--repeats must be at least 1");
    let chosen = |workload: &Workload| match args.workload.is_empty() {
        true => !workload.is_lora() || args.models.is_some(),
        false => args.workload.contains(workload),
    };
    let scratch = tempfile::tempdir().context("no temporary folder")?;
    let workloads: Vec<(Workload, Samples)> = Workload::ALL
        .into_iter()
        .filter(chosen)
        .map(|workload| Ok((workload, workload.samples(&args, scratch.path())?)))
        .collect::<Result<_>>()?;
    let wanted = |contender: &&Contender| args.only.is_empty() || args.only.iter().any(|name| name == contender.name);
    let mut running = Vec::new();
    for contender in CONTENDERS.iter().filter(wanted) {
        match contender.python(&args).filter(|python| !python.exists()) {
            None => running.push(contender),
            Some(path) => println!(
                "{}: not set up ({} is missing): run `sh benches/peers/setup.sh DIR`, then give --env DIR",
                contender.name,
                path.display()
            ),
        }
    }
    let names = CONTENDERS.iter().map(|contender| contender.name);
    ensure!(!running.is_empty(), "nothing to run; the names are {}", names.collect::<Vec<_>>().join(", "));
    let (mut costs, mut refusals) = (Vec::new(), Vec::new());
    for repeat in 0..args.repeats {
        for (workload, samples) in &workloads {
            let cache = scratch.path().join(format!("{workload:?}{repeat}"));
            for contender in &running {
                let refused =
                    |refusal: &(Workload, &str, String)| refusal.0 == *workload && refusal.1 == contender.name;
                if contender.caches && workload.is_lora() || refusals.iter().any(refused) {
                    continue;
                }
                eprint!("repeat {}/{}, {workload:?}, {} … ", repeat + 1, args.repeats, contender.name);
                match contender.run(&args, *workload, samples, &cache, repeat == 0 && !args.no_test) {
                    Ok(cost) => {
                        eprintln!("{:.2} s", cost.seconds_total);
                        costs.push(cost);
                    }
                    // A peer that cannot do the job is part of the result; edgetune has no such excuse.
                    Err(error) if matches!(contender.by, By::Script(..)) => {
                        let reason = format!("{error:#}")
                            .lines()
                            .last()
                            .unwrap_or_default()
                            .chars()
                            .take(160)
                            .collect::<String>();
                        eprintln!("refuses: {reason}");
                        refusals.push((*workload, contender.name, reason));
                    }
                    Err(error) => return Err(error),
                }
                // After each run: an interrupted measurement keeps what it has.
                write_json(&args, &costs)?;
            }
        }
    }
    println!("\n{}\n", machine());
    for (workload, _) in &workloads {
        print!("{}", table(&costs, *workload, &running, &args));
        for (_, contender, reason) in refusals.iter().filter(|refusal| refusal.0 == *workload) {
            println!("{contender} refuses: {reason}\n");
        }
    }
    Ok(())
}

fn write_json(args: &Args, costs: &[Cost]) -> Result<()> {
    let document = serde_json::json!({
        "machine": machine(), "epochs": args.epochs, "threads": args.threads, "runs": costs,
    });
    fs::write(&args.json, serde_json::to_string_pretty(&document)?)
        .with_context(|| format!("cannot write {}", args.json.display()))
}

impl Contender {
    /// The interpreter of a script.
    fn python(&self, args: &Args) -> Option<PathBuf> {
        let By::Script(_, environment) = self.by else { return None };
        let given = args.pytorch_python.clone().filter(|_| environment == "pytorch");
        Some(
            given.unwrap_or_else(|| {
                args.env.clone().unwrap_or_else(|| "DIR".into()).join(environment).join("bin/python")
            }),
        )
    }

    fn run(&self, args: &Args, workload: Workload, samples: &Samples, cache: &Path, test: bool) -> Result<Cost> {
        let cost = match self.by {
            By::Edgetune(options) => {
                let cache = cache.join(self.name);
                ensure!(!cache.exists(), "the cache of a cold run is there already");
                edgetune(args, workload, samples, &cache, options, test)
            }
            By::Warm => {
                let cache = cache.join("edgetune");
                if !cache.exists() {
                    edgetune(args, workload, samples, &cache, &[], false)?;
                }
                edgetune(args, workload, samples, &cache, &[], test)
            }
            By::Script(script, _) => self.script(args, workload, samples, script, test),
        };
        let cost = cost.with_context(|| format!("{}, {workload:?}", self.name))?;
        Ok(Cost { contender: self.name, ..cost })
    }

    fn script(&self, args: &Args, workload: Workload, samples: &Samples, script: &str, test: bool) -> Result<Cost> {
        let load_before = load_average();
        let mut command = bound(args, &self.python(args).context("a peer has an interpreter")?);
        command.arg(project("benches/peers").join(script)).arg(workload.name()).arg(&samples.train);
        command
            .arg("--model")
            .arg(&samples.model)
            .args(samples.tokenizer.iter().flat_map(|file| ["--tokenizer".as_ref(), file.as_os_str()]));
        command.args([
            "--length".into(),
            workload.length().to_string(),
            "--batch".into(),
            workload.batch().to_string(),
        ]);
        command.args(["--epochs".into(), args.epochs.to_string(), "--threads".into(), args.threads.to_string()]);
        command
            .args(["--lr".into(), args.lr.to_string(), "--seed".into(), args.seed.to_string()])
            .env_remove("PYTHONPATH");
        command.args(self.caches.then_some("--cache"));
        if test {
            command.arg("--test").arg(&samples.test);
        }
        let output = succeed(command.stdout(Stdio::piped()))?;
        let line = String::from_utf8_lossy(&output).lines().last().context("it printed nothing")?.to_string();
        let report: Value = serde_json::from_str(&line).with_context(|| format!("not a line of JSON: {line}"))?;
        let epochs = report["seconds_epochs"].as_array().context("no seconds_epochs")?;
        let epochs: Vec<f64> = epochs.iter().filter_map(Value::as_f64).collect();
        Ok(Cost {
            workload,
            contender: "",
            version: text(&report["version"]),
            seconds_total: number(&report, "seconds_total")?,
            seconds_epoch_steady: median(epochs[1.min(epochs.len())..].to_vec()),
            step_ms_median: number(&report, "step_ms_median")?,
            first_step_s: number(&report, "first_step_s")?,
            peak_rss_bytes: number(&report, "peak_rss_bytes")? as u64,
            peak_private_bytes: number(&report, "peak_private_bytes")? as u64,
            tested: report["tested"].as_f64(),
            load_before,
        })
    }
}

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A command that sees as many cores as it has threads.
fn bound(args: &Args, program: &Path) -> Command {
    let mut command = Command::new("taskset");
    command.arg("--cpu-list").arg(format!("0-{}", args.threads.max(1) - 1)).arg(program);
    command
}

fn edgetune(
    args: &Args,
    workload: Workload,
    samples: &Samples,
    cache: &Path,
    options: &[&str],
    test: bool,
) -> Result<Cost> {
    let load_before = load_average();
    let (adapter, report) = (cache.join("adapter.edelta"), cache.join("report.json"));
    fs::create_dir_all(cache)?;
    let command = |name: &str| {
        let mut command = bound(args, Path::new(env!("CARGO_BIN_EXE_edgetune")));
        command.arg(name).arg(&samples.model).arg("--cache").arg(cache.join("cache")).stdout(Stdio::null());
        command.args(samples.tokenizer.iter().flat_map(|file| ["--tokenizer".as_ref(), file.as_os_str()]));
        command.args(if name == "train" { workload.reading() } else { workload.testing() });
        if let Some(library) = &args.onnxruntime {
            command.arg("--onnxruntime").arg(library);
        }
        command
    };
    let mut train = command("train");
    train.arg("--data").arg(&samples.train).arg("--out").arg(&adapter).arg("--report").arg(&report);
    train.args(workload.learning()).args(options).args(["--optimizer", "adamw", "--val-fraction", "0"]);
    train.args(["--epochs".into(), args.epochs.to_string(), "--batch".into(), workload.batch().to_string()]);
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
    let tested = match test {
        true => {
            let mut eval = command("eval");
            eval.arg("--adapter").arg(&adapter).arg("--data").arg(&samples.test).arg("--json");
            let metrics: Value = serde_json::from_slice(&succeed(eval.stdout(Stdio::piped()))?)?;
            number(&metrics, if workload == Workload::LoraLm { "loss" } else { "accuracy" }).ok()
        }
        false => None,
    };
    let versions = &report["versions"];
    Ok(Cost {
        workload,
        contender: "",
        version: format!("{} on ONNX Runtime {}", text(&versions["edgetune"]), text(&versions["onnxruntime"])),
        seconds_total: seconds,
        seconds_epoch_steady: median(epochs[1.min(epochs.len())..].to_vec()),
        step_ms_median: number(&report["step_ms"], "p50")?,
        first_step_s: number(&report, "first_step_s")? + unseen,
        peak_rss_bytes: number(&report, "peak_rss_bytes")? as u64,
        peak_private_bytes: number(&report, "peak_private_bytes")? as u64,
        tested,
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
fn table(costs: &[Cost], workload: Workload, contenders: &[&Contender], args: &Args) -> String {
    let of = |contender: &str, field: fn(&Cost) -> f64| {
        let chosen = costs.iter().filter(|cost| cost.workload == workload && cost.contender == contender);
        median(chosen.map(field).collect())
    };
    let mut lines = vec![
        format!("### {}, {} threads: medians of {} runs\n", workload.name(), args.threads, args.repeats),
        format!(
            "| contender | {} epochs, s | × cold | later epoch, s | step, ms | × step | first step, s | private, MB | RSS, MB | \
             test | version |",
            args.epochs
        ),
        format!("|---|{}---|", "---:|".repeat(9)),
    ];
    for contender in contenders {
        let own = costs.iter().filter(|cost| cost.workload == workload && cost.contender == contender.name);
        let Some(version) = own.clone().next().map(|cost| &cost.version) else { continue };
        let value = |field| of(contender.name, field);
        let times = |field| of(contender.name, field) / of("edgetune", field);
        let tested = own.clone().find_map(|cost| cost.tested);
        lines.push(format!(
            "| {} | {:.2} | {:.2} | {:.4} | {:.3} | {:.2} | {:.2} | {:.0} | {:.0} | {} | {version} |",
            contender.name,
            value(|cost| cost.seconds_total),
            times(|cost| cost.seconds_total),
            value(|cost| cost.seconds_epoch_steady),
            value(|cost| cost.step_ms_median),
            times(|cost| cost.step_ms_median),
            value(|cost| cost.first_step_s),
            value(|cost| cost.peak_private_bytes as f64 / 1e6),
            value(|cost| cost.peak_rss_bytes as f64 / 1e6),
            tested.map_or("–".into(), |tested| workload.tested(tested)),
        ));
    }
    lines.join("\n") + "\n\n"
}
