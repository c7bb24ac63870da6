mod blobs;
mod fake;
mod requests;
mod sharing;
mod workers;

use crate::Options;
use crate::testing::{bits, sampled, spec, trajectory};
use fake::{Running, Worker, refused, start};
use lora_rates_common::convert::{SearchEvent, SearchState};
use lora_rates_proto::v1::{
    CancelSearchRequest, GetSearchRequest, PauseSearchRequest, ResumeSearchRequest, WatchSearchRequest,
};
use std::path::Path;
use std::time::Duration;
use tokio::sync::mpsc;
use tonic::Code;

fn in_folder(folder: &Path) -> Options {
    Options { data_dir: Some(folder.to_owned()), ..Options::default() }
}

async fn pause(running: &mut Running, id: &str) {
    running.client.pause_search(PauseSearchRequest { search_id: id.into() }).await.unwrap();
}

async fn resume(running: &mut Running, id: &str) {
    running.client.resume_search(ResumeSearchRequest { search_id: id.into() }).await.unwrap();
}

#[tokio::test]
async fn a_search_runs_to_its_end_and_every_watcher_hears_of_every_step() {
    let mut running = start(Options::default()).await;
    let id = running.create("r", &spec()).await;
    assert_eq!(running.get(&id).await.state, SearchState::Preparing);
    let first = running.watch(&id, 0).await;
    let workers = [running.work(Worker::default()), running.work(Worker::default())];
    let (steps, status) = first.rest().await;
    let expected = trajectory(&spec());
    assert_eq!(bits(&steps), bits(&expected));
    assert_eq!((status.state, status.step, status.failure), (SearchState::Finished, 14, None));
    assert_eq!(status.rates, expected[13].rates);

    let (steps, status) = running.watch(&id, 9).await.rest().await;
    assert_eq!(steps, expected[9..]);
    assert_eq!(status, running.get(&id).await);
    running.stop().await;
    for worker in workers {
        refused(worker.await.unwrap(), Code::Unavailable, "join again");
    }
}

#[tokio::test]
async fn a_watcher_is_told_what_happens_in_its_order() {
    let mut running = start(Options::default()).await;
    let id = running.create("r", &spec()).await;
    let mut watcher = running.watch(&id, 0).await;
    let _worker = running.work(Worker::default());
    let state = |event| if let Some(SearchEvent::Status(it)) = event { Some(it.state) } else { None };
    assert_eq!(state(watcher.next().await), Some(SearchState::Preparing));
    for (worker, activity) in [("", "waiting for a worker"), ("fake", "loading")] {
        let Some(SearchEvent::Progress(progress)) = watcher.next().await else { panic!("progress is told") };
        assert_eq!((progress.worker.as_str(), progress.activity.as_str()), (worker, activity));
    }
    for done in 0..=14 {
        let Some(SearchEvent::Progress(progress)) = watcher.next().await else { panic!("progress is told") };
        assert_eq!((progress.activity.as_str(), progress.done, progress.total), ("encoding pictures", done, 14));
    }
    assert_eq!(state(watcher.next().await), Some(SearchState::Running));
    for step in 1..=14 {
        assert!(matches!(watcher.next().await, Some(SearchEvent::Step(record)) if record.step == step));
    }
    assert_eq!(state(watcher.next().await), Some(SearchState::Finished));
    assert_eq!(watcher.next().await, None);
}

#[tokio::test]
async fn sample_pictures_are_told_of_and_one_that_is_not_in_the_store_is_none() {
    let mut running = start(Options::default()).await;
    let id = running.create("r", &sampled()).await;
    let mut watchers = vec![running.watch(&id, 0).await];
    let _worker = running.work(Worker::default());
    let (steps, _) = running.watch(&id, 0).await.rest().await;
    assert_eq!(bits(&steps), bits(&trajectory(&spec())));
    watchers.push(running.watch(&id, 0).await);
    for mut watcher in watchers {
        let mut told = Vec::new();
        let mut last = 0;
        while let Some(event) = watcher.next().await {
            match event {
                SearchEvent::Step(record) => last = record.step,
                SearchEvent::SamplePicture(picture) => {
                    assert_eq!(picture.step, last, "pictures are told after their step");
                    told.push((picture.step, picture.item, picture.result.clone().unwrap_err()));
                }
                _ => {}
            }
        }
        let lost = "the worker did not put it into the store";
        let expected = [0, 5, 10, 14].map(|step| [(step, 0, lost.to_owned()), (step, 1, "too large".to_owned())]);
        assert_eq!(told, expected.concat());
    }
}

