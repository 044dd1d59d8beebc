//! The ledger of a device, as its owner reads it: what was learned from what, what was used, what was deleted, and that nobody changed it.

use super::api::{BLUE, RED, ask, listening, post, predict, send};
use super::{CONFIG, Place, Service, picture, until};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

const TERMS: &str = "purpose = \"red or blue\"\nconsent = \"the owner's\"\nkeep-days = 30\n";

/// A device that has learned from 90 pictures, was corrected once, and had a sample deleted; with that sample's name.
fn learned() -> (Place, String) {
    let place = listening();
    place.write(
        "edgetune.toml",
        CONFIG.replace("[policy]", &format!("[samples]\n{TERMS}\n[policy]")) + "\n[api]\nlisten = \"unix:api.sock\"\n",
    );
    let service = Service::start_answering(&place);
    send(&place, "red", RED, 0..45);
    send(&place, "blue", BLUE, 0..45);
    until(&place, "an adapter in use", || place.path("state/active.edelta").exists());
    until(&place, "an end of the run", || !place.path("state/run").exists());
    let [_, id, _] = predict(&place, &picture(RED, 500));
    assert_eq!(
        post(&place, "/feedback", json!({ "id": id, "label": "blue" }).to_string().as_bytes()).unwrap().status,
        200
    );
    let listed = place.run("agent samples list --config edgetune.toml --json --side train --label red").json();
    let sample = listed[0]["sample"].as_str().unwrap().to_string();
    assert_eq!(ask(&place, "DELETE", &format!("/samples/{sample}"), "", b"").unwrap().status, 200);
    service.stop();
    (place, sample)
}

#[test]
fn a_ledger_says_what_was_learned_used_answered_and_deleted() {
    let (place, sample) = learned();
    let ledger = |command: &str| place.run(&format!("ledger {command} --config edgetune.toml --json")).json();
    let events = ledger("show");
    let of = |kind: &str| events.as_array().unwrap().iter().filter(|event| event["event"] == kind).collect::<Vec<_>>();
    let [learned] = of("learned")[..] else { panic!("{events}") };
    let count = learned["samples"].as_u64().unwrap();
    assert_eq!(
        (&learned["classes"], &learned["purpose"], &learned["keep_days"]),
        (&json!(2), &json!("red or blue"), &json!(30))
    );
    let list =
        fs::read_to_string(place.path("state/ledger").join(format!("{}.txt", learned["list"].as_str().unwrap())))
            .unwrap();
    assert_eq!(list.lines().count() as u64, count);
    assert_eq!(blake3::hash(list.as_bytes()).to_hex().as_str(), learned["list"]);
    assert!(list.contains(&format!("{sample}\tred\n")));
    let base = place.run("delta show state/active.edelta --json").json()["base"].clone();
    assert_eq!(learned["base"], base);
    for (kind, field, value) in [
        ("judged", "adapter", &learned["adapter"]),
        ("activated", "adapter", &learned["adapter"]),
        ("answered", "right", &json!(false)),
        ("forgotten", "samples", &json!([sample])),
    ] {
        assert_eq!((of(kind).len(), &of(kind)[0][field]), (1, value), "{kind}: {events}");
    }
    let trace = ledger("trace");
    assert_eq!((&trace["base"], &trace["chain"][0]["adapter"]), (&base, &learned["adapter"]));
    assert_eq!(trace["chain"][0]["events"].as_array().unwrap().len(), 3);
    place.run("ledger trace 0123 --config edgetune.toml").fails(&["nothing is told of adapter 0123", "agent history"]);

    let card = place.run("ledger export --config edgetune.toml").done().out;
    for part in [
        "red or blue",
        "the owner's",
        "deleted 30 days",
        "AI Act 12",
        "AI Act 72",
        "GDPR 17",
        "1 sample deleted",
        "0 were right and 1 wrong",
    ] {
        assert!(card.contains(part), "{part}: {card}");
    }
    assert_eq!(card.matches("\n| red |").count() + card.matches("\n| blue |").count(), 2);
    place.run("ledger export --config edgetune.toml --out card.md").done();
    assert_eq!(String::from_utf8(place.read("card.md")).unwrap(), card);
    place.run("ledger export --config edgetune.toml --out card.md").fails(&["card.md", "that is not there"]);
    let found = ledger(&format!("export --sample {sample}"));
    assert_eq!(found["adapters"], json!([learned["adapter"]]));
    assert!(found["deleted"].as_i64().is_some() && found["shared"] == json!([]));
}

