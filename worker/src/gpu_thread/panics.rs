//! What panics say. burn's device runs on threads of its own: when one of them panics, who asked hears only that the call
//! failed, and the reason is lost unless someone listens.

use std::any::Any;
use std::cell::Cell;
use std::panic::{PanicHookInfo, set_hook, take_hook};
use std::sync::{Mutex, Once, PoisonError};

/// Names of burn's threads begin so: DSU-0-0, DSD-0-0.
const DEVICE_THREAD: &str = "DS";

static FIRST: Mutex<Option<String>> = Mutex::new(None);

thread_local! {
    /// Whether panics of this thread are caught by whoever asked, who then says what they mean.
    static CAUGHT: Cell<bool> = const { Cell::new(false) };
}

/// Listens from now on, in the whole process. Panics of the calling thread and of burn's are not printed any more: they
/// become errors.
pub(super) fn listen() {
    static ONCE: Once = Once::new();
    CAUGHT.set(true);
    ONCE.call_once(|| {
        let print = take_hook();
        set_hook(Box::new(move |info| {
            let of_device = std::thread::current().name().is_some_and(|name| name.starts_with(DEVICE_THREAD));
            if of_device || CAUGHT.get() {
                heard(info);
            } else {
                print(info);
            }
        }));
    });
}

fn heard(info: &PanicHookInfo<'_>) {
    let words = words(info.payload());
    tracing::debug!(at = ?info.location(), "a panic on the device: {words}");
    FIRST.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(words);
}

/// Forgets what was heard.
pub(super) fn forget() {
    *FIRST.lock().unwrap_or_else(PoisonError::into_inner) = None;
}

/// What a panic that was caught means: what the first one since [`forget`] said, from which it followed.
pub(super) fn reason(panic: &(dyn Any + Send)) -> String {
    let first = || FIRST.lock().unwrap_or_else(PoisonError::into_inner).clone();
    CAUGHT.get().then(first).flatten().unwrap_or_else(|| words(panic))
}

/// What a panic said.
pub(super) fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "it gave no reason".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::thread;

    #[test]
    fn the_reason_is_what_the_device_s_own_thread_said() {
        let work = || {
            listen();
            forget();
            let device = thread::Builder::new().name("DSU-0-0".into());
            let ended = device.spawn(|| panic!("can't allocate {} bytes", 5)).unwrap().join();
            let panic = catch_unwind(AssertUnwindSafe(|| ended.expect("CallError"))).unwrap_err();
            reason(panic.as_ref())
        };
        // A thread of its own: what it says is not printed for the rest of its life.
        assert_eq!(thread::spawn(work).join().unwrap(), "can't allocate 5 bytes");
    }
}
