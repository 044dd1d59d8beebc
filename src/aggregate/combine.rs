//! The walk over the deltas: once to see what they are, then once for each block of coordinates that fits into memory.

use super::Error;
use super::contribution::{Opened, Piece, divisor};
use super::form::{Part, RoundForm, Shape, is_product};
use super::norm::{Clip, distance};
use super::rule::{Reducer, Rule};
use crate::delta::{self, AppendedHead, Encoding, Header, Label, Method, Payload, TensorValues, encode};
use crate::factor;
use ndarray::ArrayView2;
use std::collections::HashMap;
use std::ops::Range;
use std::panic::resume_unwind;

/// Puts the bytes of the delta at a position into a buffer, which is empty. It is called several times for each.
pub type Read<'r> = dyn FnMut(usize, &mut Vec<u8>) -> Result<(), Box<dyn core::error::Error + Send + Sync>> + 'r;

/// How deltas are combined.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Options {
    /// What becomes of a coordinate.
    pub rule: Rule,
    /// The bound of each delta's norm; none lets all be as long as they are.
    pub clip: Option<Clip>,
    /// Rank of LoRA's factors in the outcome; none is the largest of the deltas'.
    pub rank: Option<u32>,
    /// The round that the outcome is of.
    pub round: Option<u32>,
    /// Bytes for coordinates, about; beside them there are as many deltas as threads and, for LoRA, one module's matrix for each.
    pub memory_bytes_max: usize,
    /// Deltas that are decoded at the same time. The outcome does not depend on it.
    pub threads: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { rule: Rule::Mean, clip: None, rank: None, round: None, memory_bytes_max: 128 << 20, threads: 1 }
    }
}

/// What became of the deltas.
#[derive(Debug, Clone, PartialEq)]
pub struct Combined {
    /// The delta, unsigned, in fp16. It stands alone, and nothing was measured on it.
    pub bytes: Vec<u8>,
    /// How far each delta has gone, in the order in which they were given; empty where nothing is clipped.
    pub norms: Vec<f64>,
    /// Deltas that went further than they count.
    pub clipped: usize,
    /// Of each module of factors: what of the exact outcome has no room in the rank, ‖W − B A‖ / ‖W‖, fp16 included.
    pub residuals: Vec<(String, f64)>,
}

/// One delta of many. `weights` are those of the deltas, above 0; `reference` is the adapter that the round began with, which
/// [`Clip`] measures from. The outcome depends on the deltas and their weights, not on their order.
///
/// # Errors
/// The first delta that is wrong, by its position; what the rule, the clip or the rank cannot be.
pub fn combine(
    weights: &[f64],
    read: &mut Read<'_>,
    reference: Option<&[u8]>,
    options: &Options,
) -> Result<Combined, Error> {
    options.rule.check()?;
    for (index, weight) in weights.iter().enumerate() {
        if !(*weight > 0.0 && weight.is_finite()) {
            return Err(Error::Weight { index, weight: *weight });
        }
    }
    let survey = Survey::new(weights.len(), read, reference, options)?;
    let total: f64 = survey.order.iter().map(|index| weights[*index]).sum();
    let shares: Vec<f64> = weights.iter().map(|weight| weight / total).collect();
    let mut parts =
        Finished { rank: survey.rank, method: survey.form.method, tensors: Vec::new(), residuals: Vec::new() };
    let mut open = Vec::new();
    let coordinates_max = options.rule.coordinates_max(weights.len(), options.memory_bytes_max);
    for block in blocks(&survey.form.parts, coordinates_max) {
        let values = reduced(&block, &shares, read, &survey, options)?;
        let mut values = &values[..];
        for span in &block {
            let part = &survey.form.parts[span.part];
            let (rows, columns) = part.size();
            let (own, rest) = values.split_at(span.rows.len() * columns);
            open.extend_from_slice(own);
            values = rest;
            if span.rows.end == rows {
                parts.finish(part, std::mem::take(&mut open))?;
            }
        }
    }
    let bytes = parts.written(&survey, options.round)?;
    let clipped = survey.factors.iter().filter(|factor| **factor < 1.0).count();
    Ok(Combined { bytes, norms: survey.norms, clipped, residuals: parts.residuals })
}

