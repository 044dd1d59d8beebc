//! `GET /label`: a page on which a person gives labels to what teaches most, one sample after another, by touch, mouse or keyboard. It
//! works without its script, which only makes keys of digits.

use super::descriptor::curves;
use super::exchange::{Api, Reply, blocking, body};
use super::problem::Problem;
use super::questions::label_one;
use crate::agent::config::Kind;
use crate::agent::judge::questions::Question;
use crate::agent::locks::lock;
use crate::amounts::percent;
use hyper::body::Incoming;
use hyper::{Request, StatusCode};
use maud::{DOCTYPE, Markup, html};
use std::fmt::Write;
use std::sync::Arc;

/// Bytes of a form that comes back.
const FORM_BYTES_MAX: u64 = 4096;
/// Classes that have a button; any other one can be written.
const BUTTONS_MAX: usize = 24;
/// Characters of a text, and lines of a table, that are shown.
const TEXT_CHARS_MAX: usize = 4000;
/// Size of drawn curves.
const DRAWN: [f32; 2] = [600.0, 160.0];

pub(super) const HTML: &str = "text/html; charset=utf-8";
pub(super) const STYLE: (&str, &str) = ("text/css; charset=utf-8", include_str!("label.css"));
pub(super) const SCRIPT: (&str, &str) = ("text/javascript; charset=utf-8", include_str!("label.js"));

/// What stands above the question.
enum Told {
    Nothing,
    Saved(String),
    Skipped,
    Failed(String),
}

pub(super) fn show(api: &Api) -> Reply {
    page(api, &Told::Nothing)
}

/// A form that was sent: its label is kept, and the next question shown.
pub(super) async fn sent(api: &Arc<Api>, request: Request<Incoming>) -> Result<Reply, Problem> {
    let (form, _room) = body(api, request, FORM_BYTES_MAX).await?;
    let api = api.clone();
    blocking(move || {
        let field = |name: &str| {
            let mut fields = form_urlencoded::parse(&form);
            fields
                .find(|(key, value)| key == name && !value.trim().is_empty())
                .map(|(_, value)| value.trim().to_string())
        };
        let sample = field("sample").unwrap_or_default();
        let told = match (field("skip"), field("label").or_else(|| field("other"))) {
            (Some(_), _) => {
                lock(&api.questions).remove(&sample);
                Told::Skipped
            }
            (None, Some(label)) => match label_one(&api, &sample, &label, field("group")) {
                Ok(_) => Told::Saved(label),
                Err(problem) => Told::Failed(problem.detail().into()),
            },
            (None, None) => Told::Failed("no class was chosen; press one of the buttons, or write a name".into()),
        };
        Ok(page(&api, &told))
    })
    .await
}

fn page(api: &Api, told: &Told) -> Reply {
    let (question, left) = {
        let questions = lock(&api.questions);
        (questions.ranked().first().map(|(question, _)| (*question).clone()), questions.count())
    };
    let config = api.board.config();
    let in_inventory = || lock(&api.board.store.inventory).names().into_iter().map(String::from).collect();
    let known: Vec<String> = config.samples.classes.clone().unwrap_or_else(in_inventory);
    let is_grouped = config.samples.group.is_some();
    let status = if matches!(told, Told::Failed(_)) { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "What is this? – edgetune" }
                link rel="stylesheet" href="label.css";
                script src="label.js" defer {}
            }
            body {
                main {
                    h1 { "What is this?" }
                    p role="status" class=(if matches!(told, Told::Failed(_)) { "failed" } else { "told" }) { (words(told, left)) }
                    @match &question {
                        Some(question) => { (asked(question, &config.samples.kind, (&known, config.samples.classes.is_none()), is_grouped)) }
                        None => { p { "Samples appear here when the device has predicted something that it is not sure of." } }
                    }
                }
            }
        }
    };
    (status, HTML, markup.into_string().into_bytes())
}

fn words(told: &Told, left: usize) -> String {
    let left = match left {
        0 => "No sample waits for a label now.".to_string(),
        1 => "1 sample waits for a label.".to_string(),
        count => format!("{count} samples wait for a label."),
    };
    match told {
        Told::Nothing => left,
        Told::Saved(label) => format!("Saved as {label}. {left}"),
        Told::Skipped => format!("Left out. {left}"),
        Told::Failed(reason) => format!("Not saved: {reason}"),
    }
}

/// A question, with a button for each class: those that the adapter finds likeliest first.
fn asked(question: &Question, kind: &Kind, (known, any): (&[String], bool), is_grouped: bool) -> Markup {
    let mut classes: Vec<&str> = question.classes.iter().map(|(name, _)| name.as_str()).collect();
    let rest: Vec<&str> = known.iter().map(String::as_str).filter(|name| !classes.contains(name)).collect();
    classes.extend(rest);
    let guesses = question.classes.iter().take(3).map(|(name, share)| format!("{name} {}", percent(f64::from(*share))));
    html! {
        (shown(question, kind))
        p { "The adapter in use says: " (guesses.collect::<Vec<_>>().join(", ")) "." }
        form method="post" action="label" {
            input type="hidden" name="sample" value=(question.sample);
            @if is_grouped {
                label { "Recording or person that it is of" input name="group" required; }
            }
            div class="classes" {
                @for (number, class) in classes.iter().take(BUTTONS_MAX).enumerate() {
                    button name="label" value=(class) autofocus[number == 0 && !is_grouped] {
                        @if number < 9 { kbd aria-hidden="true" { (number + 1) } " " }
                        (class)
                    }
                }
            }
            @if any {
                div class="other" {
                    label { "Another class" input name="other" maxlength="100" autocomplete="off"; }
                    button { "Save" }
                }
            }
            button class="skip" name="skip" value="1" formnovalidate { kbd aria-hidden="true" { "0" } " Leave it out" }
        }
    }
}

/// The sample, as far as a browser can show it.
fn shown(question: &Question, kind: &Kind) -> Markup {
    let address = format!("samples/wanted/{}", question.sample);
    match kind {
        Kind::Photograph => html! { img src=(address) alt="The sample that needs a label"; },
        Kind::Sound => html! {
            audio src=(address) controls {}
            @if let Some(curves) = curves(kind, &question.content) { (drawn(&curves)) }
        },
        Kind::Text => {
            let text: String = String::from_utf8_lossy(&question.content).chars().take(TEXT_CHARS_MAX).collect();
            html! { pre tabindex="0" { (text) } }
        }
        Kind::Array(_) | Kind::Series => match curves(kind, &question.content) {
            Some(curves) => drawn(&curves),
            None => html! { p { "The sample cannot be drawn." } },
        },
    }
}

/// Curves over the time, each from its least to its greatest value.
fn drawn(curves: &[Vec<f32>]) -> Markup {
    let [width, height] = DRAWN;
    let points = |curve: &[f32]| {
        let [least, greatest] = [f32::min, f32::max].map(|pick| curve.iter().copied().reduce(pick).unwrap_or(0.0));
        let scale = if greatest > least { height / (greatest - least) } else { 0.0 };
        let step = width / (curve.len().max(2) - 1) as f32;
        let mut points = String::new();
        for (index, value) in curve.iter().enumerate() {
            let _ = write!(points, "{:.1},{:.1} ", index as f32 * step, height - (value - least) * scale);
        }
        points
    };
    html! {
        @for (number, curve) in curves.iter().enumerate() {
            svg viewBox="0 0 600 160" role="img" aria-label=(format!("Curve {} of {}", number + 1, curves.len())) preserveAspectRatio="none" {
                polyline points=(points(curve)) {}
            }
        }
    }
}
