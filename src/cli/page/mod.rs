//! `train --report FILE.html`: a training on one page that needs nothing but a browser. No script; pictures lie in the page.
//!
//! A pure function of the report and of small pictures; [`thumbnails`] makes these of the files that the report names.

#[cfg(feature = "workstation")]
pub mod adapter;
#[cfg(feature = "workstation")]
pub mod board;
mod thumbnails;

use super::print::{bytes, number, percent};
use crate::learn::{Answered, BeforeAfter, Confusion, Energy, Gate, Report, curve_line};
use crate::plot::{self, Across, Curve, Panel, Scale};
use crate::train::fit::EpochRecord;
use crate::train::solve::LearningCurve;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use std::collections::HashMap;
use std::path::Path;
pub use thumbnails::thumbnails;

const STYLE: &str = include_str!("style.css");
/// Classes up to which a confusion matrix has a cell for every pair; beyond, the most frequent pairs are listed.
const MATRIX_CLASSES: usize = 20;
/// Pairs of classes that are listed.
const PAIRS: usize = 20;

/// The page. `model`: the base's file; `thumbnails`: by a sample's name a picture as a `data:` URI.
pub fn page(report: &Report, model: &Path, thumbnails: &HashMap<String, String>) -> String {
    let model = model.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let measured = report.test.as_ref().or(report.validation.as_ref());
    let title = format!("Training of {model}");
    let main = html! {
        h1 { (title) }
        p { (samples(report)) }
        (figures(report, measured))
        (gates(&report.gates))
        (curves(&report.epochs))
        @if let Some(curve) = &report.learning_curve { (more_samples(curve)) }
        @if let Some(measured) = measured { (classes(measured)) }
        @if let Some(answers) = &report.answers {
            (confusion(answers))
            (calibration(answers, report.temperature))
            (mistakes(answers, thumbnails))
        }
        (labels(report, thumbnails))
        (data(report))
        (cost(report))
        h2 { "Recipe" }
        pre tabindex="0" { (report.recipe) }
    };
    let footer = html! {
        footer {
            "edgetune " (report.versions.edgetune) ", ONNX Runtime " (report.versions.onnxruntime) ", base " (report.base_hash)
            ", seed " (report.seed)
        }
    };
    document(&title, &main, &footer)
}

/// A page that needs nothing but itself.
fn document(title: &str, main: &Markup, footer: &Markup) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="generator" content="edgetune report";
                title { (title) " – edgetune" }
                style { (PreEscaped(STYLE)) }
            }
            body { main { (main) } (footer) }
        }
    };
    page.into_string()
}

/// Labels that are shown as probably wrong.
const LABELS: usize = 24;

/// The samples that the page has pictures of.
pub fn shown(report: &Report) -> impl Iterator<Item = &str> {
    let mistakes = report.answers.iter().flat_map(|answers| &answers.mistakes).map(|one| one.sample.as_str());
    mistakes.chain(report.label_errors.iter().take(LABELS).map(|one| one.sample.as_str()))
}

/// What was learned from and measured by.
fn samples(report: &Report) -> String {
    let (train, validation) = (report.train_samples, report.validation_samples);
    let measured = match &report.test {
        Some(test) => format!("measured on {} test samples that were not learned from", test.after.samples),
        None if report.validation.is_some() => format!("measured on {validation} validation samples"),
        None => "not measured: no samples were held out".into(),
    };
    format!("{train} samples to learn from, {measured}.")
}

