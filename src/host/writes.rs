//! What processes write to disks: flash memory and SD cards wear by it.
//!
//! The kernel counts what each process sends to a disk (`/proc/PID/io`, `write_bytes`; proc_pid_io(5)), memory file systems left out.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// What processes have written since the last look at them.
#[derive(Debug, Default)]
pub struct WriteMeter(BTreeMap<u32, u64>);

impl WriteMeter {
    /// Bytes that these processes wrote since the last look; `None` where the kernel counts for none of them. A process whose
    /// end was not waited for yet is still counted.
    pub fn written_since_last(&mut self, root: &Path, processes: &[u32]) -> Option<u64> {
        let found: Vec<(u32, u64)> = processes.iter().filter_map(|id| Some((*id, written(root, *id)?))).collect();
        // A number below the last is another process of the same number.
        let before = |id: &u32, now: u64| self.0.get(id).copied().filter(|before| *before <= now).unwrap_or(0);
        let more = found.iter().map(|(id, now)| now - before(id, *now)).sum();
        let known = !found.is_empty();
        self.0 = found.into_iter().collect();
        known.then_some(more)
    }
}

fn written(root: &Path, process: u32) -> Option<u64> {
    let text = fs::read_to_string(root.join(format!("proc/{process}/io"))).ok()?;
    text.lines().find_map(|line| line.strip_prefix("write_bytes: "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_are_counted_from_look_to_look() {
        let root = tempfile::tempdir().unwrap();
        let put = |id: u32, bytes: u64| {
            fs::create_dir_all(root.path().join(format!("proc/{id}"))).unwrap();
            let text = format!("rchar: 1\nwchar: 2\nread_bytes: 3\nwrite_bytes: {bytes}\ncancelled_write_bytes: 0\n");
            fs::write(root.path().join(format!("proc/{id}/io")), text).unwrap();
        };
        let mut meter = WriteMeter::default();
        assert_eq!(meter.written_since_last(root.path(), &[7]), None, "a kernel that does not count");
        put(7, 100);
        assert_eq!(meter.written_since_last(root.path(), &[7, 8]), Some(100));
        put(7, 150);
        put(8, 30);
        assert_eq!(meter.written_since_last(root.path(), &[7, 8]), Some(80));
        put(8, 10);
        assert_eq!(meter.written_since_last(root.path(), &[7, 8]), Some(10), "another process of the same number");
        assert_eq!(meter.written_since_last(root.path(), &[8]), Some(0));
    }
}
