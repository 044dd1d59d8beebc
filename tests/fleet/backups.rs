//! A server that is lost and comes back from a backup: devices that have seen more than the backup knows go on all the same.

use super::proxy::Proxy;
use super::server::{AT_ONCE, Server, spawn, unique};
use super::*;
use edgetune::sync::client::{
    Client, Folder, Invitation, Name, Outside, Pulled, deliver, deliver_reports, enrol, keep_report, pull,
};
use edgetune::sync::wire::{Hex, Number, ReleaseReport, ReleaseVerdict};
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

/// A device, by its own client.
struct Member {
    _place: tempfile::TempDir,
    folder: Folder,
}

fn outside() -> Outside<'static> {
    Outside {
        clock_ms: &super::client::clock_ms,
        chance: &|| 0.1,
        sleep: &|wait: Duration| std::thread::sleep(wait.min(Duration::from_millis(50))),
        tries: 20,
        bytes_per_s: None,
    }
}

impl Member {
    fn of(server: &Server, port: u16) -> Self {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::open(place.path()).unwrap();
        let invitation = Invitation {
            url: format!("http://127.0.0.1:{port}"),
            token: server.token(),
            name: Name::Given(unique("device")),
            replace: false,
            root: None,
            ca: None,
            client_certificate: None,
        };
        let secret = || Ok(blake3::hash(place.path().to_string_lossy().as_bytes()).into());
        enrol(&folder, invitation, &secret, outside()).unwrap();
        Self { _place: place, folder }
    }

    fn client(&self) -> Client<'static> {
        Client::open(&self.folder, outside()).unwrap()
    }

    fn pull(&self, channel: &str) -> Pulled {
        pull(&mut self.client(), &self.folder, channel).unwrap()
    }

    /// Sends what this device has learned for a round.
    fn push(&self, channel: &str, seed: u64, round: u32) {
        self.folder.queue().put(channel, &plain_delta(seed, round, &KeyPair::from_secret(&[9; 32]))).unwrap();
        deliver(&mut self.client(), &self.folder.queue(), &mut |_, done| {
            done.unwrap();
        })
        .unwrap();
    }
}

fn ran(arguments: &[&str], folder: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_edgetune-fleet"));
    command.args(arguments).arg("--data").arg(folder).args(more).output().unwrap()
}

#[track_caller]
fn refused(output: &Output, why: &str) {
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && told.contains(why), "no `{why}` in: {told}");
}

