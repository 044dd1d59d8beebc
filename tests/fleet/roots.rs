//! Keys that are kept offline: a release key that is lost is exchanged, and no device is enrolled anew for it.

use super::freeze::{Liar, TOLD_MS, Victim, refused, release_key};
use super::server::{AT_ONCE, Server, unique};
use super::*;
use edgetune::sync::wire::{Hex, Release, Root};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// The operators' table, far from the server.
struct Table(tempfile::TempDir);

impl Table {
    fn new() -> Self {
        let table = Self(tempfile::tempdir().unwrap());
        fs::write(table.path("words"), "first passphrase\nsecond passphrase\nthird passphrase\n").unwrap();
        for (name, phrase) in
            [("first", "first passphrase"), ("second", "second passphrase"), ("third", "third passphrase")]
        {
            fs::write(table.path(name), format!("{phrase}\n")).unwrap();
        }
        table
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn root(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_edgetune-fleet"));
        command.arg("root").args(arguments).current_dir(self.0.path()).output().unwrap()
    }

    #[track_caller]
    fn done(&self, arguments: &[&str]) {
        let output = self.root(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    #[track_caller]
    fn fails(&self, arguments: &[&str], why: &str) {
        let output = self.root(arguments);
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(1) && told.contains(why), "no `{why}` in: {told}");
    }

    /// A new key for releases: its secret file.
    fn key(&self, name: &str, seed: u8) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, KeyPair::from_secret(&[seed; 32]).to_pem().unwrap()).unwrap();
        path
    }
}

/// A device, by its own program.
struct Member(tempfile::TempDir);

impl Member {
    fn run(&self, arguments: &[&str]) -> Result<Value, String> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_edgetune"));
        command.args(["fleet", "--json"]).args(arguments).arg("--state").arg(self.0.path().join("state"));
        let output = command.output().unwrap();
        match output.status.success() {
            true => Ok(serde_json::from_slice(&output.stdout).unwrap()),
            false => Err(String::from_utf8(output.stderr).unwrap()),
        }
    }

    fn of(server: &Server, more: &[&str]) -> Result<Self, String> {
        let member = Self(tempfile::tempdir().unwrap());
        let token = member.0.path().join("token");
        fs::write(&token, server.token()).unwrap();
        let (ca, url) = (
            server.folder.path().join("tls.crt").display().to_string(),
            format!("https://127.0.0.1:{}", server.port()),
        );
        let (token, name) = (token.display().to_string(), unique("device"));
        let enroll = ["enroll", &url, "--token-file", &token, "--name", &name, "--ca", &ca];
        member.run(&[&enroll, more].concat())?;
        Ok(member)
    }

    fn pull(&self, channel: &str) -> Result<Value, String> {
        self.run(&["pull", "--channel", channel])
    }

    #[track_caller]
    fn refuses(&self, channel: &str, why: &str) {
        let told = self.pull(channel).unwrap_err();
        assert!(told.contains(why), "no `{why}` in: {told}");
    }
}

fn put(server: &Server, name: &str, from: &Path) {
    fs::copy(from, server.folder.path().join(name)).unwrap();
}

/// Has the server read its keys again, and waits until it tells of its root.
fn reloaded(server: &Server) {
    let told = Command::new("kill").args(["-HUP", &server.process.0.id().to_string()]).status().unwrap();
    assert!(told.success());
    let deadline = Instant::now() + Duration::from_secs(30);
    while Member::of(server, &[]).unwrap().run(&["status"]).unwrap()["root"].is_null() {
        assert!(Instant::now() < deadline, "the server tells of no root");
    }
}

