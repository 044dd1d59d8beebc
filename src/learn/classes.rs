//! Which outputs of the model the data's classes are: by name where names are known, else by what the base answers.

use super::observer::Observer;
use super::samples::class_names;
use crate::adapter::{self, Detector, Positions};
use crate::data::{self, Labels, Matched, Preprocessing, Stated};
use crate::recipe::{self, Error, HeadName, Recipe, refuse};
use crate::task;
use crate::train::loss::Loss;
use crate::train::prepare::Base;
use crate::train::trial::{self, Trial};

/// Names shown of many.
const SHOWN: usize = 5;

/// What is known of the model's outputs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outputs {
    /// They are not the data's classes: a head for these starts anew.
    Others,
    /// A head for these names, in this order, starts anew.
    Named(Vec<String>),
    /// There are as many as classes in the data, and no name says which is which.
    AsMany,
    /// They are the data's classes, by name; and where the names are from.
    Same(Matched, String),
}

/// Finds the data's classes among the model's outputs: by the setting `classes`, or by what the model's exporter states. `kept`: classes that the
/// model is to keep, which are its own.
///
/// # Errors
/// A setting `classes` or `head = keep` that does not fit the data and the model.
pub fn outputs(
    recipe: &Recipe,
    base: &Base,
    labels: &Labels,
    kept: &[String],
    observer: &dyn Observer,
) -> Result<Outputs, Error> {
    let found = labels.names();
    if matches!(labels, Labels::Ordinal { .. }) {
        return ordinal(recipe, base, labels);
    }
    if matches!(labels, Labels::Lines { .. }) {
        return lines(recipe, base, labels);
    }
    // Numbers, next tokens and what a loss of one's own takes have no classes.
    if found.is_empty() {
        return match &recipe.classes {
            Some(_) => {
                refuse!("setting `classes`: the data hold numbers or text to predict, not classes; remove the option")
            }
            None => Ok(Outputs::Others),
        };
    }
    let width = own_width(recipe, base)?;
    let anew = matches!(recipe.head, Some(HeadName::Replace | HeadName::Append));
    if let Some(given) = &recipe.classes {
        return by_names(given, found, width.filter(|_| !anew));
    }
    let stated = if anew { None } else { stated(base, width, observer).or_else(|| of_kept(kept, width)) };
    if let Some(Stated { value, source }) = stated {
        let matched = Matched::new(&value, found);
        let keeps_all = !kept.is_empty() && Matched::new(&value, kept).new.is_empty();
        if matched.is_the_model_s() || keeps_all {
            return Ok(Outputs::Same(matched, source));
        }
        let (count, outputs) = (found.len(), value.len());
        observer.note(&format!(
            "classes   {} of the data's {count} are among the model's {outputs} ({source})",
            matched.found
        ));
    }
    match (recipe.head, width) {
        (Some(HeadName::Replace | HeadName::Append), _) => Ok(Outputs::Others),
        // What the base says of single words or pixels is not asked: a head of as many classes is kept.
        (_, Some(width)) if labels.of_positions() && (width == found.len() as u64 || width == 1) => Ok(Outputs::Others),
        (_, Some(width)) if width == found.len() as u64 => Ok(Outputs::AsMany),
        // One column behind a sigmoid.
        (_, Some(1)) if found.len() == 2 => Ok(Outputs::AsMany),
        (Some(HeadName::Keep), width) => refuse!(
            "setting `head = keep`: the data have {} classes, the model {} outputs, and nothing names these; name them with setting `classes`",
            found.len(),
            width.map_or("an unknown number of".into(), |width| width.to_string())
        ),
        _ => Ok(Outputs::Others),
    }
}

/// What the outputs are by the names that were given; `width`: how many the model has, where its head is kept.
fn by_names(given: &str, found: &[String], width: Option<u64>) -> Result<Outputs, Error> {
    let names = class_names(given)?;
    let matched = Matched::new(&names, found);
    refuse_number(given, &matched, found)?;
    if width == Some(names.len() as u64) {
        return Ok(Outputs::Same(matched, "setting `classes`".into()));
    }
    match &matched.new[..] {
        [] => Ok(Outputs::Named(names)),
        new => refuse!(
            "setting `classes`: {} is in the data and not among its {} names; add it there, or take its samples out",
            shown(new),
            names.len()
        ),
    }
}

