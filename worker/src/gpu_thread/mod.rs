//! The one thread that owns the device: it loads models, prepares searches, encodes pictures and computes microbatches,
//! in the order asked.

mod message;
mod model;
mod panics;
mod running;
#[cfg(test)]
mod tests;

pub use message::{Command, Epoch, Task, Told};

use crate::device::{self, Device};
use crate::engine::{self, EngineKind, EngineOptions};
use crate::search::{self, Search};
use lora_rates_common::checkpoint;
use lora_rates_common::convert::{Failed, Lease, Progress};
use model::Model;
use running::Running;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use tokio::sync::mpsc::Sender as Outbox;

/// Why a command could not be done; the search fails on this worker.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Checkpoint(#[from] checkpoint::Error),
    #[error(transparent)]
    Engine(#[from] engine::Error),
    #[error(transparent)]
    Search(#[from] search::Error),
    #[error("{} is another model than the one that the search was made with", .0.display())]
    OtherModel(PathBuf),
    #[error("can't make the cache folder {}: {source}", folder.display())]
    Cache { folder: PathBuf, source: std::io::Error },
    #[error("{0}")]
    OutOfMemory(String),
    #[error("the model of {0} is not loaded")]
    NoModel(String),
}

/// Starts the thread. Commands of an epoch that is over are left undone. It ends when the sender of commands is dropped
/// or nobody listens any more.
///
/// # Errors
/// The system has no thread left.
pub fn spawn(
    device: Device,
    engine: EngineKind,
    epoch: Epoch,
    outbox: Outbox<(u64, Told)>,
) -> std::io::Result<Sender<(u64, Command)>> {
    let (sender, commands) = channel();
    let owner = Owner { device, engine, epoch, outbox, model: None, search: None };
    thread::Builder::new().name(format!("device {device}")).spawn(move || owner.run(&commands))?;
    Ok(sender)
}

struct Owner {
    device: Device,
    engine: EngineKind,
    epoch: Epoch,
    outbox: Outbox<(u64, Told)>,
    /// Kept for later searches.
    model: Option<Model>,
    search: Option<Running>,
}

impl Owner {
    fn run(mut self, commands: &Receiver<(u64, Command)>) {
        panics::listen();
        let mut ahead = None;
        while let Some((epoch, command)) = ahead.take().or_else(|| commands.recv().ok()) {
            if command.is_for_its_epoch_alone() && epoch != self.epoch.now() {
                continue;
            }
            let id = command.search_id().to_owned();
            panics::forget();
            let mut suspect = false;
            if matches!(command, Command::Lease(..)) {
                ahead = commands.try_recv().ok();
            }
            let next = ahead.as_ref().and_then(|(of, next)| match next {
                Command::Lease(lease, _) if *of == epoch && lease.search_id == id => Some(lease),
                _ => None,
            });
            // The device's libraries panic when a kernel fails: that ends the search here, not the worker.
            let told = match catch_unwind(AssertUnwindSafe(|| self.obey(epoch, command, next))) {
                Ok(Ok(None)) => continue,
                Ok(Ok(Some(told))) => told,
                Ok(Err(error)) => {
                    suspect = matches!(error, Error::Engine(engine::Error::Device(_)));
                    self.failed(id, &self.words_of(&error))
                }
                Err(panic) => {
                    suspect = true;
                    // Nothing on the device can be trusted after that.
                    self.model = None;
                    let error = engine::Error::of_device(panics::reason(panic.as_ref()));
                    self.failed(id, &self.words_of(&error.into()))
                }
            };
            if self.outbox.blocking_send((epoch, told)).is_err() {
                return;
            }
            // A worker that stayed would fail one search after the other.
            if suspect && !device::works(self.device) {
                // Nobody listens any more: then nobody needs to know.
                let _ = self.outbox.blocking_send((epoch, Told::Broken));
                return;
            }
        }
    }

    fn failed(&mut self, search_id: String, message: &str) -> Told {
        let running = self.search.take();
        let message = running.map_or_else(|| message.to_owned(), |running| running.task.redact(message));
        Told::Failed(Failed { search_id, message })
    }

    /// An error in words for the user, with the numbers where memory ran out.
    fn words_of(&self, error: &Error) -> String {
        match error {
            Error::Engine(engine::Error::OutOfMemory(_))
            | Error::Search(search::Error::Engine(engine::Error::OutOfMemory(_))) => {
                format!("{error}{}", memory_words(self.device))
            }
            error => error.to_string(),
        }
    }

    /// Does what is asked. A lease that is known to come next is prepared meanwhile.
    fn obey(&mut self, epoch: u64, command: Command, next: Option<&Lease>) -> Result<Option<Told>, Error> {
        match command {
            Command::Prepare(task) => self.prepare(epoch, task).map(Some),
            Command::Release(id) => {
                self.search.take_if(|running| running.task.search_id == id);
                Ok(None)
            }
            command => {
                let Some(running) = &mut self.search else { return Ok(None) };
                // Of a search that failed or was released meanwhile: the coordinator knows.
                if running.task.search_id != command.search_id() {
                    return Ok(None);
                }
                let Some(model) = &mut self.model else { return Err(Error::NoModel(running.task.search_id.clone())) };
                let wanted = || epoch == self.epoch.now();
                running.obey(model, command, next, &mut teller(epoch, &self.outbox), &wanted)
            }
        }
    }

    fn prepare(&mut self, epoch: u64, task: Arc<Task>) -> Result<Told, Error> {
        let search_id = task.search_id.clone();
        if self.search.as_ref().is_some_and(|running| running.task.is_same_search(&task)) {
            return Ok(Told::Ready { search_id, fresh: false });
        }
        self.search = None;
        let result = self.prepare_anew(epoch, &task);
        match result {
            Ok(search) => {
                self.search = Some(Running::new(task, search));
                Ok(Told::Ready { search_id, fresh: true })
            }
            Err(error) => {
                let message = task.redact(&self.words_of(&error));
                Ok(Told::Failed(Failed { search_id, message }))
            }
        }
    }

    fn prepare_anew(&mut self, epoch: u64, task: &Task) -> Result<Search, Error> {
        let mut tell = teller(epoch, &self.outbox);
        let mut tell =
            |activity: &str, done: usize, total: usize| tell(progress(&task.search_id, activity, done, total));
        let options = &task.spec.options;
        let engine_options = EngineOptions {
            engine: self.engine,
            precision: options.mixed_precision,
            gradient_checkpointing: options.gradient_checkpointing,
            fp8_base: options.fp8_base,
        };
        let cache = task.cache_dir.as_ref().map(|folder| model::cache(folder, &task.model)).transpose()?;
        if self.model.as_ref().is_none_or(|model| !model.is(&task.model, engine_options)) {
            tell("loading the model", 0, 0);
            // The old model goes first: there may be no room for two.
            self.model = None;
            self.model = Some(Model::load(self.device, &task.model, engine_options)?);
        }
        let Some(model) = &mut self.model else { return Err(Error::NoModel(task.search_id.clone())) };
        let search = Search::new(task.spec.clone(), task.networks.clone(), cache)?;
        let (engine, config) = model.engine()?;
        search.attach(engine, config, &mut |progress| tell(progress.activity, progress.done, progress.total))?;
        Ok(search)
    }
}

/// Says what goes on. Progress may be lost while the coordinator is slow; results may not.
fn teller(epoch: u64, outbox: &Outbox<(u64, Told)>) -> impl FnMut(Progress) + use<> {
    let outbox = outbox.clone();
    move |progress| drop(outbox.try_send((epoch, Told::Progress(progress))))
}

fn progress(search_id: &str, activity: &str, done: usize, total: usize) -> Progress {
    let [done, total] = [done, total].map(|n| u32::try_from(n).unwrap_or(u32::MAX));
    Progress { search_id: search_id.to_owned(), activity: activity.to_owned(), done, total }
}

/// `; cuda:0 has 80.0 GiB, 0.5 GiB of them free`, where anyone can say.
fn memory_words(device: Device) -> String {
    let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
    device::memory(device).map_or_else(String::new, |(used, total)| {
        let free = total.saturating_sub(used);
        format!("; {device} has {:.1} GiB, {:.1} GiB of them free", gib(total), gib(free))
    })
}
