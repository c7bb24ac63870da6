//! What the device's thread is asked, and what it says.

use crate::engine::Moments;
use crate::search::{Picture, Pictures};
use lora_rates_common::convert::{Draw, Encode, Evaluate, Evaluated, Failed, Gradient, Lease, Progress, Rates};
use lora_rates_common::spec::{ModelRef, SearchSpec};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::watch;

/// Counts connections and searches: what was asked before the last change is of no use to anyone.
#[derive(Clone, Debug, Default)]
pub struct Epoch(Arc<watch::Sender<u64>>);

impl Epoch {
    /// The one that is now.
    pub fn now(&self) -> u64 {
        *self.0.borrow()
    }

    /// Begins the next one.
    pub fn advance(&self) {
        self.0.send_modify(|epoch| *epoch += 1);
    }

    /// Waits until another one than this is now.
    pub async fn end_of(&self, epoch: u64) {
        // The sender lives as long as this.
        let _ = self.0.subscribe().wait_for(|now| *now != epoch).await;
    }
}

/// A search to prepare, with the files of this machine.
#[derive(Clone, Debug)]
pub struct Task {
    /// The search.
    pub search_id: String,
    /// What it is made of.
    pub spec: Arc<SearchSpec>,
    /// The model's files.
    pub model: ModelRef,
    /// The networks' files.
    pub networks: Vec<PathBuf>,
    /// Where encodings are kept on this machine's disk, if anywhere.
    pub cache_dir: Option<PathBuf>,
    /// Paths of this machine that nobody else is to see, and what is said instead.
    pub hidden: Vec<(String, String)>,
}

impl Task {
    /// Whether both are the same search, made of the same.
    pub fn is_same_search(&self, other: &Self) -> bool {
        self.search_id == other.search_id && self.spec == other.spec
    }

    /// A message without the paths that nobody else is to see.
    pub fn redact(&self, message: &str) -> String {
        self.hidden.iter().fold(message.to_owned(), |text, (path, name)| text.replace(path, name))
    }
}

/// What the thread is asked.
#[derive(Debug)]
pub enum Command {
    /// Get ready for a search, forgetting any other.
    Prepare(Arc<Task>),
    /// These rates are in force from now on.
    Rates(Rates),
    /// Encode a picture.
    Encode {
        /// Which.
        encode: Encode,
        /// Its file.
        picture: Picture,
        /// Whether the coordinator asked for it, or this worker needs it.
        asked: bool,
    },
    /// A picture that another worker has encoded.
    Learn {
        /// Which.
        encode: Encode,
        /// Its encoding.
        moments: Moments,
    },
    /// Compute a microbatch; with the pictures if latents are not cached.
    Lease(Lease, Pictures),
    /// Compute an evaluation; with the pictures if latents are not cached.
    Evaluate(Evaluate, Pictures),
    /// Sample a picture.
    Draw(Draw),
    /// Forget a search.
    Release(String),
}

impl Command {
    /// The search that it is about.
    pub fn search_id(&self) -> &str {
        match self {
            Self::Prepare(task) => &task.search_id,
            Self::Rates(rates) => &rates.search_id,
            Self::Encode { encode, .. } | Self::Learn { encode, .. } => &encode.search_id,
            Self::Lease(lease, _) => &lease.search_id,
            Self::Evaluate(evaluate, _) => &evaluate.search_id,
            Self::Draw(draw) => &draw.search_id,
            Self::Release(search_id) => search_id,
        }
    }

    /// Whether it need not be done once its epoch is over. What is learned for later is not of that kind: who sent it
    /// counts on it.
    pub fn is_for_its_epoch_alone(&self) -> bool {
        match self {
            Self::Prepare(_) | Self::Rates(_) | Self::Lease(..) | Self::Evaluate(..) | Self::Draw(_) => true,
            Self::Encode { asked, .. } => *asked,
            Self::Learn { .. } | Self::Release(_) => false,
        }
    }
}

/// What the thread says.
#[derive(Debug)]
pub enum Told {
    /// What it is busy with.
    Progress(Progress),
    /// It is ready for this search.
    Ready {
        /// The search.
        search_id: String,
        /// Whether it has prepared it just now, and knows no encodings yet.
        fresh: bool,
    },
    /// A picture is encoded.
    Encoded {
        /// Which.
        encode: Encode,
        /// The encoding as a blob; none if the coordinator has it.
        bytes: Option<Vec<u8>>,
        /// Whether the coordinator asked for it.
        asked: bool,
    },
    /// A microbatch is computed.
    Gradient(Gradient),
    /// An evaluation is computed.
    Evaluated(Evaluated),
    /// A picture is sampled, or could not be.
    Drawn {
        /// Which.
        draw: Draw,
        /// The PNG, or why there is none.
        result: Result<Vec<u8>, String>,
    },
    /// It can't work for a search.
    Failed(Failed),
    /// The device will never compute again in this process. Nothing follows.
    Broken,
}