/// What the first walk finds out.
struct Survey {
    form: RoundForm,
    /// Positions in the order of the deltas' identities, so that sums are taken in one order however they were given.
    order: Vec<usize>,
    rank: u32,
    samples: u64,
    label_samples: Vec<u32>,
    reference: Option<Vec<Piece>>,
    norms: Vec<f64>,
    /// What each change is multiplied by; empty where nothing is clipped.
    factors: Vec<f64>,
}

impl Survey {
    fn new(count: usize, read: &mut Read<'_>, reference: Option<&[u8]>, options: &Options) -> Result<Self, Error> {
        let reference = reference.map(Reference::new).transpose()?;
        let pieces = reference.as_ref().map(|reference| &reference.pieces[..]);
        let mut found: Option<Self> = None;
        let mut identities: HashMap<[u8; 32], usize> = HashMap::with_capacity(count);
        let seen = |index, bytes: &[u8]| {
            let refused = |source| Error::Delta { index, source };
            let opened = Opened::new(bytes).map_err(refused)?;
            let form = RoundForm::from_head(&opened.head).map_err(refused)?;
            if let Some(reference) = &reference {
                reference.check(&form)?;
            }
            let norm = options.clip.map(|_| opened.pieces(&form).map(|own| distance(&own, pieces)));
            let header = opened.head.header();
            let labels = opened.head.labels().map(|label| label.samples).collect();
            let rank = header.method.map_or(0, |method| method.rank);
            let norm = norm.transpose().map_err(refused)?;
            Ok(Seen { identity: *opened.head.identity(), form, samples: header.samples, labels, rank, norm })
        };
        let all: Vec<usize> = (0..count).collect();
        for_each(&all, read, options.threads, seen, |_, index, seen| {
            let survey = found.get_or_insert_with(|| Self::empty(seen.form.clone()));
            if let Some(what) = survey.form.difference(&seen.form) {
                return Err(Error::Unlike { index, what });
            }
            if let Some(first) = identities.insert(seen.identity, index) {
                return Err(Error::Twice { index, first });
            }
            survey.samples = survey.samples.saturating_add(seen.samples);
            survey.rank = survey.rank.max(seen.rank);
            for (sum, samples) in survey.label_samples.iter_mut().zip(seen.labels) {
                *sum = sum.saturating_add(samples);
            }
            survey.norms.extend(seen.norm);
            Ok(())
        })?;
        let mut survey = found.ok_or(Error::Empty)?;
        survey.reference = reference.map(|reference| reference.pieces);
        let mut order: Vec<([u8; 32], usize)> = identities.into_iter().collect();
        order.sort_unstable();
        survey.order = order.into_iter().map(|(_, index)| index).collect();
        if let Some(clip) = options.clip {
            survey.factors = clip.factors(&survey.norms)?;
        }
        if let Some(rank) = options.rank {
            survey.rank = Some(rank).filter(|rank| (1..=0xffff).contains(rank)).ok_or(Error::Rank(rank))?;
        }
        Ok(survey)
    }

    fn empty(form: RoundForm) -> Self {
        let label_samples = vec![0; form.labels.len()];
        let (order, norms, factors) = (Vec::new(), Vec::new(), Vec::new());
        Self { form, order, rank: 0, samples: 0, label_samples, reference: None, norms, factors }
    }
}

/// What the first walk sees of one delta.
struct Seen {
    identity: [u8; 32],
    form: RoundForm,
    samples: u64,
    labels: Vec<u32>,
    rank: u32,
    norm: Option<f64>,
}

/// The adapter that the round began with.
struct Reference {
    form: RoundForm,
    pieces: Vec<Piece>,
}

impl Reference {
    fn new(bytes: &[u8]) -> Result<Self, Error> {
        let opened = Opened::new(bytes).map_err(Error::Reference)?;
        let form = RoundForm::from_head(&opened.head).map_err(Error::Reference)?;
        let pieces = opened.pieces(&form).map_err(Error::Reference)?;
        Ok(Self { form, pieces })
    }

