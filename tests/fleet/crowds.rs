//! Many at once, and those who only want to be in the way: half-open and slow connections, junk by the thousand, proxies.

use super::client::{Device, clock_ms, raw, request};
use super::server::{Server, unique};
use super::*;
use edgetune::sync::wire::Hex;
use serde_json::Value;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

fn connected(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(&server.address).unwrap();
    stream.set_nonblocking(true).unwrap();
    stream
}

/// Whether the server has not ended it.
fn is_open(mut stream: &TcpStream) -> bool {
    matches!(stream.read(&mut [0; 64]), Err(error) if error.kind() == ErrorKind::WouldBlock)
}

/// Kilobytes of memory that the process has.
fn memory_kb(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.process.0.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn is_quick(server: &Server) {
    let asked = Instant::now();
    assert_eq!(raw(&server.address, &request("GET", "/healthz", &[], b"")).status, 200);
    // Generously: the machine of a test has other things to do, too.
    assert!(asked.elapsed() < Duration::from_secs(3), "{:?}", asked.elapsed());
}

/// A thousand half-open connections hold a few places of their own address, and nobody else's; then their time is over.
#[test]
fn half_open_connections_shut_nobody_out() {
    let server = Server::start();
    is_quick(&server);
    let mut half_open: Vec<TcpStream> = Vec::new();
    for number in 0..1000 {
        let mut stream = connected(&server);
        if number % 2 == 0 {
            let _ = stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: ");
        }
        half_open.push(stream);
    }
    is_quick(&server);
    std::thread::sleep(Duration::from_secs(1));
    let open = || half_open.iter().filter(|stream| is_open(stream)).count();
    assert!(open() <= 64, "{} are open", open());
    assert!(is_open(half_open.last().unwrap()), "the newest has its time");
    is_quick(&server);
    std::thread::sleep(Duration::from_secs(12));
    // Only one that has said nothing at all may still be waiting for its first byte.
    assert_eq!(half_open.iter().step_by(2).filter(|stream| is_open(stream)).count(), 0);
}

/// A body that does not come is waited for as long as the slowest line would take, and no longer.
#[test]
fn a_body_that_does_not_come_is_not_waited_for() {
    let server = Server::start();
    let mut stranger = Device::new(&server.address, 77);
    let signed = stranger.signed("POST", "/v1/enrol", b"body").to_string();
    let whole = request("POST", "/v1/enrol", &[("authorization", &signed)], b"body");
    let began = Instant::now();
    let answer = raw(&server.address, &whole[..whole.len() - 1]);
    assert_eq!(answer.problem(), (408, "too-slow".into()));
    assert!((10..25).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
}

/// Milliseconds that the server takes to answer that it is there.
fn answer_ms(server: &Server) -> f64 {
    let asked = Instant::now();
    assert_eq!(raw(&server.address, &request("GET", "/healthz", &[], b"")).status, 200);
    asked.elapsed().as_secs_f64() * 1000.0
}

/// Two thousand half-open connections, which are opened again when the server ends them, and two hundred that take an adapter a few bytes at a
/// time, for as many seconds as `EDGETUNE_SOAK` says; and ten thousand enrolments that are none. All of it as if from as many addresses: one
/// may have all the connections that there are.
#[test]
fn a_soak_of_strangers_slows_nobody_down() {
    let Some(seconds) = std::env::var("EDGETUNE_SOAK").ok() else { return };
    let seconds = Duration::from_secs(seconds.parse().expect("a number of seconds"));
    let descriptors = rustix::process::Rlimit { current: Some(8192), maximum: Some(8192) };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, descriptors).expect("8192 descriptors");
    let many = ["--connections-per-address", "1024", "--round-devices-min", "1"];
    let server = Server::with(&[&["--insecure-http"], many.as_slice()].concat());
    let channel = server.channel_of("stages=100", &large_adapter());
    let adapter = server.channel_row(&channel)["adapter"].as_str().unwrap().to_owned();
    let mut device = server.device(2);
    let before_all = memory_kb(&server);
    let slow: Vec<TcpStream> = (0..200).map(|_| begun(&server, &mut device, &adapter)).collect();
    let mut half_open: Vec<TcpStream> = (0..2000).map(|_| connected(&server)).collect();
    let (began, mut opened, done) = (Instant::now(), half_open.len(), AtomicBool::new(false));
    let (mut times, memory) = std::thread::scope(|scope| {
        let watched = scope.spawn(|| {
            let (mut times, mut memory) = (Vec::new(), 0);
            while !done.load(Ordering::Relaxed) {
                times.push(answer_ms(&server));
                memory = memory.max(memory_kb(&server));
                std::thread::sleep(Duration::from_millis(100));
            }
            (times, memory)
        });
        while began.elapsed() < seconds {
            for stream in &mut half_open {
                let _ = stream.write_all(b"G");
                if !is_open(stream) {
                    (*stream, opened) = (connected(&server), opened + 1);
                }
            }
            slow.iter().for_each(|mut stream| drop(stream.read(&mut [0; 64])));
        }
        done.store(true, Ordering::Relaxed);
        watched.join().unwrap()
    });
    let before = refusals(&server);
    for number in 0..10_000u32 {
        let mut stranger = Device::new(&server.address, 0);
        stranger.key = KeyPair::from_secret(blake3::hash(&number.to_le_bytes()).as_bytes());
        assert_eq!(stranger.enrol("junk", "junk").status, 401);
    }
    let (written, allowed) = (refusals(&server) - before, refusals_allowed(began.elapsed()));
    times.sort_by(f64::total_cmp);
    let part = |part: f64| times[((times.len() - 1) as f64 * part) as usize];
    println!(
        "soak of {} s: /healthz in {:.1} ms at the median, {:.1} at 95 %, {:.1} at most, of {} answers; {:.1} MB ({:.1} before); {opened} half-open \
         connections opened; {written} lines of 10000 refusals",
        began.elapsed().as_secs(),
        part(0.5),
        part(0.95),
        part(1.0),
        times.len(),
        memory as f64 / 1000.0,
        before_all as f64 / 1000.0
    );
    assert!(part(0.95) < 100.0 && memory < 80_000 && written <= allowed);
}

/// An adapter of ten megabytes, signed by nobody that matters.
fn large_adapter() -> Vec<u8> {
    let values = noise(5, 5_000_000);
    let mut payload = encode(&values[..10], Encoding::Fp16).unwrap();
    payload.packing = delta::Packing::Raw;
    payload.bytes = values.iter().flat_map(|value| delta::f16::from_f32(*value).to_le_bytes()).collect();
    let tensors = [TensorValues { name: "fc.weight", shape: &[5000, 1000], payload: &payload }];
    let large = delta::write(&header(), &[], &tensors).unwrap();
    sign(&large, &KeyPair::from_secret(&[1; 32])).unwrap()
}

/// A device that has begun to take an adapter.
fn begun(server: &Server, device: &mut Device, adapter: &str) -> TcpStream {
    let target = format!("/v1/adapters/{adapter}");
    let signed = device.signed("GET", &target, b"").to_string();
    let mut stream = TcpStream::connect(&server.address).unwrap();
    stream.write_all(&request("GET", &target, &[("authorization", &signed)], b"")).unwrap();
    let mut first = [0; 15];
    stream.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"HTTP/1.1 200 OK");
    stream
}

