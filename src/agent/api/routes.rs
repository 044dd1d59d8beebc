//! Requests and their answers; `src/agent/api.md` describes them all.
//!
//! A body is read only after its announced size, its label and the room for it are known to be right, and within a time.
//! A sample and an answer to a prediction are on the disk when they are acknowledged.

use super::arrays;
use super::exchange::{Api, Reply, asked, blocking, body, grouped, json_reply, missing};
use super::label;
use super::metrics;
use super::problem::{self, Problem};
use super::questions;
use super::remembered::Prediction;
use super::stored;
use crate::agent::board::Board;
use crate::agent::locks::lock;
use crate::agent::record::adapters;
use crate::agent::record::inventory::SIDES;
use crate::agent::record::samples::{self, Door};
use crate::agent::work::frames::Answer;
use crate::agent::work::predictor::Failure;
use crate::sync::is_this_machine;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN,
    RETRY_AFTER, X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Method, Request, Response, StatusCode};
use serde::Deserialize;
use serde_json::json;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Bytes of what is said of a prediction.
const FEEDBACK_BYTES_MAX: u64 = 4096;
/// Classes that a prediction names, where none are asked for.
const TOP: u16 = 5;
/// Hexadecimal digits of a sample's hash in a prediction's name, and of its adapter.
const ID_DIGITS: [usize; 2] = [32, 8];

const PROBLEM: &str = "application/problem+json";
/// The text that Prometheus reads, version 0.0.4.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The routes, each with the methods that it answers.
const ROUTES: [(&str, &[Method]); 12] = [
    ("/samples", &[Method::GET, Method::POST]),
    (WANTED, &[Method::GET]),
    (WANTED_SAMPLE, &[Method::GET, Method::POST, Method::DELETE]),
    (SAMPLE, &[Method::PUT, Method::DELETE]),
    ("/label", &[Method::GET, Method::POST]),
    ("/label.css", &[Method::GET]),
    ("/label.js", &[Method::GET]),
    ("/feedback", &[Method::POST]),
    ("/predict", &[Method::POST]),
    ("/train", &[Method::POST]),
    ("/status", &[Method::GET]),
    ("/metrics", &[Method::GET]),
];
/// The route of one sample.
const SAMPLE: &str = "/samples/{sample}";
/// Those of samples that wait for a label.
const WANTED: &str = "/samples/wanted";
const WANTED_SAMPLE: &str = "/samples/wanted/{sample}";
/// What a browser may do with an answer: show it, and send the page's form and what the page names to nobody else.
const PAGE_POLICY: &str = "default-src 'none'; img-src 'self'; media-src 'self'; style-src 'self'; script-src 'self'; form-action 'self'; \
                           frame-ancestors 'none'; base-uri 'none'";

/// The route that a path is of, and the sample that it names.
fn route(path: &str) -> Option<(&'static str, &'static [Method], Option<&str>)> {
    let behind = |start| path.strip_prefix(start).filter(|sample: &&str| !sample.is_empty() && !sample.contains('/'));
    let (named, sample) = match (behind("/samples/wanted/"), behind("/samples/").filter(|_| path != WANTED)) {
        (Some(sample), _) => (WANTED_SAMPLE, Some(sample)),
        (None, Some(sample)) => (SAMPLE, Some(sample)),
        (None, None) => (path, None),
    };
    let (route, methods) =
        ROUTES.iter().find(|(route, _)| *route == named && (!route.ends_with("{sample}") || sample.is_some()))?;
    Some((route, methods, sample))
}

