//! What must not get in: refused, logged, and nothing of it stored.

use super::client::{Device, raw, request};
use super::server::{Server, unique};
use super::*;
use edgetune::sync::wire::{Consent, Enrol, Hex, Release, Signed, UploadState};

/// Pushes a delta that must not count, and looks at what is left of it.
#[track_caller]
fn refused(server: &Server, device: &mut Device, channel: &str, delta: &[u8], why: &str) {
    let answer = device.push(channel, delta);
    let detail = String::from_utf8_lossy(&answer.body).into_owned();
    assert_eq!(answer.problem(), (422, "delta".into()), "{detail}");
    assert!(detail.contains(why), "refused for another reason: {detail}");
    assert_eq!(server.channel_row(channel)["deltas"], 0, "{why}");
    assert_eq!(server.stored(), 0, "{why}: something was stored");
    assert!(server.audit().contains(why), "not in the audit log: {why}");
    // It is not tried again, whoever asks.
    assert_eq!(device.push(channel, delta).problem(), (422, "delta".into()));
}

#[test]
fn deltas_that_lie_are_refused() {
    let server = Server::start();
    let (name, mut device) = (server.channel("mean"), server.device(2));
    let stranger = KeyPair::from_secret(&[99; 32]);
    let good = |seed| plain_delta(seed, 1, &device.key);

    let mut tampered = good(1);
    *tampered.last_mut().unwrap() ^= 1;
    let (header_byte, payload_cut, followed) = {
        let mut changed = good(2);
        changed[40] ^= 1;
        (changed, good(3)[..1000].to_vec(), [good(4), vec![0; 3]].concat())
    };
    let with = |change: fn(&mut Header<'_>), seed| {
        let mut header = header();
        change(&mut header);
        delta_of(&header, &noise(seed, 640), &device.key)
    };
    let (base, future) = (with(|h| h.base = [8; 32], 5), with(|h| h.round = Some(2), 6));
    let (form, empty) = (with(|h| h.loss = "mse", 7), with(|h| h.samples = 0, 8));
    let unsigned = {
        let payload = encode(&noise(9, 640), Encoding::Fp16).unwrap();
        let tensors = [TensorValues { name: "fc.weight", shape: &[64, 10], payload: &payload }];
        delta::write(&header(), &[], &tensors).unwrap()
    };
    let shape = sign(&unsigned, &device.key).unwrap();
    let huge = delta_of(&header(), &vec![60_000.0; 640], &device.key);
    let method = lora_delta(&device.key);
    let cases: [(&[u8], &str); 13] = [
        (&plain_delta(1, 1, &stranger), "signed by another key"),
        (&unsigned, "is not signed"),
        (&tampered, "damaged or cut off"),
        (&header_byte, "checksum differs"),
        (&payload_cut, "another length"),
        (&followed, "another length"),
        (&base, "another base"),
        (&future, "belongs to round 2"),
        (&form, "another loss"),
        (&empty, "learned from no sample"),
        (&shape, "another list of"),
        (&method, "another method"),
        (&huge, "norm is"),
    ];
    for (delta, why) in cases {
        refused(&server, &mut device, &name, delta, why);
    }
    refused(&server, &mut device, &name, b"PK\x03\x04 an archive", "does not begin with EDLT");
}

/// NaN cannot be written by our writer, so it is put into the bytes, and everything above it is made right again.
#[test]
fn values_that_are_not_finite_are_refused() {
    let server = Server::start();
    let (name, mut device) = (server.channel("mean"), server.device(2));
    for bits in [0x7e00u16, 0x7c00, 0xfc00] {
        let mut payload = encode(&noise(u64::from(bits), 640), Encoding::Fp16).unwrap();
        // Raw, so that a value is two bytes; a reader takes either packing.
        payload.packing = delta::Packing::Raw;
        payload.bytes =
            noise(u64::from(bits), 640).iter().flat_map(|v| delta::f16::from_f32(*v).to_le_bytes()).collect();
        let bias = encode(&noise(1, 10), Encoding::Fp16).unwrap();
        let tensors = [
            TensorValues { name: "fc.weight", shape: &[64, 10], payload: &payload },
            TensorValues { name: "fc.bias", shape: &[10], payload: &bias },
        ];
        let labels = [Label { name: "cat", samples: 3 }, Label { name: "dog", samples: 4 }];
        let honest = delta::write(&header(), &labels, &tensors).unwrap();
        let forged = forged(&honest, &payload.bytes, bits, &device.key);
        refused(&server, &mut device, &name, &forged, "infinite value or NaN");
    }
}

