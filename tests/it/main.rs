//! Tests as specification: one binary, one module per stage, and `tidy` for the architecture.

mod adapter;
mod aggregate;
mod alone;
mod application;
mod cache;
mod check;
mod cli;
mod control_flow;
mod data;
mod delta;
mod endings;
mod engine;
mod engine_types;
mod examples;
mod exporters;
mod families;
mod fit;
mod genai;
mod grad_cases;
mod grad_walk;
mod half;
mod interchange;
mod language;
mod moments;
mod onnx_files;
mod optimizer;

mod peft;
mod plan;
mod policy;
mod pooling;
#[path = "../power/client.rs"]
mod power;
mod quantised;
mod recompute;
mod segments;
mod slices;
mod solve;
mod tasks;
mod tidy;
mod training;
mod transformers;
