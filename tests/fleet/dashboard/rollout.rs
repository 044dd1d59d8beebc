//! Rollouts on a channel's page: where one is, and that its buttons do what the API does.

use super::super::server::{Server, unique};
use super::*;
use serde_json::Value;

/// A channel on its way to its second version.
fn published(server: &Server) -> String {
    let name = server.staged_channel("rule=mean&stages=50,100&stage_s=3600&stage_reports=2");
    let delta = plain_delta(9, 1, &KeyPair::from_secret(&[1; 32]));
    assert_eq!(server.operator("POST", &format!("/v1/admin/channels/{name}/release"), &delta).status, 202);
    name
}

#[test]
fn a_rollout_is_shown_and_steered() {
    let server = Server::start();
    let (name, mut operator) = (published(&server), server.reader());
    let here = format!("/channels/{name}");
    let page = operator.get(&here).text();
    for said in ["Stage 1 of 2", "50 % of the devices", "the others version 1", "waits for 2 more reports"] {
        assert!(page.contains(said), "{said}: {page}");
    }
    let now = |server: &Server| {
        let row = server.channel_row(&name);
        (row["rollout"].as_str().unwrap().to_owned(), row["percent"].as_u64(), row["version"].as_u64().unwrap())
    };
    for (act, then) in [
        ("pause", ("paused", Some(50), 2)),
        ("resume", ("rolling", Some(50), 2)),
        ("advance", ("rolling", Some(100), 2)),
        ("advance", ("done", Some(100), 2)),
        ("pin", ("done", Some(100), 2)),
        ("unpin", ("done", Some(100), 2)),
    ] {
        let answer = operator.post(&format!("{here}/rollout/{act}"), &[]);
        assert_eq!((answer.status, answer.header("location")), (303, Some(here.as_str())), "{act}");
        assert_eq!(now(&server), (then.0.to_owned(), then.1, then.2), "{act}");
    }
    assert!(operator.get(&here).text().contains("All devices are offered version 2."));
    // A form of before does nothing now, nor does what has no sense.
    assert_eq!(operator.post(&format!("{here}/rollout/pause"), &[]).status, 409);
    for (fields, status) in [
        ([("now", "1"), ("version", "1")], 409),
        ([("now", "2"), ("version", "one")], 400),
        ([("now", "2"), ("version", "9")], 404),
        ([("now", "2"), ("version", "1")], 303),
    ] {
        assert_eq!(operator.post(&format!("{here}/rollout/rollback"), &fields).status, status, "{fields:?}");
    }
    assert_eq!(operator.post(&format!("{here}/rollout/burn"), &[]).status, 404);
    assert_eq!(now(&server), ("done".into(), Some(100), 3));
    let rows: Vec<Value> = server.operator("GET", &format!("/v1/admin/channels/{name}/releases"), b"").json();
    assert_eq!(rows[0]["adapter"], rows[2]["adapter"]);
    let log = server.audit();
    for what in ["rollout paused", "rollout resumed", "rollout advanced", "rollout finished", "pinned", "rolled back"] {
        assert!(log.contains(what), "{what}");
    }
}

#[test]
fn who_only_looks_steers_nothing() {
    let server = Server::start();
    let (name, mut operator) = (published(&server), server.reader());
    let made = operator.post("/access", &[("name", &unique("jo")), ("role", "viewer")]);
    let mut viewer = Reader::new(&server.address);
    assert_eq!(viewer.sign_in(&shown_secret(&made.text())).status, 303);
    let page = viewer.get(&format!("/channels/{name}")).text();
    assert!(page.contains("Stage 1 of 2") && !page.contains("/rollout/"), "{page}");
    for act in ["pause", "resume", "advance", "rollback", "pin", "unpin"] {
        assert_eq!(
            viewer.post(&format!("/channels/{name}/rollout/{act}"), &[("now", "2"), ("version", "1")]).status,
            403
        );
    }
    assert_eq!(server.channel_row(&name)["rollout"], "rolling");
}
