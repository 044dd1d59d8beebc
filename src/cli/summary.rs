//! The results of commands, as text for a person and, where no type says it already, as the document for a program.

use super::inspection::{Inspection, United};
use super::print::{Printer, bytes, number, percent, rate};
use crate::amounts::counted;
use crate::learn::{Answered, BeforeAfter, Confusion, Gate, Report, Trained, output_line, retention_line};
use crate::order::Order;
use crate::train::evaluate::{ClassMetrics, Metrics};
use crate::train::prepare::{Bundle, hex};
use crate::train::solve::{Solver, VALIDATION_MIN};
use serde_json::json;
use std::path::{Path, PathBuf};

/// What `train` did.
pub fn trained(trained: &Trained, out: &Path, printer: &Printer) {
    if let Some(measured) = &trained.measured {
        let kind = if trained.report.test.is_some() { "test" } else { "validation" };
        let tokens = measured.after.tokens.map(|tokens| format!(" on {tokens} {kind} tokens"));
        let on = tokens.unwrap_or_else(|| format!(" on {} {}", measured.after.samples, which(trained)));
        for line in compared(measured, trained.went_on) {
            printer.text(format!("{line}{on}"));
        }
        warn_of_little(trained, measured, printer);
    }
    if let Some(retention) = &trained.report.retention {
        printer.text(retention_line(retention));
    }
    if let Some(line) = trained.report.answers.as_ref().and_then(confused) {
        printer.text(line);
    }
    let report = &trained.report;
    gates(&report.gates, printer);
    let (private, all) = (bytes(report.peak_private_bytes), bytes(report.peak_rss_bytes));
    printer.text(format!("memory    {private} private, {all} in all"));
    if let Some(energy) = &report.energy {
        printer.text(format!("energy    {:.1} J of the machine, by {}", energy.joules, energy.meter));
    }
    let encoding = report.encoding.as_deref().unwrap_or_default();
    let size = format!("{} in {encoding}", bytes(report.delta_bytes));
    if trained.refused.is_some() {
        printer.text(format!("time      {:.1} s", report.seconds));
        return;
    }
    if let Some(solved) = &report.solved {
        let l2 = solved.l2.map_or(String::new(), |l2| format!(", --l2 {}", number(l2)));
        printer.text(format!("time      {:.1} s, of it {:.3} s to solve{l2}", report.seconds, solved.seconds));
        printer.text(format!("delta     {} ({size})", out.display()));
        return;
    }
    let steps =
        (report.steps_per_s > 0.0).then(|| rate(report.steps, report.steps as f64 / report.steps_per_s, "step"));
    let steps = steps.flatten().map_or(String::new(), |rate| format!(", {rate}"));
    printer.text(format!("time      {:.1} s{steps}", report.seconds));
    printer.text(format!("delta     {} ({size}){}", out.display(), chosen_epoch(report)));
}

/// The gates that were asked for, and those that are not met.
fn gates(gates: &[Gate], printer: &Printer) {
    for gate in gates.iter().filter(|gate| gate.wanted.is_some() || !gate.passed) {
        let verdict = if gate.passed { "met" } else { "not met" };
        printer.text(format!("gate      {} {verdict}: {}", gate.name, gate.line()));
    }
}

/// Which classes are taken for which most often.
fn confused(answers: &Answered) -> Option<String> {
    let one = |one: &Confusion| format!("{} as {} {}×", one.given, one.answered, one.samples);
    let most: Vec<String> = answers.confused().take(CONFUSED).map(one).collect();
    (!most.is_empty()).then(|| format!("confused  {} (--report R.html shows all)", most.join(", ")))
}

/// Pairs of classes that a person is shown after a training.
const CONFUSED: usize = 3;

/// Whether there were enough validation samples (of a text: tokens) to choose an epoch by.
fn chose(report: &Report) -> bool {
    report.validation.as_ref().is_some_and(|measured| measured.after.samples >= VALIDATION_MIN)
}