/// The delta with the first value of `payload` replaced, and hash, identity and signature made anew by the format's own rules.
fn forged(delta: &[u8], payload: &[u8], bits: u16, key: &KeyPair) -> Vec<u8> {
    let mut bytes = delta.to_vec();
    let at = bytes.windows(payload.len()).rposition(|window| window == payload).unwrap();
    bytes[at..at + 2].copy_from_slice(&bits.to_le_bytes());
    let changed = bytes[at..at + payload.len()].to_vec();
    let (old, new) = (blake3::hash(payload), blake3::hash(&changed));
    let place = bytes.windows(32).position(|window| window == old.as_bytes()).unwrap();
    bytes[place..place + 32].copy_from_slice(new.as_bytes());
    let end = 12 + u32::from_le_bytes(bytes[8..12].try_into().unwrap()) as usize;
    let identity: [u8; 32] = blake3::Hasher::new().update(&bytes[..6]).update(&bytes[8..end]).finalize().into();
    let rest = bytes.split_off(end + 32);
    bytes.truncate(end);
    bytes[6..8].copy_from_slice(&1u16.to_le_bytes());
    let secret = ed25519_dalek::SigningKey::from_pkcs8_pem(&key.to_pem().unwrap()).unwrap();
    let message = [b"edgetune delta 1".as_slice(), &identity].concat();
    bytes.extend(identity);
    bytes.extend(key.public());
    bytes.extend(secret.sign(&message).to_bytes());
    bytes.extend(rest);
    bytes
}

use ed25519_dalek::Signer;
use ed25519_dalek::pkcs8::DecodePrivateKey;

/// Few bytes that stand for many values.
#[test]
fn bombs_are_refused_before_they_go_off() {
    let server = Server::start();
    let (name, mut device) = (server.channel("mean"), server.device(2));
    let payload = encode(&vec![0.0; 1 << 22], Encoding::Sparse { count: 1 }).unwrap();
    let tensors = [TensorValues { name: "fc.weight", shape: &[1 << 11, 1 << 11], payload: &payload }];
    let sparse = sign(&delta::write(&header(), &[], &tensors).unwrap(), &device.key).unwrap();
    assert!(sparse.len() < 1000, "{}", sparse.len());
    refused(&server, &mut device, &name, &sparse, "another list of");
    let body =
        serde_json::to_vec(&serde_json::json!({ "channel": name, "hash": "00".repeat(32), "length": 1u64 << 40 }));
    assert_eq!(device.ask("POST", "/v1/uploads", &body.unwrap()).problem(), (413, "too-long".into()));
    let packed = device.ask_with("POST", "/v1/uploads", &[("content-encoding", "gzip")], b"\x1f\x8b\x08");
    assert_eq!(packed.problem(), (415, "encoding".into()));
    let text = String::from_utf8(request("POST", "/v1/uploads", &[], b"")).unwrap();
    let long = text.replace("content-length: 0", "content-length: 99999999999");
    assert_eq!(raw(&server.address, long.as_bytes()).problem(), (413, "too-long".into()));
    let chunked = text.replace("content-length: 0", "transfer-encoding: chunked");
    assert_eq!(raw(&server.address, chunked.as_bytes()).problem(), (411, "length".into()));
    assert_eq!(server.stored(), 0);
}

