//! The device's side: the real `edgetune`, the real server, TLS between them, and a line that breaks.

use super::proxy::{Proxy, Way};
use super::server::{AT_ONCE, Server};
use super::*;
use edgetune::delta::{Delta, Payload};
use edgetune::sync::wire::Hex;
use serde_json::Value;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// A device of the tests, with a folder of its own.
struct Member {
    folder: tempfile::TempDir,
}

/// How a command ended.
#[derive(Debug)]
struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Ran {
    #[track_caller]
    fn done(&self) -> Value {
        assert_eq!(self.code, Some(0), "{self:?}");
        serde_json::from_str(&self.out).unwrap()
    }

    #[track_caller]
    fn fails(&self, parts: &[&str]) {
        assert_eq!(self.code, Some(1), "{self:?}");
        for part in parts {
            assert!(self.err.contains(part), "no `{part}` in: {}", self.err);
        }
    }
}

impl Member {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> String {
        fs::write(self.path(name), bytes).unwrap();
        self.path(name).display().to_string()
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        let output = Command::new(env!("CARGO_BIN_EXE_edgetune"))
            .args(["fleet", "--json"])
            .args(arguments)
            .arg("--state")
            .arg(self.path("state"))
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }

    fn enroll(&self, server: &Server, port: u16, token: &str) -> Ran {
        let ca = server.folder.path().join("tls.crt").display().to_string();
        let url = format!("https://127.0.0.1:{port}");
        // Where the database is shared, names are, too.
        let name = format!("device-{}", self.folder.path().file_name().unwrap().to_string_lossy());
        self.run(&["enroll", &url, "--token", token, "--name", &name, "--replace", "--ca", &ca])
    }

    /// A member of this server's fleet.
    fn of(server: &Server, port: u16) -> Self {
        let member = Self::new();
        member.enroll(server, port, &server.token()).done();
        member
    }

    fn status(&self) -> Value {
        self.run(&["status"]).done()
    }

    fn key(&self) -> KeyPair {
        KeyPair::from_pem(&fs::read_to_string(self.path("state/key.pem")).unwrap()).unwrap()
    }
}

/// A delta of more than a chunk, signed by nobody that matters. They differ by `samples` alone: encoding takes seconds.
fn large(samples: u32, round: Option<u32>) -> Vec<u8> {
    static PAYLOAD: OnceLock<Payload> = OnceLock::new();
    let payload = PAYLOAD.get_or_init(|| encode(&noise(1, 800 * 1000), Encoding::Fp16).unwrap());
    let tensors = [TensorValues { name: "fc.weight", shape: &[800, 1000], payload }];
    let labels = [Label { name: "cat", samples }];
    let bytes = delta::write(&Header { round, samples: samples.into(), ..header() }, &labels, &tensors).unwrap();
    let bytes = sign(&bytes, &KeyPair::from_secret(&[9; 32])).unwrap();
    assert!(bytes.len() > CUT + (1 << 16), "{}", bytes.len());
    bytes
}

/// In the middle of the second chunk.
const CUT: usize = 9 << 17;

fn count(value: &Value) -> usize {
    value.as_array().unwrap().len()
}

