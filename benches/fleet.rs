//! `cargo bench --features fleet --bench fleet`: what the fleet's server bears on one machine, over loopback, without TLS.
//!
//! A server process of its own and this one share the processors. Devices enrol; then some ask for releases at a steady rate while
//! others send deltas, each its own, each signed and verified, as fast as they are taken. An upload is its request to the
//! answer that it counts, which comes when the delta is on the disk. At last the round is closed, and the time until its release is
//! there is that of the aggregation.

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use edgetune::delta::{self, Encoding, Header, KeyPair, Label, Payload, TensorValues, encode, sign};
use edgetune::sync::wire::{Enrol, Enrolled, Hex, Signed, UploadState};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Measures the fleet's server under load
#[derive(Debug, Parser)]
struct Args {
    /// Devices that are enrolled, and ask for releases
    #[arg(long, default_value_t = 10_000)]
    devices: usize,
    /// Deltas that are sent
    #[arg(long, default_value_t = 10_000)]
    deltas: usize,
    /// Seconds between two questions of one device
    #[arg(long, default_value_t = 60.0)]
    poll_s: f64,
    /// Connections that deltas are sent over at the same time
    #[arg(long, default_value_t = 16)]
    connections: usize,
    /// How deltas are combined: mean, median, trimmed:PART
    #[arg(long, default_value = "mean")]
    rule: String,
    /// The database [default: SQLite in a temporary folder]
    #[arg(long, env = "EDGETUNE_FLEET_DATABASE")]
    database: Option<String>,
    /// Where the server keeps its files [default: a temporary folder]
    #[arg(long)]
    data: Option<std::path::PathBuf>,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

/// Values of a delta: 64 KB in fp16.
const VALUES: usize = 32 << 10;
const BASE: [u8; 32] = [7; 32];

struct Server {
    process: Child,
    address: String,
    token: String,
    _folder: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Server {
    fn start(args: &Args) -> Result<Self> {
        let folder = match &args.data {
            Some(data) => tempfile::tempdir_in(data)?,
            None => tempfile::tempdir()?,
        };
        let mut command = Command::new(env!("CARGO_BIN_EXE_edgetune-fleet"));
        command.args(["serve", "--json", "--insecure-http", "--listen", "127.0.0.1:0", "--requests-per-s", "1000000"]);
        command.arg("--data").arg(folder.path());
        if let Some(database) = &args.database {
            command.arg("--database").arg(database);
        }
        let mut process = command.env("EDGETUNE_LOG", "error").stdout(Stdio::piped()).spawn()?;
        let mut text = String::new();
        for line in BufReader::new(process.stdout.take().context("no output")?).lines() {
            text += &line?;
            if text.contains('}') {
                break;
            }
        }
        let ready: Value = serde_json::from_str(&text).context("the server ended before it was ready")?;
        let address = ready["url"].as_str().and_then(|url| url.split_once("://")).context("no address")?.1.to_owned();
        let token = std::fs::read_to_string(folder.path().join("operator.token"))?.trim().to_owned();
        Ok(Self { process, address, token, _folder: folder })
    }

    /// Bytes of the process: resident without files, and the most that was resident since the last [`Self::forget_peak`].
    fn memory(&self) -> Result<[u64; 2]> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let kilobytes = |name: &str| -> Result<u64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).context("no such line")?;
            Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? << 10)
        };
        Ok([kilobytes("RssAnon:")?, kilobytes("VmHWM:")?])
    }

    fn forget_peak(&self) -> Result<()> {
        Ok(std::fs::write(format!("/proc/{}/clear_refs", self.process.id()), "5")?)
    }

    /// Seconds of processor time that the process has used.
    fn processor_s(&self) -> Result<f64> {
        processor_s(&self.process.id().to_string())
    }

    fn operator(&self, line: &mut Line, method: &str, target: &str, body: &[u8]) -> Result<Answer> {
        line.ask(method, target, &format!("Bearer {}", self.token), &[], body)
    }

    fn channel(&self, line: &mut Line, name: &str) -> Result<Value> {
        let rows: Vec<Value> = serde_json::from_slice(&self.operator(line, "GET", "/v1/admin/channels", b"")?.body)?;
        rows.into_iter().find(|row| row["name"] == name).context("no such channel")
    }
}

