//! Releases go out in stages, stop where devices fare worse, and are steered by operators.

use super::client::Device;
use super::server::Server;
use super::*;
use edgetune::sync::wire::Release;
use serde_json::Value;
use std::time::{Duration, Instant};

/// A server, a channel whose releases go to a part of the devices first, its devices, and a second release.
fn published(query: &str, devices: u8) -> (Server, String, Vec<Device>) {
    let server = Server::start();
    let name = server.staged_channel(query);
    let mut devices: Vec<Device> = (2..2 + devices).map(|seed| server.device(seed)).collect();
    // Who has asked for the channel's release takes part in it.
    versions(&mut devices, &name);
    publish(&server, &name, 5);
    (server, name, devices)
}

fn publish(server: &Server, name: &str, seed: u64) {
    let delta = delta_of(&header(), &noise(seed, 640), &KeyPair::from_secret(&[1; 32]));
    let answer = server.operator("POST", &format!("/v1/admin/channels/{name}/release"), &delta);
    assert_eq!(answer.status, 202, "{}", String::from_utf8_lossy(&answer.body));
}

fn release(device: &mut Device, name: &str) -> Release {
    device.ask("GET", &format!("/v1/releases/{name}"), b"").json()
}

fn versions(devices: &mut [Device], name: &str) -> Vec<u64> {
    devices.iter_mut().map(|device| release(device, name).version).collect()
}

