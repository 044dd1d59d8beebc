//! From a base and a request to a bundle: the graph-only files body, tail and step beside one weights file.
//!
//! Everything here is derived and can be made again: a bundle may be deleted at any time. Files are named by the hash of
//! what they were made from, written atomically, and reused by the next run.

use super::error::Error;
use super::loss::Loss;
use super::names::is_present_of;
use super::step::{self, Again};
use crate::adapter::{self, Adapted, AppendedHead, Change, Method, Parameter, Positions, Request};
use crate::atomic::write_atomically;
use crate::cache;
use crate::cut::{self, Cut};
use crate::engine;
use crate::graph::{Dim, Graph, Node, TensorType, ValueId};
use crate::onnx::{self, Weights, WeightsFile};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

/// The key of a model's metadata that says which dimension of its inputs is the batch, counted from 0.
pub const BATCH_AXIS: &str = "edgetune.batch_axis";

/// A base that has been read: its weights are mapped, nothing of it is copied.
#[derive(Debug)]
pub struct Base {
    /// The file it came from.
    pub path: PathBuf,
    /// The graph with every value's type as far as ONNX Runtime can infer it.
    pub graph: Graph,
    /// [`onnx::hash`]: what deltas are bound to.
    pub hash: [u8; 32],
    /// What the file tells about itself besides, such as class names.
    pub metadata: BTreeMap<String, String>,
    /// The batch that the file fixes, whether or not the graph could be freed of it.
    pub baked: Option<u64>,
    /// Why the graph still takes that batch and no other.
    pub stuck: Option<cut::Baked>,
    /// The dimension of the file's inputs that is the batch, where somebody has said so.
    pub batch_axis: Option<u32>,
}

impl Base {
    /// Reads and types a model. ONNX Runtime must be loaded.
    ///
    /// # Errors
    /// A file that is no model, or that ONNX Runtime refuses.
    pub fn read(path: &Path) -> Result<Self, Error> {
        Self::read_with(path, None)
    }

    /// As [`Base::read`], of a model whose batch is the dimension `batch_axis` of its inputs, counted from 0. Without one its metadata tell,
    /// or the dimensions' names, or the batch is the first.
    ///
    /// # Errors
    /// No input with so many dimensions; as [`Base::read`].
    pub fn read_with(path: &Path, batch_axis: Option<u32>) -> Result<Self, Error> {
        let onnx::Model { mut graph, metadata, .. } = onnx::read(path)?;
        let batch_axis = batch_axis.or_else(|| metadata.get(BATCH_AXIS)?.parse().ok());
        let hash = onnx::hash(&graph);
        cut::widen(&mut graph)?;
        cut::take_apart(&mut graph);
        cut::dropouts_off(&mut graph);
        if !cut::batch_first(&mut graph, batch_axis.map(|axis| axis as usize)) {
            return Err(Error::NoBatchAxis { path: path.into(), axis: batch_axis.unwrap_or_default() });
        }
        let baked = cut::baked_batch(&graph);
        let refused = |source| Error::Refused { path: path.into(), source };
        let stuck = match baked {
            Some(batch) => freed(&mut graph, batch).map_err(refused)?,
            None => {
                name_batch(&mut graph);
                engine::infer_types(&mut graph).map_err(refused)?;
                free_inside(&mut graph);
                None
            }
        };
        cut::size_pasts(&mut graph);
        if cut::spread(&mut graph) {
            engine::infer_types(&mut graph).map_err(refused)?;
        }
        Ok(Self { path: path.into(), graph, hash, metadata, baked, stuck, batch_axis })
    }

    /// Lets a model that takes pictures of any size take those of one: what it gives for each pixel is of a known size then. `shape` is that of
    /// a picture without the batch. A model that leaves no size open, or whose types cannot be told then, stays as it is.
    pub fn fix_pictures(&mut self, shape: [u64; 3]) {
        if let Some(fixed) = self.of_pictures(shape) {
            self.graph = fixed;
        }
    }

