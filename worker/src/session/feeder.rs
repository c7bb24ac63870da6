//! Gets what the device's thread needs for each command, then passes it on, in order. It runs beside the stream, so that a
//! long transfer holds up neither heartbeats nor what is being computed.

use crate::blob_cache::{self, BlobCache};
use crate::encoding;
use crate::engine::Moments;
use crate::gpu_thread::{Command, Epoch, Task, Told};
use crate::models::{self, Models};
use crate::search::{Picture, Pictures};
use lora_rates_common::convert::{BlobKey, Draw, Encode, Evaluate, Failed, Lease, Prepare, Progress, Rates};
use lora_rates_common::dataset::Image;
use lora_rates_common::picture;
use lora_rates_common::plan::PlanSample;
use lora_rates_common::spec::SearchSpec;
use lora_rates_proto::transfer::{self, Blobs};
use lora_rates_proto::v1;
use std::collections::HashSet;
use std::collections::hash_map::Entry;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use tokio::sync::mpsc;

/// What the feeder is given.
#[derive(Debug)]
pub(super) enum Feed {
    /// The connection's way to blobs.
    Blobs(Blobs),
    Prepare(Prepare),
    Rates(Rates),
    Lease(Lease),
    Evaluate(Evaluate),
    Encode(Encode),
    Draw(Draw),
    Release(String),
    /// The device has prepared its search anew: it knows no encodings.
    Fresh,
    /// The device has encoded this.
    Known(Encode),
}

