//! A delta of whole layers as one of low-rank factors: the same adapter, smaller and nearly the same.
//!
//! Takes a base and a delta that was learned on it; gives the bytes of an ordinary LoRA delta. Never measures anything: the
//! metrics in the header stay those of the whole layers.

use super::artifact::{Adapter, method_to_wire};
use super::error::Error;
use super::prepare::Base;
use crate::adapter::{self, Kind, Method};
use crate::delta::{self, Delta, Payload, TensorValues};
use std::path::Path;

/// A delta of factors.
#[derive(Debug, Clone, PartialEq)]
pub struct Refactored {
    /// The delta, unsigned.
    pub bytes: Vec<u8>,
    /// The layers that became factors, each with the part of its change (a norm, 0…1) that is lost.
    pub lost: Vec<(String, f64)>,
}

/// The delta with each whole layer's change to its base as factors of this rank, where they are smaller than the layer. Other
/// tensors stay as they are.
///
/// # Errors
/// Another base; a delta that has a method already, for it can have one only; no layer that would become smaller.
pub fn refactor(base: &Base, path: &Path, bytes: &[u8], rank: u32) -> Result<Refactored, Error> {
    let learned = Adapter::from_bytes(path, bytes)?;
    let refuse = |problem: String| Error::Setting { setting: "delta.encoding = low-rank", problem };
    learned.refuse_other(base)?;
    if let Some(method) = learned.method {
        return Err(refuse(format!(
            "{} was trained with setting `adapter.method = {}`; choose another encoding",
            path.display(),
            method.kind
        )));
    }
    let factored = adapter::factored(&base.graph, &learned.change(), &learned.values(), rank)?;
    if factored.is_empty() {
        let problem =
            format!("{} has no whole layer that is larger than factors of rank {rank}; lower it", path.display());
        return Err(refuse(problem));
    }
    let refused = |source| Error::Delta { path: path.into(), source };
    let delta = Delta::parse(bytes).map_err(refused)?;
    let mut made: Vec<(&str, Vec<u32>, Payload)> = Vec::new();
    for view in delta.tensors().filter(|view| factored.iter().all(|layer| layer.weight != view.entry.name)) {
        made.push((view.entry.name, view.entry.shape.to_vec(), Payload::from_view(&view)));
    }
    for (name, shape, values) in factored.iter().flat_map(|layer| &layer.factors) {
        let payload = delta::encode(values, delta::Encoding::Fp16).map_err(refused)?;
        made.push((name, shape.iter().map(|size| *size as u32).collect(), payload));
    }
    let tensors: Vec<TensorValues> =
        made.iter().map(|(name, shape, payload)| TensorValues { name, shape, payload }).collect();
    let method = Some(method_to_wire(Method { kind: Kind::Lora, rank, alpha: rank as f32 }));
    let header = delta::Header { method, ..delta.header().clone() };
    let bytes = delta::write(&header, &delta.labels().collect::<Vec<_>>(), &tensors).map_err(refused)?;
    Ok(Refactored { bytes, lost: factored.into_iter().map(|layer| (layer.weight, layer.error)).collect() })
}
