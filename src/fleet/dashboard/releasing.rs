//! What operators make on the pages: a channel from its first adapter, and a release that no round has made.

use super::failure::Failure;
use super::frame::{Part, page};
use super::known::channel_of;
use super::visitor::{Uploaded, Visitor};
use super::words::{bytes, path};
use crate::fleet::Fleet;
use crate::fleet::channels::{self, Plan};
use crate::fleet::db::{Channel, Role};
use axum::extract::{Path, State};
use axum::http::{Method, Uri};
use axum::response::{Html, Redirect};
use maud::{Markup, html};
use std::str::FromStr;
use std::sync::Arc;

/// Ways of combining, as the form offers them.
const RULES: [(&str, &str); 5] = [
    ("trimmed:0.2,clip", "trimmed mean, norms bounded: a fifth of the devices may lie"),
    ("median,clip", "median, norms bounded: nearly half of them may lie"),
    ("mean,clip", "mean, norms bounded"),
    ("median", "median"),
    ("mean", "mean: every device is trusted"),
];

/// The form of a new channel.
pub(super) async fn show(
    State(fleet): State<Arc<Fleet>>,
    visitor: Visitor,
    method: Method,
    uri: Uri,
) -> Result<Html<String>, Failure> {
    if visitor.role != Role::Operator {
        let refused = Failure::Forbidden("Viewers see the channels, operators make them.");
        return Err(refused.logged(&fleet, (visitor.address, &visitor.who), &method, &uri).await);
    }
    Ok(page(
        &visitor,
        Part::Overview,
        "New channel",
        markup(&visitor, &Plan::default(), fleet.current().limits.delta_bytes_max),
    ))
}

fn markup(visitor: &Visitor, plan: &Plan, bytes_max: u64) -> Markup {
    html! {
        p.trail { a href="/" { "Overview" } }
        h1 { "New channel" }
        p {
            "A channel is what devices of one kind learn together. It begins with an adapter, such as one that "
            code { "edgetune train" } " has written."
        }
        form.stacked method="post" action="/new-channel" enctype="multipart/form-data" {
            (visitor.token.field())
            label for="name" { "Name" }
            input #name name="name" required maxlength="64" autocomplete="off";
            (file(bytes_max))
            label for="rule" { "How deltas are combined" }
            select #rule name="rule" { @for (rule, said) in RULES { option value=(rule) { (said) } } }
            label for="stages" { "Parts of the devices that get a release one after another, in per cent" }
            input #stages name="stages" required maxlength="64" value=(plan.stages);
            label for="stage_s" { "Seconds that a stage lasts at least" }
            input #stage_s name="stage_s" type="number" min="0" required value=(plan.stage_s);
            label for="stage_reports" { "Reports that the next stage waits for" }
            input #stage_reports name="stage_reports" type="number" min="0" required value=(plan.stage_reports);
            label for="tolerated" { "Share of the devices that may refuse a release" }
            input #tolerated name="tolerated" type="number" min="0" max="0.99" step="0.01" required value=(plan.tolerated);
            button type="submit" { "Make the channel" }
        }
    }
}

/// Where a delta is chosen.
fn file(bytes_max: u64) -> Markup {
    html! {
        label for="delta" { "Adapter (a file of " code { "edgetune train" } ", at most " (bytes(bytes_max as i64)) ")" }
        input #delta name="delta" type="file" accept=".edelta" required;
    }
}

/// The form of a release, on the channel's page.
pub(super) fn form(visitor: &Visitor, channel: &Channel, bytes_max: u64) -> Markup {
    html! {
        details.careful {
            summary { "Publish a release…" }
            form.stacked method="post" action=(path(&["channels", &channel.name, "release"])) enctype="multipart/form-data" {
                p { "The adapter is signed by the server and rolled out like one of a round, stage by stage." }
                (visitor.token.field())
                (file(bytes_max))
                input type="hidden" name="now" value=(channel.version);
                button.danger type="submit" { "Publish" }
            }
        }
    }
}

/// Makes the channel.
pub(super) async fn make(State(fleet): State<Arc<Fleet>>, uploaded: Uploaded) -> Result<Redirect, Failure> {
    let Uploaded { visitor, fields, file, _room } = uploaded;
    let name = fields.get("name").trim();
    let plan = Plan {
        rule: fields.get("rule").into(),
        stages: fields.get("stages").replace(' ', ""),
        stage_s: number(fields.get("stage_s"), "Seconds of a stage")?,
        stage_reports: number(fields.get("stage_reports"), "Reports")?,
        tolerated: number(fields.get("tolerated"), "The share that may refuse")?,
    };
    let channel = channels::make(&fleet, name, plan, &file, &visitor.who).await?;
    Ok(Redirect::to(&path(&["channels", &channel.name])))
}

fn number<T: FromStr>(text: &str, what: &str) -> Result<T, Failure> {
    text.trim().parse().map_err(|_| Failure::Form(format!("{what} are a number; write one in digits.")))
}

/// Publishes the release.
pub(super) async fn publish(
    State(fleet): State<Arc<Fleet>>,
    Path(name): Path<String>,
    uploaded: Uploaded,
) -> Result<Redirect, Failure> {
    let Uploaded { visitor, fields, file, _room } = uploaded;
    let channel = channel_of(&fleet, &name).await?;
    // What was to be replaced may have been replaced already.
    if fields.get("now").parse() != Ok(channel.version) {
        return Err(Failure::Conflict(format!("Version {} is the newest now.", channel.version)));
    }
    channels::publish(&fleet, &channel, &file, &visitor.who).await?;
    Ok(Redirect::to(&path(&["channels", &channel.name])))
}
