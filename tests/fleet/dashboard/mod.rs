//! The pages, asked for as a browser does: who gets in, what they may do, and that a text stays a text.

mod browser;
pub mod reader;
mod rollout;

use super::client::{raw, request};
use super::server::{AT_ONCE, Server, over_tls, unique};
use super::*;
use edgetune::sync::wire::Hex;
use reader::{OURS, Reader};
use std::collections::BTreeSet;

#[test]
fn nobody_sees_anything_without_signing_in() {
    let server = Server::start();
    let mut reader = Reader::new(&server.address);
    assert_eq!(reader.get("/").header("location"), Some("/sign-in"));
    for path in ["/devices", "/devices/0", "/channels/x", "/channels/x/compare?a=1", "/audit", "/access"] {
        let answer = reader.get(path);
        assert_eq!(answer.status, 303, "{path}");
        assert!(answer.header("location").unwrap().starts_with("/sign-in?to=%2F"), "{path}");
    }
    let refused = reader.sign_in("guess");
    assert_eq!(refused.status, 403);
    assert!(refused.text().contains("This token is none"), "{}", refused.text());
    assert!(server.audit().contains("sign-in refused"));
    assert_eq!(reader.get("/").status, 303);

    let answer = reader.sign_in(&server.operator_token());
    assert_eq!((answer.status, answer.header("location")), (303, Some("/")));
    let cookie = answer.header("set-cookie").unwrap();
    for flag in ["HttpOnly", "SameSite=Strict", "Path=/", "Max-Age=43200"] {
        assert!(cookie.contains(flag), "{cookie}");
    }
    assert!(reader.get("/").text().contains("<h1>Overview</h1>"));
    assert_eq!(reader.get("/sign-in?to=%2Faudit").header("location"), Some("/audit"), "who is in goes on");
    let (kept, signed_out) = (reader.cookies.clone(), reader.post("/sign-out", &[]));
    assert_eq!(signed_out.header("location"), Some("/sign-in"));
    reader.cookies = kept;
    assert_eq!(reader.get("/").status, 303, "the session is over, whoever kept its cookie");
}

/// Who was going somewhere comes there after signing in, and nowhere else.
#[test]
fn signing_in_leads_to_the_page_that_was_asked_for() {
    let server = Server::start();
    let mut reader = Reader::new(&server.address);
    let asked = reader.get("/audit?who=operator").header("location").unwrap().to_owned();
    let form = reader.get(&asked).text();
    assert!(form.contains("name=\"to\" value=\"/audit?who=operator\""), "{form}");
    let token = server.operator_token();
    let answer = reader.post("/sign-in", &[("secret", &token), ("to", "/audit?who=operator")]);
    assert_eq!((answer.status, answer.header("location")), (303, Some("/audit?who=operator")));
    let mut reader = Reader::new(&server.address);
    let answer = reader.post("/sign-in", &[("secret", &token), ("to", "//evil.example")]);
    assert_eq!((answer.status, answer.header("location")), (303, Some("/")));
}

/// Sessions are in the database: they outlive the process, and replicas share them.
#[test]
fn a_session_outlives_the_server() {
    let mut server = Server::start();
    let mut reader = server.reader();
    server.kill_and_restart();
    reader.address = server.address.clone();
    assert_eq!(reader.get("/").status, 200);
    if std::env::var_os("EDGETUNE_FLEET_DATABASE").is_some() {
        reader.address = Server::start().address.clone();
        let replica = Server::start();
        reader.address = replica.address.clone();
        assert_eq!(reader.get("/").status, 200);
    }
}

#[test]
fn under_tls_the_cookie_is_bound_to_it() {
    let server = Server::with(&[]);
    let certificate = std::fs::read_to_string(server.folder.path().join("tls.crt")).unwrap();
    let port = server.address.split_once(':').unwrap().1.parse().unwrap();
    let answer = over_tls(&certificate, port, &request("GET", "/sign-in", &[], b""));
    let cookie = answer.header("set-cookie").unwrap();
    assert!(cookie.starts_with("__Host-sign-in=") && cookie.ends_with("; Secure"), "{cookie}");
}

