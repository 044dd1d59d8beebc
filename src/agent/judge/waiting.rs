//! What a device waits for before it learns: the configuration, the history and the samples, put beside what the device is like.
//!
//! The service asks it at each look, `edgetune agent status` once. Reads nothing itself.

use super::failing::{BLOCKED, trouble};
use super::policy::{Conditions, Policy, hinders_start};
use crate::agent::config::Config;
use crate::agent::record::adapters::Event;
use crate::agent::record::inventory::Inventory;

const DAY_S: i64 = 24 * 3600;

/// What is known of a device at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// How it is configured.
    pub config: &'a Config,
    /// What happened.
    pub history: &'a [Event],
    /// Whether a person asked for a training, and for one at once.
    pub asked: Option<bool>,
}

impl Known<'_> {
    /// The policy that holds now.
    pub fn policy(&self) -> Policy {
        match self.asked {
            Some(now) => self.config.policy.asked(now),
            None => self.config.policy.clone(),
        }
    }

    /// What `device` is like, with what samples and history add to it. `running_s` is how long a training of this moment has run.
    pub fn conditions(&self, inventory: &Inventory, device: Conditions, running_s: u64) -> Conditions {
        let trained = |event: &Event| match event {
            Event::Trained { at, seconds } if *at > device.now_unix_s - DAY_S && *at <= device.now_unix_s => *seconds,
            _ => 0,
        };
        let ended = self.history.iter().rev().find(|event| matches!(event, Event::Judged { release: None, .. }));
        let held_out_min = if self.asked == Some(true) { 1 } else { self.config.gate.held_out_min };
        Conditions {
            new_samples: inventory.unlearned(),
            last_ended_unix_s: ended.map(Event::at),
            trained_s: self.history.iter().map(trained).sum::<u64>() + running_s,
            held_out: [inventory.counts()[1], held_out_min],
            classes: inventory.classes(),
            ..device
        }
    }

    /// What is waited for, in words; nothing where training may begin.
    pub fn waits(&self, now: &Conditions) -> Vec<String> {
        let policy = self.policy();
        hinders_start(&policy, now).into_iter().map(|reason| reason.text(&policy, now)).collect()
    }

    /// What keeps the device from learning, in words. With other files than those that failed (`cause`), nothing does.
    pub fn trouble(&self, cause: &str, minute_of_day: u16, now_unix_s: i64) -> Option<String> {
        let trouble = trouble(self.history).filter(|trouble| trouble.is_with(cause))?;
        let text = trouble.text();
        let left_s = trouble.retry_unix_s() - now_unix_s;
        if trouble.equal >= BLOCKED {
            return Some(text);
        }
        if left_s <= 0 {
            return Some(format!("{text}; it is tried again at the next look"));
        }
        let minute = (i64::from(minute_of_day) + left_s / 60).rem_euclid(24 * 60);
        let (hour, minute) = (minute / 60, minute % 60);
        Some(format!("{text}; it is tried again at {hour:02}:{minute:02}, or when recipe, model or samples change"))
    }
}
