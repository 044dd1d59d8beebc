//! The process's memory, read from `/proc/self/status`.

use std::fs;
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

/// A field of `/proc/self/status`, in bytes; the kernel gives kibibytes.
fn field(name: &str) -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with(name))?;
    let kibibytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kibibytes * 1024)
}

/// Bytes that this process has asked the system to write so far, from `/proc/self/io`.
pub fn written_bytes() -> Option<u64> {
    let io = fs::read_to_string("/proc/self/io").ok()?;
    io.lines().find_map(|line| line.strip_prefix("write_bytes: "))?.trim().parse().ok()
}
