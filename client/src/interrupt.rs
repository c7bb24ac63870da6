//! Ctrl-C, and the signal by which systems ask a process to end.

use crate::progress::note;
use std::io;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

/// Signals that come within this time of the first count as one with it.
const SAME: Duration = Duration::from_millis(500);

/// Knows whether the user asked to stop.
#[derive(Clone, Debug)]
pub(crate) struct Interrupts {
    asked: watch::Receiver<bool>,
}

impl Interrupts {
    /// From here on such a signal no longer ends the process, but a second one does, at once.
    ///
    /// # Errors
    /// The operating system refuses.
    pub(crate) fn listen() -> io::Result<Self> {
        let mut signals = Signals::new()?;
        let (ask, asked) = watch::channel(false);
        tokio::spawn(async move {
            signals.next().await;
            ask.send_replace(true);
            // Programs that end others often send the signal to a process and once more to its group.
            let same = Instant::now() + SAME;
            while timeout_at(same, signals.next()).await.is_ok() {}
            signals.next().await;
            note("interrupted again: stopped at once");
            std::process::exit(130);
        });
        Ok(Self { asked })
    }

    /// Until the user asks to stop.
    pub(crate) async fn asked(&mut self) {
        if self.asked.wait_for(|asked| *asked).await.is_err() {
            // Nobody listens any more: the process is about to end.
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(unix)]
struct Signals([tokio::signal::unix::Signal; 2]);

#[cfg(unix)]
impl Signals {
    fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self([signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?]))
    }

    async fn next(&mut self) {
        let Self([interrupt, terminate]) = self;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