#[test]
fn guesses_are_held_back() {
    let server = Server::start();
    let mut reader = Reader::new(&server.address);
    let answers: Vec<_> = (0..12).map(|_| reader.sign_in("guess")).collect();
    assert_eq!((answers[0].status, answers[11].status), (403, 429));
    assert!(answers[11].header("retry-after").unwrap().parse::<u64>().unwrap() > 0);
    assert_eq!(reader.sign_in(&server.operator_token()).status, 429, "the right one waits, too");
}

/// Whoever asks too often is told so as a page.
#[test]
fn too_many_requests_are_told_to_people() {
    let server = Server::with(&["--insecure-http", "--requests-per-s", "2"]);
    let mut reader = Reader::new(&server.address);
    let answers: Vec<_> = (0..8).map(|_| reader.get("/sign-in")).collect();
    assert_eq!((answers[0].status, answers[7].status), (200, 429));
    assert!(answers[7].text().contains("Too many attempts") && answers[7].header("retry-after") == Some("1"));
}

/// Viewers see, operators act.
#[test]
fn roles_are_kept() {
    let server = Server::start();
    let (name, mut operator) = (server.channel("mean"), server.reader());
    let device = server.device(2);
    let device = Hex(device.key.public()).to_string();
    let who = unique("anna");
    let made = operator.post("/access", &[("name", &who), ("role", "viewer")]);
    let token = shown_secret(&made.text());
    let mut viewer = Reader::new(&server.address);
    assert_eq!(viewer.sign_in(&token).status, 303);
    let pages = ["/".to_owned(), "/devices".into(), format!("/devices/{device}"), format!("/channels/{name}")];
    for page in pages.iter().map(String::as_str).chain(["/audit"]) {
        let answer = viewer.get(page);
        assert_eq!(answer.status, 200, "{page}");
        for act in ["/revoke\"", "/close\"", "/devices/enrol\"", "href=\"/access\""] {
            assert!(!answer.text().contains(act), "{page} offers {act} to a viewer");
        }
    }
    assert_eq!(viewer.get("/access").status, 403);
    let acts = [
        format!("/devices/{device}/revoke"),
        format!("/channels/{name}/close"),
        "/devices/enrol".into(),
        "/access".into(),
    ];
    for act in &acts {
        assert_eq!(viewer.post(act, &[("round", "1"), ("name", "x"), ("role", "operator")]).status, 403, "{act}");
    }
    let log = server.audit();
    assert!(log.contains("Viewers see, operators act") && log.contains("operators also who sees it"));
    assert!(log.contains(&format!("access {who}")));
    assert!(server.device_row(&device)["revoked_ms"].is_null());
    assert_eq!(server.channel_row(&name)["state"], "open");

    let listed = operator.get("/access").text();
    let row = listed.split_once(&who).unwrap().1;
    let id = row.split_once("name=\"id\" value=\"").unwrap().1[..32].to_owned();
    assert!(listed.contains(&who) && !listed.contains(&token), "secrets are shown once");
    assert_eq!(operator.post("/access/revoke", &[("id", &id)]).status, 303);
    assert_eq!(viewer.get("/").status, 303, "signed out at once");
    assert_eq!(viewer.sign_in(&token).status, 403);
    assert_eq!(operator.post("/access/revoke", &[("id", &id)]).status, 404);
}

/// What operators do by a form is done, and in the log under their name.
#[test]
fn operators_act() {
    let server = Server::start();
    let (name, mut operator) = (server.channel("mean"), server.reader());
    let mut device = server.device(2);
    assert_eq!(device.push(&name, &plain_delta(1, 1, &device.key)).status, 200);
    let channel = operator.get(&format!("/channels/{name}")).text();
    assert!(channel.contains("1 delta counts so far."), "{channel}");
    assert_eq!(operator.post(&format!("/channels/{name}/close"), &[("round", "1")]).status, 303);
    server.until(&name, |row| row["version"] == 2);
    assert_eq!(operator.post(&format!("/channels/{name}/close"), &[("round", "1")]).status, 409, "a form of round 1");
    let made = operator.post("/devices/enrol", &[]).text();
    let token = shown_secret(&made);
    let mut other = client::Device::new(&server.address, 0);
    other.key = KeyPair::from_secret(blake3::hash(token.as_bytes()).as_bytes());
    assert_eq!(other.enrol(&token, &unique("by form")).status, 200);

    let key = Hex(device.key.public());
    let answer = operator.post(&format!("/devices/{key}/revoke"), &[]);
    assert_eq!(answer.header("location"), Some(format!("/devices/{key}").as_str()));
    assert!(operator.get(&format!("/devices/{key}")).text().contains("A revoked key stays out."));
    assert_eq!(device.ask("GET", &format!("/v1/releases/{name}"), b"").status, 401);
    let log = server.audit();
    assert!(log.contains("round closed") && log.contains("signed in") && log.contains(&key.to_string()));
}

