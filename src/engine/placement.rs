//! Which provider computes which node: asserted by looking, for a provider that is registered may still hand nodes to the CPU.

use super::session::{Options, Session};
use super::{Error, Result};
use crate::graph::Tensor;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// The nodes that one provider computes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// ONNX Runtime's name of the provider.
    pub provider: String,
    /// How many nodes of each operator, as ONNX Runtime has rewritten the graph: fused nodes count once.
    pub operators: BTreeMap<String, usize>,
}

/// One line of ONNX Runtime's profile; what else it holds is not read.
#[derive(Deserialize)]
struct Line {
    #[serde(default)]
    cat: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    args: Arguments,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Arguments {
    op_name: String,
    provider: String,
}

/// Runs a model once with ONNX Runtime's profiler, and reads from its profile which provider computed which node. The
/// profile is written into `scratch`, which must be there, and removed.
///
/// # Errors
/// As [`Session::from_file`] and [`Session::run`], and [`Error::Profile`].
pub fn placement(model: &Path, options: &Options, inputs: &[(&str, &Tensor)], scratch: &Path) -> Result<Vec<Placed>> {
    let mut session = Session::from_file_profiled(model, options, Some(&scratch.join("edgetune-profile")))?;
    session.run(inputs)?;
    let profile = session.end_profiling()?;
    let text = fs::read(&profile);
    // What cannot be removed from a scratch folder goes with the folder.
    let _ = fs::remove_file(&profile);
    let refused = |problem: String| Error::Profile { path: profile.clone(), problem };
    read(&text.map_err(|error| refused(error.to_string()))?).map_err(|error| refused(error.to_string()))
}

/// Kernels run once in one run; each has one line whose name ends so.
fn read(profile: &[u8]) -> serde_json::Result<Vec<Placed>> {
    let lines: Vec<Line> = serde_json::from_slice(profile)?;
    let mut providers: BTreeMap<String, BTreeMap<String, usize>> = BTreeMap::new();
    for line in lines.into_iter().filter(|line| line.cat == "Node" && line.name.ends_with("_kernel_time")) {
        *providers.entry(line.args.provider).or_default().entry(line.args.op_name).or_default() += 1;
    }
    Ok(providers.into_iter().map(|(provider, operators)| Placed { provider, operators }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_counted_by_provider_and_all_else_is_not() {
        let profile = br#"[
            {"cat": "Session", "name": "session_initialization", "dur": 3, "args": {}},
            {"cat": "Node", "name": "a_fence_before", "args": {"op_name": "Conv"}},
            {"cat": "Node", "name": "a_kernel_time", "args": {"op_name": "Conv", "provider": "XnnpackExecutionProvider"}},
            {"cat": "Node", "name": "b_kernel_time", "args": {"op_name": "Conv", "provider": "XnnpackExecutionProvider"}},
            {"cat": "Node", "name": "c_kernel_time", "args": {"op_name": "Gemm", "provider": "CPUExecutionProvider"}}
        ]"#;
        let placed = read(profile).unwrap();
        let counts: Vec<(&str, usize)> =
            placed.iter().map(|placed| (placed.provider.as_str(), placed.operators.values().sum())).collect();
        assert_eq!(counts, [("CPUExecutionProvider", 1), ("XnnpackExecutionProvider", 2)]);
        assert_eq!(placed[1].operators["Conv"], 2);
        assert!(read(b"[{").is_err());
    }
}
