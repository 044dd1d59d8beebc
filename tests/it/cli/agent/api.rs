//! The service as applications meet it over its socket: samples, predictions, corrections, what it tells of itself.

use super::{CONFIG, PATIENCE, Service, count, history, picture, ready, until};
use crate::cli::Place;
use serde_json::Value;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

pub const RED: [u8; 3] = [190, 0, 0];
pub const BLUE: [u8; 3] = [0, 0, 190];
pub const GREEN: [u8; 3] = [0, 190, 0];

/// A place whose service listens.
pub fn listening() -> Place {
    let place = ready();
    place.write("edgetune.toml", format!("{CONFIG}\n[api]\nlisten = \"unix:api.sock\"\n"));
    place
}

/// An answer, taken apart.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn read(stream: &mut impl Read) -> io::Result<Self> {
        let mut bytes = Vec::new();
        match stream.read_to_end(&mut bytes) {
            // So ends a connection whose client has sent more than was read.
            Err(error) if error.kind() != io::ErrorKind::ConnectionReset => return Err(error),
            _ => {}
        }
        let text = String::from_utf8(bytes).map_err(io::Error::other)?;
        let (head, body) = text.split_once("\r\n\r\n").ok_or_else(|| io::Error::other(format!("no answer: {text}")))?;
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| io::Error::other(head.to_string()))?;
        Ok(Self { status, head: head.to_lowercase(), body: body.into() })
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// A problem that names these parts, and what to do.
    #[track_caller]
    pub fn problem(&self, status: u16, parts: &[&str]) {
        assert_eq!(self.status, status, "{}", self.body);
        assert!(self.head.contains("application/problem+json"), "{}", self.head);
        let problem = self.json();
        assert_eq!(problem["status"], status);
        assert!(problem["detail"].as_str().unwrap().len() > 20, "{problem}");
        parts.iter().for_each(|part| assert!(self.body.contains(part), "`{part}` is not in {}", self.body));
    }
}

pub fn connect(place: &Place) -> io::Result<UnixStream> {
    let stream = UnixStream::connect(place.path("api.sock"))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// One request on a connection of its own.
pub fn ask(place: &Place, method: &str, path: &str, headers: &str, body: &[u8]) -> io::Result<Answer> {
    let mut stream = connect(place)?;
    let head = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{headers}\r\n");
    // A server that refuses before it has read all may close while we write.
    let _ = stream.write_all(&[head.as_bytes(), body].concat());
    Answer::read(&mut stream)
}

pub fn post(place: &Place, path: &str, body: &[u8]) -> io::Result<Answer> {
    ask(place, "POST", path, &format!("content-length: {}\r\n", body.len()), body)
}

pub fn get(place: &Place, path: &str) -> Answer {
    ask(place, "GET", path, "", b"").unwrap()
}

pub fn status(place: &Place) -> Value {
    get(place, "/status").json()
}

/// Sends samples; gives how long each took to be acknowledged.
pub fn send(place: &Place, label: &str, colour: [u8; 3], numbers: std::ops::Range<u64>) -> Vec<Duration> {
    let sent = |number| {
        let picture = picture(colour, number);
        let began = Instant::now();
        let answer = post(place, &format!("/samples?label={label}"), &picture).unwrap();
        assert_eq!(answer.status, 201, "{}", answer.body);
        began.elapsed()
    };
    numbers.map(sent).collect()
}

fn send_reds_and_blues(place: &Place) {
    send(place, "red", RED, 0..45);
    send(place, "blue", BLUE, 0..45);
}

/// What is predicted for a picture: its class, the prediction's name, the adapter.
pub fn predict(place: &Place, picture: &[u8]) -> [String; 3] {
    let answer = post(place, "/predict?top=1", picture).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);
    let found = answer.json();
    let text = |value: &Value| value.as_str().unwrap().to_string();
    [text(&found["classes"][0]["name"]), text(&found["id"]), text(&found["adapter"])]
}

fn adapter_in_use(place: &Place) -> Option<String> {
    status(place)["adapter"]["active"].as_str().map(String::from)
}

