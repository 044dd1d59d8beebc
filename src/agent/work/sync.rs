//! The process that talks to the fleet's server, `edgetune fleet sync`, and when it is started: at the hours that the configuration
//! gives, not at the same moment as other devices, and soon where something waits to be sent.

use super::process::edgetune;
use crate::agent::config::Fleet;
use crate::agent::moment::Moment;
use crate::agent::record::membership::{Offer, offer};
use anyhow::{Context, Result};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Seconds, at most, until the server is told what has just come about.
const SOON_S: f64 = 60.0;

/// The process that talks to the server, and when it does so next.
#[derive(Debug, Default)]
pub struct Syncing {
    child: Option<Child>,
    /// Seconds of the clock that nobody sets; none before the first look.
    next_s: Option<f64>,
    offer: Option<Offer>,
}

impl Syncing {
    /// What the server offers, as far as it has been heard.
    pub fn offer(&self) -> Option<&Offer> {
        self.offer.as_ref()
    }

    /// The process, while there is one.
    pub fn process(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Starts the process when it is time and waits for its end. `chance` is drawn evenly from 0…1.
    ///
    /// # Errors
    /// A process that cannot be started, files that cannot be read.
    pub fn sync_when_due(
        &mut self,
        program: &Path,
        cache: &Path,
        fleet: &Fleet,
        now: Moment,
        chance: f64,
    ) -> Result<()> {
        let poll_s = fleet.poll_s as f64;
        let Some(next_s) = self.next_s else {
            self.next_s = Some(now.steady_s + chance * poll_s.min(SOON_S));
            self.offer = offer(fleet)?;
            return Ok(());
        };
        if let Some(child) = &mut self.child {
            let Some(status) = child.try_wait()? else { return Ok(()) };
            self.child = None;
            self.next_s = Some(now.steady_s + poll_s * (0.5 + chance));
            if !status.success() {
                tracing::warn!("the fleet's server was not reached, or refused something; it is asked again later");
            }
            self.offer = offer(fleet)?;
        } else if now.steady_s >= next_s && fleet.hours.is_none_or(|hours| hours.contain(now.minute_of_day)) {
            self.child = Some(spawn(edgetune(program, cache), fleet)?);
        }
        Ok(())
    }

    /// Something waits for the server: it is asked soon.
    pub fn soon(&mut self, fleet: &Fleet, now: Moment, chance: f64) {
        let soon_s = now.steady_s + chance * SOON_S.min(fleet.poll_s as f64);
        self.next_s = Some(self.next_s.map_or(soon_s, |next_s| next_s.min(soon_s)));
    }

    /// Ends the process: what it was at goes on the next time.
    ///
    /// # Errors
    /// The system's.
    pub fn end(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }
}

/// What it says of failures goes to where the service's own words go.
fn spawn(mut command: Command, fleet: &Fleet) -> Result<Child> {
    command.args(["fleet", "sync", "--channel"]).arg(&fleet.channel).arg("--state").arg(&fleet.state);
    if let Some(devices) = fleet.devices_min {
        command.arg("--devices-min").arg(devices.to_string());
    }
    if let Some(rate) = fleet.limit_rate_kb {
        command.arg("--limit-rate").arg(rate.to_string());
    }
    let program = command.get_program().to_string_lossy().into_owned();
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command.spawn().with_context(|| format!("cannot start {program}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::judge::policy::Hours;
    use crate::delta::Counting;
    use std::path::PathBuf;

    fn fleet(state: &Path) -> Fleet {
        Fleet {
            channel: "photos".into(),
            share: true,
            state: state.into(),
            poll_s: 100,
            hours: Some(Hours { from: 60, to: 120 }),
            limit_rate_kb: None,
            devices_min: None,
            samples_min: 5,
            counts: Counting::Exact,
        }
    }

    fn at(steady_s: f64, minute_of_day: u16) -> Moment {
        Moment { unix_s: 0, minute_of_day, steady_s }
    }

    /// With a program that ends at once: when it is started, and when again.
    #[test]
    fn the_server_is_asked_at_its_hours_and_again_by_chance() {
        let place = tempfile::tempdir().unwrap();
        let (program, fleet) = (PathBuf::from("/bin/true"), fleet(place.path()));
        let mut syncing = Syncing::default();
        let look = |syncing: &mut Syncing, steady_s, minute, chance| {
            syncing.sync_when_due(&program, place.path(), &fleet, at(steady_s, minute), chance).unwrap();
            syncing.process().is_some()
        };
        assert!(!look(&mut syncing, 10.0, 70, 0.5), "the first time within a minute");
        assert!(!look(&mut syncing, 39.0, 70, 0.5));
        assert!(!look(&mut syncing, 40.0, 59, 0.5) && !look(&mut syncing, 40.0, 120, 0.5), "not at these hours");
        assert!(look(&mut syncing, 40.0, 119, 0.5));
        while look(&mut syncing, 50.0, 70, 0.2) {}
        assert!(
            !look(&mut syncing, 119.0, 70, 0.0) && look(&mut syncing, 120.0, 70, 0.0),
            "half the time, and 0.2 of it"
        );
        while look(&mut syncing, 130.0, 70, 1.0) {}
        syncing.soon(&fleet, at(140.0, 70), 0.5);
        assert!(!look(&mut syncing, 169.0, 70, 0.0) && look(&mut syncing, 170.0, 70, 0.0));
        syncing.end().unwrap();
        assert_eq!(syncing.process(), None);
    }
}
