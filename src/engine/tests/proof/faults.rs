//! What goes wrong.

use super::*;

impl World {
    /// Something, at random.
    pub(super) fn fault(&mut self) {
        let sockets: Vec<u64> =
            self.sockets.iter().filter(|(_, s)| s.arrives && s.believed).map(|(c, _)| *c).collect();
        let socket = (!sockets.is_empty()).then(|| sockets[self.rng.usize(..sockets.len())]);
        let subs: Vec<String> =
            self.server.subs.iter().filter(|(_, s)| s.mailbox < 100).map(|(id, _)| id.clone()).collect();
        let sub = (!subs.is_empty()).then(|| subs[self.rng.usize(..subs.len())].clone());
        match (self.rng.u8(..30), socket, sub) {
            (0 | 1, Some(conn), _) => {
                self.hit_on("half-open link", conn);
                self.cut(conn, 20.0, 15.0, Err(error(ErrorKind::Io)));
            }
            (2, Some(conn), _) => {
                self.hit_on("cut", conn);
                self.cut(conn, 0.1, 0.0, Ok(()));
            }
            (3, Some(conn), _) => {
                self.hit_on("Closed early", conn);
                self.act(Act::Close(conn));
            }
            (4, Some(conn), _) => {
                if let Some(s) = self.sockets.get_mut(&conn) {
                    s.spoil = true;
                }
            }
            (5, _, Some(id)) => self.end_subscription("lost subscription", &id, "ErrorSubscriptionNotFound"),
            (8, _, Some(id)) => {
                self.end_subscription("taken over", &id, "ErrorNewEventStreamConnectionOpened");
            }
            (22, _, Some(id)) => self.end_subscription("expired", &id, "ErrorExpiredSubscription"),
            (6 | 7, _, Some(id)) => {
                let Some(mailbox) = self.server.subs.get(&id).map(|s| s.mailbox) else { return };
                self.hit_of("subscription silently dead", mailbox);
                // Not between the two notices of one delivery, which a server tells in one breath.
                self.tell(mailbox);
                if let Some(sub) = self.server.subs.get_mut(&id) {
                    sub.dead = true;
                }
            }
            (9, _, Some(id)) => {
                let gromox = self.server.gromox;
                let Some(sub) = self.server.subs.get_mut(&id) else { return };
                let mailbox = sub.mailbox;
                match sub.conn {
                    Some(conn) => self.write(conn, bad_ids("ErrorMissedNotificationEvents", &[&id])),
                    // Of a push nothing is missed: it is told from the mailbox's table.
                    None if sub.push.is_some() => return,
                    None => sub.missed = !sub.pull || gromox,
                }
                self.hit_of("missed by the server", mailbox);
            }
            (10, ..) => {
                self.hit("server restart");
                let conns: Vec<u64> = self.sockets.keys().copied().collect();
                for conn in conns {
                    self.cut(conn, 2.0, 0.0, Err(error(ErrorKind::Io)));
                }
                self.server.restart();
                for _ in 0..self.rng.usize(0..4) {
                    // Strangers are back before us.
                    self.server.subscribe(100, vec![NoticeKind::NewMail], false);
                }
                self.strangers_mail();
            }
            (11, ..) => self.busy_until = self.mono + Duration::from_secs(self.rng.u64(1..40)),
            (12, ..) => self.refusing_until = self.mono + Duration::from_secs(self.rng.u64(1..90)),
            (13 | 14, ..) => self.unanswered = self.rng.u32(1..4),
            (15, ..) => {
                self.hit("slow answers");
                self.slow_until = self.mono + Duration::from_secs(30);
            }
            (16, ..) => {
                self.hit("host sleeps");
                self.host_sleeps_until = self.mono + Duration::from_secs(60);
            }
            (17, ..) => self.full_until = self.mono + Duration::from_secs(self.rng.u64(1..60)),
            (18, ..) => self.server.lose_states(),
            (19, ..) if self.rng.u8(..4) == 0 => {
                self.denying = Some(self.rng.usize(..self.specs.len()));
            }
            (20 | 21, ..) => self.kill_in = Some(self.rng.u32(1..40)),
            (23, ..) => self.failing = true,
            (24, ..) => {
                let mailbox = self.rng.usize(..self.specs.len());
                let Some(notice) = self.last_told[mailbox].clone() else { return };
                self.hit_of("repeated", mailbox);
                self.untold[mailbox].push_back(notice);
                self.tell(mailbox);
            }
            (25, ..) => {
                let mailbox = self.rng.usize(..self.specs.len());
                self.hit_of("reordered", mailbox);
                self.reorder[mailbox] = true;
            }
            (26, ..) => self.push_fault = Some("push lost"),
            (27, ..) => self.push_fault = Some("push held"),
            (28, ..) => self.push_fault = Some("push unanswered"),
            (29, ..) => self.replay(),
            _ => self.strangers_mail(),
        }
    }

    /// A subscription is no more, and the server says so where it has the chance.
    fn end_subscription(&mut self, what: &'static str, id: &str, code: &str) {
        let Some(sub) = self.server.subs.remove(id) else { return };
        self.hit_of(what, sub.mailbox);
        // Or it falls silent.
        if sub.push.is_some() && self.rng.bool() {
            self.push_error(id, code);
        }
        if let Some(conn) = sub.conn {
            self.write(conn, bad_ids(code, &[id]));
        }
    }

    fn strangers_mail(&mut self) {
        let ids: Vec<String> =
            self.server.subs.iter().filter(|(_, s)| s.mailbox == 100).map(|(id, _)| id.clone()).collect();
        for id in ids {
            let notice = notice(NoticeKind::NewMail, "strange", "100/A");
            if let Some(conn) = self.server.put(&id, &notice) {
                self.hit("somebody else's event");
                self.write(conn, server::told(&id, vec![notice]));
            }
        }
    }
}
