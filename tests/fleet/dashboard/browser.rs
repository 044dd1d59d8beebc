//! The pages in a real browser: a server with three weeks of a fleet's life behind it, made through the same requests that devices
//! and operators send, and walked through by `tests/fleet/browser`.

use super::reader::Reader;
use crate::client::{Answer, Device, clock_ms, raw, request};
use crate::server::AT_ONCE;
use crate::{delta, header, noise};
use edgetune::delta::{Encoding, Header, KeyPair, Label, Method, MethodKind, TensorValues, encode, sign};
use edgetune::fleet::{Folder, Limits, Settings, Signals, Store, Tuning, serve};
use edgetune::sync::wire::{Hex, Release};
use serde_json::{Value, json};
use std::net::TcpListener;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// How long ago it is, for the server and its devices.
static AGO_MS: AtomicU64 = AtomicU64::new(0);
const MINUTE_MS: u64 = 60_000;
const DAY_MS: u64 = 24 * 60 * MINUTE_MS;

fn then_ms() -> u64 {
    clock_ms() - AGO_MS.load(Ordering::Relaxed)
}

/// Lets some time go by; less than there is left.
fn later(ms: u64) {
    AGO_MS.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |ago| Some(ago.saturating_sub(ms))).unwrap();
}

/// A server in this process, whose clock is ours.
struct Fleet {
    address: String,
    operator: String,
    folder: tempfile::TempDir,
}

