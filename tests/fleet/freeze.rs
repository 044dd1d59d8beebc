//! Who holds new releases back: an old word is refused whatever anybody says of the time, "nothing new" is the fleet's signed word, and
//! no signed time locks a device out for years. The device's own client, against a server that says what a test wants it to.

use super::*;
use edgetune::sync::client::{Client, Error, Folder, Invitation, Name, Outside, Pulled, enrol, pull};
use edgetune::sync::wire::{Enrolled, Hex, PROBLEM, Problem, Release, TimeRefused, Unchanged};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

const DAY_MS: u64 = 24 * 60 * 60 * 1000;
/// When the release of these tests was told, and until when it counts.
pub const TOLD_MS: u64 = 1_900_000_000_000;
const ENDS_MS: u64 = TOLD_MS + 7 * DAY_MS;

pub fn release_key() -> KeyPair {
    KeyPair::from_secret(&[42; 32])
}

/// What a liar says, and what it was asked.
#[derive(Default)]
struct Script {
    /// The time that it tells by refusing the next request.
    told_ms: Option<u64>,
    /// What it says of every channel.
    release: Option<Release>,
    /// Whether it answers "nothing new" to who knows something, and the header that it sends with it.
    unchanged: Option<Option<String>>,
    adapter: Vec<u8>,
    /// Heads of requests for releases.
    asked: Vec<String>,
}

/// A server that says what it is told to say.
pub struct Liar {
    pub port: u16,
    script: Arc<Mutex<Script>>,
}

impl Liar {
    pub fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (port, script) = (listener.local_addr().unwrap().port(), Arc::<Mutex<Script>>::default());
        script.lock().unwrap().adapter = plain_delta(1, 1, &release_key());
        let said = script.clone();
        std::thread::spawn(move || listener.incoming().flatten().for_each(|stream| answer(stream, &said)));
        Self { port, script }
    }

    /// Tells this release from now on, and no time but in it.
    fn says(&self, release: Release) {
        self.says_by(release, &release_key());
    }

    /// The same, signed by somebody.
    pub fn says_by(&self, release: Release, key: &KeyPair) {
        self.says_as_it_is(release.signed(key));
    }

    /// The same, with the signature that it has.
    pub fn says_as_it_is(&self, release: Release) {
        let mut script = self.script.lock().unwrap();
        (script.release, script.told_ms, script.unchanged) = (Some(release), None, None);
    }

    fn tells(&self, told_ms: Option<u64>) {
        self.script.lock().unwrap().told_ms = told_ms;
    }

    /// The current release, told at that time.
    pub fn release(&self, channel: &str, version: u64, told_ms: u64) -> Release {
        let adapter = &self.script.lock().unwrap().adapter;
        Release {
            channel: channel.into(),
            epoch: 0,
            version,
            base: Hex(BASE),
            adapter: Hex(blake3::hash(adapter).into()),
            length: adapter.len() as u64,
            round: Some(1),
            devices_min: 5,
            root: None,
            told_ms,
            expires_ms: told_ms + 7 * DAY_MS,
            signature: Hex([0; 64]),
        }
    }
}

/// One request and its answer.
fn answer(mut stream: TcpStream, script: &Mutex<Script>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).unwrap_or(0) == 0 {
            return;
        }
    }
    let value = |name: &str| {
        let line =
            head.lines().find_map(|line| line.split_once(": ").filter(|(known, _)| known.eq_ignore_ascii_case(name)));
        line.map(|(_, value)| value.to_owned())
    };
    let mut body = vec![0; value("content-length").map_or(0, |length| length.parse().unwrap())];
    reader.read_exact(&mut body).unwrap();
    let key = value("authorization").unwrap().split_once("key=").unwrap().1[..64].parse().unwrap();
    let mut script = script.lock().unwrap();
    let target = head.split(' ').nth(1).unwrap().to_owned();
    let (status, header, body) = if target == "/v1/enrol" {
        let release_key = Hex(release_key().public());
        let told = Enrolled { fleet: "liar".into(), key, release_key, root: None, time_ms: 0 };
        ("200 OK", String::new(), serde_json::to_vec(&told).unwrap())
    } else if let Some(now_ms) = script.told_ms.take() {
        let problem = Problem {
            r#type: format!("{PROBLEM}time"),
            title: "The time does not count".into(),
            status: 401,
            detail: "sign it again".into(),
            time: Some(TimeRefused { now_ms, last_ms: 0 }),
        };
        ("401 Unauthorized", String::new(), serde_json::to_vec(&problem).unwrap())
    } else if target.starts_with("/v1/adapters/") {
        ("200 OK", String::new(), script.adapter.clone())
    } else {
        script.asked.push(head.clone());
        let release = script.release.clone().unwrap();
        match script.unchanged.clone().filter(|_| value("if-none-match").is_some()) {
            Some(word) => (
                "304 Not Modified",
                word.map_or(String::new(), |word| format!("{}: {word}\r\n", Unchanged::HEADER)),
                Vec::new(),
            ),
            None => ("200 OK", format!("etag: {}\r\n", release.tag()), serde_json::to_vec(&release).unwrap()),
        }
    };
    let length = if status.starts_with("304") { String::new() } else { format!("content-length: {}\r\n", body.len()) };
    let head = format!("HTTP/1.1 {status}\r\nconnection: close\r\n{header}{length}\r\n");
    let _ = stream.write_all(&[head.as_bytes(), &body].concat());
}

/// A device of a liar's fleet.
pub struct Victim {
    _place: tempfile::TempDir,
    pub folder: Folder,
}

