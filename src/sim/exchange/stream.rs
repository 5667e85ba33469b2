//! A hanging GetStreamingEvents: what it says, when, and how it ends.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar};
use std::time::Instant;

use super::super::Style;
use super::Next;
use super::back_ends;
use super::ids::Guid;
use super::world::World;
use super::write::{self, Refusal};

/// A hanging request that was accepted.
#[derive(Debug)]
pub struct Stream {
    style: Style,
    connection: u64,
    ids: Vec<String>,
    bad: Vec<String>,
    /// What is wrong with the bad ids.
    refusal: Refusal,
    ends: Instant,
    said: Instant,
    written: u64,
    pending: VecDeque<Next>,
    over: bool,
    /// Wakes the thread that waits for something to say.
    pub(super) bell: Arc<Condvar>,
}

/// What the world knows of an open stream.
#[derive(Debug)]
pub(super) struct Open {
    /// Who is charged for it.
    pub(super) charged: String,
    /// Something happened to one of its subscriptions since it last had nothing to say. With hundreds of streams of hundreds of
    /// subscriptions, none can look at all of them whenever anything happens anywhere.
    news: bool,
    bell: Arc<Condvar>,
}

impl Open {
    pub(super) fn ring(&mut self) {
        self.news = true;
        self.bell.notify_all();
    }
}

impl Stream {
    /// Opens a stream over subscriptions that are there; `bad` are the ids that are not.
    pub(super) fn open(
        world: &mut World,
        user: &str,
        ids: Vec<String>,
        bad: Vec<String>,
        refusal: Refusal,
        ends: Instant,
    ) -> Stream {
        world.connections += 1;
        let connection = world.connections;
        let bell = Arc::new(Condvar::new());
        let stream = Open { charged: user.to_owned(), news: true, bell: bell.clone() };
        world.streams.insert(connection, stream);
        // With a bad id among them, Exchange tells nothing of the good ones, so it does not take them over either.
        if bad.is_empty() || world.style == Style::Gromox {
            for id in &ids {
                // Who has it so far hears of that.
                world.ring_for(id);
                if let Some(subscription) = world.subscriptions.get_mut(id) {
                    subscription.stream = Some(connection);
                }
                world.keep_alive(id);
            }
        }
        let (style, said) = (world.style, world.now());
        let pending = VecDeque::new();
        Stream { style, connection, ids, bad, refusal, ends, said, written: 0, pending, over: false, bell }
    }

    /// The number of this connection, as the ledger has it. The first is 1.
    pub fn connection(&self) -> u64 {
        self.connection
    }

    /// When there is something to say even if nothing happens.
    pub(super) fn due(&self, world: &World) -> Instant {
        self.said.checked_add(world.settings.heartbeat).map_or(self.ends, |beat| beat.min(self.ends))
    }

    /// What there is to say now.
    pub(super) fn poll(&mut self, world: &mut World) -> Option<Next> {
        if self.pending.is_empty() && self.has_news(world) {
            match self.style {
                _ if self.over => self.pending.push_back(Next::Last(Vec::new())),
                Style::Exchange => self.poll_exchange(world),
                Style::Gromox => self.poll_gromox(world),
            }
        }
        let next = self.pending.pop_front();
        match (&next, world.streams.get_mut(&self.connection)) {
            (Some(_), _) => self.said = world.now(),
            (None, Some(open)) => open.news = false,
            (None, None) => {}
        }
        next
    }

    /// Whether there may be something to say. A stream that the world does not know any more is over, and says so.
    fn has_news(&self, world: &World) -> bool {
        world.streams.get(&self.connection).is_none_or(|open| open.news) || world.now() >= self.due(world)
    }

    /// Lets go of the subscriptions: they queue again.
    pub(super) fn release(&self, world: &mut World) {
        world.streams.remove(&self.connection);
        for id in &self.ids {
            let ours = world.subscriptions.get_mut(id).filter(|s| s.stream == Some(self.connection));
            if let Some(subscription) = ours {
                subscription.stream = None;
                world.keep_alive(id);
            }
        }
    }

