//! `edgetune board`: trainings beside each other on a page.

use super::{document, round_up, shade};
use crate::cli::print::{bytes, number, percent};
use crate::plot::{self, Across, Curve, Panel, Scale};
use crate::train::evaluate::Metrics;
use crate::train::fit::EpochRecord;
use maud::{Markup, PreEscaped, html};
use serde::Deserialize;
use std::cmp::Ordering;

/// Trainings whose curves are drawn.
const CURVES: usize = 7;

/// What a report says of a training, as far as trainings are compared by it.
#[derive(Debug, Clone, Deserialize)]
pub struct Run {
    /// The report's file without its end.
    #[serde(skip)]
    pub name: String,
    pub epochs: Vec<EpochRecord>,
    pub seconds: f64,
    pub peak_private_bytes: u64,
    pub delta_bytes: u64,
    pub train_samples: usize,
    pub recipe: String,
    pub base_hash: String,
    validation: Option<Measured>,
    test: Option<Measured>,
}

/// Before and after on the same samples.
#[derive(Debug, Clone, Deserialize)]
struct Measured {
    before: Metrics,
    after: Metrics,
}

impl Run {
    /// What it is judged by: the test samples, else those that validate.
    fn measured(&self) -> Option<&Measured> {
        self.test.as_ref().or(self.validation.as_ref())
    }

    /// What there was to beat.
    pub fn before(&self) -> Option<&Metrics> {
        self.measured().map(|measured| &measured.before)
    }

    /// What was reached.
    pub fn after(&self) -> Option<&Metrics> {
        self.measured().map(|measured| &measured.after)
    }

    /// How many samples of which kind it was measured on.
    pub fn measured_on(&self) -> String {
        let kind = if self.test.is_some() { "test" } else { "validation" };
        self.after().map_or("nothing".into(), |after| format!("{} {kind}", after.samples))
    }

    /// The better one first: by accuracy, then by loss; what was not measured comes last.
    pub fn order(&self, other: &Self) -> Ordering {
        let accuracy = |run: &Self| run.after().and_then(|after| after.accuracy).unwrap_or(f64::NEG_INFINITY);
        let loss = |run: &Self| run.after().map_or(f64::INFINITY, |after| after.loss);
        accuracy(other).total_cmp(&accuracy(self)).then(loss(self).total_cmp(&loss(other)))
    }
}

/// The page of trainings, which are in their order.
pub fn board(runs: &[Run]) -> String {
    let best = runs.iter().filter_map(|run| run.after()?.accuracy).fold(0.0, f64::max);
    let main = html! {
        h1 { "Trainings" }
        p { (runs.len()) " trainings, the best first." }
        (curves(runs))
        h2 { "Figures" }
        div class="wide" tabindex="0" role="region" aria-label="Figures" { table {
            thead { tr { @for name in ["training", "before", "accuracy", "loss", "measured on", "time", "memory", "delta"] {
                th scope="col" { (name) }
            } } }
            tbody { @for run in runs { (row(run, best)) } }
        } }
        @for run in runs { h2 { (run.name) } pre tabindex="0" { (run.recipe) } }
    };
    document("Trainings", &main, &html! {})
}

fn row(run: &Run, best: f64) -> Markup {
    let share = |of: Option<&Metrics>| of.and_then(|metrics| metrics.accuracy);
    let text = |share: Option<f64>| share.map_or("–".into(), percent);
    let (before, after) = (share(run.before()), share(run.after()));
    html! { tr {
        th scope="row" { (run.name) }
        td { (text(before)) }
        td style={ "background:rgba(var(--fill)," (shade(after.unwrap_or(0.0) / best.max(f64::MIN_POSITIVE))) ")" } { (text(after)) }
        td { (run.after().map_or("–".into(), |after| number(after.loss))) }
        td { (run.measured_on()) }
        td { (format!("{:.1} s", run.seconds)) }
        td { (bytes(run.peak_private_bytes)) }
        td { (bytes(run.delta_bytes)) }
    } }
}

/// Validation loss and accuracy of the best trainings by epoch.
fn curves(runs: &[Run]) -> Markup {
    let of = |value: &dyn Fn(&EpochRecord) -> Option<f64>| -> Vec<Curve> {
        let curve = |run: &Run| {
            let points: Vec<[f64; 2]> = (run.epochs.iter().enumerate())
                .filter_map(|(place, epoch)| Some([(place + 1) as f64, value(epoch)?]))
                .filter(|[_, value]| value.is_finite())
                .collect();
            // The plot takes labels as they are, and a file's name may hold anything.
            let label = html! { (run.name) }.into_string();
            (points.len() > 1).then_some(Curve { label, points })
        };
        runs.iter().filter_map(curve).take(CURVES).collect()
    };
    let (loss, accuracy) = (of(&|epoch| epoch.validation_loss), of(&|epoch| Some(100.0 * epoch.validation_accuracy?)));
    let panel = |title: &str, top: f64, curves: Vec<Curve>| Panel {
        title: title.into(),
        x_label: "epoch".into(),
        y_label: String::new(),
        across: Across::Linear,
        scale: Scale::FromZero { top },
        curves,
    };
    let highest = loss.iter().flat_map(|curve| &curve.points).map(|[_, value]| *value).fold(0.0, f64::max);
    let panels =
        [panel("Validation loss", round_up(1.3 * highest), loss), panel("Accuracy, per cent", 100.0, accuracy)];
    let panels: Vec<Panel> = panels.into_iter().filter(|panel| !panel.curves.is_empty()).collect();
    if panels.is_empty() {
        return html! {};
    }
    html! { h2 { "Learning" } div class="plots" { @for panel in panels { (PreEscaped(plot::svg(&[panel]))) } } }
}
