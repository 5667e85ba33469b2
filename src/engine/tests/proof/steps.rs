//! The steps: what happens next, what the engine hears of it, and what is done that it commands.

use super::*;

impl World {
    pub(super) fn act(&mut self, act: Act) {
        let life = self.life;
        match act {
            Act::Tick => {
                if self.tick.take_if(|at| *at <= self.mono).is_some() && self.up {
                    self.feed(Input::Tick);
                }
            }
            Act::Mailbox(mailbox) => self.something_happens(mailbox),
            Act::Tell(mailbox) => self.tell(mailbox),
            Act::Serve(of, call, watch, request) => {
                let result = Box::new(self.serve(watch, *request));
                if of == life {
                    let slow = if self.mono < self.slow_until { 15.0 } else { 0.05 };
                    self.later(slow, Act::Answer(of, call, result));
                }
            }
            Act::Answer(of, call, result) if of == life => self.feed(Input::Called { call, result: *result }),
            Act::Attach(conn, ids) => self.attach(conn, ids),
            Act::Heartbeat(conn) => {
                if self.sockets.get(&conn).is_some_and(|s| s.believed) {
                    self.write(conn, ok());
                    let pause = if self.mono < self.mail_until { 30 } else { 600 };
                    self.at(self.mono + Duration::from_secs(pause), Act::Heartbeat(conn));
                }
            }
            Act::Send(id) => self.send(&id),
            Act::Deliver(id, message) => self.deliver(&id, *message),
            Act::Replay(message) => drop(self.receive(*message)),
            Act::Close(conn) => {
                if self.sockets.get(&conn).is_some_and(|s| s.believed) {
                    self.write(conn, closed());
                    self.cut(conn, 0.01, 0.0, Ok(()));
                }
            }
            Act::Notice(conn) => {
                self.server.detach(conn);
                if let Some(socket) = self.sockets.get_mut(&conn) {
                    socket.believed = false;
                }
            }
            Act::Over(conn, result) => {
                self.server.detach(conn);
                self.sockets.remove(&conn);
                if conn >> LIFE == life && self.up {
                    self.feed(Input::Ended { conn: conn & u64::from(u32::MAX), result });
                }
            }
            Act::Saved(of, save) if of == life => self.saved(save),
            Act::Fault => {
                if self.mono < self.faults_until {
                    self.fault();
                    self.later(9.0, Act::Fault);
                }
            }
            Act::Kill => {
                if self.up {
                    self.kill();
                }
            }
            Act::Host => {
                let busy = self.account.is_none() && self.mono < self.mail_until + Duration::from_secs(100);
                let pause = if busy { 1.5 } else { 60.0 };
                self.later(pause, Act::Host);
                if self.up && self.mono >= self.host_sleeps_until {
                    self.host();
                }
            }
            Act::Deal(of, mailbox, event) if of == life => self.deal(mailbox, &event),
            Act::Start => self.start(),
            Act::Answer(..) | Act::Saved(..) | Act::Deal(..) => {}
        }
    }

    /// A step of the host; whether it was killed there.
    pub(super) fn step(&mut self, place: &'static str) -> bool {
        let Some(left) = &mut self.kill_in else { return false };
        *left = left.saturating_sub(1);
        if *left > 0 || !self.up {
            return false;
        }
        self.kill_in = None;
        self.hit(place);
        self.kill();
        true
    }

    pub(super) fn kill(&mut self) {
        let under_way = self.saving.take().map(|(_, changes)| changes);
        match self.kept.cut(&mut self.rng, under_way) {
            Some(true) => self.hit("kill: unanswered save kept"),
            Some(false) => self.hit("kill: unanswered save forgotten"),
            None => {}
        }
        (self.up, self.begun) = (false, false);
        self.life += 1;
        self.tick = None;
        self.given = None;
        self.unseen = None;
        self.denied.clear();
        self.ledger.killed();
        if let Some(account) = &mut self.account {
            account.killed(self.life);
        }
        let conns: Vec<u64> = self.sockets.keys().copied().collect();
        for conn in conns {
            if let Some(socket) = self.sockets.get_mut(&conn) {
                socket.arrives = false;
            }
            self.later(15.0, Act::Notice(conn));
        }
        let away = [1.0, 10.0, 60.0][self.rng.usize(..3)];
        self.later(away, Act::Start);
    }

    pub(super) fn start(&mut self) {
        if self.up {
            return;
        }
        if self.kept.open(self.mono < self.full_until).is_err() {
            self.hit("no state to begin with");
            return self.later(5.0, Act::Start);
        }
        self.up = true;
        self.saves = 0;
        self.engine = Engine::new(Settings { seed: self.rng.u64(..), ..self.settings.clone() });
        let first =
            self.kept.sure.get(NUMBERS).map_or(0, |n| String::from_utf8_lossy(n).parse().expect("a number"));
        assert!(self.engine.start_numbers(first).is_some(), "numbers are taken before anything is told");
        self.execute();
    }

