//! What the device is like, from the kernel's files below a root that arrives as an argument.
//!
//! What a kernel does not have (no battery, no pressure information) is `None`. Nothing here fails.

use std::collections::VecDeque;
use std::fs;
use std::path::Path;

/// Seconds over which processor time is shared out.
const WINDOW_S: f64 = 10.0;

/// Degrees Celsius of the hottest zone that measures anything plausible (`/sys/class/thermal`).
pub fn temperature_c(root: &Path) -> Option<f32> {
    let zones = fs::read_dir(root.join("sys/class/thermal")).ok()?.flatten();
    let degrees = zones.filter_map(|zone| Some(number(&zone.path().join("temp"))? as f32 / 1000.0));
    degrees.filter(|degrees| (-40.0..=150.0).contains(degrees)).reduce(f32::max)
}

/// Whether a battery is being emptied (`/sys/class/power_supply`); `None` without a battery.
pub fn on_battery(root: &Path) -> Option<bool> {
    let supplies = fs::read_dir(root.join("sys/class/power_supply")).ok()?.flatten();
    let word = |path: &Path| fs::read_to_string(path).map(|text| text.trim().to_string()).unwrap_or_default();
    let batteries = supplies.map(|supply| supply.path()).filter(|supply| word(&supply.join("type")) == "Battery");
    batteries.map(|battery| word(&battery.join("status")) == "Discharging").reduce(|one, other| one || other)
}

/// `some avg10` of the kernel's pressure stall information about memory, in percent.
pub fn memory_pressure(root: &Path) -> Option<f32> {
    let text = fs::read_to_string(root.join("proc/pressure/memory")).ok()?;
    let some = text.lines().find(|line| line.starts_with("some "))?;
    some.split_whitespace().find_map(|word| word.strip_prefix("avg10="))?.parse().ok()
}

/// Who used the processors: others, and one process that is ours.
#[derive(Debug, Default)]
pub struct Processors {
    /// Moment, ticks of all processors, ticks in which they were busy, ticks of our process.
    looks: VecDeque<(f64, u64, u64, u64)>,
}

impl Processors {
    /// Looks at the clock's `now_s` and gives the share of processor time that others than `ours` used lately; `None` at the
    /// first look.
    pub fn others(&mut self, root: &Path, ours: Option<u32>, now_s: f64) -> Option<f32> {
        let text = fs::read_to_string(root.join("proc/stat")).ok()?;
        let ticks: Vec<u64> =
            text.lines().next()?.split_whitespace().skip(1).filter_map(|word| word.parse().ok()).collect();
        // user, nice, system, idle, iowait, irq, softirq, steal; guests are in user already (proc(5)).
        let total: u64 = ticks.iter().take(8).sum();
        let busy = total - ticks.get(3)? - ticks.get(4)?;
        let own = ours.and_then(|id| process_ticks(root, id)).unwrap_or(0);
        // Another process of ours begins at another count.
        if self.looks.back().is_some_and(|(_, _, _, before)| own < *before || (*before == 0 && own > 0)) {
            self.looks.clear();
        }
        self.looks.push_back((now_s, total, busy, own));
        while self.looks.len() > 2 && now_s - self.looks[1].0 >= WINDOW_S {
            self.looks.pop_front();
        }
        let (_, first_total, first_busy, first_own) = *self.looks.front()?;
        let spent = total.checked_sub(first_total).filter(|spent| *spent > 0)?;
        let others = busy.saturating_sub(first_busy).saturating_sub(own - first_own);
        Some(others as f32 / spent as f32)
    }
}

/// User and system ticks of a process (`/proc/PID/stat`, fields 14 and 15, behind a name that may hold anything).
fn process_ticks(root: &Path, id: u32) -> Option<u64> {
    let text = fs::read_to_string(root.join(format!("proc/{id}/stat"))).ok()?;
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
}

fn number(path: &Path) -> Option<i64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(root: &Path, name: &str, text: &str) {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn a_kernel_that_tells_nothing_hinders_nothing() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        assert_eq!((temperature_c(root), on_battery(root), memory_pressure(root)), (None, None, None));
        assert_eq!(Processors::default().others(root, None, 0.0), None);
    }

    #[test]
    fn the_kernels_files_are_read() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        put(root, "sys/class/thermal/thermal_zone0/temp", "48312\n");
        put(root, "sys/class/thermal/thermal_zone1/temp", "61000\n");
        put(root, "sys/class/thermal/thermal_zone2/temp", "-274000\n");
        assert_eq!(temperature_c(root), Some(61.0));
        put(root, "sys/class/power_supply/AC/type", "Mains\n");
        assert_eq!(on_battery(root), None);
        put(root, "sys/class/power_supply/BAT0/type", "Battery\n");
        put(root, "sys/class/power_supply/BAT0/status", "Charging\n");
        assert_eq!(on_battery(root), Some(false));
        put(root, "sys/class/power_supply/BAT0/status", "Discharging\n");
        assert_eq!(on_battery(root), Some(true));
        put(root, "proc/pressure/memory", "some avg10=12.34 avg60=0.00 avg300=0.00 total=1\nfull avg10=0.00\n");
        assert_eq!(memory_pressure(root), Some(12.34));
    }

    #[test]
    fn the_trainings_own_time_is_not_the_others() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        let mut processors = Processors::default();
        let mut look = |second: f64, busy: u64, idle: u64, own: u64| {
            put(root, "proc/stat", &format!("cpu  {busy} 0 0 {idle} 0 0 0 0 0 0\ncpu0 1 2 3\n"));
            put(root, "proc/7/stat", &format!("7 (a) b) R 1 1 1 1 1 1 1 1 1 1 {own} 0 0 0"));
            processors.others(root, Some(7), second)
        };
        assert_eq!(look(0.0, 100, 900, 10), None);
        assert_eq!(look(1.0, 180, 920, 70), Some(0.2), "80 busy, 60 of them ours, of 100");
        // Ten seconds later the first look no longer counts.
        assert_eq!(look(11.0, 180, 1920, 70), Some(0.0));
    }
}
