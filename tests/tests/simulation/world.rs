//! One schedule from its start to the search's end.

use super::network::{connect, listen};
use super::schedule::{Behaviour, Host, Kind, Schedule, Trouble};
use lora_rates_common::convert::{CreateSearch, SearchEvent, SearchState, StepRecord, Validation};
use lora_rates_coordinator::{Coordinator, Options};
use lora_rates_proto::transfer::Blobs;
use lora_rates_proto::v1::search_service_client::SearchServiceClient;
use lora_rates_proto::v1::{self, CreateSearchRequest, ResumeSearchRequest, WatchSearchRequest};
use lora_rates_tests::reference::{bits, trajectory};
use lora_rates_tests::searches::Size;
use lora_rates_tests::synthetic::{self, Fault};
use std::cell::RefCell;
use std::fmt;
use std::future::pending;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;
use turmoil::{Builder, Sim};

/// Simulated time after which a search is stuck.
const PATIENCE: Duration = Duration::from_secs(600);
/// Hosts run for so long at a time.
const TICK: Duration = Duration::from_millis(5);
/// Pause before another attempt of the client's.
const RETRY: Duration = Duration::from_millis(300);

/// What was simulated.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures {
    schedules: u64,
    steps: u64,
    pub(crate) simulated: Duration,
    crashes: u64,
    coordinator_crashes: u64,
    partitions: u64,
    holds: u64,
    faulty_workers: u64,
    resumed: u64,
    longest: Duration,
}

impl Figures {
    pub(crate) fn add(&mut self, other: &Self) {
        self.schedules += other.schedules;
        self.steps += other.steps;
        self.simulated += other.simulated;
        self.crashes += other.crashes;
        self.coordinator_crashes += other.coordinator_crashes;
        self.partitions += other.partitions;
        self.holds += other.holds;
        self.faulty_workers += other.faulty_workers;
        self.resumed += other.resumed;
        self.longest = self.longest.max(other.longest);
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} schedules, {} steps, {} s of simulated time (the longest {} s): {} crashes of workers, {} of the \
             coordinator, {} partitions, {} held links, {} faulty workers; {} searches resumed after faulty workers alone were left; every \
             trajectory the same",
            self.schedules,
            self.steps,
            self.simulated.as_secs(),
            self.longest.as_secs(),
            self.crashes,
            self.coordinator_crashes,
            self.partitions,
            self.holds,
            self.faulty_workers,
            self.resumed,
        )
    }
}

/// What the client has seen.
#[derive(Default)]
struct Seen {
    steps: Vec<StepRecord>,
    validations: Vec<Validation>,
    end: Option<(SearchState, Option<String>)>,
    resumed: u64,
}

/// Runs a schedule and asserts that its search comes to what it must.
pub(crate) fn simulate(schedule: &Schedule) -> Figures {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut sim = Builder::new()
        .rng_seed(schedule.seed)
        .simulation_duration(PATIENCE)
        .tick_duration(TICK)
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(schedule.latency)
        .enable_random_order()
        .build();
    let data = folder.path().to_owned();
    sim.host("coordinator", move || coordinator(data.clone()));
    for (at, behaviour) in schedule.workers.iter().copied().enumerate() {
        sim.host(worker_name(at), move || worker(at, behaviour));
    }
    let seen = Rc::new(RefCell::new(Seen::default()));
    sim.client("client", client(schedule.size.clone(), seen.clone()));
    let mut figures = Figures { schedules: 1, ..Figures::default() };
    figures.faulty_workers = schedule.workers.iter().filter(|it| it.fault != Fault::None).count() as u64;
    run(&mut sim, schedule, &mut figures);
    let seen = seen.borrow();
    check(schedule, &seen);
    figures.steps = seen.steps.len() as u64;
    figures.resumed = seen.resumed;
    figures.simulated = sim.elapsed();
    figures.longest = sim.elapsed();
    figures
}

/// Lets time pass, and troubles begin and end in it, until the client has finished.
fn run(sim: &mut Sim<'_>, schedule: &Schedule, figures: &mut Figures) {
    let mut beginnings: Vec<&Trouble> = schedule.troubles.iter().collect();
    let mut endings = beginnings.clone();
    beginnings.sort_by_key(|it| it.from);
    endings.sort_by_key(|it| it.until);
    let (mut beginnings, mut endings) = (beginnings.into_iter().peekable(), endings.into_iter().peekable());
    loop {
        let now = sim.elapsed();
        while let Some(trouble) = beginnings.next_if(|it| it.from <= now) {
            begin(sim, trouble, figures);
        }
        while let Some(trouble) = endings.next_if(|it| it.until <= now) {
            end(sim, trouble);
        }
        if sim.step().expect("a client without errors, in time") {
            return;
        }
    }
}

fn worker_name(at: usize) -> String {
    format!("worker-{at}")
}

