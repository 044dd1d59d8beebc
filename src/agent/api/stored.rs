//! Samples that are there already: `GET /samples` lists them, `PUT /samples/{sample}` gives one another label, `DELETE` ends it; and
//! `POST /train`, which asks for what is learned from them.

use super::exchange::{Api, Reply, asked, blocking, json_reply, missing};
use super::problem::Problem;
use crate::agent::record::asked::{self, Ask};
use crate::agent::record::listing::{self, Wanted};
use crate::agent::record::sample_name::parse;
use crate::agent::record::samples::{PERSON, Refusal};
use hyper::body::Incoming;
use hyper::{Request, StatusCode};
use serde_json::json;
use std::sync::Arc;

/// Samples that one answer lists, at most, and where no number is given.
const LIMIT: (usize, usize) = (1000, 100);
/// What `side` may be.
const SIDES: [&str; 3] = ["train", "held-out", "aside"];

pub(super) async fn list(api: &Arc<Api>, request: &Request<Incoming>) -> Result<Reply, Problem> {
    let limit = match asked(request, "limit")? {
        None => LIMIT.1,
        Some(text) => text.parse().ok().filter(|limit| (1..=LIMIT.0).contains(limit)).ok_or_else(|| {
            let detail = format!("limit={text}: write a number from 1 to {}", LIMIT.0);
            Problem::new(StatusCode::BAD_REQUEST, "limit", detail)
        })?,
    };
    let side = asked(request, "side")?;
    if let Some(side) = side.as_ref().filter(|side| !SIDES.contains(&side.as_str())) {
        let detail = format!("side={side}: write one of {}", SIDES.join(", "));
        return Err(Problem::new(StatusCode::BAD_REQUEST, "side", detail));
    }
    let wanted = Wanted { label: asked(request, "label")?, side, after: asked(request, "after")?, limit };
    let state = api.board.config().state.clone();
    blocking(move || {
        let found = listing::list(&state, &wanted).map_err(|error| Problem::disk(&error))?;
        let next = found.last().filter(|_| found.len() == wanted.limit).map(listing::Listed::place);
        Ok(json_reply(StatusCode::OK, &json!({ "samples": found, "next": next })))
    })
    .await
}

pub(super) async fn change(
    api: &Arc<Api>,
    sample: &str,
    delete: bool,
    request: &Request<Incoming>,
) -> Result<Reply, Problem> {
    let config = api.board.config();
    let name = parse(sample).ok_or_else(|| Refusal::Unknown(sample.chars().take(64).collect()))?;
    let (board, sample) = (api.board.clone(), sample.to_string());
    if delete {
        return blocking(move || {
            board.store.delete(&name, PERSON, board.now_s())?;
            Ok(json_reply(StatusCode::OK, &json!({ "sample": sample, "deleted": true })))
        })
        .await;
    }
    let label = asked(request, "label")?.ok_or_else(|| missing("label", "PUT /samples/{sample}?label=cat"))?;
    blocking(move || {
        let new = board.store.relabel(&config.samples, &name, &label)?;
        Ok(json_reply(StatusCode::OK, &json!({ "sample": sample, "label": label, "new": new })))
    })
    .await
}

pub(super) async fn train(api: &Arc<Api>, request: &Request<Incoming>) -> Result<Reply, Problem> {
    let now = match asked(request, "now")?.as_deref() {
        None | Some("false") => false,
        Some("" | "true") => true,
        Some(other) => {
            let detail = format!("now={other}: write true or false");
            return Err(Problem::new(StatusCode::BAD_REQUEST, "now", detail));
        }
    };
    let state = api.board.config().state.clone();
    blocking(move || {
        asked::put(&state, &Ask::Train { now }, 0).map_err(|error| Problem::disk(&error))?;
        Ok(json_reply(StatusCode::ACCEPTED, &json!({ "asked": true, "now": now })))
    })
    .await
}