    /// The numbers of the run's events are durable: now a client adds its watches.
    pub(super) fn begin(&mut self) {
        self.begun = true;
        for mailbox in 0..self.specs.len() {
            let mut spec = self.specs[mailbox].clone();
            spec.stored = self.kept.of(&spec.name);
            self.feed(Input::Add(Box::new(spec)));
        }
    }

    pub(super) fn saved(&mut self, save: SaveId) {
        let Some((_, changes)) = self.saving.take_if(|(s, _)| *s == save) else { return };
        let (full, failing) = (self.mono < self.full_until, std::mem::take(&mut self.failing));
        if let Err(error) = self.kept.commit(changes, full, failing) {
            self.hit(if full { "disk full" } else { "disk fails" });
            if !self.begun {
                // A client that cannot open ends.
                return self.kill();
            }
            self.feed(Input::Saved { save, result: Err(error) });
            return self.see(save);
        }
        self.ledger.saved(save);
        for mailbox in 0..self.specs.len() {
            // From the first record of each of its folders on.
            if self.kept.under(&format!("{}/f/", self.specs[mailbox].name)).count() == 2 {
                self.ledger.promise(mailbox, self.now().wall);
            }
        }
        self.feed(Input::Saved { save, result: Ok(()) });
        if self.up && !self.begun {
            self.begin();
        }
        self.see(save);
    }

    /// A batch is durable, or will not be: the host sees what has waited for that.
    pub(super) fn see(&mut self, save: SaveId) {
        if let Some((_, event)) = self.unseen.take_if(|(awaited, _)| *awaited <= save) {
            self.sees(event);
        }
    }

    pub(super) fn feed(&mut self, input: Input) {
        if !self.up || self.step("kill: before an input") {
            return;
        }
        match &input {
            Input::Tick => {}
            Input::Add(spec) if self.trace => println!(
                "{:9.3} < Add {} {:?} {:?} since_all {} {:?} {:?}, {} things stored",
                self.mono.as_secs_f64(),
                spec.watch,
                spec.events,
                spec.mode,
                spec.since_all,
                spec.ack,
                spec.coalesce,
                spec.stored.len()
            ),
            input if self.trace => println!("{:9.3} < {input:?}", self.mono.as_secs_f64()),
            _ => {}
        }
        self.engine.handle(self.now(), input);
        self.execute();
    }

    /// Executes what the engine commands.
    pub(super) fn execute(&mut self) {
        while let Some(command) = self.engine.poll() {
            if self.step("kill: before a command") {
                return;
            }
            match &command {
                Command::Save { save, changes } if self.trace => {
                    println!("{:9.3}   > Save {save}, {} changes", self.mono.as_secs_f64(), changes.len());
                }
                command if self.trace => println!("{:9.3}   > {command:?}", self.mono.as_secs_f64()),
                _ => {}
            }
            match command {
                Command::Call { call, watch, request, version, .. } => {
                    let request = if self.xml { soap::asked(&request, version) } else { request };
                    let slow = if self.mono < self.slow_until { 15.0 } else { 0.05 };
                    self.later(slow, Act::Serve(self.life, call, watch, Box::new(request)));
                }
                Command::Open { conn, request, version, .. } => {
                    let request = if self.xml { soap::asked(&request, version) } else { request };
                    let Request::GetStreamingEvents { subscription_ids, .. } = request else {
                        panic!("{request:?}")
                    };
                    self.later(0.05, Act::Attach(self.life << LIFE | conn, subscription_ids));
                }
                Command::Abort(conn) => {
                    let conn = self.life << LIFE | conn;
                    let socket =
                        Socket { arrives: false, believed: false, spoil: false, pipe: Box::default() };
                    self.sockets.entry(conn).or_insert(socket).arrives = false;
                    self.later(1.0, Act::Notice(conn));
                    self.later(0.1, Act::Over(conn, Err(error(ErrorKind::Closed))));
                }
                Command::Save { save, changes } => {
                    assert!(self.saving.is_none(), "two batches at a time");
                    self.saves = save;
                    self.saving = Some((save, changes));
                    let slow = if self.mono < self.slow_until { 2.0 } else { 0.01 };
                    self.later(slow, Act::Saved(self.life, save));
                }
                Command::Forget(_) | Command::Unwanted(_) | Command::Wanted(_) => {}
                other => panic!("{other:?}"),
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
}
