//! An adapter → a folder of PEFT.
//!
//! Takes an adapter of low rank whose module names are those of the PyTorch model that the base was exported from; gives
//! the two files. Never looks at the base: a name that PyTorch cannot have is refused. A head that was appended to
//! the base is no module of it and is left out.

use super::{CONFIG, LORA_A, LORA_B, PREFIX, TENSORS};
use crate::adapter::{Kind, Method};
use crate::atomic::write_atomically;
use crate::train::artifact::{Adapter, LearnedTensor};
use crate::train::error::Error;
use safetensors::tensor::{Dtype, TensorView, serialize};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;

/// Writes the adapter into a folder, which is made if it is not there.
///
/// # Errors
/// An adapter that PEFT has no layout for, or files that cannot be written.
pub fn write(folder: &Path, learned: &Adapter) -> Result<(), Error> {
    let config = config(learned)?;
    std::fs::create_dir_all(folder).map_err(|source| Error::io(folder, source))?;
    let text = serde_json::to_vec_pretty(&config).expect("plain values always encode");
    for (name, bytes) in [(CONFIG, text), (TENSORS, encode(learned))] {
        let path = folder.join(name);
        write_atomically(&path, |writer| writer.write_all(&bytes)).map_err(|source| Error::io(&path, source))?;
    }
    Ok(())
}

/// All tensors but those of a head that was appended: the PyTorch model has no such module.
fn exported(learned: &Adapter) -> impl Iterator<Item = &LearnedTensor> {
    let appended = learned.head.is_some();
    learned.tensors.iter().filter(move |(name, _, _)| !appended || !name.starts_with("edgetune.head."))
}

/// What PEFT's `LoraConfig` has to know to load the tensors.
fn config(learned: &Adapter) -> Result<Value, Error> {
    let refuse = |problem: String| Error::Setting { setting: "to = safetensors", problem };
    let Some(Method { kind, rank, alpha }) = learned.method else {
        return Err(refuse("whole layers are no PEFT adapter; export with setting `to = onnx`".into()));
    };
    if !matches!(kind, Kind::Lora | Kind::RsLora) {
        return Err(refuse(format!(
            "{kind} has no layout that stands without the base; export with setting `to = onnx`"
        )));
    }
    let (mut targets, mut saved) = (BTreeSet::new(), BTreeSet::new());
    for (name, _, _) in exported(learned) {
        let factor = [LORA_A, LORA_B].iter().find_map(|suffix| name.strip_suffix(suffix));
        let parameter = [".weight", ".bias"].iter().find_map(|suffix| name.strip_suffix(suffix));
        let module = factor.or(parameter).filter(|module| is_module(module));
        let module = module.ok_or_else(|| {
            refuse(format!("tensor `{name}` has no name of a PyTorch module; export with setting `to = onnx`"))
        })?;
        if factor.is_some() {
            targets.insert(module)
        } else {
            saved.insert(module)
        };
    }
    Ok(json!({
        "peft_type": "LORA",
        "base_model_name_or_path": null,
        "task_type": null,
        "inference_mode": true,
        "r": rank,
        "lora_alpha": alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": false,
        "use_rslora": kind == Kind::RsLora,
        "use_dora": false,
        "target_modules": targets,
        "modules_to_save": if saved.is_empty() { Value::Null } else { json!(saved) },
    }))
}

/// Whether a text can be a path of PyTorch attributes: `encoder.layer.0.query`.
fn is_module(name: &str) -> bool {
    let is_part = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    name.split('.').all(is_part)
}

/// The bytes of a safetensors file of float32.
fn encode(learned: &Adapter) -> Vec<u8> {
    let tensors: Vec<(String, Vec<usize>, Vec<u8>)> = exported(learned)
        .map(|(name, shape, values)| {
            let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            (format!("{PREFIX}{name}"), shape.iter().map(|size| *size as usize).collect(), bytes)
        })
        .collect();
    let views = tensors.iter().map(|(name, shape, bytes)| {
        (name, TensorView::new(Dtype::F32, shape.clone(), bytes).expect("a delta's tensors have their shape's size"))
    });
    // Loaders of transformers ask whose layout it is.
    let metadata = [("format".to_string(), "pt".to_string())].into_iter().collect();
    serialize(views, Some(metadata)).expect("a delta's names fit into the header")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delta::Task;
    use crate::train::loss::Loss;

    fn adapter(names: [&str; 2]) -> Adapter {
        let tensor = |name: &str, shape: [u64; 2]| (name.to_string(), shape.to_vec(), vec![0.5, -1.0]);
        Adapter {
            path: "a".into(),
            base: [0; 32],
            labels: Vec::new(),
            task: Task::Classification,
            loss: Loss::MeanSquaredError,
            output: "logits".into(),
            head: None,
            method: Some(Method { kind: Kind::Lora, rank: 1, alpha: 2.0 }),
            seed: 0,
            preprocessing: crate::data::Preprocessing::Plain,
            tensors: vec![tensor(names[0], [1, 2]), tensor(names[1], [2, 1])],
            batch_axis: None,
            bytes: 0,
        }
    }

    #[test]
    fn files_are_those_that_peft_writes() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &adapter(["layer.0.query.lora_A.weight", "layer.0.query.lora_B.weight"])).unwrap();
        let config = std::fs::read(folder.path().join("adapter_config.json")).unwrap();
        let config: Value = serde_json::from_slice(&config).unwrap();
        assert_eq!(config["target_modules"], json!(["layer.0.query"]));
        assert_eq!(
            (&config["r"], &config["lora_alpha"], &config["modules_to_save"]),
            (&json!(1), &json!(2.0), &Value::Null)
        );
        let bytes = std::fs::read(folder.path().join("adapter_model.safetensors")).unwrap();
        let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        assert_eq!(length % 8, 0);
        let header: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
        let b = json!({ "dtype": "F32", "shape": [2, 1], "data_offsets": [8, 16] });
        assert_eq!(header["__metadata__"]["format"], "pt");
        assert_eq!(header["base_model.model.layer.0.query.lora_B.weight"], b);
        assert_eq!(bytes[8 + length..], [0.5f32, -1.0, 0.5, -1.0].map(f32::to_le_bytes).concat());
    }

    #[test]
    fn names_that_no_module_has_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let refused = write(folder.path(), &adapter(["onnx::MatMul_12", "layer.0.query.lora_B.weight"]));
        assert!(refused.unwrap_err().to_string().contains("onnx::MatMul_12"));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