#[test]
fn requests_that_lie_are_refused() {
    let server = Server::start();
    let (name, mut device, mut other) = (server.channel("mean"), server.device(2), server.device(3));
    let target = format!("/v1/releases/{name}");
    let send = |method: &str, target: &str, signed: &Signed, body: &[u8]| {
        let header = signed.to_string();
        raw(&server.address, &request(method, target, &[("authorization", &header)], body))
    };
    let once = device.signed("GET", &target, b"");
    assert_eq!(send("GET", &target, &once, b"").status, 200);
    assert_eq!(send("GET", &target, &once, b"").problem(), (401, "time".into()), "a replay");
    let elsewhere = device.signed("GET", &target, b"");
    assert_eq!(send("GET", "/v1/releases/other", &elsewhere, b"").problem(), (401, "identity".into()));
    let another = Signed { key: Hex(other.key.public()), ..device.signed("GET", &target, b"") };
    assert_eq!(send("GET", &target, &another, b"").problem(), (401, "identity".into()));
    let begun =
        serde_json::to_vec(&serde_json::json!({ "channel": name, "hash": "00".repeat(32), "length": 5 })).unwrap();
    let exchanged = device.signed("POST", "/v1/uploads", &begun);
    let tampered = String::from_utf8(begun).unwrap().replace(":5", ":6").into_bytes();
    assert_eq!(send("POST", "/v1/uploads", &exchanged, &tampered).problem(), (401, "identity".into()));
    assert_eq!(raw(&server.address, &request("GET", &target, &[], b"")).problem(), (401, "identity".into()));

    let delta = plain_delta(1, 1, &device.key);
    let state: UploadState = device.begin(&name, &delta).json();
    let upload = format!("/v1/uploads/{}", state.hash);
    assert_eq!(other.ask("GET", &upload, b"").problem(), (404, "not-found".into()), "another device's upload");
    assert_eq!(other.ask("PUT", &format!("{upload}/0"), &delta).problem(), (404, "not-found".into()));
    let mut stranger = Device::new(&server.address, 77);
    stranger.fleet = device.fleet.clone();
    assert_eq!(stranger.ask("GET", &target, b"").problem(), (401, "identity".into()));
    assert_eq!(stranger.enrol("guess", "x").problem(), (401, "identity".into()));
    assert_eq!(server.stored(), 0);
    let log = server.audit();
    for why in ["time does not count", "not this key's", "not the one that was signed", "not enrolled", "token is none"]
    {
        assert!(log.contains(why), "not in the audit log: {why}");
    }
}