/// Classes in an order have one column less, whose meaning no name tells.
fn ordinal(recipe: &Recipe, base: &Base, labels: &Labels) -> Result<Outputs, Error> {
    let width = own_width(recipe, base)?;
    let anew = matches!(recipe.head, Some(HeadName::Replace | HeadName::Append));
    Ok(if !anew && width == columns(labels) { Outputs::AsMany } else { Outputs::Others })
}

/// Characters were found for the model's outputs, or are those of the data, before the data were read.
fn lines(recipe: &Recipe, base: &Base, labels: &Labels) -> Result<Outputs, Error> {
    let anew = matches!(recipe.head, Some(HeadName::Replace | HeadName::Append));
    let is_kept = !anew && own_width(recipe, base)? == columns(labels);
    Ok(if is_kept { Outputs::Others } else { Outputs::Named(labels.names().to_vec()) })
}

/// The model's own columns, where their number is fixed.
pub(super) fn own_width(recipe: &Recipe, base: &Base) -> Result<Option<u64>, Error> {
    let positions = recipe::loss(recipe.loss, None).positions();
    if positions == Positions::Cell {
        return Ok(Some(Detector::find(&base.graph)?.classes));
    }
    let output = adapter::output_of(&base.graph, recipe.output.as_deref(), positions)?;
    Ok(adapter::width(&base.graph, output, positions))
}

/// Columns that labels ask for.
pub(super) fn columns(labels: &Labels) -> Option<u64> {
    task::of_labels(labels).and_then(|task| (task.width)(labels))
}

/// What the model's exporter states, if it fits the model.
fn stated(base: &Base, width: Option<u64>, observer: &dyn Observer) -> Option<Stated<Vec<String>>> {
    let stated = data::class_names(&base.path, &base.metadata).unwrap_or_else(|error| {
        observer.warn(&format!("the names of the model's classes: {error}"));
        None
    })?;
    let names = stated.value.len();
    if width == Some(names as u64) {
        return Some(stated);
    }
    tracing::info!(source = stated.source, names, ?width, "names that are not as many as the model's outputs");
    None
}

/// The names of a retention set, where they are as many as the model's outputs: they were in this order when it was made.
fn of_kept(kept: &[String], width: Option<u64>) -> Option<Stated<Vec<String>>> {
    let fits = !kept.is_empty() && width == Some(kept.len() as u64);
    fits.then(|| Stated { value: kept.to_vec(), source: "the retention set".into() })
}

/// The share of chance's loss below which a classifier's answers are certainly of these classes. A fresh one is by luck a few per cent below
/// chance on some data.
const KNOWS: f64 = 0.9;

impl Outputs {
    /// The order of classes, where it is not that of the data.
    pub fn names(&self) -> Option<Vec<String>> {
        match self {
            Self::Same(matched, _) => Some(matched.names.clone()),
            Self::Named(names) => Some(names.clone()),
            Self::Others | Self::AsMany => None,
        }
    }

    /// Decides what becomes of the head, and tells it; where no name does, by the loss of the base's answers to some of the
    /// training samples: above that of chance, its outputs mean something else.
    ///
    /// # Errors
    /// The setting `head = keep` where names or answers say that the outputs are other classes.
    pub fn settle(
        &self,
        recipe: &mut Recipe,
        (set, samples): (&std::sync::Arc<data::Dataset>, &[usize]),
        (loss, preprocessing): (&Loss, &Preprocessing),
        trial: &Trial<'_>,
        observer: &dyn Observer,
    ) -> Result<(), Error> {
        let labels = set.labels();
        match self {
            Self::Others => {}
            Self::Named(names) if recipe.head == Some(HeadName::Keep) => {
                refuse!(
                    "setting `head = keep`: setting `classes` has {} names, the model another number of outputs; name each of these",
                    names.len()
                )
            }
            Self::Named(_) => recipe.head = recipe.head.or(Some(HeadName::Auto)),
            Self::Same(matched, source) => {
                recipe.head = Some(HeadName::Keep);
                tell_same(matched, source, labels, observer);
                warn_of_solver(recipe, labels, observer);
            }
            Self::AsMany => {
                let tried = trial::spread(samples, trial::SAMPLES);
                let width = columns(labels);
                let answers = trial.answers(set, &tried, preprocessing, width).unwrap_or_else(|error| {
                    tracing::info!(%error, "the base could not be tried");
                    None
                });
                let Some(answers) = answers else { return Ok(()) };
                let (before, chance) = (trial::loss(loss, labels, &tried, &answers), trial::chance(labels));
                let names = shown(labels.names());
                if before <= KNOWS * chance || (before <= chance && trial::beyond_chance(labels, &tried, &answers)) {
                    observer.note(&format!(
                        "classes   taken for the model's outputs in this order: {names} (loss {before:.4} before training, {chance:.4} by \
                         chance); setting `classes` names them otherwise"
                    ));
                } else if recipe.head != Some(HeadName::Keep) {
                    let replaced = trial.replaces(width);
                    recipe.head = Some(if replaced { HeadName::Replace } else { HeadName::Append });
                    let what =
                        if replaced { "Its classifier is replaced" } else { "A new classifier is appended to them" };
                    observer.warn(&format!(
                        "the model's {} outputs are not the data's classes in the order {names}: with these its loss is \
                         {before:.4}, by chance {chance:.4}. {what}; to keep it as it is, name its outputs with setting `classes`",
                        width.unwrap_or_default()
                    ));
                }
            }
        }
        Ok(())
    }
}