/// The server's release key is lost, with the machine that it was on. Two of three keys that were kept elsewhere name another one, and one of
/// these three is exchanged as well: devices that were there before go on, and take nothing that the lost key signs.
#[test]
fn a_lost_release_key_is_exchanged_without_a_device_being_enrolled_anew() {
    if std::env::var_os("EDGETUNE_FLEET_DATABASE").is_some() {
        return; // Replicas sign with one key: with another one, this server would turn the rounds of other tests, and sign them.
    }
    let (table, mut server) = (Table::new(), Server::with(&[]));
    let channel = server.channel_of(AT_ONCE, &plain_delta(0, 1, &KeyPair::from_secret(&[1; 32])));
    // From before there was a root, and it finds one; and one that never hears of the first.
    let (early, late) = (Member::of(&server, &[]).unwrap(), Member::of(&server, &[]).unwrap());
    early.pull(&channel).unwrap();
    let release = server.folder.path().join("release.pem").display().to_string();
    let lost = KeyPair::from_pem(&fs::read_to_string(&release).unwrap()).unwrap();
    table.done(&[
        "init",
        "root",
        "--keys",
        "3",
        "--threshold",
        "2",
        "--release",
        &release,
        "--passphrase-file",
        "words",
    ]);
    table.fails(&["init", "root", "--release", &release, "--passphrase-file", "words"], "there is a root");
    assert!(fs::read_to_string(table.path("root/root-1.pem")).unwrap().contains("ENCRYPTED"));
    put(&server, "root.json", &table.path("root/root.json"));
    reloaded(&server);
    let root = table.path("root/root.json").display().to_string();
    let pinned = Member::of(&server, &["--root", &root]).unwrap();
    for member in [&early, &pinned] {
        member.pull(&channel).unwrap();
        assert_eq!(member.run(&["status"]).unwrap()["root"]["epoch"], 1);
    }

    // The next root: another release key, and the third root key, of which the passphrase is forgotten, exchanged.
    let (second, third) = (table.key("second.pem", 52), root_key(&root, 2));
    table.done(&[
        "rotate",
        &root,
        "--release",
        "second.pem",
        "--exchange",
        &format!("{third}=root/root-4.pem"),
        "--passphrase-file",
        "third",
    ]);
    put(&server, "release.pem", &second);
    // Too few signatures: the server does not take it, and devices would not.
    table.fails(
        &["sign", &root, "--key", "root/root-1.pem", "--passphrase-file", "second"],
        "no key that this passphrase opens",
    );
    table.done(&["sign", &root, "--key", "root/root-1.pem", "--passphrase-file", "first"]);
    put(&server, "root.json", &table.path("root/root.json"));
    server.process.0.kill().unwrap();
    server.process.0.wait().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_edgetune-fleet"));
    let refused = command.args(super::server::serving(server.folder.path())).output().unwrap();
    let told = String::from_utf8_lossy(&refused.stderr);
    assert!(told.contains("root.json") && told.contains("1 signatures") && told.contains("2 are needed"), "{told}");
    table.done(&["sign", &root, "--key", "root/root-2.pem", "--passphrase-file", "second"]);
    put(&server, "root.json", &table.path("root/root.json"));
    server.restart(&[]);
    for member in [&early, &pinned] {
        moved(member, &server);
        let pulled = member.pull(&channel).unwrap();
        assert_eq!(
            (&pulled["version"], &pulled["new"]),
            (&1.into(), &false.into()),
            "the adapter that the lost key has signed stays"
        );
        let status = member.run(&["status"]).unwrap();
        assert_eq!((&status["root"]["epoch"], &status["release_keys"][0]), (&2.into(), &public(52).into()));
    }
    // One that knows nothing but the lost key: it was never told of a root, and cannot know.
    moved(&late, &server);
    late.refuses(&channel, "not signed by the fleet's key");
    // What comes next is signed by the new key.
    let delta = early.0.path().join("A.edelta").display().to_string();
    fs::write(&delta, plain_delta(4, 1, &KeyPair::from_secret(&[9; 32]))).unwrap();
    early.run(&["push", &delta, "--channel", &channel]).unwrap();
    server.turn(&channel);
    for member in [&early, &pinned] {
        assert_eq!(member.pull(&channel).unwrap()["version"], 2);
    }

    // Whoever has the lost key, and a root of their own or the old one, is not believed any more.
    let forged = forged(&table, &lost);
    for root in forged {
        fs::write(server.folder.path().join("root.json"), root).unwrap();
        fs::write(server.folder.path().join("release.pem"), lost.to_pem().unwrap()).unwrap();
        server.restart(&[]);
        for member in [&early, &pinned] {
            moved(member, &server);
            let told = member.pull(&channel).unwrap_err();
            assert!(
                told.contains("not signed by the fleet's key") || told.contains("of the keys of the root before"),
                "{told}"
            );
        }
    }
}

/// Roots by other keys: one of the first root's epoch, and one of a later epoch than any.
fn forged(table: &Table, lost: &KeyPair) -> [Vec<u8>; 2] {
    fs::write(table.path("lost.pem"), lost.to_pem().unwrap()).unwrap();
    table.done(&[
        "init",
        "forged",
        "--keys",
        "3",
        "--threshold",
        "2",
        "--release",
        "lost.pem",
        "--passphrase-file",
        "words",
    ]);
    let root = || fs::read(table.path("forged/root.json")).unwrap();
    let first = root();
    for _ in 0..3 {
        table.done(&["rotate", "forged/root.json", "--release", "lost.pem"]);
        table.done(&["sign", "forged/root.json", "--key", "forged/root-1.pem", "--passphrase-file", "first"]);
        table.done(&["sign", "forged/root.json", "--key", "forged/root-2.pem", "--passphrase-file", "second"]);
    }
    [first, root()]
}

fn public(seed: u8) -> String {
    Hex(KeyPair::from_secret(&[seed; 32]).public()).to_string()
}

/// The key at a place among a root's.
fn root_key(root: &str, place: usize) -> String {
    let root: Value = serde_json::from_slice(&fs::read(root).unwrap()).unwrap();
    root["roots"][place].as_str().unwrap().to_owned()
}

/// The server is at another port since it was started again.
fn moved(member: &Member, server: &Server) {
    let path = member.0.path().join("state/member.json");
    let mut known: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    known["url"] = format!("https://127.0.0.1:{}", server.port()).into();
    fs::write(path, known.to_string()).unwrap();
}

