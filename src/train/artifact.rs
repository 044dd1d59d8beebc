//! An adapter as a file: from learned values to a delta, and back to what rebuilds the tail.

use super::error::Error;
use super::evaluate::{self, Metrics};
use super::loss::Loss;
use super::prepare::{Base, Bundle, hex, prepare_for_delta};
use super::{series_wire, sound_wire};
use crate::adapter::{AppendedHead, Change, Kind, LORA_B, Learned, Method};
use crate::amounts::counted;
use crate::atomic::write_atomically;
use crate::data::{self, Labels};
use crate::delta::{self, Delta, EncodingChoice, Payload};
use crate::task::{self, OwnLoss};
use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};

/// What a delta tells besides its tensors.
#[derive(Debug, Clone, PartialEq)]
pub struct About<'a> {
    /// What was minimised.
    pub loss: &'a Loss,
    /// What was done to the samples.
    pub preprocessing: &'a data::Preprocessing,
    /// The data's labels, and how many training samples each had.
    pub labels: &'a Labels,
    /// The training samples.
    pub train: &'a [usize],
    /// Validation before and after training.
    pub validation: Option<(&'a Metrics, &'a Metrics)>,
    /// Test before and after training.
    pub test: Option<(&'a Metrics, &'a Metrics)>,
    /// Where it comes from.
    pub provenance: Provenance<'a>,
}

/// Where a delta comes from, as its writer says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Provenance<'a> {
    /// Seconds since 1970.
    pub created_unix_s: Option<u64>,
    /// What the device calls itself.
    pub device: &'a str,
    /// The fleet's turn.
    pub round: Option<u32>,
    /// The recipe as it was used, as TOML; `None` where there was none. The delta holds it, but for one that is too long for the
    /// format: then the delta holds its BLAKE3 alone.
    pub recipe: Option<&'a str>,
    /// Under what terms it may be used.
    pub licence: &'a str,
    /// What else a reader should know.
    pub notes: &'a str,
}

/// Learned values as they will lie in a delta, one payload a tensor; every encoding starts from what fp16 holds.
///
/// # Errors
/// Values that are not finite.
pub fn payloads(values: &[Vec<f32>], choice: EncodingChoice) -> Result<Vec<Payload>, Error> {
    let payload = |values: &Vec<f32>| delta::encode(&evaluate::rounded(values), choice.encoding_for(values.len()));
    let payloads = values.iter().map(payload).collect::<Result<_, _>>();
    payloads.map_err(|source| Error::Delta { path: PathBuf::from("(new)"), source })
}

/// What a delta tells besides its tensors, where its samples were counted elsewhere.
#[derive(Debug, Clone, PartialEq)]
pub struct Counted<'a> {
    /// What was minimised.
    pub loss: &'a Loss,
    /// What was done to the samples.
    pub preprocessing: delta::KeptPreprocessing,
    /// What the output means.
    pub task: delta::Task,
    /// The labels, and how many training samples each had.
    pub labels: Vec<delta::Label<'a>>,
    /// Training samples.
    pub samples: u64,
    /// Validation before and after training.
    pub validation: Option<(&'a Metrics, &'a Metrics)>,
    /// Test before and after training.
    pub test: Option<(&'a Metrics, &'a Metrics)>,
    /// Where it comes from.
    pub provenance: Provenance<'a>,
}

/// Writes learned tensors, in the order of the bundle's parameters, as a delta. Its gate says whether the validation loss is
/// lower than before training; without validation there is none.
///
/// # Errors
/// Names too long for the format, texts that it refuses.
pub fn encode(bundle: &Bundle, payloads: &[Payload], about: &About<'_>) -> Result<Vec<u8>, Error> {
    let counts = label_counts(about.labels, about.train);
    let labels =
        about.labels.names().iter().zip(counts).map(|(name, samples)| delta::Label { name, samples }).collect();
    let counted = Counted {
        loss: about.loss,
        preprocessing: preprocessing_to_wire(about.preprocessing),
        task: task::of_labels(about.labels).map_or(delta::Task::Classification, |task| task.wire),
        labels,
        samples: about.train.len() as u64,
        validation: about.validation,
        test: about.test,
        provenance: about.provenance,
    };
    encode_counted(bundle, payloads, counted)
}

