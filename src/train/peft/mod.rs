//! Adapters in the layout of Hugging Face's PEFT, out and in: `adapter_model.safetensors` beside `adapter_config.json`.
//!
//! [`write()`] takes an adapter of low rank; [`read()`] takes a folder and gives what is in it, which [`fit()`] ties to a base
//! by the names of its modules. Both sides keep LoRA's factors in the same shapes, so only names are translated.
//! What only PyTorch can compute, or what another base was made for, is refused. Never runs Python.

mod fit;
mod read;
mod write;

pub use fit::{Fitted, Rename, fit};
pub use read::{Saved, read};
pub use write::write;

/// The file that says how the tensors are used.
pub const CONFIG: &str = "adapter_config.json";
/// The file with the tensors.
pub const TENSORS: &str = "adapter_model.safetensors";
/// What the name of a tensor begins with: PEFT wraps the model twice.
const PREFIX: &str = "base_model.model.";
/// What follows the module's name for LoRA's first factor, `[rank, in…]`.
const LORA_A: &str = ".lora_A.weight";
/// And for the second, `[out, rank…]`.
const LORA_B: &str = ".lora_B.weight";
