//! Faults by chance: servers that are killed, lines that are cut anywhere, requests that come twice or too early, while deltas come in
//! and while a round is combined. What was acknowledged counts, once, whatever happens.
//!
//! `EDGETUNE_FAULTS=500` makes as many, in place of a few; run by itself beside `tests/fleet/services`, it kills the database, too. With
//! `EDGETUNE_POWER` (`tests/power`) a kill of the server is a cut of its power: what was not brought to the disk is lost.

use super::client::{Answer, Device, parsed, raw, request};
use super::proxy::{Proxy, Way};
use super::server::{AT_ONCE, Server};
use super::*;
use edgetune::delta::Delta;
use edgetune::sync::wire::{Hex, Release, Upload, UploadState};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

const DEVICES: usize = 6;

/// A delta whose values are all one power of two: the sum of some devices' values says which they are.
fn of_device(device: usize, try_number: u64, round: u32, key: &KeyPair) -> Vec<u8> {
    let values = vec![f32::from(1u16 << device); 640];
    // Tries differ in what they say of themselves, and are other deltas.
    delta_of(&Header { round: Some(round), seed: try_number, ..header() }, &values, key)
}

/// An answer, if one came.
fn tried(device: &mut Device, method: &str, target: &str, body: &[u8]) -> Option<Answer> {
    let signed = device.signed(method, target, body).to_string();
    sent(&device.address, &request(method, target, &[("authorization", &signed)], body))
}

fn sent(address: &str, request: &[u8]) -> Option<Answer> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(20))).ok()?;
    let _ = stream.write_all(request);
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    // What was cut off within its head or its body is no answer.
    bytes.windows(4).any(|four| four == b"\r\n\r\n").then(|| parsed(&bytes)).filter(|answer| {
        let length = answer.header("content-length").and_then(|length| length.parse().ok());
        length.is_none_or(|length: usize| answer.body.len() == length)
    })
}

/// Whether the server has said that the delta counts; it is sent at once, or announced, as its last byte has it.
fn pushed(device: &mut Device, channel: &str, delta: &[u8]) -> bool {
    let hash = Hex(blake3::hash(delta).into());
    let body = serde_json::to_vec(&Upload { channel: channel.into(), hash, length: delta.len() as u64 }).unwrap();
    let counts = |answer: &Answer| answer.status == 200 && answer.json::<UploadState>().accepted;
    if delta.last().is_some_and(|last| last % 2 == 0) {
        let target = format!("/v1/uploads/{hash}?channel={channel}");
        return tried(device, "PUT", &target, delta).is_some_and(|answer| counts(&answer));
    }
    let Some(begun) = tried(device, "POST", "/v1/uploads", &body) else { return false };
    counts(&begun)
        || tried(device, "PUT", &format!("/v1/uploads/{hash}/0"), delta).is_some_and(|answer| counts(&answer))
}

/// What is done to a delta on its way.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    /// The line breaks after so many bytes that way.
    Cut(Way, usize),
    /// The server is killed after so many milliseconds.
    Kill(u64),
    /// The database is.
    KillDatabase(u64),
    /// It is sent twice at once, from two connections.
    Twice,
    /// Its bytes come before it is announced, and once more afterwards.
    Early,
}

fn any_fault(random: &mut fastrand::Rng) -> Fault {
    if database_killer().is_some() && random.u8(0..12) == 0 {
        return Fault::KillDatabase(random.u64(0..30));
    }
    match random.u8(0..8) {
        0..=1 => Fault::Cut(Way::Up, random.usize(0..3000)),
        2 => Fault::Cut(Way::Down, random.usize(0..600)),
        3..=4 => Fault::Kill(random.u64(0..30)),
        5..=6 => Fault::Twice,
        _ => Fault::Early,
    }
}

/// What kills the database and starts it again, where no other test needs it.
fn database_killer() -> Option<std::ffi::OsString> {
    std::env::var_os("EDGETUNE_FAULTS").and_then(|_| std::env::var_os("EDGETUNE_FLEET_KILL_DATABASE"))
}

fn kill_database() {
    let killed = std::process::Command::new(database_killer().unwrap()).status().unwrap();
    assert!(killed.success(), "the database does not start again");
}