#[tokio::test]
async fn a_paused_search_goes_on_to_the_same_numbers() {
    let mut running = start(Options::default()).await;
    let id = running.create("r", &spec()).await;
    let mut watcher = running.watch(&id, 0).await;
    let takes = Duration::from_millis(5);
    let _workers = [running.work(Worker { takes, ..Worker::default() }), running.work(Worker::default())];
    watcher.until_step(3).await;
    pause(&mut running, &id).await;
    pause(&mut running, &id).await;
    let (_, status) = watcher.rest().await;
    assert_eq!(status.state, SearchState::Paused);
    assert!((3..14).contains(&status.step), "{status:?}");
    let (steps, _) = running.watch(&id, 0).await.rest().await;
    assert_eq!(steps.len() as u64, status.step);

    resume(&mut running, &id).await;
    let (steps, status) = running.watch(&id, 0).await.rest().await;
    assert_eq!(status.state, SearchState::Finished);
    assert_eq!(bits(&steps), bits(&trajectory(&spec())));
}

#[tokio::test]
async fn a_killed_worker_costs_no_sample() {
    for dies_after in [0, 1, 7, 8] {
        let mut running = start(Options::default()).await;
        let id = running.create("r", &spec()).await;
        let killed = running.work(Worker { dies_after: Some(dies_after), ..Worker::default() });
        killed.await.unwrap().unwrap();
        assert!(running.get(&id).await.step < 14);
        let _worker = running.work(Worker::default());
        let (steps, _) = running.watch(&id, 0).await.rest().await;
        assert_eq!(bits(&steps), bits(&trajectory(&spec())));
    }
}

#[tokio::test]
async fn a_stopped_coordinator_goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let mut running = start(in_folder(folder.path())).await;
    let id = running.create("r", &spec()).await;
    let killed = running.work(Worker { dies_after: Some(13), ..Worker::default() });
    killed.await.unwrap().unwrap();
    running.stop().await;

    let mut running = start(in_folder(folder.path())).await;
    let status = running.get(&id).await;
    assert_eq!(status.state, SearchState::Preparing);
    assert!((1..14).contains(&status.step), "{status:?}");
    assert_eq!(running.create("r", &spec()).await, id, "the request is known");
    let _worker = running.work(Worker::default());
    let (steps, status) = running.watch(&id, 0).await.rest().await;
    assert_eq!(status.state, SearchState::Finished);
    assert_eq!(bits(&steps), bits(&trajectory(&spec())));
    running.stop().await;

    let mut running = start(in_folder(folder.path())).await;
    assert_eq!(running.get(&id).await, status);
    running.stop().await;
}

#[tokio::test]
async fn a_coordinator_told_so_starts_with_its_searches_paused() {
    let folder = tempfile::tempdir().unwrap();
    let mut running = start(in_folder(folder.path())).await;
    let id = running.create("r", &spec()).await;
    running.stop().await;

    let mut running = start(Options { resume_on_start: false, ..in_folder(folder.path()) }).await;
    let _worker = running.work(Worker::default());
    assert_eq!(running.watch(&id, 0).await.rest().await.1.state, SearchState::Paused);
    resume(&mut running, &id).await;
    assert_eq!(running.watch(&id, 0).await.rest().await.1.state, SearchState::Finished);
    running.stop().await;
}

#[tokio::test]
async fn the_searches_take_turns() {
    let mut running = start(Options::default()).await;
    let other = {
        let mut spec = spec();
        spec.options.seed = 4;
        spec
    };
    let (first, second) = (running.create("1", &spec()).await, running.create("2", &other).await);
    assert_ne!(first, second);
    let mut watcher = running.watch(&first, 0).await;
    let _worker = running.work(Worker { takes: Duration::from_millis(1), ..Worker::default() });
    watcher.until_step(2).await;
    assert_eq!(running.get(&second).await.state, SearchState::Preparing);
    pause(&mut running, &first).await;
    let (steps, _) = running.watch(&second, 0).await.rest().await;
    assert_eq!(bits(&steps), bits(&trajectory(&other)));
    resume(&mut running, &first).await;
    let (steps, _) = running.watch(&first, 0).await.rest().await;
    assert_eq!(bits(&steps), bits(&trajectory(&spec())));
}

