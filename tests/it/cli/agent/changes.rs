//! What a person decides: samples corrected and deleted, a training asked for, an adapter used or not, by commands and over the API.

use super::api::{BLUE, RED, ask, get, listening, post, send, status};
use super::kinds::{READINGS, reading, readings};
use super::{CONFIG, Service, count, history, samples, until};
use crate::cli::models::noise;
use serde_json::Value;

#[test]
fn samples_are_listed_corrected_and_deleted_by_commands_and_over_the_api() {
    let place = listening();
    let list = |more: &str| place.run(&format!("agent samples list --config edgetune.toml --json {more}")).json();
    let name = |listed: &Value, number: usize| listed[number]["sample"].as_str().unwrap().to_string();
    let service = Service::start_answering(&place);
    send(&place, "red", RED, 0..6);
    let found = get(&place, "/samples?label=red&limit=4").json();
    assert_eq!((found["samples"].as_array().unwrap().len(), list("").as_array().unwrap().len()), (4, 6));
    let rest = get(&place, &format!("/samples?after={}", found["next"].as_str().unwrap())).json();
    assert_eq!((rest["samples"].as_array().unwrap().len(), &rest["next"]), (2, &Value::Null));

    // While the service runs, it does what commands ask for.
    let (one, two) = (name(&list(""), 0), name(&list(""), 1));
    place.run(&format!("agent samples relabel {one} --label blue --config edgetune.toml")).done();
    assert_eq!(ask(&place, "PUT", &format!("/samples/{two}?label=blue"), "", b"").unwrap().json()["new"], true);
    assert_eq!(list("--label blue").as_array().unwrap().len(), 2);
    assert_eq!(ask(&place, "DELETE", &format!("/samples/{one}"), "", b"").unwrap().status, 200);
    ask(&place, "DELETE", &format!("/samples/{one}"), "", b"").unwrap().problem(404, &[&one]);
    place.run(&format!("agent samples delete {two} --config edgetune.toml")).done();
    assert_eq!(
        status(&place)["samples"]["new"].as_u64().unwrap() + status(&place)["samples"]["held_out"].as_u64().unwrap(),
        4
    );
    service.stop();

    // And without it, they do it themselves.
    let three = name(&list(""), 0);
    place.run(&format!("agent samples relabel {three} --label a/b --config edgetune.toml")).fails(&["label", "`/`"]);
    place.run(&format!("agent samples relabel {three} --label green --config edgetune.toml")).done();
    assert_eq!(name(&list("--label green"), 0), three);
    place.run(&format!("agent samples delete {three} --config edgetune.toml")).done();
    place.run(&format!("agent samples delete {three} --config edgetune.toml")).fails(&[&three, "samples list"]);
    assert_eq!(samples(&place), 3);
}

#[test]
fn a_person_may_ask_for_a_training_and_use_what_the_gate_does_not() {
    let place = listening();
    // So sure nobody can be: nothing is used by itself, and nothing begins by itself.
    let config = CONFIG.replace("[gate]", "hours = \"00:00-00:01\"\n\n[gate]\nconfidence = 0.9999999999");
    place.write("edgetune.toml", config.replace("= 40", "= 10000") + "\n[api]\nlisten = \"unix:api.sock\"\n");
    let service = Service::start_answering(&place);
    send(&place, "red", RED, 0..25);
    send(&place, "blue", BLUE, 0..25);
    let held_out = status(&place)["samples"]["held_out"].as_u64().unwrap();
    let refused = post(&place, "/predict", &super::picture(RED, 1)).unwrap();
    refused.problem(409, &["no adapter is in use yet", " of 10000 new samples"]);
    place.run("agent accept --config edgetune.toml").fails(&["no adapter was judged", "agent train"]);
    place.run("agent train --now --config edgetune.toml").done();
    until(&place, "a verdict", || count(&history(&place), "judged") == 1);
    until(&place, "an end of the run", || !place.path("state/run").exists());
    assert!(!place.path("state/active.edelta").exists());
    let text = place.run("agent history --config edgetune.toml").done().out;
    assert!(text.contains("is not better than the "), "{text}");
    assert!(
        text.contains(&format!("{held_out} of {held_out} right, before ")) && text.contains("needs < 0.00"),
        "{text}"
    );
    // It was asked for once.
    assert!(!place.path("state/asked/train.json").exists());

    place.run("agent accept 0123 --config edgetune.toml").fails(&["0123", "history"]);
    place.run("agent accept --config edgetune.toml").done();
    until(&place, "a prediction", || post(&place, "/predict", &super::picture(RED, 1)).unwrap().status == 200);
    place.run("agent rollback --base --config edgetune.toml").done();
    until(&place, "no adapter", || status(&place)["adapter"]["active"].is_null());
    assert_eq!(post(&place, "/predict", &super::picture(RED, 1)).unwrap().status, 409);
    let asked = ask(&place, "POST", "/train?now=true", "content-length: 0\r\n", b"").unwrap();
    assert_eq!(asked.status, 202, "{}", asked.body);
    until(&place, "a second verdict", || count(&history(&place), "judged") == 2);
    service.stop();
}

