//! Sending the files that a search is made of, those that the coordinator lacks.

use super::{Error, Target};
use crate::progress::note;
use indicatif::{ProgressBar, ProgressStyle};
use lora_rates_common::convert::BlobKey;
use lora_rates_common::spec::SearchSpec;
use lora_rates_proto::connect::connect;
use lora_rates_proto::transfer::Blobs;
use lora_rates_proto::v1;
use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};
use tokio::task::JoinSet;

/// Files on their way at once: most are small, and each costs a round trip.
const AT_ONCE: usize = 8;

/// Puts the networks and pictures of a search into the coordinator's store, over a connection of their own. Files that
/// are there already cost a question each.
///
/// # Errors
/// The coordinator refuses a file or can't be reached, or a file can't be read or was changed meanwhile.
pub(crate) async fn upload(target: &Target, spec: &SearchSpec) -> Result<(), Error> {
    let blobs = Blobs::new(connect(&target.url, &target.access).await?);
    let networks = spec.networks.iter().map(|network| (&network.sha256, &network.path));
    let pictures = spec.images.iter().map(|image| (&image.sha256, &image.path));
    // Pictures may be there twice.
    let files: BTreeMap<&String, &PathBuf> = networks.chain(pictures).collect();
    let size = |path: &PathBuf| std::fs::metadata(path).map_or(0, |facts| facts.len());
    let bar = bar(files.values().map(|path| size(path)).sum());
    let mut transfers = JoinSet::new();
    for (sha256, path) in files {
        if transfers.len() >= AT_ONCE {
            joined(transfers.join_next().await)?;
        }
        transfers.spawn(put(blobs.clone(), sha256.clone(), path.clone(), bar.clone()));
    }
    while let Some(result) = transfers.join_next().await {
        joined(Some(result))?;
    }
    bar.finish_and_clear();
    Ok(())
}

/// What a transfer came to. One that was stopped is not asked.
fn joined(result: Option<Result<Result<(), Error>, tokio::task::JoinError>>) -> Result<(), Error> {
    match result {
        Some(Ok(result)) => result,
        Some(Err(error)) => std::panic::resume_unwind(error.into_panic()),
        None => Ok(()),
    }
}

async fn put(mut blobs: Blobs, sha256: String, path: PathBuf, bar: ProgressBar) -> Result<(), Error> {
    let key = v1::BlobKey::from(&BlobKey::File(sha256));
    let mut known = 0;
    let told = |received: u64| {
        bar.inc(received.saturating_sub(known));
        known = known.max(received);
    };
    let result = blobs.put_file(&key, &path, told).await;
    result.map_err(|source| Error::Upload { path, source })
}

/// A bar of bytes on a terminal; elsewhere a line, if there is much to send.
fn bar(bytes: u64) -> ProgressBar {
    if !io::stderr().is_terminal() {
        note(&format!("sending what the coordinator lacks of {:.1} MiB", bytes as f64 / f64::from(1 << 20)));
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(bytes);
    if let Ok(style) = ProgressStyle::with_template("{wide_bar:.cyan/blue} {bytes}/{total_bytes} sent") {
        bar.set_style(style);
    }
    bar
}

/// The search as the coordinator is told of it: paths of pictures and networks are names only, since it never opens
/// them.
pub(crate) fn nameless(spec: &SearchSpec, pictures: &Path) -> SearchSpec {
    let mut spec = spec.clone();
    let name = |path: &Path| path.file_name().map_or_else(|| path.to_owned(), PathBuf::from);
    spec.networks.iter_mut().for_each(|network| network.path = name(&network.path));
    let pictures = std::path::absolute(pictures).unwrap_or_else(|_| pictures.to_owned());
    for image in &mut spec.images {
        image.path = image.path.strip_prefix(&pictures).map_or_else(|_| name(&image.path), Path::to_owned);
    }
    spec
}