/// Which epoch's values a delta holds, where one was chosen.
fn chosen_epoch(report: &Report) -> String {
    match (report.best_epoch, report.epochs.iter().any(|epoch| epoch.validation_loss.is_some())) {
        (_, false) => String::new(),
        (_, true) if !chose(report) => {
            format!(
                "; fewer than {VALIDATION_MIN} validation samples choose no epoch: the values are those of the last"
            )
        }
        (0, true) => "; no epoch was better than the values that training began with, so these are kept".into(),
        (epoch, true) => format!("; the values are those of epoch {epoch}, the best one"),
    }
}

/// Before and after, a line for each measure: the commonest answer, the base where it has these classes, and now.
fn compared(measured: &BeforeAfter, went_on: bool) -> Vec<String> {
    let BeforeAfter { after, commonest, base, .. } = measured;
    let known = if went_on { "before" } else { "base" };
    let answer = match (after.accuracy, after.per_class.is_empty()) {
        (None, _) => "mean",
        (_, false) => "commonest class",
        (_, true) => "commonest answers",
    };
    let line = |name: &str, of: &dyn Fn(&Metrics) -> Option<f64>, shown: fn(f64) -> String| {
        let now = of(after)?;
        let least = commonest.as_ref().and_then(of).map(|value| format!("{answer} {}, ", shown(value)));
        let base = base.as_ref().and_then(of).map_or("–".into(), shown);
        Some(format!("{name:<9} {}{known} {base}, now {}", least.unwrap_or_default(), shown(now)))
    };
    let mut lines = vec![
        line("accuracy", &|metrics| metrics.accuracy, percent),
        line("perplexity", &|metrics| metrics.perplexity, number),
    ];
    let figure = |name: &String| line(&spaced(name), &|metrics| metrics.figures.get(name).copied(), number);
    // Where classes are alike in size it says what the accuracy says.
    let tells = |name: &&String| *name != "macro_f1" || !is_even(after);
    lines.extend(after.figures.keys().filter(tells).map(figure));
    lines.push(line("loss", &|metrics| Some(metrics.loss), number));
    lines.into_iter().flatten().collect()
}

/// Whether no class has more than one and a half times as many samples as another.
fn is_even(metrics: &Metrics) -> bool {
    let sizes = || metrics.per_class.iter().map(|class| class.samples).filter(|samples| *samples > 0);
    sizes().max().unwrap_or(0) * 2 <= sizes().min().unwrap_or(0) * 3
}

/// A figure's name as a person reads it.
fn spaced(name: &str) -> String {
    name.replace('_', " ")
}

/// Who is beaten by neither answer has learned nothing that is of use.
fn warn_of_little(trained: &Trained, measured: &BeforeAfter, printer: &Printer) {
    let BeforeAfter { after, commonest, base, .. } = measured;
    // A few samples, each left out in turn, may be answered with too much certainty and yet rightly.
    let better = |other: &Option<Metrics>| {
        other.as_ref().is_some_and(|other| other.loss <= after.loss && other.accuracy >= after.accuracy)
    };
    let than = match (better(base), better(commonest), after.accuracy) {
        (true, ..) if trained.went_on => "the adapter before",
        (true, ..) => "the base",
        (_, true, Some(_)) => "always answering the commonest class",
        (_, true, None) => "always answering the mean",
        _ => return,
    };
    let remedy = if trained.report.solved.is_some() { "another --solver" } else { "a lower --lr" };
    printer.warn(format!("what was learned is no better than {than}: try {remedy}, more data, or another --train"));
}

/// What the measured samples are to what was learned.
fn which(trained: &Trained) -> String {
    let report = &trained.report;
    if report.test.is_some() {
        return "test samples".into();
    }
    let also = match &report.solved {
        Some(solved) => match solved.folds {
            Some(folds) if folds == report.train_samples => return "samples, each left out in turn".into(),
            Some(folds) => return format!("samples, a part of {folds} left out in turn"),
            None if solved.solver == Solver::Lbfgs => ", which may also have chosen the penalty",
            None => "",
        },
        None if report.epochs.len() > 1 && chose(report) => ", which also chose the epoch",
        None => "",
    };
    format!("validation samples{also}")
}

