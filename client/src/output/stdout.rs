//! Writing data to standard output.

use std::io::{self, Write};

/// Writes the text. A reader that has gone away, as `head` does, is no error.
///
/// # Errors
/// The operating system refuses for another reason, such as a full disk.
pub fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
        _ => Ok(()),
    }
}