    fn check(&self, form: &RoundForm) -> Result<(), Error> {
        form.difference(&self.form).map_or(Ok(()), |what| Err(Error::OtherReference(what)))
    }
}

/// Reads deltas one after another, looks at as many at the same time as there are to be threads, and takes what comes of it in the
/// order that was asked for, with the place in it.
fn for_each<T: Send>(
    order: &[usize],
    read: &mut Read<'_>,
    threads: usize,
    look: impl Fn(usize, &[u8]) -> Result<T, Error> + Sync,
    mut take: impl FnMut(usize, usize, T) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut buffers = vec![Vec::new(); threads.clamp(1, order.len().max(1))];
    let mut place = 0;
    for group in order.chunks(buffers.len()) {
        for (buffer, index) in buffers.iter_mut().zip(group) {
            buffer.clear();
            read(*index, buffer).map_err(|problem| Error::Read { index: *index, problem })?;
        }
        let look = &look;
        let looked: Vec<Result<T, Error>> = std::thread::scope(|scope| {
            let mut pairs = buffers.iter().zip(group).map(|(buffer, index)| move || look(*index, buffer));
            let own = pairs.next();
            let others: Vec<_> = pairs.map(|pair| scope.spawn(pair)).collect();
            let joined = others.into_iter().map(|other| other.join().unwrap_or_else(|panic| resume_unwind(panic)));
            own.map(|own| own()).into_iter().chain(joined).collect()
        });
        for (index, looked) in group.iter().zip(looked) {
            take(place, *index, looked?)?;
            place += 1;
        }
    }
    Ok(())
}

/// Rows of a part.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Span {
    part: usize,
    rows: Range<usize>,
}

/// All rows of all parts in order, in as few blocks of at most `coordinates_max` coordinates (or one row) as can be.
fn blocks(parts: &[Part], coordinates_max: usize) -> Vec<Vec<Span>> {
    let (mut blocks, mut block, mut room) = (Vec::new(), Vec::new(), coordinates_max);
    for (part, (rows, columns)) in parts.iter().map(Part::size).enumerate() {
        let mut begin = 0;
        while begin < rows {
            let fitting = (room / columns).min(rows - begin);
            if fitting == 0 && !block.is_empty() {
                blocks.push(std::mem::take(&mut block));
                room = coordinates_max;
                continue;
            }
            let end = begin + fitting.max(1);
            block.push(Span { part, rows: begin..end });
            room = room.saturating_sub((end - begin) * columns);
            begin = end;
        }
    }
    blocks.extend((!block.is_empty()).then_some(block));
    blocks
}

/// One number for each coordinate of a block.
fn reduced(
    block: &[Span],
    shares: &[f64],
    read: &mut Read<'_>,
    survey: &Survey,
    options: &Options,
) -> Result<Vec<f64>, Error> {
    let parts = &survey.form.parts;
    let coordinates = block.iter().map(|span| span.rows.len() * parts[span.part].size().1).sum();
    let mut reducer = Reducer::new(options.rule, coordinates, shares.len());
    let numbers = |index, bytes: &[u8]| {
        let refused = |source| Error::Delta { index, source };
        let opened = Opened::new(bytes).map_err(refused)?;
        // What is read again may have changed in between.
        if let Some(what) = survey.form.difference(&RoundForm::from_head(&opened.head).map_err(refused)?) {
            return Err(Error::Unlike { index, what });
        }
        let mut all = Vec::with_capacity(coordinates);
        for span in block {
            let mut numbers = opened.piece(&parts[span.part]).map_err(refused)?.rows(span.rows.clone());
            if let Some(factor) = survey.factors.get(index).filter(|factor| **factor < 1.0) {
                let from = survey.reference.as_ref().map(|from| from[span.part].rows(span.rows.clone()));
                shorten(&mut numbers, from.as_deref(), *factor);
            }
            all.append(&mut numbers);
        }
        Ok(all)
    };
    for_each(&survey.order, read, options.threads, numbers, |place, index, numbers| {
        reducer.take(&numbers, place, shares[index]);
        Ok(())
    })?;
    Ok(reducer.reduced())
}

