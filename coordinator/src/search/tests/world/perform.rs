//! What happens reaches the search, and what the search says is done and checked.

use super::super::checks::Item;
use super::{Worker, World};
use crate::search::{Command, Event, WorkerId};
use lora_rates_common::convert::SearchState;

impl World<'_> {
    /// Something happens; the search says what is to be done.
    pub(super) fn event(&mut self, event: Event) {
        self.events += 1;
        let result = Item::of_result(&event);
        let commands = self.search.handle(event);
        if let Some((worker, item)) = result {
            let refused = commands.iter().any(|command| matches!(command, Command::Refused(..)));
            self.checks.result(worker, item, refused);
        }
        self.perform(commands);
    }

    pub(super) fn perform(&mut self, commands: Vec<Command>) {
        let step = self.store.optimizer.step;
        for command in commands {
            if let Command::Lease(worker, _) | Command::Encode(worker, _) | Command::Evaluate(worker, _) = &command {
                assert!(self.pending.is_none(), "nothing is leased before what was computed is stored");
                self.checks.lease(*worker, &command, step);
            }
            match command {
                Command::Prepare(worker) => {
                    let it = self.workers.get_mut(&worker).unwrap();
                    assert!(!it.member && !it.expelled, "{worker} is prepared twice");
                    (it.member, it.preparing) = (true, true);
                }
                Command::Rates(worker, rates) => {
                    assert!(rates.step == step && rates.rates == self.truth.rates[step as usize]);
                    self.ready(worker).queue.clear();
                }
                Command::Lease(worker, _) | Command::Encode(worker, _) | Command::Evaluate(worker, _) => {
                    self.ready(worker).queue.push_back(command);
                }
                Command::Release(worker) => {
                    assert!(self.workers[&worker].member, "{worker} is released and was no member");
                    self.forget(worker);
                }
                Command::Expel(worker, _) => {
                    assert!(self.workers[&worker].member, "{worker} is expelled and was no member");
                    self.forget(worker);
                    self.workers.get_mut(&worker).unwrap().expelled = true;
                }
                Command::Commit(_) | Command::Validated(_) | Command::Concluded(_) => {
                    assert!(self.pending.is_none(), "the store has one thing to do at a time");
                    self.checks.complete(&command, step);
                    self.pending = Some(command);
                }
                Command::Publish(record) => assert_eq!(self.store.records.last(), Some(&record)),
                Command::PublishValidation(it) => assert_eq!(self.store.validations.last(), Some(&it)),
                Command::State(state, failure) => {
                    if !matches!(state, SearchState::Preparing | SearchState::Running) {
                        self.checks.work_is_over();
                    }
                    (self.store.state, self.store.failure) = (state, failure);
                }
                Command::Progress(progress) => {
                    let members = self.workers.values().filter(|it| it.member).count();
                    assert_eq!(progress.activity == "waiting for a worker", members == 0, "{progress:?}");
                }
                Command::Refused(..) => {}
                Command::Draw(..) | Command::Sampled(_) | Command::PublishPicture(_) => {
                    panic!("these searches sample no pictures")
                }
            }
        }
    }

    /// A worker that may be told of work.
    fn ready(&mut self, worker: WorkerId) -> &mut Worker {
        let it = self.workers.get_mut(&worker).unwrap();
        assert!(it.member && !it.preparing, "{worker} is told of work and is not ready");
        it
    }
}