/// As [`encode`], of samples that were counted elsewhere.
///
/// # Errors
/// As [`encode`].
pub fn encode_counted(bundle: &Bundle, payloads: &[Payload], about: Counted<'_>) -> Result<Vec<u8>, Error> {
    let Provenance { created_unix_s, device, round, recipe, licence, notes } = about.provenance;
    let compared = about.validation.map(|(before, after)| {
        (after.loss < before.loss, format!("validation loss {:.4} → {:.4}", before.loss, after.loss))
    });
    let measured = |pair: Option<(&Metrics, &Metrics)>| {
        pair.map(|(before, after)| delta::Measured {
            loss: [before.loss as f32, after.loss as f32],
            accuracy: before.accuracy.zip(after.accuracy).map(|(before, after)| [before as f32, after as f32]),
        })
    };
    let header = delta::Header {
        base: bundle.base_hash,
        parent: None,
        tool: env!("CARGO_PKG_VERSION"),
        created_unix_s,
        device,
        round,
        recipe: recipe.map(|text| blake3::hash(text.as_bytes()).into()),
        task: about.task,
        loss: &about.loss.wire_name(),
        output: &bundle.output,
        head: bundle.head.as_ref().map(head_to_wire),
        method: bundle.method.map(method_to_wire),
        preprocessing: about.preprocessing.get(),
        metrics: delta::Metrics { validation: measured(about.validation), test: measured(about.test) },
        gate: compared.as_ref().map(|(passed, reason)| delta::GateVerdict { passed: *passed, reason }),
        seed: bundle.seed,
        samples: about.samples,
        licence,
        notes,
        recipe_text: recipe.filter(|text| delta::is_recipe(text)).unwrap_or_default(),
    };
    let tensors = bundle.parameters.iter().zip(payloads);
    let tensors = tensors.map(|(parameter, payload)| (parameter.name.as_str(), &parameter.shape[..], payload.clone()));
    let written = written(&header, &about.labels, tensors.collect());
    written.map_err(|source| Error::Delta { path: PathBuf::from("(new)"), source })
}

