//! The energy that the machine took, where it measures that itself; nothing is ever guessed.
//!
//! Three meters are read: the counters of x86 processors (RAPL: powercap's `energy_uj`, Documentation/power/powercap/powercap.rst), the
//! INA3221 of Jetson boards through hwmon (Documentation/hwmon/ina3221.rst), and the power management chip of a Raspberry Pi 5
//! through `vcgencmd pmic_read_adc`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// How often a meter is read.
const INTERVAL: Duration = Duration::from_millis(500);
/// Sleeps between two looks at whether to end.
const NAP: Duration = Duration::from_millis(20);
/// Labels of the rail that everything on a Jetson board is fed from.
const BOARD_RAILS: [&str; 5] = ["VDD_IN", "5V_IN", "VDD_5V_IN", "POM_5V_IN", "SYS_VIN_HV"];

/// What measures.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Meter {
    /// Counters in microjoules, each with the value that it begins anew at.
    Rapl(Vec<(PathBuf, u64)>),
    /// Files with millivolts and milliamperes.
    Ina3221(Vec<(PathBuf, PathBuf)>),
    /// A program that prints volts and amperes.
    Pmic,
}

impl Meter {
    /// The meter of a machine whose file system begins at `root`.
    fn find(root: &Path) -> Option<Self> {
        rapl(root).or_else(|| ina3221(root)).or_else(|| is_raspberry_pi_5(root).then_some(Self::Pmic))
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Rapl(_) => "the processor's RAPL counters",
            Self::Ina3221(_) => "the board's INA3221",
            Self::Pmic => "the rails of the board's power management chip",
        }
    }

    /// The power now in watts; `None` where the meter counts energy, or cannot be read.
    fn watts(&self) -> Option<f64> {
        match self {
            Self::Rapl(_) => None,
            Self::Ina3221(rails) => rails
                .iter()
                .map(|(volts, amperes)| Some(number(volts)? as f64 * number(amperes)? as f64 / 1e6))
                .sum::<Option<f64>>(),
            Self::Pmic => {
                let printed = Command::new("vcgencmd").arg("pmic_read_adc").stdin(Stdio::null()).output().ok()?;
                pmic_watts(&String::from_utf8_lossy(&printed.stdout))
            }
        }
    }
}

/// The counters of all processor packages, if they may be read.
fn rapl(root: &Path) -> Option<Meter> {
    let zones = fs::read_dir(root.join("sys/class/powercap")).ok()?.flatten().map(|zone| zone.path());
    // `intel-rapl:0` is a package, `intel-rapl:0:1` a part of it.
    let is_package = |zone: &PathBuf| {
        let name = zone.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.starts_with("intel-rapl:")
            && name.matches(':').count() == 1
            && word(&zone.join("name")).starts_with("package")
    };
    let counter = |zone: PathBuf| {
        let range = number(&zone.join("max_energy_range_uj"))?;
        number(&zone.join("energy_uj")).map(|_| (zone.join("energy_uj"), range))
    };
    let counters: Vec<_> = zones.filter(is_package).filter_map(counter).collect();
    (!counters.is_empty()).then_some(Meter::Rapl(counters))
}

/// The rail that feeds the board, or all rails where none is said to.
fn ina3221(root: &Path) -> Option<Meter> {
    let chips = fs::read_dir(root.join("sys/class/hwmon")).ok()?.flatten().map(|chip| chip.path());
    let mut rails = Vec::new();
    for chip in chips.filter(|chip| word(&chip.join("name")) == "ina3221") {
        for rail in 1..=3 {
            let files = (chip.join(format!("in{rail}_input")), chip.join(format!("curr{rail}_input")));
            if files.0.exists() && files.1.exists() {
                rails.push((word(&chip.join(format!("in{rail}_label"))), files));
            }
        }
    }
    if let Some((_, board)) = rails.iter().find(|(label, _)| BOARD_RAILS.contains(&label.as_str())) {
        return Some(Meter::Ina3221(vec![board.clone()]));
    }
    (!rails.is_empty()).then(|| Meter::Ina3221(rails.into_iter().map(|(_, files)| files).collect()))
}

fn is_raspberry_pi_5(root: &Path) -> bool {
    word(&root.join("proc/device-tree/model")).starts_with("Raspberry Pi 5")
}