/// Sends a delta while something goes wrong; whether it was acknowledged.
fn pushed_through(
    server: &mut Server,
    proxy: &Proxy,
    device: &mut Device,
    sending: (&str, &[u8]),
    fault: Fault,
) -> bool {
    let (channel, delta) = sending;
    match fault {
        Fault::Cut(way, bytes) => {
            proxy.cut_after(way, bytes);
            pushed(device, channel, delta)
        }
        Fault::Kill(after_ms) => {
            let done = std::thread::scope(|scope| {
                let sending = scope.spawn(|| pushed(device, channel, delta));
                std::thread::sleep(Duration::from_millis(after_ms));
                server.kill_and_restart();
                sending.join().unwrap()
            });
            proxy.lead_to(Some(server.port()));
            done
        }
        Fault::KillDatabase(after_ms) => std::thread::scope(|scope| {
            let sending = scope.spawn(|| pushed(device, channel, delta));
            std::thread::sleep(Duration::from_millis(after_ms));
            kill_database();
            sending.join().unwrap()
        }),
        Fault::Twice => {
            let mut other =
                Device { times: device.times, fleet: device.fleet.clone(), ..Device::new(&device.address, 0) };
            other.key = KeyPair::from_pem(&device.key.to_pem().unwrap()).unwrap();
            std::thread::scope(|scope| {
                let again = scope.spawn(|| pushed(&mut other, channel, delta));
                let once = pushed(device, channel, delta);
                again.join().unwrap() || once
            })
        }
        Fault::Early => {
            let target = format!("/v1/uploads/{}/0", Hex(blake3::hash(delta).into()));
            let early = tried(device, "PUT", &target, delta);
            assert!(early.is_none_or(|answer| answer.status >= 400), "nobody has announced it");
            let done = pushed(device, channel, delta);
            let late = tried(device, "PUT", &target, delta);
            done || late.is_some_and(|answer| answer.status == 200 && answer.json::<UploadState>().accepted)
        }
    }
}

/// Which devices' values are in a release, and of how many it says that it is.
fn devices_in(server: &Server, device: &mut Device, channel: &str) -> (u32, u32) {
    let release: Release = device.ask("GET", &format!("/v1/releases/{channel}"), b"").json();
    let bytes = device.ask("GET", &format!("/v1/adapters/{}", release.adapter), b"").body;
    let mean = delta::owned(&Delta::parse(&bytes).unwrap().tensors().next().unwrap()).unwrap()[0];
    let rows: Vec<Value> = server.operator("GET", &format!("/v1/admin/channels/{channel}/releases"), b"").json();
    let count = rows[0]["devices"].as_u64().unwrap() as u32;
    let sum = mean * count as f32;
    assert!((sum - sum.round()).abs() < 0.1, "a mean of {count} devices is {mean}: something counts in part");
    (sum.round() as u32, count)
}

#[test]
fn what_was_acknowledged_counts_once_whatever_goes_wrong() {
    let wanted = std::env::var("EDGETUNE_FAULTS").map_or(24, |count| count.parse().expect("a number of faults"));
    let mut server = Server::on_power();
    let channel = server.channel_of(AT_ONCE, &delta_of(&header(), &[0.0; 640], &KeyPair::from_secret(&[1; 32])));
    let proxy = Proxy::to(server.port());
    let mut devices: Vec<Device> = (0..DEVICES).map(|seed| server.device(seed as u8 + 2)).collect();
    devices.iter_mut().for_each(|device| device.address = format!("127.0.0.1:{}", proxy.port));
    let mut random = fastrand::Rng::with_seed(5);
    let (mut faults, mut kills, mut database_kills, mut round, mut lost_answers) = (0, 0, 0, 1, 0);
    while faults < wanted {
        let (mut told, mut begun) = (0u32, 0u32);
        for (number, device) in devices.iter_mut().enumerate() {
            // Some learn nothing this time; some give up, and what became of theirs nobody has told them.
            for try_number in 0..random.u64(0..4) {
                let delta = of_device(number, try_number, round, &device.key);
                let fault = any_fault(&mut random);
                let done = pushed_through(&mut server, &proxy, device, (&channel, &delta), fault);
                // A cut that nothing came to is none for what follows.
                proxy.cut_after(Way::Up, usize::MAX);
                proxy.lead_to(Some(server.port()));
                (faults, kills) = (faults + 1, kills + u32::from(matches!(fault, Fault::Kill(_))));
                database_kills += u32::from(matches!(fault, Fault::KillDatabase(_)));
                begun |= 1 << number;
                told |= u32::from(done) << number;
                lost_answers += u32::from(!done);
            }
        }
        // One at least, so that there is a round.
        let delta = of_device(0, 9, round, &devices[0].key);
        while !pushed(&mut devices[0], &channel, &delta) {}
        (told, begun) = (told | 1, begun | 1);

        let closed = server.operator("POST", &format!("/v1/admin/channels/{channel}/close"), b"");
        assert_eq!(closed.status, 202);
        if random.bool() {
            std::thread::sleep(Duration::from_millis(random.u64(0..40)));
            server.kill_and_restart();
            proxy.lead_to(Some(server.port()));
            (faults, kills) = (faults + 1, kills + 1);
        } else if database_killer().is_some() && random.bool() {
            std::thread::sleep(Duration::from_millis(random.u64(0..40)));
            kill_database();
            (faults, database_kills) = (faults + 1, database_kills + 1);
        }
        let row = server.until(&channel, |row| row["round"] == round + 1 && row["rollout"] == "done");
        assert!(row["problem"].is_null(), "{row}");
        assert_eq!(row["version"], round + 1, "a round makes one release");
        let (counted, count) = devices_in(&server, &mut devices[0], &channel);
        assert_eq!(counted.count_ones(), count, "round {round}: values of {counted:06b} from {count} devices");
        assert_eq!(told & !counted, 0, "round {round}: told {told:06b}, counted {counted:06b}, after {faults} faults");
        assert_eq!(counted & !begun, 0, "round {round}: sent {begun:06b}, counted {counted:06b}");
        round += 1;
    }
    println!(
        "{faults} faults, {kills} of them kills of the server and {database_kills} of the database, {lost_answers} pushes without an answer, in {} rounds",
        round - 1
    );
}

