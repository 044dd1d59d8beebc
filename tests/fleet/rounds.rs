//! What the server is for: deltas in, an adapter out.

use super::client::clock_ms;
use super::server::{AT_ONCE, Server, unique};
use super::*;
use edgetune::delta::Delta;
use edgetune::sync::wire::{Clocks, Distrusted, Enrol, Enrolled, Release, Times, UploadState};

/// Two rounds of three devices: what comes out is the mean, signed by the server, and the devices can fetch it.
#[test]
fn rounds_combine_what_devices_send() {
    let server = Server::start();
    let name = server.channel("mean");
    let mut devices: Vec<_> = (2..5).map(|seed| server.device(seed)).collect();
    let (mut tag, mut version) = (String::new(), 1);
    for round in [1, 2] {
        let mut sum = vec![0f64; 640];
        for (index, device) in devices.iter_mut().enumerate() {
            let seed = u64::from(round) * 10 + index as u64;
            noise(seed, 640).iter().zip(&mut sum).for_each(|(value, sum)| *sum += f64::from(*value));
            let answer = device.push(&name, &plain_delta(seed, round, &device.key));
            assert!(answer.json::<UploadState>().accepted);
        }
        assert_eq!(server.channel_row(&name)["deltas"], 3);
        let row = server.turn(&name);
        assert_eq!(row["round"], round + 1);

        let device = &mut devices[0];
        let answer = device.ask_with("GET", &format!("/v1/releases/{name}"), &[("if-none-match", &tag)], b"");
        let release: Release = answer.json();
        tag = answer.header("etag").unwrap().to_owned();
        assert_eq!((release.base.0, release.round), (BASE, Some(round + 1)));
        assert!(row["version"] == release.version && release.version > version);
        version = release.version;
        let adapter = device.ask("GET", &format!("/v1/adapters/{}", release.adapter), b"").body;
        assert_eq!(blake3::hash(&adapter), release.adapter.0);
        let delta = Delta::parse(&adapter).unwrap();
        assert_eq!((delta.header().samples, delta.header().round), (21, Some(round)));
        for (found, sum) in delta.tensor("fc.weight").unwrap().values().zip(&sum) {
            assert!((f64::from(found) - sum / 3.0).abs() < 1e-3, "{found}, expected {}", sum / 3.0);
        }
        let again = device.ask_with("GET", &format!("/v1/releases/{name}"), &[("if-none-match", &tag)], b"");
        assert_eq!((again.status, again.body.len()), (304, 0));
        let half = adapter.len() / 2;
        let range = format!("bytes={half}-");
        let rest = device.ask_with("GET", &format!("/v1/adapters/{}", release.adapter), &[("range", &range)], b"");
        assert_eq!((rest.status, &rest.body[..]), (206, &adapter[half..]));
    }
    let report = format!(r#"{{"channel":"{name}","version":{version},"verdict":"activated","accuracy":[0.5,0.75]}}"#);
    assert_eq!(devices[0].ask("POST", "/v1/reports", report.as_bytes()).status, 204);
    let none = report.replace(&format!(":{version},"), ":9,");
    assert_eq!(devices[0].ask("POST", "/v1/reports", none.as_bytes()).problem(), (404, "not-found".into()));
}

/// The server's key is told at enrolment, and every release carries its signature.
#[test]
fn releases_are_signed_by_the_server() {
    let server = Server::start();
    let name = server.channel("median,clip");
    let mut device = client::Device::new(&server.address, 9);
    device.key = KeyPair::from_secret(blake3::hash(name.as_bytes()).as_bytes());
    let enrolled: Enrolled = device.enrol(&server.token(), &unique("device")).json();
    for turned in [false, true] {
        if turned {
            assert_eq!(device.push(&name, &plain_delta(1, 1, &device.key)).status, 200);
            server.turn(&name);
        }
        let release: Release = device.ask("GET", &format!("/v1/releases/{name}"), b"").json();
        let adapter = device.ask("GET", &format!("/v1/adapters/{}", release.adapter), b"").body;
        assert_eq!(Delta::parse(&adapter).unwrap().head().verify(&enrolled.release_key.0), Ok(()));
        let (day_ms, key) = (24 * 3600 * 1000, enrolled.release_key.0);
        let verify = |own_ms| {
            let mut clocks = Clocks { own_ms, ..Clocks::default() };
            release.verify(&[edgetune::sync::wire::Hex(key)], &name, Some(release.number()), &mut clocks)
        };
        assert_eq!(verify(clock_ms()), Ok(()));
        let distrusted = verify(clock_ms() + 8 * day_ms).unwrap_err();
        assert!(matches!(distrusted, Distrusted::Expired { .. }), "a week later it is an old word");
    }
}

/// A delta of several chunks, with the server killed between any two of them and each of them sent twice.
#[test]
fn an_upload_goes_on_where_it_was() {
    let mut server = Server::start();
    let mut device = server.device(2);
    let values = noise(5, 700_000);
    let payload = encode(&values, Encoding::Fp16).unwrap();
    let tensors = [TensorValues { name: "fc.weight", shape: &[700, 1000], payload: &payload }];
    let large = sign(&delta::write(&header(), &[], &tensors).unwrap(), &device.key).unwrap();
    assert!(large.len() > 1 << 20, "{}", large.len());
    let name = server.channel_of(AT_ONCE, &large);
    let mut state: UploadState = device.begin(&name, &large).json();
    while !state.accepted {
        let from = state.received as usize;
        let chunk = &large[from..(from + (1 << 20)).min(large.len())];
        let target = format!("/v1/uploads/{}/{from}", state.hash);
        state = device.ask("PUT", &target, chunk).json();
        let again: UploadState = device.ask("PUT", &target, chunk).json();
        assert_eq!((again.received, again.accepted), (state.received, state.accepted));
        server.kill_and_restart();
        device.address = server.address.clone();
        let known: UploadState = device.ask("GET", &format!("/v1/uploads/{}", state.hash), b"").json();
        assert_eq!(known, state);
    }
    assert_eq!(server.channel_row(&name)["deltas"], 1);
    assert_eq!(server.turn(&name)["version"], 2);
}

/// However often a delta is sent it counts once, and of a device's deltas the last one.
#[test]
fn a_device_counts_once_a_round() {
    let server = Server::start();
    let (name, mut device) = (server.channel("mean"), server.device(2));
    for seed in [1, 1, 2, 1] {
        assert_eq!(device.push(&name, &plain_delta(seed, 1, &device.key)).status, 200);
        assert_eq!(server.channel_row(&name)["deltas"], 1);
    }
    server.turn(&name);
    let release: Release = device.ask("GET", &format!("/v1/releases/{name}"), b"").json();
    let adapter = device.ask("GET", &format!("/v1/adapters/{}", release.adapter), b"").body;
    let delta = Delta::parse(&adapter).unwrap();
    assert!(delta.tensor("fc.weight").unwrap().values().eq(noise(2, 640)));
}

/// A delta of one chunk may come without being announced; what was begun in the other way ends in this one.
#[test]
fn a_short_delta_comes_at_once() {
    let server = Server::start();
    let (name, elsewhere, mut device) = (server.channel("mean"), server.channel("mean"), server.device(2));
    let at = |delta: &[u8], channel: &str| {
        format!("/v1/uploads/{}?channel={channel}", edgetune::sync::wire::Hex(blake3::hash(delta).into()))
    };
    let delta = plain_delta(1, 1, &device.key);
    for _ in 0..2 {
        assert!(device.ask("PUT", &at(&delta, &name), &delta).json::<UploadState>().accepted);
        assert_eq!(server.channel_row(&name)["deltas"], 1);
    }
    assert_eq!(device.ask("PUT", &at(&delta, &elsewhere), &delta).problem(), (409, "conflict".into()));
    let begun = plain_delta(2, 1, &device.key);
    assert_eq!(device.begin(&name, &begun).json::<UploadState>().received, 0);
    assert!(device.ask("PUT", &at(&begun, &name), &begun).json::<UploadState>().accepted);
    assert_eq!(server.channel_row(&name)["deltas"], 1, "the later one of a device");

    let stored = server.stored();
    let delta = plain_delta(3, 1, &device.key);
    for (target, body, refused) in [
        (at(&delta, &name), &delta[..delta.len() - 1], (422, "delta")),
        (at(b"other", &name), &delta, (422, "delta")),
        (at(&delta, "none"), &delta, (404, "not-found")),
        (at(&delta, "..%2f.."), &delta, (404, "not-found")),
        (at(b"", &name), b"", (413, "too-long")),
        (at(&delta, &name).replace("channel=", "channels="), &delta, (400, "form")),
        (at(&delta, &name).replace("/v1/uploads/", "/v1/uploads/zz"), &delta, (400, "form")),
    ] {
        let refused = (refused.0, refused.1.to_owned());
        assert_eq!(device.ask("PUT", &target, body).problem(), refused, "{target}");
    }
    let foreign = plain_delta(4, 1, &edgetune::delta::KeyPair::from_secret(&[9; 32]));
    for _ in 0..2 {
        assert_eq!(device.ask("PUT", &at(&foreign, &name), &foreign).problem(), (422, "delta".into()));
    }
    assert_eq!((server.stored(), server.channel_row(&name)["deltas"].as_u64()), (stored, Some(1)));
}

/// What cannot come to anything is not begun, and whoever asks is told what is missing.
#[test]
fn a_round_of_too_few_deltas_is_not_closed() {
    let server = Server::with(&["--insecure-http", "--round-devices-min", "2"]);
    let (mean, trimmed) = (server.channel("mean"), server.channel("trimmed:0.3"));
    let close = |name: &str| server.operator("POST", &format!("/v1/admin/channels/{name}/close"), b"");
    let refused = |name: &str, why: &str| {
        let answer = close(name);
        assert_eq!(answer.problem(), (409, "too-few".into()));
        assert!(answer.text().contains(why), "no `{why}` in {}", answer.text());
        let page = server.reader().post(&format!("/channels/{name}/close"), &[("round", "1")]);
        assert!(page.status == 409 && page.text().contains(why), "{}", page.text());
        assert_eq!(server.channel_row(name)["state"], "open");
    };
    refused(&mean, "round 1 of `");
    refused(&mean, "has no delta to combine");
    let mut devices: Vec<_> = (2..6).map(|seed| server.device(seed)).collect();
    for (seed, device) in devices.iter_mut().enumerate() {
        let push = |device: &mut client::Device, name: &str| {
            let seed = seed as u64 + if name == mean { 10 } else { 20 };
            assert_eq!(device.push(name, &plain_delta(seed, 1, &device.key)).status, 200);
        };
        if seed < 2 {
            push(device, &mean);
        }
        if seed == 0 {
            refused(&mean, "1 device, and needs 2 by setting `round-devices-min`");
        }
        push(device, &trimmed);
        if seed == 2 {
            refused(&trimmed, "3 devices, and needs 4 for the rule trimmed:0.3");
        }
    }
    assert_eq!(server.turn(&mean)["version"], 2);
    assert_eq!(server.turn(&trimmed)["version"], 2);
}

/// One device of five that says 300 where the others say about 1 moves nothing.
#[test]
fn the_default_rule_leaves_the_extremes_out() {
    let server = Server::with(&["--insecure-http", "--round-devices-min", "5"]);
    let first = delta_of(&header(), &vec![0.0; 640], &KeyPair::from_secret(&[1; 32]));
    let name = unique("channel");
    let made = server.operator("POST", &format!("/v1/admin/channels/{name}?{AT_ONCE}"), &first);
    assert_eq!(made.json::<serde_json::Value>()["rule"], "trimmed:0.2,clip");
    let mut devices: Vec<_> = (2..7).map(|seed| server.device(seed)).collect();
    for (value, device) in [1.0, 1.25, 1.5, 1.75, 300.0].into_iter().zip(&mut devices) {
        let delta = delta_of(&Header { round: Some(1), ..header() }, &vec![value; 640], &device.key);
        assert_eq!(device.push(&name, &delta).status, 200);
    }
    assert_eq!(server.turn(&name)["version"], 2);
    let release: Release = devices[0].ask("GET", &format!("/v1/releases/{name}"), b"").json();
    let adapter = devices[0].ask("GET", &format!("/v1/adapters/{}", release.adapter), b"").body;
    let delta = Delta::parse(&adapter).unwrap();
    assert!(delta.tensor("fc.weight").unwrap().values().all(|value| (1.2..1.6).contains(&value)));
}

/// A clock that is years wrong costs one refused request.
#[test]
fn no_clock_locks_a_device_out() {
    let server = Server::start();
    for wrong in [|| 1_000, || clock_ms() + (1 << 40)] {
        let mut device = server.device(2 + u8::from(wrong() > 1_000));
        (device.clock_ms, device.times) = (wrong, Times::default());
        let refused = device.ask("GET", "/v1/releases/none", b"");
        assert_eq!(refused.problem(), (401, "time".into()));
        let problem: edgetune::sync::wire::Problem = serde_json::from_slice(&refused.body).unwrap();
        device.times.correct(wrong(), problem.time.unwrap());
        assert_eq!(device.ask("GET", "/v1/releases/none", b"").problem(), (404, "not-found".into()));
    }
}

/// A revoked device is out at once; enrolled again under its name, the new key counts and the old one does not.
#[test]
fn devices_are_revoked_and_enrol_again_without_a_restart() {
    let server = Server::start();
    let (name, mut old) = (server.channel("mean"), server.device(2));
    assert_eq!(old.push(&name, &plain_delta(1, 1, &old.key)).status, 200);
    let key = edgetune::sync::wire::Hex(old.key.public());
    assert_eq!(server.operator("DELETE", &format!("/v1/admin/devices/{key}"), b"").status, 204);
    assert_eq!(server.channel_row(&name)["deltas"], 0, "what a revoked device has sent does not count");
    assert_eq!(old.ask("GET", &format!("/v1/releases/{name}"), b"").problem(), (401, "identity".into()));
    assert_eq!(old.enrol(&server.token(), "again").problem(), (401, "identity".into()));

    let (shared, mut first, mut second) = (unique("kitchen"), server.device(3), server.device(4));
    assert_eq!(first.enrol(&server.token(), &shared).status, 200);
    let replacing = Enrol { token: server.token_for(&shared), name: shared, replace: true, consent: None };
    assert_eq!(second.enrol_as(&replacing).status, 200);
    assert_eq!(second.ask("GET", &format!("/v1/releases/{name}"), b"").status, 200);
    assert_eq!(first.ask("GET", &format!("/v1/releases/{name}"), b"").problem(), (401, "identity".into()));
}
