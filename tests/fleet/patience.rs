//! When a device asks again, and what its clock may show: the client as a library, with the world in the test's hands.

use super::client::{clock_ms, parsed};
use super::server::{Server, unique};
use super::*;
use edgetune::sync::client::{self, Client, Error, Folder, Invitation, Name, Outside};
use edgetune::sync::wire::{Enrolled, Hex, Release};
use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::Duration;

fn invitation(url: &str, token: &str) -> Invitation {
    let (url, token, name) = (url.into(), token.into(), Name::Given(unique("device")));
    Invitation { url, token, name, replace: false, root: None, ca: None, client_certificate: None }
}

fn secret() -> Result<[u8; 32], String> {
    let mut secret = [0; 32];
    fastrand::fill(&mut secret);
    Ok(secret)
}

/// A server that gives these answers, one for each connection, and then is gone; gives its address.
fn scripted(answers: Vec<String>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            let mut buffer = [0; 4096];
            // The body is known to have come when its last brace has; a GET has none.
            while !(request.ends_with(b"}") || (request.starts_with(b"GET") && request.ends_with(b"\r\n\r\n"))) {
                let count = stream.read(&mut buffer).unwrap();
                request.extend(&buffer[..count]);
            }
            assert!(parsed(&[b"HTTP/1.1 200 OK\r\n\r\n", request.as_slice()].concat()).status == 200);
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    url
}

fn answer(status: u16, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status} Told\r\nconnection: close\r\n{headers}content-length: {}\r\n\r\n{body}", body.len())
}

/// Enrols at a scripted server; gives how it went and how long was waited.
fn enrol_at(answers: Vec<String>) -> (Error, Vec<Duration>) {
    let place = tempfile::tempdir().unwrap();
    let (folder, waits) = (Folder::open(place.path()).unwrap(), RefCell::new(Vec::new()));
    let sleep = |time| waits.borrow_mut().push(time);
    let outside = Outside { clock_ms: &clock_ms, chance: &|| 0.5, sleep: &sleep, tries: 4, bytes_per_s: None };
    let error = client::enrol(&folder, invitation(&scripted(answers), "t"), &secret, outside).unwrap_err();
    (error, waits.into_inner())
}

