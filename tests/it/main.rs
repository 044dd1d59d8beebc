//! Tests as specification: one binary, one module per stage, and `tidy` for the architecture.

mod cache;
mod check;
mod cli;
mod data;
mod delta;
mod engine;
mod grad_cases;
mod grad_walk;
mod onnx_files;
mod optimizer;
mod solve;
mod tidy;
mod training;