fn processor_s(process: &str) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    let fields: Vec<&str> = stat.rsplit_once(')').context("no name")?.1.split_whitespace().collect();
    // User and system time in ticks of 1/100 s (proc(5), fields 14 and 15).
    Ok((fields[11].parse::<f64>()? + fields[12].parse::<f64>()?) / 100.0)
}

/// A connection that stays.
struct Line {
    stream: BufReader<TcpStream>,
}

struct Answer {
    status: u16,
    etag: String,
    body: Vec<u8>,
}

impl Line {
    fn to(address: &str) -> Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    fn ask(
        &mut self,
        method: &str,
        target: &str,
        authorization: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Answer> {
        let mut request =
            format!("{method} {target} HTTP/1.1\r\nhost: localhost\r\nauthorization: {authorization}\r\n").into_bytes();
        if method != "GET" {
            write!(request, "content-length: {}\r\n", body.len())?;
        }
        for (name, value) in headers {
            write!(request, "{name}: {value}\r\n")?;
        }
        request.extend(b"\r\n");
        request.extend(body);
        self.stream.get_mut().write_all(&request)?;
        let mut answer = Answer { status: 0, etag: String::new(), body: Vec::new() };
        let mut length = 0;
        let mut text = String::new();
        loop {
            text.clear();
            ensure!(self.stream.read_line(&mut text)? > 0, "the server has closed the connection");
            match text.trim_end().split_once(": ") {
                _ if answer.status == 0 => answer.status = text.split(' ').nth(1).context("no status")?.parse()?,
                Some(("content-length", value)) => length = value.parse()?,
                Some(("etag", value)) => answer.etag = value.into(),
                Some(_) => {}
                None => break,
            }
        }
        answer.body.resize(length, 0);
        self.stream.read_exact(&mut answer.body)?;
        Ok(answer)
    }
}

struct Device {
    key: KeyPair,
    fleet: String,
    time_ms: u64,
}

impl Device {
    fn ask(
        &mut self,
        line: &mut Line,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Answer> {
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as u64;
        self.time_ms = now_ms.max(self.time_ms + 1);
        let signed = Signed::new(&self.key, &self.fleet, method, target, self.time_ms, body).to_string();
        line.ask(method, target, &signed, headers, body)
    }

    fn enrolled(server: &Server, line: &mut Line, number: usize) -> Result<Self> {
        let token: Value = serde_json::from_slice(&server.operator(line, "POST", "/v1/admin/tokens", b"")?.body)?;
        let token = token["token"].as_str().context("no token")?.to_owned();
        let secret = blake3::hash(format!("{} {number}", server.address).as_bytes());
        let mut device = Self { key: KeyPair::from_secret(secret.as_bytes()), fleet: String::new(), time_ms: 0 };
        let name = format!("{}-{number}", server.address);
        let body = serde_json::to_vec(&Enrol { token, name, replace: false, consent: None })?;
        let answer = device.ask(line, "POST", "/v1/enrol", &[], &body)?;
        device.fleet = serde_json::from_slice::<Enrolled>(&answer.body)?.fleet;
        Ok(device)
    }

    /// Sends a delta; the time from the first byte to the answer that it counts.
    fn push(&mut self, line: &mut Line, channel: &str, bytes: &[u8]) -> Result<Duration> {
        let hash = Hex(blake3::hash(bytes).into());
        let began = Instant::now();
        let octets = [("content-type", "application/octet-stream")];
        let answer = self.ask(line, "PUT", &format!("/v1/uploads/{hash}?channel={channel}"), &octets, bytes)?;
        let state: UploadState =
            serde_json::from_slice(&answer.body).with_context(|| String::from_utf8_lossy(&answer.body).into_owned())?;
        ensure!(state.accepted, "it does not count");
        Ok(began.elapsed())
    }
}

/// Values of a delta, stored.
fn payload_of(random: &mut fastrand::Rng) -> Result<Payload> {
    let values: Vec<f32> = (0..VALUES).map(|_| delta::f16::from_f32(random.f32() * 2.0 - 1.0).to_f32()).collect();
    Ok(encode(&values, Encoding::Fp16)?)
}

/// A delta that nobody has signed; they differ by `seed`.
fn delta_of(round: Option<u32>, seed: u64, payload: &Payload) -> Result<Vec<u8>> {
    let header =
        Header { base: BASE, loss: "cross_entropy", output: "logits", samples: 7, round, seed, ..Header::default() };
    let tensors = [TensorValues { name: "fc.weight", shape: &[32, 1024], payload }];
    Ok(delta::write(&header, &[Label { name: "cat", samples: 7 }], &tensors)?)
}

/// The value that this share of the values is not above.
fn quantile(times: &mut [Duration], share: f64) -> Duration {
    times.sort();
    times.get(((times.len() as f64 * share) as usize).min(times.len().saturating_sub(1))).copied().unwrap_or_default()
}

fn main() -> Result<()> {
    let args = Args::parse();
    let server = Server::start(&args)?;
    let mut line = Line::to(&server.address)?;
    let mut random = fastrand::Rng::with_seed(1);
    let channel = format!("load-{}", random.u64(..) ^ SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos() as u64);
    let first = sign(&delta_of(None, 0, &payload_of(&mut random)?)?, &KeyPair::from_secret(&[1; 32]))?;
    let query = format!("rule={}&stages=100&stage_s=0&stage_reports=0", args.rule);
    let made = server.operator(&mut line, "POST", &format!("/v1/admin/channels/{channel}?{query}"), &first)?;
    ensure!(made.status == 200, "{}", String::from_utf8_lossy(&made.body));
    println!("a delta has {} bytes; database {}", first.len(), args.database.as_deref().unwrap_or("SQLite"));

    let devices = enrol(&server, &args)?;
    // The values are some of few: encoding them is not what is measured.
    let payloads: Vec<Payload> = (0..64).map(|_| payload_of(&mut random)).collect::<Result<_>>()?;
    send(&server, &args, &channel, &devices, &payloads)?;
    combine(&server, &mut line, &channel)
}

/// Enrols all devices over a few connections.
fn enrol(server: &Server, args: &Args) -> Result<Vec<Mutex<Device>>> {
    let (began, next) = (Instant::now(), AtomicUsize::new(0));
    let enrolled = Mutex::new(Vec::new());
    std::thread::scope(|scope| -> Result<()> {
        let work = || -> Result<()> {
            let mut line = Line::to(&server.address)?;
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= args.devices {
                    return Ok(());
                }
                let device = Device::enrolled(server, &mut line, number)?;
                enrolled.lock().unwrap_or_else(|broken| broken.into_inner()).push(Mutex::new(device));
            }
        };
        let workers: Vec<_> = (0..args.connections).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().unwrap_or_else(|_| bail!("a thread panicked")))
    })?;
    let (seconds, [anonymous, peak]) = (began.elapsed().as_secs_f64(), server.memory()?);
    println!(
        "{} devices enrolled in {seconds:.1} s; server {} MB anonymous, {} MB at most",
        args.devices,
        anonymous / 1_000_000,
        peak / 1_000_000
    );
    Ok(enrolled.into_inner().unwrap_or_else(|broken| broken.into_inner()))
}

