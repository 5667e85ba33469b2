//! The streams of the world: mail that is put on them, sockets that live and die, requests that reach the server.

use super::*;

impl World {
    /// A notification into whatever subscriptions its folder has.
    pub(super) fn put(&mut self, folder: &str, item: &str) {
        let ids = self.server.subscriptions_of(folder);
        // A subscription that the engine has given up, or does not know of, is none.
        let is_ours = |id: &String| {
            let owned = |w: &Watch| w.subscription.as_ref().is_some_and(|s| s.id == *id);
            self.answered.contains(id) || self.engine.watches.values().any(owned)
        };
        if !ids.iter().any(|id| self.server.is_known(id) && is_ours(id)) {
            self.ledger.excuse(item);
        }
        if self.trace {
            println!("{:9.3} + {item} into {ids:?}", self.mono.as_secs_f64());
        }
        for id in ids {
            match self.server.put(&id, folder, item, self.now().wall) {
                server::Put::Queued => {}
                server::Put::Overflow => {
                    self.hit("server queue overflow");
                    self.ledger.excuse(item);
                }
                server::Put::Write(conn, response) => self.write(conn, response, &[item]),
            }
        }
    }

    /// Writes on a stream's socket, dead or alive.
    pub(super) fn write(&mut self, conn: ConnId, response: Response<Streamed>, items: &[&str]) {
        let Some(stream) = self.server.streams.get_mut(&conn) else { return };
        if !stream.client_alive {
            if !items.is_empty() {
                self.hit("written to a dead socket");
            }
            items.iter().for_each(|item| self.ledger.excuse(item));
            return;
        }
        if stream.spoil && !items.is_empty() {
            stream.spoil = false;
            self.hit("bad envelope");
            items.iter().for_each(|item| self.ledger.excuse(item));
            return self.feed(Input::BadEnvelope { conn, error: error(ErrorKind::Protocol) });
        }
        let mut response = response;
        if stream.gromox_error && !items.is_empty() {
            response.class = ResponseClass::Error;
            response.code = ResponseCode("ErrorInvalidSubscription".into());
            response.body.error_subscription_ids = vec!["unknown".into()];
        }
        // What comes under an id that the engine takes for another watch's is a stranger's to it.
        for n in &response.body.notifications {
            let owner = self
                .engine
                .watches
                .iter()
                .find(|(_, w)| w.subscription.as_ref().is_some_and(|s| s.id == n.subscription_id));
            let mailbox = owner.and_then(|(w, _)| self.watches.get(w)).copied();
            for item in items {
                if mailbox.is_none_or(|m| !self.ledger.is_of(item, m)) {
                    self.ledger.excuse(item);
                }
            }
        }
        let foreign = response.body.notifications.iter().any(|n| {
            n.notices.iter().any(|n| n.parent_folder_id.as_ref().is_some_and(|p| p.id == "F-stranger"))
        });
        if foreign {
            self.hit("somebody else's event");
        }
        self.feed(Input::Message { conn, responses: vec![response] });
        // What the engine did not want any more is covered by a gap or by nothing.
        let connected = self.server.streams.get(&conn).is_some_and(|s| s.client_alive);
        for item in items {
            let is_on = |w: &u64| self.engine.watches.get(w).is_some_and(|w| w.connected.is_some());
            let wanted =
                self.watches.iter().any(|(w, mailbox)| self.ledger.is_of(item, *mailbox) && is_on(w));
            if !connected || !wanted {
                self.ledger.excuse(item);
            }
        }
    }

    /// A socket dies: each side notices in its own time, or the server has ended it itself.
    pub(super) fn cut(&mut self, conn: ConnId, we: f64, server: f64, result: Result<(), Error>) {
        let Some(stream) = self.server.streams.get_mut(&conn).filter(|s| s.client_alive) else { return };
        stream.client_alive = false;
        if server == 0.0 {
            self.server.detach(conn);
        } else {
            self.later(server, Act::Notice(conn));
        }
        self.later(we, Act::Over(conn, result));
    }

    pub(super) fn live_streams(&self) -> Vec<ConnId> {
        self.server
            .streams
            .iter()
            .filter(|(_, s)| s.client_alive && s.server_alive)
            .map(|(c, _)| *c)
            .collect()
    }

    pub(super) fn attach(&mut self, conn: ConnId, ids: Vec<String>) {
        if self.over.contains(&conn) || self.server.streams.contains_key(&conn) {
            // Aborted before it came about: its end is under way. The request may arrive all the same.
            if self.rng.bool() {
                self.attach_in_vain(conn, &ids);
                self.later(1.0, Act::Notice(conn));
            }
            return;
        }
        if let Some(error) = self.refused() {
            return self.later(0.1, Act::Over(conn, Err(error)));
        }
        if self.unanswered > 0 && self.mono < self.faults_until {
            self.unanswered -= 1;
            self.hit("stream request without an answer");
            self.attach_in_vain(conn, &ids);
            self.later(5.0, Act::Notice(conn));
            return self.later(5.0, Act::Over(conn, Err(error(ErrorKind::Io))));
        }
        let (first, queued) = self.attach_at_server(conn, &ids);
        self.feed(Input::Opened(conn));
        if first.body.error_subscription_ids.is_empty() {
            self.write(conn, first, &[]);
        } else {
            self.hit("a bad id at the opening");
            self.write(conn, first, &[]);
        }
        for (response, items) in queued {
            self.server.streams.entry(conn).or_default();
            let items: Vec<&str> = items.iter().map(String::as_str).collect();
            self.write(conn, response, &items);
        }
        self.at(self.mono + Duration::from_secs(30), Act::Heartbeat(conn));
        let life = self.rng.u64(40..200);
        self.at(self.mono + Duration::from_secs(life), Act::Close(conn));
    }

    /// A second stream for a subscription ends the first one's.
    fn attach_at_server(&mut self, conn: ConnId, ids: &[String]) -> server::Attached {
        let before: Vec<(ConnId, String)> =
            ids.iter().filter_map(|id| Some((self.server.conn_of(id)?, id.clone()))).collect();
        let attached = self.server.attach(conn, ids);
        for (old, id) in before.into_iter().filter(|(old, _)| *old != conn) {
            self.write(old, bad_ids("ErrorNewEventStreamConnectionOpened", &[&id]), &[]);
        }
        attached
    }

    /// The server writes what it has on a socket that is dead already.
    fn attach_in_vain(&mut self, conn: ConnId, ids: &[String]) {
        let (_, queued) = self.attach_at_server(conn, ids);
        queued.iter().flat_map(|(_, items)| items).for_each(|item| self.ledger.excuse(item));
        if let Some(s) = self.server.streams.get_mut(&conn) {
            s.client_alive = false;
        }
    }
}
