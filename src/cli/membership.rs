//! What the commands of `edgetune fleet` share: where the device's membership lies, and the world that it acts in.

use super::args::Global;
use crate::agent::config::Config;
use crate::sync::client::{Client, Folder, Outside};
use anyhow::{Context, Result};
use clap::Args;
use std::path::PathBuf;
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

/// How long a command stays at it.
#[derive(Debug, Clone, Args)]
pub struct Patience {
    /// Failures in a row of one request until it is given up
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=100))]
    tries: u32,
    /// Kilobytes that go each way in a second, at most [default: any number]
    #[arg(long, value_name = "KB", value_parser = clap::value_parser!(u64).range(1..))]
    limit_rate: Option<u64>,
}

impl Patience {
    /// The device's clock, chance and patience.
    pub fn outside(&self) -> Outside<'static> {
        Outside {
            clock_ms: &clock_ms,
            chance: &fastrand::f64,
            sleep: &thread::sleep,
            tries: self.tries,
            bytes_per_s: self.limit_rate.map(|kilobytes| kilobytes.saturating_mul(1000)),
        }
    }
}

/// Whom a device sends to.
#[derive(Debug, Clone, Args)]
pub struct Demand {
    /// Send only to channels whose rounds have at least so many devices, as the fleet has signed it; from a round of few devices,
    /// what one of them has learned is easy to tell
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    devices_min: Option<u32>,
}

impl Demand {
    /// Has a client heed it.
    pub fn to(&self, client: &mut Client<'_>, folder: &Folder) -> Result<()> {
        Ok(self.devices_min.map_or(Ok(()), |devices_min| client.demand(devices_min, folder))?)
    }
}

/// Where a device keeps what it is in the fleet.
#[derive(Debug, Clone, Args)]
pub struct State {
    /// Where the device's key and its membership lie [default: $XDG_DATA_HOME/edgetune/fleet or ~/.local/share/edgetune/fleet]
    #[arg(long, value_name = "DIR", env = "EDGETUNE_FLEET_STATE", hide_env_values = true)]
    state: Option<PathBuf>,
    /// The agent's configuration, whose section [fleet] names the folder [default: as for --state]
    #[arg(long, value_name = "FILE", conflicts_with = "state")]
    config: Option<PathBuf>,
}

impl State {
    /// The folder, made where it is missing.
    pub fn open(&self, global: &Global) -> Result<Folder> {
        if let Some(file) = &self.config {
            let remedy = || format!("{}: it has no [fleet]; write one, with `channel` and `share`", file.display());
            return Ok(Folder::open(&Config::read(file)?.fleet.with_context(remedy)?.state)?);
        }
        let default = || global.choice().data_folder.map(|data| data.join("fleet"));
        let path = self.state.clone().or_else(default);
        let path = path.context("neither HOME nor XDG_DATA_HOME is set; say where to keep the key with --state DIR")?;
        Ok(Folder::open(&path)?)
    }
}

/// The system's clock in milliseconds since 1970.
pub fn clock_ms() -> u64 {
    // A clock that stands before 1970 knows no better than 1970.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |passed| passed.as_millis() as u64)
}

/// 32 bytes for a key.
pub fn secret() -> Result<[u8; 32], String> {
    let mut secret = [0; 32];
    getrandom::fill(&mut secret).map_err(|error| error.to_string())?;
    Ok(secret)
}

/// What the device calls itself: the name of its system, else none.
pub fn host_name() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    Some(name.trim().to_owned()).filter(|name| !name.is_empty())
}
