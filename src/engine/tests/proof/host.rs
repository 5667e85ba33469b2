//! The host: takes events, deals with them at once, later, at the second try or never in this run.

use super::*;

impl World {
    pub(super) fn host(&mut self) {
        let quiet = self.mono > self.mail_until;
        let most = if self.slow_host && !quiet { self.rng.usize(1..4) } else { 100 };
        if quiet || self.rng.u8(..10) == 0 {
            for parked in self.engine.parked() {
                self.hit("release");
                self.engine.release(self.now(), parked.id).expect("it is parked");
                self.execute();
                if !self.up {
                    return;
                }
            }
        }
        for _ in 0..most {
            if self.unseen.is_some() || self.step("kill: before the host takes") {
                return;
            }
            let save = self.saves + 1;
            let event = self.engine.take(self.now());
            let awaited = self.engine.awaited();
            if let Some((mailbox, given)) = self.given.take() {
                self.ledger.acked(mailbox, &given, save);
            }
            self.execute();
            if !self.up {
                return;
            }
            match (event, awaited) {
                (None, _) => return,
                (Some(event), Some(save)) => self.unseen = Some((save, event)),
                (Some(event), None) => self.sees(event),
            }
            if !self.up {
                return;
            }
        }
    }

    pub(super) fn sees(&mut self, event: Event) {
        if !self.up {
            return;
        }
        if self.trace {
            println!(
                "{:9.3} ! {} {:?} {:?} {:?}",
                self.mono.as_secs_f64(),
                event.kind.name(),
                event.item_id,
                event.parent_folder_id,
                event.detail
            );
        }
        if event.watch == 0 {
            return;
        }
        let mailbox = event.watch as usize - 1;
        self.ledger.taken(mailbox, &event);
        if event.item_id.is_none() || self.step("kill: before the host acknowledges") {
            return;
        }
        match self.specs[mailbox].ack {
            Ack::Auto => self.given = Some((mailbox, event)),
            Ack::Manual if self.rng.u8(..4) == 0 => {
                let life = self.life;
                self.later(10.0, Act::Deal(life, mailbox, Box::new(event)));
            }
            Ack::Manual => self.deal(mailbox, &event),
        }
    }

    pub(super) fn deal(&mut self, mailbox: usize, event: &Event) {
        let nack = match self.rng.u8(..10) {
            0 => Nack::Retry(Duration::from_secs(self.rng.u64(..90))),
            1 => Nack::Park,
            _ => {
                let save = self.engine.ack(self.now(), event.seq).expect("it is open");
                self.ledger.acked(mailbox, event, save.unwrap_or(SaveId::MAX));
                return self.execute();
            }
        };
        self.hit(if nack == Nack::Park { "park" } else { "retry" });
        self.engine.nack(self.now(), event.seq, nack).expect("it is open");
        self.ledger.nacked(mailbox, event);
        self.execute();
    }
}
