//! What a server reads again while it runs, and the keys that it never makes anew.

use super::client::{raw, request};
use super::server::{Server, over_tls, serving};
use super::*;
use std::process::Command;
use std::time::{Duration, Instant};

fn hang_up(server: &Server) {
    let told = Command::new("kill").args(["-HUP", &server.process.0.id().to_string()]).status().unwrap();
    assert!(told.success());
}

/// A reload is asked for, and seen a moment later.
#[track_caller]
fn until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < deadline, "it never came about: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// SIGHUP ends nothing: settings, certificate and the operator's token are read again, and what is wrong with one of them changes none.
#[test]
fn sighup_reads_certificates_and_settings_again() {
    let place = tempfile::tempdir().unwrap();
    let settings = place.path().join("settings.toml");
    std::fs::write(&settings, "delta-bytes-max = 1000\n").unwrap();
    let mut server = Server::with(&["--settings", settings.to_str().unwrap()]);
    let own = |name: &str| server.folder.path().join(name);
    let old = std::fs::read_to_string(own("tls.crt")).unwrap();
    let asked = |certificate: &str, token: &str, target: &str, body: &[u8]| {
        let bearer = format!("Bearer {token}");
        let method = if body.is_empty() { "GET" } else { "POST" };
        over_tls(certificate, server.port(), &request(method, target, &[("authorization", &bearer)], body)).status
    };
    let (token, adapter) = (server.operator_token(), plain_delta(1, 1, &KeyPair::from_secret(&[1; 32])));
    let name = super::server::unique("channel");
    let create = format!("/v1/admin/channels/{name}?stages=100");
    assert_eq!(asked(&old, &token, &create, &adapter), 413);
    // Neither a setting that is none nor a key that is none ends the server, or is taken in part.
    std::fs::write(&settings, "delta-bytes-max = 900000\nrequests-per-s = -1\n").unwrap();
    std::fs::write(own("operator.token"), "another-token\n").unwrap();
    hang_up(&server);
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(
        (asked(&old, &token, &create, &adapter), asked(&old, "another-token", "/v1/admin/devices", b"")),
        (413, 401)
    );
    std::fs::write(&settings, "delta-bytes-max = 900000\n").unwrap();
    let key = std::fs::read(own("tls.key")).unwrap();
    std::fs::write(own("tls.key"), "no key").unwrap();
    hang_up(&server);
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(asked(&old, &token, &create, &adapter), 413);
    std::fs::write(own("tls.key"), key).unwrap();
    hang_up(&server);
    until("the new limit", || asked(&old, "another-token", &create, &adapter) == 200);
    assert_eq!(asked(&old, &token, "/v1/admin/devices", b""), 401, "the old token is worth nothing");
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(own("tls.crt"), made.cert.pem()).unwrap();
    std::fs::write(own("tls.key"), made.signing_key.serialize_pem()).unwrap();
    hang_up(&server);
    until("the new certificate", || {
        std::panic::catch_unwind(|| {
            over_tls(&made.cert.pem(), server.port(), &request("GET", "/healthz", &[], b"")).status
        })
        .is_ok_and(|status| status == 200)
    });
    assert!(server.process.0.try_wait().unwrap().is_none(), "it is the same process");
}

/// Devices trust one key: a server that has lost it does not make another, and says what helps.
#[test]
fn a_server_that_has_lost_its_key_makes_no_new_one() {
    let mut server = Server::start();
    let release = server.folder.path().join("release.pem");
    let pem = std::fs::read(&release).unwrap();
    server.process.0.kill().unwrap();
    server.process.0.wait().unwrap();
    std::fs::remove_file(&release).unwrap();
    let program = Command::new(env!("CARGO_BIN_EXE_edgetune-fleet"))
        .args(serving(server.folder.path()))
        .arg("--insecure-http")
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&program.stderr);
    assert!(
        program.status.code() == Some(1) && told.contains("release.pem") && told.contains("from a backup"),
        "{told}"
    );
    assert!(!release.exists());
    std::fs::write(&release, pem).unwrap();
    // Of the operator's token the server needs the hash alone.
    let token = server.operator_token();
    std::fs::remove_file(server.folder.path().join("operator.token")).unwrap();
    server.kill_and_restart();
    let bearer = format!("Bearer {token}");
    let asked = raw(&server.address, &request("GET", "/v1/admin/devices", &[("authorization", &bearer)], b""));
    assert_eq!(asked.status, 200);
    assert!(!server.folder.path().join("operator.token").exists());
}