/// A root says who signs releases, and so it is believed only by who is trusted before: none makes itself trusted, and none does with one
/// release what it names.
#[test]
fn a_strangers_root_is_not_taken() {
    let (liar, stranger) = (Liar::new(), KeyPair::from_secret(&[66; 32]));
    let root = |epoch, keys: &[&KeyPair], signers: &[&KeyPair]| {
        let mut root = Root {
            epoch,
            expires_ms: u64::MAX,
            threshold: 1,
            roots: vec![Hex(signers[0].public())],
            releases: keys.iter().map(|key| Hex(key.public())).collect(),
            authors: Vec::new(),
            signatures: Vec::new(),
        };
        signers.iter().for_each(|signer| root.sign(signer));
        Some(Box::new(root))
    };
    let (victim, ours, offline) = (Victim::of(&liar), release_key(), KeyPair::from_secret(&[67; 32]));
    let says = |version, root: Option<Box<Root>>, key: &KeyPair| {
        liar.says_by(Release { root, ..liar.release("photos", version, TOLD_MS) }, key);
    };
    let epoch = |victim: &Victim| victim.folder.member().unwrap().root.map(|root| root.epoch);
    // It names the key that the device knows, and the stranger's beside it, which then signs.
    says(1, root(1, &[&ours, &stranger], &[&stranger]), &stranger);
    refused(victim.pull("photos", TOLD_MS), "not signed by the fleet's key");
    assert_eq!(epoch(&victim), None);
    says(1, root(1, &[&ours], &[&offline]), &ours);
    victim.pull("photos", TOLD_MS).unwrap();
    assert_eq!(epoch(&victim), Some(1));
    for (number, signers, why) in [
        (2, &[&stranger][..], "of the keys of the root before"),
        (1, &[&stranger], "not signed by the fleet's key"),
        (0, &[&stranger], "not signed by the fleet's key"),
    ] {
        says(2, root(number, &[&stranger], signers), &stranger);
        refused(victim.pull("photos", TOLD_MS), why);
        assert_eq!(epoch(&victim), Some(1), "root {number}");
    }
    // What was signed in between is not moved to another root: the release says which it comes with.
    says(2, root(2, &[&ours], &[&stranger, &offline]), &ours);
    let mut moved = liar.release("photos", 2, TOLD_MS).signed(&ours);
    moved.root = root(2, &[&ours, &stranger], &[&offline]);
    liar.says_as_it_is(moved);
    refused(victim.pull("photos", TOLD_MS), "not signed by the fleet's key");
    says(2, root(2, &[&stranger], &[&stranger, &offline]), &stranger);
    victim.pull("photos", TOLD_MS).unwrap();
    assert_eq!(epoch(&victim), Some(2), "the offline key has named another one");
    says(3, None, &ours);
    refused(victim.pull("photos", TOLD_MS), "not signed by the fleet's key");
}

/// Where authors are named, devices take what one of them has signed, and nothing else, whatever the server signs.
#[test]
fn an_adapter_counts_by_its_authors_key() {
    if std::env::var_os("EDGETUNE_FLEET_DATABASE").is_some() {
        return; // Every round of a shared database would wait for an author.
    }
    let (table, server) = (Table::new(), Server::with(&[]));
    let author = KeyPair::from_secret(&[77; 32]);
    fs::write(table.path("author.pub.pem"), author.public_pem().unwrap()).unwrap();
    let channel = server.channel_of(AT_ONCE, &plain_delta(0, 1, &KeyPair::from_secret(&[1; 32])));
    let release = server.folder.path().join("release.pem").display().to_string();
    let words = ["--release", &release, "--author", "author.pub.pem", "--passphrase-file", "words"];
    table.done(&[&["init", "root"], words.as_slice()].concat());
    put(&server, "root.json", &table.path("root/root.json"));
    reloaded(&server);
    let member = Member::of(&server, &[]).unwrap();
    member.refuses(&channel, "no author of the fleet has signed the adapter");
    let publish = |key: &KeyPair| {
        let answer = server.operator("POST", &format!("/v1/admin/channels/{channel}/release"), &plain_delta(3, 1, key));
        (answer.status, answer.text())
    };
    let (status, told) = publish(&KeyPair::from_secret(&[78; 32]));
    assert!(status == 422 && told.contains("no author"), "{told}");
    assert_eq!(publish(&author).0, 202);
    let pulled = member.pull(&channel).unwrap();
    assert_eq!(pulled["version"], 2);
    let adapter = fs::read(pulled["path"].as_str().unwrap()).unwrap();
    assert_eq!(delta::Delta::parse(&adapter).unwrap().head().signer(), Some(&author.public()));
    let closed = server.operator("POST", &format!("/v1/admin/channels/{channel}/close"), b"");
    assert!(closed.status == 409 && closed.text().contains("an author"), "{}", closed.text());
}