#[tokio::test]
async fn a_worker_that_says_nothing_is_gone() {
    let mut running = start(Options { silence: Duration::from_millis(300), ..Options::default() }).await;
    let id = running.create("r", &spec()).await;
    let silent = running.work(Worker { falls_silent: true, ..Worker::default() });
    let watcher = running.watch(&id, 0).await;
    let ended = tokio::time::timeout(Duration::from_secs(10), silent).await.expect("its stream is ended");
    refused(ended.unwrap(), Code::DeadlineExceeded, "said nothing for 0.3 s");
    let _worker = running.work(Worker::default());
    let (steps, _) = watcher.rest().await;
    assert_eq!(bits(&steps), bits(&trajectory(&spec())));
}

#[tokio::test]
async fn what_a_hanging_worker_holds_is_computed_by_another() {
    let mut running = start(Options { overdue: Duration::from_millis(50), ..Options::default() }).await;
    let id = running.create("r", &spec()).await;
    let _silent = running.work(Worker { falls_silent: true, ..Worker::default() });
    let mut watcher = running.watch(&id, 0).await;
    while !matches!(watcher.next().await.unwrap(), SearchEvent::Status(it) if it.state == SearchState::Running) {}
    let _worker = running.work(Worker::default());
    watcher.until_step(3).await;
}

#[tokio::test]
async fn a_worker_that_cannot_prepare_fails_the_search_in_its_words() {
    let mut running = start(Options::default()).await;
    let id = running.create("r", &spec()).await;
    let _worker = running.work(Worker { fails: Some("there is no file model"), ..Worker::default() });
    let status = running.watch(&id, 0).await.rest().await.1;
    assert_eq!(status.state, SearchState::Failed);
    assert_eq!(status.failure.as_deref(), Some("worker fake: there is no file model"));
}

/// The channel stands for a connection that takes nothing more: more steps are made than are kept for the watcher.
#[tokio::test]
async fn a_client_that_does_not_read_holds_nobody_up_and_misses_nothing() {
    let mut long = spec();
    long.options.max_train_steps = 400;
    let mut running = start(Options::default()).await;
    let id = running.create("r", &long).await;
    let watched = running.handle.watch(id.clone()).await.unwrap();
    let (client, mut unread) = mpsc::channel(1);
    let watching = tokio::spawn(super::watch::run(running.handle.clone(), id.clone(), watched, 0, client));
    let _worker = running.work(Worker::default());
    let (steps, _) = running.watch(&id, 0).await.rest().await;
    assert!(!watching.is_finished());

    let (mut late, mut last) = (Vec::new(), None);
    while let Some(event) = unread.recv().await {
        match SearchEvent::try_from(event.unwrap()).unwrap() {
            SearchEvent::Step(record) => late.push((*record).clone()),
            other => last = Some((other, late.len())),
        }
    }
    assert_eq!(steps.len(), 400);
    assert_eq!(late, steps);
    let finished = |it: &SearchEvent| matches!(it, SearchEvent::Status(it) if it.state == SearchState::Finished);
    assert!(last.is_some_and(|(event, steps)| finished(&event) && steps == 400), "its end is told last");
}

#[tokio::test]
async fn requests_that_make_no_sense_are_refused_with_the_reason() {
    let mut running = start(Options::default()).await;
    let id = running.create("r", &spec()).await;
    assert_eq!(running.create("r", &spec()).await, id);
    let mut other = spec();
    other.options.seed = 4;
    refused(running.try_create("r", &other).await, Code::AlreadyExists, &id);
    other.options.train_batch_size = 0;
    refused(running.try_create("s", &other).await, Code::InvalidArgument, "spec.options.train_batch_size is 0");
    refused(running.try_create("", &spec()).await, Code::InvalidArgument, "request_id");

    let client = &mut running.client;
    let (nobody, search_id) = (|| "nobody".to_owned(), || id.clone());
    refused(client.get_search(GetSearchRequest::default()).await, Code::InvalidArgument, "search_id");
    refused(client.get_search(GetSearchRequest { search_id: nobody() }).await, Code::NotFound, "nobody");
    let watch = WatchSearchRequest { search_id: nobody(), after_step: 0 };
    refused(client.watch_search(watch).await, Code::NotFound, "nobody");
    refused(client.pause_search(PauseSearchRequest { search_id: nobody() }).await, Code::NotFound, "nobody");
    for _ in 0..2 {
        client.cancel_search(CancelSearchRequest { search_id: search_id() }).await.unwrap();
    }
    let refused_resume = client.resume_search(ResumeSearchRequest { search_id: search_id() }).await;
    refused(refused_resume, Code::FailedPrecondition, "the search is cancelled; it can't be resumed");
    assert_eq!(running.get(&id).await.state, SearchState::Cancelled);
}