#[test]
fn what_the_server_asks_is_waited_and_then_no_longer_asked() {
    let busy = |wait: &str| answer(503, wait, "{}");
    let refused =
        answer(401, "", r#"{"type": "t", "title": "t", "status": 401, "detail": "the token\u001b[2J is none"}"#);
    let seconds = |waits: &[Duration]| waits.iter().map(Duration::as_secs_f64).collect::<Vec<_>>();
    let (error, waits) =
        enrol_at(vec![busy("retry-after: 7\r\n"), answer(429, "retry-after: 2\r\n", ""), refused.clone()]);
    assert_eq!(error.to_string(), "the server refuses (401): the token [2J is none");
    assert_eq!(seconds(&waits), [7.5, 3.0]);
    // A date says nothing to it, silence neither.
    let (_, waits) =
        enrol_at(vec![busy("retry-after: Wed, 21 Oct 2026 07:28:00 GMT\r\n"), busy(""), String::new(), refused]);
    assert_eq!(seconds(&waits), [0.5, 1.0, 2.0]);
    // An hour is too long for a command.
    let (error, waits) = enrol_at(vec![busy("retry-after: 3600\r\n")]);
    assert!(matches!(error, Error::Busy { status: 503, wait: Some(wait), .. } if wait.as_secs() == 3600), "{error}");
    assert!(waits.is_empty());
    // Its patience ends.
    let (error, waits) = enrol_at(vec![busy(""); 4]);
    assert!(matches!(error, Error::Busy { .. }), "{error}");
    assert_eq!(seconds(&waits), [0.5, 1.0, 2.0]);
}

#[test]
fn what_is_no_fleet_server_is_told_as_that() {
    for (given, part) in [
        (answer(302, "location: https://elsewhere\r\n", ""), "has moved to `https://elsewhere`"),
        (answer(404, "", "<html>"), "404 without a reason"),
        (answer(200, "", "{\"hello\": 1}"), "not what was asked for"),
        (answer(200, "", &"x".repeat(1 << 20)), "not what was asked for"),
    ] {
        let (error, waits) = enrol_at(vec![given]);
        assert!(error.to_string().contains(part), "{error}");
        assert!(waits.is_empty());
    }
}

/// Who stands before the server can keep an old word, and say it again: it is believed no longer than it says itself.
#[test]
fn a_release_that_was_held_back_is_not_believed() {
    let (device, fleet) = (KeyPair::from_secret(&[3; 32]), KeyPair::from_secret(&[4; 32]));
    let [key, release_key] = [&device, &fleet].map(|key| Hex(key.public()));
    let enrolled = Enrolled { fleet: "f".into(), key, release_key, root: None, time_ms: clock_ms() };
    let release = Release {
        channel: "photos".into(),
        epoch: 0,
        version: 1,
        base: Hex(BASE),
        adapter: Hex([5; 32]),
        length: 7,
        round: None,
        devices_min: 1,
        root: None,
        told_ms: clock_ms() - 1000,
        expires_ms: clock_ms() - 1,
        signature: Hex([0; 64]),
    };
    let told = [serde_json::to_string(&enrolled).unwrap(), serde_json::to_string(&release.signed(&fleet)).unwrap()];
    let url = scripted(told.map(|body| answer(200, "", &body)).into());
    let place = tempfile::tempdir().unwrap();
    let folder = Folder::open(place.path()).unwrap();
    let sleep = |time| panic!("waited {time:?}");
    let outside = Outside { clock_ms: &clock_ms, chance: &|| 0.5, sleep: &sleep, tries: 1, bytes_per_s: None };
    client::enrol(&folder, invitation(&url, "t"), &|| Ok([3; 32]), outside).unwrap();
    let mut client = Client::open(&folder, outside).unwrap();
    let error = client::pull(&mut client, &folder, "photos").unwrap_err().to_string();
    assert!(error.contains("photos") && error.contains("holding newer ones back"), "{error}");
}

/// A body may lie elsewhere: it is fetched from there without a word of who asks, and believed if it is the right one.
#[test]
fn an_adapter_may_lie_elsewhere() {
    let adapter = plain_delta(5, 1, &KeyPair::from_secret(&[4; 32]));
    let release = |length: usize| Release {
        channel: "photos".into(),
        epoch: 0,
        version: 1,
        base: Hex(BASE),
        adapter: Hex(blake3::hash(&adapter).into()),
        length: length as u64,
        round: None,
        devices_min: 1,
        root: None,
        told_ms: clock_ms(),
        expires_ms: clock_ms() + 60_000,
        signature: Hex([0; 64]),
    };
    let (device, fleet) = (KeyPair::from_secret(&[3; 32]), KeyPair::from_secret(&[4; 32]));
    let [key, release_key] = [&device, &fleet].map(|key| Hex(key.public()));
    let enrolled = Enrolled { fleet: "f".into(), key, release_key, root: None, time_ms: clock_ms() };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let store = format!("http://{}/bucket/key?signature=1", listener.local_addr().unwrap());
    let stored = adapter.clone();
    let asked = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            request.push(byte[0]);
        }
        let head = format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", stored.len());
        stream.write_all(&[head.as_bytes(), &stored].concat()).unwrap();
        String::from_utf8(request).unwrap().to_lowercase()
    });
    let url = scripted(vec![
        answer(200, "", &serde_json::to_string(&enrolled).unwrap()),
        answer(200, "", &serde_json::to_string(&release(adapter.len()).signed(&fleet)).unwrap()),
        answer(307, &format!("location: {store}\r\n"), ""),
    ]);
    let place = tempfile::tempdir().unwrap();
    let folder = Folder::open(place.path()).unwrap();
    let sleep = |time| panic!("waited {time:?}");
    let outside = Outside { clock_ms: &clock_ms, chance: &|| 0.5, sleep: &sleep, tries: 1, bytes_per_s: None };
    client::enrol(&folder, invitation(&url, "t"), &|| Ok([3; 32]), outside).unwrap();
    let mut client = Client::open(&folder, outside).unwrap();
    let pulled = client::pull(&mut client, &folder, "photos").unwrap();
    assert_eq!(std::fs::read(pulled.path).unwrap(), adapter);
    let asked = asked.join().unwrap();
    assert!(asked.starts_with("get /bucket/key?signature=1 ") && !asked.contains("authorization"), "{asked}");
}