impl Fleet {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("deltas")).unwrap();
        let settings = Settings {
            folder: Folder::open(folder.path()).unwrap(),
            database: format!("sqlite:{}?mode=rwc", folder.path().join("fleet.sqlite").display()),
            store: Store::folder(&folder.path().join("deltas")).unwrap(),
            tuning: Tuning {
                identity: None,
                proxies: Vec::new(),
                limits: Limits { requests_per_s: 1e6, round_devices_min: 1, ..Limits::default() },
            },
            clock: Arc::new(then_ms),
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
        let operator = std::fs::read_to_string(folder.path().join("operator.token")).unwrap().trim().to_owned();
        Self { address, operator, folder }
    }

    fn operator(&self, method: &str, target: &str, body: &[u8]) -> Answer {
        let bearer = format!("Bearer {}", self.operator);
        raw(&self.address, &request(method, target, &[("authorization", &bearer)], body))
    }

    fn device(&self, name: &str) -> Device {
        let mut device = Device::new(&self.address, 0);
        device.key = KeyPair::from_secret(blake3::hash(name.as_bytes()).as_bytes());
        device.clock_ms = then_ms;
        let token = self.operator("POST", "/v1/admin/tokens", b"").json::<Value>()["token"].clone();
        assert_eq!(device.enrol(token.as_str().unwrap(), name).status, 200);
        device
    }

    /// Waits until the round that somebody has closed is turned.
    fn turned(&self, channel: &str, version: u64) {
        for _ in 0..600 {
            let rows: Vec<Value> = self.operator("GET", "/v1/admin/channels", b"").json();
            let is_out = |row: &Value| row["version"] == version && row["rollout"] == "done";
            if rows.iter().any(|row| row["name"] == channel && is_out(row)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("{channel} does not turn to {version}");
    }
}

/// What is learned goes one way, the further the later; each device sees it a little differently.
fn learned(seed: u64, device: u64, progress: f32, count: usize) -> Vec<f32> {
    let way = noise(seed, count);
    let own = noise(seed * 1000 + device, count);
    way.iter().zip(own).map(|(way, own)| 0.2 * progress * way + 0.08 * own).collect()
}

/// A head of 6 classes on 96 features.
fn head(device: u64, progress: f32, round: Option<u32>, key: &KeyPair) -> Vec<u8> {
    let tensors: [(&str, &[u32], _); 2] = [
        ("classifier.weight", &[6, 96], learned(1, device, progress, 576)),
        ("classifier.bias", &[6], learned(2, device, progress, 6)),
    ];
    written(&Header { round, samples: 40 + 7 * device, ..header() }, &tensors, key)
}

/// LoRA of rank 4 on six layers.
fn lora(device: u64, progress: f32, round: Option<u32>, key: &KeyPair) -> Vec<u8> {
    let method = Some(Method { kind: MethodKind::Lora, rank: 4, alpha: 8.0 });
    let modules: Vec<String> = (3..6)
        .flat_map(|layer| ["query", "value"].map(|part| format!("encoder.layer.{layer}.attention.self.{part}")))
        .collect();
    let mut tensors: Vec<(String, Vec<u32>, Vec<f32>)> = Vec::new();
    for (seed, module) in modules.iter().enumerate() {
        let seed = 10 + 2 * seed as u64;
        tensors.push((format!("{module}.lora_A.weight"), vec![4, 64], learned(seed, device, progress, 256)));
        tensors.push((format!("{module}.lora_B.weight"), vec![64, 4], learned(seed + 1, device, progress, 256)));
    }
    let tensors: Vec<(&str, &[u32], Vec<f32>)> =
        tensors.iter().map(|(name, sizes, values)| (name.as_str(), sizes.as_slice(), values.clone())).collect();
    written(&Header { round, method, samples: 90 + device, ..header() }, &tensors, key)
}

fn written(header: &Header<'_>, tensors: &[(&str, &[u32], Vec<f32>)], key: &KeyPair) -> Vec<u8> {
    let payloads: Vec<_> = tensors.iter().map(|(.., values)| encode(values, Encoding::Fp16).unwrap()).collect();
    let tensors: Vec<_> = tensors
        .iter()
        .zip(&payloads)
        .map(|((name, shape, _), payload)| TensorValues { name, shape, payload })
        .collect();
    let labels = [Label { name: "good", samples: 30 }, Label { name: "scratch", samples: 4 }];
    sign(&delta::write(header, &labels, &tensors).unwrap(), key).unwrap()
}

type Made = fn(u64, f32, Option<u32>, &KeyPair) -> Vec<u8>;

/// A channel with so many rounds behind it, one every three days, and one that is open.
fn lived(fleet: &Fleet, channel: &str, devices: &mut [Device], rounds: u32, made: Made) {
    let mut chance = fastrand::Rng::with_seed(7);
    let skill: Vec<f64> = devices.iter().map(|_| 0.52 + 0.2 * chance.f64()).collect();
    let mut known = skill.clone();
    for round in 1..=rounds {
        let progress = f64::from(round) / 8.0;
        let sending = |(index, _): &(usize, &mut Device)| !(index + round as usize).is_multiple_of(3);
        for (index, device) in devices.iter_mut().enumerate().filter(sending) {
            let delta = made(index as u64, progress as f32, Some(round), &device.key);
            assert_eq!(device.push(channel, &delta).status, 200);
            later(9 * MINUTE_MS);
        }
        assert_eq!(fleet.operator("POST", &format!("/v1/admin/channels/{channel}/close"), b"").status, 202);
        fleet.turned(channel, u64::from(round) + 1);
        later(3 * 60 * MINUTE_MS);
        for (index, device) in devices.iter_mut().enumerate() {
            // Two go silent, the same two.
            if index % 9 == 8 && round + 4 > rounds {
                continue;
            }
            let after = (skill[index] + 0.34 * (1.0 - (-2.2 * progress).exp()) + 0.05 * (chance.f64() - 0.5)).min(0.97);
            let before = known[index];
            known[index] = after.max(before);
            let (verdict, accuracy) = match () {
                () if chance.u8(0..40) == 0 => ("failed", None),
                () if after < before => ("rejected", Some([before, after])),
                () => ("activated", Some([before, after])),
            };
            let report = json!({ "channel": channel, "version": round + 1, "verdict": verdict, "accuracy": accuracy });
            assert_eq!(device.ask("POST", "/v1/reports", report.to_string().as_bytes()).status, 204);
            later(4 * MINUTE_MS);
        }
        later(2 * DAY_MS + 16 * 60 * MINUTE_MS);
    }
    for (index, device) in devices.iter_mut().enumerate().filter(|(index, _)| index % 3 == 1) {
        let delta = made(index as u64, rounds as f32 / 8.0, Some(rounds + 1), &device.key);
        assert_eq!(device.push(channel, &delta).status, 200);
        later(7 * MINUTE_MS);
    }
}

/// A channel whose releases go to a part of the devices first: one was taken back, the next is on its way.
fn staged(fleet: &Fleet, devices: &mut [Device]) {
    let channel = "tool-wear";
    let query = "rule=median&stages=40,70,100&stage_s=86400&stage_reports=12&tolerated=0.1";
    let key = KeyPair::from_secret(&[1; 32]);
    let made = fleet.operator("POST", &format!("/v1/admin/channels/{channel}?{query}"), &head(0, 0.0, None, &key));
    assert_eq!(made.status, 200);
    for (progress, version, verdict, accuracy) in
        [(0.3, 2, "rejected", [0.91, 0.52]), (0.4, 4, "activated", [0.88, 0.93])]
    {
        later(5 * 60 * MINUTE_MS);
        let target = format!("/v1/admin/channels/{channel}/release");
        assert_eq!(fleet.operator("POST", &target, &head(0, progress, None, &key)).status, 202);
        for device in devices.iter_mut() {
            let release: Release = device.ask("GET", &format!("/v1/releases/{channel}"), b"").json();
            if release.version == version {
                let report =
                    json!({ "channel": channel, "version": version, "verdict": verdict, "accuracy": accuracy });
                assert_eq!(device.ask("POST", "/v1/reports", report.to_string().as_bytes()).status, 204);
            }
            later(MINUTE_MS);
        }
        if verdict == "rejected" {
            // No release is judged before its stage has lasted its day.
            later(DAY_MS);
            fleet.turned(channel, version + 1);
        }
    }
}

/// Three weeks of three channels.
fn seeded(fleet: &Fleet) {
    AGO_MS.store(23 * DAY_MS, Ordering::Relaxed);
    let named = |site: &str, count: usize| -> Vec<Device> {
        (1..=count).map(|index| fleet.device(&format!("{site}-{index:02}"))).collect()
    };
    let mut presses: Vec<Device> =
        ["bremen-press", "gdansk-press"].into_iter().flat_map(|site| named(site, 9)).collect();
    let mut pumps = named("lyon-pump", 6);
    let first = KeyPair::from_secret(&[1; 32]);
    for (channel, rule, delta) in [
        ("scratch-detector", "trimmed:0.1,clip", head(0, 0.0, None, &first)),
        ("pump-sounds", "mean", lora(0, 0.1, None, &first)),
    ] {
        let target = format!("/v1/admin/channels/{channel}?rule={rule}&{AT_ONCE}");
        assert_eq!(fleet.operator("POST", &target, &delta).status, 200);
    }
    let mut operator = Reader::new(&fleet.address);
    operator.sign_in(&fleet.operator);
    for (name, role) in [("Maria Keller", "operator"), ("Screen in hall 2", "viewer")] {
        assert_eq!(operator.post("/access", &[("name", name), ("role", role)]).status, 200);
    }
    lived(fleet, "scratch-detector", &mut presses, 7, head);
    AGO_MS.store(9 * DAY_MS, Ordering::Relaxed);
    lived(fleet, "pump-sounds", &mut pumps, 2, lora);
    AGO_MS.store(DAY_MS + 20 * 60 * MINUTE_MS, Ordering::Relaxed);
    staged(fleet, &mut presses);
    AGO_MS.store(5 * 60 * MINUTE_MS, Ordering::Relaxed);

    // What goes wrong: a damaged delta, one half-way, a guess, a device that was stolen.
    let mut damaged = head(3, 0.9, Some(8), &presses[3].key);
    *damaged.last_mut().unwrap() ^= 1;
    assert_eq!(presses[3].push("scratch-detector", &damaged).status, 422);
    later(30 * MINUTE_MS);
    let large = head(5, 0.9, Some(8), &presses[5].key);
    assert_eq!(presses[5].begin("scratch-detector", &large).status, 200);
    Reader::new(&fleet.address).sign_in("guess");
    later(40 * MINUTE_MS);
    let stolen = Hex(presses[11].key.public());
    let mut operator = Reader::new(&fleet.address);
    operator.sign_in(&fleet.operator);
    assert_eq!(operator.post(&format!("/devices/{stolen}/revoke"), &[]).status, 303);
    AGO_MS.store(0, Ordering::Relaxed);
}

/// Every page, on a phone and on a desk, light and dark: no error, nothing too wide, nothing that axe-core finds.
#[test]
fn a_browser_finds_nothing_wrong() {
    let Some(python) = std::env::var_os("EDGETUNE_FLEET_BROWSER") else {
        eprintln!("left out: EDGETUNE_FLEET_BROWSER names no Python with playwright (see .ci/run)");
        return;
    };
    let (empty, full) = (Fleet::start(), Fleet::start());
    seeded(&full);
    let pictures =
        std::env::var_os("EDGETUNE_FLEET_PICTURES").unwrap_or_else(|| full.folder.path().join("pictures").into());
    for (fleet, name) in [(&empty, "empty"), (&full, "full")] {
        let walked = Command::new(&python)
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fleet/browser"))
            .args([&format!("http://{}", fleet.address), name])
            .arg(&pictures)
            .env("EDGETUNE_FLEET_TOKEN", &fleet.operator)
            .status()
            .unwrap();
        assert!(walked.success(), "on the {name} server");
    }
}