/// What `eval` measured: the document that scripts parse, or text.
pub fn measured(metrics: &Metrics, printer: &Printer) {
    let of_pixels = metrics.per_class.iter().any(|class| class.iou.is_some());
    let told = |class: &ClassMetrics| match of_pixels {
        true => json!({ "accuracy": class.recall, "pixels": class.samples, "iou": class.iou }),
        false => json!({ "accuracy": class.recall, "samples": class.samples }),
    };
    let per_class: serde_json::Map<String, serde_json::Value> =
        metrics.per_class.iter().map(|class| (class.name.clone(), told(class))).collect();
    let mut document = json!({
        "accuracy": metrics.accuracy, "loss": metrics.loss, "samples": metrics.samples, "per_class": per_class,
    });
    if let (Some(perplexity), Some(tokens)) = (metrics.perplexity, metrics.tokens) {
        document["perplexity"] = perplexity.into();
        document["tokens"] = tokens.into();
        printer.text(format!("perplexity {} on {tokens} tokens", number(perplexity)));
    }
    metrics.figures.iter().for_each(|(name, value)| document[name] = (*value).into());
    printer.document(&document);
    if let Some(accuracy) = metrics.accuracy {
        let what = if of_pixels { "the pixels of " } else { "" };
        printer.text(format!("accuracy  {} of {what}{}", percent(accuracy), counted(metrics.samples, "sample")));
    }
    metrics.figures.iter().for_each(|(name, value)| printer.text(format!("{} {}", spaced(name), number(*value))));
    printer.text(format!("loss      {}", number(metrics.loss)));
    let (there, absent): (Vec<_>, Vec<_>) = metrics.per_class.iter().partition(|class| class.samples > 0);
    for class in there {
        let iou = class.iou.map_or(String::new(), |iou| format!(" pixels, IoU {}", number(iou)));
        printer.text(format!("  {:<20} {:>7} of {}{iou}", class.name, percent(class.recall), class.samples));
    }
    if !absent.is_empty() {
        let names: Vec<&str> = absent.iter().map(|class| class.name.as_str()).collect();
        printer.text(format!("  no samples of {}", names.join(", ")));
    }
}

/// What the demo showed: the document that scripts parse, or text. `paths` are those of model, delta and test data.
pub fn demonstrated(
    trained: &Trained,
    shown: &[(String, String, f32)],
    (model, out, test): (&Path, &Path, &Path),
    seconds: f64,
    printer: &Printer,
) {
    let Some(measured) = &trained.measured else { return };
    let report = &trained.report;
    let accuracy = |metrics: &Metrics| metrics.accuracy.unwrap_or(0.0);
    printer.document(&json!({
        "accuracy_before": accuracy(&measured.before), "accuracy_after": accuracy(&measured.after),
        "accuracy_commonest": measured.commonest.as_ref().map(accuracy), "accuracy_base": measured.base.as_ref().map(accuracy),
        "seconds": seconds,
        "delta_bytes": report.delta_bytes, "peak_private_bytes": report.peak_private_bytes,
        "test_samples": measured.after.samples, "train_samples": report.train_samples,
        "onnxruntime": report.versions.onnxruntime,
        "predictions": shown.iter().map(|(file, class, probability)| json!({
            "input": file, "class": class, "probability": probability,
        })).collect::<Vec<_>>(),
    }));
    for (file, class, probability) in shown {
        printer.text(format!("  {file}: {class} {}", percent((*probability).into())));
    }
    if let Some(line) = compared(measured, false).first() {
        printer.text(format!("{line} on {} photographs it never trained on", measured.after.samples));
    }
    printer.text(format!("time      {seconds:.1} s"));
    printer.text(format!("memory    {} private at its peak", bytes(report.peak_private_bytes)));
    printer.text(format!("delta     {} ({})", out.display(), bytes(report.delta_bytes)));
    let (model, out, test) = (model.display(), out.display(), test.display());
    let edgetune = typed(std::env::current_exe().ok().as_deref());
    printer.text("next:");
    printer.text(format!("  {edgetune} eval {model} --adapter {out} --data {test}"));
    printer.text(format!("  {edgetune} inspect {model}"));
    printer.text(format!("  {edgetune} train {model} --data YOUR_FOLDER --train last:2 --out A.edelta"));
}

