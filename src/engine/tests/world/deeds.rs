//! The world as the engine's runtime: inputs go in, commands become something that is going to happen.

use super::*;

impl World {
    pub(super) fn feed(&mut self, input: Input) {
        let now = self.now();
        if self.trace && !matches!(input, Input::Tick) {
            println!("{:9.3} < {input:?}", self.mono.as_secs_f64());
        }
        self.engine.handle(now, input);
        while let Some(command) = self.engine.poll() {
            if self.trace {
                println!("{:9.3}   > {command:?}", self.mono.as_secs_f64());
            }
            assert!(!self.finished, "a command after Finished");
            match command {
                Command::Call { call, watch, request, .. } => {
                    if !matches!(
                        request,
                        Request::GetEvents { .. } | Request::GetItem { .. } | Request::Unsubscribe { .. }
                    ) {
                        self.asked();
                    }
                    let slow = if self.mono < self.slow_until { 15.0 } else { 0.05 };
                    self.later(slow, Act::Serve(call, watch, request));
                }
                Command::Open {
                    conn, request: Request::GetStreamingEvents { subscription_ids, .. }, ..
                } => {
                    self.asked();
                    assert!(!subscription_ids.is_empty(), "a stream for nobody");
                    self.later(0.05, Act::Attach(conn, subscription_ids));
                }
                Command::Open { request, .. } => panic!("{request:?}"),
                Command::Locate { .. } => panic!("its server is known"),
                Command::Abort(conn) => self.abort(conn),
                Command::Save { .. } => panic!("nothing is durable here"),
                Command::Forget(_) | Command::Unwanted(_) | Command::Wanted(_) => {}
                Command::Finished => self.finished = true,
            }
        }
        for (event, pushed) in std::mem::take(&mut self.engine.delivery.log) {
            self.ledger.overflow(&event);
            if pushed == Pushed::Dropped {
                self.hit("queue overflow");
                self.ledger.excuse(&event.item_id.unwrap_or_default());
            }
        }
        let at = self.engine.wake_at().map(|at| at.max(self.mono));
        if at != self.tick {
            self.tick = at;
            if let Some(at) = at {
                self.at(at, Act::Tick);
            }
        }
    }

    /// No loop without a pause: how often a server is bothered.
    fn asked(&mut self) {
        self.asked.push_back(self.mono);
        while self.asked.front().is_some_and(|at| *at + Duration::from_secs(10) < self.mono) {
            self.asked.pop_front();
        }
        let most = 20 + 20 * self.watches.len();
        assert!(self.asked.len() <= most, "{} requests in ten seconds", self.asked.len());
    }

    fn abort(&mut self, conn: ConnId) {
        match self.server.streams.get_mut(&conn) {
            Some(stream) => {
                stream.client_alive = false;
                self.later(1.0, Act::Notice(conn));
            }
            None => {
                self.server.streams.insert(conn, Stream { client_alive: false, ..Stream::default() });
            }
        }
        self.later(0.1, Act::Over(conn, Err(error(ErrorKind::Closed))));
    }
}
