use super::model::guarded;
use super::*;
use lora_rates_common::convert::{Encode, Rates};
use std::time::Duration;

#[test]
fn a_panic_for_want_of_memory_is_an_error_after_which_the_engine_is_not_trusted() {
    let fails = |words: &'static str| guarded(|| -> Result<(), engine::Error> { std::panic::panic_any(words) });
    assert!(matches!(fails("CUDA_ERROR_OUT_OF_MEMORY"), Err((engine::Error::OutOfMemory(_), true))));
    let returned = guarded(|| Err::<(), _>(engine::Error::OutOfMemory("full".into())));
    assert!(matches!(returned, Err((engine::Error::OutOfMemory(_), false))));
    let other = catch_unwind(|| fails("a kernel failed"));
    assert_eq!(panics::words(other.unwrap_err().as_ref()), "a kernel failed");
}

#[tokio::test]
async fn an_epoch_ends_when_the_next_begins() {
    let epoch = Epoch::default();
    let now = epoch.now();
    let waiting = tokio::time::timeout(Duration::from_millis(50), epoch.end_of(now));
    assert!(waiting.await.is_err());
    epoch.advance();
    assert_ne!(epoch.now(), now);
    epoch.end_of(now).await;
}

#[test]
fn what_is_learned_for_later_outlives_its_epoch() {
    let encode = Encode { search_id: "s".into(), image: 0, flip: false };
    let picture = || crate::search::Picture::Bytes([].into());
    let asked = Command::Encode { encode: encode.clone(), picture: picture(), asked: true };
    let needed = Command::Encode { encode, picture: picture(), asked: false };
    let rates = Command::Rates(Rates { search_id: "s".into(), step: 0, rates: Vec::new() });
    assert!(asked.is_for_its_epoch_alone() && rates.is_for_its_epoch_alone());
    assert!(!needed.is_for_its_epoch_alone() && !Command::Release("s".into()).is_for_its_epoch_alone());
}

#[test]
fn commands_of_a_search_that_is_not_prepared_are_left_undone() {
    let (outbox, mut told) = tokio::sync::mpsc::channel(4);
    let epoch = Epoch::default();
    let sender = spawn(Device::Cpu, EngineKind::Auto, epoch.clone(), outbox).unwrap();
    let encode = Encode { search_id: "s".into(), image: 0, flip: false };
    let picture = crate::search::Picture::Bytes([].into());
    sender.send((epoch.now(), Command::Encode { encode, picture, asked: false })).unwrap();
    drop(sender);
    assert!(told.blocking_recv().is_none(), "the thread ends without a word");
}
