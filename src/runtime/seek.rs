//! Watches whose server has to be found. Those that wait are asked for together, where the next question of each goes to the
//! same place. What is said of one mailbox is nothing to the others: after each question every search goes its own way.

use std::sync::Arc;
use std::time::Instant;

use super::core::Core;
use super::links::{Located, Watch};
use super::locate::{self, conclude, is_final, put};
use super::threads::guarded;
use super::workers::{Job, What, Workers};
use crate::auth::Auth;
use crate::autodiscover::{Ask, MAX_TOGETHER, Search, share};
use crate::engine::CallId;
use crate::net::{Asker, Cancel, Told};
use crate::options::WatchConfig;
use crate::{Error, ErrorKind, Result};

/// What is told of a bug.
const SEEKING: &str = "finding the server";

/// A search, and what it asks next.
pub(super) struct Begun {
    search: Search,
    ask: Ask,
}

/// A watch whose server is looked for.
struct Seek {
    call: CallId,
    watch: Arc<Watch>,
    begun: Box<Begun>,
}

/// A worker that finds servers. All that wait for its link sign in by the same name and in the same way.
pub(super) struct Seekers<'a> {
    pub workers: &'a Arc<Workers>,
    pub core: &'a Arc<Core>,
    pub link: u32,
    pub cancel: &'a Cancel,
}

