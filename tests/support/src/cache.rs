//! Files made once and shared by all test processes of this user.
//!
//! A file appears under its final name only when it is whole: it is written beside it and renamed. Two processes that
//! make the same file at once write the same bytes, so whichever rename comes last changes nothing. The folder's name
//! contains a checksum of what the file is made of, so a changed fixture never meets an old file.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use flate2::Crc;
use flate2::read::GzDecoder;

/// The path of the cached file `name` below the folder of `key`; `make` gives its bytes if it is not there yet.
pub(crate) fn file(key: &str, name: &str, make: impl FnOnce() -> Vec<u8>) -> PathBuf {
    // Threads of one process wait for each other, so that they do not all make the same file.
    static MAKING: Mutex<()> = Mutex::new(());

    let path = folder(key).join(name);
    if path.is_file() {
        return path;
    }
    let _guard = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    if !path.is_file() {
        publish(&path, &make());
    }
    path
}

/// The folder in which files of `key` lie.
pub(crate) fn folder(key: &str) -> PathBuf {
    // Users of one machine may share the temporary directory, but cannot write each other's folders.
    let home = std::env::var_os("HOME").unwrap_or_default();
    let user = crc(home.as_encoded_bytes());
    std::env::temp_dir().join(format!("lora-rates-fixtures-{user:08x}")).join(key)
}

/// A key made of the contents of `files`: checksum and length of each, read from the last 8 bytes of compressed ones.
pub(crate) fn stamp(files: &[&Path]) -> String {
    let mut all = env!("CARGO_PKG_VERSION").as_bytes().to_vec();
    for path in files {
        if path.extension().is_some_and(|extension| extension == "gz") {
            all.extend(trailer(path));
        } else {
            let bytes = read(path);
            all.extend(crc(&bytes).to_le_bytes());
            all.extend((bytes.len() as u32).to_le_bytes());
        }
    }
    format!("{:08x}", crc(&all))
}

/// The contents of a gzip file.
pub(crate) fn unpack(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    GzDecoder::new(open(path))
        .read_to_end(&mut bytes)
        .unwrap_or_else(|error| panic!("the fixture {} is damaged: {error}", path.display()));
    bytes
}

/// The contents of a file.
pub(crate) fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|error| panic!("cannot read the fixture {}: {error}", path.display()))
}

/// CRC-32 of some bytes.
pub(crate) fn crc(bytes: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(bytes);
    crc.sum()
}

/// A gzip file's last 8 bytes: CRC-32 and length of what it holds (RFC 1952).
fn trailer(path: &Path) -> [u8; 8] {
    let mut last = [0; 8];
    let mut file = open(path);
    file.seek(SeekFrom::End(-8))
        .and_then(|_| file.read_exact(&mut last))
        .unwrap_or_else(|error| panic!("the fixture {} is damaged: {error}", path.display()));
    last
}

fn open(path: &Path) -> File {
    File::open(path).unwrap_or_else(|error| panic!("cannot open the fixture {}: {error}", path.display()))
}

fn publish(path: &Path, bytes: &[u8]) {
    static NEXT: AtomicU64 = AtomicU64::new(0);

    let parent = path.parent().expect("a cached file lies in its key's folder");
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.subsec_nanos());
    let count = NEXT.fetch_add(1, Ordering::Relaxed);
    let partial = parent.join(format!(".partial-{}-{count}-{nanos}", std::process::id()));
    fs::create_dir_all(parent)
        .and_then(|()| File::create_new(&partial)?.write_all(bytes))
        .and_then(|()| fs::rename(&partial, path))
        .unwrap_or_else(|error| panic!("cannot write the fixture cache {}: {error}", path.display()));
}
