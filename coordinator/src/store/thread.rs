//! The store on a thread of its own, so that a slow disk holds up nobody else.

use super::{Error, Store};
use std::sync::mpsc;
use std::thread::JoinHandle;
use tokio::sync::oneshot;

/// What is done with the store.
enum Call {
    Work(Box<dyn FnOnce(&mut Store) + Send>),
    Close,
}

/// Access to a store that works on its own thread; cheap to clone.
#[derive(Clone)]
pub struct Handle {
    calls: mpsc::Sender<Call>,
}

/// The store's thread. It ends, and the store is closed, with [`Handle::close`] or when no handle is left.
pub struct Thread(JoinHandle<()>);

impl Store {
    /// Moves the store to a thread of its own.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn spawn(mut self) -> Result<(Handle, Thread), Error> {
        let (calls, inbox) = mpsc::channel::<Call>();
        let path = self.path.clone();
        let work = move || {
            while let Ok(Call::Work(work)) = inbox.recv() {
                work(&mut self);
            }
        };
        let thread = std::thread::Builder::new().name("store".into()).spawn(work);
        let thread = thread.map_err(|source| Error::Folder { path, source })?;
        Ok((Handle { calls }, Thread(thread)))
    }
}

impl Handle {
    /// Does this with the store, after what was asked before.
    ///
    /// It is done even if nobody waits for it any more.
    ///
    /// # Errors
    /// Those of `work`, and [`Error::Closed`] when the store is gone.
    pub async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Store) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (answer, result) = oneshot::channel();
        // Who asked may have left meanwhile, which is no error.
        let call = Box::new(move |store: &mut Store| drop(answer.send(work(store))));
        self.calls.send(Call::Work(call)).map_err(|_| Error::Closed)?;
        result.await.map_err(|_| Error::Closed)?
    }

    /// Closes the store after what was asked before.
    pub fn close(&self) {
        // One that is closed already may stay so.
        let _ = self.calls.send(Call::Close);
    }
}

impl Thread {
    /// Waits until the store is closed. Blocks.
    pub fn join(self) {
        if self.0.join().is_err() {
            tracing::error!("the store's thread panicked");
        }
    }
}
