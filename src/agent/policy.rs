//! When to train: a pure function of the policy and of what the device is like at the moment.
//!
//! Every number arrives as an argument; nothing is read, waited for or remembered. The order of the questions is the order
//! in which a person would want to hear the answer.

use serde::{Deserialize, Serialize};

const MINUTES_PER_DAY: u16 = 24 * 60;
/// A pause for heat or load ends where these are below their limits by this share: a limit crossed back and forth would
/// start and stop the training at every look.
const RELIEF: f32 = 0.9;

/// What the owner of the device allows. The defaults suit a Raspberry Pi on mains that also serves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Policy {
    /// Samples since the last training without which none begins.
    pub new_samples_min: u64,
    /// Local time in which training may begin and go on, such as `22:00-06:00`; none is any time.
    pub hours: Option<Hours>,
    /// Share of the processors' time that others than the training may use, from 0 to 1; 1 never minds them.
    pub load_max: f32,
    /// Degrees Celsius of the hottest thermal zone.
    pub temperature_max_c: f32,
    /// Whether to train on battery.
    pub on_battery: bool,
    /// Megabytes of memory that must be left.
    pub memory_free_min_mb: u64,
    /// Share of time, in percent over ten seconds, in which some process waited for memory (PSI `some avg10`).
    pub memory_pressure_max: f32,
    /// Megabytes of disk that must be left.
    pub disk_free_min_mb: u64,
    /// Minutes between the end of a training and the beginning of the next.
    pub interval_min: u64,
    /// Minutes of training in any 24 hours.
    pub training_per_day_max_min: u64,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            new_samples_min: 50,
            hours: None,
            load_max: 0.7,
            temperature_max_c: 75.0,
            on_battery: false,
            memory_free_min_mb: 128,
            memory_pressure_max: 10.0,
            disk_free_min_mb: 256,
            interval_min: 60,
            training_per_day_max_min: 120,
        }
    }
}

/// A part of each day, in minutes since midnight; it may go past midnight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Hours {
    /// The first minute.
    pub from: u16,
    /// The minute after the last; the same as `from` is the whole day.
    pub to: u16,
}

impl Hours {
    /// Whether a minute of the day is in it.
    pub fn contain(self, minute: u16) -> bool {
        let since = |start: u16| (minute + MINUTES_PER_DAY - start) % MINUTES_PER_DAY;
        let length = (self.to + MINUTES_PER_DAY - self.from) % MINUTES_PER_DAY;
        length == 0 || since(self.from) < length
    }
}

impl TryFrom<String> for Hours {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let minute = |text: &str| {
            let (hours, minutes) = text.trim().split_once(':')?;
            let (hours, minutes) = (hours.parse::<u16>().ok()?, minutes.parse::<u16>().ok()?);
            (hours < 24 && minutes < 60).then_some(hours * 60 + minutes)
        };
        let parts = text.split_once('-').and_then(|(from, to)| Some((minute(from)?, minute(to)?)));
        let (from, to) = parts.ok_or_else(|| format!("`{text}`: write two times of the day, such as 22:00-06:00"))?;
        Ok(Self { from, to })
    }
}

impl From<Hours> for String {
    fn from(hours: Hours) -> String {
        let time = |minute: u16| format!("{:02}:{:02}", minute / 60, minute % 60);
        format!("{}-{}", time(hours.from), time(hours.to))
    }
}

/// What the device is like. What it does not tell is `None` and forbids nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Conditions {
    /// Seconds since 1970.
    pub now_unix_s: i64,
    /// Minute of the local day.
    pub minute_of_day: u16,
    /// Samples to train on that no training has seen.
    pub new_samples: u64,
    /// Share of the processors' time that others than the training use, over ten seconds.
    pub load: Option<f32>,
    /// Degrees Celsius of the hottest thermal zone.
    pub temperature_c: Option<f32>,
    /// Whether it runs on battery.
    pub on_battery: Option<bool>,
    /// Bytes that may be taken before something is killed.
    pub memory_free_bytes: Option<u64>,
    /// PSI of memory, `some avg10`.
    pub memory_pressure: Option<f32>,
    /// Bytes left where the state lies.
    pub disk_free_bytes: Option<u64>,
    /// When the last training ended, well or not.
    pub last_ended_unix_s: Option<i64>,
    /// Seconds of training in the last 24 hours.
    pub trained_s: u64,
    /// Bytes that may still be written in these 24 hours.
    pub flash_left_bytes: Option<u64>,
}

