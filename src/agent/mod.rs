//! The daemon: samples come in through a folder or the API, training starts by policy, an adapter is used only if it is
//! better, and as long as it keeps what it promised.
//!
//! Takes a configuration and the outside world as arguments; gives adapters in its state, and a history that says why each
//! is used or not. `policy`, `gate`, `feedback`'s judgement and `drift` are pure; `service` is the loop, `api` answers beside
//! it, `board` is what both know. It never talks to another machine, trains or predicts in its own process:
//! `edgetune fleet sync` and `edgetune train` do the ones and `predictor` keeps a process for the other, so that a service of weeks keeps the memory
//! of its first minute.

pub mod adapters;
pub mod api;
pub mod aside;
pub mod asked;
pub mod board;
pub mod conclusion;
pub mod config;
pub mod drift;
pub mod failing;
pub mod feedback;
pub mod flash;
pub mod frames;
pub mod gate;
pub mod inventory;
pub mod listing;
pub mod member;
pub mod notify;
pub mod policy;
pub mod predictor;
pub mod refused;
pub mod samples;
pub mod service;
pub mod spool;
pub mod training;
pub mod waiting;
