//! Files that are whole or not there.

use std::io::{self, Write as _};
use std::path::Path;

/// Puts a file in the place of another at once: nobody ever sees half of it.
///
/// # Errors
/// The operating system refuses.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let name = path.file_name().ok_or_else(|| io::Error::other("the path has no file name"))?;
    let partial = path.with_file_name(format!(".{}.{}.partial", name.to_string_lossy(), std::process::id()));
    let write = || {
        let mut file = std::fs::File::create(&partial)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&partial, path)
    };
    write().inspect_err(|_| {
        // Nothing better can be done about what is left of it.
        let _ = std::fs::remove_file(&partial);
    })
}
