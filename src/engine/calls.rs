//! Calls: what is asked of a server, in which version, and where its answer goes.

use super::acks::Ticket;
use super::fetch::FetchId;
use super::legacy_ids::Asked;
use super::watch::Step;
use super::{Answer, CallId, Command, Engine, Now, Route, verdict};
use crate::Error;
use crate::proto::{Request, RequestVersion};

/// A call under way.
#[derive(Debug)]
pub(super) struct Call {
    pub watch: u64,
    pub endpoint: u32,
    pub version: RequestVersion,
    pub sent: Now,
    pub job: Job,
    pub route: Option<Route>,
}

/// What a call is for.
#[derive(Clone, Debug)]
pub(super) enum Job {
    Step(Step),
    /// Of these items, all of one watch.
    Fetch(Vec<FetchId>),
    /// A page of this folder.
    Sync(String),
    /// Which folders there are.
    Hierarchy,
    /// The stamps of these folders.
    Survey(Vec<String>),
    /// Of this subscription.
    Unsubscribe(String),
    /// What is done with an item after its acknowledgement.
    Act(Ticket),
    /// An item's id.
    Convert(Asked),
}

impl Engine {
    /// In which version to ask an endpoint something that the engine has not commanded.
    pub fn version(&mut self, endpoint: u32) -> RequestVersion {
        self.endpoint(endpoint).version
    }

    /// The version to ask in once more, after such a question was refused: `None` unless the server may be older.
    pub fn version_refused(
        &mut self,
        endpoint: u32,
        spoken: RequestVersion,
        error: &Error,
    ) -> Option<RequestVersion> {
        let lower = verdict::of_error(error) == verdict::Verdict::LowerVersion;
        (lower && self.lower_version(endpoint, spoken)).then(|| self.version(endpoint))
    }

    /// Such a question was answered.
    pub fn version_worked(&mut self, endpoint: u32, version: RequestVersion) {
        let e = self.endpoint(endpoint);
        e.version_works |= e.version == version;
    }

    pub(super) fn called(&mut self, call: CallId, result: Result<Answer, Error>) {
        let Some(made) = self.calls.remove(&call) else { return };
        let watch = made.watch;
        if let Some(of) = self.calls_of.get_mut(&watch) {
            *of -= 1;
        }
        let (now, closing) = (self.now.mono, self.closing);
        match &result {
            Ok(_) => {
                let e = self.endpoint(made.endpoint);
                e.version_works = true;
                e.gate.worked(now);
                if e.gates.get_mut(&watch).is_some_and(|gate| gate.worked(now)) {
                    e.gates.remove(&watch);
                }
            }
            Err(error) => self.shut_gate(watch, made.endpoint, error),
        }
        // Whatever asked: nothing more will be answered before somebody has signed in.
        if let Err(error) = &result
            && error.is_sign_in_needed()
            && !closing
            && !matches!(made.job, Job::Unsubscribe(_))
            && self.watches.contains_key(&watch)
        {
            self.stop(watch, error, verdict::Verdict::Stop);
        }
        if matches!(made.job, Job::Step(Step::Poll)) {
            self.poll_came_back(made.endpoint);
        }
        match made.job.clone() {
            Job::Unsubscribe(subscription) => {
                let done = !result.is_err_and(|error| verdict::nothing_done(&error));
                self.endpoint(made.endpoint).owners.unsubscribed(subscription, now, done);
            }
            Job::Fetch(_) | Job::Convert(Asked::Fetch(_)) if closing => {}
            Job::Sync(_) | Job::Hierarchy | Job::Survey(_) if closing => {}
            Job::Sync(folder) => {
                let page = result.and_then(|answer| match answer {
                    Answer::Synced { page, date } => Ok((page, date)),
                    _ => Err(no_answer()),
                });
                self.synced(call, &made, &folder, page);
            }
            Job::Hierarchy => {
                let page = result.and_then(|answer| match answer {
                    Answer::Hierarchy { page, date } => Ok((page, date)),
                    _ => Err(no_answer()),
                });
                self.hierarchy_came(call, &made, page);
            }
            Job::Survey(folders) => {
                let stamps = result.and_then(|answer| match answer {
                    Answer::Stamps { stamps, date } if stamps.len() == folders.len() => Ok((stamps, date)),
                    _ => Err(no_answer()),
                });
                self.surveyed(call, &made, folders, stamps);
            }
            Job::Fetch(fetches) => self.fetched(made.endpoint, fetches, result),
            Job::Act(ticket) => self.acted(&made, ticket, result),
            Job::Convert(asked) => self.converted(&made, asked, result),
            Job::Step(step) => self.stepped(call, made, step, result),
        }
        if self.calls_of.get(&watch) == Some(&0) {
            self.calls_of.remove(&watch);
            self.forget(watch);
        }
    }

    /// Commands a call for a watch.
    pub(super) fn call(&mut self, watch: u64, job: Job, request: Request) -> CallId {
        let endpoint = self.watches.get(&watch).map_or(0, |w| w.spec.endpoint);
        self.call_at(watch, endpoint, job, request, None)
    }

    pub(super) fn call_at(
        &mut self,
        watch: u64,
        endpoint: u32,
        job: Job,
        request: Request,
        route: Option<Route>,
    ) -> CallId {
        let (call, version) = self.note_call(watch, endpoint, job, route.clone());
        self.out.push_back(Command::Call { call, watch, version, request, route });
        call
    }

    /// Commands that a watch's server be found.
    pub(super) fn locate(&mut self, watch: u64) -> CallId {
        let Some(w) = self.watches.get(&watch) else { return 0 };
        let (endpoint, fresh) = (w.spec.endpoint, w.located);
        let (call, _) = self.note_call(watch, endpoint, Job::Step(Step::Locate), None);
        self.out.push_back(Command::Locate { call, watch, fresh });
        call
    }

    pub(super) fn note_call(
        &mut self,
        watch: u64,
        endpoint: u32,
        job: Job,
        route: Option<Route>,
    ) -> (CallId, RequestVersion) {
        self.next_call += 1;
        let (call, sent) = (self.next_call, self.now);
        let version = self.endpoint(endpoint).version;
        self.calls.insert(call, Call { watch, endpoint, version, sent, job, route });
        *self.calls_of.entry(watch).or_default() += 1;
        self.counters.calls += 1;
        (call, version)
    }

    /// Whether to repeat a request in the version that the endpoint speaks now: none has worked so far.
    pub(super) fn lower_version(&mut self, endpoint: u32, spoken: RequestVersion) -> bool {
        let e = self.endpoint(endpoint);
        if e.version < spoken {
            return true;
        }
        let Some(lower) = spoken.older() else { return false };
        if e.version_works {
            return false;
        }
        e.version = lower;
        true
    }
}

pub(super) fn no_answer() -> Error {
    Error::new(crate::ErrorKind::Internal, "the answer is not of the request's kind")
}
