use super::fake::{Running, Worker, start};
use super::{pause, resume};
use crate::Options;
use crate::testing::{bits, spec, trajectory};
use lora_rates_common::convert::SearchState;
use lora_rates_common::spec::SearchSpec;
use lora_rates_proto::v1::{ListWorkersRequest, Worker as Status, WorkerState};
use std::time::Duration;

const TAKES: Duration = Duration::from_millis(10);

fn seeded(seed: u64, steps: u64) -> SearchSpec {
    let mut spec = spec();
    (spec.options.seed, spec.options.max_train_steps) = (seed, steps);
    spec
}

async fn workers(running: &mut Running) -> Vec<Status> {
    running.client.list_workers(ListWorkersRequest::default()).await.unwrap().into_inner().workers
}

/// Waits until so many workers work for each of these.
async fn until_shared(running: &mut Running, shares: &[(&str, usize)]) {
    for _ in 0..500 {
        let workers = workers(running).await;
        let count = |id: &str| workers.iter().filter(|worker| worker.search_id == id).count();
        if shares.iter().all(|(id, share)| count(id) == *share) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{:?} is not {shares:?}", workers(running).await);
}

#[tokio::test]
async fn searches_share_the_workers_and_each_makes_its_own_trajectory() {
    let mut running = start(Options::default()).await;
    let specs = [seeded(1, 60), seeded(2, 60)];
    let first = running.create("1", &specs[0]).await;
    let _workers = [(); 5].map(|()| running.work(Worker { takes: TAKES, ..Worker::default() }));
    until_shared(&mut running, &[(&first, 5)]).await;
    let second = running.create("2", &specs[1]).await;
    until_shared(&mut running, &[(&first, 3), (&second, 2)]).await;
    assert_eq!(running.get(&second).await.workers, 2);
    let third = running.create("3", &seeded(3, 60)).await;
    until_shared(&mut running, &[(&first, 2), (&second, 2), (&third, 1)]).await;
    pause(&mut running, &third).await;
    until_shared(&mut running, &[(&first, 3), (&second, 2), (&third, 0)]).await;
    for (id, spec) in [&first, &second].into_iter().zip(&specs) {
        let (steps, status) = running.watch(id, 0).await.rest().await;
        assert_eq!(status.state, SearchState::Finished);
        assert_eq!(bits(&steps), bits(&trajectory(spec)));
    }
    resume(&mut running, &third).await;
    until_shared(&mut running, &[(&third, 5)]).await;
}

#[tokio::test]
async fn a_worker_that_joins_takes_work_within_two_steps() {
    let mut running = start(Options::default()).await;
    let id = running.create("r", &seeded(1, 200)).await;
    let _first = running.work(Worker { takes: TAKES, ..Worker::default() });
    let mut watcher = running.watch(&id, 0).await;
    watcher.until_step(3).await;
    let late = Worker { takes: TAKES, ..Worker::default() };
    let diary = late.diary.clone();
    let _late = running.work(late);
    while diary.lock().unwrap().prepared.is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let joined = running.get(&id).await.step;
    watcher.until_step(joined + 3).await;
    let steps = diary.lock().unwrap().steps.clone();
    assert!(steps.first().is_some_and(|step| *step <= joined + 2), "joined at {joined}, worked at {steps:?}");
}

#[tokio::test]
async fn every_picture_is_encoded_once_whoever_does_it() {
    let mut running = start(Options::default()).await;
    let id = running.create("r", &spec()).await;
    let workers = [(); 3].map(|()| Worker::default());
    let diaries = workers.each_ref().map(|worker| worker.diary.clone());
    let _workers = workers.map(|worker| running.work(worker));
    running.watch(&id, 0).await.rest().await;
    let mut encoded: Vec<_> = diaries.iter().flat_map(|diary| diary.lock().unwrap().encoded.clone()).collect();
    encoded.sort_unstable();
    assert_eq!(encoded, spec().encodings());
}

#[tokio::test]
async fn a_moved_worker_is_told_to_forget_what_it_had() {
    let mut running = start(Options::default()).await;
    let first = running.create("1", &seeded(1, 500)).await;
    let workers = [(); 2].map(|()| Worker { takes: TAKES, ..Worker::default() });
    let diaries = workers.each_ref().map(|worker| worker.diary.clone());
    let _workers = workers.map(|worker| running.work(worker));
    until_shared(&mut running, &[(&first, 2)]).await;
    let second = running.create("2", &seeded(2, 500)).await;
    until_shared(&mut running, &[(&first, 1), (&second, 1)]).await;
    running.watch(&second, 0).await.until_step(1).await;
    let moved: Vec<_> = diaries.iter().filter(|diary| diary.lock().unwrap().released == [first.clone()]).collect();
    assert_eq!(moved.len(), 1);
    assert_eq!(moved[0].lock().unwrap().prepared, [first, second]);
}

#[tokio::test]
async fn workers_are_listed_in_pages_with_what_they_do() {
    let mut running = start(Options::default()).await;
    let id = running.create("r", &seeded(1, 100_000)).await;
    for name in ["a", "b", "c"] {
        let _worker = running.work(Worker { takes: TAKES, ..Worker::named(name) });
        running.until_workers(|workers| workers.iter().any(|it| it.name == name && it.accepted > 0)).await;
    }
    let (mut names, mut token) = (Vec::new(), String::new());
    loop {
        let request = ListWorkersRequest { page_size: 2, page_token: token };
        let page = running.client.list_workers(request).await.unwrap().into_inner();
        assert!(page.workers.len() <= 2);
        for worker in page.workers {
            assert_eq!((worker.device.as_str(), worker.search_id.as_str()), ("none", id.as_str()));
            assert_eq!((worker.state(), worker.memory.unwrap().free), (WorkerState::Working, 4));
            assert!(worker.idle_ms.is_some() && worker.silent_ms < 5_000 && worker.joined_ms > 0, "{worker:?}");
            names.push(worker.name);
        }
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(names, ["a", "b", "c"]);
}
