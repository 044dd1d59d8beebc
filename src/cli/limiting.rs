//! A server's limits: typed, or in a file that is read again at SIGHUP. What is typed wins.

use crate::fleet::Limits;
use anyhow::{Context, Result, ensure};
use clap::Args;
use serde::Deserialize;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

/// Limits, as far as somebody has said them.
#[derive(Debug, Clone, Default, Args, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Limiting {
    /// Bytes of a delta, at most [default: 16777216]
    #[arg(long, value_name = "BYTES")]
    delta_bytes_max: Option<u64>,
    /// Largest norm of a delta that is taken: the root of the sum of its squared values [default: 10000]
    #[arg(long, value_name = "NORM")]
    norm_max: Option<f64>,
    /// Connections at once; where there are more, those that ask nothing make room [default: 1024]
    #[arg(long, value_name = "N")]
    connections_max: Option<usize>,
    /// Connections of one address (of IPv6: of its /64) at once; trusted proxies may have all [default: 64]
    #[arg(long, value_name = "N")]
    connections_per_address: Option<usize>,
    /// Requests that an address, or a device wherever it asks from, may make a second in the long run [default: 200]
    #[arg(long, value_name = "N")]
    requests_per_s: Option<f64>,
    /// Deltas that a device may begin to send in a day [default: 200]
    #[arg(long, value_name = "N")]
    deltas_per_day: Option<u32>,
    /// Address of a proxy in front of the server; where requests come from is then what it says (x-forwarded-for). Without it, all
    /// that comes through a proxy is one address, and shares one limit
    #[arg(long, value_name = "ADDR")]
    trusted_proxy: Vec<IpAddr>,
    /// Days for which devices believe what the server has signed about a release; a device that hears nothing newer in this time
    /// says that somebody may be holding it back [default: 7]
    #[arg(long, value_name = "DAYS")]
    release_life: Option<u64>,
    /// Devices whose deltas a round must have before it can be closed: of fewer, what one has learned is plain to see [default: 5]
    #[arg(long, value_name = "N")]
    round_devices_min: Option<u32>,
    /// Rounds for which deltas are kept after their own round; after that only the database remembers them [default: 1]
    #[arg(long, value_name = "N")]
    keep_rounds: Option<i64>,
}

impl Limiting {
    /// The limits and trusted proxies, of what was typed (this) and of a file of settings.
    pub fn all(&self, settings: Option<&Path>) -> Result<(Limits, Vec<IpAddr>)> {
        let typed = self.limits(Limits::default()).map_err(|(name, what)| anyhow::anyhow!("--{name} {what}"))?;
        let Some(path) = settings else { return Ok((typed, self.trusted_proxy.clone())) };
        let file = read(path)?;
        let limits = file.limits(Limits::default()).and_then(|limits| self.limits(limits));
        let limits = limits.map_err(|(name, what)| anyhow::anyhow!("{}: {name} {what}", path.display()))?;
        let proxies = if self.trusted_proxy.is_empty() { file.trusted_proxy } else { self.trusted_proxy.clone() };
        Ok((limits, proxies))
    }

    /// These limits over others.
    ///
    /// # Errors
    /// The name of a limit, and what it must be.
    fn limits(&self, others: Limits) -> Result<Limits, (&'static str, &'static str)> {
        let limits = Limits {
            delta_bytes_max: self.delta_bytes_max.unwrap_or(others.delta_bytes_max),
            norm_max: self.norm_max.unwrap_or(others.norm_max),
            requests_per_s: self.requests_per_s.unwrap_or(others.requests_per_s),
            connections_max: self.connections_max.unwrap_or(others.connections_max),
            connections_per_address: self.connections_per_address.unwrap_or(others.connections_per_address),
            deltas_per_day: self.deltas_per_day.unwrap_or(others.deltas_per_day),
            release_life: self
                .release_life
                .map_or(others.release_life, |days| Duration::from_secs(days.min(3651) * DAY_S)),
            round_devices_min: self.round_devices_min.unwrap_or(others.round_devices_min),
            keep_rounds: self.keep_rounds.unwrap_or(others.keep_rounds),
            ..others
        };
        let (days, least) = (limits.release_life.as_secs() / DAY_S, "must be 1 or more");
        let checks = [
            ("delta-bytes-max", limits.delta_bytes_max > 0, least),
            ("norm-max", limits.norm_max > 0.0, "must be above 0, or no delta is taken"),
            ("requests-per-s", limits.requests_per_s > 0.0, "must be above 0, or nobody is answered"),
            ("connections-max", limits.connections_max > 0, least),
            ("connections-per-address", limits.connections_per_address > 0, least),
            ("deltas-per-day", limits.deltas_per_day > 0, least),
            ("release-life", (1..=3650).contains(&days), "must be 1 to 3650 days"),
            ("round-devices-min", limits.round_devices_min > 0, least),
            ("keep-rounds", limits.keep_rounds >= 0, "must be 0 or more"),
        ];
        checks.iter().find(|(_, is_so, _)| !is_so).map_or(Ok(limits), |(name, _, what)| Err((name, what)))
    }
}

const DAY_S: u64 = 24 * 3600;

fn read(path: &Path) -> Result<Limiting> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    ensure!(text.len() < 1 << 16, "{}: no settings are that long", path.display());
    toml::from_str(&text)
        .with_context(|| format!("{}: its keys are the options of serve that limit it", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_wins_over_the_file_and_both_are_looked_at() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("settings.toml");
        let write = |text: &str| std::fs::write(&path, text).unwrap();
        let typed = Limiting { keep_rounds: Some(4), ..Limiting::default() };
        assert_eq!(Limiting::default().all(None).unwrap(), (Limits::default(), Vec::new()));
        write("requests-per-s = 7\nkeep-rounds = 9\nrelease-life = 3\ntrusted-proxy = [\"10.0.0.1\"]\n");
        let (limits, proxies) = typed.all(Some(&path)).unwrap();
        let days = Duration::from_secs(3 * DAY_S);
        assert_eq!((limits.requests_per_s, limits.keep_rounds, limits.release_life), (7.0, 4, days));
        assert_eq!((limits.norm_max, proxies), (1e4, vec![IpAddr::from([10, 0, 0, 1])]));
        for (text, parts) in [
            ("request-per-s = 7", ["settings.toml", "request-per-s"]),
            ("requests-per-s = 0", ["settings.toml", "requests-per-s must be above 0"]),
            ("release-life = 99999999999999999", ["settings.toml", "1 to 3650"]),
            ("trusted-proxy = [\"x\"]", ["settings.toml", "trusted-proxy"]),
        ] {
            write(text);
            let refused = format!("{:#}", typed.all(Some(&path)).unwrap_err());
            assert!(parts.iter().all(|part| refused.contains(part)), "{refused}");
        }
        let refused = Limiting { deltas_per_day: Some(0), ..Limiting::default() }.all(None).unwrap_err().to_string();
        assert_eq!(refused, "--deltas-per-day must be 1 or more");
    }
}
