//! An adapter in its base, as a model file that any ONNX runtime loads.
//!
//! Takes a base and an adapter of it; gives a graph, and a file under a name. Files are replaced by renaming only: running
//! processes have them mapped.

use super::artifact::Adapter;
use super::error::Error;
use super::onnx_adapter;
use super::prepare::{BATCH_AXIS, Base, hex};
use crate::adapter::{self, Adapted, Kind};
use crate::atomic::write_atomically;
use crate::cut;
use crate::data;
use crate::delta;
use crate::engine;
use crate::graph::{Dim, Graph, Tensor, TensorType};
use crate::onnx::{self, Weights};
use crate::task;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};

/// The base with the adapter folded into its weights: the same nodes, so as fast as the base.
///
/// # Errors
/// Another base, or one that the tensors do not fit.
pub fn merged(base: &Base, learned: &Adapter) -> Result<Graph, Error> {
    learned.refuse_other(base)?;
    let mut graph = adapter::merge(base.graph.clone(), &learned.change(), &learned.values())?;
    cut::batch_as_given(&mut graph);
    // Programs other than ONNX Runtime want the outputs' types to be declared.
    engine::infer_types(&mut graph)?;
    Ok(graph)
}

/// The base whose learned tensors are optional inputs, under their names in the delta: fp32, with what the base itself
/// holds as their defaults, and zeros for what it lacks. So it gives the base's outputs where nothing is fed, and the
/// adapter's where its tensors are, be it by hand or as ONNX Runtime's active adapter. It is the same model for all adapters of
/// one base, method, rank, scale, head and places (LoRA-FA: also seed).
///
/// LoRA's factors leave their rank open: adapters of every rank and the same scale (alpha over rank) fit one model.
/// A head of another width than the base's leaves its width open. The output of an appended head is added to the base's
/// outputs, and is zero where nothing is fed.
///
/// # Errors
/// As [`merged`].
pub fn with_optional_inputs(base: &Base, learned: &Adapter) -> Result<Graph, Error> {
    learned.refuse_other(base)?;
    if learned.task == delta::Task::Detection {
        let problem = "a detector's outputs are shaped for its classes, which an optional input would change; export a whole model with setting `to = onnx`";
        return Err(Error::Setting { setting: "to", problem: problem.into() });
    }
    let Adapted { mut graph, output, parameters, head, method, .. } =
        adapter::from_delta(base.graph.clone(), &learned.change())?;
    let open = method.filter(|method| matches!(method.kind, Kind::Lora | Kind::RsLora)).map(|_| adapter::axis_of_rank);
    // What is appended to a graph leaves the ids of the base's values as they are.
    graph.outputs = base.graph.outputs.clone();
    graph.outputs.extend(head.map(|_| output));
    cut::batch_as_given(&mut graph);
    let mut defaults = Vec::new();
    for parameter in &parameters {
        let default = match base.graph.initializers.get(&parameter.id) {
            Some(known) => Tensor::from_vec(&known.shape, known.to_f32().expect("only float tensors are learned")),
            None => zeros(&parameter.shape),
        };
        let same = |(wanted, held): (&u64, &u64)| if wanted == held { Dim::Fixed(*held) } else { Dim::Unknown };
        let mut shape: Vec<Dim> = parameter.shape.iter().zip(&default.shape).map(same).collect();
        if let Some(axis) = open.and_then(|axis_of| axis_of(&parameter.name)) {
            shape[axis] = Dim::Unknown;
        }
        graph.values[parameter.id.index()].ty = Some(TensorType::new(default.dtype, shape));
        graph.initializers.remove(&parameter.id);
        graph.inputs.push(parameter.id);
        defaults.push((parameter.id, default));
    }
    engine::infer_types(&mut graph)?;
    graph.initializers.extend(defaults);
    Ok(graph)
}

fn zeros(shape: &[u64]) -> Tensor {
    Tensor::from_vec(shape, vec![0.0f32; shape.iter().product::<u64>() as usize])
}

/// Writes `adapter.onnx_adapter`, the learned tensors, beside `model.onnx`, the base that takes them, into a folder, which
/// is made if it is not there.
///
/// # Errors
/// As [`merged`], and files that cannot be written.
pub fn onnx_adapter(folder: &Path, base: &Base, learned: &Adapter, external: bool) -> Result<(), Error> {
    let graph = with_optional_inputs(base, learned)?;
    std::fs::create_dir_all(folder).map_err(|source| Error::io(folder, source))?;
    let tensors = learned.tensors.iter();
    let tensors = tensors.map(|(name, shape, values)| (name.as_str(), shape.as_slice(), values.as_slice()));
    let (bytes, path) = (onnx_adapter::encode(tensors), folder.join("adapter.onnx_adapter"));
    write_atomically(&path, |writer| writer.write_all(&bytes)).map_err(|source| Error::io(&path, source))?;
    model(&folder.join("model.onnx"), &graph, external)
}

/// Writes the base with the adapter folded into its weights. Its metadata tell what its outputs mean and what is done to samples
/// before; a file of class names lies beside it, which is given back.
///
/// # Errors
/// As [`merged`], and files that cannot be written.
pub fn merged_model(path: &Path, base: &Base, learned: &Adapter, external: bool) -> Result<Option<PathBuf>, Error> {
    let graph = merged(base, learned)?;
    let mut metadata = base.metadata.clone();
    // What the base says of itself is no longer so.
    DESCRIBED.iter().for_each(|key| drop(metadata.remove(*key)));
    metadata.extend(described(learned));
    let output = graph.outputs.last().filter(|_| learned.head.is_some());
    metadata.insert(OUTPUT.into(), output.map_or(learned.output.as_str(), |id| graph.value_name(*id)).into());
    metadata.extend(base.batch_axis.map(|axis| (BATCH_AXIS.to_string(), axis.to_string())));
    let before = onnx::read(path).ok().and_then(|model| data::class_names_told(&model.metadata));
    model_described(path, &graph, external, &metadata)?;
    forget_labels(path, before.as_deref().unwrap_or_default(), &learned.labels)?;
    labels_beside(path, &learned.labels)
}

