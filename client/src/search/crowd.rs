//! How many workers are at a search: nobody tells, so it is asked for now and then.

use crate::remote::Remote;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// Between two questions.
const PAUSE: Duration = Duration::from_secs(2);

/// Asks for the number of a search's workers until it is dropped.
#[derive(Debug)]
pub(super) struct Crowd {
    workers: watch::Receiver<u32>,
    task: JoinHandle<()>,
}

impl Crowd {
    pub(super) fn of(remote: &Remote, search_id: &str) -> Self {
        let (told, workers) = watch::channel(0);
        let (remote, search_id) = (remote.clone(), search_id.to_owned());
        let task = tokio::spawn(async move {
            loop {
                // Whoever watches the search says what is wrong with the connection.
                if let Ok(status) = remote.get(&search_id).await {
                    told.send_if_modified(|workers| std::mem::replace(workers, status.workers) != status.workers);
                }
                sleep(PAUSE).await;
            }
        });
        Self { workers, task }
    }

    /// Their number, once it is another than before.
    pub(super) async fn changed(&mut self) -> u32 {
        if self.workers.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        *self.workers.borrow_and_update()
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.task.abort();
    }
}
