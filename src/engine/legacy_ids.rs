//! Ids in the form of Exchange 2007, which some servers write into events and refuse in questions: converted once, then
//! asked again. Elsewhere nothing looks at what an id is.

use super::acks::Ticket;
use super::fetch::FetchId;
use super::hold::Held;
use super::paths::FolderPath;
use super::verdict::{self, Verdict};
use super::{Answer, Call, Engine, Job};
use crate::Error;
use crate::proto::{FolderRef, Id, IdForm, Request};

/// The id is good for nothing but to be converted.
pub(crate) const LEGACY_ID: &str = "ErrorInvalidIdMalformedEwsLegacyIdFormat";

/// What wants to be asked again.
#[derive(Clone, Copy, Debug)]
pub(super) enum Asked {
    Fetch(FetchId),
    Act(Ticket),
}

/// Notes which of a host's folders have an id that the server takes for such a one, and has not converted yet. Whether there are any:
/// then all is to be asked again.
pub(crate) fn have_to_be_converted(folders: &mut [FolderPath], answers: &[Result<String, Error>]) -> bool {
    let mut any = false;
    for (folder, answer) in folders.iter_mut().zip(answers) {
        let legacy = answer.as_ref().is_err_and(|e| e.code() == Some(LEGACY_ID));
        if legacy && folder.form.is_none() && matches!(folder.from, FolderRef::Id(_)) {
            (folder.form, any) = (Some(IdForm::EwsLegacyId), true);
        }
    }
    any
}

impl Engine {
    /// Has an item's id converted. False for a watch that has ended.
    pub(super) fn convert(&mut self, watch: u64, endpoint: u32, id: String, asked: Asked) -> bool {
        let Some(mailbox) = self.watches.get(&watch).map(|w| w.spec.mailbox.to_string()) else {
            return false;
        };
        if let Asked::Fetch(_) = asked {
            self.endpoint(endpoint).fetches.in_flight += 1;
        }
        self.call_at(
            watch,
            endpoint,
            Job::Convert(asked),
            Request::ConvertId { form: IdForm::EwsLegacyId, id, mailbox },
            None,
        );
        true
    }

    /// The answer came, or none.
    pub(super) fn converted(&mut self, made: &Call, asked: Asked, result: Result<Answer, Error>) {
        let id = result.and_then(|answer| match answer {
            Answer::Converted(id) => Ok(id),
            _ => Err(super::calls::no_answer()),
        });
        match asked {
            Asked::Fetch(fetch) => self.fetch_converted(made.endpoint, fetch, id),
            Asked::Act(ticket) => self.act_converted(made, ticket, id),
        }
    }

    fn fetch_converted(&mut self, endpoint: u32, fetch: FetchId, id: Result<String, Error>) {
        let now = self.now.mono;
        let fetches = &mut self.endpoint(endpoint).fetches;
        fetches.in_flight = fetches.in_flight.saturating_sub(1);
        self.dirty_fetches.insert(endpoint);
        let Some(item) = self.items.get_mut(&fetch) else { return };
        let new = match id {
            Ok(new) => new,
            Err(error) => {
                // What will pass is no answer.
                use Verdict::{Refused, Retry, RetryThenStop};
                item.converted = !matches!(verdict::of_error(&error), Retry | RetryThenStop | Refused);
                return self.item_fetched(endpoint, fetch, Err(error));
            }
        };
        let (watch, old) = (item.watch, item.id.id.clone());
        let of = |held: &Held| match held {
            Held::Waits(event, f) if *f == fetch => event.parent_folder_id.clone(),
            _ => None,
        };
        let folder = self.watches.get(&watch).and_then(|w| w.hold.iter().find_map(of));
        // As if it had moved, but for its place: the host is told the id that is good, and sync does not tell it again.
        self.renamed(watch, &old, &new, folder.as_deref());
        if let Some(item) = self.items.get_mut(&fetch) {
            (item.id, item.moved) = (Id { id: new.clone(), change_key: None }, false);
        }
        let held = self.watches.get_mut(&watch).into_iter().flat_map(|w| &mut w.hold);
        for event in held.filter_map(Held::event).filter(|e| e.item_id.as_ref() == Some(&old)) {
            (event.item_id, event.change_key) = (Some(new.clone()), None);
        }
        self.endpoint(endpoint).fetches.later.insert((now, fetch));
    }
}
