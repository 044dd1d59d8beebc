//! `cargo bench --bench latency`: what a training costs an application that asks for predictions meanwhile.
//!
//! The real agent on EfficientNet-Lite0 and CIFAR-10 photographs, its socket on a port of this machine. One client asks for one
//! prediction after another, with a rest in between, as a camera would: while the agent has nothing to do, while it trains, and again
//! while it has nothing to do. The ratio is that of the medians, training over the mean of both others.

use anyhow::{Context, Result, ensure};
use clap::Parser;
use edgetune::engine::{self, Choice};
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
    /// Predictions of each part
    #[arg(long, default_value_t = 200)]
    predictions: usize,
    /// Milliseconds between an answer and the next question
    #[arg(long, default_value_t = 50)]
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
        let model = project("models/efficientnet_lite0/model.onnx");
        let recipe = format!(
            "model = \"{}\"\ntrain = [\"{}\"]\nepochs = 60\nbatch = 16\nval-fraction = 0.0\n[samples]\nsize = \"224\"\nscale = \"1\"\n\
             mean = \"127\"\nstd = \"128\"\n",
            model.display(),
            args.train
        );
        fs::write(folder.path().join("recipe.toml"), recipe)?;
        let config = format!(
            "recipe = \"recipe.toml\"\nstate = \"state\"\nspool = \"spool\"\n[policy]\nnew-samples-min = 200\nload-max = 1.0\n\
             temperature-max-c = 1000\nmemory-free-min-mb = 1\nmemory-pressure-max = 1000\ndisk-free-min-mb = 1\n\
             on-battery = true\ninterval-min = 0\n[api]\nlisten = \"127.0.0.1:{port}\"\n"
        );
        fs::write(folder.path().join("edgetune.toml"), config)?;
        put_samples(&folder.path().join("spool"), 0..30)?;
        let mut choice = Choice::new(args.onnxruntime.clone(), |name| std::env::var_os(name));
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

    fn is_training(&self) -> Result<bool> {
        Ok(self.folder.path().join("state/run/data").exists()
            && !self.folder.path().join("state/run/candidate.edelta").exists())
    }

    /// Waits until something is so.
    fn until(&self, what: &str, is: impl Fn(&Self) -> Result<bool>) -> Result<()> {
        let began = Instant::now();
        while !is(self).unwrap_or(false) {
            ensure!(began.elapsed() < Duration::from_secs(600), "{what} did not come about");
            std::thread::sleep(Duration::from_millis(200));
        }
        Ok(())
    }

    /// Times of predictions, as long as the agent trains or does not.
    fn predictions(&self, args: &Args, photographs: &[Vec<u8>], trains: bool) -> Result<Vec<f64>> {
        let mut times = Vec::new();
        for photograph in photographs.iter().cycle().take(args.predictions) {
            if self.is_training()? != trains {
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

fn main() -> Result<()> {
    let args = Args::parse();
    let mut photographs = Vec::new();
    for entry in fs::read_dir(project("models/cifar10/test/cat"))?.take(20) {
        photographs.push(fs::read(entry?.path())?);
    }
    let agent = Agent::start(&args)?;
    agent.until("an adapter in use", |agent| {
        Ok(agent.status()?["adapter"].is_string() || agent.folder.path().join("state/active.edelta").exists())
    })?;
    agent.until("rest", |agent| Ok(!agent.folder.path().join("state/run").exists()))?;
    agent.predictions(&Args { predictions: 20, ..args.clone() }, &photographs, false)?;
    let before = agent.predictions(&args, &photographs, false)?;
    put_samples(&agent.folder.path().join("spool"), 30..90)?;
    agent.until("a training", Agent::is_training)?;
    // Its first pass, which decodes and runs the body, is part of it.
    let during = agent.predictions(&args, &photographs, true)?;
    agent.until("an end of the training", |agent| Ok(!agent.folder.path().join("state/run").exists()))?;
    let after = agent.predictions(&args, &photographs, false)?;
    let quantile = |times: &[f64], share: f64| times[((times.len() as f64 * share) as usize).min(times.len() - 1)];
    let mean = |times: &[f64]| times.iter().sum::<f64>() / times.len() as f64;
    for (name, times) in [("before", &before), ("training", &during), ("after", &after)] {
        println!(
            "{name:9} {:4} predictions: mean {:6.1} ms, p50 {:6.1} ms, p90 {:6.1} ms, p99 {:6.1} ms",
            times.len(),
            mean(times),
            quantile(times, 0.5),
            quantile(times, 0.9),
            quantile(times, 0.99)
        );
    }
    println!("mean: {:+.1} % while it trains", (mean(&during) / ((mean(&before) + mean(&after)) / 2.0) - 1.0) * 100.0);
    for share in [0.5, 0.9, 0.99] {
        let idle = (quantile(&before, share) + quantile(&after, share)) / 2.0;
        println!("p{:.0}: {:+.1} % while it trains", share * 100.0, (quantile(&during, share) / idle - 1.0) * 100.0);
    }
    Ok(())
}