#[test]
fn who_changes_a_ledger_is_found() {
    let (place, _) = learned();
    let walked = place.run("ledger verify --config edgetune.toml --json").json();
    let (head, key) = (walked["head"].as_str().unwrap(), walked["keys"][0][1].as_str().unwrap());
    place.run(&format!("ledger verify --config edgetune.toml --key {key} --head {head}")).done();
    let other = "0".repeat(64);
    place
        .run(&format!("ledger verify --config edgetune.toml --key {other}"))
        .fails(&["ledger.jsonl: line 1", "none of those that you named"]);
    place
        .run(&format!("ledger verify --config edgetune.toml --head {other}"))
        .fails(&["no line has the hash", "cut off"]);
    let text = place.read("state/ledger.jsonl");
    let lines: Vec<&[u8]> = text.split_inclusive(|byte| *byte == b'\n').collect();
    place.write("copy.jsonl", lines[..lines.len() - 1].concat());
    place.run("ledger verify --file copy.jsonl").done();
    place.run(&format!("ledger verify --file copy.jsonl --head {head}")).fails(&["cut off"]);
    let mut changed = text.clone();
    changed[lines[0].len() + 90] ^= 1;
    place.write("copy.jsonl", changed);
    for command in ["verify", "show", "trace", "export"] {
        place.run(&format!("ledger {command} --file copy.jsonl")).fails(&["copy.jsonl: line 2"]);
    }
    place.run("ledger show --file none.jsonl").fails(&["none.jsonl", "no ledger", "--file"]);
}

#[test]
fn samples_go_when_they_have_lain_as_long_as_they_may() {
    let place = listening();
    let config = CONFIG.replace("= 40", "= 10000") + "\n[api]\nlisten = \"unix:api.sock\"\n";
    place.write("edgetune.toml", &config);
    let service = Service::start_answering(&place);
    send(&place, "red", RED, 0..6);
    service.stop();
    let list = || place.run("agent samples list --config edgetune.toml --json").json();
    let name = |listed: &Value, number: usize| listed[number]["sample"].as_str().unwrap().to_string();
    let before = list();
    let (old, young) = (name(&before, 0), name(&before, 1));
    for (sample, days) in [(&old, 31), (&young, 29)] {
        let found = ["train", "held-out"].map(|side| place.path(format!("state/samples/{side}/red/{sample}.png")));
        let file = fs::File::options().write(true).open(found.iter().find(|file| file.exists()).unwrap()).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(days * 24 * 3600)).unwrap();
    }
    place.write("edgetune.toml", config.replace("[policy]", &format!("[samples]\n{TERMS}\n[policy]")));
    let service = Service::start_answering(&place);
    until(&place, "an end of the old sample", || list().as_array().unwrap().len() == 5);
    service.stop();
    assert!(!list().to_string().contains(&old) && list().to_string().contains(&young));
    let events = place.run("ledger show --config edgetune.toml --json").json();
    assert_eq!((&events[0]["samples"], &events[0]["by"]), (&json!([old]), &json!("keep-days")));
    place.write("edgetune.toml", config.replace("[policy]", "[samples]\nkeep-days = 0\n[policy]"));
    place.run("agent status --config edgetune.toml").fails(&["samples.keep-days = 0", "write days from 1"]);
    place.write("edgetune.toml", config.replace("[policy]", "[samples]\npurpose = \"a\\nb\"\n[policy]"));
    place.run("agent status --config edgetune.toml").fails(&["samples.purpose", "one line"]);
}

/// Every file below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push(path),
        }
    }
    found
}

/// The files of a state that hold what is looked for.
fn holding(state: &Path, bytes: &[u8]) -> Vec<PathBuf> {
    let mut found = files(state);
    found.retain(|file| fs::read(file).is_ok_and(|content| content.windows(bytes.len()).any(|window| window == bytes)));
    found
}