/// A token is one device's; its enrolment sent again neither moves its clock back nor shuts a later key out.
#[test]
fn tokens_are_used_once() {
    let server = Server::start();
    let (token, name) = (server.token(), unique("device"));
    let mut first = Device::new(&server.address, 0);
    first.key = KeyPair::from_secret(blake3::hash(name.as_bytes()).as_bytes());
    let body = format!(r#"{{"token":"{token}","name":"{name}"}}"#);
    let signed = first.signed("POST", "/v1/enrol", body.as_bytes()).to_string();
    let recorded = request("POST", "/v1/enrol", &[("authorization", &signed)], body.as_bytes());
    let enrolled: edgetune::sync::wire::Enrolled = raw(&server.address, &recorded).json();
    first.fleet = enrolled.fleet;
    let used = first.signed("GET", "/v1/releases/none", b"").to_string();
    let used = request("GET", "/v1/releases/none", &[("authorization", &used)], b"");
    assert_eq!(raw(&server.address, &used).status, 404);
    assert_eq!(raw(&server.address, &recorded).status, 200, "the answer may have been lost");
    assert_eq!(raw(&server.address, &used).problem(), (401, "time".into()), "no clock goes back");
    let mut thief = Device::new(&server.address, 0);
    thief.key = KeyPair::from_secret(blake3::hash(token.as_bytes()).as_bytes());
    assert_eq!(thief.enrol(&token, "thief").problem(), (401, "identity".into()));
    let mut second = server.device(5);
    assert_eq!(second.enrol_as(&replacing(&server.token_for(&name), &name)).status, 200);
    assert_eq!(raw(&server.address, &recorded).problem(), (401, "identity".into()));
    assert_eq!(second.ask("GET", "/v1/releases/none", b"").status, 404, "the later key is still in");
}

fn replacing(token: &str, name: &str) -> Enrol {
    Enrol { token: token.into(), name: name.into(), replace: true, consent: None }
}

/// Two hosts called `raspberrypi` do not shut each other out, whatever token they have; the owner of the name, and an operator who
/// means it, decide who has it next.
#[test]
fn no_token_takes_another_devices_name() {
    let server = Server::start();
    let (name, channel) = (unique("raspberrypi"), server.channel("mean"));
    let mut first = server.device(2);
    assert_eq!(first.enrol(&server.token(), &name).status, 200);
    assert_eq!(first.push(&channel, &plain_delta(1, 1, &first.key)).status, 200);
    let mut second = server.device(3);
    let token = server.token();
    let taken = second.enrol(&token, &name);
    assert_eq!(taken.problem(), (409, "name".into()));
    assert!(taken.text().contains("setting `replace`"), "{}", taken.text());
    let unasked = second.enrol_as(&replacing(&token, &name));
    assert_eq!(unasked.problem(), (409, "name".into()));
    assert!(unasked.text().contains("ask an operator for a token of that name"), "{}", unasked.text());
    // A word that another key has given, or that was given to another, is none.
    let by = |giver: &KeyPair, new: &KeyPair| Some(Consent::sign(giver, Hex(new.public()), &token, &name));
    for consent in [by(&second.key, &second.key), by(&first.key, &first.key)] {
        let answer = second.enrol_as(&Enrol { consent, ..replacing(&token, &name) });
        assert_eq!(answer.problem(), (409, "name".into()));
    }
    let elsewhere = second.enrol_as(&replacing(&server.token_for(&unique("elsewhere")), &name));
    assert!(elsewhere.problem() == (409, "name".into()) && elsewhere.text().contains("was made for the device"));
    assert_eq!(first.ask("GET", &format!("/v1/releases/{channel}"), b"").status, 200, "it is still in");
    assert_eq!(server.channel_row(&channel)["deltas"], 1);
    // None of it has used the token up: the first device hands its name over, and what it has sent goes with its key.
    let consent = Some(Consent::sign(&first.key, Hex(second.key.public()), &token, &name));
    assert_eq!(second.enrol_as(&Enrol { consent, ..replacing(&token, &name) }).status, 200);
    assert_eq!(first.ask("GET", &format!("/v1/releases/{channel}"), b"").problem(), (401, "identity".into()));
    assert_eq!(server.channel_row(&channel)["deltas"], 0, "what the key that was replaced has sent counts no more");
    assert!(server.audit().contains("replaced"));
    let mut third = server.device(4);
    assert_eq!(third.enrol_as(&replacing(&server.token_for(&name), &name)).status, 200);
    assert_eq!(second.ask("GET", &format!("/v1/releases/{channel}"), b"").problem(), (401, "identity".into()));
}

/// What one device has learned, sent by another under its own key, is refused at the door: a round has room for one of them.
#[test]
fn a_delta_counts_for_one_device() {
    let server = Server::start();
    let (channel, mut first, mut second) = (server.channel("mean"), server.device(2), server.device(3));
    let name = unique("first");
    assert_eq!(first.enrol(&server.token(), &name).status, 200);
    assert_eq!(first.push(&channel, &plain_delta(1, 1, &first.key)).status, 200);
    let stolen = plain_delta(1, 1, &second.key);
    let stored = server.stored();
    let answer = second.push(&channel, &stolen);
    assert_eq!(answer.problem(), (409, "twice".into()));
    assert!(answer.text().contains(&name), "{}", answer.text());
    assert_eq!((server.stored(), server.channel_row(&channel)["deltas"].as_u64()), (stored, Some(1)));
    assert!(server.audit().contains("counts in the round already"));
    assert_eq!(second.push(&channel, &stolen).problem(), (422, "delta".into()), "it is not looked at again");
    // Its own counts, and the round can be closed.
    assert_eq!(second.push(&channel, &plain_delta(2, 1, &second.key)).status, 200);
    assert_eq!(server.turn(&channel)["version"], 2);
}

/// One device that says it has learned from a thousand samples where the others say seven moves the mean by no more than four of them.
#[test]
fn a_devices_word_weighs_four_others_at_most() {
    let server = Server::start();
    let channel = server.channel("mean");
    let mut devices: Vec<Device> = (2..12).map(|seed| server.device(seed)).collect();
    for (place, device) in devices.iter_mut().enumerate() {
        let (value, samples) = if place == 0 { (1.0, 1000) } else { (place as f32 / 1024.0, 7) };
        let header = Header { round: Some(1), samples, ..header() };
        assert_eq!(device.push(&channel, &delta_of(&header, &vec![value; 640], &device.key)).status, 200);
    }
    assert_eq!(server.turn(&channel)["version"], 2);
    let release: Release = devices[0].ask("GET", &format!("/v1/releases/{channel}"), b"").json();
    let adapter = devices[0].ask("GET", &format!("/v1/adapters/{}", release.adapter), b"").body;
    let mean = delta::Delta::parse(&adapter).unwrap().tensor("fc.weight").unwrap().values().next().unwrap();
    let expected = (28.0 + 7.0 * 45.0 / 1024.0) / (28.0 + 63.0);
    assert!((f64::from(mean) - expected).abs() < 1e-3, "{mean}, expected {expected}");
}

/// Every text that a request can hold, with what is dangerous elsewhere: it is refused or kept as a text, never acted upon.
#[test]
fn texts_are_texts() {
    let server = Server::start();
    let (channel, mut device) = (server.channel("mean"), server.device(2));
    let evil =
        ["'; DROP TABLE devices; --", "<script>alert(1)</script>", "../../etc/passwd", "a\u{0}b", "%00", "${jndi:x}"];
    for (index, text) in evil.into_iter().enumerate() {
        let quoted = serde_json::to_string(text).unwrap();
        let path: String = text.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let upload = format!(r#"{{"channel":{quoted},"hash":"{}","length":5}}"#, "0".repeat(64));
        let report = format!(r#"{{"channel":{quoted},"version":1,"verdict":"failed","accuracy":null}}"#);
        let answers = [
            device.ask("POST", "/v1/uploads", upload.as_bytes()),
            device.ask("POST", "/v1/reports", report.as_bytes()),
            device.ask("GET", &format!("/v1/releases/{path}"), b""),
            device.ask("GET", &format!("/v1/adapters/{path}"), b""),
            device.ask("GET", &format!("/v1/uploads/{path}"), b""),
            device.ask("PUT", &format!("/v1/uploads/{path}/{path}"), b"x"),
            server.operator("DELETE", &format!("/v1/admin/devices/{path}"), b""),
            server.operator("POST", &format!("/v1/admin/channels/{path}/close"), b""),
            server.operator("POST", &format!("/v1/admin/channels/x?rule={path}"), b""),
        ];
        for answer in answers {
            assert!((400..500).contains(&answer.status), "{text}: {answer:?}");
        }
        assert!(server.operator("GET", &format!("/v1/admin/devices?after={path}"), b"").status < 500);
        let mut named = server.device(10 + index as u8);
        let is_plain = !text.contains('\0');
        assert_eq!(named.enrol(&server.token(), text).status, if is_plain { 200 } else { 400 }, "{text}");
    }
    assert_eq!(server.stored(), 0);
    assert_eq!(server.channel_row(&channel)["version"], 1);
    for body in ["", "{", "[]", "null", r#"{"channel":"x","hash":"00","length":5}"#, r#"{"more":1}"#, "\u{feff}{}"] {
        assert_eq!(device.ask("POST", "/v1/uploads", body.as_bytes()).problem(), (400, "form".into()), "{body}");
    }
}

#[test]
fn an_address_that_asks_too_often_waits() {
    let server = Server::with(&["--insecure-http", "--requests-per-s", "5"]);
    let get = || raw(&server.address, &request("GET", "/openapi.json", &[], b""));
    let answers: Vec<_> = (0..12).map(|_| get()).collect();
    assert_eq!(answers[0].status, 200);
    let last = answers.last().unwrap();
    assert_eq!(last.problem(), (429, "too-many".into()));
    assert_eq!(last.header("retry-after"), Some("1"));
    assert_eq!(raw(&server.address, &request("GET", "/healthz", &[], b"")).status, 200);
}

#[test]
fn operators_have_a_token() {
    let server = Server::start();
    for target in ["/v1/admin/devices", "/v1/admin/channels", "/v1/admin/audit"] {
        for header in [None, Some("Bearer "), Some("Bearer 00"), Some("Basic b3A6b3A=")] {
            let headers: Vec<_> = header.map(|value| ("authorization", value)).into_iter().collect();
            assert_eq!(
                raw(&server.address, &request("GET", target, &headers, b"")).problem(),
                (401, "identity".into())
            );
        }
    }
    let mut device = server.device(2);
    assert_eq!(device.ask("GET", "/v1/admin/devices", b"").problem(), (401, "identity".into()));
}