/// A form that is not of this session's pages does nothing, whatever cookies come with it.
#[test]
fn forms_of_others_are_refused() {
    let server = Server::start();
    let (mut operator, device) = (server.reader(), server.device(2));
    let act = format!("/devices/{}/revoke", Hex(device.key.public()));
    let token = operator.form_token();
    let another = server.reader().form_token();
    let good = format!("token={token}");
    let cases: [(&[(&str, &str)], &str); 7] = [
        (&[], &good),
        (&[("origin", "http://evil.example")], &good),
        (&[("origin", "null")], &good),
        (&[("sec-fetch-site", "cross-site"), ("origin", "http://localhost")], &good),
        (&[("sec-fetch-site", "same-site")], &good),
        (OURS, ""),
        (OURS, &format!("token={another}")),
    ];
    for (headers, body) in cases {
        assert_eq!(operator.send("POST", &act, headers, body).status, 403, "{headers:?} {body}");
    }
    assert!(server.device_row(&Hex(device.key.public()).to_string())["revoked_ms"].is_null());
    let log = server.audit();
    assert!(log.contains("a page of somebody else") && log.contains("not one of this session"), "{log}");
    let mut stranger = Reader::new(&server.address);
    assert_eq!(stranger.send("POST", "/sign-in", OURS, "secret=x").status, 403, "no form was opened");
    assert_eq!(operator.send("POST", &act, OURS, &format!("token={token}&x={}", "y".repeat(20_000))).status, 400);
    assert_eq!(operator.send("POST", &act, OURS, &good).status, 303);
}

/// Every text that somebody else chooses, with what is dangerous on a page and in a query.
#[test]
fn names_are_shown_as_they_are() {
    let server = Server::start();
    let mut operator = server.reader();
    const EVIL: &str = r#"<img src=x onerror=alert(1)>"'&{{7}}"#;
    let tag = unique("");
    // A channel's name has letters, digits and little else.
    let (device_name, channel, who) = (format!("{EVIL}{}", &tag[..9]), unique("channel"), format!("{EVIL} a"));
    let first = {
        let payload = encode(&noise(1, 640), Encoding::Fp16).unwrap();
        let tensors = [TensorValues { name: EVIL, shape: &[64, 10], payload: &payload }];
        let labels = [Label { name: EVIL, samples: 3 }, Label { name: "dog", samples: 4 }];
        sign(&delta::write(&header(), &labels, &tensors).unwrap(), &KeyPair::from_secret(&[1; 32])).unwrap()
    };
    let evil: String = EVIL.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let refused = server.operator("POST", &format!("/v1/admin/channels/{evil}?rule=mean&{AT_ONCE}"), &first);
    assert_eq!(refused.status, 400);
    let target = format!("/v1/admin/channels/{channel}?rule=mean&{AT_ONCE}");
    assert_eq!(server.operator("POST", &target, &first).status, 200);
    let mut device = server.device(2);
    assert_eq!(device.enrol(&server.token(), &device_name).status, 200);
    let sent = resigned(&first, &device.key);
    assert_eq!(device.push(&channel, &sent).status, 200);
    server.turn(&channel);
    let report = serde_json::json!({ "channel": channel, "version": 2, "verdict": "failed", "accuracy": [0.5, 0.25] });
    assert_eq!(device.ask("POST", "/v1/reports", report.to_string().as_bytes()).status, 204);
    operator.post("/access", &[("name", &who), ("role", "viewer")]);

    let key = Hex(device.key.public()).to_string();
    let escaped = EVIL.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;");
    let shown = [
        format!("/devices?name={}", &tag[..9]),
        format!("/devices/{key}"),
        format!("/channels/{channel}/compare"),
        format!("/audit?who={key}"),
        "/access".into(),
    ];
    let reflected = [
        "/".to_owned(),
        format!("/channels/{channel}"),
        format!("/devices?name={evil}&after={evil}"),
        format!("/audit?who={evil}&before={evil}"),
        format!("/channels/{channel}?releases={evil}&sent={evil}"),
        format!("/channels/{channel}/compare?from={evil}&to=2"),
        "/audit?who=%27%3B%20DROP%20TABLE%20audit%3B%20--&before=1-%27".into(),
        "/devices?name=%25_!%27%00&after=%27".into(),
        format!("/{evil}"),
        format!("/channels/{channel}{evil}"),
        format!("/devices/{evil}"),
    ];
    for (path, is_shown) in shown.iter().map(|path| (path, true)).chain(reflected.iter().map(|path| (path, false))) {
        let answer = operator.get(path);
        let text = answer.text();
        assert!(answer.status < 500, "{path}: {}", answer.status);
        assert!(!text.contains("<img"), "{path}: {text}");
        assert!(!is_shown || text.contains(&escaped), "{path} does not show it: {text}");
    }
    let close = operator.post(&format!("/channels/{channel}/close"), &[("round", "2")]).text();
    assert!(close.contains("no delta to combine") && !close.contains("<img"), "{close}");
    for name in ["", "  ", "a\u{0}b", "a\nb", &"x".repeat(65)] {
        assert_eq!(operator.post("/access", &[("name", name), ("role", "viewer")]).status, 400, "{name:?}");
    }
    assert_eq!(operator.post("/access", &[("name", "x"), ("role", "admin")]).status, 400);
}