/// The power of what `vcgencmd pmic_read_adc` prints: a line `NAME_A current(n)=…A` and one `NAME_V volt(n)=…V` for each rail. What has
/// only one of them is no rail.
fn pmic_watts(printed: &str) -> Option<f64> {
    let value = |end: &str, unit: char| -> Vec<(String, f64)> {
        let one = |line: &str| {
            let (name, number) = line.trim().split_once(' ')?;
            let number = number.rsplit_once('=')?.1.trim().strip_suffix(unit)?.parse().ok()?;
            Some((name.strip_suffix(end)?.to_string(), number))
        };
        printed.lines().filter_map(one).collect()
    };
    let volts = value("_V", 'V');
    let rails: Vec<f64> = value("_A", 'A')
        .into_iter()
        .filter_map(|(name, amperes)| Some(amperes * volts.iter().find(|(rail, _)| *rail == name)?.1))
        .collect();
    (!rails.is_empty()).then(|| rails.iter().sum())
}

/// Energy so far, and what was read last.
#[derive(Debug, Default)]
struct Sum {
    joules: f64,
    /// Moment and watts.
    power: Option<(f64, f64)>,
    counters: Vec<u64>,
}

impl Sum {
    /// Power between two looks is the mean of both.
    fn add_power(&mut self, now_s: f64, watts: f64) {
        if let Some((before_s, before)) = self.power {
            self.joules += (now_s - before_s).max(0.0) * (watts + before) / 2.0;
        }
        self.power = Some((now_s, watts));
    }

    /// Counters in microjoules, each with its range.
    fn add_counters(&mut self, counters: &[(u64, u64)]) {
        for ((now, range), before) in counters.iter().zip(&self.counters) {
            let microjoules = if now >= before { now - before } else { range - before + now };
            self.joules += microjoules as f64 / 1e6;
        }
        self.counters = counters.iter().map(|(now, _)| *now).collect();
    }

    fn read(&mut self, meter: &Meter, root: &Path) {
        match meter {
            Meter::Rapl(files) => {
                let counters: Option<Vec<_>> =
                    files.iter().map(|(file, range)| Some((number(file)?, *range))).collect();
                if let Some(counters) = counters {
                    self.add_counters(&counters);
                }
            }
            meter => {
                if let (Some(watts), Some(now_s)) = (meter.watts(), uptime_s(root)) {
                    self.add_power(now_s, watts);
                }
            }
        }
    }
}

/// Measures the machine's energy until dropped: all that runs on it, not this process alone.
pub struct EnergyWatch {
    meter: &'static str,
    joules: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl EnergyWatch {
    /// Starts to measure; `None` where the machine has no meter that may be read. `root` is the root of the file system.
    pub fn start(root: &Path) -> Option<Self> {
        let meter = Meter::find(root)?;
        let mut sum = Sum::default();
        sum.read(&meter, root);
        let (joules, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (name, root, told, stopped) = (meter.name(), root.to_owned(), joules.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            let naps = INTERVAL.as_millis() / NAP.as_millis();
            for nap in 1u128.. {
                std::thread::sleep(NAP);
                let ends = stopped.load(Ordering::Relaxed);
                if ends || nap % naps == 0 {
                    sum.read(&meter, &root);
                    told.store(sum.joules.to_bits(), Ordering::Relaxed);
                }
                if ends {
                    return;
                }
            }
        });
        Some(Self { meter: name, joules, stop, thread: Some(thread) })
    }

    /// Joules so far, as of half a second ago at most.
    pub fn joules(&self) -> f64 {
        f64::from_bits(self.joules.load(Ordering::Relaxed))
    }

    /// What measures.
    pub fn meter(&self) -> &'static str {
        self.meter
    }
}

impl Drop for EnergyWatch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // The watcher cannot panic; there is nothing to do if it has.
            let _ = thread.join();
        }
    }
}

/// Seconds since the machine started.
fn uptime_s(root: &Path) -> Option<f64> {
    word(&root.join("proc/uptime")).split(' ').next()?.parse().ok()
}

fn number(path: &Path) -> Option<u64> {
    word(path).parse().ok()
}

