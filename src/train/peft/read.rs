//! A folder of PEFT → method and tensors, checked but not tied to a base.
//!
//! The folder may come from anywhere: it is mapped, its header bounded and its offsets compared by the `safetensors` crate,
//! and all that changes what the factors mean is refused by name.

use super::{CONFIG, PREFIX, TENSORS};
use crate::adapter::{Kind, Method};
use crate::onnx;
use crate::order::Order;
use crate::train::artifact::LearnedTensor;
use crate::train::error::Error;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};

/// What every refusal of something that PEFT alone computes advises.
const MERGE: &str = "merge it in PyTorch (`merge_and_unload`) and export that model to ONNX";

/// Settings that leave the factors what they are, whatever they say: how it was trained, and for whom.
const WITHOUT_EFFECT: &[&str] = &[
    "auto_mapping",
    "base_model_name_or_path",
    "bias",
    "corda_config",
    "ensure_weight_tying",
    "eva_config",
    "exclude_modules",
    "fan_in_fan_out",
    "inference_mode",
    "init_lora_weights",
    "layers_pattern",
    "layers_to_transform",
    "loftq_config",
    "lora_alpha",
    "lora_dropout",
    "lora_ga_config",
    "megatron_config",
    "megatron_core",
    "modules_to_save",
    "peft_type",
    "peft_version",
    "qalora_group_size",
    "r",
    "revision",
    "runtime_config",
    "target_modules",
    "task_type",
    "use_rslora",
];

/// First values that leave the base as it is. The others take something out of its weights.
const FIRST_VALUES: &[&str] = &["gaussian", "eva", "orthogonal"];

/// An adapter as PEFT has saved it.
#[derive(Debug, Clone, PartialEq)]
pub struct Saved {
    /// The folder.
    pub folder: PathBuf,
    /// LoRA or rsLoRA, with rank and alpha.
    pub method: Method,
    /// PEFT's `task_type`, such as `CAUSAL_LM`.
    pub task_type: Option<String>,
    /// Name without `base_model.model.`, shape, values; sorted by name.
    pub tensors: Vec<LearnedTensor>,
}

/// What counts of `adapter_config.json`.
#[derive(Deserialize)]
struct Config {
    peft_type: String,
    r: u32,
    lora_alpha: f32,
    #[serde(default)]
    use_rslora: bool,
    #[serde(default)]
    init_lora_weights: Value,
    task_type: Option<String>,
    #[serde(flatten)]
    others: Map<String, Value>,
}

/// Reads a folder that PEFT's `save_pretrained` has written.
///
/// # Errors
/// [`Error::Peft`] with the file, what is wrong in it, and the remedy: files that are missing or damaged; another method than
/// LoRA and rsLoRA; settings that change what the factors mean; values that fp16 does not hold.
pub fn read(folder: &Path) -> Result<Saved, Error> {
    let path = folder.join(CONFIG);
    let unreadable = |source| Error::Unreadable { path: path.clone(), source };
    let text = std::fs::read_to_string(&path).map_err(unreadable)?;
    let (method, task_type) = method(&text).map_err(|problem| Error::Peft { path, problem })?;
    let path = folder.join(TENSORS);
    if !path.exists() && folder.join("adapter_model.bin").exists() {
        let problem = "is missing; save the adapter again with `save_pretrained(…, safe_serialization=True)`".into();
        return Err(Error::Peft { path, problem });
    }
    let bytes = onnx::map_file(&path)?;
    let tensors = tensors(&bytes).map_err(|problem| Error::Peft { path, problem })?;
    Ok(Saved { folder: folder.into(), method, task_type, tensors })
}

fn method(text: &str) -> Result<(Method, Option<String>), String> {
    let config: Value = serde_json::from_str(text).map_err(|error| format!("is no JSON: {error}; save it again"))?;
    let config: Config =
        serde_json::from_value(config).map_err(|error| format!("is no configuration of LoRA: {error}; {MERGE}"))?;
    if config.peft_type != "LORA" {
        return Err(format!("peft_type is {}, and only LORA can be imported; {MERGE}", config.peft_type));
    }
    let is_off = |value: &Value| match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(values) => values.is_empty(),
        Value::Object(values) => values.is_empty(),
        _ => false,
    };
    let effective = |(name, value): &(&String, &Value)| !WITHOUT_EFFECT.contains(&name.as_str()) && !is_off(value);
    if let Some((name, value)) = config.others.iter().find(effective) {
        return Err(format!("{name} is {value}, which there is no delta for; {MERGE}"));
    }
    match &config.init_lora_weights {
        Value::Null | Value::Bool(_) => {}
        Value::String(name) if FIRST_VALUES.contains(&name.as_str()) => {}
        changed => {
            let remedy = "save it with `path_initial_model_for_weight_conversion`";
            return Err(format!("init_lora_weights is {changed}, which has changed the base's weights; {remedy}"));
        }
    }
    let (rank, alpha) = (config.r, config.lora_alpha);
    if rank == 0 || !(alpha.is_finite() && alpha > 0.0) {
        return Err(format!("r is {rank} and lora_alpha {alpha}; both must be above 0"));
    }
    let kind = if config.use_rslora { Kind::RsLora } else { Kind::Lora };
    Ok((Method { kind, rank, alpha }, config.task_type))
}

/// Names, shapes and values of a safetensors file, sorted by name; or what is wrong with it.
fn tensors(bytes: &[u8]) -> Result<Vec<LearnedTensor>, String> {
    let file = SafeTensors::deserialize(bytes);
    let file = file.map_err(|error| format!("is no whole safetensors file: {error}; copy or save it again"))?;
    let mut tensors = Vec::new();
    for (name, view) in file.iter() {
        let values = values(&view).map_err(|problem| format!("tensor `{name}` {problem}"))?;
        let short = name.strip_prefix(PREFIX).ok_or_else(|| {
            format!("tensor `{name}` does not begin with `{PREFIX}`; save the adapter with PEFT's `save_pretrained`")
        })?;
        // With a `bias` setting, PEFT saves the bias inside of the layer that it has wrapped.
        let short = short.replace(".base_layer.", ".").replace(".modules_to_save.", ".");
        tensors.push((short, view.shape().iter().map(|size| *size as u64).collect(), values));
    }
    if tensors.is_empty() {
        return Err("holds no tensor; save the adapter again".into());
    }
    tensors.order_by(|(one, ..), (other, ..)| one.cmp(other));
    Ok(tensors)
}

fn values(view: &TensorView) -> Result<Vec<f32>, String> {
    let bytes = view.data();
    let halves = |value: fn([u8; 2]) -> f32| bytes.as_chunks::<2>().0.iter().map(|bytes| value(*bytes)).collect();
    let values: Vec<f32> = match view.dtype() {
        Dtype::F32 => bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect(),
        Dtype::F64 => bytes.as_chunks::<8>().0.iter().map(|bytes| f64::from_le_bytes(*bytes) as f32).collect(),
        Dtype::F16 => halves(|bytes| half::f16::from_le_bytes(bytes).to_f32()),
        Dtype::BF16 => halves(|bytes| half::bf16::from_le_bytes(bytes).to_f32()),
        other => return Err(format!("is of type {other:?}; save it as float32, float16 or bfloat16")),
    };
    match values.iter().find(|value| !half::f16::from_f32(**value).is_finite()) {
        Some(value) => Err(format!("holds {value}, which fp16 does not; train it with a lower rate or weight decay")),
        None => Ok(values),
    }
}
