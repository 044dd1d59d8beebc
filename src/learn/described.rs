//! A model without an adapter, as its own description has it: what its outputs are, and what is done to a sample.
//!
//! Takes a model whose metadata `edgetune export` has written, or another classifier whose exporter states the names of its classes; gives
//! an adapter that changes nothing, so that it answers as any other.

use super::observer::Observer;
use crate::adapter::{HeadChoice, Places, Request};
use crate::cut::Selection;
use crate::data::{self, Preprocessing};
use crate::recipe::{Error, Samples, refuse};
use crate::task::{self, TASKS, Task};
use crate::train::artifact::Adapter;
use crate::train::export::{OUTPUT, PREPROCESSING, TASK};
use crate::train::prepare::{Base, prepare};
use std::path::Path;

/// The adapter that leaves a model as it is, for data at `path`. `bundles`: where what is prepared is kept.
///
/// # Errors
/// A model that says nothing of its outputs, or other names than it has outputs.
pub fn adapter_of(base: &Base, path: &Path, bundles: &Path, observer: &dyn Observer) -> Result<Adapter, Error> {
    let model = base.path.display();
    let stated = data::class_names(&base.path, &base.metadata)?;
    let named = base.metadata.get(TASK).map(String::as_str);
    let task = match named.and_then(|name| TASKS.iter().find(|task| task.name == name)) {
        Some(task) => task,
        None if stated.is_some() => task::of_loss("cross-entropy"),
        None => refuse!(
            "{model}: nothing in or beside it says what its outputs are; give what was learned on it with setting `adapter`, a file \
             labels.txt with the names of its classes beside it, or for a language model setting `prompt`"
        ),
    };
    let labels = stated.map(|stated| {
        observer.note(&format!("classes   {} from {}", stated.value.len(), stated.source));
        stated.value
    });
    let labels = labels.filter(|_| task.target != data::Target::Values).unwrap_or_default();
    let loss = task.loss();
    let output = base.metadata.get(OUTPUT).map(String::as_str);
    let selections = [Selection::Last(1)];
    let request = Request {
        output,
        selections: &selections,
        method: None,
        places: Places::default(),
        seed: 0,
        width: None,
        head: HeadChoice::Keep,
        activation: Some(loss.activation()),
        positions: loss.positions(),
    };
    let bundle = prepare(base, &request, bundles)?;
    refuse_other_count(base, task, &labels, bundle.width)?;
    let tensors = bundle.parameters.iter();
    let tensors = tensors.map(|kept| (kept.name.clone(), kept.shape.clone(), kept.initial.clone())).collect();
    Ok(Adapter {
        path: base.path.clone(),
        base: base.hash,
        labels,
        task: task.wire,
        loss,
        output: bundle.output.clone(),
        head: None,
        method: None,
        seed: 0,
        preprocessing: preprocessing(base, path, observer)?,
        tensors,
        batch_axis: base.batch_axis,
        bytes: 0,
    })
}

/// Names are of outputs: as many as there are, of classes in an order one more.
fn refuse_other_count(base: &Base, task: &Task, labels: &[String], width: u64) -> Result<(), Error> {
    let wanted = width + u64::from(task.target == data::Target::Ordinal);
    if !labels.is_empty() && labels.len() as u64 != wanted {
        refuse!(
            "{}: its {wanted} outputs have {} names in or beside it; correct these, or give what was learned on it with setting `adapter`",
            base.path.display(),
            labels.len()
        );
    }
    Ok(())
}

/// As the model's metadata have it, else as a training would begin with.
fn preprocessing(base: &Base, path: &Path, observer: &dyn Observer) -> Result<Preprocessing, Error> {
    let found = Samples::default().preprocessing(base, path, observer)?;
    let Preprocessing::Text { .. } = found else { return Ok(found) };
    let told = base.metadata.get(PREPROCESSING).and_then(|text| serde_json::from_str::<serde_json::Value>(text).ok());
    let text = told.as_ref().and_then(|told| told.get("text"));
    let max_length = text.and_then(|text| u32::try_from(text["max_length"].as_u64()?).ok()).unwrap_or(0);
    let tokenizer = text.and_then(|text| blake3::Hash::from_hex(text["tokenizer"].as_str()?).ok()).map(Into::into);
    Ok(Preprocessing::Text { max_length, tokenizer })
}
