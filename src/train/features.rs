//! The body's pass: every sample once, when it is first asked for, through the cache.
//!
//! A second thread decodes ahead of the body with bounded memory, in the order in which the run will ask, so the first
//! step begins after its own samples and not after all. The body always runs over a full chunk, so that a sample's
//! features do not depend on which others were in the cache already.

use super::body::{Body, row_of};
use super::error::Error;
use super::prepare::Bundle;
use crate::cache::{self, Cache, Limits};
use crate::data::{self, Dataset, Preprocessing, TextRole};
use crate::engine::Options;
use crate::graph::{Dim, Tensor, TensorType};
use bytes::Bytes;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};

/// Chunks that may wait, decoded, for the body.
const AHEAD: usize = 2;

/// Features of a data set, one record a sample; missing ones are computed when they are asked for.
pub struct Features {
    cache: Cache,
    body_key: cache::Key,
    layout: Vec<(String, TensorType)>,
    dataset: Arc<Dataset>,
    body: Body,
    /// Chunks decoded ahead; `None` once all are computed.
    decoded: Option<Receiver<Decoded>>,
    /// Samples that are still to be decoded and computed.
    missing: usize,
    clock: Arc<dyn Fn() -> f64>,
    pass: Pass,
    /// Samples that were missing at the beginning.
    lacked: usize,
    tell: Option<Box<Tell>>,
}

/// Told of samples that the body has done, and of all that it has to do.
type Tell = dyn FnMut(usize, usize);

/// A chunk's sample numbers and its inputs, stacked.
type Decoded = (Vec<usize>, Result<Vec<Tensor>, Error>);

/// What features are computed of.
#[derive(Debug, Clone)]
pub struct Source<'a> {
    /// The samples.
    pub dataset: Arc<Dataset>,
    /// Numbers of those whose features are wanted, each once, in the order in which they are computed.
    pub order: &'a [usize],
    /// What is done to each sample: features are kept under it.
    pub preprocessing: &'a Preprocessing,
}

/// Where features are kept.
#[derive(Debug, Clone, Copy)]
pub enum Store<'a> {
    /// Files below that folder.
    Disk(&'a Path),
    /// Memory, for this run only.
    Memory,
}

/// What features may take: on disk, where no limit is set and the file system is large, and in memory of what the disk does
/// not take.
pub const LIMITS: Limits =
    Limits { disk_bytes: cache::LIMIT_BYTES_MAX, disk_free_bytes_min: 256 << 20, memory_bytes: 1 << 30 };

/// What the pass has done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Pass {
    /// Samples that were in the cache.
    pub found: usize,
    /// Samples that the body computed.
    pub computed: usize,
    /// Seconds in the body, waiting for decoding included.
    pub seconds: f64,
}

impl Pass {
    /// Both together.
    pub fn plus(self, other: Self) -> Self {
        Self {
            found: self.found + other.found,
            computed: self.computed + other.computed,
            seconds: self.seconds + other.seconds,
        }
    }
}

impl Features {
    /// Looks up which samples the cache lacks, and begins to decode them in the given order.
    ///
    /// # Errors
    /// A first sample that cannot be loaded or does not fit the model's inputs; a body that cannot be loaded.
    pub fn open(
        bundle: &Bundle,
        source: Source<'_>,
        store: Store<'_>,
        options: &Options,
        clock: Arc<dyn Fn() -> f64>,
    ) -> Result<Self, Error> {
        let Source { dataset, order, preprocessing } = source;
        let mut body = Body::new(bundle, options);
        let sample = order.first().copied().unwrap_or(0);
        let first = inputs_of(&body.inputs, &dataset, sample)?;
        let layout = layout(bundle, &mut body, &first, &dataset.name(sample))?;
        let types: Vec<TensorType> = layout.iter().map(|(_, ty)| ty.clone()).collect();
        let body_key = body_key(bundle, preprocessing);
        let cache = match store {
            Store::Memory => Cache::in_memory(&types, LIMITS.memory_bytes)?,
            Store::Disk(root) => {
                let limits = Limits { disk_bytes: cache::limit(root).bytes, ..LIMITS };
                Cache::open(root, &body_key, &types, limits)?
            }
        };
        let missing = missing(&cache, &dataset, order);
        let pass = Pass { found: order.len() - missing.len(), ..Pass::default() };
        let to_compute = missing.len();
        let decoded =
            (!missing.is_empty()).then(|| decode_ahead(body.inputs.clone(), dataset.clone(), missing, body.chunk));
        Ok(Self {
            cache,
            body_key,
            layout,
            dataset,
            body,
            decoded,
            missing: to_compute,
            clock,
            pass,
            lacked: to_compute,
            tell: None,
        })
    }