/// Those who take an adapter byte by byte cost a piece of it each, not all of it.
#[test]
fn slow_readers_hold_no_adapters() {
    if std::env::var_os("EDGETUNE_FLEET_STORE").is_some() {
        return;
    }
    let server = Server::start();
    let channel = server.channel_of("stages=100", &large_adapter());
    let adapter = server.channel_row(&channel)["adapter"].as_str().unwrap().to_owned();
    let mut device = server.device(2);
    let before = memory_kb(&server);
    let readers: Vec<TcpStream> = (0..40).map(|_| begun(&server, &mut device, &adapter)).collect();
    let held = memory_kb(&server).saturating_sub(before);
    assert!(held < 80_000, "{held} kB for {} slow readers", readers.len());
    is_quick(&server);
    let mut whole = Vec::new();
    (&readers[0]).read_to_end(&mut whole).unwrap();
    let body = whole.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
    assert_eq!(blake3::hash(&whole[body..]).to_string(), adapter, "who reads on gets all of it");
}

/// Lines of the audit log that say that something was refused.
fn refusals(server: &Server) -> usize {
    let lines: Vec<Value> = server.operator("GET", "/v1/admin/audit", b"").json();
    lines.iter().filter(|line| line["what"].as_str().unwrap().ends_with("refused")).count()
}

