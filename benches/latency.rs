//! `cargo bench --bench latency`: what a training costs an application that asks for predictions meanwhile.
//!
//! The real agent on EfficientNet-Lite0 and CIFAR-10 photographs, its socket on a port of this machine. One client asks for one
//! prediction after another, with a rest in between, as a camera would. A round is three parts: the training paused, the training's
//! first pass (it decodes the samples and runs the body), the training's steps. Rounds follow each other, so that what else goes on
//! in the machine meets all parts alike; ratios are of the pooled predictions, those of single rounds show how far they scatter.

use anyhow::{Context, Result, ensure};
use clap::Parser;
use edgetune::engine::{self, LibraryChoice};
use serde_json::Value;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Measures predictions while the agent trains
#[derive(Debug, Clone, Parser)]
struct Args {
    /// Rounds
    #[arg(long, default_value_t = 10)]
    rounds: usize,
    /// Predictions of each part of a round
    #[arg(long, default_value_t = 60)]
    predictions: usize,
    /// Milliseconds between an answer and the next question
    #[arg(long, default_value_t = 30)]
    rest_ms: u64,
    /// What the agent trains
    #[arg(long, default_value = "last:2")]
    train: String,
    /// The ONNX Runtime library [default: the device's, or one that is installed under target/]
    #[arg(long, value_name = "PATH")]
    onnxruntime: Option<PathBuf>,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

/// Epochs that do not end before the measurement does.
const FOR_EVER: usize = 1_000_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Paused,
    FirstPass,
    Steps,
}

const PARTS: [(Part, &str); 3] = [(Part::Paused, "paused"), (Part::FirstPass, "first pass"), (Part::Steps, "steps")];

struct Agent {
    process: Child,
    port: u16,
    folder: tempfile::TempDir,
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Photographs of each class of CIFAR-10's training set, by their place in it.
fn put_samples(spool: &Path, places: std::ops::Range<usize>) -> Result<()> {
    for class in fs::read_dir(project("models/cifar10/train"))? {
        let class = class?.path();
        let mut files: Vec<PathBuf> =
            fs::read_dir(&class)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
        files.sort();
        let to = spool.join(class.file_name().context("no class")?);
        fs::create_dir_all(&to)?;
        for file in files.iter().skip(places.start).take(places.len()) {
            fs::copy(file, to.join(file.file_name().context("no name")?))?;
        }
    }
    Ok(())
}

impl Agent {
    fn start(args: &Args) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        write_recipe(folder.path(), &args.train, 10)?;
        write_config(folder.path(), port, true)?;
        put_samples(&folder.path().join("spool"), 0..30)?;
        let mut choice = LibraryChoice::new(args.onnxruntime.clone(), |name| std::env::var_os(name));
        choice.data_folder = Some(project("target/tmp"));
        let library = engine::load_or_install(&choice, &mut |_| {})?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_edgetune"));
        command.args(["agent", "run", "--config", "edgetune.toml"]).current_dir(folder.path());
        command.env("ORT_DYLIB_PATH", &library.path).env("HOME", folder.path()).env("EDGETUNE_LOG", "error");
        let process = command.stdout(Stdio::null()).spawn()?;
        Ok(Self { process, port, folder })
    }

    fn ask(&self, method: &str, target: &str, body: &[u8]) -> Result<(u16, Vec<u8>)> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        let head = format!(
            "{method} {target} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(&[head.as_bytes(), body].concat())?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n").context("no answer")?;
        let status = std::str::from_utf8(&answer[..end])?.split(' ').nth(1).context("no status")?.parse()?;
        Ok((status, answer.split_off(end + 4)))
    }

    fn status(&self) -> Result<Value> {
        Ok(serde_json::from_slice(&self.ask("GET", "/status", b"")?.1)?)
    }

    fn is_doing(&self, what: &str) -> Result<bool> {
        Ok(self.status()?["doing"].as_str().is_some_and(|doing| doing.starts_with(what)))
    }

    /// The part that the trainer is in, by what it has printed and kept.
    fn part(&self) -> Part {
        let state = self.folder.path().join("state");
        let printed = fs::read_to_string(state.join("run/err")).unwrap_or_default();
        // The first line may be of the epoch whose end the checkpoint holds.
        if printed.matches("epoch ").count() > 1 {
            Part::Steps
        } else if state.join("cache/features").exists() {
            Part::FirstPass
        } else {
            Part::Paused
        }
    }

    /// Has the trainer pause or go on.
    fn let_train(&self, may: bool) -> Result<()> {
        write_config(self.folder.path(), self.port, may)?;
        let agent = rustix::process::Pid::from_raw(self.process.id() as i32).context("no process")?;
        rustix::process::kill_process(agent, rustix::process::Signal::HUP)?;
        self.until("the new configuration", |agent| agent.is_doing(if may { "training on" } else { "training paused" }))
    }

    /// Brings the training there.
    fn bring(&self, to: Part) -> Result<()> {
        match to {
            Part::Paused => self.let_train(false),
            Part::FirstPass => {
                fs::remove_dir_all(self.folder.path().join("state/cache/features"))?;
                self.let_train(true)?;
                self.until("a first pass", |agent| Ok(agent.part() == Part::FirstPass))
            }
            Part::Steps => self.until("steps", |agent| Ok(agent.part() == Part::Steps)),
        }
    }

    /// Waits until something is so.
    fn until(&self, what: &str, is: impl Fn(&Self) -> Result<bool>) -> Result<()> {
        let began = Instant::now();
        while !is(self).unwrap_or(false) {
            ensure!(began.elapsed() < Duration::from_secs(120), "{what} did not come about: {}", self.status()?);
            std::thread::sleep(Duration::from_millis(200));
        }
        Ok(())
    }

    /// Milliseconds of predictions in this part, in order.
    fn predictions(&self, args: &Args, photographs: &[Vec<u8>], part: Part) -> Result<Vec<f64>> {
        let mut times = Vec::new();
        for photograph in photographs.iter().cycle().take(args.predictions) {
            if part == Part::FirstPass && self.part() != part {
                break;
            }
            let began = Instant::now();
            let (status, body) = self.ask("POST", "/predict", photograph)?;
            ensure!(status == 200, "{}", String::from_utf8_lossy(&body));
            times.push(began.elapsed().as_secs_f64() * 1e3);
            std::thread::sleep(Duration::from_millis(args.rest_ms));
        }
        ensure!(times.len() * 2 > args.predictions, "only {} of {} predictions", times.len(), args.predictions);
        times.sort_by(f64::total_cmp);
        Ok(times)
    }
}