    /// Has somebody told of the body's pass, chunk by chunk.
    pub fn telling(mut self, tell: Box<dyn FnMut(usize, usize)>) -> Self {
        self.tell = Some(tell);
        self
    }

    /// Computes what these samples lack, chunk by chunk; `false` if the stop flag was raised before all were there.
    ///
    /// # Errors
    /// A sample that cannot be loaded; ONNX Runtime's refusal.
    pub fn ready(&mut self, samples: &[usize], stop: &AtomicBool) -> Result<bool, Error> {
        // Each sample is looked up once: what is there stays there.
        for sample in samples {
            while self.decoded.is_some() && !self.has(*sample) {
                if stop.load(Ordering::Relaxed) {
                    return Ok(false);
                }
                self.advance()?;
            }
        }
        if self.missing == 0 {
            self.end_pass();
        }
        Ok(!stop.load(Ordering::Relaxed))
    }

    /// The features of some samples stacked, one tensor a feature: `[samples, …]`.
    ///
    /// # Errors
    /// A sample that cannot be loaded; ONNX Runtime's refusal.
    pub fn batch(&mut self, samples: &[usize]) -> Result<Vec<(&str, Tensor)>, Error> {
        self.ready(samples, &AtomicBool::new(false))?;
        let strides: Vec<usize> = self.layout.iter().map(|(_, ty)| row_bytes(ty)).collect();
        let mut buffers: Vec<Vec<u8>> = strides.iter().map(|stride| vec![0; samples.len() * stride]).collect();
        let mut lost = Vec::new();
        for (row, sample) in samples.iter().enumerate() {
            let kept = self.dataset.kept(*sample);
            let record = if kept.is_some() { None } else { self.cache.get(&self.dataset.key(*sample)) };
            if kept.is_none() && record.is_none() {
                lost.push((row, *sample));
                continue;
            }
            for (index, (buffer, stride)) in buffers.iter_mut().zip(&strides).enumerate() {
                let bytes = match (&record, kept) {
                    (Some(record), _) => record.bytes(index),
                    (None, kept) => kept.map_or(&[][..], |features| &features[index]),
                };
                buffer[row * stride..(row + 1) * stride].copy_from_slice(bytes);
            }
        }
        // What neither disk nor memory could keep, or was damaged, is computed again.
        for chunk in lost.chunks(self.body.chunk) {
            let numbers: Vec<usize> = chunk.iter().map(|(_, sample)| *sample).collect();
            let features =
                self.compute(&numbers, batch_of(&self.body.inputs, &self.dataset, &numbers, self.body.chunk)?)?;
            for (from, (row, _)) in chunk.iter().enumerate() {
                for ((buffer, stride), tensor) in buffers.iter_mut().zip(&strides).zip(&features) {
                    buffer[row * stride..(row + 1) * stride].copy_from_slice(row_of(tensor, from));
                }
            }
        }
        let mut stacked = Vec::with_capacity(buffers.len());
        for ((name, ty), bytes) in self.layout.iter().zip(buffers) {
            let shape = std::iter::once(samples.len() as u64).chain(ty.fixed_shape().unwrap_or_default()).collect();
            stacked.push((name.as_str(), Tensor { dtype: ty.dtype, shape, data: bytes.into() }));
        }
        Ok(stacked)
    }

    /// Whether a sample's features are there.
    fn has(&self, sample: usize) -> bool {
        self.dataset.kept(sample).is_some() || self.cache.contains(&self.dataset.key(sample))
    }

    /// Name and type of each feature of one sample.
    pub fn layout(&self) -> &[(String, TensorType)] {
        &self.layout
    }

    /// Gives the body's memory back: no sample is left that it would have to run for.
    fn end_pass(&mut self) {
        if self.decoded.take().is_some() {
            self.body.session = None;
            self.cache.flush();
        }
    }

    /// Runs the body over the next decoded chunk.
    fn advance(&mut self) -> Result<(), Error> {
        let began = (self.clock)();
        match self.decoded.as_ref().and_then(|decoded| decoded.recv().ok()) {
            Some((chunk, batch)) => {
                self.missing -= chunk.len();
                self.compute(&chunk, batch?)?;
                if let Some(tell) = &mut self.tell {
                    tell(self.lacked - self.missing, self.lacked);
                }
            }
            None => self.end_pass(),
        }
        self.pass.seconds += (self.clock)() - began;
        Ok(())
    }

