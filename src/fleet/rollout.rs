//! Staged rollout: who is offered a new release, and what becomes of it. Pure functions of plain values.
//!
//! A release goes to a part of the devices first, and to more of them stage by stage. A stage lasts for a while and until enough
//! devices have said what became of it there. Where reports show that devices fare worse than they may, the rollout is halted,
//! and the devices get back what they had.

use crate::evidence::falls_below;
use std::fmt;
use std::str::FromStr;

/// How sure it must be that a release is bad before it is halted. There are two ways to find out; half of the rest goes to each.
const CONFIDENCE: f64 = 0.99;
/// Share of the devices of a stage that must have been heard before their reports are judged, as a fraction.
const HEARD: (u64, u64) = (2, 3);
/// Stages, at most.
const STAGES_MAX: usize = 16;

/// Parts of the devices, in per cent, one stage after another; the last is 100. As a text: `5,25,100`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stages(Vec<u8>);

impl Stages {
    /// The part of a stage, in per cent; all behind the last.
    pub fn percent(&self, stage: i64) -> u8 {
        usize::try_from(stage).ok().and_then(|stage| self.0.get(stage)).copied().unwrap_or(100)
    }

    /// The number of stages.
    pub fn count(&self) -> i64 {
        self.0.len() as i64
    }
}

impl Default for Stages {
    fn default() -> Self {
        Self(vec![5, 25, 100])
    }
}

impl FromStr for Stages {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Option<Vec<u8>> = text.split(',').map(|part| part.parse().ok()).collect();
        let parts = parts.filter(|parts| {
            let rising = parts.windows(2).all(|pair| pair[0] < pair[1]);
            rising && parts.len() <= STAGES_MAX && parts[0] > 0 && parts.last() == Some(&100)
        });
        parts.map(Self).ok_or_else(|| {
            format!(
                "`{text}` are no stages; give at most {STAGES_MAX} rising per cents that end with 100, such as 5,25,100"
            )
        })
    }
}

impl fmt::Display for Stages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> = self.0.iter().map(u8::to_string).collect();
        f.write_str(&parts.join(","))
    }
}

/// Whether a device is among the first `percent` for a release. The sets of rising per cents contain each other, and each release
/// begins with other devices: nobody is always the first. `secret` is the fleet's: whoever knew it could make a key that is.
pub fn is_among(percent: u8, secret: &str, channel: &str, version: i64, device: &str) -> bool {
    let hash = blake3::hash(format!("rollout\n{secret}\n{channel}\n{version}\n{device}\n").as_bytes());
    let number = u64::from_le_bytes(*hash.as_bytes().first_chunk().expect("a hash has 32 bytes"));
    // The upper bits of a product: number / 2⁶⁴ · 100, without rounding at the ends.
    (u128::from(number) * 100) >> 64 < u128::from(percent)
}

/// What devices that were offered a release have said of it, each once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// It is in use there.
    pub activated: u64,
    /// Their own gate turned it down, or it could not be tried.
    pub refused: u64,
    /// What they have learned themselves stays in use, which says nothing of the release.
    pub kept: u64,
    /// Of those with accuracies: it is higher than before.
    pub better: u64,
    /// It is lower.
    pub worse: u64,
}

impl Tally {
    /// Devices that have said something.
    pub fn reports(&self) -> u64 {
        self.activated + self.refused + self.kept
    }

    /// Counts one device's report: whether it is in use there, where it was tried against another release or the base.
    pub fn take(&mut self, activated: Option<bool>, accuracy: Option<[f64; 2]>) {
        match activated {
            Some(true) => self.activated += 1,
            Some(false) => self.refused += 1,
            None => {
                self.kept += 1;
                return;
            }
        }
        if let Some([before, after]) = accuracy {
            self.better += u64::from(after > before);
            self.worse += u64::from(after < before);
        }
    }
}

/// How far a rollout is, and what it waits for.
#[derive(Debug, Clone, PartialEq)]
pub struct Rollout {
    /// The stages.
    pub stages: Stages,
    /// Which of them it is in, from 0.
    pub stage: i64,
    /// When that began, in milliseconds since 1970.
    pub began_ms: i64,
    /// How long a stage lasts at least, in milliseconds.
    pub stage_ms: i64,
    /// Devices that must have said something before the next, where as many are offered it.
    pub reports: u64,
    /// Share of the devices that may refuse a release without it being bad: devices differ, and some lie.
    pub tolerated: f64,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Nothing yet.
    Wait,
    /// The next stage begins.
    Advance,
    /// All devices have it, and it stays.
    Finish,
    /// It is taken back, for this reason.
    Halt(String),
}

