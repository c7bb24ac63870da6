//! Which files of a folder are pictures, and what the names of its folders say.

use super::{Error, count};
use std::io;
use std::path::{Path, PathBuf};

/// Most repeats that a folder's name may ask for: more is a mistake.
pub(super) const MAX_REPEATS: u32 = 100_000;

/// Extensions that are read.
const PICTURES: [&str; 4] = ["png", "jpg", "jpeg", "webp"];

/// Extensions of pictures that are not read.
const OTHER_PICTURES: [&str; 9] = ["bmp", "gif", "tif", "tiff", "avif", "heic", "heif", "jxl", "tga"];

/// Pictures that share repeats and class.
pub(super) struct Subset {
    /// In no particular order.
    pub(super) pictures: Vec<PathBuf>,
    pub(super) repeats: u32,
    /// Caption of pictures without a caption file; may be empty.
    pub(super) class: String,
}

/// What a folder holds; hidden entries are passed over.
#[derive(Default)]
struct Listing {
    pictures: Vec<PathBuf>,
    folders: Vec<PathBuf>,
    other_pictures: usize,
}

/// The pictures of every folder `N_class` below `root`, or those of `root` itself.
pub(super) fn subsets(root: &Path, warnings: &mut Vec<String>) -> Result<Vec<Subset>, Error> {
    let Listing { pictures, folders, mut other_pictures } = list(root)?;
    let mut subsets = Vec::new();
    for folder in folders {
        let Some((repeats, class)) = name(&folder)? else {
            let why = "its name is not of the form N_class, such as 5_cat for five repeats";
            warnings.push(format!("the folder {} is passed over: {why}", folder.display()));
            continue;
        };
        let listing = list(&folder)?;
        other_pictures += listing.other_pictures;
        if let Some(inner) = listing.folders.first() {
            warnings.push(format!("the folder {} is passed over: it lies too deep", inner.display()));
        }
        if listing.pictures.is_empty() {
            warnings.push(format!("the folder {} has no pictures", folder.display()));
            continue;
        }
        if let Some(picture) = pictures.first() {
            return Err(Error::Both { picture: picture.clone(), folder });
        }
        subsets.push(Subset { pictures: listing.pictures, repeats, class });
    }
    if other_pictures > 0 {
        let files = count(other_pictures, "picture");
        warnings.push(format!("{files} below {} passed over: only png, jpg and webp are read", root.display()));
    }
    if !pictures.is_empty() {
        subsets.push(Subset { pictures, repeats: 1, class: String::new() });
    }
    if subsets.is_empty() {
        return Err(Error::Empty { path: root.into() });
    }
    Ok(subsets)
}

/// Sorted, so that messages do not depend on the file system's order.
fn list(path: &Path) -> Result<Listing, Error> {
    let unreadable = |source: io::Error| Error::Folder { path: path.into(), source };
    let entries = path.read_dir().map_err(unreadable)?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>().map_err(unreadable)?;
    paths.sort();
    let mut listing = Listing::default();
    for path in paths {
        if path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".")) {
            continue;
        }
        if path.is_dir() {
            listing.folders.push(path);
        } else if has_extension(&path, &PICTURES) {
            if path.to_str().is_none() {
                return Err(Error::Name { path });
            }
            listing.pictures.push(path);
        } else if has_extension(&path, &OTHER_PICTURES) {
            listing.other_pictures += 1;
        }
    }
    Ok(listing)
}

fn has_extension(path: &Path, extensions: &[&str]) -> bool {
    path.extension().is_some_and(|found| extensions.iter().any(|extension| found.eq_ignore_ascii_case(extension)))
}

/// Repeats and class of a folder `N_class`; `None` for other names.
fn name(folder: &Path) -> Result<Option<(u32, String)>, Error> {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let Some((repeats, class)) = name.split_once('_') else { return Ok(None) };
    if repeats.is_empty() || !repeats.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    match repeats.parse() {
        Ok(repeats @ 1..=MAX_REPEATS) => Ok(Some((repeats, class.trim().to_owned()))),
        _ => Err(Error::Repeats { path: folder.into() }),
    }
}
