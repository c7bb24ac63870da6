//! Decoding of all pictures, on every processor core.

use crate::picture::{self, Error};
use sha2::{Digest, Sha256};
use std::num::NonZero;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, Builder};

/// Most pictures in memory at a time.
const MAX_THREADS: usize = 16;

/// What a picture's file tells.
pub(super) struct Loaded {
    /// Of the file's bytes, in hexadecimal digits.
    pub(super) sha256: String,
    /// Width and height of the upright picture.
    pub(super) size: (u32, u32),
}

/// Decodes every file; the results are in the order of the paths.
///
/// # Errors
/// The error of the first file, in this order, that cannot be decoded: which one does not depend on the threads,
/// because a file is only started when all before it were.
pub(super) fn all(paths: &[&Path]) -> Result<Vec<Loaded>, Error> {
    let next = AtomicUsize::new(0);
    let failed = AtomicBool::new(false);
    let work = || {
        let mut done = Vec::new();
        while !failed.load(Ordering::Relaxed) {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(path) = paths.get(index) else { break };
            let result = one(path);
            if result.is_err() {
                failed.store(true, Ordering::Relaxed);
            }
            done.push((index, result));
        }
        done
    };
    let threads = thread::available_parallelism().map_or(1, NonZero::get).min(MAX_THREADS).min(paths.len());
    let mut done = thread::scope(|scope| {
        // This thread works too, so a system that grants no further one only takes longer.
        let others: Vec<_> = (1..threads).filter_map(|_| Builder::new().spawn_scoped(scope, work).ok()).collect();
        let mut done = work();
        for other in others {
            match other.join() {
                Ok(part) => done.extend(part),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        done
    });
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}

fn one(path: &Path) -> Result<Loaded, Error> {
    let bytes = picture::read(path)?;
    let image = picture::decode(&bytes, path)?;
    Ok(Loaded { sha256: format!("{:x}", Sha256::digest(&bytes)), size: image.dimensions() })
}
