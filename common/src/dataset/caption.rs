//! The text that belongs to a picture.

use super::{Error, count};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Most bytes of a caption file; the encoders read some hundred words of it.
const MAX_BYTES: u64 = 1 << 20;

/// Finds captions, and keeps account of pictures that have none.
pub(super) struct Captions {
    /// Without its dot.
    extension: String,
    pictures: usize,
    /// Pictures whose caption is empty.
    empty: usize,
    /// Pictures without a caption file, but with a `.txt` file that is not read.
    unread: usize,
}

impl Captions {
    /// `extension` may begin with a dot.
    pub(super) fn new(extension: &str) -> Result<Self, Error> {
        let bare = extension.strip_prefix('.').unwrap_or(extension);
        if bare.trim().is_empty() || bare.contains(['/', '\\', '\0']) {
            return Err(Error::CaptionExtension(extension.to_owned()));
        }
        Ok(Self { extension: bare.to_owned(), pictures: 0, empty: 0, unread: 0 })
    }

    /// First line of the caption file beside the picture, else the class.
    pub(super) fn of(&mut self, picture: &Path, class: &str) -> Result<String, Error> {
        self.pictures += 1;
        let found = read(&picture.with_extension(&self.extension))?;
        if found.is_none() && picture.with_extension("txt").is_file() {
            self.unread += 1;
        }
        let caption = found.unwrap_or_else(|| class.to_owned());
        self.empty += usize::from(caption.is_empty());
        Ok(caption)
    }

    /// What the user should know when captions were missed.
    pub(super) fn warning(&self) -> Option<String> {
        let Self { extension, pictures, empty, unread } = self;
        let empty = (*empty > 0).then(|| format!("{empty} of {} have an empty caption", count(*pictures, "picture")));
        let unread = (*unread > 0).then(|| {
            format!(
                "{unread} have no .{extension} file but a .txt file, which is not read: set caption_extension to .txt"
            )
        });
        let parts: Vec<_> = empty.into_iter().chain(unread).collect();
        (!parts.is_empty()).then(|| parts.join("; "))
    }
}

/// First line of the file, trimmed; `None` if there is no such file.
fn read(path: &Path) -> Result<Option<String>, Error> {
    let unreadable = |source| Error::Caption { path: path.into(), source };
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(unreadable)?,
    };
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Error::CaptionTooLong { path: path.into(), limit: MAX_BYTES });
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| Error::CaptionEncoding { path: path.into() })?;
    // Some editors begin a file with a byte order mark.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    Ok(Some(text.lines().next().unwrap_or_default().trim().to_owned()))
}
