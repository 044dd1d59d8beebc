//! Samples whose label would teach most: `GET /samples/wanted` lists them, `GET /samples/wanted/{sample}` gives one, `POST` its label, and
//! `DELETE` asks for it no more.
//!
//! They are in memory alone, as all that was predicted: a restart forgets them.

use super::descriptor::descriptor;
use super::exchange::{Api, Reply, asked, blocking, grouped, json_reply, missing};
use super::problem::Problem;
use crate::agent::config::{Config, Kind};
use crate::agent::judge::questions::{Question, margin};
use crate::agent::locks::lock;
use crate::agent::record::inventory::SIDES;
use crate::agent::record::sample_name;
use crate::agent::record::samples::{self, Door, Refusal, Stored};
use crate::agent::work::frames::Class;
use bytes::Bytes;
use hyper::body::Incoming;
use hyper::{Method, Request, StatusCode};
use serde_json::{Value, json};
use std::sync::Arc;

/// Keeps a prediction whose label would teach something.
pub(super) fn consider(api: &Api, config: &Config, adapter: &str, classes: &[Class], content: &Bytes) {
    let Some(keep) = config.wanted.keep else { return };
    let (keep, sample) = (keep as usize, sample_name::text(&sample_name::name_of_content(content)));
    let classes: Vec<(String, f32)> = classes.iter().map(|class| (class.name.clone(), class.probability)).collect();
    if !lock(&api.questions).may_take(&sample, &classes, keep) || api.board.store.knows(&sample) {
        return;
    }
    let Some(descriptor) = descriptor(&config.samples.kind, content) else { return };
    let (adapter, content, at) = (adapter.to_string(), content.clone(), api.board.now_s());
    let question = Question { sample, content, adapter, classes, at, descriptor };
    lock(&api.questions).take(question, keep, config.wanted.max_mb as usize * 1_000_000);
}

pub(super) fn list(api: &Api) -> Reply {
    let questions = lock(&api.questions);
    let one = |(question, worth): (&Question, f32)| {
        let classes =
            question.classes.iter().map(|(name, probability)| json!({ "name": name, "probability": probability }));
        json!({
            "sample": question.sample, "bytes": question.content.len(), "at": question.at, "adapter": question.adapter,
            "classes": classes.collect::<Vec<_>>(), "margin": margin(&question.classes), "worth": worth,
        })
    };
    let samples: Vec<Value> = questions.ranked().into_iter().map(one).collect();
    json_reply(StatusCode::OK, &json!({ "samples": samples }))
}

pub(super) async fn one(api: &Arc<Api>, sample: &str, request: &Request<Incoming>) -> Result<Reply, Problem> {
    if request.method() == Method::GET {
        let content = lock(&api.questions).get(sample).map(|question| question.content.clone());
        let content = content.ok_or_else(|| unknown(sample))?;
        return Ok((StatusCode::OK, media_type(&api.board.config().samples.kind, &content), content.to_vec()));
    }
    if request.method() == Method::DELETE {
        lock(&api.questions).remove(sample).ok_or_else(|| unknown(sample))?;
        return Ok(json_reply(StatusCode::OK, &json!({ "sample": sample, "wanted": false })));
    }
    let label = asked(request, "label")?.ok_or_else(|| missing("label", "POST /samples/wanted/{sample}?label=cat"))?;
    let group = asked(request, "group")?;
    let (api, sample) = (api.clone(), sample.to_string());
    blocking(move || {
        let stored = label_one(&api, &sample, &label, group)?;
        let side = SIDES[stored.side];
        Ok(json_reply(
            StatusCode::CREATED,
            &json!({ "sample": stored.sample, "label": label, "side": side, "new": stored.new }),
        ))
    })
    .await
}

/// Makes a question a sample of a class. It does not count as feedback: what is asked for is what the adapter knows least, so the share of
/// right answers among these says nothing of its promise.
pub(super) fn label_one(api: &Api, sample: &str, label: &str, group: Option<String>) -> Result<Stored, Problem> {
    let config = api.board.config();
    samples::class_name(label, &config.samples).map_err(Refusal::Label)?;
    let group = grouped(group, &config.samples, "POST /samples/wanted/{sample}?label=cat&group=recording-7")?;
    let content = lock(&api.questions).get(sample).map(|question| question.content.clone());
    let content = content.ok_or_else(|| unknown(sample))?;
    let door = Door { limits: &config.samples, held_out: config.gate.held_out, group: group.as_deref() };
    let stored = api.board.store.add(door, label, &content)?;
    lock(&api.questions).remove(sample);
    Ok(stored)
}

/// That nobody asks for this sample.
pub(super) fn unknown(sample: &str) -> Problem {
    let sample: String = sample.chars().take(64).collect();
    let detail = format!("no sample `{sample}` waits for a label; GET /samples/wanted lists those that do");
    Problem::new(StatusCode::NOT_FOUND, "sample", detail)
}

/// What a browser is told of a sample's bytes.
fn media_type(kind: &Kind, content: &[u8]) -> &'static str {
    match (kind, content) {
        (Kind::Photograph, [0xff, 0xd8, ..]) => "image/jpeg",
        (Kind::Photograph, [0x89, b'P', ..]) => "image/png",
        (Kind::Photograph, [b'R', b'I', b'F', b'F', ..]) => "image/webp",
        (Kind::Photograph, [b'G', b'I', b'F', ..]) => "image/gif",
        (Kind::Photograph, [b'B', b'M', ..]) => "image/bmp",
        (Kind::Sound, [b'f', b'L', b'a', b'C', ..]) => "audio/flac",
        (Kind::Sound, _) => "audio/wav",
        (Kind::Text, _) => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}
