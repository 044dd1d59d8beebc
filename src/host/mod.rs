//! The machine that a training, a prediction or the agent runs on: its memory, processors, temperature, power, energy, what is written
//! to its disks, and the folders that things are kept in.
//!
//! Reads what the system tells of itself (`/proc`, control groups) and the environment's word on folders; gives plain values.
//! Never loads a model, never decides.

mod conditions;
mod energy;
mod folders;
mod memory;
mod writes;

pub use conditions::{Processors, memory_pressure, on_battery, temperature_c};
pub use energy::EnergyWatch;
pub use folders::{Error as FolderError, Folders};
#[cfg(feature = "fleet")]
pub use memory::processor_seconds;
pub use memory::{MemoryWatch, available_bytes, installed_bytes, private_bytes, written_bytes};
pub use writes::WriteMeter;
