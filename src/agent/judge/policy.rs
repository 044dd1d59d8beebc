//! When to train: a pure function of the policy and of what the device is like at the moment.
//!
//! Every number arrives as an argument; nothing is read, waited for or remembered. The order of the questions is the order
//! in which a person would want to hear the answer.

use crate::amounts::counted;
use serde::{Deserialize, Serialize};

const MINUTES_PER_DAY: u16 = 24 * 60;
/// A pause for heat or load ends where these are below their limits by this share: a limit crossed back and forth would
/// start and stop the training at every look.
const RELIEF: f32 = 0.9;

/// What the owner of the device allows. The defaults suit a Raspberry Pi on mains that also serves. Each limit may be `"off"`,
/// which is `None`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Policy {
    /// Samples since the last training without which none begins; off is one.
    #[serde(with = "off")]
    pub new_samples_min: Option<u64>,
    /// Local time in which training may begin and go on, such as `22:00-06:00`; none is any time.
    #[serde(with = "off")]
    pub hours: Option<Hours>,
    /// Share of the processors' time that others than the training may use, from 0 to 1; 1 never minds them.
    #[serde(with = "off")]
    pub load_max: Option<f32>,
    /// Degrees Celsius of the hottest thermal zone.
    #[serde(with = "off")]
    pub temperature_max_c: Option<f32>,
    /// Whether to train on battery.
    #[serde(deserialize_with = "yes_or_no")]
    pub on_battery: bool,
    /// Megabytes of memory that must be left.
    #[serde(with = "off")]
    pub memory_free_min_mb: Option<u64>,
    /// Share of time, in percent over ten seconds, in which some process waited for memory (PSI `some avg10`).
    #[serde(with = "off")]
    pub memory_pressure_max: Option<f32>,
    /// Megabytes of disk that must be left.
    #[serde(with = "off")]
    pub disk_free_min_mb: Option<u64>,
    /// Minutes between the end of a training and the beginning of the next.
    #[serde(with = "off")]
    pub interval_min: Option<u64>,
    /// Minutes of training in any 24 hours.
    #[serde(with = "off")]
    pub training_per_day_max_min: Option<u64>,
}

/// Reads whether something is done.
///
/// # Errors
/// What is neither `true` nor `false`: of what does not limit, `"off"` would mean the one or the other.
pub(super) fn yes_or_no<'de, D: serde::Deserializer<'de>>(from: D) -> Result<bool, D::Error> {
    struct YesOrNo;
    impl serde::de::Visitor<'_> for YesOrNo {
        type Value = bool;

        fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
            f.write_str("true if that is to be done, or false, without quotes")
        }

        fn visit_bool<E>(self, value: bool) -> Result<bool, E> {
            Ok(value)
        }
    }
    from.deserialize_any(YesOrNo)
}

/// A limit as a configuration has it: a value, or the word `off`.
pub mod off {
    use serde::de::{Error, IntoDeserializer};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Deserialize)]
    #[serde(untagged, expecting = "a value of the kind that is its default, or \"off\"")]
    enum Given {
        Integer(i64),
        Float(f64),
        Word(String),
    }

    /// Reads one.
    ///
    /// # Errors
    /// What is no such limit, and not `off`.
    pub fn deserialize<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Option<T>, D::Error> {
        let limit = match Given::deserialize(from)? {
            Given::Word(word) if word == "off" => return Ok(None),
            Given::Word(word) => T::deserialize(word.into_deserializer()),
            Given::Integer(number) => T::deserialize(number.into_deserializer()),
            Given::Float(number) => T::deserialize(number.into_deserializer()),
        };
        limit.map(Some).map_err(|error: D::Error| D::Error::custom(format!("{error}, or \"off\"")))
    }

    /// Writes one.
    ///
    /// # Errors
    /// The writer's.
    pub fn serialize<S: Serializer, T: Serialize>(limit: &Option<T>, to: S) -> Result<S::Ok, S::Error> {
        match limit {
            Some(limit) => limit.serialize(to),
            None => to.serialize_str("off"),
        }
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            new_samples_min: Some(50),
            hours: None,
            load_max: Some(0.7),
            temperature_max_c: Some(75.0),
            on_battery: false,
            memory_free_min_mb: Some(128),
            memory_pressure_max: Some(10.0),
            disk_free_min_mb: Some(256),
            interval_min: Some(60),
            training_per_day_max_min: Some(120),
        }
    }
}