    /// The graph as [`Base::fix_pictures`] makes it; `None` where the model stays as it is.
    pub fn of_pictures(&self, shape: [u64; 3]) -> Option<Graph> {
        let [input] = self.graph.inputs[..] else { return None };
        let known = self.graph.ty(input)?.shape.clone().filter(|known| known.len() == 4)?;
        if known[1..].iter().all(|dim| dim.fixed().is_some()) {
            return None;
        }
        let mut fixed = self.graph.clone();
        for id in fixed.nodes.iter().flat_map(Node::writes).collect::<Vec<_>>() {
            fixed.values[id.index()].ty = None;
        }
        let sizes = shape.into_iter().map(Dim::Fixed);
        let dims = std::iter::once(known[0].clone()).chain(sizes).collect();
        let dtype = self.graph.ty(input).map_or(crate::graph::DType::Float, |ty| ty.dtype);
        fixed.values[input.index()].ty = Some(TensorType::new(dtype, dims));
        match engine::infer_types(&mut fixed) {
            Ok(()) => Some(fixed),
            Err(error) => {
                tracing::info!(%error, "the model stays open to pictures of any size");
                None
            }
        }
    }

    /// Begins to write the bundle's weights, which need nothing but the base: the disk works while all else is decided. What
    /// goes wrong is told by [`write()`], which finds them unwritten. They are there when the guard is dropped.
    pub fn write_weights_ahead(&self, bundles: &Path) -> WeightsAhead {
        let (path, graph) = (self.path.clone(), self.graph.clone());
        let base = Self {
            path,
            graph,
            hash: self.hash,
            metadata: BTreeMap::new(),
            baked: self.baked,
            stuck: self.stuck.clone(),
            batch_axis: self.batch_axis,
        };
        let folder = bundles.join(self.short_hash());
        let write = move || {
            let _in_use = cache::hold(&folder);
            let written = std::fs::create_dir_all(&folder).map_err(|source| Error::io(&folder, source));
            if let Err(error) = written.and_then(|()| weights_of(&base, &folder)) {
                tracing::debug!(%error, "weights could not be written ahead");
            }
        };
        WeightsAhead(std::thread::Builder::new().name("weights".into()).spawn(write).ok())
    }

    /// # Errors
    /// [`Error::Baked`] for a model that takes the batch in its file and no other.
    pub fn refuse_fixed_batch(&self) -> Result<(), Error> {
        match &self.stuck {
            None => Ok(()),
            Some(stuck) => Err(Error::Baked { path: self.path.clone(), stuck: stuck.clone() }),
        }
    }

    /// The first eight bytes of the hash in hexadecimal: the name of the bundle's folder.
    pub fn short_hash(&self) -> String {
        hex(&self.hash[..8])
    }
}

/// Waits, when dropped, for weights that are being written.
#[derive(Debug)]
pub struct WeightsAhead(Option<JoinHandle<()>>);