fn write_recipe(folder: &Path, train: &str, epochs: usize) -> Result<()> {
    let model = project("models/efficientnet_lite0/model.onnx");
    let recipe = format!(
        "model = \"{}\"\ntrain = [\"{train}\"]\nepochs = {epochs}\nbatch = 16\nval-fraction = 0.0\n[samples]\nsize = \"224\"\n\
         scale = \"1\"\nmean = \"127\"\nstd = \"128\"\n",
        model.display()
    );
    Ok(fs::write(folder.join("recipe.toml"), recipe)?)
}

/// The agent's configuration; a device that `may` not train is one that has too little disk.
fn write_config(folder: &Path, port: u16, may: bool) -> Result<()> {
    let disk_mb = if may { 1 } else { u32::MAX };
    let config = format!(
        "recipe = \"recipe.toml\"\nstate = \"state\"\nspool = \"spool\"\n[policy]\nnew-samples-min = 200\nload-max = 1.0\n\
         temperature-max-c = 1000\nmemory-free-min-mb = 1\nmemory-pressure-max = 1000\ndisk-free-min-mb = {disk_mb}\n\
         on-battery = true\ninterval-min = 0\n[api]\nlisten = \"127.0.0.1:{port}\"\n"
    );
    Ok(fs::write(folder.join("edgetune.toml"), config)?)
}

/// A quantile of sorted times.
fn quantile(times: &[f64], share: f64) -> f64 {
    times[((times.len() as f64 * share) as usize).min(times.len() - 1)]
}

fn mean(times: &[f64]) -> f64 {
    times.iter().sum::<f64>() / times.len() as f64
}

fn main() -> Result<()> {
    edgetune::configure_process();
    let args = Args::parse();
    let mut photographs = Vec::new();
    for entry in fs::read_dir(project("models/cifar10/test/cat"))?.take(20) {
        photographs.push(fs::read(entry?.path())?);
    }
    let agent = Agent::start(&args)?;
    agent.until("an adapter in use", |agent| Ok(agent.folder.path().join("state/active.edelta").exists()))?;
    agent.until("rest", |agent| Ok(!agent.folder.path().join("state/run").exists()))?;
    write_recipe(agent.folder.path(), &args.train, FOR_EVER)?;
    put_samples(&agent.folder.path().join("spool"), 30..150)?;
    agent.until("a training", |agent| agent.is_doing("training on"))?;
    agent.predictions(&args, &photographs, Part::Steps)?;
    let mut rounds: Vec<Vec<Vec<f64>>> = Vec::new();
    for _ in 0..args.rounds {
        let mut round = Vec::new();
        for (part, _) in PARTS {
            agent.bring(part)?;
            round.push(agent.predictions(&args, &photographs, part)?);
        }
        rounds.push(round);
    }
    let pooled = |part: usize| {
        let mut times: Vec<f64> = rounds.iter().flat_map(|round| round[part].iter().copied()).collect();
        times.sort_by(f64::total_cmp);
        times
    };
    let paused = pooled(0);
    for (place, (_, name)) in PARTS.iter().enumerate() {
        let times = pooled(place);
        let figure = |name: &str, of: &dyn Fn(&[f64]) -> f64| {
            format!("{name} {:5.1} ms ({:+.1} %)", of(&times), (of(&times) / of(&paused) - 1.0) * 100.0)
        };
        let figures = [
            figure("mean", &mean),
            figure("p50", &|times| quantile(times, 0.5)),
            figure("p90", &|times| quantile(times, 0.9)),
            figure("p99", &|times| quantile(times, 0.99)),
        ];
        println!("{name:10} {} predictions: {}", times.len(), figures.join(", "));
        let ratio = |round: &Vec<Vec<f64>>| (quantile(&round[place], 0.5) / quantile(&round[0], 0.5) - 1.0) * 100.0;
        let ratios: Vec<String> = rounds.iter().map(|round| format!("{:+.0}", ratio(round))).collect();
        if place > 0 {
            println!("           median, round by round: {} %", ratios.join(", "));
        }
    }
    Ok(())
}
