use super::fake::{Worker, refused, start};
use super::resume;
use crate::Options;
use crate::testing::{bits, spec, trajectory, validated, validations};
use lora_rates_common::convert::{SearchEvent, SearchState};
use lora_rates_proto::v1::{DescribeModelRequest, WorkerState};
use std::time::Duration;
use tonic::Code;

#[tokio::test]
async fn a_worker_whose_results_are_no_numbers_is_quarantined_and_the_others_go_on() {
    let mut running = start(Options::default()).await;
    let id = running.create("r", &spec()).await;
    let _good = running.work(Worker { takes: Duration::from_millis(2), ..Worker::named("good") });
    running.watch(&id, 0).await.until_step(1).await;
    let _bad = running.work(Worker { spoils: true, ..Worker::named("bad") });
    let (steps, status) = running.watch(&id, 0).await.rest().await;
    assert_eq!(status.state, SearchState::Finished);
    assert_eq!(bits(&steps), bits(&trajectory(&spec())));
    running
        .until_workers(|workers| {
            let bad = workers.iter().find(|worker| worker.name == "bad");
            bad.is_some_and(|bad| bad.refused == 3 && bad.accepted == 0 && bad.state() == WorkerState::Quarantined)
        })
        .await;
}

#[tokio::test]
async fn a_search_that_no_worker_can_work_for_fails_and_can_be_resumed() {
    let mut running = start(Options::default()).await;
    let id = running.create("r", &spec()).await;
    let bad = running.work(Worker { spoils: true, ..Worker::default() });
    let status = running.watch(&id, 0).await.rest().await.1;
    assert_eq!(status.state, SearchState::Failed);
    assert!(status.failure.as_ref().is_some_and(|reason| reason.contains("not finite")), "{status:?}");
    bad.abort();
    running.until_workers(|workers| workers.is_empty()).await;
    let _good = running.work(Worker::default());
    resume(&mut running, &id).await;
    let (steps, status) = running.watch(&id, 0).await.rest().await;
    assert_eq!((status.state, status.failure), (SearchState::Finished, None));
    assert_eq!(bits(&steps), bits(&trajectory(&spec())));
}

#[tokio::test]
async fn a_worker_that_leaves_gives_back_what_it_holds_and_its_stream_ends_well() {
    let mut running = start(Options::default()).await;
    let id = running.create("r", &spec()).await;
    let leaving = running.work(Worker { leaves_after: Some(5), ..Worker::default() });
    leaving.await.unwrap().unwrap();
    running.until_workers(|workers| workers.is_empty()).await;
    let _other = running.work(Worker::default());
    let (steps, _) = running.watch(&id, 0).await.rest().await;
    assert_eq!(bits(&steps), bits(&trajectory(&spec())));
}

#[tokio::test]
async fn without_workers_a_search_waits_says_so_and_goes_on() {
    let mut running = start(Options::default()).await;
    let id = running.create("r", &spec()).await;
    let mut watcher = running.watch(&id, 0).await;
    let only = running.work(Worker { takes: Duration::from_millis(5), ..Worker::default() });
    watcher.until_step(3).await;
    only.abort();
    watcher.until_waiting().await;
    assert_eq!(running.get(&id).await.state, SearchState::Preparing);
    running.watch(&id, 0).await.until_waiting().await;
    let _next = running.work(Worker::default());
    watcher.until_step(14).await;
}

#[tokio::test]
async fn without_workers_for_too_long_a_search_fails_and_can_be_resumed() {
    let timeout = Duration::from_millis(300);
    let mut running = start(Options { worker_timeout: Some(timeout), ..Options::default() }).await;
    let id = running.create("r", &spec()).await;
    let status = running.watch(&id, 0).await.rest().await.1;
    assert_eq!(status.state, SearchState::Failed);
    assert!(status.failure.as_ref().is_some_and(|it| it.contains("there was no worker for 0.3 s")), "{status:?}");
    let _worker = running.work(Worker::default());
    running.until_workers(|workers| workers.len() == 1).await;
    resume(&mut running, &id).await;
    assert_eq!(running.watch(&id, 0).await.rest().await.1.state, SearchState::Finished);
}

#[tokio::test]
async fn a_worker_says_what_a_model_is() {
    let mut running = start(Options::default()).await;
    let ask = |path: &str| DescribeModelRequest { path: path.into(), vae: None };
    refused(running.client.describe_model(ask("tiny")).await, Code::Unavailable, "no worker");
    let worker = running.work(Worker::default());
    running.until_workers(|workers| workers.len() == 1).await;
    let found = running.client.describe_model(ask("tiny")).await.unwrap().into_inner().description.unwrap();
    assert_eq!(found.digest, "1b".repeat(32));
    refused(running.client.describe_model(ask("other")).await, Code::NotFound, "there is no model other");
    for escape in ["/etc/passwd", "../secret", "a/../../b", ""] {
        refused(running.client.describe_model(ask(escape)).await, Code::InvalidArgument, "path");
    }
    // A worker that dies before it answers.
    let mut client = running.client.clone();
    let asking = tokio::spawn(async move { client.describe_model(ask("silence")).await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    worker.abort();
    refused(asking.await.unwrap(), Code::Unavailable, "no worker");
}

#[tokio::test]
async fn evaluations_are_told_in_their_place_live_and_afterwards() {
    let mut running = start(Options::default()).await;
    let spec = validated();
    let id = running.create("r", &spec).await;
    let mut live = running.watch(&id, 0).await;
    let _workers = [running.work(Worker::default()), running.work(Worker::default())];
    let told = async |watcher: &mut super::fake::Watcher| {
        let (mut order, mut all) = (Vec::new(), Vec::new());
        while let Some(event) = watcher.next().await {
            match event {
                SearchEvent::Step(record) => order.push((record.step, 0)),
                SearchEvent::Validation(validation) => {
                    order.push((validation.step, 1));
                    all.push((*validation).clone());
                }
                _ => {}
            }
        }
        (order, all)
    };
    let (order, all) = told(&mut live).await;
    assert!(order.is_sorted(), "{order:?}");
    let expected = validations(&spec, &trajectory(&spec));
    assert_eq!(all, expected);
    let (late_order, late) = told(&mut running.watch(&id, 0).await).await;
    assert_eq!((late_order, late), (order, expected.clone()));
    let (_, rest) = told(&mut running.watch(&id, 4).await).await;
    assert_eq!(rest, expected.iter().filter(|it| it.step >= 4).cloned().collect::<Vec<_>>());
    let best = running.get(&id).await.best.unwrap();
    assert!(expected.iter().all(|it| best.loss <= it.loss));
}