impl Drop for WeightsAhead {
    fn drop(&mut self) {
        if let Some(thread) = self.0.take() {
            // Were it to panic, `write` would find nothing written, and do it.
            let _ = thread.join();
        }
    }
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Inputs whose first dimension is open and has no name take the batch there.
fn name_batch(graph: &mut Graph) {
    let open = |id: &ValueId| graph.ty(*id).and_then(|ty| ty.shape.as_ref()?.first()) == Some(&Dim::Unknown);
    if graph.inputs.is_empty() || !graph.inputs.iter().all(open) {
        return;
    }
    for id in graph.inputs.clone() {
        if let Some(shape) = graph.values[id.index()].ty.as_mut().and_then(|ty| ty.shape.as_mut()) {
            shape[0] = Dim::Named("batch".into());
        }
    }
    let produced: Vec<_> = graph.nodes.iter().flat_map(|node| node.writes().collect::<Vec<_>>()).collect();
    for id in produced {
        graph.values[id.index()].ty = None;
    }
}

/// Frees a typed graph whose inputs leave the batch open while a `Reshape` inside fixes it, so that an output has always the same number of
/// rows. A graph that cannot be freed stays as it is.
fn free_inside(graph: &mut Graph) {
    let fixed = |id: &ValueId| graph.ty(*id)?.shape.as_ref()?.first()?.fixed();
    let open = graph.inputs.iter().all(|id| fixed(id).is_none());
    let reached = graph.descendants(graph.inputs.iter().copied());
    let rows = |id: &ValueId| fixed(id).filter(|_| reached.contains(id));
    let Some(batch) = graph.outputs.iter().find_map(rows).filter(|_| open) else { return };
    let mut baked = graph.clone();
    for id in baked.inputs.clone() {
        if let Some([first, ..]) = baked.values[id.index()].ty.as_mut().and_then(|ty| ty.shape.as_deref_mut()) {
            *first = Dim::Fixed(batch);
        }
    }
    for id in baked.nodes.iter().flat_map(Node::writes).collect::<Vec<_>>() {
        baked.values[id.index()].ty = None;
    }
    if matches!(freed(&mut baked, batch), Ok(None)) {
        *graph = baked;
    }
}

/// Types a graph whose file fixes the batch, and frees it where that can be; else gives what is in the way.
fn freed(graph: &mut Graph, batch: u64) -> Result<Option<cut::Baked>, engine::Error> {
    engine::infer_types(graph)?;
    let mut free = graph.clone();
    engine::fold_constants(&mut free)?;
    engine::measure_sizes(&mut free)?;
    let freed = match cut::free_batch(&mut free, batch) {
        Ok(freed) => freed,
        Err(stuck) => return Ok(Some(stuck)),
    };
    match engine::infer_types(&mut free) {
        Ok(()) => {
            cut::name_freed(&mut free, freed);
            *graph = free;
        }
        Err(error) => return Ok(Some(cut::Baked { batch, node: String::new(), problem: error.to_string() })),
    }
    Ok(None)
}

/// A base made ready to train or to predict: files on disk and what the run needs to know of them.
#[derive(Debug)]
pub struct Bundle {
    /// Where the files lie.
    pub folder: PathBuf,
    /// Model inputs → features; `None` if every feature is an input of the model.
    pub body: Option<PathBuf>,
    /// Whether the body quantises by the values at hand, all samples of a run together.
    pub body_quantises: bool,
    /// Features and parameters → output.
    pub tail: PathBuf,
    /// The model's inputs.
    pub inputs: Vec<(String, TensorType)>,
    /// What crosses the cut, batch dimension included.
    pub features: Vec<(String, TensorType)>,
    /// What learns.
    pub parameters: Vec<Parameter>,
    /// The name of the output that the loss is computed on, before an appended head.
    pub output: String,
    /// Columns of the output: classes or values.
    pub width: u64,
    /// The appended head, if there is one.
    pub head: Option<AppendedHead>,
    /// What was done to the head, a phrase.
    pub head_note: String,
    /// How the base is changed, besides whole tensors.
    pub method: Option<Method>,
    /// What decided the first values of LoRA's `A`.
    pub seed: u64,
    /// The base's hash.
    pub base_hash: [u8; 32],
    /// The base with what was changed in it.
    graph: Graph,
    /// The typed tail, from which the step graph is made.
    tail_graph: Graph,
    weights: WeightsFile,
    /// Keeps the files from giving way to others.
    _in_use: Option<cache::InUse>,
}

/// Writes the bundle for a request.
///
/// # Errors
/// A request that does not fit the base, or files that cannot be written.
pub fn prepare(base: &Base, request: &Request<'_>, bundles: &Path) -> Result<Bundle, Error> {
    base.refuse_fixed_batch()?;
    write(base, divide(adapter::install(base.graph.clone(), request)?)?, bundles)
}

/// Writes the bundle for what [`adapter::install`] gave for that base.
///
/// # Errors
/// As [`prepare`].
pub fn prepare_adapted(base: &Base, adapted: Adapted, bundles: &Path) -> Result<Bundle, Error> {
    base.refuse_fixed_batch()?;
    write(base, divide(adapted)?, bundles)
}

/// Writes the bundle that a delta was learned in.
///
/// # Errors
/// A delta that does not fit the base, or files that cannot be written.
pub fn prepare_for_delta(base: &Base, change: &Change<'_>, bundles: &Path) -> Result<Bundle, Error> {
    base.refuse_fixed_batch()?;
    write(base, divide(adapter::from_delta(base.graph.clone(), change)?)?, bundles)
}

/// A base divided for a request; nothing of it is written yet.
#[derive(Debug)]
pub struct Divided {
    /// The base with its head changed where needed, and what learns.
    pub adapted: Adapted,
    /// The typed tail: features and parameters → output.
    pub tail: Graph,
    /// Model inputs → features.
    pub body: Graph,
    /// What crosses the cut, batch dimension included.
    pub features: Vec<(String, TensorType)>,
    /// Columns of the output.
    pub width: u64,
}

/// Cuts an adapted base below what learns.
///
/// # Errors
/// A base that cannot be cut there, or whose output has no fixed width.
pub fn divide(mut adapted: Adapted) -> Result<Divided, Error> {
    engine::infer_types(&mut adapted.graph)?;
    let learns: Vec<_> = adapted.parameters.iter().map(|parameter| parameter.id).collect();
    let mut graph = adapted.graph.clone();
    cut::without_past(&mut graph);
    let Cut { mut body, mut tail, features } = cut::split(&graph, &learns, adapted.output)?;
    if let Some(node) = cut::random(&body).or_else(|| cut::random(&tail)) {
        return Err(Error::Random { node: format!("`{}` ({})", node.name, node.op) });
    }
    body.constants_first();
    tail.constants_first();
    engine::infer_types(&mut tail)?;
    let output_ty = tail.ty(tail.outputs[0]).cloned();
    let width = output_ty
        .as_ref()
        .and_then(|ty| {
            if adapted.positions == Positions::Pixel {
                ty.shape.as_ref()?.get(1)?.fixed()
            } else {
                ty.shape.as_ref()?.last()?.fixed()
            }
        })
        .ok_or_else(|| Error::Width {
            output: tail.value_name(tail.outputs[0]).into(),
            ty: output_ty.as_ref().map_or("type unknown".into(), ToString::to_string),
        })?;
    let features = typed(&tail, &features);
    Ok(Divided { adapted, tail, body, features, width })
}

impl Divided {
    /// The step graph for a loss.
    ///
    /// # Errors
    /// No gradient, or an output that the loss cannot take.
    pub fn step(&self, loss: &Loss, again: Again) -> Result<Graph, Error> {
        step_graph(&self.tail, (loss, None), self.width, &self.adapted.parameters, again)
    }
}

fn step_graph(
    tail: &Graph,
    (loss, teacher): (&Loss, Option<(f64, u64)>),
    width: u64,
    parameters: &[Parameter],
    again: Again,
) -> Result<Graph, Error> {
    let mut with_loss = step::with_loss_in_slices(tail, (loss, teacher), width, parameters)?;
    engine::infer_types(&mut with_loss.graph)?;
    Ok(step::with_gradients(with_loss, parameters, again)?)
}

fn typed(graph: &Graph, names: &[String]) -> Vec<(String, TensorType)> {
    let ty = |name: &String| graph.find(name).and_then(|id| graph.ty(id)).cloned();
    names.iter().filter_map(|name| Some((name.clone(), ty(name)?))).collect()
}

/// Writes the bundle for what [`divide`] gave for that base.
///
/// # Errors
/// Files that cannot be written.
pub fn write(base: &Base, divided: Divided, bundles: &Path) -> Result<Bundle, Error> {
    let Divided { adapted, tail, body, features, width } = divided;
    let folder = bundles.join(base.short_hash());
    std::fs::create_dir_all(&folder).map_err(|source| Error::io(&folder, source))?;
    let in_use = cache::hold(&folder);
    let weights = weights_of(base, &folder)?;
    let body_path = if body.nodes.is_empty() { None } else { Some(write_graph(&folder, "body", &body, &weights)?) };
    let tail_path = write_graph(&folder, "tail", &tail, &weights)?;
    let inputs: Vec<String> = body.inputs.iter().map(|id| body.value_name(*id).to_string()).collect();
    let output = match &adapted.head {
        Some(head) => head.value.clone(),
        None => adapted.graph.value_name(adapted.answer).to_string(),
    };
    Ok(Bundle {
        folder,
        body: body_path,
        body_quantises: body.nodes.iter().any(|node| node.op.starts_with("DynamicQuantize")),
        tail: tail_path,
        inputs: typed(&base.graph, &inputs),
        features,
        parameters: adapted.parameters,
        output,
        width,
        head: adapted.head,
        head_note: adapted.head_note,
        method: adapted.method,
        seed: adapted.seed,
        base_hash: base.hash,
        graph: adapted.graph,
        tail_graph: tail,
        weights,
        _in_use: in_use,
    })
}

impl Bundle {
    /// Writes the step graph for a loss into the bundle and gives its file.
    ///
    /// # Errors
    /// No gradient, an output that the loss cannot take, or a file that cannot be written.
    pub fn step(&self, loss: &Loss, again: Again) -> Result<PathBuf, Error> {
        self.step_beside(loss, None, again)
    }

