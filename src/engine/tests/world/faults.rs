//! What goes wrong in the world.

use super::*;

impl World {
    /// Something, at random.
    pub(super) fn fault(&mut self) {
        let streams = self.live_streams();
        let stream = (!streams.is_empty()).then(|| streams[self.rng.usize(..streams.len())]);
        let subs: Vec<String> = self.server.ours();
        let sub = (!subs.is_empty()).then(|| subs[self.rng.usize(..subs.len())].clone());
        match (self.rng.u8(..16), stream, sub) {
            (0 | 1, Some(conn), _) => {
                self.hit("cut");
                self.cut(conn, 20.0, 15.0, Err(error(ErrorKind::Io)));
            }
            (2, Some(conn), _) => {
                self.hit("end without Closed");
                self.cut(conn, 0.1, 0.0, Ok(()));
            }
            (3, Some(conn), _) => {
                self.hit("Closed early");
                self.act(Act::Close(conn));
            }
            (4, Some(conn), _) => {
                if let Some(s) = self.server.streams.get_mut(&conn) {
                    s.spoil = true;
                }
            }
            (5, Some(conn), _) => {
                self.hit("busy on the stream");
                let mut busy = bad_ids("ErrorServerBusy", &[]);
                busy.back_off = Some(Duration::from_secs(3));
                self.write(conn, busy, &[]);
            }
            (6 | 7, _, Some(id)) => {
                self.hit("lost subscription");
                self.lose(&id, "ErrorSubscriptionNotFound");
            }
            (8, _, Some(id)) => {
                self.hit("taken over");
                self.lose(&id, "ErrorNewEventStreamConnectionOpened");
            }
            (9, _, Some(id)) => {
                self.hit("missed by the server");
                if let Some((conn, response)) = self.server.overflow(&id) {
                    self.write(conn, response, &[]);
                }
            }
            (10, ..) => {
                self.hit("restart");
                for conn in self.live_streams() {
                    self.cut(conn, 2.0, 0.0, Err(error(ErrorKind::Io)));
                }
                for item in self.server.restart() {
                    self.ledger.excuse(&item);
                }
                for _ in 0..self.rng.usize(0..4) {
                    self.server.strangers_subscription();
                }
            }
            (11, ..) => self.busy_until = self.mono + Duration::from_secs(self.rng.u64(1..40)),
            (12, ..) => self.refusing_until = self.mono + Duration::from_secs(self.rng.u64(1..90)),
            (13, ..) => {
                self.unanswered = self.rng.u32(1..4);
                self.refusals = self.rng.u32(0..2);
            }
            (14, ..) => match self.rng.bool() {
                true => {
                    self.hit("slow answers");
                    self.slow_until = self.mono + Duration::from_secs(30);
                }
                false => {
                    self.hit("host sleeps");
                    self.host_sleeps_until = self.mono + Duration::from_secs(60);
                }
            },
            (15, ..) => {
                self.hit("watch taken back and added");
                let watch = *self
                    .watches
                    .keys()
                    .nth(self.rng.usize(..self.watches.len()))
                    .expect("there are watches");
                let mailbox = self.watches[&watch];
                self.feed(Input::Remove(watch));
                self.host_takes(usize::MAX);
                self.watches.remove(&watch);
                self.watch(mailbox);
            }
            _ => {}
        }
    }

    fn lose(&mut self, id: &str, code: &str) {
        let conn = self.server.conn_of(id);
        for item in self.server.unsubscribe(id) {
            self.ledger.excuse(&item);
        }
        if let Some(conn) = conn {
            self.write(conn, bad_ids(code, &[id]), &[]);
        }
    }
}