/// Why not now.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// Too few samples are new.
    Samples,
    /// The last training ended too short a while ago.
    Interval,
    /// The day's training is used up.
    Budget,
    /// What may be written in a day is written.
    Flash,
    /// Not the time of the day.
    Hours,
    /// On battery.
    Battery,
    /// Too little disk is left.
    Disk,
    /// Too little memory is left, or processes wait for it.
    Memory,
    /// Too hot.
    Temperature,
    /// Others need the processor.
    Load,
}

/// Why training may not begin; `None` if it may.
pub fn hinders_start(policy: &Policy, now: &Conditions) -> Option<Reason> {
    if now.new_samples < policy.new_samples_min.max(1) {
        return Some(Reason::Samples);
    }
    // A clock that was set back makes no device wait for years.
    let waited_s = now.last_ended_unix_s.map(|ended| now.now_unix_s - ended).filter(|seconds| *seconds >= 0);
    if waited_s.is_some_and(|seconds| (seconds as u64) < policy.interval_min * 60) {
        return Some(Reason::Interval);
    }
    hinders(policy, now, RELIEF)
}

/// Why training must pause; `None` if it may go on. `paused` is whether it rests already: it goes on only after relief.
pub fn hinders_training(policy: &Policy, now: &Conditions, paused: bool) -> Option<Reason> {
    hinders(policy, now, if paused { RELIEF } else { 1.0 })
}

fn hinders(policy: &Policy, now: &Conditions, share: f32) -> Option<Reason> {
    let above = |value: Option<f32>, limit: f32| value.is_some_and(|value| value > limit * share);
    let below = |value: Option<u64>, limit_mb: u64| value.is_some_and(|value| value < limit_mb * 1_000_000);
    let questions = [
        (Reason::Budget, now.trained_s >= policy.training_per_day_max_min * 60),
        (Reason::Flash, now.flash_left_bytes == Some(0)),
        (Reason::Hours, policy.hours.is_some_and(|hours| !hours.contain(now.minute_of_day))),
        (Reason::Battery, now.on_battery == Some(true) && !policy.on_battery),
        (Reason::Disk, below(now.disk_free_bytes, policy.disk_free_min_mb)),
        (Reason::Memory, below(now.memory_free_bytes, policy.memory_free_min_mb)),
        (Reason::Memory, above(now.memory_pressure, policy.memory_pressure_max)),
        (Reason::Temperature, above(now.temperature_c, policy.temperature_max_c)),
        (Reason::Load, policy.load_max < 1.0 && above(now.load, policy.load_max)),
    ];
    questions.into_iter().find(|(_, hinders)| *hinders).map(|(reason, _)| reason)
}