/// A file's text without what stands around it; empty where it cannot be read.
fn word(path: &Path) -> String {
    fs::read_to_string(path).map(|text| text.trim_matches(['\0', ' ', '\n']).to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn a_machine_without_a_meter_is_not_measured() {
        assert!(EnergyWatch::start(tree(&[("proc/uptime", "12.50 40.00\n")]).path()).is_none());
        let other = [("sys/class/hwmon/hwmon0/name", "nvme\n"), ("sys/class/hwmon/hwmon0/in1_input", "5000\n")];
        assert!(Meter::find(tree(&other).path()).is_none());
    }

    #[test]
    fn counters_of_packages_are_added_and_begin_anew_at_their_range() {
        let root = tree(&[
            ("sys/class/powercap/intel-rapl:0/name", "package-0\n"),
            ("sys/class/powercap/intel-rapl:0/energy_uj", "1000000\n"),
            ("sys/class/powercap/intel-rapl:0/max_energy_range_uj", "262143328850\n"),
            ("sys/class/powercap/intel-rapl:0:0/name", "core\n"),
            ("sys/class/powercap/intel-rapl:0:0/energy_uj", "500000\n"),
            ("sys/class/powercap/intel-rapl:0:0/max_energy_range_uj", "262143328850\n"),
        ]);
        let Some(Meter::Rapl(counters)) = Meter::find(root.path()) else { panic!("no counters") };
        assert_eq!(counters.len(), 1, "a part of a package is counted in it");
        let mut sum = Sum::default();
        [(9_000_000, 10_000_000), (9_500_000, 10_000_000), (250_000, 10_000_000)]
            .iter()
            .for_each(|counter| sum.add_counters(&[*counter]));
        assert!((sum.joules - 1.25).abs() < 1e-9, "{}", sum.joules);
    }

    #[test]
    fn the_rail_that_feeds_a_jetson_is_taken_alone() {
        let chip = "sys/class/hwmon/hwmon3";
        let file = |name: &str| format!("{chip}/{name}");
        let names: Vec<(String, &str)> = [
            ("name", "ina3221\n"),
            ("in1_label", "VDD_IN\n"),
            ("in1_input", "5000\n"),
            ("curr1_input", "1200\n"),
            ("in2_label", "VDD_CPU_GPU_CV\n"),
            ("in2_input", "5000\n"),
            ("curr2_input", "400\n"),
        ]
        .map(|(name, text)| (file(name), text))
        .into();
        let files: Vec<(&str, &str)> = names.iter().map(|(name, text)| (name.as_str(), *text)).collect();
        let root = tree(&files);
        assert_eq!(Meter::find(root.path()).unwrap().watts(), Some(6.0));
        fs::write(root.path().join(file("in1_label")), "VDD_GPU\n").unwrap();
        assert_eq!(Meter::find(root.path()).unwrap().watts(), Some(8.0), "all rails, where none feeds the others");
    }

    #[test]
    fn rails_of_a_raspberry_pi_5_have_volts_and_amperes() {
        let printed = " 3V7_WL_SW_A current(0)=0.10000000A\n    VDD_CORE_A current(7)=2.00000000A\n 3V7_WL_SW_V volt(8)=3.70000000V\n     \
                       VDD_CORE_V volt(15)=0.75000000V\n      EXT5V_V volt(24)=5.10000000V\n";
        assert!((pmic_watts(printed).unwrap() - 1.87).abs() < 1e-9);
        assert_eq!(pmic_watts("error=1 error_msg=\"Command not registered\"\n"), None);
        let pi = tree(&[("proc/device-tree/model", "Raspberry Pi 5 Model B Rev 1.0\0")]);
        assert_eq!(Meter::find(pi.path()), Some(Meter::Pmic));
        assert_eq!(Meter::find(tree(&[("proc/device-tree/model", "Raspberry Pi 4 Model B\0")]).path()), None);
    }

    #[test]
    fn power_is_summed_over_time() {
        let mut sum = Sum::default();
        for (now_s, watts) in [(10.0, 4.0), (11.0, 6.0), (13.0, 6.0)] {
            sum.add_power(now_s, watts);
        }
        assert!((sum.joules - 17.0).abs() < 1e-9, "{}", sum.joules);
    }

    #[test]
    fn a_board_is_measured_while_it_is_watched() {
        let rail = "sys/class/hwmon/hwmon0";
        let root = tree(&[
            (&format!("{rail}/name"), "ina3221"),
            (&format!("{rail}/in1_input"), "5000"),
            (&format!("{rail}/curr1_input"), "1000"),
            ("proc/uptime", "100.00 1.00"),
        ]);
        let watch = EnergyWatch::start(root.path()).unwrap();
        fs::write(root.path().join("proc/uptime"), "102.00 1.00").unwrap();
        while watch.joules() == 0.0 {
            std::thread::sleep(NAP);
        }
        assert!((watch.joules() - 10.0).abs() < 1e-9, "{}", watch.joules());
        assert_eq!(watch.meter(), "the board's INA3221");
    }
}
