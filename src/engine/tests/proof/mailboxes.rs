//! What happens in the mailboxes.

use super::*;

impl World {
    /// A mailbox with something in it, and its watch.
    pub(super) fn mailbox(&mut self, mailbox: usize) {
        self.untold.push(VecDeque::new());
        self.last_told.push(None);
        self.reorder.push(false);
        self.ledger.mailbox();
        let mut spec = spec(mailbox as u64 + 1);
        spec.folders = (0..2).map(|f| FolderRef::Id(folder_of(mailbox, f)).into()).collect();
        use EventKind::{Created, Deleted, Modified, NewMail};
        spec.events = match self.rng.u8(..4) {
            0 => vec![NewMail],
            1 => vec![NewMail, Created, Modified],
            2 => vec![NewMail, Modified, Deleted],
            _ => EventKind::MAILBOX.to_vec(),
        };
        let mode = self.rng.u8(..6);
        // gromox has no push.
        if mode == 2 && !self.server.gromox {
            World::watch_by_push(&mut spec);
        } else if mode < 2 {
            let interval = Duration::from_secs(self.rng.u64(5..40));
            spec.mode =
                WatchMode::Pull { interval, quiet: interval * self.rng.u32(1..4), timeout_minutes: 30 };
        }
        if self.rng.u8(..4) == 0 {
            spec.fetch = Fetch::Summary;
        }
        spec.catch_up = true;
        spec.since_all = self.rng.u8(..8) == 0;
        spec.ack = if self.rng.bool() { Ack::Manual } else { Ack::Auto };
        spec.max_unacked = self.rng.usize(1..8);
        spec.coalesce = Duration::from_secs([0, 0, 3, 40][spec.max_unacked % 4]);
        for folder in 0..3 {
            for _ in 0..self.rng.usize(..12) {
                let line = self.line();
                let item = self.server.create(&folder_of(mailbox, folder), line, START - 1000);
                self.ledger.is(&item, line);
                match spec.since_all && folder < 2 {
                    true => self.ledger.came(mailbox, line, ledger::ALWAYS, false),
                    false => self.ledger.old(mailbox, line),
                }
            }
        }
        self.specs.push(spec);
        self.later(1.0, Act::Mailbox(mailbox));
    }

    fn line(&mut self) -> usize {
        self.next_line += 1;
        self.next_line
    }

    pub(super) fn something_happens(&mut self, mailbox: usize) {
        if self.mono < self.mail_until {
            self.later(self.every, Act::Mailbox(mailbox));
        }
        let many = if self.rng.u8(..40) == 0 { self.rng.usize(5..30) } else { 1 };
        for _ in 0..many {
            self.happens(mailbox);
        }
    }

    fn happens(&mut self, mailbox: usize) {
        let (now, seconds) = (self.now().wall, START + self.mono.as_secs());
        let asked = |kind: EventKind| self.specs[mailbox].events.contains(&kind);
        let (created, moved) = (asked(EventKind::Created), asked(EventKind::Moved));
        let folder = folder_of(mailbox, self.rng.usize(..2));
        let what = self.rng.u8(..20);
        if what < 10 {
            let line = self.line();
            let item = self.server.create(&folder, line, seconds);
            self.ledger.is(&item, line);
            self.ledger.came(mailbox, line, now, true);
            self.tells(mailbox, notice(NoticeKind::Created, &item, &folder));
            return self.tells(mailbox, notice(NoticeKind::NewMail, &item, &folder));
        }
        if what == 10 {
            let line = self.line();
            let item = self.server.create(&folder, line, seconds);
            self.ledger.is(&item, line);
            if created {
                self.ledger.came(mailbox, line, now, false);
            }
            return self.tells(mailbox, notice(NoticeKind::Created, &item, &folder));
        }
        // Where moves are not told, nothing comes and goes by them.
        let from = if moved { folder_of(mailbox, self.rng.usize(..3)) } else { folder };
        let things = self.server.folders.get(&from).map(|f| f.len()).unwrap_or_default();
        if things == 0 {
            return;
        }
        let nth = self.rng.usize(..things);
        let (item, line) =
            self.server.folders[&from].iter().nth(nth).map(|(i, t)| (i.clone(), t.line)).expect("counted");
        match what {
            11 | 12 => {
                self.server.change(&from, &item, false);
                self.tells(mailbox, notice(NoticeKind::Modified, &item, &from));
            }
            13 => {
                self.server.change(&from, &item, true);
                self.tells(mailbox, notice(NoticeKind::Modified, &item, &from));
            }
            14..=16 => {
                let to = folder_of(mailbox, self.rng.usize(..if moved { 3 } else { 2 }));
                if to == from {
                    return;
                }
                let new = self.server.shift(&from, &item, &to, false, None);
                self.ledger.is(&new, line);
                self.ledger.touched(mailbox, line);
                if is_watched(&to) {
                    self.ledger.moved(mailbox, line, now);
                } else if is_watched(&from) {
                    self.ledger.went(mailbox, line, now);
                }
                if moved && is_watched(&to) {
                    self.ledger.came(mailbox, line, now, false);
                }
                self.tells(mailbox, from_there(NoticeKind::Moved, &new, &to, &item, &from));
            }
            17 => {
                let line = self.line();
                let to = folder_of(mailbox, self.rng.usize(..2));
                let new = self.server.shift(&from, &item, &to, true, Some(line));
                self.ledger.is(&new, line);
                if moved {
                    self.ledger.came(mailbox, line, now, false);
                }
                self.tells(mailbox, from_there(NoticeKind::Copied, &new, &to, &item, &from));
            }
            _ => {
                self.server.remove(&from, &item);
                if is_watched(&from) {
                    self.ledger.went(mailbox, line, now);
                }
                self.tells(mailbox, notice(NoticeKind::Deleted, &item, &from));
            }
        }
    }

