//! Samples that go: those that have lain as long as `samples.keep-days` allows, and those that somebody wants to be forgotten.

use super::Service;
use crate::agent::moment::Moment;
use crate::agent::record::forgetting::{came_before, forget};
use crate::agent::record::run;
use crate::agent::record::sample_name::Name;
use crate::agent::work::process;
use anyhow::Result;

/// How often it is looked for them.
const LOOK_S: f64 = 3600.0;
const DAY_S: i64 = 24 * 3600;
/// On whose word they go.
const SETTING: &str = "keep-days";

impl Service<'_> {
    /// Deletes what is too old. What cannot be deleted now may be at the next look.
    pub(super) fn delete_expired(&mut self, now: Moment) {
        let Some(days) = self.config.samples.keep_days else { return };
        if now.steady_s - self.expired_s < LOOK_S {
            return;
        }
        self.expired_s = now.steady_s;
        let before_s = now.unix_s - i64::from(days) * DAY_S;
        let deleted = came_before(&self.config.state, before_s).map_err(|error| error.to_string()).and_then(|names| {
            let delete = |name| self.board.store.delete(name, SETTING, now.unix_s);
            names.iter().try_for_each(delete).map_err(|error| error.to_string()).map(|()| names.len())
        });
        match deleted {
            Ok(0) => {}
            Ok(count) => tracing::info!(count, days, "deleted samples that were older than samples.keep-days"),
            Err(error) => tracing::error!(error, "samples that are older than samples.keep-days cannot be deleted"),
        }
    }

    /// Forgets samples, and learns without them soon. A process that is at work has them open: it ends, and what it came to is lost.
    pub(super) fn forget(&mut self, samples: &[Name], now: Moment) -> Result<()> {
        let state = self.config.state.clone();
        if let Some(mut work) = self.work.take() {
            work.child.kill()?;
            work.child.wait()?;
        }
        self.again |= run::current(&state)?.is_some_and(|run| run.release.is_none());
        forget(&state, &process::cache(&self.config), &self.board.store, samples, now.unix_s)?;
        tracing::info!(samples = samples.len(), "forgot samples");
        Ok(())
    }
}