/// A delta of names, shapes and payloads.
fn written(
    header: &delta::Header<'_>,
    labels: &[delta::Label<'_>],
    tensors: Vec<(&str, &[u64], Payload)>,
) -> Result<Vec<u8>, delta::Error> {
    let shapes: Vec<Vec<u32>> =
        tensors.iter().map(|(_, shape, _)| shape.iter().map(|size| *size as u32).collect()).collect();
    let entries = tensors.iter().zip(&shapes);
    let entries: Vec<delta::TensorValues> =
        entries.map(|((name, _, payload), shape)| delta::TensorValues { name, shape, payload }).collect();
    delta::write(header, labels, &entries)
}

fn label_counts(labels: &Labels, train: &[usize]) -> Vec<u32> {
    let mut counts = vec![0u32; labels.names().len()];
    for sample in train {
        match labels {
            Labels::Classes { index, .. } | Labels::Ordinal { index, .. } => counts[index[*sample] as usize] += 1,
            Labels::Tokens { rows, .. } => {
                rows.row(*sample)
                    .iter()
                    .filter_map(|class| usize::try_from(*class).ok())
                    .for_each(|class| counts[class] += 1);
            }
            Labels::Pixels { masks, names } => {
                let pixels = masks.counts(*sample, names.len());
                counts.iter_mut().zip(pixels).for_each(|(count, more): (&mut u32, u64)| {
                    *count = count.saturating_add(more as u32);
                });
            }
            Labels::Lines { lines, .. } => {
                lines.line(*sample).iter().for_each(|character| counts[*character as usize] += 1);
            }
            Labels::Boxes { pictures, .. } => {
                pictures[*sample].objects.iter().for_each(|object| counts[object.class as usize] += 1);
            }
            Labels::MultiLabel { rows, .. } => {
                counts.iter_mut().zip(rows.row(*sample)).for_each(|(count, on)| *count += u32::from(*on > 0.5));
            }
            _ => {}
        }
    }
    counts
}

/// Writes a delta's bytes so that a reader sees the old file or the new one.
///
/// # Errors
/// The system's, with the file's name.
pub fn save(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    write_atomically(path, |writer| writer.write_all(bytes)).map_err(|source| Error::io(path, source))
}

/// A learned tensor: name, sizes with the outermost first, values in row-major order.
pub type LearnedTensor = (String, Vec<u64>, Vec<f32>);

/// A delta that has been read and checked.
#[derive(Debug, Clone)]
pub struct Adapter {
    /// Where it came from.
    pub path: PathBuf,
    /// The base it belongs to.
    pub base: [u8; 32],
    /// Class names; empty for regression.
    pub labels: Vec<String>,
    /// What the output means.
    pub task: delta::Task,
    /// The loss to evaluate with.
    pub loss: Loss,
    /// The base's output.
    pub output: String,
    /// The appended head, if there is one.
    pub head: Option<AppendedHead>,
    /// How the base is changed, besides whole tensors.
    pub method: Option<Method>,
    /// The run's seed, which decides LoRA-FA's `A`.
    pub seed: u64,
    /// What to do to samples.
    pub preprocessing: data::Preprocessing,
    /// What was learned.
    pub tensors: Vec<LearnedTensor>,
    /// The dimension of the base's inputs that is the batch, where the recipe says so.
    pub batch_axis: Option<u32>,
    /// The file's size.
    pub bytes: usize,
}

/// What a recipe says of the batch. The text is the one that is written by machine: a setting a line, tables behind all of them.
fn batch_axis(recipe: &str) -> Option<u32> {
    let settings = recipe.lines().take_while(|line| !line.starts_with('['));
    settings.filter_map(|line| line.strip_prefix("batch-axis = ")).find_map(|axis| axis.parse().ok())
}

impl Adapter {
    /// Reads and verifies a delta.
    ///
    /// # Errors
    /// A file that cannot be read, or that the format refuses.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let bytes = std::fs::read(path).map_err(|source| Error::Unreadable { path: path.into(), source })?;
        Self::from_bytes(path, &bytes)
    }

    /// Verifies a delta that has been read; `path` names it in errors.
    ///
    /// # Errors
    /// What the format refuses, and a difference to another delta.
    pub fn from_bytes(path: &Path, bytes: &[u8]) -> Result<Self, Error> {
        let refuse = |source| Error::Delta { path: path.into(), source };
        let delta = Delta::parse(bytes).map_err(refuse)?;
        let header = delta.header();
        if header.parent.is_some() {
            return Err(refuse(delta::Error::IsDifference));
        }
        let mut tensors = Vec::new();
        for view in delta.tensors() {
            let values = delta::owned(&view).map_err(refuse)?;
            tensors.push((
                view.entry.name.to_string(),
                view.entry.shape.iter().map(|size| u64::from(*size)).collect(),
                values,
            ));
        }
        Ok(Self {
            path: path.into(),
            base: header.base,
            labels: delta.labels().map(|label| label.name.to_string()).collect(),
            task: header.task,
            loss: loss_of(header),
            output: header.output.into(),
            head: header.head.map(|head| AppendedHead {
                value: head.value.into(),
                features: head.features.into(),
                classes: head.classes.into(),
            }),
            method: header.method.map(method_from_wire),
            seed: header.seed,
            preprocessing: preprocessing_from_wire(&header.preprocessing),
            tensors,
            batch_axis: batch_axis(header.recipe_text),
            bytes: bytes.len(),
        })
    }

    /// Reads the model that the adapter belongs to, as it was read where the adapter was learned.
    ///
    /// # Errors
    /// As [`Base::read_with`]. That it is another model is said by [`Adapter::bundle`].
    pub fn base(&self, model: &Path) -> Result<Base, Error> {
        Base::read_with(model, self.batch_axis)
    }

    /// The adapter as a delta, for one that was learned elsewhere: without samples and measurements.
    ///
    /// # Errors
    /// Values that are not finite, names too long for the format.
    pub fn encoded(&self) -> Result<Vec<u8>, Error> {
        let preprocessing = preprocessing_to_wire(&self.preprocessing);
        let header = delta::Header {
            base: self.base,
            tool: env!("CARGO_PKG_VERSION"),
            task: self.task,
            loss: &self.loss.wire_name(),
            output: &self.output,
            head: self.head.as_ref().map(head_to_wire),
            method: self.method.map(method_to_wire),
            preprocessing: preprocessing.get(),
            seed: self.seed,
            ..delta::Header::default()
        };
        let labels: Vec<delta::Label> = self.labels.iter().map(|name| delta::Label { name, samples: 0 }).collect();
        let refused = |source| Error::Delta { path: self.path.clone(), source };
        let mut tensors = Vec::new();
        for (name, shape, values) in &self.tensors {
            let payload = delta::encode(&evaluate::rounded(values), delta::Encoding::Fp16).map_err(refused)?;
            tensors.push((name.as_str(), &shape[..], payload));
        }
        written(&header, &labels, tensors).map_err(refused)
    }

    /// Columns of the output that its classes ask for.
    fn columns(&self) -> Option<u64> {
        let labels = self.labels.len() as u64;
        Some(if self.task == delta::Task::Ordinal { labels.saturating_sub(1) } else { labels })
    }

    /// What the adapter changes, without the values.
    pub fn change(&self) -> Change<'_> {
        Change {
            output: &self.output,
            head: self.head.as_ref(),
            method: self.method,
            seed: self.seed,
            learned: self.tensors.iter().map(|(name, shape, _)| Learned { name, shape: shape.clone() }).collect(),
            activation: Some(self.loss.activation()),
            positions: self.loss.positions(),
            width: self.columns().filter(|width| *width > 0),
        }
    }

    /// Whether the base is the one that it was learned on.
    ///
    /// # Errors
    /// [`Error::OtherBase`].
    pub fn refuse_other(&self, base: &Base) -> Result<(), Error> {
        if base.hash == self.base {
            return Ok(());
        }
        Err(Error::OtherBase {
            delta: self.path.clone(),
            wanted: hex(&self.base[..8]),
            base: base.path.clone(),
            found: base.short_hash(),
        })
    }

    /// The learned tensors' values by name.
    pub fn values(&self) -> HashMap<&str, &[f32]> {
        self.tensors.iter().map(|(name, _, values)| (name.as_str(), values.as_slice())).collect()
    }

    /// The bundle that runs this adapter on its base, and the values in the bundle's order.
    ///
    /// # Errors
    /// Another base, or one that the tensors do not fit.
    pub fn bundle(&self, base: &Base, bundles: &Path) -> Result<(Bundle, Vec<Vec<f32>>), Error> {
        self.refuse_other(base)?;
        let bundle = prepare_for_delta(base, &self.change(), bundles)?;
        let values = self.values_for(&bundle);
        Ok((bundle, values))
    }

    /// The same adapter before it had learned anything, with the base's own values; none where its head is not the base's, so that the
    /// base has no such classes.
    ///
    /// # Errors
    /// As [`Adapter::bundle`].
    pub fn untrained(&self, base: &Base, bundles: &Path) -> Result<Option<Self>, Error> {
        let (bundle, _) = self.bundle(base, bundles)?;
        if self.head.is_some() || bundle.parameters.iter().any(|parameter| parameter.fresh) {
            return Ok(None);
        }
        let values = |name: &str| bundle.parameters.iter().find(|parameter| parameter.name == name);
        let first = |(name, shape, learned): &LearnedTensor| {
            let initial = values(name).map_or_else(|| learned.clone(), |parameter| parameter.initial.clone());
            (name.clone(), shape.clone(), initial)
        };
        Ok(Some(Self { tensors: self.tensors.iter().map(first).collect(), ..self.clone() }))
    }

    /// The values in the order of the parameters of this adapter's bundle.
    pub fn values_for(&self, bundle: &Bundle) -> Vec<Vec<f32>> {
        bundle
            .parameters
            .iter()
            .map(|parameter| {
                let found = self.tensors.iter().find(|(name, _, _)| *name == parameter.name);
                found.expect("the bundle's parameters are the delta's tensors").2.clone()
            })
            .collect()
    }
}