impl Reason {
    /// What a person reads.
    pub fn text(self) -> &'static str {
        match self {
            Reason::Samples => "waiting for new samples",
            Reason::Interval => "waiting since the last training",
            Reason::Budget => "the day's training is used up",
            Reason::Flash => "what may be written in a day is written",
            Reason::Hours => "waiting for the hours in which it may train",
            Reason::Battery => "on battery",
            Reason::Disk => "too little disk is left",
            Reason::Memory => "memory is short",
            Reason::Temperature => "too hot",
            Reason::Load => "others need the processor",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A device on which nothing hinders.
    fn fine() -> Conditions {
        Conditions {
            now_unix_s: 1_000_000,
            minute_of_day: 23 * 60,
            new_samples: 50,
            load: Some(0.1),
            temperature_c: Some(50.0),
            on_battery: Some(false),
            memory_free_bytes: Some(1 << 30),
            memory_pressure: Some(0.0),
            disk_free_bytes: Some(1 << 33),
            last_ended_unix_s: Some(1_000_000 - 3600),
            trained_s: 0,
            flash_left_bytes: Some(1),
        }
    }

    fn night() -> Policy {
        Policy { hours: Some(Hours { from: 22 * 60, to: 6 * 60 }), ..Policy::default() }
    }

    #[test]
    fn each_condition_alone_hinders_and_says_why() {
        let policy = night();
        assert_eq!(hinders_start(&policy, &fine()), None);
        let cases: [(Reason, Conditions); 11] = [
            (Reason::Samples, Conditions { new_samples: 49, ..fine() }),
            (Reason::Interval, Conditions { last_ended_unix_s: Some(1_000_000 - 3599), ..fine() }),
            (Reason::Budget, Conditions { trained_s: 7200, ..fine() }),
            (Reason::Flash, Conditions { flash_left_bytes: Some(0), ..fine() }),
            (Reason::Hours, Conditions { minute_of_day: 6 * 60, ..fine() }),
            (Reason::Battery, Conditions { on_battery: Some(true), ..fine() }),
            (Reason::Disk, Conditions { disk_free_bytes: Some(255_999_999), ..fine() }),
            (Reason::Memory, Conditions { memory_free_bytes: Some(127_999_999), ..fine() }),
            (Reason::Memory, Conditions { memory_pressure: Some(10.5), ..fine() }),
            (Reason::Temperature, Conditions { temperature_c: Some(75.5), ..fine() }),
            (Reason::Load, Conditions { load: Some(0.71), ..fine() }),
        ];
        for (reason, conditions) in cases {
            assert_eq!(hinders_start(&policy, &conditions), Some(reason), "{conditions:?}");
            let during = hinders_training(&policy, &conditions, false);
            let only_at_start = matches!(reason, Reason::Samples | Reason::Interval);
            assert_eq!(during, (!only_at_start).then_some(reason), "{conditions:?}");
        }
    }

    #[test]
    fn what_a_device_does_not_tell_forbids_nothing() {
        let silent = Conditions { new_samples: 50, ..Conditions::default() };
        assert_eq!(hinders_start(&Policy::default(), &silent), None);
    }

    #[test]
    fn a_pause_ends_below_the_limit_only() {
        let policy = Policy::default();
        let warm = Conditions { temperature_c: Some(74.0), ..fine() };
        assert_eq!(hinders_training(&policy, &warm, false), None);
        assert_eq!(hinders_training(&policy, &warm, true), Some(Reason::Temperature));
        assert_eq!(hinders_start(&policy, &warm), Some(Reason::Temperature), "what would pause soon does not begin");
        assert_eq!(hinders_training(&policy, &Conditions { temperature_c: Some(67.0), ..fine() }, true), None);
    }

    #[test]
    fn a_limit_of_all_processors_never_hinders() {
        let busy = Conditions { load: Some(1.0), ..fine() };
        assert_eq!(hinders_start(&Policy { load_max: 1.0, ..Policy::default() }, &busy), None);
    }

    #[test]
    fn a_clock_set_back_does_not_lock_out() {
        let future = Conditions { last_ended_unix_s: Some(2_000_000_000), ..fine() };
        assert_eq!(hinders_start(&Policy::default(), &future), None);
    }

    #[test]
    fn hours_may_go_past_midnight() {
        for (text, inside, outside) in [
            ("22:00-06:00", vec![1320, 1439, 0, 359], vec![360, 1319, 720]),
            ("01:30-02:00", vec![90, 119], vec![89, 120, 1439]),
            ("00:00-00:00", vec![0, 720, 1439], vec![]),
        ] {
            let hours = Hours::try_from(text.to_string()).unwrap();
            assert!(inside.iter().all(|minute| hours.contain(*minute)), "{text}");
            assert!(!outside.iter().any(|minute| hours.contain(*minute)), "{text}");
            assert_eq!(String::from(hours), text);
        }
        for text in ["", "22-06", "24:00-06:00", "22:60-06:00", "22:00", "a:b-c:d"] {
            let error = Hours::try_from(text.to_string()).unwrap_err();
            assert!(error.contains("22:00-06:00") && error.contains(text), "{error}");
        }
    }

    /// Four days, a look a minute: samples arrive, the days are hot and busy, and training takes 50 minutes.
    #[test]
    fn days_of_looks_keep_the_policy() {
        let policy = Policy { interval_min: 30, training_per_day_max_min: 100, ..night() };
        let (mut trained, mut since, mut ended): (Vec<i64>, u64, Option<i64>) = (Vec::new(), 0, None);
        let (mut running, mut left, mut finished) = (false, 0, 0);
        for minute in 0..4 * 1440i64 {
            since += 2;
            let of_day = (minute % 1440) as u16;
            let busy = (9 * 60..17 * 60).contains(&of_day) || of_day % 240 == 100;
            trained.retain(|then| minute - then < 1440);
            let now = Conditions {
                now_unix_s: minute * 60,
                minute_of_day: of_day,
                new_samples: since,
                load: Some(if busy { 0.95 } else { 0.2 }),
                temperature_c: Some(if of_day.is_multiple_of(97) { 80.0 } else { 55.0 }),
                last_ended_unix_s: ended,
                trained_s: trained.len() as u64 * 60,
                ..fine()
            };
            if left == 0 && hinders_start(&policy, &now).is_none() {
                (left, since) = (50, 0);
            }
            running = left > 0 && hinders_training(&policy, &now, !running).is_none();
            if running {
                trained.push(minute);
                left -= 1;
                if left == 0 {
                    ended = Some(minute * 60);
                    finished += 1;
                }
                assert!(
                    night().hours.unwrap().contain(of_day) && !busy && !of_day.is_multiple_of(97),
                    "minute {minute}"
                );
            }
            assert!(trained.len() <= 100, "minute {minute}: the day's budget");
        }
        assert!((6..=8).contains(&finished), "two trainings a night: {finished}");
    }
}
