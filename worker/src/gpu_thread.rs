//! The one thread that owns the device: it loads models, prepares searches and computes microbatches, in the order asked.

use crate::cache::Cache;
use crate::device::{self, Device};
use crate::engine::{EngineOptions, GradientEngine};
use crate::search::{self, Search};
use crate::source::Source;
use lora_rates_common::checkpoint::{self, Checkpoint};
use lora_rates_common::convert::{Failed, Gradient, Lease, Prepare, Progress, Rates};
use lora_rates_common::sdxl::Part;
use lora_rates_common::sdxl::config::SdxlConfig;
use lora_rates_common::spec::{ModelRef, SearchSpec};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use tokio::sync::mpsc::Sender as Outbox;

/// What the thread is asked.
#[derive(Debug)]
pub enum Command {
    /// Get ready for a search, forgetting any other.
    Prepare(Prepare),
    /// These rates are in force from now on.
    Rates(Rates),
    /// Compute a microbatch.
    Lease(Lease),
    /// Forget a search.
    Release(String),
}

/// What the thread says.
#[derive(Debug)]
pub enum Told {
    /// It is getting ready.
    Progress(Progress),
    /// It is ready for this search.
    Ready(String),
    /// A microbatch is computed.
    Gradient(Gradient),
    /// It can't work for a search.
    Failed(Failed),
}