#[test]
fn a_forgotten_sample_leaves_no_byte_and_what_learned_from_it_is_replaced() {
    let (place, _) = learned();
    let state = place.path("state");
    let listed = place.run("agent samples list --config edgetune.toml --json --side train --label red").json();
    let sample = listed[0]["sample"].as_str().unwrap();
    let file = state.join(format!("samples/train/red/{sample}.png"));
    let content = fs::read(&file).unwrap();
    // What lay on the disk is seen through other names of the same files.
    let records: Vec<PathBuf> =
        files(&state.join("cache/features")).into_iter().filter(|file| file.ends_with("records")).collect();
    assert_eq!(holding(&state, &content), std::slice::from_ref(&file));
    fs::hard_link(&file, place.path("sample")).unwrap();
    let mut links = vec!["sample".to_string()];
    for (number, records) in records.iter().enumerate() {
        links.push(format!("features-{number}"));
        fs::hard_link(records, place.path(&links[number + 1])).unwrap();
    }
    assert!(links.len() > 1 && links.iter().all(|link| place.read(link).iter().any(|byte| *byte != 0)));
    let before = place.run("ledger trace --config edgetune.toml --json").json()["chain"][0]["adapter"].clone();

    place.run("forget 0123 --config edgetune.toml").fails(&["no sample is called `0123`", "samples list"]);
    for (wrong, told) in [("", "<SAMPLE>"), ("--before yesterday", "such as 2026-01-31")] {
        let ran = place.run(&format!("forget {wrong} --config edgetune.toml"));
        assert!(ran.code == Some(2) && ran.err.contains(told), "{}", ran.err);
    }
    let forgotten = place.run(&format!("forget {sample} --config edgetune.toml --json")).json();
    assert_eq!(forgotten, json!({ "forgotten": 1, "to_replace": [before], "withdrawn": null }));
    for link in &links {
        assert!(place.read(link).iter().all(|byte| *byte == 0), "{link}: its bytes are still on the disk");
    }
    assert_eq!(holding(&state, &content), Vec::<PathBuf>::new());
    let named = holding(&state, sample.as_bytes());
    assert!(
        named.iter().all(|file| file.starts_with(state.join("ledger")) || file.ends_with("ledger.jsonl")),
        "{named:?}"
    );

    // What is as good takes the place of what learned from it, which goes.
    let service = Service::start_answering(&place);
    let old = state.join(format!("adapters/{}.edelta", before.as_str().unwrap()));
    until(&place, "an end of the adapter that learned from it", || !old.exists());
    until(&place, "an end of the run", || !place.path("state/run").exists());
    service.stop();
    assert!(fs::read(state.join("active.edelta")).is_ok() && !state.join("to-replace.json").exists());
    let history = place.run("agent history --config edgetune.toml").done().out;
    assert!(history.contains("takes the place of"), "{history}");
    let found = place.run(&format!("ledger export --sample {sample} --config edgetune.toml --json")).json();
    assert!(found["deleted"].as_i64().is_some() && found["adapters"] == json!([before]), "{found}");
    place.run("ledger verify --config edgetune.toml").done();
    place.run("agent rollback --config edgetune.toml").done();
    assert!(!state.join("active.edelta").exists(), "there is nothing to go back to but the base");
}

#[test]
fn a_class_is_forgotten_while_the_agent_serves_and_the_adapter_goes_at_once() {
    let (place, _) = learned();
    let service = Service::start_answering(&place);
    let listed = place.run("agent samples list --config edgetune.toml --json --label blue").json();
    let count = listed.as_array().unwrap().len();
    let forgotten = place.run("forget --class blue --withdraw --config edgetune.toml --json").json();
    assert_eq!((&forgotten["forgotten"], &forgotten["to_replace"]), (&json!(count), &json!([])));
    assert!(forgotten["withdrawn"].is_string() && !place.path("state/active.edelta").exists(), "{forgotten}");
    assert_eq!(fs::read_dir(place.path("state/adapters")).unwrap().count(), 0);
    assert!(!place.path("state/samples/train/blue").exists());
    let tomorrow = place.run("forget --before 2100-01-01 --config edgetune.toml --json").json();
    assert_eq!(tomorrow["forgotten"], listed_red(&place, count));
    assert_eq!(place.run("forget --class red --config edgetune.toml --json").json()["forgotten"], 0);
    service.stop();
    place.run("ledger verify --config edgetune.toml").done();
}

/// Of 90 samples, one was deleted and some were blue.
fn listed_red(place: &Place, blue: usize) -> usize {
    let left = place.run("agent samples list --config edgetune.toml --json").json();
    assert_eq!(left, json!([]));
    // A corrected prediction is a sample, too.
    91 - 1 - blue
}
