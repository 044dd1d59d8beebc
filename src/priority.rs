//! Standing back: work of ours that goes on only where nothing else on the machine wants the processor or the disk.

/// Lets everything else on the machine go first. Linux's policy `SCHED_IDLE` (sched(7)): whoever wakes up takes the processor at once,
/// which a nice value alone does not bring about; and with it comes the idle class for disks (ioprio_set(2)). Threads that this one
/// starts later stand back with it. Where the system forbids a call, the process works as it did.
pub fn stand_back() {
    const LAST: i32 = 19;
    let _ = rustix::process::setpriority_process(None, LAST);
    #[cfg(target_os = "linux")]
    {
        // SAFETY: all zeros is a value of this struct of numbers, and the call reads it while it lasts and keeps nothing.
        unsafe {
            let parameters: libc::sched_param = std::mem::zeroed();
            let _ = libc::sched_setscheduler(0, libc::SCHED_IDLE, &parameters);
        }
    }
}