fn figures(report: &Report, measured: Option<&BeforeAfter>) -> Markup {
    let before = |value: Option<String>, measured: &BeforeAfter| {
        let what = if measured.base.is_some() { "before" } else { "commonest class" };
        value.map(|value| format!("{what} {value}"))
    };
    let mut tiles: Vec<(&str, String, Option<String>)> = Vec::new();
    if let Some(measured) = measured {
        if let Some(accuracy) = measured.after.accuracy {
            tiles.push(("Accuracy", percent(accuracy), before(measured.before.accuracy.map(percent), measured)));
        }
        if let Some(perplexity) = measured.after.perplexity {
            tiles.push(("Perplexity", number(perplexity), before(measured.before.perplexity.map(number), measured)));
        }
        tiles.push(("Loss", number(measured.after.loss), before(Some(number(measured.before.loss)), measured)));
        for (name, value) in &measured.after.figures {
            if name == "macro_f1" {
                tiles.push(("Macro F1", number(*value), None));
            }
        }
    }
    if let Some(retention) = &report.retention {
        let shown =
            retention.after.perplexity.map(|now| (number as fn(f64) -> String, now, retention.before.perplexity));
        let by_answers =
            retention.after.accuracy.map(|now| (percent as fn(f64) -> String, now, retention.before.accuracy));
        if let Some((show, now, before)) = shown.or(by_answers) {
            tiles.push(("Kept", show(now), before.map(|before| format!("{} before: {}", show(before), retention.of))));
        }
    }
    tiles.push(("Time", format!("{:.1} s", report.seconds), None));
    tiles.push(("Memory", bytes(report.peak_private_bytes), Some("private, at its peak".into())));
    tiles.push(("Delta", bytes(report.delta_bytes), report.encoding.clone()));
    html! {
        dl class="figures" {
            @for (name, value, note) in tiles {
                div { dt { (name) } dd { (value) @if let Some(note) = note { small { (note) } } } }
            }
        }
    }
}

/// What the adapter has to meet, and whether it does.
fn gates(gates: &[Gate]) -> Markup {
    html! {
        @if !gates.is_empty() {
            h2 { "Gates" }
            @if gates.iter().any(|gate| !gate.passed) { p { "The adapter was not written: a gate refuses it." } }
            div class="wide" tabindex="0" role="region" aria-label="Gates" { table {
                thead { tr { th scope="col" { "gate" } th scope="col" { "measured" } th scope="col" { "verdict" } } }
                tbody { @for gate in gates { tr {
                    th scope="row" { (gate.name) }
                    td { (gate.line()) }
                    td class=(if gate.passed { "good" } else { "bad" }) { (if gate.passed { "met" } else { "not met" }) }
                } } }
            } }
        }
    }
}

/// Loss and accuracy by epoch, where there is more than one.
fn curves(epochs: &[EpochRecord]) -> Markup {
    if epochs.len() < 2 {
        return html! {};
    }
    let points = |of: &dyn Fn(&EpochRecord) -> Option<f64>| -> Vec<[f64; 2]> {
        epochs.iter().enumerate().filter_map(|(place, epoch)| Some([(place + 1) as f64, of(epoch)?])).collect()
    };
    let losses = epochs.iter().flat_map(|epoch| [Some(epoch.train_loss), epoch.validation_loss]).flatten();
    // Above the curves there is room for their names.
    let top = 1.3 * losses.filter(|loss| loss.is_finite()).fold(0.0, f64::max);
    let panel = |title: &str, top: f64, curves: Vec<(&str, Vec<[f64; 2]>)>| Panel {
        title: title.into(),
        x_label: "epoch".into(),
        y_label: String::new(),
        across: Across::Linear,
        scale: Scale::FromZero { top },
        curves: curves
            .into_iter()
            .filter(|(_, points)| points.len() > 1 && points.iter().all(|[_, value]| value.is_finite()))
            .map(|(label, points)| Curve { label: label.into(), points })
            .collect(),
    };
    let training = points(&|epoch| Some(epoch.train_loss));
    let validation = points(&|epoch| epoch.validation_loss);
    let accuracy = points(&|epoch| epoch.validation_accuracy.map(|share| 100.0 * share));
    let panels = [
        panel("Loss", round_up(top), vec![("training", training), ("validation", validation)]),
        panel("Accuracy, per cent", 100.0, vec![("validation", accuracy)]),
    ];
    let panels = panels.into_iter().filter(|panel| !panel.curves.is_empty());
    html! {
        h2 { "Learning" }
        div class="plots" { @for panel in panels { (PreEscaped(plot::svg(&[panel]))) } }
    }
}

/// What more samples would give.
fn more_samples(curve: &LearningCurve) -> Markup {
    let points = curve.samples.iter().zip(curve.accuracy).map(|(samples, share)| [*samples as f64, 100.0 * share]);
    let panel = Panel {
        title: "Accuracy, per cent".into(),
        x_label: "samples".into(),
        y_label: String::new(),
        across: Across::Logarithmic,
        scale: Scale::FromZero { top: 100.0 },
        curves: vec![Curve { label: String::new(), points: points.collect() }],
    };
    html! {
        h2 { "More samples" }
        p { "By heads on the model's features, on samples that were left out: " (curve_line(curve)) "." }
        div class="plots" { (PreEscaped(plot::svg(&[panel]))) }
    }
}

