//! The daemon: samples come in through a folder or the API, training starts by policy, an adapter is used only if it is
//! better, and as long as it keeps what it promised.
//!
//! Takes a configuration and the outside world as arguments; gives adapters in its state, and a history that says why each
//! is used or not. `record` is what lies in the state, `judge` decides and is pure, `work` has the processes; `service` is the loop, `api`
//! answers beside it, `board` is what both know. It never talks to another machine, trains or predicts in its own process:
//! `edgetune fleet sync` and `edgetune train` do the ones and `work::predictor` keeps a process for the other, so that a service of weeks
//! keeps the memory of its first minute.

pub mod api;
pub mod board;
pub mod config;
pub mod judge;
pub mod locks;
pub mod moment;
pub mod record;
pub mod service;
pub mod work;