impl Victim {
    pub fn of(liar: &Liar) -> Self {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::open(place.path()).unwrap();
        let invitation = Invitation {
            url: format!("http://127.0.0.1:{}", liar.port),
            token: "0000".into(),
            name: Name::Given("victim".into()),
            replace: false,
            root: None,
            ca: None,
            client_certificate: None,
        };
        with_clock(0, |outside| enrol(&folder, invitation, &|| Ok([7; 32]), outside)).unwrap();
        Self { _place: place, folder }
    }

    /// Pulls a channel by a process whose clock shows `clock_ms`.
    pub fn pull(&self, channel: &str, clock_ms: u64) -> Result<Pulled, Error> {
        with_clock(clock_ms, |outside| pull(&mut Client::open(&self.folder, outside)?, &self.folder, channel))
    }

    fn signed_ms(&self) -> u64 {
        self.folder.seen().unwrap().signed_ms()
    }
}

fn with_clock<T>(clock_ms: u64, act: impl FnOnce(Outside<'_>) -> T) -> T {
    let clock = || clock_ms;
    act(Outside { clock_ms: &clock, chance: &|| 0.0, sleep: &|_| (), tries: 1, bytes_per_s: None })
}

#[track_caller]
pub fn refused(pulled: Result<Pulled, Error>, why: &str) {
    let error = pulled.unwrap_err().to_string();
    assert!(error.contains(why), "no `{why}` in: {error}");
}

/// Once one of the device's clock, the server's word and the fleet's signed word is past the release's end, the two others may be set
/// back to any time: the release is refused.
#[test]
fn an_expired_release_is_refused_under_every_told_time() {
    let liar = Liar::new();
    let earlier = [0, 1, TOLD_MS - 400 * DAY_MS, TOLD_MS, ENDS_MS - 1];
    let told = || earlier.iter().map(|ms| Some(*ms)).chain([None]);
    let victim = Victim::of(&liar);
    liar.says(liar.release("photos", 1, TOLD_MS));
    for told_ms in told() {
        liar.tells(told_ms);
        refused(victim.pull("photos", ENDS_MS), "by this device's clock");
    }
    for own_ms in earlier {
        liar.tells(Some(ENDS_MS));
        refused(victim.pull("photos", own_ms), "by what the server says of the time");
    }
    assert!(victim.folder.seen().unwrap().0.is_empty());
    // Of another channel the device has heard later.
    liar.says(liar.release("texts", 1, ENDS_MS));
    victim.pull("texts", TOLD_MS).unwrap();
    liar.says(liar.release("photos", 1, TOLD_MS));
    for own_ms in earlier {
        for told_ms in told() {
            liar.tells(told_ms);
            refused(victim.pull("photos", own_ms), "by what the fleet has signed before");
        }
    }
    // Where nobody knows better, it counts.
    let victim = Victim::of(&liar);
    for told_ms in told() {
        liar.tells(told_ms);
        assert_eq!(victim.pull("photos", TOLD_MS).unwrap().release.version, 1);
    }
}

#[test]
fn nothing_new_is_believed_where_the_fleet_has_signed_it() {
    let liar = Liar::new();
    let (victim, release) = (Victim::of(&liar), liar.release("photos", 1, TOLD_MS));
    liar.says(release.clone());
    assert!(victim.pull("photos", TOLD_MS).unwrap().is_new);
    let word = |channel: &str, told_ms, key: &KeyPair| {
        Some(Unchanged::sign(channel, &release.tag(), told_ms, key).to_string())
    };
    let later_ms = TOLD_MS + DAY_MS;
    let asked = |word: Option<String>| {
        let mut script = liar.script.lock().unwrap();
        (script.unchanged, script.asked) = (Some(word), Vec::new());
        drop(script);
        assert!(!victim.pull("photos", TOLD_MS).unwrap().is_new);
        let asked = liar.script.lock().unwrap().asked.clone();
        (asked[0].contains("if-none-match"), asked.len())
    };
    let stranger = KeyPair::from_secret(&[9; 32]);
    for unsigned in
        [None, Some("time=1".into()), word("photos", later_ms, &stranger), word("texts", later_ms, &release_key())]
    {
        assert_eq!(asked(unsigned), (true, 2), "then it asks for the whole");
        assert_eq!(victim.signed_ms(), TOLD_MS);
    }
    assert_eq!(asked(word("photos", later_ms, &release_key())), (true, 1));
    assert_eq!(victim.signed_ms(), later_ms, "the signed time is kept");
    // A word that the release has ended since is no leave to go on with it, and what is then said of it is too old.
    liar.script.lock().unwrap().unchanged = Some(word("photos", ENDS_MS, &release_key()));
    refused(victim.pull("photos", TOLD_MS), "holding newer ones back");
}

/// A server whose clock has gone mad is not believed, and leaves nothing behind that would outlast it.
#[test]
fn a_signed_time_years_ahead_is_refused() {
    let liar = Liar::new();
    let victim = Victim::of(&liar);
    liar.says(liar.release("photos", 1, TOLD_MS));
    victim.pull("photos", TOLD_MS).unwrap();
    liar.says(liar.release("photos", 2, TOLD_MS + 3000 * DAY_MS));
    for told_ms in [None, Some(TOLD_MS + 3000 * DAY_MS)] {
        liar.tells(told_ms);
        refused(victim.pull("photos", TOLD_MS), "more than a year after");
    }
    assert_eq!(victim.signed_ms(), TOLD_MS);
    liar.says(liar.release("photos", 2, TOLD_MS + DAY_MS));
    assert_eq!(victim.pull("photos", TOLD_MS).unwrap().release.version, 2);
}