impl Policy {
    /// The policy that a person's request leaves of this one: it waits for nothing new, and `now` not even for a better time. What would
    /// harm the device (heat, memory, disk) still forbids.
    pub fn asked(&self, now: bool) -> Self {
        let soon = Self { new_samples_min: Some(0), interval_min: None, ..self.clone() };
        match now {
            false => soon,
            true => Self { hours: None, load_max: None, on_battery: true, training_per_day_max_min: None, ..soon },
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
    /// Held-out samples that there are, and without which there is no verdict.
    pub held_out: [u64; 2],
    /// Classes of the samples to train on.
    pub classes: u64,
}

/// Why not now.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// Too few samples are new.
    Samples,
    /// Too few samples are held out for a verdict.
    HeldOut,
    /// Of one class nothing can be learned.
    Classes,
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

/// Classes without which nothing can be learned.
const CLASSES_MIN: u64 = 2;

/// All that keeps training from beginning; nothing if it may.
pub fn hinders_start(policy: &Policy, now: &Conditions) -> Vec<Reason> {
    // Without the limit one is enough; a request trains on what is there.
    let new_min = policy.new_samples_min.unwrap_or(1);
    let first = [
        (Reason::Samples, now.new_samples < new_min),
        (Reason::HeldOut, now.held_out[0] < now.held_out[1].max(1)),
        (Reason::Classes, now.classes < CLASSES_MIN),
        (Reason::Interval, waits_s(policy, now) > 0),
    ];
    let first = first.into_iter().filter(|(_, hinders)| *hinders).map(|(reason, _)| reason);
    first.chain(hinders(policy, now, RELIEF)).collect()
}

/// Why training must pause; `None` if it may go on. `paused` is whether it rests already: it goes on only after relief.
pub fn hinders_training(policy: &Policy, now: &Conditions, paused: bool) -> Option<Reason> {
    hinders(policy, now, if paused { RELIEF } else { 1.0 }).next()
}

/// Seconds until the interval is over. A clock that was set back makes no device wait for years.
fn waits_s(policy: &Policy, now: &Conditions) -> i64 {
    let since = now.last_ended_unix_s.map(|ended| now.now_unix_s - ended).filter(|seconds| *seconds >= 0);
    let interval_s = policy.interval_min.unwrap_or(0).saturating_mul(60).min(i64::MAX as u64) as i64;
    since.map_or(0, |since| (interval_s - since).max(0))
}

fn hinders(policy: &Policy, now: &Conditions, share: f32) -> impl Iterator<Item = Reason> {
    let above =
        |value: Option<f32>, limit: Option<f32>| value.zip(limit).is_some_and(|(value, limit)| value > limit * share);
    let below = |value: Option<u64>, limit_mb: Option<u64>| {
        value.zip(limit_mb).is_some_and(|(value, limit)| value < limit.saturating_mul(1_000_000))
    };
    let used_up = |minutes: u64| now.trained_s >= minutes.saturating_mul(60);
    let load = policy.load_max.filter(|limit| *limit < 1.0);
    let questions = [
        (Reason::Budget, policy.training_per_day_max_min.is_some_and(used_up)),
        (Reason::Flash, now.flash_left_bytes == Some(0)),
        (Reason::Hours, policy.hours.is_some_and(|hours| !hours.contain(now.minute_of_day))),
        (Reason::Battery, now.on_battery == Some(true) && !policy.on_battery),
        (Reason::Disk, below(now.disk_free_bytes, policy.disk_free_min_mb)),
        (
            Reason::Memory,
            below(now.memory_free_bytes, policy.memory_free_min_mb)
                || above(now.memory_pressure, policy.memory_pressure_max),
        ),
        (Reason::Temperature, above(now.temperature_c, policy.temperature_max_c)),
        (Reason::Load, above(now.load, load)),
    ];
    questions.into_iter().filter(|(_, hinders)| *hinders).map(|(reason, _)| reason)
}

impl Reason {
    /// What a person reads: what there is, and what is waited for.
    pub fn text(self, policy: &Policy, now: &Conditions) -> String {
        let megabytes = |bytes: Option<u64>| bytes.unwrap_or(0) / 1_000_000;
        let below = |value: Option<f32>, limit: Option<f32>, factor: f32| {
            let (value, limit) = (value.unwrap_or(0.0) * factor, limit.unwrap_or(0.0) * factor);
            format!("{value:.0}, at most {limit:.0} and {:.0} to begin", limit * RELIEF)
        };
        match self {
            Reason::Samples => {
                format!("{} of {}", now.new_samples, counted(policy.new_samples_min.unwrap_or(1), "new sample"))
            }
            Reason::HeldOut => format!("{} of {}", now.held_out[0], counted(now.held_out[1].max(1), "held-out sample")),
            Reason::Classes => format!("{} of {CLASSES_MIN} classes", now.classes),
            Reason::Interval => {
                let minutes = (waits_s(policy, now) as u64).div_ceil(60);
                let at = (u64::from(now.minute_of_day) + minutes) % u64::from(MINUTES_PER_DAY);
                format!("not before {:02}:{:02}", at / 60, at % 60)
            }
            Reason::Budget => format!(
                "{} of {} of training in 24 hours are used up",
                now.trained_s / 60,
                counted(policy.training_per_day_max_min.unwrap_or(0), "minute")
            ),
            Reason::Flash => "what may be written in a day is written".into(),
            Reason::Hours => {
                let hours = policy.hours.map(String::from).unwrap_or_default();
                format!("not before {}", hours.split('-').next().unwrap_or_default())
            }
            Reason::Battery => "on battery".into(),
            Reason::Disk => format!(
                "{} MB of disk are free, {} must be",
                megabytes(now.disk_free_bytes),
                policy.disk_free_min_mb.unwrap_or(0)
            ),
            Reason::Memory => format!(
                "{} MB of memory are free, {} must be; processes wait for memory {:.0} % of the time, at most {:.0} may be",
                megabytes(now.memory_free_bytes),
                policy.memory_free_min_mb.unwrap_or(0),
                now.memory_pressure.unwrap_or(0.0),
                policy.memory_pressure_max.unwrap_or(100.0)
            ),
            Reason::Temperature => format!("°C: {}", below(now.temperature_c, policy.temperature_max_c, 1.0)),
            Reason::Load => {
                format!("others use the processors, in per cent: {}", below(now.load, policy.load_max, 100.0))
            }
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
            held_out: [20, 20],
            classes: 2,
        }
    }

    fn night() -> Policy {
        Policy { hours: Some(Hours { from: 22 * 60, to: 6 * 60 }), ..Policy::default() }
    }

    #[test]
    fn each_condition_alone_hinders_and_says_why() {
        let policy = night();
        assert_eq!(hinders_start(&policy, &fine()), []);
        let cases: [(Reason, Conditions); 13] = [
            (Reason::Samples, Conditions { new_samples: 49, ..fine() }),
            (Reason::HeldOut, Conditions { held_out: [19, 20], ..fine() }),
            (Reason::Classes, Conditions { classes: 1, ..fine() }),
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
            assert_eq!(hinders_start(&policy, &conditions), [reason], "{conditions:?}");
            let text = reason.text(&policy, &conditions);
            assert!(text.len() > 9, "{text}");
            let during = hinders_training(&policy, &conditions, false);
            let at_start = [Reason::Samples, Reason::HeldOut, Reason::Classes, Reason::Interval];
            let only_at_start = at_start.contains(&reason);
            assert_eq!(during, (!only_at_start).then_some(reason), "{conditions:?}");
        }
    }

    #[test]
    fn what_a_device_does_not_tell_forbids_nothing() {
        let silent = Conditions { new_samples: 50, held_out: [20, 20], classes: 2, ..Conditions::default() };
        assert_eq!(hinders_start(&Policy::default(), &silent), []);
    }

    #[test]
    fn a_pause_ends_below_the_limit_only() {
        let policy = Policy::default();
        let warm = Conditions { temperature_c: Some(74.0), ..fine() };
        assert_eq!(hinders_training(&policy, &warm, false), None);
        assert_eq!(hinders_training(&policy, &warm, true), Some(Reason::Temperature));
        assert_eq!(hinders_start(&policy, &warm), [Reason::Temperature], "what would pause soon does not begin");
        assert_eq!(hinders_training(&policy, &Conditions { temperature_c: Some(67.0), ..fine() }, true), None);
    }

    #[test]
    fn a_limit_of_all_processors_never_hinders() {
        let busy = Conditions { load: Some(1.0), ..fine() };
        for load_max in [Some(1.0), None] {
            assert_eq!(hinders_start(&Policy { load_max, ..Policy::default() }, &busy), []);
        }
    }

    #[test]
    fn what_is_waited_for_is_told_in_numbers() {
        let policy = Policy::default();
        let told = |now: &Conditions| -> Vec<String> {
            hinders_start(&policy, now).into_iter().map(|reason| reason.text(&policy, now)).collect()
        };
        let early =
            Conditions { held_out: [4, 20], last_ended_unix_s: Some(1_000_000 - 90), minute_of_day: 905, ..fine() };
        assert_eq!(told(&early), ["4 of 20 held-out samples", "not before 16:04"]);
        let new = Conditions { new_samples: 3, classes: 1, ..fine() };
        assert_eq!(told(&new), ["3 of 50 new samples", "1 of 2 classes"]);
        let warm = Conditions { temperature_c: Some(80.0), trained_s: 7260, ..fine() };
        assert_eq!(
            told(&warm),
            ["121 of 120 minutes of training in 24 hours are used up", "°C: 80, at most 75 and 68 to begin"]
        );
        assert_eq!(Reason::Hours.text(&night(), &fine()), "not before 22:00");
    }

    #[test]
    fn each_limit_can_be_switched_off_and_a_request_waits_for_less() {
        let keys = [
            "new-samples-min",
            "hours",
            "load-max",
            "temperature-max-c",
            "memory-free-min-mb",
            "memory-pressure-max",
            "disk-free-min-mb",
            "interval-min",
            "training-per-day-max-min",
        ];
        let text: String = keys.iter().map(|key| format!("{key} = \"off\"\n")).collect();
        let off: Policy = toml::from_str(&(text + "on-battery = true\n")).unwrap();
        let worst = Conditions {
            new_samples: 0,
            load: Some(1.0),
            temperature_c: Some(200.0),
            on_battery: Some(true),
            memory_free_bytes: Some(0),
            memory_pressure: Some(100.0),
            disk_free_bytes: Some(0),
            last_ended_unix_s: Some(1_000_000),
            trained_s: 1 << 30,
            ..fine()
        };
        assert_eq!(hinders_start(&off, &Conditions { new_samples: 1, ..worst }), []);
        assert_eq!(toml::from_str::<Policy>(&toml::to_string(&off).unwrap()).unwrap(), off);
        let error = toml::from_str::<Policy>("load-max = \"of\"").unwrap_err().to_string();
        assert!(error.contains("\"of\"") && error.contains("\"off\""), "{error}");
        let (soon, now) = (night().asked(false), night().asked(true));
        assert_eq!(hinders_start(&soon, &Conditions { minute_of_day: 0, ..worst })[0], Reason::Budget);
        let harmful = [Reason::Disk, Reason::Memory, Reason::Temperature];
        assert_eq!(hinders_start(&now, &Conditions { minute_of_day: 720, ..worst }), harmful);
    }

    #[test]
    fn a_clock_set_back_does_not_lock_out() {
        let future = Conditions { last_ended_unix_s: Some(2_000_000_000), ..fine() };
        assert_eq!(hinders_start(&Policy::default(), &future), []);
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
        let policy = Policy { interval_min: Some(30), training_per_day_max_min: Some(100), ..night() };
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
            if left == 0 && hinders_start(&policy, &now).is_empty() {
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
