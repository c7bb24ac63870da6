//! What there is of which blob.

use super::{Error, Options};
use lora_rates_common::convert::BlobKey;
use std::collections::{HashMap, HashSet};
use tokio::time::Instant;

/// One that is running.
struct Running {
    /// Tells it from later ones of the same blob.
    number: u64,
    /// Bytes that it may still send.
    reserved: u64,
    heard: Instant,
}

#[derive(Default)]
pub(super) struct State {
    /// Bytes of all that are complete.
    pub(super) complete: HashMap<BlobKey, u64>,
    /// Bytes received of others.
    pub(super) parts: HashMap<BlobKey, u64>,
    /// Of those that are complete, the ones that have lain there for long.
    pub(super) old: Vec<BlobKey>,
    /// Being deleted.
    pub(super) removing: HashSet<BlobKey>,
    /// How often some were removed.
    pub(super) removals: u64,
    running: HashMap<BlobKey, Running>,
    begun: u64,
    /// Bytes of all in `complete` and `parts`, and reserved.
    bytes: u64,
}

impl State {
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Takes note of a file that was found.
    pub(super) fn found(&mut self, key: BlobKey, size: u64, complete: bool) {
        self.bytes += size;
        let map = if complete { &mut self.complete } else { &mut self.parts };
        map.insert(key, size);
    }

    /// Reserves space for an upload, and returns its number.
    pub(super) fn begin(&mut self, key: &BlobKey, size: u64, offset: u64, options: &Options) -> Result<u64, Error> {
        let limit = options.max_bytes;
        if self.removing.contains(key) {
            return Err(Error::InUse(key.digits().to_owned()));
        }
        if let Some(running) = self.running.get(key) {
            if running.heard.elapsed() < options.patience {
                return Err(Error::InUse(key.digits().to_owned()));
            }
            self.bytes -= running.reserved;
            self.running.remove(key);
        }
        let received = self.parts.get(key).copied().unwrap_or_default();
        if offset != 0 && offset != received {
            return Err(Error::Offset { found: offset, received });
        }
        let others = self.bytes - received;
        if others.checked_add(size).is_none_or(|sum| sum > limit) {
            return Err(Error::Quota { size, free: limit.saturating_sub(others), limit });
        }
        // What was received counts as received only if it is gone on with.
        self.parts.insert(key.clone(), offset);
        let reserved = size.saturating_sub(offset);
        self.bytes = others + offset + reserved;
        self.begun += 1;
        self.running.insert(key.clone(), Running { number: self.begun, reserved, heard: Instant::now() });
        Ok(self.begun)
    }

    /// An upload is about to write so many bytes.
    pub(super) fn write(&mut self, key: &BlobKey, number: u64, bytes: u64) -> Result<(), Error> {
        let running = self.running.get_mut(key).filter(|running| running.number == number);
        let running = running.ok_or_else(|| Error::InUse(key.digits().to_owned()))?;
        running.heard = Instant::now();
        running.reserved = running.reserved.saturating_sub(bytes);
        *self.parts.entry(key.clone()).or_default() += bytes;
        Ok(())
    }

    /// An upload ends: whole, or with so many bytes on the disk.
    pub(super) fn end(&mut self, key: &BlobKey, number: u64, complete: bool, kept: u64) {
        if self.running.get(key).is_none_or(|running| running.number != number) {
            return;
        }
        let reserved = self.running.remove(key).map_or(0, |running| running.reserved);
        let received = self.parts.remove(key).unwrap_or_default();
        self.bytes = self.bytes - reserved - received + kept;
        if complete {
            self.complete.insert(key.clone(), kept);
        } else if kept > 0 {
            self.parts.insert(key.clone(), kept);
        }
    }

    /// Those that are complete are so no more, and belong to who asked.
    pub(super) fn begin_removal(&mut self, keys: Vec<BlobKey>) -> Vec<BlobKey> {
        self.removals += 1;
        let removed = keys.into_iter().filter(|key| {
            let size = self.complete.remove(key);
            self.bytes -= size.unwrap_or_default();
            size.is_some() && self.removing.insert(key.clone())
        });
        removed.collect()
    }
}