/// A server whose folder is a file system of its own, as small as that; none where nobody may mount one.
fn on_its_own_disk(folder: tempfile::TempDir, size: &str) -> Option<Server> {
    let script = "mount -t tmpfs -o size=\"$0\" none \"$1\" || exit 77; shift; exec \"$@\"";
    let mut command = std::process::Command::new("unshare");
    command.args(["-rm", "sh", "-c", script, size]).arg(folder.path()).arg(env!("CARGO_BIN_EXE_edgetune-fleet"));
    let many =
        ["--insecure-http", "--requests-per-s", "100000", "--round-devices-min", "1", "--delta-bytes-max", "4194304"];
    command.args(super::server::serving(folder.path())).args(many);
    let (process, address) = super::server::started(command)?;
    let inside = inside(&process, folder.path());
    std::fs::copy(inside.join("operator.token"), folder.path().join("operator.token")).unwrap();
    Some(Server { address, process, power: None, folder })
}

/// A folder as the process sees it.
fn inside(process: &super::server::Process, folder: &std::path::Path) -> std::path::PathBuf {
    std::path::Path::new("/proc").join(process.0.id().to_string()).join("root").join(folder.strip_prefix("/").unwrap())
}

/// While the disk is full nothing is acknowledged, and what was acknowledged before stays; with room again all goes on by itself,
/// the round that was being combined, too.
#[test]
fn a_full_disk_costs_nothing_that_was_acknowledged() {
    if std::env::var_os("EDGETUNE_FLEET_DATABASE").is_some() {
        return; // Database and store are elsewhere.
    }
    let Some(server) = on_its_own_disk(tempfile::tempdir().unwrap(), "24m") else {
        eprintln!("not tested: a full disk, for no file system of one's own may be mounted");
        return;
    };
    let channel = server.channel_of(AT_ONCE, &delta_of(&header(), &[0.0; 640], &KeyPair::from_secret(&[1; 32])));
    let mut devices: Vec<Device> = (0..DEVICES).map(|seed| server.device(seed as u8 + 2)).collect();
    let ballast = inside(&server.process, server.folder.path()).join("ballast");
    let fill = || {
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(&ballast).unwrap();
        while file.write_all(&[0; 1024]).is_ok() {}
    };
    let ready = || raw(&server.address, &request("GET", "/readyz", &[], b"")).status;
    for round in 1..=2 {
        let mut told = 0u32;
        for (number, device) in devices.iter_mut().enumerate().take(DEVICES / 2) {
            let delta = of_device(number, 0, round, &device.key);
            assert!(pushed(device, &channel, &delta));
            told |= 1 << number;
        }
        fill();
        // SQLite's log may have room that it was given before: in the end there is none.
        let mut refused = 0;
        for try_number in 0..400 {
            let number = DEVICES / 2 + try_number % (DEVICES - DEVICES / 2);
            let delta = of_device(number, try_number as u64, round, &devices[number].key);
            match pushed(&mut devices[number], &channel, &delta) {
                true => told |= 1 << number,
                false => refused += 1,
            }
            fill();
        }
        assert!(refused > 300, "the disk was not full: {refused}");
        assert_eq!(raw(&server.address, &request("GET", "/healthz", &[], b"")).status, 200);
        // An answer of a moment ago holds for two seconds.
        let is_told = || {
            std::thread::sleep(Duration::from_millis(100));
            ready() == 503
        };
        assert!((0..40).any(|_| is_told()), "nothing can be taken");
        let close = || server.operator("POST", &format!("/v1/admin/channels/{channel}/close"), b"").status;
        let closed = close();
        std::thread::sleep(Duration::from_secs(3));
        std::fs::remove_file(&ballast).unwrap();
        if closed != 202 {
            assert_eq!(closed, 503);
            assert_eq!(close(), 202);
        }
        std::thread::sleep(Duration::from_secs(3));
        assert_eq!(ready(), 200);
        let row = server.until(&channel, |row| row["round"] == round + 1 && row["rollout"] == "done");
        assert!(row["problem"].is_null(), "{row}");
        let (counted, count) = devices_in(&server, &mut devices[0], &channel);
        assert_eq!((counted, counted.count_ones()), (told, count), "round {round}");
    }
}