/// What starts this program when it is typed: its name where the shell finds it by that, else its path.
fn typed(program: Option<&Path>) -> String {
    let Some(program) = program else { return "edgetune".into() };
    let name = program.file_name().map_or("edgetune".into(), |name| name.to_string_lossy());
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let first = std::env::split_paths(&folders).map(|folder| folder.join(&*name)).find(|file| file.is_file());
    if first.and_then(|file| file.canonicalize().ok()).as_deref() == Some(program) {
        return name.into_owned();
    }
    let here = std::env::current_dir().ok();
    let below = here.and_then(|here| program.strip_prefix(here).ok()).filter(|path| path.components().count() > 1);
    below.unwrap_or(program).display().to_string()
}

/// What `prepare` wrote.
pub fn prepared(bundle: &Bundle, files: &[PathBuf], printer: &Printer) {
    let size = |path: &Path| std::fs::metadata(path).map_or(0, |metadata| metadata.len());
    printer.document(&json!({
        "base_hash": hex(&bundle.base_hash),
        "output": bundle.output,
        "head": bundle.head_note,
        "features": bundle.features.iter().map(|(name, ty)| json!({ "name": name, "type": ty.to_string() })).collect::<Vec<_>>(),
        "parameters": bundle.parameters.iter().map(|p| json!({ "name": p.name, "shape": p.shape })).collect::<Vec<_>>(),
        "files": files,
    }));
    printer.text(output_line(bundle));
    for (name, ty) in &bundle.features {
        printer.text(format!("feature   {name} {ty}"));
    }
    for parameter in &bundle.parameters {
        printer.text(format!("learns    {} {:?}", parameter.name, parameter.shape));
    }
    for file in files {
        printer.text(format!("wrote     {} ({})", file.display(), bytes(size(file))));
    }
}

/// Layers from the top down, the last `shown` of them.
pub fn inspected(found: &Inspection, shown: usize, printer: &Printer) {
    let mut stored: Vec<(&String, &u64)> = found.weights_stored.iter().collect();
    stored.order_by_key(|(_, bytes)| std::cmp::Reverse(**bytes));
    let stored: Vec<String> = stored.into_iter().map(|(ty, size)| format!("{ty} {}", bytes(*size))).collect();
    let weights = format!("{} ({})", bytes(found.weights_bytes), stored.join(", "));
    printer.text(format!("base      {}…", &found.hash[..16]));
    printer.text(format!("graph     {}, opset {}, weights {weights}", counted(found.nodes, "node"), found.opset));
    found.inputs.iter().for_each(|input| printer.text(format!("input     {input}")));
    found.outputs.iter().for_each(|output| printer.text(format!("output    {output}")));
    match (found.batch_in_file, &found.batch_fixed_by) {
        (Some(batch), Some(reason)) => printer.text(format!("batch     fixed to {batch} by the file: {reason}")),
        (Some(batch), None) => {
            printer.text(format!("batch     {batch} in the file, freed: any number of samples is taken"))
        }
        (None, _) => {}
    }
    printer.text(format!("trains on {}", found.trains_on));
    layers(found, shown, printer);
    for United { tensor, modules } in &found.united {
        printer
            .text(format!("{tensor} is one tensor of {}: what learns it changes all of them", modules.join(" and ")));
    }
    if let Some(size) = found.open_size {
        printer.text(format!(
            "memory and ms/step are for sizes of {size} where the model leaves a size open; your data may have others"
        ));
    }
    untimed(found, shown).into_iter().for_each(|line| printer.text(line));
    reach(found, shown, printer);
}