/// Answers one request.
pub(super) async fn answer(
    api: Arc<Api>,
    on_port: bool,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let began = Instant::now();
    let path = request.uri().path().to_string();
    let known = route(&path);
    let reply = match known {
        _ if on_port && comes_from_a_page(request.headers()) => Err(Problem::new(
            StatusCode::FORBIDDEN,
            "host",
            "this is for programs of this machine and for the page /label; name it as localhost or 127.0.0.1, and send no other `origin`",
        )),
        None => {
            let routes: Vec<&str> = ROUTES.iter().map(|(route, _)| *route).collect();
            let detail = format!("there are {}; see src/agent/api.md", routes.join(", "));
            Err(Problem::new(StatusCode::NOT_FOUND, "path", detail))
        }
        Some((route, methods, _)) if !methods.contains(request.method()) => {
            let detail = format!("{route} answers {} alone", names(methods));
            Err(Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method", detail))
        }
        Some((route, _, sample)) => reply(&api, route, sample, request).await,
    };
    let mut response = match reply {
        Ok((status, kind, text)) => respond(status, kind, text),
        Err(problem) => refuse(&problem),
    };
    if let (StatusCode::METHOD_NOT_ALLOWED, Some((_, methods, _))) = (response.status(), known) {
        let methods = HeaderValue::from_str(&names(methods)).expect("methods are a header's value");
        response.headers_mut().insert(ALLOW, methods);
    }
    let route = known.map_or("other", |(route, _, _)| route);
    lock(&api.requests).count(route, response.status().as_u16(), began.elapsed());
    Ok(response)
}

async fn reply(
    api: &Arc<Api>,
    route: &str,
    sample: Option<&str>,
    request: Request<Incoming>,
) -> Result<Reply, Problem> {
    match (route, request.method()) {
        ("/samples", &Method::GET) => stored::list(api, &request).await,
        (WANTED, _) => Ok(questions::list(api)),
        (WANTED_SAMPLE, _) => questions::one(api, sample.unwrap_or_default(), &request).await,
        ("/label", &Method::GET) => Ok(label::show(api)),
        ("/label", _) => label::sent(api, request).await,
        ("/label.css", _) => Ok((StatusCode::OK, label::STYLE.0, label::STYLE.1.into())),
        ("/label.js", _) => Ok((StatusCode::OK, label::SCRIPT.0, label::SCRIPT.1.into())),
        ("/samples", _) => self::sample(api, request).await,
        (SAMPLE, method) => stored::change(api, sample.unwrap_or_default(), method == Method::DELETE, &request).await,
        ("/feedback", _) => feedback(api, request).await,
        ("/predict", _) => predict(api, request).await,
        ("/train", _) => stored::train(api, &request).await,
        ("/status", _) => Ok(json_reply(StatusCode::OK, &metrics::status(&api.board))),
        _ => Ok((StatusCode::OK, METRICS, metrics::text(&api.board, &lock(&api.requests)).into_bytes())),
    }
}

fn names(methods: &[Method]) -> String {
    methods.iter().map(Method::as_str).collect::<Vec<_>>().join(", ")
}

fn respond(status: StatusCode, kind: &'static str, text: Vec<u8>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(PAGE_POLICY));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn refuse(problem: &Problem) -> Response<Full<Bytes>> {
    let mut response = respond(problem.status, PROBLEM, serde_json::to_vec(problem).expect("a problem is JSON"));
    if let Some(seconds) = problem.retry_s {
        response.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    response
}

/// Whether a browser sends it for a page that is not the agent's own: those name where they come from, or a host of their own for this
/// machine's address.
fn comes_from_a_page(headers: &HeaderMap) -> bool {
    let header = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let host = header(HOST).unwrap_or_default();
    let is_own = header(ORIGIN).is_none_or(|origin| origin.strip_prefix("http://") == Some(host));
    !is_own || !is_this_machine(host)
}

async fn sample(api: &Arc<Api>, request: Request<Incoming>) -> Result<Reply, Problem> {
    let config = api.board.config();
    let label = asked(&request, "label")?.ok_or_else(|| missing("label", "POST /samples?label=cat"))?;
    samples::class_name(&label, &config.samples).map_err(samples::Refusal::Label)?;
    let group = grouped(asked(&request, "group")?, &config.samples, "POST /samples?label=cat&group=recording-7")?;
    let kind = arrays::kind_of(&request);
    let (sample, _room) = body(api, request, config.samples.each_max_kb * 1000).await?;
    let sample = arrays::as_npy(kind, sample, &config.samples.kind)?;
    let api = api.clone();
    blocking(move || {
        let door = Door { limits: &config.samples, held_out: config.gate.held_out, group: group.as_deref() };
        let stored = api.board.store.add(door, &label, &sample)?;
        lock(&api.questions).remove(&stored.sample);
        let status = if stored.new { StatusCode::CREATED } else { StatusCode::OK };
        let side = SIDES[stored.side];
        Ok(json_reply(status, &json!({ "sample": stored.sample, "label": label, "side": side, "new": stored.new })))
    })
    .await
}

async fn predict(api: &Arc<Api>, request: Request<Incoming>) -> Result<Reply, Problem> {
    let config = api.board.config();
    let top = match asked(&request, "top")? {
        None => TOP,
        Some(text) => text.parse().ok().filter(|top| *top > 0).ok_or_else(|| {
            Problem::new(StatusCode::BAD_REQUEST, "top", format!("top={text}: write a number from 1 to 65535"))
        })?,
    };
    // Not what the last look found: the first one may be yet to come.
    if adapters::active(&config.state).map_err(|error| Problem::disk(&error))?.is_none() {
        return Err(no_adapter(&api.board));
    }
    let kind = arrays::kind_of(&request);
    let (sample, _room) = body(api, request, config.samples.each_max_kb * 1000).await?;
    let sample = arrays::as_npy(kind, sample, &config.samples.kind)?;
    let api = api.clone();
    blocking(move || {
        samples::usable(&sample, &config.samples)?;
        let patience = Duration::from_secs(config.api.timeout_s);
        // Which label would teach something is told by two classes at least.
        let (adapter, answer) = api.board.predictor.ask(top.max(2), &sample, patience)?;
        let (mut classes, values) = match answer {
            Answer::Predicted { classes, values } => (classes, values),
            Answer::Refused(reason) => return Err(problem::content(&reason)),
        };
        let mut id = blake3::hash(&sample).to_hex()[..ID_DIGITS[0]].to_string();
        id.push('-');
        id.extend(adapter.chars().take(ID_DIGITS[1]));
        if let Some(best) = classes.first() {
            let promise = {
                let found = lock(&api.board.found);
                found.promise.filter(|_| found.active.as_ref() == Some(&adapter))
            };
            lock(&api.board.confidences).take(&adapter, best.probability.into(), promise.as_ref());
            lock(&api.board.feedback).predicted(&adapter);
            questions::consider(&api, &config, &adapter, &classes, &sample);
            let (adapter, class) = (adapter.clone(), best.name.clone());
            let prediction = Prediction { id: id.clone(), adapter, class, sample, answered: None };
            lock(&api.remembered).keep(prediction, config.api.remembered_max_mb as usize * 1_000_000);
        }
        if top == 1 {
            classes.truncate(1);
        }
        let mut found = json!({ "id": id, "adapter": adapter });
        if !classes.is_empty() {
            found["classes"] = json!(classes);
        }
        if !values.is_empty() {
            found["values"] = json!(values);
        }
        Ok(json_reply(StatusCode::OK, &found))
    })
    .await
}

/// What is waited for, in numbers.
fn no_adapter(board: &Board) -> Problem {
    let found = lock(&board.found).clone();
    let waits = (!found.waits.is_empty()).then(|| format!("waiting: {}", found.waits.join("; ")));
    let why = found.trouble.or(waits).unwrap_or(found.doing);
    let detail = format!("{}; {why}; GET /status tells more", Failure::NoAdapter);
    Problem::new(StatusCode::CONFLICT, None, detail)
}

/// What a person says of a prediction.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Said {
    id: String,
    label: String,
    #[serde(default)]
    group: Option<String>,
}

async fn feedback(api: &Arc<Api>, request: Request<Incoming>) -> Result<Reply, Problem> {
    let config = api.board.config();
    let (text, _room) = body(api, request, FEEDBACK_BYTES_MAX).await?;
    let api = api.clone();
    blocking(move || {
        let said: Said = serde_json::from_slice(&text).map_err(|error| {
            let detail =
                format!("{error}; write {{\"id\": \"…\", \"label\": \"cat\"}} with the id that POST /predict gave");
            Problem::new(StatusCode::BAD_REQUEST, "body", detail)
        })?;
        samples::class_name(&said.label, &config.samples).map_err(samples::Refusal::Label)?;
        let group =
            grouped(said.group, &config.samples, "{\"id\": \"…\", \"label\": \"cat\", \"group\": \"recording-7\"}")?;
        let found = lock(&api.remembered).find(&said.id).cloned().ok_or_else(|| {
            let detail = "no such prediction is remembered; send the sample with POST /samples instead";
            Problem::new(StatusCode::NOT_FOUND, "id", detail)
        })?;
        let right = found.class == said.label;
        {
            // One answer at a time: two to the same prediction count once.
            let mut feedback = lock(&api.board.feedback);
            let before = lock(&api.remembered).find(&said.id).map_or(found.answered, |known| known.answered);
            if before != Some(right) {
                let kept = feedback.answered(&config.state, &found.adapter, (right, before), api.board.now_s());
                kept.map_err(|error| Problem::disk(&error))?;
                if let Some(known) = lock(&api.remembered).find(&said.id) {
                    known.answered = Some(right);
                }
            }
        }
        let door = Door { limits: &config.samples, held_out: config.gate.held_out, group: group.as_deref() };
        let stored = api.board.store.add(door, &said.label, &found.sample)?;
        lock(&api.questions).remove(&stored.sample);
        let told = json!({ "right": right, "sample": stored.sample, "label": said.label, "new": stored.new });
        Ok(json_reply(StatusCode::OK, &told))
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_route_is_described() {
        let page = include_str!("../api.md");
        for (route, methods) in ROUTES {
            for method in methods {
                let title = format!("## `{method} {route}`");
                assert!(page.contains(&title), "src/agent/api.md lacks {title}");
            }
        }
        let titles = page.lines().filter(|line| line.starts_with("## `")).count();
        let routes: usize = ROUTES.iter().map(|(_, methods)| methods.len()).sum();
        assert_eq!(titles, routes, "the page describes what there is not");
    }

    #[test]
    fn a_path_is_of_one_route() {
        assert_eq!(route("/samples/ab").map(|(route, _, sample)| (route, sample)), Some((SAMPLE, Some("ab"))));
        assert_eq!(
            route("/samples/wanted/ab").map(|(route, _, sample)| (route, sample)),
            Some((WANTED_SAMPLE, Some("ab")))
        );
        assert_eq!(route(WANTED).map(|(route, _, sample)| (route, sample)), Some((WANTED, None)));
        for path in [
            "/samples/",
            "/samples/a/b",
            "/samples/{sample}/x",
            "/",
            "",
            "/sample",
            "/samples/wanted/",
            "/samples/wanted/a/b",
        ] {
            assert!(route(path).is_none(), "{path}");
        }
        assert_eq!(route("/samples").map(|(route, _, sample)| (route, sample)), Some(("/samples", None)));
    }
}
