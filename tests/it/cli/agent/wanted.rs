//! Samples whose label would teach most: kept of what is predicted, listed, shown on a page, labelled there or over the API.

use super::api::{Answer, BLUE, RED, ask, get, listening, post, send};
use super::{CONFIG, Place, Service, picture, ready, samples, until};
use crate::cli::{finished, not_tested, project};
use serde_json::{Value, json};
use std::io::Write;
use std::net::TcpStream;
use std::process::Command;

/// What learns so little that it is seldom sure.
const UNSURE: &str = "model = \"base.onnx\"\ntrain = [\"head\"]\nepochs = 2\nbatch = 4\nlr = 0.001\n";

/// Waits until reds and blues were learned.
fn learned(place: &Place) {
    until(place, "an adapter in use", || place.path("state/active.edelta").exists());
    until(place, "an end of the run", || !place.path("state/run").exists());
}

/// Pictures between red and blue, of which the device cannot be sure of all.
fn between(count: u8) -> Vec<Vec<u8>> {
    (0..count).map(|step| picture([70 + step, 0, 110 - step], u64::from(step))).collect()
}

fn wanted(place: &Place) -> Vec<Value> {
    get(place, "/samples/wanted").json()["samples"].as_array().unwrap().clone()
}

fn form(place: &Place, fields: &str) -> Answer {
    let headers = format!("content-length: {}\r\ncontent-type: application/x-www-form-urlencoded\r\n", fields.len());
    ask(place, "POST", "/label", &headers, fields.as_bytes()).unwrap()
}

#[test]
fn predictions_that_are_not_sure_wait_for_a_label() {
    let place = listening();
    place.write("edgetune.toml", format!("{CONFIG}\n[wanted]\nkeep = 3\n[api]\nlisten = \"unix:api.sock\"\n"));
    place.write("recipe.toml", UNSURE);
    let service = Service::start_answering(&place);
    send(&place, "red", RED, 0..45);
    send(&place, "blue", BLUE, 0..45);
    learned(&place);
    assert!(wanted(&place).is_empty() && get(&place, "/label").body.contains("No sample waits"));
    let mut margins = Vec::new();
    for picture in between(40) {
        let found = post(&place, "/predict?top=2", &picture).unwrap().json();
        let share = |index: usize| found["classes"][index]["probability"].as_f64().unwrap();
        margins.push(share(0) - share(1));
        assert_eq!(post(&place, "/predict?top=1", &picture).unwrap().json()["classes"].as_array().unwrap().len(), 1);
    }
    let found = wanted(&place);
    assert_eq!(found.len(), 3, "{margins:?}");
    let margin = |one: &Value| one["margin"].as_f64().unwrap();
    let worth = |one: &Value| one["worth"].as_f64().unwrap();
    assert!(
        found.iter().all(|one| margin(one) < 0.5 && margins.iter().any(|margin_| (margin_ - margin(one)).abs() < 1e-6))
    );
    assert!(found.windows(2).all(|pair| worth(&pair[0]) >= worth(&pair[1])), "{found:?}");

    // By the API: the sample itself, a label that teaches, and one that nobody asks for any more.
    let names: Vec<&str> = found.iter().map(|one| one["sample"].as_str().unwrap()).collect();
    let before = samples(&place);
    ask(&place, "POST", &format!("/samples/wanted/{}?label=a%2Fb", names[0]), "", b"")
        .unwrap()
        .problem(422, &["label"]);
    let kept = ask(&place, "POST", &format!("/samples/wanted/{}?label=red", names[0]), "", b"").unwrap();
    assert_eq!((kept.status, kept.json()["sample"].as_str().unwrap(), samples(&place)), (201, names[0], before + 1));
    ask(&place, "POST", &format!("/samples/wanted/{}?label=red", names[0]), "", b"")
        .unwrap()
        .problem(404, &[names[0], "/samples/wanted"]);
    assert_eq!(ask(&place, "DELETE", &format!("/samples/wanted/{}", names[1]), "", b"").unwrap().status, 200);
    assert_eq!(wanted(&place).len(), 1);

    // By the page, as a browser without scripts sends its form.
    let page = get(&place, "/label");
    assert!(page.head.contains("default-src 'none'") && page.head.contains("nosniff"), "{}", page.head);
    for part in [names[2], "samples/wanted/", "value=\"red\"", "value=\"blue\"", "1 sample waits for a label."] {
        assert!(page.body.contains(part), "{part}: {}", page.body);
    }
    let sample = format!("sample={}", names[2]);
    let nothing = form(&place, &sample);
    assert!(nothing.status == 422 && nothing.body.contains("no class was chosen"), "{}", nothing.body);
    let saved = form(&place, &format!("{sample}&other=+a+%3Cb%3E+class+"));
    assert!(
        saved.status == 200 && saved.body.contains("Saved as a &lt;b&gt; class. No sample waits"),
        "{}",
        saved.body
    );
    let listed = place.run("agent samples list --config edgetune.toml --json").json().to_string();
    assert!(listed.contains("a <b> class") && listed.contains(names[2]));
    assert_eq!(form(&place, &format!("{sample}&label=red")).status, 422, "it waits no more");
    // What was labelled once is not asked for again.
    between(40).iter().for_each(|picture| drop(post(&place, "/predict", picture).unwrap()));
    assert!(wanted(&place).iter().all(|one| one["sample"] != names[0] && one["sample"] != names[2]));
    service.stop();
}