    fn compute(&mut self, chunk: &[usize], batch: Vec<Tensor>) -> Result<Vec<Tensor>, Error> {
        let features = self.body.run_chunk(batch, chunk.len())?;
        for (row, sample) in chunk.iter().enumerate() {
            let rows: Vec<&[u8]> = features.iter().map(|tensor| row_of(tensor, row)).collect();
            self.cache.append(&self.dataset.key(*sample), &rows)?;
        }
        self.pass.computed += chunk.len();
        Ok(features)
    }

    /// Hash of the body, its preprocessing and all samples' content.
    pub fn fingerprint(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.body_key);
        self.dataset.keys().iter().for_each(|key| {
            hasher.update(key);
        });
        *hasher.finalize().as_bytes()
    }

    /// What was found and computed so far.
    pub fn pass(&self) -> Pass {
        self.pass
    }

    /// Bytes that the records take.
    pub fn bytes(&self) -> u64 {
        self.cache.bytes()
    }

    /// What has gone wrong with the cache since the last call, without which the run goes on, and what the body was found to do.
    pub fn take_warnings(&mut self) -> Vec<String> {
        let of_cache = self.cache.take_warnings();
        of_cache.iter().map(ToString::to_string).chain(self.body.take_warning()).collect()
    }
}

/// The samples that the cache lacks, in the order in which they are asked for; of those with the same content the first.
fn missing(cache: &Cache, dataset: &Dataset, order: &[usize]) -> Vec<u32> {
    let is_there = |sample: usize| dataset.kept(sample).is_some() || cache.contains(&dataset.key(sample));
    let lacking = order.iter().filter(|sample| !is_there(**sample));
    let lacking: Vec<u32> = lacking.map(|sample| *sample as u32).collect();
    let key = |place: &u32| dataset.key(lacking[*place as usize] as usize);
    let mut places: Vec<u32> = (0..lacking.len() as u32).collect();
    places.sort_unstable_by_key(|place| (key(place), *place));
    places.dedup_by(|later, earlier| key(later) == key(earlier));
    places.sort_unstable();
    places.iter().map(|place| lacking[*place as usize]).collect()
}

/// A thread that decodes chunk after chunk and waits when [`AHEAD`] are ready. It ends when the receiver is dropped.
fn decode_ahead(
    inputs: Arc<Vec<(String, TensorType)>>,
    dataset: Arc<Dataset>,
    missing: Vec<u32>,
    size: usize,
) -> Receiver<Decoded> {
    let (sender, receiver) = sync_channel(AHEAD);
    std::thread::spawn(move || {
        for chunk in missing.chunks(size) {
            let chunk: Vec<usize> = chunk.iter().map(|sample| *sample as usize).collect();
            let batch = batch_of(&inputs, &dataset, &chunk, size);
            let failed = batch.is_err();
            if sender.send((chunk, batch)).is_err() || failed {
                return;
            }
        }
    });
    receiver
}

/// What features depend on, besides the sample and the shapes that the cache itself tells apart: base, cut and
/// preprocessing.
fn body_key(bundle: &Bundle, preprocessing: &Preprocessing) -> cache::Key {
    let wire = preprocessing.wire();
    let names = bundle.features.iter().map(|(name, _)| name.as_bytes());
    let parts: Vec<&[u8]> = [bundle.base_hash.as_slice(), &wire].into_iter().chain(names).collect();
    cache::key(&parts)
}

/// A sample's tensors in the order of the model's inputs, without a batch axis.
fn inputs_of(inputs: &[(String, TensorType)], dataset: &Dataset, sample: usize) -> Result<Vec<Tensor>, Error> {
    let mut loaded = dataset.load(sample)?;
    let failed =
        |input: &str, problem: String| Error::Sample { sample: dataset.name(sample), input: input.into(), problem };
    inputs
        .iter()
        .map(|(name, ty)| {
            if data::text_role(name, ty) == Some(TextRole::Past) {
                return no_past(ty)
                    .ok_or_else(|| failed(name, format!("({ty}) needs a fixed number of heads and their size")));
            }
            let alone = loaded.len() == 1 && loaded[0].0.is_empty();
            let found = loaded.iter().position(|(given, _)| given == name || alone);
            let missing = || failed(name, format!("({ty}) is not in the data; name it in the table or array file"));
            let tensor = loaded.swap_remove(found.ok_or_else(missing)?).1;
            check(ty, &tensor).map_err(|problem| failed(name, problem))?;
            Ok(tensor)
        })
        .collect()
}

/// Past keys or values of one sample that has none: `[heads, 0, size]`.
fn no_past(ty: &TensorType) -> Option<Tensor> {
    Some(Tensor { dtype: ty.dtype, shape: ty.empty_row()?, data: Bytes::new() })
}