impl Adapter {
    /// The same change, with factors for another scale of `B A` (alpha / rank): what the scale says less, `B` says more. Nothing happens
    /// where either has no factors.
    pub fn scale_as(&mut self, method: Option<Method>) {
        let Some((own, other)) =
            self.method.zip(method).filter(|(own, other)| own.kind.low_rank() && other.kind.low_rank())
        else {
            return;
        };
        let factor = (own.scale() / other.scale()) as f32;
        for tensor in self.tensors.iter_mut().filter(|(name, _, _)| name.ends_with(LORA_B)) {
            tensor.2.iter_mut().for_each(|value| *value *= factor);
        }
        self.method = Some(other);
    }

    /// The bundle that learns on from this adapter: `classes` are its own in their order, followed by new ones, of which only a
    /// head can have any. What is known is in the parameters' initial values; rows of new classes are zero.
    ///
    /// # Errors
    /// Another base, or new classes for an adapter that learned more than a head of classes.
    pub fn with_classes(&self, classes: &[String], base: &Base, bundles: &Path) -> Result<Bundle, Error> {
        let refuse = |problem: &str| {
            let remedy = "train anew with the samples of all classes";
            Err(Error::Setting { setting: "from", problem: format!("{}: {problem}; {remedy}", self.path.display()) })
        };
        let (old, new) = (self.labels.len() as u64, classes.len() as u64);
        if old == new {
            let (mut bundle, values) = self.bundle(base, bundles)?;
            bundle.parameters.iter_mut().zip(values).for_each(|(parameter, values)| parameter.initial = values);
            return Ok(bundle);
        }
        if self.task != delta::Task::Classification || classes[..self.labels.len()] != self.labels {
            return refuse("its outputs are not classes, one a sample");
        }
        if let Some(method) = self.method {
            return refuse(&format!("it was trained with setting `adapter.method = {}`, not only a head", method.kind));
        }
        let mut wider = self.clone();
        for (name, shape, values) in &mut wider.tensors {
            let Some(axis) = shape.iter().take(2).position(|size| *size == old) else {
                return refuse(&format!("it learned `{name}`, which is not a head of {old} classes"));
            };
            let inner: usize = shape[axis + 1..].iter().product::<u64>() as usize;
            let zeros = vec![0.0; (new - old) as usize * inner];
            let rows = values.chunks_exact(old as usize * inner);
            *values = rows.flat_map(|row| row.iter().chain(&zeros).copied()).collect();
            shape[axis] = new;
        }
        if let Some(head) = &mut wider.head {
            head.classes = new;
        }
        let (mut bundle, values) = wider.bundle(base, bundles)?;
        bundle.parameters.iter_mut().zip(values).for_each(|(parameter, values)| parameter.initial = values);
        bundle.head_note = format!("of {}: {old} → {}", self.path.display(), counted(new, "output"));
        Ok(bundle)
    }
}

