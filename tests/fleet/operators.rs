//! What operators make: channels and releases, at a terminal and on the pages.

use super::client::Answer;
use super::dashboard::reader::{OURS, Reader};
use super::server::{Server, unique};
use super::*;
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output};

fn adapter(seed: u64) -> Vec<u8> {
    delta_of(&header(), &noise(seed, 640), &KeyPair::from_secret(&[1; 32]))
}

fn ran(server: &Server, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_edgetune-fleet"));
    command
        .env_remove("EDGETUNE_FLEET_DATABASE")
        .args(arguments)
        .arg("--data")
        .arg(server.folder.path())
        .output()
        .unwrap()
}

fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn fails(output: &Output, parts: &[&str]) {
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    for part in parts {
        assert!(told.contains(part), "no `{part}` in: {told}");
    }
}

fn path(folder: &Path, name: &str, bytes: &[u8]) -> String {
    std::fs::write(folder.join(name), bytes).unwrap();
    folder.join(name).display().to_string()
}

/// A channel from its first adapter to its second release, without a line of curl: address, certificate and token are in the folder.
#[test]
fn a_channel_is_made_at_a_terminal() {
    let server = Server::with(&[]);
    let (place, name) = (tempfile::tempdir().unwrap(), unique("photos of birds"));
    let (first, second) = (path(place.path(), "A.edelta", &adapter(1)), path(place.path(), "B.edelta", &adapter(2)));
    let made = json(&ran(
        &server,
        &["--json", "channel", "create", &name, "--from", &first, "--stages", "100", "--stage-s", "0"],
    ));
    assert_eq!(
        (&made["name"], &made["rule"], &made["version"]),
        (&name.as_str().into(), &"trimmed:0.2,clip".into(), &1.into())
    );
    fails(&ran(&server, &["channel", "create", &name, "--from", &first]), &["409", "there is a channel of that name"]);
    fails(&ran(&server, &["channel", "create", "x", "--from", &first, "--rule", "most"]), &["400", "is no rule"]);
    for wrong in ["bad name!", "../x"] {
        let create = ["channel", "create", wrong, "--from", &first];
        fails(&ran(&server, &create), &["400", "a channel's name has", "letters, digits"]);
    }
    let none = path(place.path(), "none.edelta", b"nothing");
    fails(&ran(&server, &["channel", "create", "x", "--from", &none]), &["none.edelta"]);
    fails(&ran(&server, &["channel", "close", &name]), &["409", "no delta to combine"]);
    json(&ran(&server, &["--json", "channel", "release", &name, "--from", &second]));
    server.until(&name, |row| row["version"] == 2);
    let token = json(&ran(&server, &["--json", "token"]));
    let member = Command::new(env!("CARGO_BIN_EXE_edgetune"))
        .args([
            "fleet",
            "enroll",
            &format!("https://127.0.0.1:{}", server.port()),
            "--name",
            &unique("device"),
            "--token",
        ])
        .args([token["token"].as_str().unwrap(), "--ca"])
        .arg(server.folder.path().join("tls.crt"))
        .arg("--state")
        .arg(place.path().join("state"))
        .output()
        .unwrap();
    assert!(member.status.success(), "{}", String::from_utf8_lossy(&member.stderr));
    let log = server.audit();
    assert!(log.contains("channel made") && log.contains(&format!("{name}: version 2")), "{log}");
    // Where there is no server, the message says what to do.
    let empty = tempfile::tempdir().unwrap();
    let alone = Command::new(env!("CARGO_BIN_EXE_edgetune-fleet")).args(["token", "--data"]).arg(empty.path()).output();
    fails(&alone.unwrap(), &["edgetune-fleet serve", "--server URL"]);
}

/// A form with a file, as a browser sends it.
fn upload(reader: &mut Reader, target: &str, fields: &[(&str, &str)], file: Option<&[u8]>) -> Answer {
    let token = reader.form_token();
    let mut body = Vec::new();
    for (name, value) in [("token", token.as_str())].iter().chain(fields) {
        body.extend(format!("--xyz\r\ncontent-disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n").bytes());
    }
    body.extend(b"--xyz\r\ncontent-disposition: form-data; name=\"delta\"; filename=\"A.edelta\"\r\n");
    body.extend(b"content-type: application/octet-stream\r\n\r\n");
    body.extend(file.unwrap_or_default());
    body.extend(b"\r\n--xyz--\r\n");
    reader.send_bytes("POST", target, &[OURS, &[("content-type", "multipart/form-data; boundary=xyz")]].concat(), &body)
}

