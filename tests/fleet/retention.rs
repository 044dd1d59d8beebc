//! What the server keeps, and for how long.

use super::client::{Answer, Device, clock_ms, raw, request};
use super::server::Server;
use super::*;
use edgetune::fleet::{Folder, Limits, Settings, Signals, Store, Tuning, serve};
use edgetune::sync::wire::{Hex, UploadState};
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Files of a device in the store.
fn files_of(server: &Server, key: &KeyPair) -> usize {
    let prefix = format!("deltas/{}/", Hex(key.public()));
    let Ok(endpoint) = std::env::var("AWS_ENDPOINT") else {
        return files(&server.folder.path().join("deltas").join(prefix));
    };
    let address = endpoint.strip_prefix("http://").unwrap();
    let listed = raw(address, &request("GET", &format!("/fleet?list-type=2&prefix={prefix}"), &[], b""));
    assert_eq!(listed.status, 200);
    String::from_utf8(listed.body).unwrap().matches("<Key>").count()
}

fn files(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| if entry.path().is_dir() { files(&entry.path()) } else { 1 }).sum()
}

fn until(what: &str, is: impl Fn() -> bool) {
    for _ in 0..600 {
        if is() {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("{what} did not come about");
}

/// The bytes of deltas go with the round after theirs; that they counted stays known.
#[test]
fn deltas_go_when_their_round_is_long_over() {
    let server = Server::with(&["--insecure-http", "--keep-rounds", "1"]);
    let (name, mut device) = (server.channel("mean"), server.device(2));
    let first = plain_delta(1, 1, &device.key);
    for (seed, round) in [(1, 1), (2, 2), (3, 3)] {
        assert_eq!(device.push(&name, &plain_delta(seed, round, &device.key)).status, 200);
        assert_eq!(server.turn(&name)["round"], round + 1);
    }
    until("one round kept", || files_of(&server, &device.key) == 1);
    let again: UploadState = device.push(&name, &first).json();
    assert!(again.accepted, "it counted, and is not asked for again");
    // Of two in one round the later one counts, and alone is kept.
    for seed in [4, 5] {
        assert_eq!(device.push(&name, &plain_delta(seed, 4, &device.key)).status, 200);
    }
    server.turn(&name);
    until("the last round kept", || files_of(&server, &device.key) == 1);
    assert_eq!(server.channel_row(&name)["round"], 5);
}

/// What the clock of the server below is ahead of ours.
static AHEAD_MS: AtomicU64 = AtomicU64::new(0);

fn ahead_ms() -> u64 {
    clock_ms() + AHEAD_MS.load(Ordering::Relaxed)
}

/// A week after its last chunk an upload is given up; it can begin again.
#[test]
fn uploads_that_nobody_goes_on_with_go() {
    let folder = tempfile::tempdir().unwrap();
    let deltas = folder.path().join("deltas");
    std::fs::create_dir(&deltas).unwrap();
    let settings = Settings {
        folder: Folder::open(folder.path()).unwrap(),
        database: format!("sqlite:{}?mode=rwc", folder.path().join("fleet.sqlite").display()),
        store: Store::folder(&deltas).unwrap(),
        tuning: Tuning {
            identity: None,
            proxies: Vec::new(),
            limits: Limits { requests_per_s: 1e6, ..Limits::default() },
        },
        clock: Arc::new(ahead_ms),
        chance: Arc::new(|bytes| getrandom::fill(bytes).map_err(|error| error.to_string())),
    };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (told, ready) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let never = AtomicBool::new(false);
        let signals = Signals { stop: &never, reload: &never };
        serve(settings, listener, || told.send(()).unwrap(), signals, &|| Err("nothing to read".into())).unwrap();
    });
    ready.recv().unwrap();
    let token = std::fs::read_to_string(folder.path().join("operator.token")).unwrap();
    let bearer = format!("Bearer {}", token.trim());
    let operator = |method: &str, target: &str, body: &[u8]| -> Answer {
        raw(&address, &request(method, target, &[("authorization", &bearer)], body))
    };
    let values = noise(6, 900_000);
    let payload = encode(&values, Encoding::Fp16).unwrap();
    let tensors = [TensorValues { name: "fc.weight", shape: &[900, 1000], payload: &payload }];
    let key = KeyPair::from_secret(&[1; 32]);
    let large = sign(&delta::write(&header(), &[Label { name: "cat", samples: 7 }], &tensors).unwrap(), &key).unwrap();
    assert_eq!(operator("POST", "/v1/admin/channels/large?rule=mean", &large).status, 200);
    let mut device = Device::new(&address, 3);
    device.clock_ms = ahead_ms;
    let token: serde_json::Value = operator("POST", "/v1/admin/tokens", b"").json();
    assert_eq!(device.enrol(token["token"].as_str().unwrap(), "device").status, 200);

    let state: UploadState = device.begin("large", &large).json();
    let chunk = |from: usize| format!("/v1/uploads/{}/{from}", state.hash);
    let sent: UploadState = device.ask("PUT", &chunk(0), &large[..1 << 20]).json();
    assert_eq!((sent.received, files(&deltas.join("deltas"))), (1 << 20, 1));
    AHEAD_MS.store(6 * 24 * 3600 * 1000, Ordering::Relaxed);
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(device.ask("GET", &format!("/v1/uploads/{}", state.hash), b"").json::<UploadState>(), sent);
    AHEAD_MS.store(8 * 24 * 3600 * 1000, Ordering::Relaxed);
    until("an empty store", || files(&deltas.join("deltas")) == 0);
    assert_eq!(device.ask("GET", &format!("/v1/uploads/{}", state.hash), b"").status, 404);
    assert_eq!(device.begin("large", &large).json::<UploadState>().received, 0);
}