    fn poll_exchange(&mut self, world: &mut World) {
        if self.written == 0 && !self.bad.is_empty() {
            let refusal = self.refusal.clone();
            let bad = std::mem::take(&mut self.bad);
            return self.end(world, &error(&refusal, &bad, Some("Closed")));
        }
        if self.written == 0 {
            return self.say(&status("OK"));
        }
        let missed: Vec<String> = self.having(world, |s| std::mem::take(&mut s.missed));
        if !missed.is_empty() {
            let text = "Some events were not delivered because the queue of notifications was full.";
            return self.say(&error(&Refusal::new("ErrorMissedNotificationEvents", text), &missed, None));
        }
        let notifications: String = self.take(world).iter().map(|n| n.write(self.style, false)).collect();
        if !notifications.is_empty() {
            return self.say(&message(None, &format!("<m:Notifications>{notifications}</m:Notifications>")));
        }
        let connection = self.connection;
        let taken: Vec<String> = self.having(world, |s| s.stream.is_some_and(|other| other != connection));
        if !taken.is_empty() {
            let text = "Another connection was opened for the subscription, so this one is closed.";
            let refusal = Refusal::new("ErrorNewEventStreamConnectionOpened", text);
            return self.end(world, &error(&refusal, &taken, Some("Closed")));
        }
        let dead: Vec<String> =
            self.ids.iter().filter(|id| !world.subscriptions.contains_key(*id)).cloned().collect();
        if !dead.is_empty() {
            self.ids.retain(|id| !dead.contains(id));
            let given_back = dead.iter().filter(|id| world.unsubscribed.remove(*id)).count() == dead.len();
            let moved = dead.iter().any(|id| world.moved.contains(id));
            let refusal = match given_back {
                false if moved => back_ends::has_moved(),
                true => Refusal::new("ErrorSubscriptionUnsubscribed", "The subscription was unsubscribed."),
                false => not_found(),
            };
            return match self.ids.is_empty() {
                true => self.end(world, &error(&refusal, &dead, Some("Closed"))),
                false => self.say(&error(&refusal, &dead, None)),
            };
        }
        let now = world.now();
        if now >= self.ends {
            self.end(world, &status("Closed"));
        } else if now >= self.due(world) {
            self.say(&status("OK"));
        }
    }

    /// As the transcripts have it: the bad ids in every message, live events within errors, two envelopes at the end.
    fn poll_gromox(&mut self, world: &mut World) {
        if self.written == 0 {
            let status = if self.bad.is_empty() { "OK" } else { "Closed" };
            return self.say(&self.gromox("", status));
        }
        let connection = self.connection;
        let dead: Vec<String> = self
            .ids
            .iter()
            .filter(|id| world.subscriptions.get(*id).is_none_or(|s| s.stream != Some(connection)))
            .cloned()
            .collect();
        if !dead.is_empty() {
            self.ids.retain(|id| !dead.contains(id));
            self.bad.extend(dead.into_iter().filter(|id| !world.unsubscribed.remove(id)));
            if self.ids.is_empty() {
                return self.end_gromox(world);
            }
        }
        let taken = self.take(world);
        let now = world.now();
        if taken.is_empty() && now < self.due(world) {
            return;
        }
        let closing = taken.is_empty() && (now >= self.ends || self.ids.is_empty());
        let silent = self.ids.iter().filter(|id| taken.iter().all(|t| t.id != **id));
        let mut written: Vec<(usize, String)> = silent
            .map(|id| (id, "<t:StatusEvent/>".to_owned(), false))
            .chain(taken.iter().map(|t| (&t.id, t.events(self.style, false), t.more)))
            .map(|(id, events, more)| {
                let place = self.ids.iter().position(|i| i == id).unwrap_or_default();
                let head =
                    format!("<t:SubscriptionId>{id}</t:SubscriptionId><t:MoreEvents>{more}</t:MoreEvents>");
                (place, format!("<m:Notification>{head}{events}</m:Notification>"))
            })
            .collect();
        written.sort_by_key(|(place, _)| *place);
        let notifications: String = written.into_iter().map(|(_, text)| text).collect();
        self.say(&self.gromox(&notifications, if closing { "Closed" } else { "OK" }));
        if closing {
            self.end_gromox(world);
        }
    }

    fn gromox(&self, notifications: &str, status: &str) -> String {
        let list = |name: &str, inner: String| match inner.as_str() {
            "" => format!("<m:{name}/>"),
            inner => format!("<m:{name}>{inner}</m:{name}>"),
        };
        let bad = self
            .bad
            .iter()
            .map(|id| format!("<SubscriptionId>{}</SubscriptionId>", write::escape(id)))
            .collect();
        let content = format!(
            "{}{}<m:ConnectionStatus>{status}</m:ConnectionStatus>",
            list("Notifications", notifications.to_owned()),
            list("ErrorSubscriptionIds", bad)
        );
        message((!self.bad.is_empty()).then_some(&self.refusal), &content)
    }

    fn end_gromox(&mut self, world: &mut World) {
        let content =
            "<m:Notifications/><m:ErrorSubscriptionIds/><m:ConnectionStatus>Closed</m:ConnectionStatus>";
        self.end(world, &message(None, content));
    }