    /// The server tells of it, at once or a little late, but in order.
    fn tells(&mut self, mailbox: usize, mut notice: Notice) {
        notice.time_stamp = Some(humantime::format_rfc3339_nanos(self.now().wall).to_string());
        let folders = [&notice.parent_folder_id, &notice.old_parent_folder_id];
        if !folders.iter().any(|f| f.as_ref().is_some_and(|f| is_watched(&f.id))) {
            return;
        }
        if self.trace {
            println!(
                "{:9.3} + {:?} {:?} in {:?}, was {:?}",
                self.mono.as_secs_f64(),
                notice.kind,
                notice.target,
                notice.parent_folder_id,
                notice.old_target
            );
        }
        self.untold[mailbox].push_back(notice);
        if self.reorder[mailbox] && self.mono < self.faults_until {
            let untold = &mut self.untold[mailbox];
            match untold.len() {
                0 | 1 => return,
                n => untold.swap(n - 2, n - 1),
            }
            self.reorder[mailbox] = false;
        }
        match self.rng.u8(..8) {
            0 => self.later(3.0, Act::Tell(mailbox)),
            _ => self.tell(mailbox),
        }
    }

    /// Notifications into whatever subscriptions a mailbox has.
    pub(super) fn tell(&mut self, mailbox: usize) {
        while let Some(notice) = self.untold[mailbox].pop_front() {
            self.last_told[mailbox] = Some(notice.clone());
            if let Some(Target::Item(item)) = &notice.target {
                self.ledger.tells(mailbox, &item.id, self.now().wall);
                let watch = self.engine.watches.get(&(mailbox as u64 + 1));
                let subscription = watch.filter(|_| self.up).and_then(|w| w.subscription.as_ref());
                let subscription = subscription.and_then(|s| self.server.subs.get(&s.id));
                if subscription.is_some_and(|s| s.dead || s.mailbox != mailbox) {
                    self.ledger.unheard(mailbox, &item.id);
                }
            }
            let subs: Vec<String> = self
                .server
                .subs
                .iter()
                .filter(|(_, s)| s.mailbox == mailbox)
                .map(|(id, _)| id.clone())
                .collect();
            for id in subs {
                if let Some(conn) = self.server.put(&id, &notice) {
                    self.write(conn, server::told(&id, vec![notice.clone()]));
                } else if self.server.subs.get(&id).is_some_and(|s| s.push.is_some()) {
                    self.push_soon(&id);
                }
            }
        }
    }
}

fn from_there(kind: NoticeKind, new: &str, to: &str, old: &str, from: &str) -> Notice {
    let mut notice = notice(kind, new, to);
    notice.old_target = Some(Target::Item(Id { id: old.into(), change_key: None }));
    notice.old_parent_folder_id = Some(Id { id: from.into(), change_key: None });
    notice
}
