//! Turns the coordinator's messages into what is to be done. Leases refer to their search's pictures, so it remembers what
//! it was told to prepare.

use super::feeder::Feed;
use lora_rates_common::convert::{self, Describe, Failed, Prepare};
use lora_rates_common::spec::SearchSpec;
use lora_rates_proto::v1;
use lora_rates_proto::v1::join_response::Message;
use std::sync::Arc;

/// What a message asks for.
#[derive(Debug)]
pub(super) enum Asked {
    /// Something about the search that is worked for.
    Feed(Feed),
    /// The search that is worked for changes.
    Turn(Feed),
    /// A question about a model.
    Describe(Describe),
    /// It is about a search that this worker does not work for.
    Nothing,
    /// It makes no sense.
    Nonsense(Failed),
}

/// What this worker was told.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    search: Option<(String, Arc<SearchSpec>)>,
}

impl Inbox {
    pub(super) fn read(&mut self, message: Message) -> Asked {
        let id = match &message {
            Message::Prepare(v1::Prepare { search_id, .. })
            | Message::Rates(v1::Rates { search_id, .. })
            | Message::Lease(v1::Lease { search_id, .. })
            | Message::Release(v1::Release { search_id })
            | Message::Encode(v1::Encode { search_id, .. })
            | Message::Evaluate(v1::Evaluate { search_id, .. })
            | Message::Draw(v1::Draw { search_id, .. }) => search_id.clone(),
            Message::Describe(_) => String::new(),
        };
        self.convert(message).unwrap_or_else(|error| {
            let message = format!("the coordinator sent a message that makes no sense: {error}");
            Asked::Nonsense(Failed { search_id: id, message })
        })
    }

    fn convert(&mut self, message: Message) -> Result<Asked, convert::Error> {
        let feed = match message {
            Message::Prepare(prepare) => {
                let prepare = Prepare::try_from(prepare)?;
                self.search = Some((prepare.search_id.clone(), prepare.spec.clone()));
                return Ok(Asked::Turn(Feed::Prepare(prepare)));
            }
            Message::Release(release) => {
                // Of another search than the one that is worked for: that goes on.
                let released = self.search.take_if(|(id, _)| *id == release.search_id);
                return Ok(released.map_or(Asked::Nothing, |(id, _)| Asked::Turn(Feed::Release(id))));
            }
            Message::Describe(describe) => return Ok(Asked::Describe(describe.try_into()?)),
            Message::Rates(rates) => match self.spec(&rates.search_id) {
                Some(_) => Feed::Rates(rates.try_into()?),
                None => return Ok(Asked::Nothing),
            },
            Message::Lease(lease) => match self.spec(&lease.search_id) {
                Some(spec) => Feed::Lease(convert::lease(lease, spec)?),
                None => return Ok(Asked::Nothing),
            },
            Message::Encode(encode) => match self.spec(&encode.search_id) {
                Some(spec) => Feed::Encode(convert::encode(encode, spec)?),
                None => return Ok(Asked::Nothing),
            },
            Message::Evaluate(evaluate) => match self.spec(&evaluate.search_id) {
                Some(spec) => Feed::Evaluate(convert::evaluate(evaluate, spec)?),
                None => return Ok(Asked::Nothing),
            },
            Message::Draw(draw) => match self.spec(&draw.search_id) {
                Some(spec) => Feed::Draw(convert::draw(draw, spec)?),
                None => return Ok(Asked::Nothing),
            },
        };
        Ok(Asked::Feed(feed))
    }

    fn spec(&self, search_id: &str) -> Option<&SearchSpec> {
        self.search.as_ref().filter(|(id, _)| id == search_id).map(|(_, spec)| spec.as_ref())
    }
}
