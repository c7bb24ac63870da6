//! The store on a thread of its own, so that a slow disk holds up nobody else.

use super::{Error, Store};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use tokio::sync::oneshot;

/// What is done with the store, or hears that it is closed.
type Work = Box<dyn FnOnce(Result<&mut Store, Error>) + Send>;

enum Call {
    Work(Work),
    Close,
}

/// Access to a store; cheap to clone. What is asked is done in its order.
#[derive(Clone)]
pub struct Handle(Place);

#[derive(Clone)]
enum Place {
    /// On its own thread.
    Thread(mpsc::Sender<Call>),
    /// With whoever asks; `None` once it is closed.
    Inline(Arc<Mutex<Option<Store>>>),
}

/// The store's thread. It ends, and the store is closed, with [`Handle::close`] or when no handle is left.
pub struct Thread(Option<JoinHandle<()>>);

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
                work(Ok(&mut self));
            }
        };
        let thread = std::thread::Builder::new().name("store".into()).spawn(work);
        let thread = thread.map_err(|source| Error::Folder { path, source })?;
        Ok((Handle(Place::Thread(calls)), Thread(Some(thread))))
    }

    /// Leaves the store on the threads of those who ask, who then wait for the disk. For simulations, in which nothing
    /// may depend on real time.
    #[must_use]
    pub fn inline(self) -> (Handle, Thread) {
        (Handle(Place::Inline(Arc::new(Mutex::new(Some(self))))), Thread(None))
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
        self.submit(work, |done| drop(answer.send(done)));
        result.await.map_err(|_| Error::Closed)?
    }

    /// Does this with the store, after what was asked before, without waiting for it; then says `done`, from anywhere.
    pub fn submit<T>(
        &self,
        work: impl FnOnce(&mut Store) -> Result<T, Error> + Send + 'static,
        done: impl FnOnce(Result<T, Error>) + Send + 'static,
    ) {
        let work: Work = Box::new(move |store| done(store.and_then(work)));
        match &self.0 {
            Place::Thread(calls) => {
                if let Err(mpsc::SendError(Call::Work(work))) = calls.send(Call::Work(work)) {
                    work(Err(Error::Closed));
                }
            }
            Place::Inline(store) => {
                work(store.lock().unwrap_or_else(PoisonError::into_inner).as_mut().ok_or(Error::Closed));
            }
        }
    }

    /// Closes the store after what was asked before.
    pub fn close(&self) {
        match &self.0 {
            // One that is closed already may stay so.
            Place::Thread(calls) => drop(calls.send(Call::Close)),
            Place::Inline(store) => drop(store.lock().unwrap_or_else(PoisonError::into_inner).take()),
        }
    }
}

impl Thread {
    /// Waits until the store is closed. Blocks.
    pub fn join(self) {
        if self.0.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the store's thread panicked");
        }
    }
}
