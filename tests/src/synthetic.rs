//! A worker without a model: it speaks the whole protocol and answers at once with [`answer`], or as badly as it is told.

pub mod answer;
mod fault;
mod note;
mod session;
mod work;

pub use fault::{Fault, UnknownFault};
pub use note::{Note, read as read_notes};
pub use session::session;

use crate::connecting::{Connect, to};
use std::path::PathBuf;
use std::pin::pin;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

/// Pause before another attempt to join.
const RETRY: Duration = Duration::from_millis(200);
/// How long the coordinator may take to end the stream of a worker that leaves.
const DRAIN: Duration = Duration::from_secs(5);

/// How a synthetic worker works.
#[derive(Clone, Debug)]
pub struct Options {
    /// Name in the coordinator's lists.
    pub name: String,
    /// What every answer takes.
    pub delay: Duration,
    /// What it does wrong.
    pub fault: Fault,
    /// In every how many answers; from 1.
    pub fault_every: u32,
    /// File to which it appends a [`Note`] of all that it is told to do.
    pub record: Option<PathBuf>,
}

impl Default for Options {
    /// At once, without faults.
    fn default() -> Self {
        Self { name: "synthetic".into(), delay: Duration::ZERO, fault: Fault::None, fault_every: 1, record: None }
    }
}

/// Works for the coordinator at `url`, and joins it again whenever the stream ends, until `shutdown` resolves; then it
/// gives back what it was leased.
pub async fn run(url: &str, options: Options, shutdown: impl Future<Output = ()>) {
    run_over(&to(url), options, shutdown).await;
}

/// The same over connections of any kind.
pub async fn run_over(connect: &Connect, options: Options, shutdown: impl Future<Output = ()>) {
    let mut shutdown = pin!(shutdown);
    let mut joins = 0;
    loop {
        let connection = tokio::select! {
            () = &mut shutdown => return,
            connection = connect() => connection,
        };
        // The tests start workers before their coordinator too.
        let Ok(connection) = connection else {
            sleep(RETRY).await;
            continue;
        };
        joins += 1;
        let (leave, leaving) = oneshot::channel();
        let mut session = pin!(session(connection, options.clone(), joins, leaving));
        tokio::select! {
            () = &mut shutdown => {
                let _ = leave.send(()); // a session that has just ended needs not be told
                let _ = timeout(DRAIN, session).await;
                return;
            }
            ended = &mut session => {
                let text = ended.map_or_else(|status| status.to_string(), |()| "the stream ended".to_owned());
                note::stderr(&options.name, &text);
                sleep(RETRY).await;
            }
        }
    }
}