    /// The same with the answers of a teacher beside the labels: their weight, and how many of the outputs have one.
    ///
    /// # Errors
    /// As [`Bundle::step`].
    pub fn step_beside(&self, loss: &Loss, teacher: Option<(f64, u64)>, again: Again) -> Result<PathBuf, Error> {
        let graph = step_graph(&self.tail_graph, (loss, teacher), self.width, &self.parameters, again)?;
        write_graph(&self.folder, "step", &graph, &self.weights)
    }

    /// What [`Bundle::step`] writes.
    ///
    /// # Errors
    /// No gradient, or an output that the loss cannot take.
    pub fn step_graph(&self, loss: &Loss, again: Again) -> Result<Graph, Error> {
        step_graph(&self.tail_graph, (loss, None), self.width, &self.parameters, again)
    }

    /// The typed tail: features and parameters in, the output out.
    pub fn tail_graph(&self) -> &Graph {
        &self.tail_graph
    }

    /// What has a row of scores each, by the output's dimensions.
    pub fn positions(&self) -> Positions {
        match self.tail_graph.ty(self.tail_graph.outputs[0]).and_then(TensorType::rank) {
            Some(3) => Positions::Token,
            Some(4) => Positions::Pixel,
            _ => Positions::Sample,
        }
    }

    /// The output's sequence length where it is fixed: `[batch, sequence, width]`.
    pub fn sequence(&self) -> Option<u64> {
        match self.tail_graph.ty(self.tail_graph.outputs[0])?.shape.as_deref()? {
            [_, sequence, _] => sequence.fixed(),
            _ => None,
        }
    }