/// All deltas, each signed by its device: what devices do before they come to the server is not the server's load.
fn signed(devices: &[Mutex<Device>], args: &Args, payloads: &[Payload]) -> Result<Vec<Vec<u8>>> {
    let one = |number: usize| -> Result<Vec<u8>> {
        let device = devices[number % devices.len()].lock().unwrap_or_else(|broken| broken.into_inner());
        let unsigned = delta_of(Some(1), number as u64, &payloads[number % payloads.len()])?;
        Ok(sign(&unsigned, &device.key)?)
    };
    (0..args.deltas).map(one).collect()
}

/// Sends deltas while devices ask for releases.
fn send(server: &Server, args: &Args, channel: &str, devices: &[Mutex<Device>], payloads: &[Payload]) -> Result<()> {
    let locked = |device: usize| devices[device % devices.len()].lock().unwrap_or_else(|broken| broken.into_inner());
    let signed = signed(devices, args, payloads)?;
    let (next, polls, done) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicBool::new(false));
    let (uploads, asked) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
    let kept = |times: &Mutex<Vec<Duration>>, time| {
        times.lock().unwrap_or_else(|broken| broken.into_inner()).push(time);
    };
    server.forget_peak()?;
    let (began, processor) = (Instant::now(), (server.processor_s()?, processor_s("self")?));
    let mut seconds = 0.0;
    std::thread::scope(|scope| -> Result<()> {
        let ask = || -> Result<()> {
            let mut line = Line::to(&server.address)?;
            let mut tag = String::new();
            let target = format!("/v1/releases/{channel}");
            while !done.load(Ordering::Relaxed) {
                let number = polls.fetch_add(1, Ordering::Relaxed);
                // Each device in turn, so that all have asked in `poll_s`; from the other end than those that send.
                let due = Duration::from_secs_f64(number as f64 * args.poll_s / devices.len() as f64);
                std::thread::sleep(due.saturating_sub(began.elapsed()));
                let asks = Instant::now();
                let device = devices.len() - 1 - number % devices.len();
                let known = [("if-none-match", tag.as_str())];
                let answer = locked(device).ask(&mut line, "GET", &target, &known, b"")?;
                ensure!(matches!(answer.status, 200 | 304), "{}", answer.status);
                if answer.status == 200 {
                    tag = answer.etag;
                }
                kept(&asked, asks.elapsed());
            }
            Ok(())
        };
        let send = || -> Result<()> {
            let mut line = Line::to(&server.address)?;
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= args.deltas {
                    return Ok(());
                }
                let time = locked(number).push(&mut line, channel, &signed[number])?;
                kept(&uploads, time);
            }
        };
        let asking: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
        let sending: Vec<_> = (0..args.connections).map(|_| scope.spawn(send)).collect();
        let joined = |worker: std::thread::ScopedJoinHandle<'_, Result<()>>| {
            worker.join().unwrap_or_else(|_| bail!("a thread panicked"))
        };
        let sent = sending.into_iter().map(joined).collect::<Result<Vec<()>>>();
        seconds = began.elapsed().as_secs_f64();
        done.store(true, Ordering::Relaxed);
        asking.into_iter().try_for_each(joined)?;
        sent.map(drop)
    })?;
    let (theirs, ours) = (server.processor_s()? - processor.0, processor_s("self")? - processor.1);
    let [anonymous, peak] = server.memory()?;
    let mut uploads = uploads.into_inner().unwrap_or_else(|broken| broken.into_inner());
    let mut asked = asked.into_inner().unwrap_or_else(|broken| broken.into_inner());
    println!(
        "{} deltas in {seconds:.1} s: {:.0} a second; p50 {:.0} ms, p99 {:.0} ms, over {} connections",
        uploads.len(),
        uploads.len() as f64 / seconds,
        quantile(&mut uploads, 0.5).as_secs_f64() * 1e3,
        quantile(&mut uploads, 0.99).as_secs_f64() * 1e3,
        args.connections
    );
    println!(
        "{} questions for a release meanwhile: {:.0} a second; p50 {:.1} ms, p99 {:.0} ms",
        asked.len(),
        asked.len() as f64 / seconds,
        quantile(&mut asked, 0.5).as_secs_f64() * 1e3,
        quantile(&mut asked, 0.99).as_secs_f64() * 1e3
    );
    println!(
        "processors: server {:.2}, devices {:.2}; server {} MB anonymous, {} MB at most",
        theirs / seconds,
        ours / seconds,
        anonymous / 1_000_000,
        peak / 1_000_000
    );
    Ok(())
}

/// Closes the round and waits for its release.
fn combine(server: &Server, line: &mut Line, channel: &str) -> Result<()> {
    let counted = server.channel(line, channel)?["deltas"].clone();
    server.forget_peak()?;
    let (began, processor) = (Instant::now(), server.processor_s()?);
    let closed = server.operator(line, "POST", &format!("/v1/admin/channels/{channel}/close"), b"")?;
    ensure!(closed.status == 202, "{}", String::from_utf8_lossy(&closed.body));
    loop {
        let row = server.channel(line, channel)?;
        ensure!(row["problem"].is_null(), "{row}");
        if row["version"] == 2 {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let (seconds, [anonymous, peak]) = (began.elapsed().as_secs_f64(), server.memory()?);
    println!(
        "{counted} deltas combined in {seconds:.1} s ({:.1} s of processor time); server {} MB anonymous, {} MB at most",
        server.processor_s()? - processor,
        anonymous / 1_000_000,
        peak / 1_000_000
    );
    Ok(())
}