/// Ten pictures of one scene are one question.
#[test]
fn near_duplicates_are_asked_for_once() {
    let place = listening();
    place.write("recipe.toml", UNSURE);
    place.write("edgetune.toml", format!("{CONFIG}\n[wanted]\nkeep = 100\n[api]\nlisten = \"unix:api.sock\"\n"));
    let service = Service::start_answering(&place);
    send(&place, "red", RED, 0..45);
    send(&place, "blue", BLUE, 0..45);
    learned(&place);
    let predict = |picture: &[u8]| assert_eq!(post(&place, "/predict", picture).unwrap().status, 200);
    between(40).iter().for_each(|picture| predict(picture));
    let before = wanted(&place);
    assert!((2..=40).contains(&before.len()), "{before:?}");
    assert!(get(&place, "/label").body.contains(before[0]["sample"].as_str().unwrap()));
    for bytes in between(40) {
        // A little brighter, as the next picture of a camera.
        let mut brighter = image::load_from_memory(&bytes).unwrap().into_rgb8();
        brighter.pixels_mut().for_each(|pixel| pixel.0 = pixel.0.map(|value| value.saturating_add(1)));
        let mut file = std::io::Cursor::new(Vec::new());
        brighter.write_to(&mut file, image::ImageFormat::Png).unwrap();
        predict(&file.into_inner());
    }
    let after = wanted(&place).len();
    assert!(
        after <= before.len() + 2,
        "{after} of {}: of one scene only what was sure before may be new",
        before.len()
    );
    service.stop();
    place.write("edgetune.toml", format!("{CONFIG}\n[wanted]\nkeep = \"off\"\n[api]\nlisten = \"unix:api.sock\"\n"));
    let service = Service::start_answering(&place);
    until(&place, "a predictor", || post(&place, "/predict", &between(1)[0]).unwrap().status == 200);
    between(40).iter().for_each(|picture| predict(picture));
    assert!(wanted(&place).is_empty(), "a device may be told to ask for nothing");
    service.stop();
}

/// The page in a real browser, at a phone's width and a desktop's: touch, keyboard, no fault of accessibility, nothing from elsewhere.
#[test]
fn the_page_for_labels_works_in_a_browser() {
    let Some(python) = std::env::var_os("EDGETUNE_BROWSER") else {
        return not_tested("EDGETUNE_BROWSER names no Python with playwright (see .ci/run)");
    };
    let place = ready();
    place.write("recipe.toml", UNSURE);
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    place.write("edgetune.toml", format!("{CONFIG}\n[api]\nlisten = \"127.0.0.1:{port}\"\n"));
    let service = Service::start_answering(&place);
    let send = |target: &str, headers: &str, body: &[u8]| {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let head = format!(
            "POST {target} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {}\r\n{headers}\r\n",
            body.len()
        );
        stream.write_all(&[head.as_bytes(), body].concat()).unwrap();
        Answer::read(&mut stream).unwrap()
    };
    for (label, colour) in [("red", RED), ("blue", BLUE)] {
        (0..45).for_each(|number| {
            assert_eq!(send(&format!("/samples?label={label}"), "", &picture(colour, number)).status, 201)
        });
    }
    learned(&place);
    between(40).iter().for_each(|picture| assert_eq!(send("/predict", "", picture).status, 200));
    // Another page's form is refused.
    send("/label", "origin: http://evil.example\r\n", b"sample=x&skip=1").problem(403, &["/label"]);
    let before = samples(&place);
    let mut browser = Command::new(python);
    let pictures = std::env::var_os("EDGETUNE_PICTURES").unwrap_or_else(|| place.path("pictures").into());
    browser.arg(project("tests/label.py")).arg(format!("http://127.0.0.1:{port}/label")).arg(pictures);
    let told: Value = serde_json::from_str(&finished(browser).done().out).unwrap();
    assert_eq!(told["faults"], json!([]));
    let labelled = told["labelled"].as_u64().unwrap();
    assert!(labelled >= 3 && samples(&place) == before + labelled, "{told}");
    service.stop();
}
