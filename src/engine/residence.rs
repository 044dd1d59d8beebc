//! Whether a session's frozen weights stay in the mapped file or are copied into private memory.
//!
//! What ONNX Runtime copies, measured with 1.32.0 on x86-64 (AVX-512): private memory after loading and five runs of a
//! batch of 4 over about 96 MiB of fp32 weights in a file beside the model (the last two: 96 MiB of fp16 and int8), arena
//! off, glibc's threshold as `runtime.rs` sets it; time as a ratio to the packed session's.
//!
//! | weights of | as ONNX Runtime does it | [`MAPPED`], without [`COPYING`] | slower by |
//! |---|---:|---:|---:|
//! | `Gemm` | 98 MiB: packed for the kernel | 2 MiB | 1.5 |
//! | `MatMul` | 98 MiB: packed | 2 MiB | 3 |
//! | `LSTM` | 98 MiB: packed | 2 MiB | 1.6 |
//! | `Conv` | 182 MiB: blocked by channels (level `All`; not asked by the switch for packing) | 5 MiB | 1.0 to 1.1 |
//! | `Conv` + `BatchNormalization` | 96 MiB (182 with glibc's own threshold): folded into new weights | 5 MiB | 1.1 to 1.2 |
//! | `Transpose` → `MatMul` | 98 MiB: folded, then packed | 2 MiB | 1.8 |
//! | `Gather` (embedding) | 1 MiB: read in place | 1 MiB | 1.0 |
//! | `Cast` from fp16 → `MatMul` | 194 MiB: widened | 10 MiB | 1.8 |
//! | `DequantizeLinear` → `MatMul` | 403 MiB with an arena: widened before the first product | 11 MiB | 0.8 |
//!
//! The last two need their nodes in an order in which ONNX Runtime widens a weight just before it is used
//! ([`Graph::constants_first`](crate::graph::Graph::constants_first)): otherwise it widens all of them first (202 and 403 MiB).
//! Alignment of the file's tensors, and whether they are handed over by path or by address, made no difference.

use crate::onnx::WeightsFile;
use std::fs;
use std::path::Path;

/// The session configuration under which, beside [`COPYING`], no weight of a file is copied. Entries that a version does not
/// know it ignores.
pub(super) const MAPPED: (&str, &str) = ("session.disable_prepacking", "1");

/// The optimisers that write weights anew.
pub(super) const COPYING: [&str; 7] = [
    "ConstantFolding",
    "FuseFp16InitializerToFp32NodeTransformer",
    "ConvBNFusion",
    "ConvMulFusion",
    "ConvAddFusion",
    "MatMulBatchNormFusion",
    "TransposeOptimizer",
];

/// Bytes of a model's weights, in its file and in the weights file that it refers to. A model that refers to files in
/// another way than a bundle's is measured by its own file alone; ONNX Runtime judges it when it is loaded.
pub(super) fn weights_bytes(model: &Path) -> u64 {
    let own = fs::metadata(model).map_or(0, |metadata| metadata.len());
    let beside = WeightsFile::reopen([model]).ok().flatten();
    own + beside.map_or(0, |file| file.tensors.values().map(|range| range.end - range.start).sum())
}