/// Why layers could not be timed: a line a reason for neighbours that share it.
fn untimed(found: &Inspection, shown: usize) -> Vec<String> {
    let mut reasons: Vec<(usize, usize, &str)> = Vec::new();
    for layer in found.layers.iter().rev().take(shown) {
        let Some(problem) = layer.time_problem.as_deref() else { continue };
        match reasons.last_mut() {
            Some((_, last, before)) if *before == problem && *last + 1 == layer.last => *last = layer.last,
            _ => reasons.push((layer.last, layer.last, problem)),
        }
    }
    let line = |(first, last, problem): (usize, usize, &str)| match first == last {
        true => format!("last:{first} could not be timed: {problem}"),
        false => format!("last:{first} to last:{last} could not be timed: {problem}"),
    };
    reasons.into_iter().map(line).collect()
}

/// A line a layer.
fn layers(found: &Inspection, shown: usize, printer: &Printer) {
    printer.text(format!(
        "\n{:>6}  {:<22} {:>10}  {:<6} {:>13} {:>10} {:>8}  {:<24} module (node)",
        "last:N", "operator", "values", "learns", "bytes/sample", "memory", "ms/step", "gives"
    ));
    for layer in found.layers.iter().rev().take(shown) {
        let learns = match (layer.trainable, layer.packed && layer.blocked_by.is_none()) {
            (true, _) => "yes",
            (_, true) => "lora",
            _ => "no",
        };
        let size = match (&layer.cut, layer.feature_bytes) {
            (None, _) => "no cut".into(),
            (Some(_), None) => "varies".into(),
            (Some(_), Some(size)) => bytes(size),
        };
        let memory = layer.memory_bytes.map_or("-".into(), bytes);
        let step = layer.step_ms.map_or("-".into(), |step| format!("{step:.1}"));
        let (last, op, values, module) = (layer.last, &layer.op, layer.parameters, &layer.module);
        let gives = &layer.output_type;
        let node = if layer.node == layer.module { String::new() } else { format!(" ({})", layer.node) };
        printer.text(format!(
            "{last:>6}  {op:<22} {values:>10}  {learns:<6} {size:>13} {memory:>10} {step:>8}  {gives:<24} {module}{node}"
        ));
    }
    if let Some(more) = found.layers.len().checked_sub(shown).filter(|more| *more > 0) {
        printer.text(format!("        … {more} more (--all)"));
    }
}

/// How far down a gradient reaches, and what is in its way.
fn reach(found: &Inspection, shown: usize, printer: &Printer) {
    let (deepest, below) = (found.deepest, found.layers.iter().rev().nth(found.deepest));
    printer.text(match below.and_then(|layer| layer.blocked_by.as_deref()) {
        _ if found.layers.is_empty() => "no layer holds weights: nothing can learn but an appended head".into(),
        None if found.layers.iter().any(|layer| layer.packed) => format!(
            "a gradient reaches every layer: --train last:1 to last:{deepest}, and --adapter lora beside quantised weights"
        ),
        None => format!("every layer can learn: --train last:1 to last:{deepest}"),
        Some(reason) if deepest == 0 => format!("no layer can learn: {reason}"),
        Some(reason) => format!("deepest cut: --train last:{deepest}; below it, {reason}"),
    });
    let told = below.and_then(|layer| layer.blocked_by.as_ref());
    let others = || found.blocking.iter().filter(|blocking| Some(&blocking.reason) != told);
    others().take(shown).for_each(|blocking| printer.text(format!("also in the way: {}", blocking.reason)));
    if let Some(more) = others().count().checked_sub(shown).filter(|more| *more > 0) {
        printer.text(format!("        … {more} more (--all)"));
    }
}