/// The loss that the header names, if it is one of the task; else the task's own.
fn loss_of(header: &delta::Header<'_>) -> Loss {
    let task = task::of_wire(header.task);
    if let (delta::Task::Anything, Some((file, hash))) = (header.task, header.loss.rsplit_once('@')) {
        return Loss::File(OwnLoss::named(file, hash));
    }
    let named = task.losses.iter().find(|name| **name == header.loss).and_then(|name| Loss::named(name));
    named.unwrap_or_else(|| task.loss())
}

fn head_to_wire(head: &AppendedHead) -> delta::AppendedHead<'_> {
    delta::AppendedHead { value: &head.value, features: head.features as u32, classes: head.classes as u32 }
}

pub(super) fn method_to_wire(method: Method) -> delta::Method {
    let kind = match method.kind {
        Kind::Lora => delta::MethodKind::Lora,
        Kind::RsLora => delta::MethodKind::RsLora,
        Kind::Dora => delta::MethodKind::Dora,
        Kind::LoraFa => delta::MethodKind::LoraFa,
        Kind::Ia3 => delta::MethodKind::Ia3,
        Kind::BitFit => delta::MethodKind::BitFit,
        Kind::Norm => delta::MethodKind::Norm,
    };
    delta::Method { kind, rank: method.rank, alpha: method.alpha }
}