    /// As [`Bundle::step`], without the gradients: what the loss is for given parameters.
    ///
    /// # Errors
    /// An output that the loss cannot take, or a file that cannot be written.
    pub fn forward(&self, loss: &Loss) -> Result<PathBuf, Error> {
        let graph = step::with_loss(&self.tail_graph, (loss, None), self.width)?;
        write_graph(&self.folder, "loss", &graph, &self.weights)
    }

    /// Writes what of the tail makes one of its values; gives the file and the names of what it takes.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn up_to(&self, value: ValueId) -> Result<(PathBuf, Vec<String>), Error> {
        let whole = self.tail_graph.extract("below", &self.tail_graph.inputs, &[value]);
        let read: Vec<&str> = whole.nodes.iter().flat_map(Node::reads).map(|id| whole.value_name(id)).collect();
        let takes = |id: &ValueId| read.contains(&self.tail_graph.value_name(*id));
        let inputs: Vec<ValueId> = self.tail_graph.inputs.iter().copied().filter(takes).collect();
        let mut graph = self.tail_graph.extract("below", &inputs, &[value]);
        graph.constants_first();
        let names = inputs.iter().map(|id| self.tail_graph.value_name(*id).to_string()).collect();
        Ok((write_graph(&self.folder, "below", &graph, &self.weights)?, names))
    }

    /// The number of learned values.
    pub fn parameter_count(&self) -> u64 {
        self.parameters.iter().map(|parameter| parameter.shape.iter().product::<u64>()).sum()
    }

    /// Files of the bundle, for a report.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.body.iter().chain([&self.tail]).map(PathBuf::as_path)
    }
}