/// The delta with its signature replaced by this key's.
fn resigned(delta: &[u8], key: &KeyPair) -> Vec<u8> {
    let delta = edgetune::delta::Delta::parse(delta).unwrap();
    let round = Header { round: Some(1), ..delta.header().clone() };
    let labels: Vec<_> = delta.labels().collect();
    let payloads: Vec<_> = delta.tensors().map(|tensor| delta::Payload::from_view(&tensor)).collect();
    let tensors = delta.tensors().collect::<Vec<_>>();
    let tensors: Vec<_> = tensors
        .iter()
        .zip(&payloads)
        .map(|(tensor, payload)| TensorValues { name: tensor.entry.name, shape: &tensor.entry.shape, payload })
        .collect();
    sign(&delta::write(&round, &labels, &tensors).unwrap(), key).unwrap()
}

/// Lists go on where they ended, and hold everything once.
#[test]
fn lists_come_a_page_at_a_time() {
    let server = Server::start();
    let tag = unique("page");
    let made = server.reader().post("/access", &[("name", &tag), ("role", "operator")]).text();
    let mut operator = Reader::new(&server.address);
    operator.sign_in(&shown_secret(&made));
    let (mut expected, mut device) = (BTreeSet::new(), server.device(1));
    for index in 0..103u8 {
        device.key = KeyPair::from_secret(blake3::hash(format!("{tag}{index}").as_bytes()).as_bytes());
        let (name, made) = (format!("{tag} {index}"), operator.post("/devices/enrol", &[]).text());
        assert_eq!(device.enrol(&shown_secret(&made), &name).status, 200);
        expected.insert(name);
    }
    let mut found = Vec::new();
    let mut path = format!("/devices?name={tag}");
    loop {
        let text = operator.get(&path).text();
        let rows: Vec<String> = text
            .split("role=\"rowheader\"><a href=\"/devices/")
            .skip(1)
            .map(|rest| rest[66..].split('<').next().unwrap().to_owned())
            .collect();
        assert!(rows.len() <= 50 && !rows.is_empty());
        found.extend(rows);
        let Some((before, _)) = text.split_once("\" rel=\"next\"") else { break };
        path = before.rsplit_once("href=\"").unwrap().1.replace("&amp;", "&");
    }
    assert_eq!(found.len(), 103);
    assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), expected);

    // 103 tokens and one signing in.
    let (mut lines, mut path) = (0, format!("/audit?who=access%20{tag}"));
    loop {
        let text = operator.get(&path).text();
        lines += text.split("<tbody").nth(1).unwrap().matches("<tr role").count();
        let Some((before, _)) = text.split_once("\" rel=\"next\"") else { break };
        path = before.rsplit_once("href=\"").unwrap().1.replace("&amp;", "&");
    }
    assert_eq!(lines, 104);
}