#[test]
fn a_device_comes_in_by_a_token_that_counts_once() {
    let server = Server::with(&[]);
    let (port, token) = (server.port(), server.token());
    let member = Member::new();
    member.run(&["status"]).fails(&["in no fleet", "edgetune fleet enroll"]);
    member.enroll(&server, port, "0000").fails(&["401", "ask an operator for a new one"]);
    assert!(!member.path("state/member.json").exists());
    let enrolled = member.enroll(&server, port, &token).done();
    let status = member.status();
    for field in ["url", "fleet", "name", "key", "release_key"] {
        assert_eq!(status[field], enrolled[field], "{field}");
    }
    assert_eq!(status["key"], Hex(member.key().public()).to_string());
    let mode = fs::metadata(member.path("state/key.pem")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(!member.run(&["status"]).out.contains("PRIVATE"));
    // Used by one key, the token is worth nothing to another.
    Member::new().enroll(&server, port, &token).fails(&["401", "was used"]);
}

/// A token that stands on no command line: in a file, or piped in as `edgetune-fleet token` prints it.
#[test]
fn a_token_comes_from_a_file_or_from_standard_input() {
    let server = Server::with(&[]);
    let ca = server.folder.path().join("tls.crt").display().to_string();
    let url = format!("https://127.0.0.1:{}", server.port());
    let enroll = |member: &Member, more: &[&str]| {
        let name = super::server::unique("device");
        member.run(&[&["enroll", &url, "--name", &name, "--ca", &ca], more].concat())
    };
    let member = Member::new();
    enroll(&member, &[]).fails(&["--token-file FILE"]);
    let empty = member.write("empty", b"\n");
    enroll(&member, &["--token-file", &empty]).fails(&["that is no token"]);
    enroll(&member, &["--token-file", "nowhere"]).fails(&["nowhere"]);
    let file = member.write("token", format!("{}\n", server.token()).as_bytes());
    enroll(&member, &["--token-file", &file]).done();
    let piped = Member::new();
    let mut command = Command::new(env!("CARGO_BIN_EXE_edgetune"));
    command.args([
        "fleet",
        "enroll",
        &url,
        "--token-file",
        "-",
        "--name",
        &super::server::unique("device"),
        "--ca",
        &ca,
    ]);
    command.arg("--state").arg(piped.path("state")).stdin(Stdio::piped());
    let mut process = command.spawn().unwrap();
    process.stdin.take().unwrap().write_all(server.token().as_bytes()).unwrap();
    assert!(process.wait().unwrap().success());
    assert_eq!(piped.status()["url"], url);
}

/// Devices that nobody has named do not meet; one that has another's name is told, and the other goes on.
#[test]
fn names_do_not_meet() {
    let server = Server::with(&[]);
    let (channel, ca) = (server.channel("mean"), server.folder.path().join("tls.crt").display().to_string());
    let url = format!("https://127.0.0.1:{}", server.port());
    let enroll = |member: &Member, more: &[&str]| {
        let token = server.token();
        member.run(&[&["enroll", &url, "--token", &token, "--ca", &ca], more].concat())
    };
    let [first, second] = [Member::new(), Member::new()];
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    for member in [&first, &second] {
        let enrolled = enroll(member, &[]).done();
        let digits = &enrolled["key"].as_str().unwrap()[..4];
        assert_eq!(enrolled["name"], format!("{}-{digits}", host.trim()));
    }
    first.run(&["pull", "--channel", &channel]).done();
    let name = super::server::unique("hall");
    enroll(&first, &["--name", &name]).done();
    enroll(&second, &["--name", &name]).fails(&["409", &name, "--replace"]);
    enroll(&second, &["--name", &name, "--replace"]).fails(&["409", "ask an operator for a token of that name"]);
    first.run(&["pull", "--channel", &channel]).done();
    second.run(&["pull", "--channel", &channel]).done();
    // A device takes its own place by any token, and that of a lost one by a token that was made for the name.
    enroll(&first, &["--name", &name, "--replace"]).done();
    first.run(&["pull", "--channel", &channel]).done();
    let token = server.token_for(&name);
    second.run(&["enroll", &url, "--token", &token, "--ca", &ca, "--name", &name, "--replace"]).done();
    first.run(&["pull", "--channel", &channel]).fails(&["401", "revoked"]);
}

#[test]
fn a_server_that_nobody_vouches_for_is_not_spoken_to() {
    let (server, other) = (Server::with(&[]), Server::with(&[]));
    let member = Member::new();
    let url = format!("https://127.0.0.1:{}", server.port());
    member.run(&["enroll", &url, "--token", "0000"]).fails(&["nobody who is trusted", "--ca FILE"]);
    let ca = other.folder.path().join("tls.crt").display().to_string();
    member.run(&["enroll", &url, "--token", "0000", "--ca", &ca]).fails(&["not to be trusted", "ask an operator"]);
    let none = member.write("none.pem", b"nothing");
    member.run(&["enroll", &url, "--token", "0000", "--ca", &none]).fails(&["BEGIN CERTIFICATE"]);
    let ca = server.folder.path().join("tls.crt").display().to_string();
    let pair = ["--client-cert", &ca, "--client-key", &none];
    member.run(&[&["enroll", &url, "--token", "0000", "--ca", &ca], pair.as_slice()].concat()).fails(&["none.pem"]);
    let plain = url.replace("https://127.0.0.1", "http://192.0.2.1");
    member.run(&["enroll", &plain, "--token", "0000"]).fails(&["without TLS"]);
    // Nothing but handshakes has reached the server.
    let metrics = String::from_utf8(server.operator("GET", "/metrics", b"").body).unwrap();
    assert!(metrics.contains("edgetune_requests_total 0\n"), "{metrics}");
}

#[test]
fn a_revoked_device_comes_back_with_a_new_key_and_its_queue() {
    let server = Server::with(&[]);
    let (channel, member) = (server.channel("mean"), Member::of(&server, server.port()));
    let before = member.status()["key"].as_str().unwrap().to_owned();
    assert_eq!(server.operator("DELETE", &format!("/v1/admin/devices/{before}"), b"").status, 204);
    let delta = member.write("A.edelta", &plain_delta(1, 1, &KeyPair::from_secret(&[9; 32])));
    member.run(&["push", &delta, "--channel", &channel]).fails(&["401", "revoked", "1 waiting"]);
    member.enroll(&server, server.port(), &server.token()).done();
    assert_ne!(member.status()["key"], before.as_str());
    let pushed = member.run(&["push"]).done();
    assert_eq!(pushed["delivered"][0]["channel"], channel);
    assert_eq!(count(&member.status()["waiting"]), 0);
    assert_eq!(server.turn(&channel)["version"], 2);
}

#[test]
fn a_push_goes_on_where_the_line_was_cut() {
    let server = Server::with(&[]);
    let proxy = Proxy::to(server.port());
    let channel = server.channel_of(AT_ONCE, &large(7, None));
    let member = Member::of(&server, proxy.port);
    let bytes = large(8, Some(1));
    let delta = member.write("A.edelta", &bytes);
    let before = proxy.passed(Way::Up);
    proxy.cut_after(Way::Up, CUT);
    let pushed = member.run(&["push", &delta, "--channel", &channel]).done();
    assert!(proxy.was_cut());
    assert_eq!(pushed["delivered"][0]["sent_bytes"], bytes.len());
    let up = proxy.passed(Way::Up) - before;
    // The beginning of that chunk is sent twice, and nothing else.
    assert!((bytes.len() + (1 << 16)..bytes.len() + (1 << 18)).contains(&up), "{up} for {}", bytes.len());
    // What is there is not sent again.
    let again = member.run(&["push", &delta, "--channel", &channel]).done();
    assert_eq!(
        (&again["delivered"][0]["sent_bytes"], &again["delivered"][0]["hash"]),
        (&0.into(), &pushed["delivered"][0]["hash"])
    );
    assert_eq!(server.turn(&channel)["version"], 2);
}

#[test]
fn the_next_process_sends_what_the_last_one_could_not() {
    let mut server = Server::with(&[]);
    let proxy = Proxy::to(server.port());
    let channel = server.channel_of(AT_ONCE, &large(7, None));
    let member = Member::of(&server, proxy.port);
    let [first, second] = [large(8, Some(1)), large(9, Some(1))];
    proxy.lead_to(None);
    for bytes in [&first, &second] {
        let delta = member.write("A.edelta", bytes);
        let ran = member.run(&["push", &delta, "--channel", &channel, "--tries", "1"]);
        ran.fails(&["was not reached", "1 waiting", "edgetune fleet push"]);
        assert_eq!(member.status()["waiting"][0]["bytes"], bytes.len());
    }
    proxy.lead_to(Some(server.port()));
    proxy.cut_after(Way::Up, CUT);
    member.run(&["push", "--tries", "1"]).fails(&["was not reached"]);
    // A server that was killed meanwhile, and is elsewhere now.
    server.restart(&[]);
    proxy.lead_to(Some(server.port()));
    let pushed = member.run(&["push"]).done();
    assert_eq!(pushed["delivered"][0]["bytes"], second.len());
    assert_eq!(pushed["delivered"][0]["sent_bytes"], second.len() - (1 << 20));
    let nothing = member.run(&["push"]).done();
    assert_eq!((count(&nothing["delivered"]), count(&nothing["waiting"])), (0, 0));
}

#[test]
fn what_the_server_will_never_take_waits_no_longer() {
    let server = Server::with(&[]);
    let (channel, member) = (server.channel("mean"), Member::of(&server, server.port()));
    let lora = member.write("A.edelta", &lora_delta(&KeyPair::from_secret(&[9; 32])));
    member.run(&["push", &lora, "--channel", &channel]).fails(&["422"]);
    member.run(&["push", &lora, "--channel", "no-such"]).fails(&["404", "ask an operator"]);
    assert_eq!(count(&member.status()["waiting"]), 0);
    let none = member.write("B.edelta", b"nothing");
    member.run(&["push", &none, "--channel", &channel]).fails(&["B.edelta"]);
    for wrong in ["a\nb", "bad name!"] {
        for words in [&["push", &lora][..], &["pull"], &["sync"], &["report", "failed"]] {
            let words = [words, &["--channel", wrong]].concat();
            member.run(&words).fails(&[&format!("channel {wrong:?}"), "letters, digits"]);
        }
    }
}

#[test]
fn a_pull_goes_on_where_the_line_was_cut() {
    let server = Server::with(&[]);
    let proxy = Proxy::to(server.port());
    let first = large(7, None);
    let (channel, member) = (server.channel_of(AT_ONCE, &first), Member::of(&server, proxy.port));
    let out = member.path("B.edelta").display().to_string();
    proxy.cut_after(Way::Down, 1 << 20);
    let before = proxy.passed(Way::Down);
    let pulled = member.run(&["pull", "--channel", &channel, "--out", &out]).done();
    assert!(proxy.was_cut());
    let down = proxy.passed(Way::Down) - before;
    assert!(down < first.len() + (1 << 16), "{down} for {}", first.len());
    assert_eq!((&pulled["version"], &pulled["new"]), (&1.into(), &true.into()));
    assert_eq!(pulled["base"], Hex(BASE).to_string());
    let bytes = fs::read(&out).unwrap();
    assert_eq!(pulled["adapter"], blake3::hash(&bytes).to_string());
    let release_key: Hex<32> = member.status()["release_key"].as_str().unwrap().parse().unwrap();
    Delta::parse(&bytes).unwrap().head().verify(&release_key.0).unwrap();
    // Nothing new is nothing to fetch; a copy that was lost is.
    fs::remove_file(&out).unwrap();
    let again = member.run(&["pull", "--channel", &channel, "--out", &out]).done();
    assert_eq!((&again["new"], &again["fetched_bytes"]), (&false.into(), &0.into()));
    assert_eq!(fs::read(&out).unwrap(), bytes);
    let kept = PathBuf::from(member.status()["channels"][0]["path"].as_str().unwrap());
    fs::write(kept, b"damaged").unwrap();
    let anew = member.run(&["pull", "--channel", &channel, "--out", &out]).done();
    assert_eq!(anew["fetched_bytes"], bytes.len());
}

#[test]
fn the_next_process_fetches_what_the_last_one_could_not() {
    let server = Server::with(&[]);
    let proxy = Proxy::to(server.port());
    let (channel, member) = (server.channel_of(AT_ONCE, &large(7, None)), Member::of(&server, proxy.port));
    proxy.cut_after(Way::Down, 1 << 20);
    member.run(&["pull", "--channel", &channel, "--tries", "1"]).fails(&["was not reached"]);
    let pulled = member.run(&["pull", "--channel", &channel]).done();
    let (fetched, length) = (pulled["fetched_bytes"].as_u64().unwrap(), pulled["bytes"].as_u64().unwrap());
    assert!((1..length - (1 << 18)).contains(&fetched), "{fetched} of {length}");
    // Damage in what was there before costs one more fetch, and is no harm.
    let member = Member::of(&server, proxy.port);
    proxy.cut_after(Way::Down, 1 << 20);
    member.run(&["pull", "--channel", &channel, "--tries", "1"]).fails(&["was not reached"]);
    let is_part = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "part");
    let mut parts = fs::read_dir(member.path("state/adapters")).unwrap().map(|entry| entry.unwrap().path());
    let part = parts.find(is_part).unwrap();
    let mut bytes = fs::read(&part).unwrap();
    bytes[1000] ^= 1;
    fs::write(&part, bytes).unwrap();
    member.run(&["pull", "--channel", &channel]).done();
    assert!(!part.exists());
}