/// The process that predicts for a service.
fn predictor_of(service: &Service) -> Option<u32> {
    let is_child = |id: &u32| {
        let read = |file: &str| fs::read_to_string(format!("/proc/{id}/{file}")).unwrap_or_default();
        let parent = read("stat").rsplit_once(')').and_then(|(_, rest)| rest.split(' ').nth(2)?.parse::<u32>().ok());
        // Of the service's processes it is the one that answers over a pipe.
        let answers =
            fs::read_link(format!("/proc/{id}/fd/1")).is_ok_and(|to| to.to_string_lossy().starts_with("pipe:"));
        parent == Some(service.child.id()) && answers
    };
    let all = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    all.into_iter().find(is_child)
}

#[test]
fn samples_become_predictions_and_corrections_become_samples() {
    let place = listening();
    let service = Service::start_answering(&place);
    post(&place, "/predict", &picture(RED, 1)).unwrap().problem(409, &["no adapter is in use yet", "/status"]);
    send_reds_and_blues(&place);
    let again = post(&place, "/samples?label=red", &picture(RED, 0)).unwrap();
    assert_eq!((again.status, &again.json()["new"]), (200, &Value::Bool(false)), "sent twice is taken once");
    until(&place, "an adapter in use", || adapter_in_use(&place).is_some());

    let [class, id, adapter] = predict(&place, &picture(RED, 1000));
    assert_eq!((class.as_str(), Some(adapter)), ("red", adapter_in_use(&place)));
    assert_eq!(predict(&place, &picture(BLUE, 1000))[0], "blue");
    let confirmed = post(&place, "/feedback", format!(r#"{{"id": "{id}", "label": "red"}}"#).as_bytes()).unwrap();
    assert_eq!((confirmed.status, &confirmed.json()["right"]), (200, &Value::Bool(true)), "{}", confirmed.body);
    let corrected = post(&place, "/feedback", format!(r#"{{"id": "{id}", "label": "dark red"}}"#).as_bytes()).unwrap();
    assert_eq!((corrected.status, &corrected.json()["right"]), (200, &Value::Bool(false)), "{}", corrected.body);
    let name = corrected.json()["sample"].as_str().unwrap().to_string();
    let side = |side: &str| place.path("state/samples").join(side).join("dark red").join(format!("{name}.png"));
    let kept =
        ["train", "held-out"].map(side).into_iter().find(|path| path.exists()).expect("the correction is a sample");
    assert_eq!(fs::read(kept).unwrap(), picture(RED, 1000));

    let told = status(&place);
    assert_eq!(told["adapter"]["feedback"], serde_json::json!({"predicted": 2, "right": 0, "wrong": 1}), "{told}");
    let samples = &told["samples"];
    assert_eq!(samples["train"].as_u64().unwrap() + samples["held_out"].as_u64().unwrap(), 91, "{told}");
    assert!(told["adapter"]["promise"]["confidence"].as_f64().unwrap() > 0.5, "{told}");
    let metrics = get(&place, "/metrics");
    assert!(metrics.head.contains("text/plain; version=0.0.4"), "{}", metrics.head);
    for part in [
        "edgetune_adapter_feedback{answer=\"wrong\"} 1\n",
        "edgetune_requests_total{route=\"/predict\",status=\"409\"} 1\n",
    ] {
        assert!(metrics.body.contains(part), "{}", metrics.body);
    }
    for line in metrics.body.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').unwrap();
        assert!(name.starts_with("edgetune_") && value.parse::<f64>().is_ok(), "{line}");
    }
    assert!(service.stop() < Duration::from_secs(10));
    assert!(!place.path("state/run").exists());
}

/// 90 on an idle machine take some milliseconds each; tests share theirs with others, so the middle one counts.
#[test]
fn a_sample_is_durable_within_50_milliseconds() {
    let place = listening();
    let service = Service::start_answering(&place);
    let mut took = send(&place, "red", RED, 0..90);
    took.sort();
    println!("acknowledged within {:?} (median), {:?} (p95)", took[45], took[85]);
    assert!(took[45] < Duration::from_millis(50), "{took:?}");
    service.stop();
}

#[test]
fn no_request_is_lost_while_another_adapter_comes_and_processes_die() {
    let place = listening();
    let service = Service::start_answering(&place);
    send_reds_and_blues(&place);
    until(&place, "an adapter in use", || adapter_in_use(&place).is_some());
    let (going, seen) = (AtomicBool::new(true), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for asker in 0..3 {
            let (place, going, seen) = (&place, &going, &seen);
            scope.spawn(move || {
                let mut number = asker * 10_000;
                while going.load(Ordering::Relaxed) {
                    number += 1;
                    let [class, _, adapter] = predict(place, &picture(RED, number));
                    seen.lock().unwrap().push((class, adapter));
                }
            });
        }
        let guard = Guard(&going);
        // What ONNX Runtime's crash would do.
        until(&place, "predictions", || seen.lock().unwrap().len() > 5);
        let first = predictor_of(&service).expect("a process that predicts");
        assert!(Command::new("kill").args(["-KILL", &first.to_string()]).status().unwrap().success());
        until(&place, "another process", || predictor_of(&service).is_some_and(|other| other != first));
        let before = adapter_in_use(&place);
        send(&place, "green", GREEN, 0..60);
        until(&place, "a second adapter in use", || adapter_in_use(&place) != before);
        let second = adapter_in_use(&place).unwrap();
        until(&place, "its predictions", || seen.lock().unwrap().last().is_some_and(|(_, adapter)| *adapter == second));
        drop(guard);
    });
    let seen = seen.into_inner().unwrap();
    let mut adapters: Vec<&String> = seen.iter().map(|(_, adapter)| adapter).collect();
    adapters.dedup();
    println!("{} predictions", seen.len());
    assert!(seen.iter().all(|(class, _)| class == "red"), "{seen:?}");
    assert!(adapters.len() >= 2, "{adapters:?}");
    assert_eq!(predict(&place, &picture(GREEN, 7777))[0], "green");
    service.stop();
}

/// Lowers a flag also where a test fails, so that its threads end.
struct Guard<'a>(&'a AtomicBool);

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

#[test]
fn an_adapter_that_does_not_keep_its_promise_is_taken_back() {
    let place = listening();
    let service = Service::start_answering(&place);
    send_reds_and_blues(&place);
    until(&place, "an adapter in use", || adapter_in_use(&place).is_some());
    let first = adapter_in_use(&place).unwrap();
    send(&place, "green", GREEN, 0..60);
    until(&place, "a second adapter in use", || adapter_in_use(&place).unwrap() != first);
    let second = adapter_in_use(&place).unwrap();
    until(&place, "an end of the run", || !place.path("state/run").exists());
    // No training comes between.
    let config = String::from_utf8(place.read("edgetune.toml")).unwrap();
    place.write("edgetune.toml", config.replace("new-samples-min = 40", "new-samples-min = 10000"));
    service.send("HUP");
    until(&place, "predictions of the second", || predict(&place, &picture(RED, 1))[2] == second);
    let mut answers = 0;
    for number in 2000..2060 {
        let [_, id, adapter] = predict(&place, &picture(RED, number));
        if adapter != second {
            break;
        }
        let said = format!(r#"{{"id": "{id}", "label": "blue"}}"#);
        assert_eq!(post(&place, "/feedback", said.as_bytes()).unwrap().status, 200);
        answers += 1;
    }
    until(&place, "the first adapter again", || adapter_in_use(&place).unwrap() == first);
    println!("taken back within {answers} answers");
    let events = history(&place);
    let last = events.iter().rfind(|event| event["event"] == "activated").unwrap();
    assert_eq!((&last["by"], last["adapter"].as_str()), (&Value::from("feedback"), Some(first.as_str())), "{last}");
    assert!(last["reason"].as_str().unwrap().contains("were promised"), "{last}");
    let text = place.run("agent history --config edgetune.toml").done().out;
    assert!(text.contains("by feedback: right on"), "{text}");
    assert_eq!(count(&events, "activated"), 3);
    service.stop();
}

#[test]
fn a_socket_of_the_service_manager_is_served() {
    let place = ready();
    let listener = std::os::unix::net::UnixListener::bind(place.path("api.sock")).unwrap();
    let program = place.command("agent run --config edgetune.toml");
    // Descriptor 3 and two variables, as systemd does it; the shell knows its own process id.
    let mut shell = Command::new("sh");
    shell.args(["-c", "LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" \"$@\" 3<&0"]).arg(program.get_program());
    shell.args(program.get_args()).current_dir(place.path("")).env_clear();
    shell.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
    shell.stdin(std::os::fd::OwnedFd::from(listener));
    let service = Service::start_by(&place, shell);
    // Who connects before the service is there waits for it.
    assert_eq!(get(&place, "/status").status, 200);
    service.stop();
    assert!(place.path("api.sock").exists(), "it is the manager's");
}