/// What becomes of a rollout. `members` counts the devices that are offered it.
///
/// Nothing is judged before the stage has lasted its time and most of its devices have been heard: those who want to harm a release
/// report first. Once two thirds have spoken, a fifth of liars are too few for a verdict, whatever order they come in. Where no report
/// is waited for, none is missed.
pub fn step(rollout: &Rollout, tally: &Tally, members: u64, now_ms: i64) -> Step {
    if now_ms.saturating_sub(rollout.began_ms) < rollout.stage_ms {
        return Step::Wait;
    }
    let is_heard = tally.reports() * HEARD.1 >= members * HEARD.0;
    if is_heard && let Some(reason) = verdict(rollout, tally) {
        return Step::Halt(reason);
    }
    let is_waited_for = rollout.reports > 0 && (!is_heard || tally.reports() < rollout.reports.min(members));
    if is_waited_for {
        return Step::Wait;
    }
    if rollout.stage + 1 < rollout.stages.count() { Step::Advance } else { Step::Finish }
}

/// What devices have against a release, where it is beyond chance.
fn verdict(rollout: &Rollout, tally: &Tally) -> Option<String> {
    let half = 1.0 - (1.0 - CONFIDENCE) / 2.0;
    let tried = tally.activated + tally.refused;
    if falls_below(1.0 - rollout.tolerated, (tally.activated, tried), half) {
        let tolerated = rollout.tolerated * 100.0;
        return Some(format!("{} of {tried} devices refused it, where {tolerated:.0} % may", tally.refused));
    }
    let compared = tally.better + tally.worse;
    let is_worse = falls_below(0.5, (tally.better, compared), half);
    is_worse.then(|| format!("accuracy fell on {} of {compared} devices", tally.worse))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rollout(stage: i64) -> Rollout {
        Rollout { stages: Stages::default(), stage, began_ms: 1_000, stage_ms: 500, reports: 4, tolerated: 0.25 }
    }

    fn tally(activated: u64, refused: u64) -> Tally {
        Tally { activated, refused, ..Tally::default() }
    }

    #[test]
    fn stages_are_a_text_and_back() {
        for text in ["100", "5,25,100", "1,2,3,100"] {
            assert_eq!(text.parse::<Stages>().unwrap().to_string(), text);
        }
        for wrong in ["", "5,25", "25,5,100", "5,5,100", "0,100", "5;100", "5,,100", "101", "-1,100", "5, 100"] {
            assert!(wrong.parse::<Stages>().is_err(), "{wrong}");
        }
        assert!((1..=16).map(|part| part.to_string()).collect::<Vec<_>>().join(",").parse::<Stages>().is_err());
        let stages = Stages::default();
        assert_eq!([0, 1, 2, 3, -1].map(|stage| stages.percent(stage)), [5, 25, 100, 100, 100]);
    }

    #[test]
    fn the_parts_contain_each_other_and_differ_by_release() {
        let devices: Vec<String> = (0..4000).map(|device| format!("device {device}")).collect();
        let among = |percent, version| -> Vec<bool> {
            devices.iter().map(|device| is_among(percent, "secret", "kitchen", version, device)).collect()
        };
        let count = |set: &[bool]| set.iter().filter(|is| **is).count();
        assert_eq!((count(&among(0, 1)), count(&among(100, 1))), (0, 4000));
        for percent in [5, 25, 60] {
            let found = count(&among(percent, 1)) as f64 / 40.0;
            assert!((found - f64::from(percent)).abs() < 2.5, "{percent} %: {found}");
        }
        assert!(among(5, 1).iter().zip(among(25, 1)).all(|(few, more)| !few || more));
        let both = among(25, 1).iter().zip(among(25, 2)).filter(|(first, second)| **first && *second).count();
        assert!((150..350).contains(&both), "{both} of 1,000 would be as many as by chance if 250");
        let of =
            |secret| devices.iter().filter(|device| is_among(25, secret, "kitchen", 1, device)).collect::<Vec<_>>();
        let both = of("one").iter().filter(|device| of("another").contains(device)).count();
        assert!((150..350).contains(&both), "{both} of 1,000: who does not know the secret cannot choose");
    }

    #[test]
    fn a_stage_waits_for_its_time_and_its_reports() {
        let enough = tally(4, 0);
        assert_eq!(step(&rollout(0), &enough, 6, 1_499), Step::Wait);
        assert_eq!(step(&rollout(0), &tally(3, 0), 4, 9_999), Step::Wait, "four are to have spoken");
        assert_eq!(step(&rollout(0), &enough, 7, 9_999), Step::Wait, "two thirds of them are to have");
        assert_eq!(step(&rollout(0), &enough, 6, 1_500), Step::Advance);
        assert_eq!(step(&rollout(1), &enough, 6, 1_500), Step::Advance);
        assert_eq!(step(&rollout(2), &enough, 6, 1_500), Step::Finish);
        assert_eq!(step(&rollout(0), &tally(3, 0), 3, 1_500), Step::Advance, "there are no more to wait for");
        assert_eq!(step(&rollout(0), &tally(0, 0), 0, 1_500), Step::Advance, "a part of few devices may be empty");
        let silent = Rollout { reports: 0, ..rollout(0) };
        assert_eq!(step(&silent, &tally(0, 0), 9, 1_500), Step::Advance, "no report is waited for");
    }

    #[test]
    fn a_bad_release_is_halted_and_a_good_one_is_not() {
        let halted = |tally: Tally| matches!(step(&rollout(0), &tally, tally.reports(), 1_500), Step::Halt(_));
        assert!(halted(tally(0, 6)) && halted(tally(2, 10)));
        assert!(!halted(tally(0, 1)), "one device halts nothing");
        assert!(!halted(tally(0, 3)) && !halted(tally(80, 20)) && !halted(tally(750, 250)));
        let compared = |better, worse| Tally { activated: better + worse, better, worse, ..Tally::default() };
        assert!(halted(compared(0, 12)) && halted(compared(5, 30)));
        assert!(!halted(compared(0, 5)) && !halted(compared(50, 50)) && !halted(compared(30, 5)));
        let Step::Halt(reason) = step(&rollout(0), &tally(1, 9), 15, 1_500) else { panic!("nine of ten refuse it") };
        assert_eq!(reason, "9 of 10 devices refused it, where 25 % may");
        assert_eq!(step(&rollout(0), &tally(0, 9), 15, 1_500), Step::Wait, "nine of fifteen are not two thirds");
        assert_eq!(step(&rollout(0), &tally(1, 9), 15, 1_499), Step::Wait, "nor does anybody win by being early");
    }

    /// Devices that have learned something better for themselves are heard, and are no evidence.
    #[test]
    fn what_devices_keep_of_their_own_halts_nothing() {
        let mut tally = Tally::default();
        (0..50).for_each(|_| tally.take(None, Some([0.9, 0.6])));
        assert_eq!(step(&rollout(0), &tally, 50, 1_499), Step::Wait);
        assert_eq!(step(&rollout(0), &tally, 50, 1_500), Step::Advance);
    }

    /// A release on its way through 40 devices of which 8 lie, and always speak before the others; what becomes of it.
    fn through(random: &mut fastrand::Rng, is_good: bool) -> Step {
        let (secret, mut stage) = (random.u64(..).to_string(), 0);
        let mut devices: Vec<(String, bool)> = (0..40).map(|place| (random.u64(..).to_string(), place < 8)).collect();
        random.shuffle(&mut devices);
        let rollout = |stage| Rollout {
            stages: Stages::default(),
            stage,
            began_ms: 0,
            stage_ms: 10,
            reports: 20,
            tolerated: 0.25,
        };
        let (mut tally, mut heard) = (Tally::default(), Vec::new());
        loop {
            let now = rollout(stage);
            let offered = |device: &str| is_among(now.stages.percent(stage), &secret, "kitchen", 2, device);
            let mut members: Vec<_> = devices.iter().filter(|(device, _)| offered(device)).collect();
            members.sort_by_key(|(_, lies)| !lies);
            let count = members.len() as u64;
            let mut next = step(&now, &tally, count, 10);
            for (device, lies) in members {
                if heard.contains(device) || next != Step::Wait {
                    continue;
                }
                heard.push(device.clone());
                // An honest device now and then turns a good release down.
                let likes = if *lies { !is_good } else { is_good && random.f64() > 0.03 };
                tally.take(Some(likes), Some(if likes { [0.7, 0.75] } else { [0.7, 0.3] }));
                next = step(&now, &tally, count, 10);
            }
            match next {
                Step::Advance => stage += 1,
                ended => return ended,
            }
        }
    }

    /// Eight liars of 40 devices that report before all others: no good release is halted, and no bad one comes through.
    #[test]
    fn liars_that_come_first_decide_nothing() {
        for seed in 0..200 {
            let mut random = fastrand::Rng::with_seed(seed);
            assert_eq!(through(&mut random, true), Step::Finish, "a good release, seed {seed}");
            let bad = through(&mut random, false);
            assert!(matches!(bad, Step::Halt(_)), "a bad release, seed {seed}: {bad:?}");
        }
    }
}