fn name(host: Host) -> String {
    match host {
        Host::Coordinator => "coordinator".into(),
        Host::Client => "client".into(),
        Host::Worker(at) => worker_name(at),
    }
}

fn begin(sim: &mut Sim<'_>, trouble: &Trouble, figures: &mut Figures) {
    let host = name(trouble.host);
    match trouble.kind {
        // Two crashes of a host may overlap: the second then changes nothing.
        Kind::Crash => {
            match trouble.host {
                Host::Coordinator => figures.coordinator_crashes += 1,
                _ => figures.crashes += 1,
            }
            sim.crash(host);
        }
        Kind::Partition => {
            figures.partitions += 1;
            sim.partition(host, "coordinator");
        }
        Kind::Hold => {
            figures.holds += 1;
            sim.hold(host, "coordinator");
        }
    }
}

fn end(sim: &mut Sim<'_>, trouble: &Trouble) {
    let host = name(trouble.host);
    match trouble.kind {
        Kind::Crash => sim.bounce(host),
        Kind::Partition => sim.repair(host, "coordinator"),
        Kind::Hold => sim.release(host, "coordinator"),
    }
}

async fn coordinator(data_dir: std::path::PathBuf) -> turmoil::Result {
    let options = Options { data_dir: Some(data_dir), trusted: false, inline_store: true, ..Options::default() };
    let coordinator = Coordinator::open(options)?;
    coordinator.serve_with_incoming(listen().await?, pending()).await?;
    Ok(())
}

async fn worker(at: usize, behaviour: Behaviour) -> turmoil::Result {
    let Behaviour { delay, fault, every } = behaviour;
    let options = synthetic::Options { name: worker_name(at), delay, fault, fault_every: every, record: None };
    synthetic::run_over(&connect(), options, pending()).await;
    Ok(())
}

/// Creates the search and follows it to its end, through everything.
async fn client(size: Size, seen: Rc<RefCell<Seen>>) -> turmoil::Result {
    while seen.borrow().end.is_none() {
        if attempt(&size, &seen).await.is_none() {
            sleep(RETRY).await;
        }
    }
    Ok(())
}

/// Goes as far as the connection lasts.
async fn attempt(size: &Size, seen: &RefCell<Seen>) -> Option<()> {
    let connection = connect()().await.ok()?;
    let mut blobs = Blobs::new(connection.clone());
    for (key, bytes) in size.files() {
        blobs.put_bytes(&(&key).into(), &bytes).await.ok()?;
    }
    let mut service = SearchServiceClient::new(connection);
    let create = CreateSearch { request_id: "r".into(), spec: Arc::new(size.spec()), name: String::new() };
    let created = service.create_search(CreateSearchRequest::from(&create)).await.ok()?.into_inner();
    let created_failed = created.search.as_ref().is_some_and(|it| it.state() == v1::SearchState::Failed);
    let search_id = created.search?.search_id;
    if created_failed {
        // While only faulty workers were there, it could not but fail: as a user would, when others are back.
        let request = ResumeSearchRequest { search_id: search_id.clone() };
        service.resume_search(request).await.ok()?;
        seen.borrow_mut().resumed += 1;
    }
    let after_step = seen.borrow().steps.len() as u64;
    let request = WatchSearchRequest { search_id, after_step };
    let mut events = service.watch_search(request).await.ok()?.into_inner();
    while let Some(event) = events.message().await.ok()? {
        seen.borrow_mut().take(SearchEvent::try_from(event).expect("an event that makes sense"));
    }
    Some(())
}

impl Seen {
    fn take(&mut self, event: SearchEvent) {
        match event {
            SearchEvent::Step(record) => {
                assert_eq!(record.step, self.steps.len() as u64 + 1, "every step is told, and told once");
                self.steps.push((*record).clone());
            }
            SearchEvent::Validation(it) if self.validations.last().is_none_or(|last| last.step < it.step) => {
                self.validations.push((*it).clone());
            }
            SearchEvent::Status(status) if status.state == SearchState::Failed => {
                let failure = status.failure.unwrap_or_default();
                assert!(failure.contains("unusable"), "{failure}");
            }
            SearchEvent::Status(status) if status.state.is_over() => self.end = Some((status.state, status.failure)),
            SearchEvent::Status(_)
            | SearchEvent::Validation(_)
            | SearchEvent::SamplePicture(_)
            | SearchEvent::Progress(_) => {}
        }
    }
}

fn check(schedule: &Schedule, seen: &Seen) {
    let expected = trajectory(&schedule.size.spec());
    assert_eq!(seen.end, Some((SearchState::Finished, None)));
    assert_eq!(bits(&seen.steps), bits(&expected.steps), "the trajectory");
    assert_eq!(seen.validations, expected.validations, "the evaluations");
}