/// The next of 1, 2, 4 and 8 times a power of ten.
fn round_up(value: f64) -> f64 {
    let power = 10f64.powf(value.max(1e-6).log10().floor());
    [1.0, 2.0, 4.0, 8.0, 10.0].into_iter().map(|times| times * power).find(|top| *top >= value).unwrap_or(value)
}

/// Each class before and after.
fn classes(measured: &BeforeAfter) -> Markup {
    let after: Vec<_> = measured.after.per_class.iter().filter(|class| class.samples > 0).collect();
    if after.is_empty() {
        return html! {};
    }
    let known = measured.base.as_ref();
    let before = |name: &str| known.and_then(|base| base.per_class.iter().find(|class| class.name == name));
    html! {
        h2 { "Classes" }
        div class="wide" tabindex="0" role="region" aria-label="Classes" { table {
            thead { tr {
                th scope="col" { "class" } th scope="col" { "samples" }
                @if known.is_some() { th scope="col" { "before" } }
                th scope="col" { "recognised" }
                @if known.is_some() { th scope="col" { "change" } }
            } }
            tbody { @for class in after { tr {
                th scope="row" { (class.name) }
                td { (class.samples) }
                @if let Some(before) = before(&class.name) { td { (percent(before.recall)) } }
                td style={ "background:rgba(var(--fill)," (shade(class.recall)) ")" } { (percent(class.recall)) }
                @if let Some(before) = before(&class.name) { (change(class.recall - before.recall)) }
            } } }
        } }
    }
}

fn change(by: f64) -> Markup {
    let class = if by > 0.0 {
        "good"
    } else if by < 0.0 {
        "bad"
    } else {
        ""
    };
    html! { td class=(class) { (format!("{:+.1}", 100.0 * by)) } }
}

/// How strongly a cell is filled, so that text on it stays readable.
fn shade(share: f64) -> String {
    format!("{:.2}", 0.45 * share.clamp(0.0, 1.0))
}