/// Why the device can't be given what it needs.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Models(#[from] models::Error),
    #[error(transparent)]
    Cache(#[from] blob_cache::Error),
    #[error("can't fetch the picture {}: {source}", path.display())]
    Picture { path: PathBuf, source: transfer::Error },
    #[error("the coordinator does not have the picture {}", .0.display())]
    NoPicture(PathBuf),
    #[error("{0}")]
    Protocol(&'static str),
}

/// Between the stream and the device's thread.
pub(super) struct Feeder {
    epoch: Epoch,
    models: Models,
    /// Where fetched networks lie; none if all files are this machine's.
    cache: Option<BlobCache>,
    device: Sender<(u64, Command)>,
    outbox: mpsc::Sender<(u64, Told)>,
    blobs: Option<Blobs>,
    search: Option<(String, Arc<SearchSpec>)>,
    /// What the device knows the encodings of.
    known: HashSet<(u32, bool)>,
}

impl Feeder {
    pub(super) fn new(
        epoch: Epoch,
        models: Models,
        cache: Option<BlobCache>,
        device: Sender<(u64, Command)>,
        outbox: mpsc::Sender<(u64, Told)>,
    ) -> Self {
        Self { epoch, models, cache, device, outbox, blobs: None, search: None, known: HashSet::new() }
    }

    /// Feeds the device until either end is closed.
    pub(super) async fn run(mut self, mut items: mpsc::UnboundedReceiver<(u64, Feed)>) {
        while let Some((epoch, item)) = items.recv().await {
            match item {
                Feed::Blobs(blobs) => self.blobs = Some(blobs),
                Feed::Fresh => self.known.clear(),
                Feed::Known(Encode { search_id, image, flip }) => {
                    if self.search.as_ref().is_some_and(|(id, _)| *id == search_id) {
                        self.known.insert((image, flip));
                    }
                }
                Feed::Release(search_id) => self.order(epoch, Command::Release(search_id)),
                item => {
                    // Whatever is being fetched is of no use once the search or the connection is another.
                    let epochs = self.epoch.clone();
                    tokio::select! {
                        biased;
                        () = epochs.end_of(epoch) => {}
                        () = self.feed(epoch, item) => {}
                    }
                }
            }
        }
    }

    async fn feed(&mut self, epoch: u64, item: Feed) {
        let search_id = match &item {
            Feed::Prepare(Prepare { search_id, .. })
            | Feed::Lease(Lease { search_id, .. })
            | Feed::Evaluate(Evaluate { search_id, .. })
            | Feed::Encode(Encode { search_id, .. })
            | Feed::Draw(Draw { search_id, .. })
            | Feed::Rates(Rates { search_id, .. })
            | Feed::Release(search_id) => search_id.clone(),
            Feed::Blobs(_) | Feed::Fresh | Feed::Known(_) => String::new(),
        };
        let result = match item {
            Feed::Prepare(prepare) => self.prepare(epoch, prepare).await,
            Feed::Encode(encode) => self.encode(epoch, encode).await,
            Feed::Rates(rates) => Ok(Some(Command::Rates(rates))),
            Feed::Draw(draw) => Ok(Some(Command::Draw(draw))),
            Feed::Lease(lease) => {
                let pictures = self.provide(epoch, &search_id, &lease.batch.samples).await;
                pictures.map(|pictures| Some(Command::Lease(lease, pictures)))
            }
            Feed::Evaluate(evaluate) => {
                let pictures = self.provide(epoch, &search_id, &evaluate.batch.samples).await;
                pictures.map(|pictures| Some(Command::Evaluate(evaluate, pictures)))
            }
            Feed::Blobs(_) | Feed::Fresh | Feed::Known(_) | Feed::Release(_) => Ok(None),
        };
        match result {
            Ok(Some(command)) => self.order(epoch, command),
            Ok(None) => {}
            Err(error) => {
                let hide = |text: String, (path, name): &(String, String)| text.replace(path, name);
                let message = self.models.hidden().iter().fold(error.to_string(), hide);
                self.tell(epoch, Told::Failed(Failed { search_id, message })).await;
            }
        }
    }

    /// The device's thread ends only with the worker, and then nobody waits for anything.
    fn order(&self, epoch: u64, command: Command) {
        let _ = self.device.send((epoch, command));
    }

    async fn tell(&self, epoch: u64, told: Told) {
        let _ = self.outbox.send((epoch, told)).await;
    }

    /// Finds the model's files and fetches the networks.
    async fn prepare(&mut self, epoch: u64, prepare: Prepare) -> Result<Option<Command>, Error> {
        let Prepare { search_id, spec } = prepare;
        self.search = Some((search_id.clone(), spec.clone()));
        let (models, wanted) = (self.models.clone(), spec.model.clone());
        let found = tokio::task::spawn_blocking(move || models.resolve(&wanted)).await;
        let model = found.map_err(|_| Error::Protocol("looking for the model was broken off"))??;
        let mut hidden = self.models.hidden();
        let Some(cache) = &mut self.cache else {
            let networks = spec.networks.iter().map(|network| network.path.clone()).collect();
            let cache_dir = spec.options.cache_dir.clone();
            return Ok(Some(Command::Prepare(Task { search_id, spec, model, networks, cache_dir, hidden }.into())));
        };
        let blobs = self.blobs.as_mut().ok_or(Error::Protocol("there is no way to fetch the networks"))?;
        let wanted: Vec<_> = spec.networks.iter().map(|it| (it.sha256.clone(), it.name.clone())).collect();
        let outbox = self.outbox.clone();
        let tell = |done: u64, total: u64| {
            let [done, total] = [done, total].map(|bytes| u32::try_from(bytes.div_ceil(1 << 20)).unwrap_or(u32::MAX));
            let activity = "fetching networks (MiB)".to_owned();
            let progress = Progress { search_id: search_id.clone(), activity, done, total };
            let _ = outbox.try_send((epoch, Told::Progress(progress)));
        };
        cache.fetch(blobs, &wanted, tell).await?;
        let networks: Vec<PathBuf> = spec.networks.iter().map(|network| cache.path(&network.sha256)).collect();
        let named = networks.iter().zip(&spec.networks);
        hidden.extend(named.map(|(file, it)| (file.display().to_string(), it.path.display().to_string())));
        // A folder that the search names is none of this machine's business.
        let task = Task { search_id, spec, model, networks, cache_dir: None, hidden };
        Ok(Some(Command::Prepare(task.into())))
    }

    /// What the coordinator has already need not be encoded.
    async fn encode(&mut self, epoch: u64, encode: Encode) -> Result<Option<Command>, Error> {
        let Some((image, key)) = self.picture(&encode) else { return Ok(None) };
        if let Some(blobs) = &mut self.blobs
            && blobs.has(&key).await.unwrap_or(false)
        {
            self.tell(epoch, Told::Encoded { encode, bytes: None, asked: true }).await;
            return Ok(None);
        }
        let picture = self.file(&image).await?;
        Ok(Some(Command::Encode { encode, picture, asked: true }))
    }

    /// Makes sure that the device knows the samples' encodings, or has their pictures if it is to encode them for this
    /// use alone.
    async fn provide(&mut self, epoch: u64, search_id: &str, samples: &[PlanSample]) -> Result<Pictures, Error> {
        let mut pictures = Pictures::new();
        let cached = self.search.as_ref().is_some_and(|(_, spec)| spec.options.cache_latents);
        for sample in samples {
            let encode = Encode { search_id: search_id.to_owned(), image: sample.image, flip: sample.flip };
            let Some((image, key)) = self.picture(&encode) else { continue };
            if !cached {
                if let Entry::Vacant(place) = pictures.entry(sample.image) {
                    place.insert(self.file(&image).await?);
                }
                continue;
            }
            if self.known.contains(&(sample.image, sample.flip)) {
                continue;
            }
            let moments = self.fetch(&key, &image).await;
            let command = match moments {
                Some(moments) => Command::Learn { encode, moments },
                None => Command::Encode { encode, picture: self.file(&image).await?, asked: false },
            };
            self.known.insert((sample.image, sample.flip));
            self.order(epoch, command);
        }
        Ok(pictures)
    }

    /// An encoding that the coordinator has; if there is any doubt about it, this worker encodes the picture itself.
    async fn fetch(&mut self, key: &v1::BlobKey, image: &Image) -> Option<Moments> {
        let blobs = self.blobs.as_mut()?;
        let bucket = image.fit.bucket;
        let bytes = match blobs.get_bytes(key, encoding::size(bucket)).await {
            Ok(bytes) => bytes?,
            Err(error) => {
                tracing::debug!("no encoding of {}: {error}", image.path.display());
                return None;
            }
        };
        let moments = encoding::from_bytes(&bytes, bucket);
        moments.inspect_err(|error| tracing::warn!("the encoding of {}: {error}", image.path.display())).ok()
    }

    /// A picture's file.
    async fn file(&mut self, image: &Image) -> Result<Picture, Error> {
        if self.cache.is_none() {
            return Ok(Picture::File(image.path.clone()));
        }
        let blobs = self.blobs.as_mut().ok_or(Error::Protocol("there is no way to fetch the pictures"))?;
        let key = (&BlobKey::File(image.sha256.clone())).into();
        let limit = usize::try_from(picture::MAX_BYTES).unwrap_or(usize::MAX);
        let bytes = blobs.get_bytes(&key, limit).await;
        let bytes = bytes.map_err(|source| Error::Picture { path: image.path.clone(), source })?;
        Ok(Picture::Bytes(bytes.ok_or_else(|| Error::NoPicture(image.path.clone()))?.into()))
    }

    /// A picture of the search, and the key of its encoding.
    fn picture(&self, encode: &Encode) -> Option<(Image, v1::BlobKey)> {
        let (_, spec) = self.search.as_ref().filter(|(id, _)| *id == encode.search_id)?;
        let image = spec.images.get(usize::try_from(encode.image).ok()?)?.clone();
        let key = BlobKey::Encoding(spec.encoding_key(encode.image, encode.flip)?);
        Some((image, (&key).into()))
    }
}
