//! Calls and streams, as far as they get.

use super::forms::Form;
use super::*;

impl World {
    /// Whether a request is refused before the server acts on it.
    fn refused(&mut self) -> Option<Error> {
        let mono = self.mono;
        if let Some(error) = self.account.as_mut().and_then(|account| account.token(mono)) {
            self.hit("no token");
            return Some(error);
        }
        if self.mono < self.refusing_until {
            self.hit("refused connection");
            return Some(error(ErrorKind::Connect));
        }
        if self.mono < self.busy_until {
            self.hit("busy");
            let asked = self.rng.bool().then(|| Duration::from_secs(self.rng.u64(1..20)));
            return Some(match self.rng.bool() {
                true => coded("ErrorServerBusy").with_retry_after(asked),
                false => http(503).with_retry_after(asked),
            });
        }
        None
    }

    pub(super) fn serve(&mut self, watch: u64, request: Request) -> Result<Answer, Error> {
        let asked = self.xml.then(|| request.clone());
        let result = self.answer(watch, request);
        match asked {
            Some(request) => soap::answered(self.form(), &mut self.rng, &request, result),
            None => result,
        }
    }

    fn form(&self) -> Form {
        if self.server.gromox { Form::Gromox } else { Form::Exchange }
    }

    fn answer(&mut self, watch: u64, request: Request) -> Result<Answer, Error> {
        if let Some(error) = self.refused() {
            return Err(error);
        }
        let mailbox = watch as usize - 1;
        let date = Some(WALL + Duration::from_secs(START + self.mono.as_secs()));
        let result = match request {
            Request::GetFolder { folders } => Ok(Answer::Folders(
                folders
                    .into_iter()
                    .map(|f| match f {
                        FolderRef::Id(id) => Ok(id),
                        other => panic!("{other:?}"),
                    })
                    .collect(),
            )),
            Request::SubscribeStreaming { events, .. } => Ok(self.server.subscribe(mailbox, events, false)),
            Request::SubscribePull { events, .. } => Ok(self.server.subscribe(mailbox, events, true)),
            Request::SubscribePush { events, .. } => {
                let (id, answer) = self.server.subscribe_push(mailbox, events);
                self.push_soon(&id);
                Ok(answer)
            }
            Request::GetEvents { subscription_id, watermark } => {
                self.server.events(&subscription_id, watermark)
            }
            Request::Unsubscribe { subscription_id } => {
                self.server.subs.remove(&subscription_id);
                Ok(Answer::Unsubscribed)
            }
            Request::GetItem { items, .. } => {
                Ok(Answer::Items(items.into_iter().map(|id| Ok(Item { id, ..Item::default() })).collect()))
            }
            Request::SyncFolderItems { folder: FolderRef::Id(folder), sync_state, .. } => {
                self.sync(mailbox, &folder, sync_state.as_deref(), date)
            }
            other => panic!("{other:?}"),
        };
        if self.unanswered > 0 && self.mono < self.faults_until {
            self.unanswered -= 1;
            self.hit_of("call without an answer", mailbox);
            return Err(error(ErrorKind::Io));
        }
        result
    }

    fn sync(
        &mut self,
        mailbox: usize,
        folder: &str,
        state: Option<&str>,
        date: Option<SystemTime>,
    ) -> Result<Answer, Error> {
        if self.denying.take_if(|m| *m == mailbox).is_some() {
            self.hit_of("sync denied", mailbox);
            self.denied.insert(mailbox);
            return Err(coded("ErrorAccessDenied"));
        }
        let page = match self.server.sync(folder, state, server::PAGE) {
            Some(page) => page,
            None => {
                // To begin anew without a word is found out by the newest items that sync has told, where one is left.
                let watch = &self.engine.watches.get(&(mailbox as u64 + 1));
                let known = watch.and_then(|w| w.folders_known.get(folder));
                let items = self.server.folders.get(folder);
                let found = known.is_some_and(|f| {
                    items
                        .is_some_and(|i| i.keys().any(|id| f.is_newest(super::super::folder::Digest::of(id))))
                });
                if !found || self.rng.bool() {
                    self.hit_of("invalid state", mailbox);
                    return Err(coded("ErrorInvalidSyncStateData"));
                }
                self.hit_of("silent reset", mailbox);
                // With the pages of a true server: more than the ids that are kept.
                self.server.sync(folder, None, 512).expect("from the beginning")
            }
        };
        if !page.includes_last {
            self.hit_of("several pages", mailbox);
        }
        if page.changes.iter().any(|c| matches!(c, SyncChange::ReadFlagChange { .. })) {
            self.hit_of("read flag told by sync", mailbox);
        }
        Ok(Answer::Synced { page, date })
    }

