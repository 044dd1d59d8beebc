//! What clients may not do to the service: each bad request gets its answer, and the service goes on.

use super::api::{Answer, RED, ask, connect, get, listening, post, send, status};
use super::{CONFIG, Service, picture, ready, until};
use crate::cli::Place;
use serde_json::Value;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

fn start(place: &Place, more: &str) -> Service {
    let config = String::from_utf8(place.read("edgetune.toml")).unwrap();
    place.write("edgetune.toml", config + more);
    Service::start_answering(place)
}

#[test]
fn bad_requests_are_refused_with_the_field_and_the_remedy() {
    let place = listening();
    let service = start(&place, "[samples]\neach-max-kb = 100\ntotal-max-mb = 1\nclasses = [\"red\", \"blue\"]\n");
    until(&place, "a first look about", || status(&place)["waits"].as_array().is_some_and(|waits| !waits.is_empty()));
    let good = picture(RED, 1);
    let label = "/samples?label=red";
    let long = format!("/samples?label={}", "x".repeat(101));
    let cases: Vec<(u16, &[&str], std::io::Result<Answer>)> = vec![
        (400, &["label", "/samples?label=cat"], post(&place, "/samples", &good)),
        (400, &["label", "twice"], post(&place, "/samples?label=red&label=blue", &good)),
        (422, &["label", "samples.classes", "red, blue"], post(&place, "/samples?label=dog", &good)),
        (422, &["label", "`/`"], post(&place, "/samples?label=..%2F..%2Fetc", &good)),
        (422, &["label", "`.`"], post(&place, "/samples?label=..", &good)),
        (422, &["label"], post(&place, "/samples?label=a%00b", &good)),
        (422, &["label"], post(&place, "/samples?label=", &good)),
        (422, &["label", "100 bytes"], post(&place, &long, &good)),
        (413, &["body", "each-max-kb"], post(&place, label, &vec![0; 100_001])),
        (413, &["body", "each-max-kb"], ask(&place, "POST", label, "content-length: 999999999999\r\n", b"")),
        (413, &["body"], ask(&place, "POST", label, "content-length: 999999999999\r\nexpect: 100-continue\r\n", b"")),
        (
            411,
            &["content-length"],
            ask(&place, "POST", label, "transfer-encoding: chunked\r\n", b"3\r\nabc\r\n0\r\n\r\n"),
        ),
        (415, &["body", "JPEG, PNG"], post(&place, label, b"no photograph")),
        (415, &["body"], post(&place, label, b"")),
        (415, &["body"], post(&place, label, &good[..20])),
        (404, &["path", "/samples"], post(&place, "/sample", &good)),
        (404, &["path"], post(&place, "/samples/../status", &good)),
        (405, &["method", "POST"], ask(&place, "PUT", "/samples", "", b"")),
        (405, &["method", "PUT, DELETE"], ask(&place, "GET", "/samples/abc", "", b"")),
        (404, &["abc", "GET /samples"], ask(&place, "DELETE", "/samples/abc", "", b"")),
        (404, &["sample"], ask(&place, "PUT", &format!("/samples/{}?label=red", "a".repeat(32)), "", b"")),
        (400, &["label", "PUT /samples"], ask(&place, "PUT", &format!("/samples/{}", "a".repeat(32)), "", b"")),
        (400, &["limit", "1000"], ask(&place, "GET", "/samples?limit=0", "", b"")),
        (400, &["side", "held-out"], ask(&place, "GET", "/samples?side=left", "", b"")),
        (400, &["now", "true or false"], ask(&place, "POST", "/train?now=soon", "content-length: 0\r\n", b"")),
        (405, &["method", "GET"], post(&place, "/metrics", b"")),
        (409, &["no adapter", "0 of 40 new samples; 0 of 8 held-out samples"], post(&place, "/predict", &good)),
        (400, &["top", "65535"], post(&place, "/predict?top=0", &good)),
        (400, &["body", "line 1", "id"], post(&place, "/feedback", b"{}")),
        (400, &["body"], post(&place, "/feedback", b"not json")),
        (400, &["body", "colour"], post(&place, "/feedback", br#"{"id": "a", "label": "red", "colour": 1}"#)),
        (404, &["id", "/samples"], post(&place, "/feedback", br#"{"id": "a", "label": "red"}"#)),
        (422, &["label"], post(&place, "/feedback", br#"{"id": "a", "label": "../red"}"#)),
        (413, &["body"], post(&place, "/feedback", &[b' '; 5000])),
    ];
    for (number, (status, parts, answer)) in cases.into_iter().enumerate() {
        answer.unwrap_or_else(|error| panic!("case {number}: {error}")).problem(status, parts);
    }
    let allowed = ask(&place, "PUT", "/samples", "", b"").unwrap();
    assert!(allowed.head.contains("allow: get, post"), "{}", allowed.head);
    // What is no HTTP at all, or too much of it.
    for raw in [&b"hello\r\n\r\n"[..], &[b"GET / HTTP/1.1\r\nx: ", &[b'y'; 40_000][..], b"\r\n\r\n"].concat(), &[0; 64]]
    {
        let mut stream = connect(&place).unwrap();
        let _ = stream.write_all(raw);
        let answer = Answer::read(&mut stream).unwrap();
        assert!([400, 431].contains(&answer.status), "{answer:?}");
    }
    // Room for one of them more than once is room for one.
    let mut sent = 0;
    let full = loop {
        let large = [good.clone(), vec![sent; 90_000]].concat();
        match post(&place, label, &large).unwrap() {
            answer if answer.status == 201 => sent += 1,
            answer => break answer,
        }
    };
    full.problem(507, &["samples.total-max-mb"]);
    assert!(full.head.contains("retry-after"), "{}", full.head);
    assert!((8..12).contains(&sent), "{sent}");
    assert!(!place.path("etc").exists() && !place.path("state/samples/etc").exists());
    assert_eq!(status(&place)["samples"]["classes"], 1);
    service.stop();
}

#[test]
fn a_port_is_for_programs_of_this_machine() {
    let place = ready();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let service = start(&place, &format!("[api]\nlisten = \"127.0.0.1:{port}\"\n"));
    let ask = |headers: &str| {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        write!(stream, "GET /status HTTP/1.1\r\nconnection: close\r\n{headers}\r\n").unwrap();
        Answer::read(&mut stream).unwrap()
    };
    assert_eq!(ask(&format!("host: localhost:{port}\r\n")).status, 200);
    assert_eq!(ask("host: [::1]\r\n").status, 200);
    ask("host: evil.example\r\n").problem(403, &["host", "localhost"]);
    // A name that somebody else's name server lets lead here.
    ask(&format!("host: 127.evil.example:{port}\r\n")).problem(403, &["host", "localhost"]);
    ask(&format!("host: localhost:{port}\r\norigin: https://evil.example\r\n")).problem(403, &["host"]);
    ask("").problem(403, &["host"]);
    service.stop();
    for (listen, part) in [("0.0.0.0:7411", "passwords"), ("7411", "127.0.0.1:7411"), ("unix:", "unix:/run")] {
        place.write("edgetune.toml", format!("{CONFIG}\n[api]\nlisten = \"{listen}\"\n"));
        place.run("agent run --config edgetune.toml").fails(&[listen, part]);
    }
}

#[test]
fn slow_clients_lose_their_connection_and_nobody_elses() {
    let place = listening();
    let service = start(&place, "timeout-s = 1\n");
    let began = Instant::now();
    let mut head = connect(&place).unwrap();
    head.write_all(b"GET /status HT").unwrap();
    let mut body = connect(&place).unwrap();
    body.write_all(b"POST /samples?label=red HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\nabc").unwrap();
    let mut idle = connect(&place).unwrap();
    assert_eq!(get(&place, "/status").status, 200, "others are answered meanwhile");
    assert!(began.elapsed() < Duration::from_millis(900), "{:?}", began.elapsed());
    Answer::read(&mut body).unwrap().problem(408, &["body", "api.timeout-s"]);
    let mut rest = Vec::new();
    let _ = head.read_to_end(&mut rest);
    let _ = idle.read_to_end(&mut rest);
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    service.stop();
}

#[test]
fn a_thousand_connections_are_answered_or_told_to_come_back() {
    let place = listening();
    let service = start(&place, "connections-max = 16\ntimeout-s = 2\n");
    let descriptors = |service: &Service| fs::read_dir(format!("/proc/{}/fd", service.child.id())).unwrap().count();
    let before = descriptors(&service);
    let (mut answered, mut told) = (0, 0);
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..20)
            .map(|_| {
                scope.spawn(|| {
                    let mut found = Vec::new();
                    for _ in 0..50 {
                        let answer = ask(&place, "GET", "/status", "", b"").unwrap();
                        found.push(answer.status);
                    }
                    found
                })
            })
            .collect();
        // Others connect and say nothing.
        let silent: Vec<_> = (0..10).map(|_| connect(&place).unwrap()).collect();
        for client in clients {
            for status in client.join().unwrap() {
                match status {
                    200 => answered += 1,
                    503 => told += 1,
                    other => panic!("{other}"),
                }
            }
        }
        drop(silent);
    });
    println!("{answered} answered, {told} told to come back");
    assert!(answered > 0 && answered + told == 1000);
    assert!(descriptors(&service) < before + 40, "{before} before, {} now", descriptors(&service));
    assert_eq!(send(&place, "red", RED, 0..1).len(), 1);
    service.stop();
}

#[test]
fn training_waits_when_the_days_writes_are_used_up() {
    let place = listening();
    super::drop_reds_and_blues(&place);
    let service = Service::start_by(&place, place.command("agent run --config edgetune.toml --flash-budget 0"));
    let full = "what may be written in a day is written";
    super::until(&place, "a socket", || place.path("api.sock").exists());
    let mut told = status(&place);
    let taken = |told: &Value| {
        let count = |side: &str| told["samples"][side].as_u64().unwrap();
        count("train") + count("held_out")
    };
    let decided = |told: &Value| {
        told["doing"].as_str().unwrap().ends_with(full) || told["doing"].as_str().unwrap().starts_with("training")
    };
    super::until(&place, "a decision", || {
        told = status(&place);
        taken(&told) == 90 && decided(&told)
    });
    // What the kernel does not count forbids nothing. It is the kernel that is asked, not the service.
    let counts = fs::read_to_string("/proc/self/io").is_ok_and(|io| io.contains("write_bytes: "));
    if counts {
        let waits = told["waits"].as_array().unwrap().last().unwrap();
        assert_eq!((waits, &told["day"]["written_bytes_max"]), (&full.into(), &0.into()), "{told}");
    } else {
        crate::cli::not_tested("a budget of writes: the kernel does not count them");
    }
    assert_eq!(taken(&told), 90, "samples are taken all the same");
    service.stop();
    let service = start(&place, "[storage]\nflash-budget-mb-per-day = 1000\n");
    super::until(&place, "an adapter in use", || place.path("state/active.edelta").exists());
    let written = status(&place)["day"]["written_bytes"].as_u64();
    assert_eq!(written.is_some(), counts);
    assert!(written.is_none_or(|bytes| bytes > 90 * 500 && bytes < 1_000_000_000), "{written:?}");
    service.stop();
    let kept = fs::read(place.path("state/written.json")).unwrap();
    assert!(serde_json::from_slice::<serde_json::Value>(&kept).unwrap().is_object());
}

/// More than one look takes in; the first ones alone would do for a training.
#[test]
fn a_training_waits_for_what_still_lies_in_the_spool() {
    let place = super::ready();
    super::drop_pictures(&place, "red", [190, 0, 0], 0..700);
    super::drop_pictures(&place, "blue", [0, 0, 190], 0..700);
    let service = Service::start(&place);
    super::until(&place, "a verdict", || super::count(&super::history(&place), "judged") == 1);
    service.stop();
    let status = place.run("agent status --config edgetune.toml --json").json();
    let judged = super::history(&place).into_iter().find(|event| event["event"] == "judged").unwrap();
    assert_eq!(super::samples(&place), 1400);
    assert_eq!(judged["samples"], status["samples"]["train"], "{judged}");
}

/// Kilobytes of memory that a process has for itself.
fn resident_kb(process: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// `EDGETUNE_SAMPLES` asks for more of them.
#[test]
fn memory_stays_flat_over_many_samples() {
    let samples = std::env::var("EDGETUNE_SAMPLES").map_or(600, |count| count.parse().expect("a number of samples"));
    let place = listening();
    let config = String::from_utf8(place.read("edgetune.toml")).unwrap();
    place.write("edgetune.toml", config.replace("new-samples-min = 40", "new-samples-min = 1000000"));
    let service = Service::start_answering(&place);
    // The first ones fill what is kept for all that follow.
    send(&place, "red", RED, 0..200);
    let before = resident_kb(service.child.id());
    for number in 0..samples {
        send(&place, if number % 2 == 0 { "red" } else { "blue" }, RED, 1000 + number..1001 + number);
        if number % 10 == 0 {
            status(&place);
        }
    }
    let after = resident_kb(service.child.id());
    println!("{before} kB before {samples} samples, {after} kB after");
    assert!(after < before + 1024, "{before} kB before {samples} samples, {after} kB after");
    service.stop();
}