/// from + factor · (number − from), in f64: `from` may be far larger than the change.
fn shorten(numbers: &mut [f32], from: Option<&[f32]>, factor: f64) {
    for (index, number) in numbers.iter_mut().enumerate() {
        let from = from.map_or(0.0, |from| f64::from(from[index]));
        *number = (from + factor * (f64::from(*number) - from)) as f32;
    }
}

/// Tensors of the outcome.
struct Finished {
    rank: u32,
    method: Option<Method>,
    tensors: Vec<(String, Vec<u32>, Payload)>,
    residuals: Vec<(String, f64)>,
}

impl Finished {
    fn finish(&mut self, part: &Part, values: Vec<f64>) -> Result<(), Error> {
        match &part.shape {
            Shape::Whole { sizes, .. } => {
                let values: Vec<f32> = values.iter().map(|value| *value as f32).collect();
                self.push(part.name.clone(), sizes.clone(), &values)
            }
            Shape::Product { columns, rows, dimensions, .. } => {
                let matrix = ArrayView2::from_shape(part.size(), &values).expect("all rows of the part");
                let (b, a) = factor::factors(matrix, self.rank as usize);
                let rounded = |value: f32| f64::from(delta::f16::from_f32(value).to_f32());
                let left = &matrix - &b.mapv(rounded).dot(&a.mapv(rounded));
                let residual = factor::norm(left.view()) / factor::norm(matrix).max(f64::MIN_POSITIVE);
                self.residuals.push((part.name.clone(), residual));
                let [a_name, b_name] = part.factor_names();
                let a_sizes: Vec<u32> = [self.rank].iter().chain(columns).copied().collect();
                let mut b_sizes = vec![1; *dimensions];
                (b_sizes[0], b_sizes[1]) = (*rows, self.rank);
                self.push(a_name, a_sizes, &a.into_iter().collect::<Vec<_>>())?;
                self.push(b_name, b_sizes, &b.into_iter().collect::<Vec<_>>())
            }
        }
    }

    fn push(&mut self, name: String, sizes: Vec<u32>, values: &[f32]) -> Result<(), Error> {
        let payload = encode(values, Encoding::Fp16).map_err(|source| Error::Outcome { name: name.clone(), source })?;
        self.tensors.push((name, sizes, payload));
        Ok(())
    }

    /// The delta. Everything in its header is common to all that went into it, or the sum of theirs.
    fn written(&self, survey: &Survey, round: Option<u32>) -> Result<Vec<u8>, Error> {
        let form = &survey.form;
        let method = self.method.map(|method| match is_product(method.kind) {
            // Factors whose product is the outcome itself: their scale is 1.
            true => Method { rank: self.rank, alpha: divisor(method.kind, self.rank) as f32, ..method },
            false => method,
        });
        let header = Header {
            base: form.base,
            tool: env!("CARGO_PKG_VERSION"),
            round,
            recipe: form.recipe,
            recipe_text: &form.recipe_text,
            task: form.task,
            loss: &form.loss,
            output: &form.output,
            head: form.head.as_ref().map(|(value, features, classes)| AppendedHead {
                value,
                features: *features,
                classes: *classes,
            }),
            method,
            preprocessing: form.preprocessing.get(),
            seed: form.seed.unwrap_or(0),
            samples: survey.samples,
            licence: &form.licence,
            ..Header::default()
        };
        let labels = form.labels.iter().zip(&survey.label_samples);
        let labels: Vec<Label<'_>> = labels.map(|(name, samples)| Label { name, samples: *samples }).collect();
        let tensors: Vec<TensorValues<'_>> =
            self.tensors.iter().map(|(name, shape, payload)| TensorValues { name, shape, payload }).collect();
        delta::write(&header, &labels, &tensors).map_err(|source| Error::Outcome { name: String::new(), source })
    }
}