/// Lines that a source may have in the audit log `elapsed` after its first: two hundred at once, then one in ten seconds.
fn refusals_allowed(elapsed: Duration) -> usize {
    201 + elapsed.as_secs() as usize / 10
}

/// What anybody can send by the thousand leaves a bounded trace, whatever it is refused for.
#[test]
fn junk_fills_no_log() {
    // With a database of its own: the log of a shared one tells of other tests' refusals, too.
    let server = Server::with(&["--insecure-http", "--round-devices-min", "1"]);
    let (began, before) = (Instant::now(), refusals(&server));
    for number in 0..300 {
        let mut stranger = Device::new(&server.address, 0);
        stranger.key = KeyPair::from_secret(blake3::hash(&[number as u8, (number / 256) as u8, 7]).as_bytes());
        assert_eq!(stranger.enrol("junk", "junk").problem(), (401, "identity".into()));
    }
    let (written, allowed) = (refusals(&server) - before, refusals_allowed(began.elapsed()));
    assert!((150..=allowed).contains(&written), "{written} lines of 300 refusals, {allowed} are allowed");
    // An enrolled device has its own bound, and what it sends by right is not held back by what it is refused.
    let (channel, mut device) = (server.channel("mean"), server.device(3));
    let (began, before) = (Instant::now(), refusals(&server));
    for number in 0..250u64 {
        let body = format!(r#"{{"channel":"{channel}","hash":"{}","length":{}}}"#, Hex([number as u8; 32]), 1u64 << 40);
        assert_eq!(device.ask("POST", "/v1/uploads", body.as_bytes()).problem(), (413, "too-long".into()));
    }
    let (written, allowed) = (refusals(&server) - before, refusals_allowed(began.elapsed()));
    assert!(written <= allowed, "{written} lines of 250 refusals, {allowed} are allowed");
    assert_eq!(device.push(&channel, &plain_delta(1, 1, &device.key)).status, 200);
}

/// A device begins so many deltas a day, and no more rows are made of it.
#[test]
fn a_device_begins_so_many_deltas_a_day() {
    let server = Server::with(&["--insecure-http", "--deltas-per-day", "3"]);
    let (channel, mut device, mut other) = (server.channel("mean"), server.device(2), server.device(3));
    for seed in 0..3 {
        assert_eq!(device.push(&channel, &plain_delta(seed, 1, &device.key)).status, 200);
    }
    assert_eq!(device.push(&channel, &plain_delta(2, 1, &device.key)).status, 200, "it is known already");
    let refused = device.push(&channel, &plain_delta(3, 1, &device.key));
    assert_eq!(refused.problem(), (429, "too-many".into()));
    assert!(refused.header("retry-after").unwrap().parse::<u64>().unwrap() > 3600);
    let hash = Hex(blake3::hash(b"whole").into());
    let at_once = device.ask("PUT", &format!("/v1/uploads/{hash}?channel={channel}"), b"whole");
    assert_eq!(at_once.problem(), (429, "too-many".into()));
    assert_eq!(other.push(&channel, &plain_delta(4, 1, &other.key)).status, 200);
}

/// Behind a proxy that is trusted everybody is who the proxy says; behind another one, whoever says so is the proxy.
#[test]
fn a_trusted_proxy_says_who_asks() {
    for (options, is_trusted) in [(&["--trusted-proxy", "127.0.0.1"][..], true), (&[], false)] {
        let server = Server::with(&[&["--insecure-http"], options].concat());
        let sign_in = |address: &str| {
            let headers = [("x-forwarded-for", address), ("sec-fetch-site", "same-origin")];
            raw(&server.address, &request("POST", "/sign-in", &headers, b"secret=guess")).status
        };
        // Others of their own for each server: the audit log of a shared database tells of both.
        let net = if is_trusted { "203.0.113" } else { "198.51.100" };
        let (first, second, third) = (format!("{net}.7"), format!("{net}.8"), format!("{net}.9"));
        let guesses: Vec<u16> = (0..12).map(|_| sign_in(&first)).collect();
        assert_eq!((guesses[0], guesses[11]), (403, 429));
        // Ten bad guesses of one address lock nobody else out.
        assert_eq!(sign_in(&second), if is_trusted { 403 } else { 429 });
        assert_eq!(
            sign_in(&format!("{first}, {third}")),
            if is_trusted { 403 } else { 429 },
            "the last word is the proxy's"
        );
        assert_eq!(server.audit().contains(&first), is_trusted);
    }
}

/// Devices behind one address do not share its limit: each has its own, by its key. Who has no key has the address's.
#[test]
fn devices_are_limited_by_key() {
    let server = Server::with(&["--insecure-http", "--requests-per-s", "10"]);
    let wait = || std::thread::sleep(Duration::from_secs(2));
    let mut devices: Vec<Device> = (2..8).map(|seed| server.device(seed)).collect();
    wait();
    for device in &mut devices {
        for _ in 0..12 {
            assert_eq!(device.ask("GET", "/v1/releases/none", b"").status, 404, "72 requests, twelve of each device");
        }
    }
    let mut too_many = || devices[0].ask("GET", "/v1/releases/none", b"").status == 429;
    assert!((0..200).any(|_| too_many()), "a device has a limit of its own");
    wait();
    let stranger = || {
        let mut stranger = Device::new(&server.address, 99);
        (stranger.fleet, stranger.clock_ms) = (devices[0].fleet.clone(), clock_ms);
        stranger.ask("GET", "/v1/releases/none", b"").status
    };
    assert_eq!(stranger(), 401);
    assert!((0..200).any(|_| stranger() == 429), "all who have no key have one limit together");
}

/// What a round has at least is in the fleet's signed word, and a device can hold it to that.
#[test]
fn a_device_demands_company() {
    let server = Server::with(&["--round-devices-min", "3"]);
    let channel = server.channel("mean");
    let place = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_edgetune"));
        let state = place.path().join("state");
        let output = command.arg("fleet").args(arguments).arg("--state").arg(state).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let url = format!("https://127.0.0.1:{}", server.port());
    let (ca, token) = (server.folder.path().join("tls.crt").display().to_string(), server.token());
    assert_eq!(run(&["enroll", &url, "--token", &token, "--name", &unique("device"), "--ca", &ca]).0, 0);
    let delta = place.path().join("A.edelta").display().to_string();
    std::fs::write(&delta, plain_delta(1, 1, &KeyPair::from_secret(&[9; 32]))).unwrap();
    let push = |devices_min: &str| run(&["push", &delta, "--channel", &channel, "--devices-min", devices_min]);
    let refused = |(code, told): (i32, String), why: &str| assert!(code == 1 && told.contains(why), "{told}");
    refused(push("3"), "no release of it was pulled");
    assert_eq!(run(&["pull", "--channel", &channel]).0, 0);
    refused(push("4"), "its rounds may have 3 devices, and 4 are demanded");
    assert_eq!(server.channel_row(&channel)["deltas"], 0);
    assert_eq!(push("3"), (0, String::new()));
    assert_eq!(server.channel_row(&channel)["deltas"], 1);
}
