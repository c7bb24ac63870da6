//! A new search: what is checked and computed before the event loop hears of it, so that a large one holds up nobody.

use super::Error;
use crate::blobs::Blobs;
use crate::search::{Beginning, Search};
use crate::store::Store;
use lora_rates_common::convert::{self, BlobKey, CreateSearch};
use lora_rates_common::optimizer::State;
use lora_rates_common::spec::{SearchSpec, hex};
use sha2::{Digest, Sha256};
use std::collections::HashSet;
use std::sync::Arc;

/// Bytes of a search's identifier: collisions are out of the question.
const ID_BYTES: usize = 8;

/// A search that is ready to be taken in.
pub(super) struct Prepared {
    pub(super) id: String,
    pub(super) create: CreateSearch,
    pub(super) fingerprint: String,
    pub(super) optimizer: State,
    pub(super) search: Box<Search>,
    /// [`Blobs::removals`] before the blobs were looked for.
    pub(super) removals: u64,
}

impl Prepared {
    /// Checks a search. In a trusting service, files are where the search says; otherwise they must be blobs.
    pub(super) fn new(create: CreateSearch, blobs: &Blobs, trusted: bool) -> Result<Self, Error> {
        let removals = blobs.removals();
        let spec = &create.spec;
        if !trusted {
            check_paths(spec)?;
            check_files(spec, blobs)?;
        }
        let id = id_of(&create.request_id);
        let beginning = Beginning { missing: missing(spec, blobs), ..Beginning::new(id.clone(), Arc::clone(spec)) };
        let optimizer = beginning.optimizer.clone();
        let search = Box::new(Search::new(beginning)?);
        Ok(Self { id, fingerprint: spec.fingerprint(), create, optimizer, search, removals })
    }
}

/// The search of a request: the same for the same request.
fn id_of(request_id: &str) -> String {
    let digest = Sha256::digest(request_id);
    hex(digest.get(..ID_BYTES).unwrap_or(&digest))
}

/// A client may name models below the workers' folder, and no place to write to.
fn check_paths(spec: &SearchSpec) -> Result<(), Error> {
    let text = |path: &std::path::Path| path.to_string_lossy().into_owned();
    convert::model_path("spec.model.path", text(&spec.model.path))?;
    if let Some(vae) = &spec.model.vae {
        convert::model_path("spec.model.vae", text(vae))?;
    }
    match &spec.options.cache_dir {
        None => Ok(()),
        Some(folder) => Err(Error::Invalid(convert::Error::Range {
            field: "spec.options.cache_dir".to_owned(),
            value: format!("{:?}", text(folder)),
            expected: "left out: the coordinator keeps encodings in its own folder".to_owned(),
        })),
    }
}

fn check_files(spec: &SearchSpec, blobs: &Blobs) -> Result<(), Error> {
    let networks = spec.networks.iter().map(|it| (&it.path, &it.sha256));
    let files = networks.chain(spec.images.iter().map(|it| (&it.path, &it.sha256)));
    let missing = blobs.missing(files.map(|file| (file, BlobKey::File(file.1.clone()))));
    match missing.first() {
        None => Ok(()),
        Some((path, sha256)) => {
            let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
            Err(Error::MissingBlobs { count: missing.len(), name, sha256: (*sha256).clone() })
        }
    }
}

/// Encodings that nobody has made yet.
pub(super) fn missing(spec: &SearchSpec, blobs: &Blobs) -> Vec<(u32, bool)> {
    let key = |(image, flip)| Some(((image, flip), BlobKey::Encoding(spec.encoding_key(image, flip)?)));
    blobs.missing(spec.encodings().into_iter().filter_map(key))
}

/// All blobs that a search may need, but for its sample pictures, which the store knows.
pub(super) fn blobs_of(spec: &SearchSpec) -> Vec<BlobKey> {
    let networks = spec.networks.iter().map(|network| BlobKey::File(network.sha256.clone()));
    let images = spec.images.iter().map(|image| BlobKey::File(image.sha256.clone()));
    let encoding = |(image, flip)| spec.encoding_key(image, flip).map(BlobKey::Encoding);
    networks.chain(images).chain(spec.encodings().into_iter().filter_map(encoding)).collect()
}

/// Removes blobs that have lain there for a week and that no search needs: of uploads whose search was never created.
pub(super) fn remove_unneeded(store: &Store, blobs: &Blobs) -> Result<(), Error> {
    let mut old: HashSet<BlobKey> = blobs.take_old().into_iter().collect();
    if old.is_empty() {
        return Ok(());
    }
    for stored in store.searches()? {
        let pictures = store.pictures(&stored.id)?.into_iter().map(BlobKey::File);
        for key in blobs_of(&store.spec(&stored.id)?).into_iter().chain(pictures) {
            old.remove(&key);
        }
    }
    if !old.is_empty() {
        tracing::info!("removing {} blobs that no search needs", old.len());
        blobs.remove(old.into_iter().collect()).finish_here();
    }
    Ok(())
}