/// Whether a sample fits what the model declares behind the batch dimension.
fn check(ty: &TensorType, tensor: &Tensor) -> Result<(), String> {
    if tensor.dtype != ty.dtype {
        return Err(format!("is {}, but the model wants {}", tensor.dtype, ty.dtype));
    }
    let Some(shape) = ty.shape.as_deref() else { return Ok(()) };
    let wanted = shape.get(1..).unwrap_or_default();
    let fits = wanted.len() == tensor.shape.len()
        && wanted.iter().zip(&tensor.shape).all(|(dim, size)| dim.fixed().is_none_or(|fixed| fixed == *size));
    if fits {
        return Ok(());
    }
    Err(format!(
        "has shape {:?}, but the model wants {ty}; make images fit with setting `samples.size` and setting `samples.layout`, arrays beforehand",
        tensor.shape
    ))
}

/// A chunk of samples stacked to one tensor an input; a short chunk is filled up to `size` with its last sample.
fn batch_of(
    inputs: &[(String, TensorType)],
    dataset: &Dataset,
    chunk: &[usize],
    size: usize,
) -> Result<Vec<Tensor>, Error> {
    let mut samples = Vec::with_capacity(chunk.len());
    for sample in chunk {
        samples.push(inputs_of(inputs, dataset, *sample)?);
    }
    let last = samples.last().expect("a chunk is not empty");
    let filled: Vec<&Vec<Tensor>> = samples.iter().chain(std::iter::repeat(last)).take(size).collect();
    let mut stacked = Vec::with_capacity(inputs.len());
    for (index, (input, _)) in inputs.iter().enumerate() {
        let first = &filled[0][index];
        if let Some(row) = samples.iter().position(|sample| sample[index].shape != first.shape) {
            let (shape, others) = (&samples[row][index].shape, &first.shape);
            return Err(Error::Sample {
                sample: dataset.name(chunk[row]),
                input: input.clone(),
                problem: format!("has shape {shape:?}, the samples before it {others:?}; all must be alike"),
            });
        }
        let mut bytes = Vec::with_capacity(size * first.data.len());
        filled.iter().for_each(|sample| bytes.extend_from_slice(&sample[index].data));
        let shape = std::iter::once(size as u64).chain(first.shape.iter().copied()).collect();
        stacked.push(Tensor { dtype: first.dtype, shape, data: bytes.into() });
    }
    Ok(stacked)
}

/// Type and shape of one sample's features. Named dimensions get their size from the first sample's inputs; what stays
/// open is found by running that sample.
fn layout(
    bundle: &Bundle,
    body: &mut Body,
    first: &[Tensor],
    sample: &str,
) -> Result<Vec<(String, TensorType)>, Error> {
    let mut sizes: HashMap<&str, u64> = HashMap::new();
    for ((_, ty), tensor) in bundle.inputs.iter().zip(first) {
        let dims = ty.shape.as_deref().and_then(|shape| shape.get(1..)).unwrap_or_default();
        for (dim, size) in dims.iter().zip(&tensor.shape) {
            if let Dim::Named(name) = dim {
                sizes.insert(name, *size);
            }
        }
    }
    let fixed = |dim: &Dim| match dim {
        Dim::Fixed(size) => Some(*size),
        Dim::Named(name) => sizes.get(name.as_str()).copied(),
        Dim::Unknown => None,
    };
    let known: Option<Vec<(String, TensorType)>> = bundle
        .features
        .iter()
        .map(|(name, ty)| {
            let shape: Option<Vec<Dim>> =
                ty.shape.as_ref()?.iter().skip(1).map(|dim| Some(Dim::Fixed(fixed(dim)?))).collect();
            Some((name.clone(), TensorType::new(ty.dtype, shape?)))
        })
        .collect();
    if let Some(known) = known {
        return Ok(known);
    }
    let alone = |tensor: &Tensor| Tensor {
        shape: std::iter::once(1).chain(tensor.shape.iter().copied()).collect(),
        ..tensor.clone()
    };
    let features = body.run(first.iter().map(alone).collect(), 1).map_err(|error| match error {
        Error::Rows { feature, .. } => Error::Sample {
            sample: sample.into(),
            input: feature,
            problem: "is not one row a sample: the model mixes samples below the cut".into(),
        },
        other => other,
    })?;
    let typed = |tensor: &Tensor| {
        TensorType::new(tensor.dtype, tensor.shape.iter().skip(1).map(|size| Dim::Fixed(*size)).collect())
    };
    Ok(bundle.features.iter().zip(&features).map(|((name, _), tensor)| (name.clone(), typed(tensor))).collect())
}

fn row_bytes(ty: &TensorType) -> usize {
    let count: u64 = ty.fixed_shape().unwrap_or_default().iter().product();
    count as usize * ty.dtype.bits() / 8
}