/// A whole model as a file.
#[derive(Debug)]
pub struct Whole {
    /// Its inputs, then a bundle's parameters → logits, then present keys and values.
    pub path: PathBuf,
    /// The model's inputs.
    pub inputs: Vec<(String, TensorType)>,
    _in_use: Option<cache::InUse>,
}

/// Writes the whole base, with a bundle's changes and its parameters as inputs, to run in one session.
///
/// # Errors
/// An output that is not `[batch, sequence, vocabulary]`, or files that cannot be written.
pub fn whole(base: &Base, bundle: Option<&Bundle>, bundles: &Path) -> Result<Whole, Error> {
    let graph = bundle.map_or(&base.graph, |bundle| &bundle.graph);
    let output = match bundle {
        Some(bundle) => bundle.graph.outputs[0],
        None => adapter::output(graph, None)?,
    };
    let ty = graph.ty(output);
    if ty.and_then(TensorType::rank) != Some(3) {
        return Err(Error::Setting {
            setting: "MODEL",
            problem: format!(
                "its output `{}` ({}) is not [batch, sequence, vocabulary]; give a language model",
                graph.value_name(output),
                ty.map_or("type unknown".into(), ToString::to_string)
            ),
        });
    }
    let folder = bundles.join(base.short_hash());
    std::fs::create_dir_all(&folder).map_err(|source| Error::io(&folder, source))?;
    let in_use = cache::hold(&folder);
    let weights = weights_of(base, &folder)?;
    let names = |ids: &[ValueId]| ids.iter().map(|id| base.graph.value_name(*id).to_string()).collect::<Vec<_>>();
    let inputs = names(&base.graph.inputs);
    let keeps = |id: &&ValueId| inputs.iter().any(|input| is_present_of(base.graph.value_name(**id), input));
    let outputs: Vec<ValueId> = [output].iter().chain(base.graph.outputs.iter().filter(keeps)).copied().collect();
    let learned = bundle.map(|bundle| bundle.parameters.iter().map(|p| p.id).collect::<Vec<_>>()).unwrap_or_default();
    let fed: Vec<ValueId> = base.graph.inputs.iter().chain(&learned).copied().collect();
    let mut whole = graph.extract("whole", &fed, &outputs);
    whole.constants_first();
    let path = write_graph(&folder, "whole", &whole, &weights)?;
    let typed = base.graph.inputs.iter().zip(inputs).filter_map(|(id, name)| Some((name, base.graph.ty(*id)?.clone())));
    Ok(Whole { path, inputs: typed.collect(), _in_use: in_use })
}

/// All weights of the base, once, for every body and tail that is cut from it.
fn weights_of(base: &Base, folder: &Path) -> Result<WeightsFile, Error> {
    let path = folder.join("weights.bin");
    let whole = folder.join("base.onnx");
    // A file that was cut off (a full disk, a power cut) is written again.
    let length = std::fs::metadata(&path).map_or(0, |metadata| metadata.len());
    if whole.exists()
        && let Ok(Some(known)) = WeightsFile::reopen([whole.as_path()])
        && known.bytes() <= length
    {
        return Ok(known);
    }
    let bytes = base.graph.initializers.values().map(|tensor| tensor.data.len() as u64).sum();
    cache::make_room_for_bundle(folder, bytes);
    let weights = onnx::write_weights(&path, onnx::initializers(&base.graph))?;
    write_bytes(&whole, &onnx::encode(&base.graph, &Weights::External(&weights)))?;
    Ok(weights)
}

/// Writes a graph under a name that its content decides; a file that is there already is that graph.
fn write_graph(folder: &Path, kind: &str, graph: &Graph, weights: &WeightsFile) -> Result<PathBuf, Error> {
    let bytes = onnx::encode(graph, &Weights::External(weights));
    let path = folder.join(format!("{kind}-{}.onnx", hex(&blake3::hash(&bytes).as_bytes()[..8])));
    if !path.exists() {
        write_bytes(&path, &bytes)?;
    }
    Ok(path)
}

fn write_bytes(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    write_atomically(path, |writer| writer.write_all(bytes)).map_err(|source| Error::io(path, source))
}
