//! Where a fleet's server keeps its state, as all commands that work on it are told.

use crate::fleet::Store;
use anyhow::{Context, Result};
use clap::Args;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

/// Where it lies.
#[derive(Debug, Clone, Args)]
pub struct Place {
    /// The server's own files; made where it is missing
    #[arg(long, value_name = "DIR", default_value = "/var/lib/edgetune-fleet")]
    pub data: PathBuf,
    /// `postgres://…` or `sqlite:PATH` [default: DIR/fleet.sqlite]
    #[arg(long, value_name = "URL", env = "EDGETUNE_FLEET_DATABASE", hide_env_values = true)]
    database: Option<String>,
    /// Where deltas lie, `s3://BUCKET/PREFIX` [default: DIR/deltas]
    #[arg(long, value_name = "URL", env = "EDGETUNE_FLEET_STORE")]
    store: Option<String>,
}

impl Place {
    /// The database's address. SQLite's is made where it is missing if `is_made`.
    pub fn database(&self, is_made: bool) -> String {
        let mode = if is_made { "rwc" } else { "rw" };
        let own = || format!("sqlite:{}?mode={mode}", self.data.join("fleet.sqlite").display());
        self.database.clone().unwrap_or_else(own)
    }

    /// The store; `is_direct`: devices fetch from it themselves.
    pub fn store(&self, is_direct: bool) -> Result<Store> {
        let Some(url) = &self.store else {
            let deltas = self.data.join("deltas");
            // For the server's eyes only: keys lie beside it.
            let made = DirBuilder::new().recursive(true).mode(0o700).create(&deltas);
            made.with_context(|| {
                format!("{} cannot be made; name a writable folder with --data DIR", deltas.display())
            })?;
            return Ok(Store::folder(&deltas)?);
        };
        let options = std::env::vars().filter(|(name, _)| name.starts_with("AWS_"));
        let options: Vec<(String, String)> = options.map(|(name, value)| (name.to_lowercase(), value)).collect();
        Ok(Store::at(url, &options, is_direct)?)
    }
}
