//! `edgetune report A.edelta`: what an adapter says of itself, on one page that needs nothing but a browser.

use super::document;
use crate::amounts::counted;
use crate::cli::delta_report::{BeforeAfter, DeltaReport, Tensor, utc};
use crate::cli::print::{bytes, number, percent};
use maud::{Markup, html};

/// The page; `name` is the file's.
pub fn adapter(report: &DeltaReport, name: &str) -> String {
    let title = format!("Adapter {name}");
    let learned =
        report.head.as_ref().map_or(String::new(), |head| format!(", with a head of {} outputs", head.classes));
    let main = html! {
        h1 { (title) }
        p { "Learned from " (counted(report.samples, "sample")) (learned) "." }
        (figures(report))
        (provenance(report))
        (classes(report))
        (tensors(&report.tensors))
        @if !report.recipe_text.is_empty() { h2 { "Recipe" } pre tabindex="0" { (report.recipe_text) } }
    };
    let footer = html! { footer { "edgetune " (report.tool) ", base " (report.base) ", seed " (report.seed) } };
    document(&title, &main, &footer)
}

/// What was measured when it was learned.
fn figures(report: &DeltaReport) -> Markup {
    let mut tiles: Vec<(String, String, Option<String>)> = Vec::new();
    for (of, measured) in [("test samples", &report.test), ("validation", &report.validation)] {
        let Some(BeforeAfter { loss: [loss_before, loss], accuracy }) = measured else { continue };
        if let Some([before, after]) = accuracy {
            tiles.push((
                format!("Accuracy, {of}"),
                percent(f64::from(*after)),
                Some(format!("before {}", percent(f64::from(*before)))),
            ));
        }
        tiles.push((
            format!("Loss, {of}"),
            number(f64::from(*loss)),
            Some(format!("before {}", number(f64::from(*loss_before)))),
        ));
    }
    tiles.push(("Size".into(), bytes(report.bytes as u64), None));
    html! {
        @if report.test.is_none() && report.validation.is_none() { p { "Nothing was measured: no samples were held out." } }
        dl class="figures" {
            @for (name, value, note) in tiles { div { dt { (name) } dd { (value) @if let Some(note) = note { small { (note) } } } } }
        }
    }
}

/// Where it comes from, and who vouches for it.
fn provenance(report: &DeltaReport) -> Markup {
    let optional = |value: &Option<String>| value.clone().unwrap_or_default();
    let method =
        report.method.as_ref().map(|method| format!("{}, rank {}, alpha {}", method.kind, method.rank, method.alpha));
    let gate =
        report.gate.as_ref().map(|gate| format!("{} {}", if gate.passed { "met:" } else { "not met:" }, gate.reason));
    let rows = [
        ("Identity", report.identity.clone()),
        ("Signed by", report.signer.clone().unwrap_or("nobody".into())),
        ("Base", report.base.clone()),
        ("Difference to", optional(&report.parent)),
        ("Written", report.created_unix_s.map_or(String::new(), utc)),
        ("Device", report.device.clone()),
        ("Round of the fleet", report.round.map_or(String::new(), |round| round.to_string())),
        ("Task", format!("{}, loss {}", report.task, report.loss)),
        ("Output", report.output.clone()),
        ("Method", method.unwrap_or_default()),
        ("Gates", gate.unwrap_or_default()),
        ("Recipe", optional(&report.recipe)),
        ("Licence", report.licence.clone()),
        ("Notes", report.notes.clone()),
    ];
    html! {
        h2 { "Where it comes from" }
        div class="wide" tabindex="0" role="region" aria-label="Where it comes from" { table { tbody {
            @for (name, value) in rows.into_iter().filter(|(_, value)| !value.is_empty()) { tr { th scope="row" { (name) } td { (value) } } }
        } } }
    }
}

fn classes(report: &DeltaReport) -> Markup {
    html! {
        @if !report.labels.is_empty() {
            h2 { "Classes" }
            div class="wide" tabindex="0" role="region" aria-label="Classes" { table {
                thead { tr { th scope="col" { "class" } th scope="col" { "samples learned from" } } }
                tbody { @for label in &report.labels { tr { th scope="row" { (label.name) } td { (label.samples) } } } }
            } }
        }
    }
}

fn tensors(tensors: &[Tensor]) -> Markup {
    html! {
        h2 { "What it changes" }
        div class="wide" tabindex="0" role="region" aria-label="What it changes" { table {
            thead { tr { th scope="col" { "tensor" } th scope="col" { "shape" } th scope="col" { "stored as" } th scope="col" { "bytes" } } }
            tbody { @for tensor in tensors { tr {
                th scope="row" { (tensor.name) }
                td { (format!("{:?}", tensor.shape)) }
                td { (tensor.encoding) @if tensor.coded { ", coded" } @if tensor.difference { ", added to the base's" } }
                td { (tensor.bytes) }
            } } }
        } }
    }
}
