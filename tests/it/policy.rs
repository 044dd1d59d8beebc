//! A day of a device, by a fake clock: traces of load, heat, battery and memory against the policy, half a second a look.

use edgetune::agent::judge::policy::{Conditions, Hours, Policy, Reason, hinders_start, hinders_training};
use edgetune::agent::record::flash::WrittenBytes;
use std::collections::BTreeMap;

/// Seconds between two looks.
const LOOK_S: f64 = 0.5;
const DAY_S: i64 = 24 * 3600;
const BUDGET_BYTES: u64 = 100_000_000;
/// Bytes that a second of training writes.
const WRITES_PER_S: f64 = 20_000.0;
/// Seconds of training that a run takes.
const RUN_S: f64 = 1500.0;

/// A Raspberry Pi without a fan: what works heats it, and it cools towards the room within minutes.
struct Device {
    temperature_c: f64,
    random: fastrand::Rng,
}

impl Device {
    fn step(&mut self, work: f64) {
        const ROOM_C: f64 = 35.0;
        const RISE_C: f64 = 55.0;
        const MINUTES_S: f64 = 240.0;
        self.temperature_c += (ROOM_C + RISE_C * work - self.temperature_c) * LOOK_S / MINUTES_S;
    }

    fn noise(&mut self, size: f64) -> f64 {
        (self.random.f64() - 0.5) * size
    }
}

/// Share of the processors that others want at a second of the day: an application that wakes every quarter of an hour, and a
/// working day.
fn load(second: i64) -> f64 {
    let working = (8 * 3600..17 * 3600).contains(&second);
    let woken = second % 900 < 60;
    if woken {
        0.9
    } else if working {
        0.5
    } else {
        0.05
    }
}

#[test]
fn a_day_of_half_seconds_keeps_the_policy() {
    let policy = Policy {
        new_samples_min: Some(100),
        hours: Some(Hours { from: 18 * 60, to: 8 * 60 }),
        interval_min: Some(20),
        training_per_day_max_min: Some(100),
        ..Policy::default()
    };
    let mut device = Device { temperature_c: 40.0, random: fastrand::Rng::with_seed(5) };
    let mut ledger = WrittenBytes::default();
    let (mut running, mut left_s, mut trained_s, mut new_samples) = (false, 0.0, 0.0, 0.0);
    let (mut ended, mut finished, mut starts) = (None, 0, 0u32);
    let mut pauses: BTreeMap<String, u32> = BTreeMap::new();
    for look in 0..(DAY_S as f64 / LOOK_S) as i64 {
        let unix_s = 1_000_000 * DAY_S + (look as f64 * LOOK_S) as i64;
        let second = unix_s % DAY_S;
        new_samples += 500.0 * LOOK_S / 3600.0;
        let others = load(second);
        device.step((others + if running { 1.0 - others } else { 0.0 }).min(1.0));
        let written = ledger.day(unix_s);
        let now = Conditions {
            held_out: [20, 20],
            classes: 2,
            now_unix_s: unix_s,
            minute_of_day: (second / 60) as u16,
            new_samples: new_samples as u64,
            load: Some((others + device.noise(0.05)).clamp(0.0, 1.0) as f32),
            temperature_c: Some((device.temperature_c + device.noise(0.4)) as f32),
            on_battery: Some(second % 3600 / 60 == 20),
            memory_free_bytes: Some(if second % 3600 / 60 == 40 { 64 << 20 } else { 1 << 30 }),
            memory_pressure: Some(0.0),
            disk_free_bytes: Some(1 << 33),
            last_ended_unix_s: ended,
            trained_s: trained_s as u64,
            flash_left_bytes: Some(BUDGET_BYTES.saturating_sub(written)),
        };
        if left_s <= 0.0 && hinders_start(&policy, &now).is_empty() {
            (left_s, new_samples) = (RUN_S, 0.0);
        }
        let reason = (left_s > 0.0).then(|| hinders_training(&policy, &now, !running)).flatten();
        if let (true, Some(reason)) = (running, reason) {
            *pauses.entry(format!("{reason:?}")).or_default() += 1;
        }
        let before = std::mem::replace(&mut running, left_s > 0.0 && reason.is_none());
        starts += u32::from(running && !before);
        if running {
            // What the policy forbids is never on while it trains.
            assert!(now.load.unwrap() <= policy.load_max.unwrap() && now.temperature_c.unwrap() <= 75.0, "{now:?}");
            assert!(now.on_battery == Some(false) && now.memory_free_bytes.unwrap() >= 128_000_000, "{now:?}");
            assert!(policy.hours.unwrap().contain(now.minute_of_day), "{now:?}");
            assert!(trained_s <= 6000.0 && written < BUDGET_BYTES, "{now:?}");
            trained_s += LOOK_S;
            left_s -= LOOK_S;
            ledger.add(unix_s, (WRITES_PER_S * LOOK_S) as u64);
            if left_s <= 0.0 {
                (finished, ended) = (finished + 1, Some(unix_s));
            }
        }
    }
    println!(
        "{finished} trainings, {starts} starts, {trained_s} s, {} bytes, pauses {pauses:?}",
        ledger.day(1_000_001 * DAY_S - 1)
    );
    assert!(device.temperature_c < 80.0 && finished >= 1, "{finished}");
    for reason in [Reason::Temperature, Reason::Load, Reason::Memory, Reason::Battery] {
        let often = pauses.get(&format!("{reason:?}")).copied().unwrap_or(0);
        assert!((1..200).contains(&often), "{reason:?} paused it {often} times: {pauses:?}");
    }
    assert!(
        pauses.contains_key("Flash") != pauses.contains_key("Budget"),
        "one of the day's budgets ends it: {pauses:?}"
    );
}