fn method_from_wire(method: delta::Method) -> Method {
    let kind = match method.kind {
        delta::MethodKind::Lora => Kind::Lora,
        delta::MethodKind::RsLora => Kind::RsLora,
        delta::MethodKind::Dora => Kind::Dora,
        delta::MethodKind::LoraFa => Kind::LoraFa,
        delta::MethodKind::Ia3 => Kind::Ia3,
        delta::MethodKind::BitFit => Kind::BitFit,
        delta::MethodKind::Norm => Kind::Norm,
    };
    Method { kind, rank: method.rank, alpha: method.alpha }
}

/// As deltas and moments say it.
pub fn preprocessing_to_wire(preprocessing: &data::Preprocessing) -> delta::KeptPreprocessing {
    let wire = match preprocessing {
        data::Preprocessing::Plain => delta::Preprocessing::Plain,
        data::Preprocessing::Text { max_length, tokenizer: None } => {
            delta::Preprocessing::Text { max_length: *max_length }
        }
        data::Preprocessing::Text { max_length, tokenizer: Some(tokenizer) } => {
            delta::Preprocessing::TextBy { max_length: *max_length, tokenizer: *tokenizer }
        }
        data::Preprocessing::Sound(sound) => delta::Preprocessing::Sound(sound_wire::to_wire(sound)),
        data::Preprocessing::Image(image) => image_to_wire(image),
        data::Preprocessing::Series(series) => return series_wire::to_wire(series),
    };
    (&wire).into()
}

fn image_to_wire(image: &data::ImagePreprocessing) -> delta::Preprocessing<'static> {
    let wire = delta::ImagePreprocessing {
        width: image.width,
        height: image.height,
        resize: image.resize,
        scale: image.scale,
        mean: delta::ImagePreprocessing::shortened(image.mean),
        std: delta::ImagePreprocessing::shortened(image.std),
        layout: match image.layout {
            data::Layout::Nchw => delta::Layout::Nchw,
            data::Layout::Nhwc => delta::Layout::Nhwc,
        },
        channels: match image.channels {
            data::Channels::Rgb => delta::Channels::Rgb,
            data::Channels::Grey => delta::Channels::Grey,
        },
    };
    let filter = match image.filter {
        data::Filter::Bilinear => return delta::Preprocessing::Image(wire),
        data::Filter::Nearest => delta::Filter::Nearest,
        data::Filter::Area => delta::Filter::Area,
        data::Filter::Bicubic => delta::Filter::Bicubic,
        data::Filter::Lanczos => delta::Filter::Lanczos,
    };
    delta::Preprocessing::ImageBy(wire, filter)
}

/// As deltas and moments have said it.
pub fn preprocessing_from_wire(preprocessing: &delta::Preprocessing<'_>) -> data::Preprocessing {
    let (image, filter) = match preprocessing {
        delta::Preprocessing::Plain => return data::Preprocessing::Plain,
        delta::Preprocessing::Text { max_length } => {
            return data::Preprocessing::Text { max_length: *max_length, tokenizer: None };
        }
        delta::Preprocessing::TextBy { max_length, tokenizer } => {
            return data::Preprocessing::Text { max_length: *max_length, tokenizer: Some(*tokenizer) };
        }
        delta::Preprocessing::Sound(sound) => return data::Preprocessing::Sound(sound_wire::from_wire(sound)),
        delta::Preprocessing::Series(series) => return data::Preprocessing::Series(series_wire::from_wire(series)),
        delta::Preprocessing::Image(image) => (image, data::Filter::Bilinear),
        delta::Preprocessing::ImageBy(image, filter) => {
            let filter = match filter {
                delta::Filter::Nearest => data::Filter::Nearest,
                delta::Filter::Area => data::Filter::Area,
                delta::Filter::Bicubic => data::Filter::Bicubic,
                delta::Filter::Lanczos => data::Filter::Lanczos,
            };
            (image, filter)
        }
    };
    data::Preprocessing::Image(data::ImagePreprocessing {
        width: image.width,
        height: image.height,
        resize: image.resize,
        scale: image.scale,
        mean: image.means(),
        std: image.stds(),
        layout: match image.layout {
            delta::Layout::Nchw => data::Layout::Nchw,
            delta::Layout::Nhwc => data::Layout::Nhwc,
        },
        channels: match image.channels {
            delta::Channels::Rgb => data::Channels::Rgb,
            delta::Channels::Grey => data::Channels::Grey,
        },
        filter,
    })
}
