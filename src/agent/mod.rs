//! The daemon: samples come in through a folder, training starts by policy, an adapter is used only if it is better.
//!
//! Takes a configuration and the outside world as arguments; gives adapters in its state, and a history that says why each
//! is used or not. `policy` and `gate` are pure; `service` is the loop. It never talks to a network, and never trains in its
//! own process: `edgetune train` does that, so that a service of weeks keeps the memory of its first minute.

pub mod adapters;
pub mod api;
pub mod board;
pub mod conditions;
pub mod config;
pub mod drift;
pub mod feedback;
pub mod flash;
pub mod frames;
pub mod gate;
pub mod notify;
pub mod policy;
pub mod predictor;
pub mod samples;
pub mod service;
pub mod training;
