//! A server process of its own for each test, its operator, and how it begins and ends.

use super::client::{Answer, Device, parsed, raw, request};
use super::power::Power;
use super::*;
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A channel's query for releases that are for all devices at once, whatever they say of them.
pub const AT_ONCE: &str = "stages=100&stage_s=0&stage_reports=0";

/// A running server; killed when dropped.
pub struct Server {
    pub address: String,
    pub process: Process,
    /// What its folder lies on, where its power can be cut.
    pub power: Option<Power>,
    pub folder: tempfile::TempDir,
}

/// A running program; killed when dropped, so that none outlives a test that fails.
pub struct Process(pub Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A name that no other test's has: where the database is shared, so are the names of channels.
pub fn unique(name: &str) -> String {
    format!("{name}-{}", fastrand::Rng::new().u64(..))
}

impl Server {
    pub fn start() -> Self {
        Self::with(&["--insecure-http"])
    }

    /// A server whose kills are cuts of power, where `EDGETUNE_POWER` names a file system for it (`tests/power`).
    pub fn on_power() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let power = Power::on(folder.path(), 7);
        Self::inside(folder, power, &["--insecure-http"])
    }

    pub fn with(options: &[&str]) -> Self {
        Self::inside(tempfile::tempdir().unwrap(), None, options)
    }

    fn inside(folder: tempfile::TempDir, power: Option<Power>, options: &[&str]) -> Self {
        // Replicas of one database sign with one key, whichever of them turns a round.
        let pem = KeyPair::from_secret(&[42; 32]).to_pem().unwrap();
        if std::env::var_os("EDGETUNE_FLEET_DATABASE").is_some() {
            std::fs::write(folder.path().join("release.pem"), pem).unwrap();
            std::fs::write(folder.path().join("operator.token"), "0f".repeat(32)).unwrap();
        }
        let (process, address) = spawn(folder.path(), options);
        Self { address, process, power, folder }
    }

    /// Kills the server as a power cut would, and starts it again on the same files.
    pub fn kill_and_restart(&mut self) {
        self.restart(&["--insecure-http"]);
    }

    pub fn restart(&mut self, options: &[&str]) {
        self.process.0.kill().unwrap();
        self.process.0.wait().unwrap();
        if let Some(power) = &mut self.power {
            power.cut(self.folder.path());
        }
        let (process, address) = spawn(self.folder.path(), options);
        (self.process, self.address) = (process, address);
    }

    /// Another server on the same database and store, with the same keys, in a folder of its own.
    pub fn replica(&self, options: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["release.pem", "operator.token"] {
            std::fs::copy(self.folder.path().join(name), folder.path().join(name)).unwrap();
        }
        let database = format!("sqlite:{}", self.folder.path().join("fleet.sqlite").display());
        let mut options = options.to_vec();
        if std::env::var_os("EDGETUNE_FLEET_DATABASE").is_none() {
            std::os::unix::fs::symlink(self.folder.path().join("deltas"), folder.path().join("deltas")).unwrap();
            options.extend(["--database", &database]);
        }
        let (process, address) = spawn(folder.path(), &options);
        Self { address, process, power: None, folder }
    }

    pub fn operator_token(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("operator.token")).unwrap().trim().to_owned()
    }

    pub fn operator(&self, method: &str, target: &str, body: &[u8]) -> Answer {
        let bearer = format!("Bearer {}", self.operator_token());
        let request = request(method, target, &[("authorization", &bearer)], body);
        match std::fs::read_to_string(self.folder.path().join("tls.crt")) {
            Ok(certificate) => over_tls(&certificate, self.port(), &request),
            Err(_) => raw(&self.address, &request),
        }
    }

    pub fn port(&self) -> u16 {
        self.address.rsplit_once(':').unwrap().1.parse().unwrap()
    }

    pub fn token(&self) -> String {
        self.operator("POST", "/v1/admin/tokens", b"").json::<Value>()["token"].as_str().unwrap().into()
    }

    /// A token for a device of that name.
    pub fn token_for(&self, name: &str) -> String {
        let name: String = name.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let made = self.operator("POST", &format!("/v1/admin/tokens?name={name}"), b"");
        made.json::<Value>()["token"].as_str().unwrap().into()
    }

    /// A device that is enrolled. Keys are made of the server's folder, for where the database is shared.
    pub fn device(&self, seed: u8) -> Device {
        let mut device = Device::new(&self.address, seed);
        let secret = blake3::hash(format!("{}{seed}", self.folder.path().display()).as_bytes());
        device.key = KeyPair::from_secret(secret.as_bytes());
        let answer = device.enrol(&self.token(), &unique("device"));
        assert_eq!(answer.status, 200, "{answer:?}");
        device
    }

    /// A channel with a first release, whose releases are for all devices at once.
    pub fn channel(&self, rule: &str) -> String {
        self.staged_channel(&format!("rule={rule}&{AT_ONCE}"))
    }

    /// A channel whose releases are rolled out as the query says.
    pub fn staged_channel(&self, query: &str) -> String {
        self.channel_of(query, &delta_of(&header(), &vec![0.0; 640], &KeyPair::from_secret(&[1; 32])))
    }

    /// A channel as the query says, with this first release; its rule is the mean where the query has none.
    pub fn channel_of(&self, query: &str, first: &[u8]) -> String {
        let name = unique("channel");
        let rule = if query.contains("rule=") { "" } else { "rule=mean&" };
        let query = format!("{rule}{query}");
        let answer = self.operator("POST", &format!("/v1/admin/channels/{name}?{query}"), first);
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
        name
    }

    pub fn channel_row(&self, name: &str) -> Value {
        let rows: Vec<Value> = self.operator("GET", "/v1/admin/channels", b"").json();
        rows.into_iter().find(|row| row["name"] == name).unwrap()
    }

    /// Closes the round and waits until it is turned, and all devices are offered its release; gives the channel then.
    pub fn turn(&self, name: &str) -> Value {
        let before = self.channel_row(name);
        let path: String = name.bytes().map(|byte| format!("%{byte:02x}")).collect();
        assert_eq!(self.operator("POST", &format!("/v1/admin/channels/{path}/close"), b"").status, 202);
        self.until(name, |row| {
            let is_released = row["version"] != before["version"] && row["rollout"] == "done";
            row["state"] == "open" && (is_released || row["problem"].is_string())
        })
    }

    /// Waits until a channel is so, and gives it. Where the database is shared, a server that another test has killed may have
    /// claimed the round: for a minute.
    pub fn until(&self, name: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + Duration::from_secs(150);
        loop {
            let row = self.channel_row(name);
            if is_so(&row) {
                return row;
            }
            assert!(Instant::now() < deadline, "the channel does not turn: {row}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub fn device_row(&self, key: &str) -> Value {
        let rows: Vec<Value> = self.operator("GET", "/v1/admin/devices", b"").json();
        rows.into_iter().find(|row| row["key"] == key).unwrap()
    }

    pub fn audit(&self) -> String {
        String::from_utf8(self.operator("GET", "/v1/admin/audit", b"").body).unwrap()
    }

    /// Files with deltas in the store; none where that is no folder.
    pub fn stored(&self) -> usize {
        fn files(folder: &Path) -> usize {
            let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
            entries.map(|entry| if entry.path().is_dir() { files(&entry.path()) } else { 1 }).sum()
        }
        files(&self.folder.path().join("deltas/deltas"))
    }
}

pub fn spawn(folder: &Path, options: &[&str]) -> (Process, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_edgetune-fleet"));
    command.args(serving(folder)).args(options);
    // Tests ask as fast as they can, but where the limit is what they look at.
    command.args(if options.contains(&"--requests-per-s") { [].as_slice() } else { &["--requests-per-s", "100000"] });
    command.args(if options.contains(&"--deltas-per-day") { [].as_slice() } else { &["--deltas-per-day", "1000000"] });
    // And rounds of few devices are rounds, but where that limit is what they look at: then no other test's round may be turned by it.
    match options.contains(&"--round-devices-min") {
        true => command.env_remove("EDGETUNE_FLEET_DATABASE").env_remove("EDGETUNE_FLEET_STORE"),
        false => command.args(["--round-devices-min", "1"]),
    };
    started(command).expect("the server ended before it was ready")
}

/// What every server is started with.
pub fn serving(folder: &Path) -> Vec<&std::ffi::OsStr> {
    let options = ["serve", "--json", "--listen", "127.0.0.1:0", "--data"].map(std::ffi::OsStr::new);
    options.into_iter().chain([folder.as_os_str()]).collect()
}

/// Starts a server; its process and its address, or none where it ends before it is ready.
pub fn started(mut command: Command) -> Option<(Process, String)> {
    let process = command.env("EDGETUNE_LOG", "error").stdout(Stdio::piped()).spawn();
    let mut process = Process(process.ok()?);
    let mut text = String::new();
    let mut lines = BufReader::new(process.0.stdout.take()?).lines();
    while !text.contains('}') {
        text += &lines.next()?.ok()?;
    }
    let ready: Value = serde_json::from_str(&text).unwrap();
    let (_, address) = ready["url"].as_str()?.split_once("://")?;
    Some((process, address.to_owned()))
}

#[test]
fn it_says_how_it_is_and_what_it_can() {
    let server = Server::start();
    let get = |target| raw(&server.address, &request("GET", target, &[], b""));
    assert_eq!(get("/healthz").body, b"alive\n");
    assert_eq!(get("/readyz").body, b"ready\n");
    let document: Value = get("/openapi.json").json();
    for path in ["/v1/enrol", "/v1/uploads/{hash}/{offset}", "/v1/admin/audit", "/metrics"] {
        assert!(document["paths"][path].is_object(), "{path} is not in the document");
    }
    assert_eq!(get("/v1/nothing").problem(), (404, "not-found".into()));
    assert_eq!(get("/v1/enrol").problem(), (405, "method".into()));
    let metrics = String::from_utf8(get("/metrics").body).unwrap();
    assert!(metrics.contains("edgetune_requests_refused_total 2\n"), "{metrics}");
}

/// The certificate of the first start is kept, and is all that a client needs to trust.
#[test]
fn its_own_certificate_makes_tls() {
    let mut server = Server::with(&[]);
    let certificate = std::fs::read_to_string(server.folder.path().join("tls.crt")).unwrap();
    let (_, port) = server.address.split_once(':').unwrap();
    let answer = over_tls(&certificate, port.parse().unwrap(), &request("GET", "/healthz", &[], b""));
    assert_eq!(answer.body, b"alive\n");
    server.process.0.kill().unwrap();
    server.process.0.wait().unwrap();
    let (process, _) = spawn(server.folder.path(), &[]);
    server.process = process;
    assert_eq!(std::fs::read_to_string(server.folder.path().join("tls.crt")).unwrap(), certificate);
}

pub fn over_tls(certificate: &str, port: u16, request: &[u8]) -> Answer {
    use rustls::pki_types::pem::PemObject;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(rustls::pki_types::CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()).unwrap();
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connection = rustls::ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
    let mut stream = rustls::StreamOwned::new(connection, TcpStream::connect(("127.0.0.1", port)).unwrap());
    stream.write_all(request).unwrap();
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    parsed(&bytes)
}

/// Two servers in one folder would be one by mistake: the second says who holds it, and the first goes on.
#[test]
fn a_second_server_in_a_folder_refuses() {
    let mut server = Server::start();
    let second = || {
        let program = Command::new(env!("CARGO_BIN_EXE_edgetune-fleet"))
            .args(serving(server.folder.path()))
            .arg("--insecure-http")
            .output()
            .unwrap();
        assert_eq!(program.status.code(), Some(1));
        String::from_utf8(program.stderr).unwrap()
    };
    let refused = second();
    let lock = server.folder.path().join("lock").display().to_string();
    for part in [lock.as_str(), &server.address, "--data DIR"] {
        assert!(refused.contains(part), "no {part} in: {refused}");
    }
    assert_eq!(raw(&server.address, &request("GET", "/readyz", &[], b"")).status, 200);
    // Who was killed holds nothing.
    server.kill_and_restart();
    assert_eq!(raw(&server.address, &request("GET", "/readyz", &[], b"")).status, 200);
}

/// Of every operation in the document: a parameter is in the path if the path has a place for it, and in the query otherwise.
#[test]
fn parameters_are_where_the_document_says() {
    let document: Value = serde_json::from_str(&edgetune::fleet::openapi()).unwrap();
    let mut queries = 0;
    for (path, operations) in document["paths"].as_object().unwrap() {
        let mut places: Vec<&str> =
            path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')).collect();
        places.sort_unstable();
        for (method, operation) in operations.as_object().unwrap() {
            let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
            let mut named: Vec<&str> = Vec::new();
            for parameter in &parameters {
                let name = parameter["name"].as_str().unwrap();
                let place = if places.contains(&name) { "path" } else { "query" };
                assert_eq!(parameter["in"], place, "{method} {path}: {name}");
                queries += usize::from(place == "query");
                named.extend(places.iter().find(|place| **place == name));
            }
            named.sort_unstable();
            assert_eq!(named, places, "{method} {path}");
            for (status, response) in operation["responses"].as_object().unwrap() {
                let said = response["description"].as_str().unwrap_or_default();
                assert!(!said.is_empty(), "{method} {path}: what does {status} mean?");
            }
        }
    }
    assert!(queries >= 9, "{queries}");
    // What is referred to is there.
    let text = document.to_string();
    for name in text.split("\"#/components/schemas/").skip(1).filter_map(|rest| rest.split('"').next()) {
        assert!(document["components"]["schemas"][name].is_object(), "{name}");
    }
}

#[test]
fn http_without_tls_is_for_loopback_alone() {
    let folder = tempfile::tempdir().unwrap();
    let refused = Command::new(env!("CARGO_BIN_EXE_edgetune-fleet"))
        .args(["serve", "--insecure-http", "--listen", "0.0.0.0:0", "--data"])
        .arg(folder.path())
        .output()
        .unwrap();
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--insecure-http is for loopback addresses"));
}

/// SIGTERM ends it, in order and with success.
#[test]
fn it_ends_when_it_is_told_to() {
    let mut server = Server::start();
    let mut device = server.device(2);
    assert_eq!(Command::new("kill").arg(server.process.0.id().to_string()).status().unwrap().code(), Some(0));
    assert!(server.process.0.wait().unwrap().success());
    assert!(TcpStream::connect(&device.address).is_err());
    server.kill_and_restart();
    device.address = server.address.clone();
    assert_eq!(device.ask("GET", "/v1/releases/none", b"").problem(), (404, "not-found".into()));
}
