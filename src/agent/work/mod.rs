//! What an agent lets processes of edgetune's own do: train, predict, talk to the fleet; and the end of a training, when they have.
//!
//! The service loads no model and opens no connection: what crashes or is killed there is not the service, which keeps the memory of its
//! first minute.

pub mod conclusion;
pub mod frames;
pub mod predictor;
pub mod process;
pub mod request;
pub mod sync;
pub mod training;