/// With an S3 store devices can fetch adapters from it themselves.
#[test]
fn an_adapter_comes_from_the_store_itself() {
    let Some(store) = std::env::var("AWS_ENDPOINT").ok() else {
        let alone = std::process::Command::new(env!("CARGO_BIN_EXE_edgetune-fleet"))
            .args(["serve", "--store-direct"])
            .output()
            .unwrap();
        assert_eq!(alone.status.code(), Some(2), "a folder has no addresses");
        return;
    };
    let server = Server::with(&["--insecure-http", "--store-direct"]);
    let (channel, mut device) = (server.channel("mean"), server.device(2));
    let release: Release = device.ask("GET", &format!("/v1/releases/{channel}"), b"").json();
    let told = device.ask("GET", &format!("/v1/adapters/{}", release.adapter), b"");
    let place = told.header("location").unwrap_or_default();
    assert!(told.status == 307 && told.body.is_empty() && place.starts_with(&store), "{told:?}");
    let unknown = device.ask("GET", &format!("/v1/adapters/{}", "0".repeat(64)), b"");
    assert_eq!(unknown.problem(), (404, "not-found".into()));

    let folder = tempfile::tempdir().unwrap();
    let folder = Folder::open(folder.path()).unwrap();
    let sleep = |time| panic!("waited {time:?}");
    let outside = Outside { clock_ms: &clock_ms, chance: &|| 0.5, sleep: &sleep, tries: 1, bytes_per_s: None };
    let url = format!("http://{}", server.address);
    client::enrol(&folder, invitation(&url, &server.token()), &secret, outside).unwrap();
    let mut client = Client::open(&folder, outside).unwrap();
    let pulled = client::pull(&mut client, &folder, &channel).unwrap();
    let bytes = std::fs::read(pulled.path).unwrap();
    assert_eq!((Hex(blake3::hash(&bytes).into()), bytes.len() as u64), (release.adapter, release.length));
}

/// A device that woke up in 1970, and one that lives in 2100: both come in and deliver without waiting. For the second all words have
/// ended long ago, and it is told that its clock says so.
#[test]
fn a_wrong_clock_is_put_right_by_the_server() {
    let server = Server::start();
    let channel = server.channel("mean");
    for wrong_ms in [1_000, 4_102_444_800_000] {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::open(place.path()).unwrap();
        let sleep = |time| panic!("waited {time:?}");
        let outside = Outside { clock_ms: &|| wrong_ms, chance: &|| 0.5, sleep: &sleep, tries: 2, bytes_per_s: None };
        let url = format!("http://{}", server.address);
        client::enrol(&folder, invitation(&url, &server.token()), &secret, outside).unwrap();
        folder.queue().put(&channel, &plain_delta(wrong_ms, 1, &KeyPair::from_secret(&[9; 32]))).unwrap();
        let mut client = Client::open(&folder, outside).unwrap();
        let mut delivered = 0;
        client::deliver(&mut client, &folder.queue(), &mut |_, done| delivered += done.unwrap().sent).unwrap();
        assert!(delivered > 0);
        match client::pull(&mut client, &folder, &channel) {
            Ok(pulled) => assert!(pulled.is_new && wrong_ms == 1_000),
            Err(error) => assert!(wrong_ms > 1_000 && error.to_string().contains("by this device's clock"), "{error}"),
        }
    }
}