fn report(device: &mut Device, name: &str, version: u64, verdict: &str, accuracy: [f64; 2]) {
    let [before, after] = accuracy;
    let text =
        format!(r#"{{"channel":"{name}","version":{version},"verdict":"{verdict}","accuracy":[{before},{after}]}}"#);
    assert_eq!(device.ask("POST", "/v1/reports", text.as_bytes()).status, 204);
}

/// A device that only asks for releases takes part in their rollout, and one of another channel does not.
#[test]
fn who_only_pulls_takes_part() {
    let server = Server::start();
    let name = server.staged_channel("stages=50,100&stage_s=0&stage_reports=4");
    let mut devices: Vec<Device> = (2..10).map(|seed| server.device(seed)).collect();
    let (mut other, elsewhere) = (server.device(20), server.channel("mean"));
    assert_eq!(release(&mut other, &elsewhere).version, 1);
    for device in &mut devices {
        assert_eq!(release(device, &name).version, 1);
    }
    let page = server.reader().get(&format!("/channels/{name}")).text();
    assert!(page.contains("8 have not reported yet."), "{page}");
    publish(&server, &name, 5);
    std::thread::sleep(Duration::from_secs(3));
    // Those of the first stage are waited for, though none of them has ever sent anything.
    let row = server.channel_row(&name);
    assert_eq!((row["rollout"].as_str(), row["percent"].as_u64()), (Some("rolling"), Some(50)), "{row}");
    let offered = versions(&mut devices, &name).iter().filter(|version| **version == 2).count();
    assert_eq!(releases(&server, &name)[0]["reports"]["offered"], offered);
}

/// Which devices are offered version 2; nobody can tell without asking.
fn members(devices: &mut [Device], name: &str) -> Vec<bool> {
    versions(devices, name).iter().map(|version| *version == 2).collect()
}

fn until(what: &str, mut is: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !is() {
        assert!(Instant::now() < deadline, "it never came that {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn steer(server: &Server, name: &str, action: &str) -> u16 {
    server.operator("POST", &format!("/v1/admin/channels/{name}/rollout?do={action}"), b"").status
}

fn releases(server: &Server, name: &str) -> Vec<Value> {
    server.operator("GET", &format!("/v1/admin/channels/{name}/releases"), b"").json()
}

/// Two servers on one database look at the rollout; each step is taken once.
#[test]
fn a_release_goes_out_stage_by_stage() {
    let (server, name, mut devices) = published("stages=40,100&stage_s=0&stage_reports=3", 16);
    let replica = server.replica(&["--insecure-http"]);
    let first = members(&mut devices, &name);
    for device in &mut devices {
        device.address = replica.address.clone();
    }
    assert_eq!(members(&mut devices, &name), first, "all servers of a fleet know the same secret");
    assert_eq!(server.channel_row(&name)["percent"], 40);
    let count = first.iter().filter(|member| **member).count();
    assert!((3..14).contains(&count), "{count} of 16 devices are no test of 40 %");
    for place in (0..16).filter(|place| first[*place]) {
        report(&mut devices[place], &name, 2, "activated", [0.6, 0.7]);
    }
    until("all have it", || versions(&mut devices, &name) == [2; 16]);
    for place in (0..16).filter(|place| !first[*place]) {
        report(&mut devices[place], &name, 2, "activated", [0.6, 0.7]);
    }
    until("it is finished", || server.channel_row(&name)["rollout"] == "done");
    let rows = releases(&server, &name);
    assert_eq!(
        (&rows[0]["version"], &rows[0]["outcome"], &rows[1]["outcome"]),
        (&2.into(), &"done".into(), &"done".into())
    );
    assert_eq!((&rows[0]["reports"]["activated"], &rows[0]["reports"]["better"]), (&16.into(), &16.into()));
    let audit: Vec<Value> = server.operator("GET", "/v1/admin/audit", b"").json();
    for what in ["rollout advanced", "rollout finished"] {
        let detail = |line: &&Value| line["detail"].as_str().unwrap().starts_with(&name) && line["what"] == what;
        assert_eq!(audit.iter().filter(detail).count(), 1, "{what}");
    }
    drop(replica);
}

/// What the few refuse is taken back before the many hear of it, under a new number; those who were not asked have no vote.
#[test]
fn a_canary_that_regresses_is_halted_and_rolled_back() {
    let (server, name, mut devices) = published("stages=50,100&stage_s=1&stage_reports=3", 24);
    let asked = members(&mut devices, &name);
    assert!((6..=18).contains(&asked.iter().filter(|member| **member).count()));
    let before = release(&mut devices[asked.iter().position(|asked| !asked).unwrap()], &name);
    for place in (0..24).filter(|place| !asked[*place]) {
        report(&mut devices[place], &name, 2, "failed", [0.9, 0.1]);
    }
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(server.channel_row(&name)["rollout"], "rolling", "who was not offered it has no vote");
    for place in (0..24).filter(|place| asked[*place]) {
        report(&mut devices[place], &name, 2, "rejected", [0.8, 0.6]);
    }
    until("it is taken back", || versions(&mut devices, &name) == [3; 24]);
    let row = server.channel_row(&name);
    assert!(row["problem"].as_str().unwrap().contains("version 2 was taken back"), "{row}");
    assert_eq!((&row["rollout"], release(&mut devices[0], &name).adapter), (&"done".into(), before.adapter));
    let rows = releases(&server, &name);
    let outcomes: Vec<&str> = rows.iter().map(|row| row["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["back", "halted", "done"]);
    assert!(rows[1]["reason"].as_str().unwrap().contains("refused it"), "{}", rows[1]);
    assert!(server.audit().contains("rollout halted"));
}

/// A device that had an unfinished release and is not among the first for the next gets what the others have, under a number above.
#[test]
fn nobody_is_offered_a_lower_version_where_releases_overlap() {
    let (server, name, mut devices) = published("stages=50,100&stage_s=3600&stage_reports=3", 16);
    let outside = members(&mut devices, &name).iter().position(|is| !is).unwrap();
    let first = release(&mut devices[outside], &name);
    let mut seen = versions(&mut devices, &name);
    for seed in [6, 7] {
        publish(&server, &name, seed);
        let now = versions(&mut devices, &name);
        assert!(now.iter().zip(&seen).all(|(now, seen)| now > seen), "{seen:?}, then {now:?}");
        seen = now;
    }
    let (newest, rest) = (*seen.iter().max().unwrap(), *seen.iter().min().unwrap());
    assert_eq!((newest, rest), (6, 5));
    let place = seen.iter().position(|version| *version == rest).unwrap();
    assert_eq!(release(&mut devices[place], &name).adapter, first.adapter);
    let rows = releases(&server, &name);
    let outcomes: Vec<&str> = rows.iter().map(|row| row["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["rolling", "back", "replaced", "back", "replaced", "done"]);
}

#[test]
fn operators_pause_go_on_and_go_back() {
    let (server, name, mut devices) = published("stages=50,100&stage_s=0&stage_reports=0", 6);
    // It may have gone through its stages already; the next release is held by the pin, and steered by hand.
    until("the first is through", || server.channel_row(&name)["rollout"] == "done");
    assert_eq!((steer(&server, &name, "pin"), steer(&server, &name, "pin")), (204, 409));
    publish(&server, &name, 6);
    assert_eq!(server.channel_row(&name)["rollout"], "held");
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(versions(&mut devices, &name), [2; 6], "a pinned channel stays where it is");
    assert_eq!((steer(&server, &name, "pause"), steer(&server, &name, "nothing")), (409, 400));
    assert_eq!(steer(&server, &name, "unpin"), 204);
    until("it goes on", || versions(&mut devices, &name) == [3; 6]);

    let second = release(&mut devices[0], &name);
    assert_eq!(steer(&server, &name, "rollback&version=1"), 204);
    let back = release(&mut devices[0], &name);
    assert_eq!(back.version, 4, "back is forth for who counts");
    assert_ne!(back.adapter, second.adapter);
    assert_eq!(steer(&server, &name, "rollback&version=99"), 404);
    publish(&server, &name, 7);
    assert_eq!(steer(&server, &name, "rollback"), 204);
    assert_eq!((release(&mut devices[0], &name).version, release(&mut devices[0], &name).adapter), (6, back.adapter));
    assert_eq!(releases(&server, &name).len(), 6);
}

/// What devices have turned down is not what a plain rollback goes to, whatever its number; the log tells which version was made.
#[test]
fn no_rollback_publishes_what_was_halted() {
    let (server, name, mut devices) = published("stages=100&stage_s=0&stage_reports=3", 9);
    let bad = release(&mut devices[0], &name);
    let first =
        server.operator("GET", &format!("/v1/admin/channels/{name}/releases"), b"").json::<Vec<Value>>()[1]["adapter"]
            .clone();
    for device in &mut devices {
        report(device, &name, 2, "rejected", [0.8, 0.6]);
    }
    until("it is taken back", || server.channel_row(&name)["version"] == 3);
    assert_eq!(steer(&server, &name, "rollback"), 404, "there is nothing before the first release");
    publish(&server, &name, 6);
    until("the third adapter is through", || {
        let version = release(&mut devices[0], &name).version;
        devices.iter_mut().for_each(|device| report(device, &name, version, "activated", [0.6, 0.7]));
        server.channel_row(&name)["rollout"] == "done"
    });
    assert_eq!(steer(&server, &name, "rollback"), 204);
    let back = release(&mut devices[0], &name);
    assert_ne!(back.adapter, bad.adapter);
    assert_eq!(first, back.adapter.to_string());
    let page = server.reader().get(&format!("/channels/{name}")).text();
    let offered = page.split_once("<select").unwrap().1.split_once("</select>").unwrap().0.to_owned();
    assert!(!offered.contains("halted") && offered.contains("done"), "{offered}");
    // Where releases overlap, numbers are passed over: the log names the one that came of it.
    let slow = server.staged_channel("stages=50,100&stage_s=3600&stage_reports=3");
    for seed in [7, 8] {
        publish(&server, &slow, seed);
    }
    assert_eq!(server.channel_row(&slow)["version"], 4);
    let log = server.audit();
    assert!(log.contains(&format!("{slow}: version 2")) && log.contains(&format!("{slow}: version 4")), "{log}");
    assert!(!log.contains(&format!("{slow}: version 3")), "{log}");
}

#[test]
fn what_is_no_rollout_is_refused() {
    let server = Server::start();
    let delta = plain_delta(1, 1, &KeyPair::from_secret(&[1; 32]));
    for query in ["stages=5,50", "stages=abc", "tolerated=1", "tolerated=-0.1", "stage_s=-1", "stage_reports=x"] {
        let answer = server.operator("POST", &format!("/v1/admin/channels/x?{query}"), &delta);
        assert_eq!(answer.problem().0, 400, "{query}");
    }
    let name = server.channel("mean");
    let other = delta_of(&Header { base: [9; 32], ..header() }, &noise(1, 640), &KeyPair::from_secret(&[1; 32]));
    for (body, status) in [(&other[..], 409), (b"nothing", 422), (b"", 422)] {
        assert_eq!(server.operator("POST", &format!("/v1/admin/channels/{name}/release"), body).problem().0, status);
    }
    assert_eq!(server.operator("POST", "/v1/admin/channels/none/release", &delta).problem().0, 404);
    assert_eq!(server.channel_row(&name)["version"], 1);
}
