//! Tests as specification: one binary, one module per stage, and `tidy` for the architecture.

mod adapter;
mod cache;
mod check;
mod cli;
mod control_flow;
mod data;
mod delta;
mod engine;
mod engine_types;
mod families;
mod fit;
mod grad_cases;
mod grad_walk;
mod interchange;
mod language;
mod onnx_files;
mod optimizer;
mod peft;
mod plan;
mod pooling;
mod quantised;
mod recompute;
mod solve;
mod tidy;
mod training;
mod transformers;