impl Seekers<'_> {
    /// Finds a watch's server, and those of others that can be asked for on the way. Each is told once, here or by the worker that
    /// goes on with its search.
    pub fn seek(&self, call: CallId, fresh: bool, begun: Option<Box<Begun>>, watch: Arc<Watch>) {
        let (asker, auth) = match guarded(SEEKING, || self.core.links.who_asks(&watch.config)) {
            Ok(who) => who,
            Err(e) => return self.tell(call, &watch, Err(e)),
        };
        let mut seeks = Vec::from_iter(self.begin(call, fresh, begun, watch, (&asker, &*auth)));
        while !seeks.is_empty() {
            self.join(&mut seeks, (&asker, &*auth));
            let told = guarded(SEEKING, || match &seeks[..] {
                [one] => put(&one.begun.ask, &asker, &*auth, self.cancel),
                all => put(&Ask::together(all.iter().map(|s| &s.begun.ask))?, &asker, &*auth, self.cancel),
            });
            let heard = match told {
                Err(e) if is_final(&e) => Err(e),
                told => guarded(SEEKING, || Ok(hear(&mut seeks, told))),
            };
            let left: Vec<Seek> = match heard {
                Ok(true) => seeks.into_iter().filter_map(|seek| self.next(seek, &asker, &*auth)).collect(),
                Ok(false) => {
                    self.core.links.locations.takes_no_lists(&seeks[0].begun.ask.place, Instant::now());
                    seeks
                }
                Err(e) => return seeks.iter().for_each(|s| self.tell(s.call, &s.watch, Err(e.again()))),
            };
            seeks = self.part(left);
        }
    }

    /// Takes those along that wait and have the same question.
    fn join(&self, seeks: &mut Vec<Seek>, who: (&Asker, &dyn Auth)) {
        let (first, locations) = (&seeks[0], &self.core.links.locations);
        let (ask, config) = (&first.begun.ask, &first.watch.config);
        if !self.takes_lists(ask) || config.seeks_content() {
            return;
        }
        let known = locations.answers(config, &ask.place);
        let room = MAX_TOGETHER.saturating_sub(seeks.len());
        let jobs = self.workers.along(self.link, self.cancel, room, |job| match &job.what {
            // There is more to ask for it, which would hold up the others.
            What::Locate { .. } if job.watch.config.seeks_content() => false,
            What::Locate { begun: Some(begun), .. } => begun.ask.goes_with(ask),
            // It would begin there too. Where nobody has answered yet, a few go ahead.
            What::Locate { begun: None, .. } => known && are_alike(&job.watch.config, config),
            _ => false,
        });
        let begin = |Job { what, watch }| match what {
            What::Locate { call, fresh, begun } => self.begin(call, fresh, begun, watch, who),
            _ => None,
        };
        for seek in jobs.into_iter().filter_map(begin) {
            match seek.begun.ask.goes_with(&seeks[0].begun.ask) {
                true => seeks.push(seek),
                false => self.wait(seek),
            }
        }
    }

    /// The first of those that are not found yet and whoever goes with it; the others wait for their turn.
    fn part(&self, left: Vec<Seek>) -> Vec<Seek> {
        let mut left = left.into_iter();
        let mut with_first = Vec::from_iter(left.next());
        for seek in left {
            let first = &with_first[0].begun.ask;
            match self.takes_lists(first) && seek.begun.ask.goes_with(first) {
                true => with_first.push(seek),
                false => self.wait(seek),
            }
        }
        with_first
    }

    fn takes_lists(&self, ask: &Ask) -> bool {
        ask.goes_with(ask) && self.core.links.locations.takes_lists(&ask.place, Instant::now())
    }

    /// A search that has something to ask. What is known, or cannot be asked, is told.
    fn begin(
        &self,
        call: CallId,
        fresh: bool,
        begun: Option<Box<Begun>>,
        watch: Arc<Watch>,
        who: (&Asker, &dyn Auth),
    ) -> Option<Seek> {
        if let Some(begun) = begun {
            return Some(Seek { call, watch, begun });
        }
        let begin = || match self.core.links.locations.begin(&watch.config, fresh)? {
            locate::Begun::Found(found) => {
                Ok(Err(self.core.links.located(&watch.config, &found, who, fresh, self.cancel)))
            }
            locate::Begun::Search(mut search) => match search.next()? {
                Some(ask) => Ok(Ok(Begun { search: *search, ask })),
                None => Err(Error::new(ErrorKind::Internal, "there is nobody to ask for the server")),
            },
        };
        match guarded(SEEKING, begin) {
            Ok(Ok(begun)) => return Some(Seek { call, watch, begun: Box::new(begun) }),
            Ok(Err(located)) => self.tell(call, &watch, located),
            Err(e) => self.tell(call, &watch, Err(e)),
        }
        None
    }

    /// Goes on with a search that has heard an answer; its end is told.
    fn next(&self, seek: Seek, asker: &Asker, auth: &dyn Auth) -> Option<Seek> {
        let Seek { call, watch, mut begun } = seek;
        match guarded(SEEKING, || begun.search.next()) {
            Ok(Some(ask)) => {
                begun.ask = ask;
                return Some(Seek { call, watch, begun });
            }
            Ok(None) => {
                let end = || {
                    let steps = begun.search.steps().to_vec();
                    let found = conclude(begun.search, asker, auth)?;
                    let found = self.core.links.locations.keep(&watch.config, &steps, found)?;
                    self.core.links.located(&watch.config, &found, (asker, auth), true, self.cancel)
                };
                let located = guarded(SEEKING, end);
                self.tell(call, &watch, located);
            }
            Err(e) => self.tell(call, &watch, Err(e)),
        }
        None
    }

    fn tell(&self, call: CallId, watch: &Arc<Watch>, located: Result<Located>) {
        self.workers.over(call);
        self.core.located(call, watch, located);
    }

    fn wait(&self, Seek { call, watch, begun }: Seek) {
        self.workers.over(call);
        let what = What::Locate { call, fresh: false, begun: Some(begun) };
        if let Err(e) = self.workers.push(self.core, Job { what, watch: watch.clone() }) {
            self.core.located(call, &watch, Err(e));
        }
    }
}

/// Tells the searches what came of their question. `false`: nobody has heard anything, since the place does not answer for
/// several at once.
fn hear(seeks: &mut [Seek], told: Result<Told>) -> bool {
    match (seeks, told) {
        ([one], told) => one.begun.search.answered(told),
        (all, Ok(told)) => return share(all.iter_mut().map(|seek| &mut seek.begun.search), &told),
        // Nobody is there, or nobody for us, whoever is asked for.
        (all, Err(e)) if matches!(e.kind(), ErrorKind::Connect | ErrorKind::Tls) || e.was_not_sent() => {
            all.iter_mut().for_each(|seek| seek.begun.search.answered(Err(e.again())));
        }
        (_, Err(_)) => return false,
    }
    true
}

/// Whether the searches for two watches of one sign-in begin in the same way.
fn are_alike(a: &WatchConfig, b: &WatchConfig) -> bool {
    fn domain(address: &str) -> Option<&str> {
        address.rsplit_once('@').map(|(_, domain)| domain)
    }
    domain(&a.mailbox) == domain(&b.mailbox)
        && domain(a.searcher()) == domain(b.searcher())
        && a.trusted_domains == b.trusted_domains
}
