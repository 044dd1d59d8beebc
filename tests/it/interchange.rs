//! Adapters in and out of other programs: what is written is loaded by the program that it is for, which gives the same answers.

mod arrays;
mod flatbuffer;
mod merged;
mod onnx_runtime;
mod peft;
mod python;