fn tell_same(matched: &Matched, source: &str, labels: &Labels, observer: &dyn Observer) {
    let model = matched.names.len() - matched.new.len();
    let missing = absent(labels);
    let missing =
        if missing.is_empty() { String::new() } else { format!("; without samples, kept: {}", shown(&missing)) };
    let new = if matched.new.is_empty() { String::new() } else { format!("; new: {}", shown(&matched.new)) };
    let found = matched.found;
    observer.note(&format!("classes   {found} of the model's {model}, matched by name from {source}{missing}{new}"));
}

/// A solver fits every output anew, so that one without samples is never the answer again.
fn warn_of_solver(recipe: &Recipe, labels: &Labels, observer: &dyn Observer) {
    let missing = absent(labels);
    if recipe.closed_form() && !missing.is_empty() {
        observer.warn(&format!(
            "setting `solver` fits all outputs anew: classes without samples are lost ({}); remove setting `solver` to keep them",
            shown(&missing)
        ));
    }
}

/// Classes without a sample.
fn absent(labels: &Labels) -> Vec<String> {
    let mut there = vec![false; labels.names().len()];
    match labels {
        Labels::Classes { index, .. } | Labels::Ordinal { index, .. } => {
            index.iter().for_each(|class| there[*class as usize] = true)
        }
        Labels::Tokens { rows, .. } => {
            rows.iter().filter_map(|class| usize::try_from(*class).ok()).for_each(|class| there[class] = true);
        }
        Labels::Pixels { masks, names } => {
            for sample in 0..masks.len() {
                let counts = masks.counts(sample, names.len());
                there.iter_mut().zip(counts).for_each(|(there, count)| *there |= count > 0);
            }
        }
        Labels::Lines { lines, .. } => {
            let all = (0..lines.len()).flat_map(|line| lines.line(line));
            all.for_each(|character| there[*character as usize] = true);
        }
        Labels::Boxes { pictures, .. } => {
            let objects = pictures.iter().flat_map(|picture| &picture.objects);
            objects.for_each(|object| there[object.class as usize] = true);
        }
        Labels::MultiLabel { rows, .. } => {
            let has = |column: ndarray::ArrayView1<f32>| column.iter().any(|value| *value > 0.0);
            there = rows.columns().into_iter().map(has).collect();
        }
        _ => {}
    }
    labels.names().iter().zip(there).filter(|(_, there)| !there).map(|(name, _)| name.clone()).collect()
}

/// A number stands for classes that are called by numbers.
fn refuse_number(given: &str, matched: &Matched, found: &[String]) -> Result<(), Error> {
    match given.parse::<usize>() {
        Ok(count) if !matched.new.is_empty() => refuse!(
            "setting `classes = {given}`: a number stands for classes that are called 0 to {}, and the data have others ({}); write the names \
             in the order of the model's outputs (setting `classes = {}`), or name a file with one a line",
            count.saturating_sub(1),
            shown(&matched.new),
            first(found).join(",")
        ),
        _ => Ok(()),
    }
}

/// The first of some names, and that there are more.
fn first(names: &[String]) -> Vec<&str> {
    let more = (names.len() > SHOWN).then_some("…");
    names.iter().take(SHOWN).map(String::as_str).chain(more).collect()
}

/// The first of some names.
fn shown(names: &[String]) -> String {
    let more = names.len().saturating_sub(SHOWN);
    let rest = if more == 0 { String::new() } else { format!(" and {more} more") };
    format!("{}{rest}", names[..names.len() - more].join(", "))
}