#[test]
fn a_channel_is_made_and_released_to_on_the_pages() {
    let server = Server::start();
    let (mut operator, name) = (server.reader(), unique("by form"));
    assert!(operator.get("/").text().contains("href=\"/new-channel\""));
    let form = operator.get("/new-channel").text();
    assert!(form.contains("multipart/form-data") && form.contains("trimmed:0.2,clip"), "{form}");
    let fields = |name: &'static str, value: &'static str| {
        let all = [
            ("rule", "median"),
            ("stages", "50, 100"),
            ("stage_s", "60"),
            ("stage_reports", "3"),
            ("tolerated", "0.1"),
        ];
        all.map(|(field, usual)| (field, if field == name { value } else { usual }))
    };
    let with = |name: &str, fields: [(&'static str, &'static str); 5]| {
        [vec![("name", name.to_owned())], fields.map(|(name, value)| (name, value.to_owned())).to_vec()].concat()
    };
    let send = |reader: &mut Reader, fields: Vec<(&str, String)>, file: Option<&[u8]>| {
        let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        upload(reader, "/new-channel", &fields, file)
    };
    for (fields, file, why) in [
        (with(&name, fields("rule", "most")), Some(adapter(1)), "is no rule"),
        (with(&name, fields("stage_s", "soon")), Some(adapter(1)), "write one in digits"),
        (with(&name, fields("", "")), None, "No file was chosen"),
        (with(&name, fields("", "")), Some(b"nothing".to_vec()), "no delta that can be released"),
        (with("", fields("", "")), Some(adapter(1)), "has letters, digits"),
    ] {
        let answer = send(&mut operator, fields, file.as_deref());
        assert!(answer.status == 400 && answer.text().contains(why), "{why}: {}", answer.text());
    }
    let made = send(&mut operator, with(&name, fields("", "")), Some(&adapter(1)));
    assert_eq!(made.status, 303, "{}", made.text());
    let row = server.channel_row(&name);
    assert_eq!((&row["rule"], &row["version"]), (&"median".into(), &1.into()));
    let again = send(&mut operator, with(&name, fields("", "")), Some(&adapter(1)));
    assert!(again.status == 409 && again.text().contains("There is a channel of that name"), "{}", again.text());

    let here = made.header("location").unwrap().to_owned();
    assert!(operator.get(&here).text().contains("Publish a release"));
    let release =
        |reader: &mut Reader, now: &str| upload(reader, &format!("{here}/release"), &[("now", now)], Some(&adapter(2)));
    assert_eq!(release(&mut operator, "1").status, 303);
    assert_eq!(server.channel_row(&name)["version"], 2);
    assert_eq!(release(&mut operator, "1").status, 409, "a form of version 1");
    let log = server.audit();
    assert!(log.contains("channel made") && log.contains("released"), "{log}");

    // Nobody else: not a viewer, not a page of somebody else, not without a session.
    let who = unique("anna");
    let token = operator.post("/access", &[("name", &who), ("role", "viewer")]).text();
    let token = dashboard::shown_secret(&token);
    let mut viewer = Reader::new(&server.address);
    viewer.sign_in(&token);
    assert_eq!(viewer.get("/new-channel").status, 403);
    assert!(
        !viewer.get(&here).text().contains("Publish a release")
            && !viewer.get("/").text().contains("href=\"/new-channel\"")
    );
    assert_eq!(release(&mut viewer, "2").status, 403);
    let foreign = [("origin", "http://evil.example"), ("content-type", "multipart/form-data; boundary=xyz")];
    assert_eq!(operator.send_bytes("POST", &format!("{here}/release"), &foreign, b"--xyz--\r\n").status, 403);
    assert_eq!(server.channel_row(&name)["version"], 2);
}