/// Keys of a model's metadata that say what its outputs are: the task, and which output it is of.
pub const TASK: &str = "edgetune.task";
/// The output that the task is of.
pub const OUTPUT: &str = "edgetune.output";
/// All keys that an exported model says it with.
const DESCRIBED: [&str; 4] = [NAMES, PREPROCESSING, TASK, OUTPUT];
const NAMES: &str = "names";
/// What is done to a sample, as JSON.
pub const PREPROCESSING: &str = "edgetune.preprocessing";

/// Removes the class names that an export before has left beside a model of the same name, where they are no longer right. What is
/// another model's, or was changed, stays.
fn forget_labels(model: &Path, before: &[String], labels: &[String]) -> Result<(), Error> {
    if before.is_empty() || before == labels {
        return Ok(());
    }
    let is_onnx = |path: &Path| path.extension().is_some_and(|extension| extension == "onnx");
    let folder = model.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let shared = entries.into_iter().any(|path| is_onnx(&path) && path.file_name() != model.file_name());
    let own = [model.with_extension("labels.txt"), model.with_file_name("labels.txt")];
    for path in own.iter().take(if shared { 1 } else { 2 }) {
        if std::fs::read(path).is_ok_and(|held| held == lines(before).as_bytes()) {
            std::fs::remove_file(path).map_err(|source| Error::io(path, source))?;
        }
    }
    Ok(())
}

fn lines(labels: &[String]) -> String {
    labels.iter().map(|name| format!("{name}\n")).collect()
}

/// What an adapter tells of the model that it makes, as a model's metadata: `names`, class names by their index, as Ultralytics writes
/// them and reads them; `edgetune.task`; `edgetune.preprocessing`, what is done to an image, a sound, a series or a text, as JSON.
pub fn described(learned: &Adapter) -> BTreeMap<String, String> {
    let mut told = BTreeMap::from([(TASK.to_string(), task::of_wire(learned.task).name.to_string())]);
    if !learned.labels.is_empty() {
        // In the order of the outputs: a map of JSON would sort "10" before "2".
        let name = |(index, name): (usize, &String)| format!("\"{index}\": {}", serde_json::json!(name));
        let names: Vec<String> = learned.labels.iter().enumerate().map(name).collect();
        told.insert(NAMES.into(), format!("{{{}}}", names.join(", ")));
    }
    let preprocessing = match &learned.preprocessing {
        data::Preprocessing::Plain => return told,
        data::Preprocessing::Image(image) => serde_json::json!({ "image": image }),
        data::Preprocessing::Sound(sound) => serde_json::json!({ "sound": sound }),
        data::Preprocessing::Series(series) => serde_json::json!({ "series": series }),
        data::Preprocessing::Text { max_length, tokenizer } => {
            serde_json::json!({ "text": { "max_length": max_length, "tokenizer": tokenizer.map(|hash| hex(&hash)) } })
        }
    };
    told.insert(PREPROCESSING.into(), preprocessing.to_string());
    told
}

/// Writes class names, a line each, beside a model: `labels.txt`, or with the model's name before it where there is one with other
/// names; where that is there, too, with a number. What is there may be somebody's own and is never replaced. None for outputs without names, or where a name holds a line break.
fn labels_beside(model: &Path, labels: &[String]) -> Result<Option<PathBuf>, Error> {
    if labels.is_empty() || labels.iter().any(|name| name.contains('\n')) {
        return Ok(None);
    }
    let text = lines(labels);
    let numbered = (2u32..).map(|number| model.with_extension(format!("labels-{number}.txt")));
    let mut paths =
        [model.with_file_name("labels.txt"), model.with_extension("labels.txt")].into_iter().chain(numbered);
    let is_free = |path: &PathBuf| !path.exists() || std::fs::read(path).is_ok_and(|held| held == text.as_bytes());
    let path = paths.find(is_free).expect("some number is free");
    write_atomically(&path, |writer| writer.write_all(text.as_bytes())).map_err(|source| Error::io(&path, source))?;
    Ok(Some(path))
}

/// Writes a graph with its weights in it, or in a file beside it that is called as the model with `.data` behind.
///
/// # Errors
/// Files that cannot be written.
pub fn model(path: &Path, graph: &Graph, external: bool) -> Result<(), Error> {
    model_described(path, graph, external, &BTreeMap::new())
}

fn model_described(
    path: &Path,
    graph: &Graph,
    external: bool,
    metadata: &BTreeMap<String, String>,
) -> Result<(), Error> {
    let write = |weights: &Weights| {
        let bytes = onnx::encode_described(graph, weights, metadata);
        write_atomically(path, |writer| writer.write_all(&bytes)).map_err(|source| Error::io(path, source))
    };
    if !external {
        return write(&Weights::Embedded);
    }
    let weights = onnx::write_weights(&beside(path), onnx::initializers(graph))?;
    write(&Weights::External(&weights))
}

/// Where the weights of the model at `path` go that are not in it.
pub fn beside(path: &Path) -> PathBuf {
    let mut beside = OsString::from(path);
    beside.push(".data");
    beside.into()
}