#[track_caller]
fn done(output: &Output) {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Where a restored server keeps its state, beside what the environment names for all tests.
fn elsewhere() -> Vec<String> {
    let Ok(database) = std::env::var("EDGETUNE_FLEET_SPARE_DATABASE") else { return Vec::new() };
    vec!["--database".into(), database, "--store".into(), "s3://fleet/spare".into()]
}

/// A backup of a server that goes on working, restored two releases later: forty devices that have had both of them take what the restored
/// server says, all of them the same, and learn on together. What they still had to say of a release that is lost counts for no other.
#[test]
fn a_restored_server_takes_all_devices_with_it() {
    let mut server = Server::start();
    let (proxy, channel) =
        (Proxy::to(server.port()), server.channel_of(AT_ONCE, &plain_delta(0, 1, &KeyPair::from_secret(&[1; 32]))));
    let members: Vec<Member> = (0..40).map(|_| Member::of(&server, proxy.port)).collect();
    let turned = |server: &Server, round: u32, version: i64| {
        for (seed, member) in members.iter().enumerate().take(6) {
            member.push(&channel, u64::from(round) * 100 + seed as u64, round);
        }
        assert_eq!(server.turn(&channel)["version"], version);
    };
    turned(&server, 1, 2);
    let second = members[0].pull(&channel).release.adapter;
    // Beside devices that go on.
    let copy = tempfile::tempdir().unwrap();
    let copied = std::thread::scope(|scope| {
        let devices = scope.spawn(|| {
            members[30..].iter().enumerate().for_each(|(seed, member)| member.push(&channel, 900 + seed as u64, 2))
        });
        let copied = ran(&["backup", copy.path().to_str().unwrap()], server.folder.path(), &[]);
        devices.join().unwrap();
        copied
    });
    done(&copied);
    refused(&ran(&["backup", copy.path().to_str().unwrap()], server.folder.path(), &[]), "is not empty");
    turned(&server, 2, 3);
    turned(&server, 3, 4);
    members
        .iter()
        .for_each(|member| assert_eq!(member.pull(&channel).release.number(), Number { epoch: 0, version: 4 }));
    let report = ReleaseReport {
        channel: channel.clone(),
        epoch: 0,
        version: 3,
        verdict: ReleaseVerdict::Rejected,
        accuracy: None,
    };
    keep_report(&members[7].folder.reports(), &report).unwrap();

    server.process.0.kill().unwrap();
    server.process.0.wait().unwrap();
    let (place, more) = (tempfile::tempdir().unwrap(), elsewhere());
    let more: Vec<&str> = more.iter().map(String::as_str).collect();
    done(&ran(&["restore", copy.path().to_str().unwrap()], place.path(), &more));
    let (process, address) = spawn(place.path(), &[&["--insecure-http"], more.as_slice()].concat());
    let server = Server { address, process, power: None, folder: place };
    proxy.lead_to(Some(server.port()));
    let restored: Vec<Pulled> = members.iter().map(|member| member.pull(&channel)).collect();
    for pulled in &restored {
        assert!(pulled.release.epoch > 0 && pulled.release.version == 2, "{:?}", pulled.release);
        assert_eq!((pulled.release.adapter, pulled.is_new), (second, true), "of the backup");
    }
    let mut told = Vec::new();
    let reports = members[7].folder.reports();
    deliver_reports(&mut members[7].client(), &reports, &mut |_, done| told.push(done.unwrap_err().to_string()))
        .unwrap();
    assert!(told[0].contains("404") && reports.list().unwrap().is_empty(), "{told:?}");
    assert!(server.audit().contains("restored"));
    // The same numbers again, for other adapters.
    turned(&server, 2, 3);
    let third: Vec<Hex<32>> = members.iter().map(|member| member.pull(&channel).release.adapter).collect();
    assert!(
        third.iter().all(|adapter| *adapter == third[0] && *adapter != second),
        "no two devices have different ones"
    );
}

/// What is no backup, or is damaged, makes no server; and no server is made where there is one.
#[test]
fn only_a_whole_backup_makes_a_server_and_only_where_there_is_none() {
    if std::env::var_os("EDGETUNE_FLEET_DATABASE").is_some() {
        return; // Nothing here is about where the database is.
    }
    let server = Server::start();
    server.channel("mean");
    let (place, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (from, new) = (copy.path().to_str().unwrap(), place.path().join("new"));
    refused(&ran(&["restore", from], &new, &[]), "this is no backup");
    refused(&ran(&["backup", from], place.path(), &[]), "database");
    done(&ran(&["backup", from], server.folder.path(), &[]));
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(copy.path().join("keys/release.pem")).unwrap().permissions().mode();
    assert_eq!(mode & 0o077, 0, "keys are for their owner's eyes");
    for name in ["database.jsonl", "keys/release.pem"] {
        let path = copy.path().join(name);
        let right = std::fs::read(&path).unwrap();
        std::fs::write(&path, [right.as_slice(), b"x"].concat()).unwrap();
        refused(&ran(&["restore", from], &new, &[]), "is damaged");
        std::fs::write(&path, right).unwrap();
    }
    // What was begun goes on.
    done(&ran(&["restore", from], &new, &[]));
    refused(&ran(&["restore", from], &new, &[]), "holds a fleet already");
    let running = Command::new(env!("CARGO_BIN_EXE_edgetune-fleet"))
        .args(["restore", from, "--data"])
        .arg(server.folder.path())
        .output()
        .unwrap();
    refused(&running, "another edgetune-fleet works in this folder");
    std::fs::remove_file(new.join("fleet.sqlite")).unwrap();
    std::fs::write(new.join("release.pem"), "another").unwrap();
    refused(&ran(&["restore", from], &new, &[]), "belongs to another server");
}