/// Why a command could not be done; the search fails on this worker.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Checkpoint(#[from] checkpoint::Error),
    #[error(transparent)]
    Engine(#[from] crate::engine::Error),
    #[error(transparent)]
    Search(#[from] search::Error),
    #[error("{} is another model than the one that the search was made with", .0.display())]
    OtherModel(PathBuf),
    #[error("can't make the cache folder {}: {source}", folder.display())]
    Cache { folder: PathBuf, source: std::io::Error },
    #[error("the coordinator leased a microbatch of {0}, for which this worker is not ready")]
    NotReady(String),
}

/// Starts the thread. It ends when the sender of commands is dropped or nobody listens any more.
///
/// # Errors
/// The system has no thread left.
pub fn spawn(device: Device, outbox: Outbox<Told>) -> std::io::Result<Sender<Command>> {
    let (sender, commands) = channel();
    let owner = Owner { device, outbox, model: None, search: None };
    thread::Builder::new().name(format!("device {device}")).spawn(move || owner.run(&commands))?;
    Ok(sender)
}

struct Owner {
    device: Device,
    outbox: Outbox<Told>,
    model: Option<Model>,
    search: Option<Running>,
}

/// A loaded model, kept for later searches.
struct Model {
    key: (ModelRef, EngineOptions),
    config: SdxlConfig,
    engine: Box<dyn GradientEngine>,
}

struct Running {
    id: String,
    search: Search,
    rates: Option<Rates>,
}

impl Owner {
    fn run(mut self, commands: &Receiver<Command>) {
        while let Ok(command) = commands.recv() {
            let id = match &command {
                Command::Prepare(Prepare { search_id, .. }) | Command::Lease(Lease { search_id, .. }) => {
                    search_id.clone()
                }
                Command::Rates(Rates { search_id, .. }) | Command::Release(search_id) => search_id.clone(),
            };
            // The device's libraries panic when memory runs out or a kernel fails: that ends the search here, not the worker.
            let told = match catch_unwind(AssertUnwindSafe(|| self.obey(command))) {
                Ok(Ok(None)) => continue,
                Ok(Ok(Some(told))) => told,
                Ok(Err(error)) => self.failed(id, error.to_string()),
                Err(panic) => {
                    // Nothing on the device can be trusted after that.
                    self.model = None;
                    self.failed(id, format!("the device failed: {}", words(panic.as_ref())))
                }
            };
            if self.outbox.blocking_send(told).is_err() {
                return;
            }
        }
    }

    fn failed(&mut self, search_id: String, message: String) -> Told {
        self.search = None;
        Told::Failed(Failed { search_id, message })
    }

    fn obey(&mut self, command: Command) -> Result<Option<Told>, Error> {
        match command {
            Command::Prepare(Prepare { search_id, spec }) => {
                self.search = None;
                let search = self.prepare(&search_id, &spec)?;
                self.search = Some(Running { id: search_id.clone(), search, rates: None });
                Ok(Some(Told::Ready(search_id)))
            }
            Command::Rates(rates) => {
                if let Some(running) = self.search.as_mut().filter(|running| running.id == rates.search_id) {
                    running.rates = Some(rates);
                }
                Ok(None)
            }
            Command::Lease(lease) => self.compute(lease),
            Command::Release(id) => {
                self.search.take_if(|running| running.id == id);
                Ok(None)
            }
        }
    }

    /// A lease of a step whose rates were replaced since is stale: nobody waits for it.
    fn compute(&mut self, lease: Lease) -> Result<Option<Told>, Error> {
        let Lease { search_id, step, microbatch, batch } = lease;
        let (Some(running), Some(model)) = (&self.search, &mut self.model) else {
            return Err(Error::NotReady(search_id));
        };
        if running.id != search_id {
            return Err(Error::NotReady(search_id));
        }
        let Some(rates) = running.rates.as_ref().filter(|rates| rates.step == step) else { return Ok(None) };
        let result = running.search.gradient(model.engine.as_mut(), &batch, &rates.rates)?;
        let (mse, loss, gradient) = (result.mse, result.loss, result.grad);
        Ok(Some(Told::Gradient(Gradient { search_id, step, microbatch, mse, loss, gradient })))
    }

    fn prepare(&mut self, search_id: &str, spec: &SearchSpec) -> Result<Search, Error> {
        let outbox = self.outbox.clone();
        let tell = |activity: &str, done: usize, total: usize| {
            let [done, total] = [done, total].map(|n| u32::try_from(n).unwrap_or(u32::MAX));
            let progress = Progress { search_id: search_id.to_owned(), activity: activity.to_owned(), done, total };
            // Progress may be lost while the coordinator is slow; results may not.
            let _ = outbox.try_send(Told::Progress(progress));
        };
        let options = &spec.options;
        let engine_options = EngineOptions {
            precision: options.mixed_precision,
            gradient_checkpointing: options.gradient_checkpointing,
        };
        let key = (spec.model.clone(), engine_options);
        let cache = options.cache_dir.as_ref().map(|folder| cache(folder, &spec.model)).transpose()?;
        if self.model.as_ref().is_none_or(|model| model.key != key) {
            tell("loading the model", 0, 0);
            // The old model goes first: there may be no room for two.
            self.model = None;
            let checkpoint = open(&spec.model)?;
            if checkpoint.digest() != spec.model.digest {
                return Err(Error::OtherModel(spec.model.path.clone()));
            }
            let config = checkpoint.config().clone();
            let engine = device::load(self.device, Source::Checkpoint(Box::new(checkpoint)), engine_options)?;
            self.model = Some(Model { key, config, engine });
        }
        let Some(Model { config, engine, .. }) = &mut self.model else {
            return Err(Error::NotReady(search_id.to_owned()));
        };
        let mut told = |progress: search::Progress| tell(progress.activity, progress.done, progress.total);
        Ok(Search::prepare(engine.as_mut(), config, cache.as_ref(), spec.clone(), &mut told)?)
    }
}

fn open(model: &ModelRef) -> Result<Checkpoint, checkpoint::Error> {
    match &model.vae {
        Some(vae) => Checkpoint::open_with_vae(&model.path, vae),
        None => Checkpoint::open(&model.path),
    }
}

fn cache(folder: &Path, model: &ModelRef) -> Result<Cache, Error> {
    let checkpoint = open(model)?;
    let vae = checkpoint.digest_of(&[Part::Vae]);
    let text = checkpoint.digest_of(&[Part::TextEncoder1, Part::TextEncoder2]);
    Cache::open(folder, vae, text).map_err(|source| Error::Cache { folder: folder.to_owned(), source })
}

/// What a panic said.
fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "it gave no reason".to_owned())
}
