//! The most memory in use while something runs.

use super::LOOK;
use crate::device::{self, Device};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

/// Looks at a device's memory from a thread of its own, counting what came on top of the beginning.
pub(super) struct Watch {
    device: Device,
    before: u64,
    peak: Arc<AtomicU64>,
    done: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    pub(super) fn start(device: Device) -> Self {
        let before = used(device);
        let (peak, done) = (Arc::new(AtomicU64::new(before)), Arc::new(AtomicBool::new(false)));
        let thread = {
            let (peak, done) = (peak.clone(), done.clone());
            thread::spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    peak.fetch_max(used(device), Ordering::Relaxed);
                    thread::sleep(LOOK);
                }
            })
        };
        Self { device, before, peak, done, thread: Some(thread) }
    }

    /// Bytes in use now.
    pub(super) fn now(&self) -> u64 {
        used(self.device).saturating_sub(self.before)
    }

    /// The most bytes in use so far.
    pub(super) fn peak(&self) -> u64 {
        self.peak.load(Ordering::Relaxed).max(used(self.device)).saturating_sub(self.before)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Bytes of the device's memory in use; on the CPU this process's resident pages.
fn used(device: Device) -> u64 {
    device::memory(device).map_or_else(|| resident().unwrap_or(0), |(used, _)| used)
}

fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()? * 1024)
}