#[test]
fn an_adapter_that_was_changed_is_not_used() {
    // Where deltas lie in an S3 server, nobody can reach into it here.
    if std::env::var_os("EDGETUNE_FLEET_STORE").is_some() {
        return;
    }
    let server = Server::with(&[]);
    let (channel, member) = (server.channel("mean"), Member::of(&server, server.port()));
    let adapter = server.channel_row(&channel)["adapter"].as_str().unwrap().to_owned();
    let stored = server.folder.path().join("deltas/adapters").join(adapter);
    let right = fs::read(&stored).unwrap();
    let out = member.path("B.edelta").display().to_string();
    let pull = || member.run(&["pull", "--channel", &channel, "--out", &out]);
    for (changed, reason) in [
        ([&right[..right.len() - 1], &[!right[right.len() - 1]]].concat(), "not the adapter that the release names"),
        ([right.as_slice(), b"more"].concat(), "longer than the release says"),
    ] {
        fs::write(&stored, changed).unwrap();
        pull().fails(&[&channel, reason]);
        assert!(!member.path("B.edelta").exists());
        assert_eq!(count(&member.status()["channels"]), 0);
    }
    fs::write(&stored, &right).unwrap();
    pull().done();
    assert_eq!(fs::read(&out).unwrap(), right);
}