/// What a page shows once.
pub fn shown_secret(page: &str) -> String {
    page.split_once("readonly value=\"").unwrap().1.split('"').next().unwrap().to_owned()
}

/// The numbers of a comparison, beside the same computed plainly.
#[test]
fn releases_are_compared_by_what_they_do() {
    let server = Server::start();
    let (name, mut operator) = (server.channel("mean"), server.reader());
    assert!(operator.get(&format!("/channels/{name}/compare")).text().contains("nothing to compare yet"));
    let mut device = server.device(2);
    for round in [1u32, 2] {
        assert_eq!(device.push(&name, &plain_delta(u64::from(round), round, &device.key)).status, 200);
        server.turn(&name);
    }
    let report = format!(r#"{{"channel":"{name}","version":3,"verdict":"activated","accuracy":[0.5,0.75]}}"#);
    assert_eq!(device.ask("POST", "/v1/reports", report.as_bytes()).status, 204);
    let text = operator.get(&format!("/channels/{name}/compare?from=2&to=3")).text();
    let (one, other) = (noise(1, 640), noise(2, 640));
    let norm = |values: &[f32]| values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
    let apart: Vec<f32> = one.iter().zip(&other).map(|(one, other)| one - other).collect();
    let inner: f64 = one.iter().zip(&other).map(|(one, other)| f64::from(*one) * f64::from(*other)).sum();
    let cosine = inner / (norm(&one) * norm(&other));
    for number in [norm(&one), norm(&other), norm(&apart)] {
        assert!(text.contains(&format!("{number:.4}")), "{number:.4} is not in {text}");
    }
    for said in [format!("{cosine:.3}"), "75.0 %".into(), "50.0 %".into(), "fc.weight".into()] {
        assert!(text.contains(&said), "{said} is not in {text}");
    }
    let with_zero = operator.get(&format!("/channels/{name}/compare?from=1&to=3")).text();
    let progress = operator.get(&format!("/channels/{name}")).text();
    let said = "1 device uses it, 0 rejected it, 0 failed to try it, 0 have not reported yet.";
    assert!(progress.contains(said) && progress.contains("1 of 1"), "{progress}");
    assert!(with_zero.contains("0.0000") && with_zero.contains(">–<"), "no cosine with nothing");
    assert_eq!(operator.get(&format!("/channels/{name}/compare?from=1&to=9")).status, 404);
}

/// What browsers are told of every page, and that no page has what they are told to refuse.
#[test]
fn pages_load_nothing_but_their_own() {
    let server = Server::start();
    let (name, mut operator) = (server.channel("mean"), server.reader());
    let paths =
        ["/", "/devices", "/audit", "/access", "/nothing", "/assets/style.css", "/assets/live.js", "/assets/icon.svg"];
    let channel = format!("/channels/{name}");
    for path in paths.into_iter().chain([channel.as_str()]) {
        let answer = operator.get(path);
        assert_eq!(answer.status, if path == "/nothing" { 404 } else { 200 }, "{path}");
        let policy = answer.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
        assert!(policy.contains("frame-ancestors 'none'"));
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(answer.header("referrer-policy"), Some("same-origin"));
        let is_page = answer.header("content-type").unwrap().starts_with("text/html");
        if is_page {
            let text = answer.text();
            for refused in [" style=", "<style", "javascript:", " onclick", "http://", "https://fonts"] {
                assert!(!text.contains(refused), "{path} has {refused}");
            }
            assert_eq!(text.matches("<script").count(), 1, "{path}");
            assert!(path == "/nothing" || answer.header("cache-control") == Some("no-store"), "{path}");
        }
    }
    let program = raw(&server.address, &request("GET", "/nothing", &[], b""));
    assert_eq!(program.problem(), (404, "not-found".into()));
}