    pub(super) fn attach(&mut self, conn: u64, ids: Vec<String>) {
        if conn >> LIFE != self.life || !self.up || self.sockets.contains_key(&conn) {
            return;
        }
        if let Some(error) = self.refused() {
            return self.later(0.1, Act::Over(conn, Err(error)));
        }
        let lost = self.unanswered > 0 && self.mono < self.faults_until;
        let socket = Socket { arrives: !lost, believed: true, spoil: false, pipe: Box::default() };
        self.sockets.insert(conn, socket);
        let before: Vec<(u64, String)> =
            ids.iter().filter_map(|id| Some((self.server.subs.get(id)?.conn?, id.clone()))).collect();
        let first = self.server.attach(conn, &ids);
        for (old, id) in before.into_iter().filter(|(old, _)| *old != conn) {
            self.write(old, bad_ids("ErrorNewEventStreamConnectionOpened", &[&id]));
        }
        if lost {
            self.unanswered -= 1;
            self.hit_on("stream request without an answer", conn);
            self.later(5.0, Act::Notice(conn));
            return self.later(5.0, Act::Over(conn, Err(error(ErrorKind::Io))));
        }
        self.feed(Input::Opened(conn & u64::from(u32::MAX)));
        match first {
            Err(bad) => {
                self.hit_ids("a bad id at the opening", &bad);
                let bad: Vec<&str> = bad.iter().map(String::as_str).collect();
                self.write(conn, bad_ids("ErrorInvalidSubscription", &bad));
            }
            Ok(responses) => responses.into_iter().for_each(|r| self.write(conn, r)),
        }
        self.at(self.mono + Duration::from_secs(30), Act::Heartbeat(conn));
        let life = if self.mono < self.mail_until { self.rng.u64(40..200) } else { 1800 };
        self.at(self.mono + Duration::from_secs(life), Act::Close(conn));
    }

    /// Writes on a socket, dead or alive.
    pub(super) fn write(&mut self, conn: u64, response: Response<Streamed>) {
        let Some(socket) = self.sockets.get_mut(&conn) else { return };
        let events = !response.body.notifications.is_empty();
        if !socket.arrives || conn >> LIFE != self.life || !self.up {
            if events {
                self.hit_on("written to a dead socket", conn);
            }
            return;
        }
        let conn_id = conn & u64::from(u32::MAX);
        let spoil = events && std::mem::take(&mut socket.spoil);
        let read = match self.xml {
            true => {
                let mut pipe = std::mem::take(&mut socket.pipe);
                let read = soap::sent(&mut pipe, self.form(), &mut self.rng, &response, spoil);
                if let Some(socket) = self.sockets.get_mut(&conn) {
                    socket.pipe = pipe;
                }
                assert_eq!(read.len(), 1, "an envelope, or what is wrong with it: {read:?}");
                assert!(spoil != read[0].is_ok(), "{read:?}");
                read
            }
            false if spoil => vec![Err(error(ErrorKind::Protocol))],
            false => vec![Ok(vec![response.clone()])],
        };
        if spoil {
            self.hit_on("bad envelope", conn);
        }
        let owner = |id: &String| {
            let mut of = self.engine.watches.iter();
            of.find(|(_, w)| w.subscription.as_ref().is_some_and(|s| s.id == *id))
                .map(|(w, _)| *w as usize - 1)
        };
        let strange = |id: &String| {
            let of = self.server.subs.get(id).map(|s| s.mailbox);
            owner(id).is_some_and(|o| of.is_some_and(|m| m != o))
        };
        let strange: Vec<usize> = response
            .body
            .notifications
            .iter()
            .filter(|n| strange(&n.subscription_id))
            .filter_map(|n| owner(&n.subscription_id))
            .collect();
        if !spoil {
            strange.into_iter().for_each(|mailbox| self.hit_of("somebody else's event", mailbox));
        }
        for read in read {
            self.feed(match read {
                Ok(responses) => Input::Message { conn: conn_id, responses },
                Err(error) => Input::BadEnvelope { conn: conn_id, error },
            });
        }
    }

    /// A socket dies: each side notices in its own time, or the server has ended it itself.
    pub(super) fn cut(&mut self, conn: u64, we: f64, server: f64, result: Result<(), Error>) {
        let Some(socket) = self.sockets.get_mut(&conn).filter(|s| s.arrives) else { return };
        socket.arrives = false;
        if server == 0.0 {
            socket.believed = false;
            self.server.detach(conn);
        } else {
            self.later(server, Act::Notice(conn));
        }
        self.later(we, Act::Over(conn, result));
    }
}