#[test]
fn releases_follow_each_other_and_never_go_back() {
    let server = Server::with(&[]);
    let (channel, member) = (server.channel("mean"), Member::of(&server, server.port()));
    let pull = || member.run(&["pull", "--channel", &channel]);
    let report = |more: &[&str]| member.run(&[&["report", "activated", "--channel", &channel], more].concat());
    report(&[]).fails(&["nothing was pulled"]);
    assert_eq!(pull().done()["round"], 1);
    let delta = member.write("A.edelta", &plain_delta(1, 1, &KeyPair::from_secret(&[9; 32])));
    member.run(&["push", &delta, "--channel", &channel]).done();
    assert_eq!(report(&["--accuracy", "0.5", "0.75"]).done()["version"], 1);
    report(&["--accuracy", "5", "7"]).fails(&["--accuracy"]);
    server.turn(&channel);
    let second = pull().done();
    assert_eq!((&second["version"], &second["new"], &second["round"]), (&2.into(), &true.into(), &2.into()));
    // A word that is too old to be believed is asked for anew, though nothing has changed since.
    let path = member.path("state/seen.json");
    let believed = || {
        serde_json::from_slice::<Value>(&fs::read(&path).unwrap()).unwrap()[&channel]["release"]["expires_ms"].clone()
    };
    let until = believed();
    let told =
        || serde_json::from_slice::<Value>(&fs::read(&path).unwrap()).unwrap()[&channel]["at_ms"].as_u64().unwrap();
    let before_ms = told();
    assert_eq!(pull().done()["new"], false);
    assert!(believed() == until && told() > before_ms, "nothing new: only the signed time goes on");
    let aged = fs::read_to_string(&path).unwrap().replace(&until.to_string(), "1000");
    fs::write(&path, aged).unwrap();
    assert_eq!(believed(), 1000);
    assert_eq!(pull().done()["new"], false);
    assert!(believed().as_u64() >= until.to_string().parse().ok(), "{} after {until}", believed());
    // Nor does time go back: told after the release's word has ended, it has ended whatever a server says of the time.
    let right = fs::read_to_string(&path).unwrap();
    let at = &serde_json::from_str::<Value>(&right).unwrap()[&channel]["at_ms"];
    fs::write(&path, right.replace(&at.to_string(), "4102444800000")).unwrap();
    pull().fails(&["holding newer ones back"]);
    fs::write(&path, right).unwrap();
    // As if the device had had a third one.
    let seen = fs::read_to_string(&path).unwrap();
    let mut third: Value = serde_json::from_str(&seen).unwrap();
    (third[&channel]["release"]["version"], third[&channel]["etag"]) = (3.into(), "".into());
    fs::write(&path, third.to_string()).unwrap();
    pull().fails(&["version 2, and version 3 was seen", "enrol the device again"]);
    member.enroll(&server, server.port(), &server.token()).done();
    assert_eq!(pull().done()["version"], 2);
}