/// Which classes are taken for which.
fn confusion(answers: &Answered) -> Markup {
    let mut names: Vec<&str> = Vec::new();
    for name in answers.confusion.iter().flat_map(|one| [&one.given, &one.answered]) {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    names.sort_unstable();
    html! {
        h2 { "Confusion" }
        @if names.len() <= MATRIX_CLASSES {
            @if let Some(before) = &answers.confusion_before { (matrix("before the training", &names, before)) }
            (matrix("after the training", &names, &answers.confusion))
        } @else {
            (pairs(answers))
        }
    }
}

fn matrix(when: &str, names: &[&str], confusion: &[Confusion]) -> Markup {
    let count = |given: &str, answered: &str| {
        confusion.iter().find(|one| one.given == given && one.answered == answered).map_or(0, |one| one.samples)
    };
    html! {
        p { "Rows are the right class, columns the answer, " (when) "." }
        div class="wide" tabindex="0" role="region" aria-label={ "Confusion " (when) } { table {
            thead { tr { th scope="col" { "right class" } @for name in names { th scope="col" { (name) } } } }
            tbody { @for given in names { tr {
                th scope="row" { (given) }
                @let all: usize = names.iter().map(|answered| count(given, answered)).sum();
                @for answered in names {
                    @let samples = count(given, answered);
                    @let share = samples as f64 / all.max(1) as f64;
                    td style={ "background:rgba(var(--fill)," (shade(share)) ")" } { @if samples > 0 { (samples) } }
                }
            } } }
        } }
    }
}

fn pairs(answers: &Answered) -> Markup {
    html! {
        p { "The pairs that are confused most often." }
        div class="wide" tabindex="0" role="region" aria-label="Confusion" { table {
            thead { tr { th scope="col" { "right class" } th scope="col" { "answer" } th scope="col" { "samples" } } }
            tbody { @for one in answers.confused().take(PAIRS) {
                tr { th scope="row" { (one.given) } td { (one.answered) } td { (one.samples) } }
            } }
        } }
    }
}

/// How sure answers are beside how right they are.
fn calibration(answers: &Answered, temperature: Option<f64>) -> Markup {
    let calibration = &answers.calibration;
    html! {
        h2 { "Calibration" }
        p { "Of answers with a probability of 80 %, four in five should be right. On average the two differ by "
            (percent(calibration.expected_error)) " (expected calibration error)."
            @if let Some(temperature) = temperature { " The last layer is divided by the temperature " (number(temperature)) "." } }
        div class="wide" tabindex="0" role="region" aria-label="Calibration" { table {
            thead { tr { th scope="col" { "probability" } th scope="col" { "right" } th scope="col" { "samples" } } }
            tbody { @for bin in &calibration.bins {
                tr { th scope="row" { (percent(bin.sureness)) } td { (percent(bin.accuracy)) } td { (bin.samples) } }
            } }
        } }
    }
}

fn mistakes(answers: &Answered, thumbnails: &HashMap<String, String>) -> Markup {
    if answers.mistakes.is_empty() {
        return html! {};
    }
    let photos = answers.mistakes.iter().map(|one| {
        let answered = html! { b { (one.answered) } " (" (percent(one.probability.into())) ")" };
        (one.sample.as_str(), html! { (one.given) " taken for " (answered) })
    });
    html! {
        h2 { "Worst mistakes" }
        p { "Wrong answers, the surest first. Where the answer is right and the label wrong, correct the label." }
        (pictures(photos, thumbnails))
    }
}

/// Samples that were learned from with labels that are probably wrong.
fn labels(report: &Report, thumbnails: &HashMap<String, String>) -> Markup {
    if report.label_errors.is_empty() {
        return html! {};
    }
    let photos = report.label_errors.iter().take(LABELS).map(|one| {
        let share =
            |probability: Option<f64>| probability.map_or(String::new(), |share| format!(" ({})", percent(share)));
        let (given, likely) = (share(one.given_probability), share(one.likely_probability));
        (one.sample.as_str(), html! { "labelled " (one.given) (given) ", perhaps " b { (one.likely) } (likely) })
    });
    html! {
        h2 { "Labels to look at" }
        p { (report.label_errors.len()) " of the samples that were learned from have labels that are probably wrong, the clearest first, by a head \
            that has not learned from them. " code { "edgetune data check" } " lists all." }
        (pictures(photos, thumbnails))
    }
}

/// Samples with what is said of each.
fn pictures<'s>(samples: impl Iterator<Item = (&'s str, Markup)>, thumbnails: &HashMap<String, String>) -> Markup {
    html! {
        ul class="photos" { @for (sample, said) in samples { li {
            @if let Some(picture) = thumbnails.get(sample) { img src=(picture) alt={ "the sample " (sample) }; }
            span { (said) }
            span class="name" { (sample) }
        } } }
    }
}

fn data(report: &Report) -> Markup {
    if report.findings.is_empty() && report.skipped.is_empty() && report.test_samples_in_data == 0 {
        return html! {};
    }
    html! {
        h2 { "Data" }
        ul {
            @for finding in &report.findings { li { (finding.problem) ": " (finding.remedy) } }
            @if report.test_samples_in_data > 0 {
                li { (report.test_samples_in_data) " test samples are in the data that were learned from: the result is too good" }
            }
            @for file in &report.skipped { li { (file.file.display()) " was left out: " (file.reason) } }
        }
    }
}

/// Joules, and what they were spent for.
fn energy(energy: &Energy) -> String {
    let point =
        energy.joules_per_point.map_or(String::new(), |joules| format!(", {joules:.1} J for each point of accuracy"));
    format!("{:.1} J, {:.2} J a sample{point} (by {})", energy.joules, energy.joules_per_sample, energy.meter)
}

fn cost(report: &Report) -> Markup {
    let written = report.written_bytes.map_or("not measured".into(), bytes);
    let rows = [
        ("Time", format!("{:.1} s", report.seconds)),
        ("Gradient steps", report.steps.to_string()),
        (
            "Memory at its peak",
            format!("{} private, {} in all", bytes(report.peak_private_bytes), bytes(report.peak_rss_bytes)),
        ),
        ("Written to disk", written),
        ("Features kept for the next run", bytes(report.cache_bytes)),
        ("Learned values", report.parameters.to_string()),
        ("Delta", bytes(report.delta_bytes)),
        (
            "Energy of the machine",
            report.energy.as_ref().map_or("not measured: this machine has no meter that may be read".into(), energy),
        ),
    ];
    html! {
        h2 { "Cost" }
        div class="wide" tabindex="0" role="region" aria-label="Cost" { table { tbody { @for (name, value) in rows { tr { th scope="row" { (name) } td { (value) } } } } } }
    }
}
