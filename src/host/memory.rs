//! The process's memory, read from `/proc/self/status`, and what the system has left for it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Samples private memory until dropped.
pub struct MemoryWatch {
    peak_private: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// How often memory is looked at.
const INTERVAL: Duration = Duration::from_millis(10);

impl MemoryWatch {
    /// Starts to watch.
    pub fn start() -> Self {
        let (peak_private, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (peak, stopped) = (peak_private.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                peak.fetch_max(field("RssAnon:").unwrap_or(0), Ordering::Relaxed);
                std::thread::sleep(INTERVAL);
            }
        });
        Self { peak_private, stop, thread: Some(thread) }
    }

    /// Largest anonymous resident memory seen so far, in bytes: what the process holds for itself alone.
    pub fn peak_private_bytes(&self) -> u64 {
        self.peak_private.fetch_max(field("RssAnon:").unwrap_or(0), Ordering::Relaxed);
        self.peak_private.load(Ordering::Relaxed)
    }

    /// Largest resident memory of the process, in bytes, shared file pages included.
    pub fn peak_rss_bytes(&self) -> u64 {
        field("VmHWM:").unwrap_or(0)
    }
}

impl Drop for MemoryWatch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // The watcher cannot panic; there is nothing to do if it has.
            let _ = thread.join();
        }
    }
}

/// Anonymous resident memory of the process now, in bytes; 0 where the system does not tell.
pub fn private_bytes() -> u64 {
    field("RssAnon:").unwrap_or(0)
}

/// Seconds of all processors that this process has used so far.
#[cfg(feature = "fleet")]
pub fn processor_seconds() -> f64 {
    // The name may hold spaces; what is counted comes behind its bracket, in hundredths (the kernel's USER_HZ).
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields).split_whitespace();
    fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}

/// A field of `/proc/self/status`, in bytes.
fn field(name: &str) -> Option<u64> {
    kibibytes(&fs::read_to_string("/proc/self/status").ok()?, name)
}

/// The number behind a name, in bytes; the kernel gives kibibytes.
fn kibibytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
}

/// Bytes that a process may still take before the system or its control group kills something, swap included; `None` where
/// neither tells. `root` is the root of the file system. Read from `/proc/meminfo` and, for each group that the process is
/// in and each above it, from the limits of version 2 (`memory.max`, which kills, and `memory.high`, beyond which everything is
/// slowed down until it has been written out) or 1 (`memory.limit_in_bytes`) of the kernel's control groups
/// (Documentation/admin-guide/cgroup-v2.rst); files that a group has cached do not count as taken.
pub fn available_bytes(root: &Path) -> Option<u64> {
    let system = meminfo(root, "MemAvailable:").map(|bytes| bytes + meminfo(root, "SwapFree:").unwrap_or(0));
    tightest(root, system, group_left)
}

/// Bytes that a process may ever take: what the machine has, or less where one of its control groups has a limit. Unlike
/// [`available_bytes`] it is the same from run to run.
pub fn installed_bytes(root: &Path) -> Option<u64> {
    tightest(root, meminfo(root, "MemTotal:"), |folder, limit, _| number(folder, limit))
}

fn meminfo(root: &Path, name: &str) -> Option<u64> {
    kibibytes(&fs::read_to_string(root.join("proc/meminfo")).ok()?, name)
}

/// The least of the system's number and those of the control groups from the process's own up to the root.
fn tightest(root: &Path, system: Option<u64>, of_group: fn(&Path, &str, &str) -> Option<u64>) -> Option<u64> {
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let mut least = system;
    for group in groups.lines().filter_map(|line| line.splitn(3, ':').nth(2)) {
        for (mount, limit, usage) in [
            ("sys/fs/cgroup", "memory.max", "memory.current"),
            ("sys/fs/cgroup", "memory.high", "memory.current"),
            ("sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
        ] {
            let mount = root.join(mount);
            let own: PathBuf = mount.join(group.trim_start_matches('/'));
            let folders = own.ancestors().take_while(|folder| folder.starts_with(&mount));
            least = least.into_iter().chain(folders.filter_map(|folder| of_group(folder, limit, usage))).min();
        }
    }
    least
}

/// A file of a control group that holds a number; `None` for `max`.
fn number(folder: &Path, name: &str) -> Option<u64> {
    fs::read_to_string(folder.join(name)).ok()?.trim().parse().ok()
}

/// What a control group's limit leaves; `None` where there is no group or no limit.
fn group_left(folder: &Path, limit: &str, usage: &str) -> Option<u64> {
    let (limit, used) = (number(folder, limit)?, number(folder, usage)?);
    let stat = fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
    let cached = |name: &str| {
        let line = stat.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|number| number.trim().parse::<u64>().ok()).unwrap_or(0)
    };
    Some(limit.saturating_sub(used.saturating_sub(cached("inactive_file") + cached("active_file"))))
}

/// Bytes that this process has asked the system to write so far, from `/proc/self/io`.
pub fn written_bytes() -> Option<u64> {
    let io = fs::read_to_string("/proc/self/io").ok()?;
    io.lines().find_map(|line| line.strip_prefix("write_bytes: "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(root: &Path, name: &str, text: &str) {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn the_tightest_limit_counts_and_cached_files_do_not() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        assert_eq!(available_bytes(root), None);
        file(root, "proc/meminfo", "MemTotal: 9000 kB\nMemAvailable:    3000 kB\nSwapFree: 100 kB\n");
        assert_eq!(available_bytes(root), Some(3100 * 1024));
        assert_eq!(installed_bytes(root), Some(9000 * 1024));
        file(root, "proc/self/cgroup", "0::/a/b\n");
        file(root, "sys/fs/cgroup/a/b/memory.max", "max\n");
        file(root, "sys/fs/cgroup/a/b/memory.current", "50000\n");
        assert_eq!(available_bytes(root), Some(3100 * 1024), "no limit");
        file(root, "sys/fs/cgroup/a/memory.max", "1000000\n");
        file(root, "sys/fs/cgroup/a/memory.current", "600000\n");
        assert_eq!(available_bytes(root), Some(400_000), "the group above has one");
        file(root, "sys/fs/cgroup/a/memory.stat", "anon 1\ninactive_file 100000\nactive_file 50000\n");
        assert_eq!(available_bytes(root), Some(550_000));
        file(root, "sys/fs/cgroup/a/b/memory.high", "250000\n");
        assert_eq!(available_bytes(root), Some(200_000), "beyond memory.high a group crawls");
        file(root, "sys/fs/cgroup/a/b/memory.high", "max\n");
        file(root, "sys/fs/cgroup/memory.max", "100000\n");
        file(root, "sys/fs/cgroup/memory.current", "90000\n");
        assert_eq!(available_bytes(root), Some(10_000), "a container sees its own group as the root");
        assert_eq!(installed_bytes(root), Some(100_000), "whatever is used of it");
    }

    #[test]
    fn version_1_groups_have_limits_too() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        file(root, "proc/self/cgroup", "4:memory:/job\n3:cpu:/job\n");
        file(root, "sys/fs/cgroup/memory/job/memory.limit_in_bytes", "700\n");
        file(root, "sys/fs/cgroup/memory/job/memory.usage_in_bytes", "900\n");
        assert_eq!(available_bytes(root), Some(0));
    }
}