    fn say(&mut self, message: &str) {
        let envelope = write::stream_envelope(self.style, self.written == 0, message);
        self.written += 1;
        self.pending.push_back(Next::Envelope(envelope));
    }

    fn end(&mut self, world: &mut World, message: &str) {
        let envelope = write::stream_envelope(self.style, self.written == 0, message);
        self.pending.push_back(Next::Last(envelope));
        self.over = true;
        self.release(world);
    }

    /// The ids whose subscription is so.
    fn having(
        &self,
        world: &mut World,
        mut is: impl FnMut(&mut super::subscription::Subscription) -> bool,
    ) -> Vec<String> {
        let ids = self.ids.iter();
        ids.filter(|id| world.subscriptions.get_mut(*id).is_some_and(&mut is)).cloned().collect()
    }

    /// Takes a batch of events for each subscription that this connection still has.
    fn take(&self, world: &mut World) -> Vec<Batch> {
        let mut batches = Vec::new();
        for id in &self.ids {
            let ours = world.subscriptions.get(id).filter(|s| s.stream == Some(self.connection));
            let Some(mailbox) = ours.filter(|s| !s.queue.is_empty()).map(|s| s.mailbox.clone()) else {
                continue;
            };
            let guid = world.mailboxes.get(&mailbox).map(|m| m.guid).unwrap_or_default();
            let notes = world.take(id, self.connection);
            let more = world.subscriptions.get(id).is_some_and(|s| !s.queue.is_empty());
            batches.push(Batch { id: id.clone(), guid, notes, more });
        }
        batches
    }
}

/// What is wrong with an id that is nobody's.
pub(super) fn not_found() -> Refusal {
    Refusal::new("ErrorSubscriptionNotFound", "The specified subscription was not found.")
}

struct Batch {
    id: String,
    guid: Guid,
    notes: Vec<super::note::Note>,
    more: bool,
}

impl Batch {
    fn events(&self, style: Style, marks: bool) -> String {
        write::events(style, self.guid, &self.notes, marks, " ")
    }

    fn write(&self, style: Style, marks: bool) -> String {
        format!(
            "<m:Notification><t:SubscriptionId>{}</t:SubscriptionId>{}</m:Notification>",
            self.id,
            self.events(style, marks)
        )
    }
}

fn message(refusal: Option<&Refusal>, content: &str) -> String {
    write::named_message("GetStreamingEventsResponseMessage", refusal, content)
}

fn status(status: &str) -> String {
    message(None, &format!("<m:ConnectionStatus>{status}</m:ConnectionStatus>"))
}

fn error(refusal: &Refusal, ids: &[String], status: Option<&str>) -> String {
    let ids: String =
        ids.iter().map(|id| format!("<m:SubscriptionId>{}</m:SubscriptionId>", write::escape(id))).collect();
    let status = status.map(|s| format!("<m:ConnectionStatus>{s}</m:ConnectionStatus>")).unwrap_or_default();
    message(Some(refusal), &format!("<m:ErrorSubscriptionIds>{ids}</m:ErrorSubscriptionIds>{status}"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::Exchange;
    use super::super::note::Watched;
    use super::super::subscription::Mode;
    use super::*;
    use crate::event::EventKind;

    /// Ten thousand mailboxes on fifty streams could not be simulated, if each delivery made all streams look at all of their
    /// subscriptions.
    #[test]
    fn a_delivery_concerns_only_the_stream_that_reads_the_mailbox() {
        let exchange = Exchange::new(Style::Exchange);
        let mut streams: Vec<Stream> = ["ada@example.test", "bob@example.test"]
            .iter()
            .map(|address| {
                exchange.add_mailbox(address);
                let world = &mut exchange.lock();
                let (kinds, mode) = (vec![EventKind::NewMail], Mode::Streaming);
                let id = world.subscribe(address, address, Watched::All, kinds, mode).unwrap();
                let ends = world.now() + Duration::from_secs(1800);
                Stream::open(world, address, vec![id], Vec::new(), not_found(), ends)
            })
            .collect();
        let mut news = || -> Vec<bool> {
            let world = &mut exchange.lock();
            let had = streams.iter().map(|stream| stream.has_news(world)).collect();
            streams.iter_mut().for_each(|stream| while stream.poll(world).is_some() {});
            had
        };
        assert_eq!(news(), [true, true], "both have to say that they are open");
        assert_eq!(news(), [false, false]);
        exchange.deliver("bob@example.test", b"Subject: x\r\n\r\ny\r\n").unwrap();
        assert_eq!(news(), [false, true]);
        assert_eq!(news(), [false, false]);
    }
}
