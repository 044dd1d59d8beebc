//! What a base knows, written down for trainings elsewhere: the features and labels of some samples (`edgetune retention make`).

use super::context::Context;
use super::open::Opened;
use super::retention::{Tried, layout};
use crate::data::{self, Labels};
use crate::engine::Session;
use crate::recipe::{Error, refuse};
use crate::train::evaluate::Metrics;
use crate::train::retention::{self as file, Header};
use crate::train::trial::spread;
use serde::Serialize;
use std::path::Path;

/// A retention set that was written.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs)]
pub struct Made {
    pub samples: usize,
    pub bytes: u64,
    /// What the base answers to them.
    pub metrics: Metrics,
}

/// Writes the features of some samples, `counts` of each class and of others in all, as many as fit into `bytes_max`, for trainings of the same recipe; `None` if it was
/// stopped.
///
/// # Errors
/// Data that the base has no answer for; as a training.
pub fn make(
    job: &super::Job,
    context: &Context<'_>,
    (counts, bytes_max): ((usize, usize), u64),
    out: &Path,
) -> Result<Option<Made>, Error> {
    let Some(planned) = Opened::open(job, context)?.plan()? else { return Ok(None) };
    let prepared = planned.prepare()?;
    if prepared.starts_from_nothing() {
        refuse!(
            "the data's classes are not outputs of the model, so it has no answers that could be kept; give data of its own classes, or with \
             setting `from` the adapter that knows these"
        );
    }
    let (opened, data) = (&prepared.opened, &prepared.opened.data);
    let all = &data.split.train;
    let mut features = prepared.features(&all[..1])?;
    let sample_bytes: u64 = layout(&features).iter().map(|(_, _, bytes)| u64::from(*bytes)).sum();
    let fitting = (bytes_max / sample_bytes.max(1)) as usize;
    let seed = opened.settings.seed;
    let samples = chosen(data.labels(), all, (counts, fitting), seed)?;
    if samples.is_empty() {
        refuse!("one sample takes {sample_bytes} bytes, and {bytes_max} are allowed: allow more, or let less learn");
    }
    drop(features);
    features = prepared.features(&samples)?.telling(context.observer.body_pass());
    if !features.ready(&samples, context.stop)? {
        return Ok(None);
    }
    let key = (prepared.bundle.base_hash, &data.preprocessing.wire()[..]);
    let Some(header) = Header::new(key, layout(&features), &data.train, &samples) else {
        refuse!(
            "labels of this kind are not kept in a file; name the data themselves with setting `retention.set` where the training is"
        )
    };
    let mut records = Vec::with_capacity(samples.len() * header.sample_bytes());
    for sample in &samples {
        features.batch(&[*sample])?.iter().for_each(|(_, tensor)| records.extend_from_slice(&tensor.data));
    }
    let mut tried = Tried {
        prepared: &prepared,
        tail: Session::from_file(&prepared.bundle.tail, &opened.options)?,
        features: &mut features,
    };
    let metrics = tried.measure(&samples, &prepared.first_values())?;
    let bytes = file::write(out, &header, &records)?;
    Ok(Some(Made { samples: samples.len(), bytes, metrics }))
}

/// So many samples of each class, or so many in all where labels are no classes; no more than `most` in all.
fn chosen(
    labels: &Labels,
    all: &[usize],
    ((each, others), most): ((usize, usize), usize),
    seed: u64,
) -> Result<Vec<usize>, Error> {
    if !matches!(labels, Labels::Classes { .. }) {
        return Ok(spread(all, most.min(others)));
    }
    let classes = labels.names().len().max(1);
    Ok(data::per_class(labels, all, each.min(most / classes), seed)?)
}
