//! What an agent knows, as files of its state: each is whole on the disk when the function that writes it returns.
//!
//! Reads and writes `STATE`; decides nothing. `lines` and `folders` are how its files are read, the others are a kind of record each.

pub mod adapters;
pub mod aside;
pub mod asked;
pub mod events;
pub mod feedback;
pub mod flash;
pub mod folders;
pub mod forgetting;
pub mod inventory;
pub mod ledger;
pub mod lines;
pub mod listing;
pub mod membership;
pub mod refused;
pub mod run;
pub mod sample_name;
pub mod samples;