/// A client that has no NumPy: a microcontroller.
#[test]
fn raw_numbers_and_rows_of_json_are_arrays() {
    let place = readings(READINGS);
    let service = Service::start_answering(&place);
    let values = noise(7, 4);
    let floats: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let json = serde_json::to_vec(&values).unwrap();
    let send = |kind: &str, body: &[u8]| {
        let headers = format!("content-type: {kind}\r\ncontent-length: {}\r\n", body.len());
        ask(&place, "POST", "/samples?label=up", &headers, body).unwrap()
    };
    assert_eq!(send("application/octet-stream", &floats).status, 201);
    assert_eq!(send("application/json", &json).json()["new"], false, "the same numbers are the same sample");
    send("application/octet-stream", &floats[..12]).problem(415, &["send 4 numbers", "samples.kind"]);
    send("application/json", b"[[1, 2], [3]]").problem(415, &["3 numbers", "samples.kind"]);
    assert_eq!(post(&place, "/samples?label=up", &reading("up", 1)).unwrap().status, 201);
    assert_eq!(samples(&place), 2);
    service.stop();
}

/// What the recipe's gates refuse is a training that failed: its reason is told, no sample is set aside for it, and what is in use stays.
#[test]
fn a_gate_of_the_recipe_refuses_what_was_learned_and_what_is_in_use_stays() {
    let place = listening();
    let service = Service::start_answering(&place);
    send(&place, "red", RED, 0..45);
    send(&place, "blue", BLUE, 0..45);
    until(&place, "an adapter in use", || place.path("state/active.edelta").exists());
    until(&place, "an end of the run", || !place.path("state/run").exists());
    let adapter = place.read("state/active.edelta");
    place.write("recipe.toml", format!("{}\n[gates]\nsize-max = \"100B\"\n", super::RECIPE));
    place.run("agent train --config edgetune.toml").done();
    until(&place, "a refusal", || count(&history(&place), "failed") == 1);
    let events = history(&place);
    let refusal = events.iter().find(|event| event["event"] == "failed").unwrap();
    let reason = refusal["reason"].as_str().unwrap();
    assert!(reason.contains("size") && reason.contains("100 B"), "{reason}");
    assert_eq!((count(&events, "judged"), count(&events, "set-aside"), samples(&place)), (1, 0, 90));
    assert!(place.read("state/active.edelta") == adapter && !place.path("state/run").exists());
    assert!(status(&place)["trouble"].as_str().unwrap().contains("size"), "{}", status(&place));
    // With a gate that it meets, it is learned.
    place.write("recipe.toml", format!("{}\n[gates]\nsize-max = \"64KiB\"\n", super::RECIPE));
    place.run("agent train --config edgetune.toml").done();
    until(&place, "another verdict", || count(&history(&place), "judged") == 2);
    service.stop();
    place.run("ledger verify --config edgetune.toml").done();
}
