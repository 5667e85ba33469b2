//! What the world's server says to calls.

use super::*;

impl World {
    /// Whether a request is refused before the server acts on it.
    pub(super) fn refused(&mut self) -> Option<Error> {
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
        // Three refusals in a row end a watch; that has a test of its own.
        if self.refusals > 0 && self.hits.get("401").is_none_or(|n| *n < 2) {
            self.refusals -= 1;
            self.hit("401");
            return Some(http(401));
        }
        None
    }

    pub(super) fn serve(&mut self, watch: u64, request: Request) -> Result<Answer, Error> {
        let starting = !self.ledger.promised(watch);
        if let Some(error) = self.refused() {
            if let Request::Unsubscribe { subscription_id } = &request {
                let items = self.server.stray(subscription_id);
                items.iter().for_each(|item| self.ledger.excuse(item));
            }
            // A sign-in that is refused at the very start ends a watch; that has a test of its own.
            return Err(if starting && error.http_status() == Some(401) { http(503) } else { error });
        }
        let now = self.now();
        let mailbox = self.watches.get(&watch).copied();
        let result = match request {
            Request::GetFolder { folders } => Ok(Answer::Folders(
                folders.iter().map(|_| Ok(format!("F{}", mailbox.unwrap_or(99)))).collect(),
            )),
            Request::SubscribeStreaming { scope, .. } => Ok(self.server.subscribe(scope, false)),
            Request::SubscribePull { scope, .. } => Ok(self.server.subscribe(scope, true)),
            Request::GetEvents { subscription_id, watermark } => {
                match self.server.events(&subscription_id, watermark) {
                    Ok((notification, popped)) => {
                        let lost = self.unanswered > 0 && self.mono < self.faults_until;
                        if lost {
                            popped.iter().for_each(|item| self.ledger.excuse(item));
                        }
                        if !popped.is_empty()
                            && mailbox.is_none_or(|m| popped.iter().any(|i| !self.ledger.is_of(i, m)))
                        {
                            popped.iter().for_each(|item| self.ledger.excuse(item));
                        }
                        Ok(Answer::Events(notification))
                    }
                    Err(error) => Err(error),
                }
            }
            Request::Unsubscribe { subscription_id } => {
                for item in self.server.unsubscribe(&subscription_id) {
                    self.ledger.excuse(&item);
                }
                Ok(Answer::Unsubscribed)
            }
            Request::GetItem { items, .. } => match self.rng.u8(..8) {
                1 if self.mono < self.faults_until => Err(error(ErrorKind::Timeout)),
                _ => Ok(Answer::Items(
                    items
                        .into_iter()
                        .map(|id| match self.rng.u8(..8) {
                            0 => Err(coded("ErrorItemNotFound")),
                            _ => Ok(Item { id, ..Item::default() }),
                        })
                        .collect(),
                )),
            },
            other => panic!("{other:?}"),
        };
        if self.unanswered > 0 && self.mono < self.faults_until {
            self.unanswered -= 1;
            self.hit("call without an answer");
            if let Ok(Answer::Subscribed { id, .. }) = &result {
                self.server.stray(id);
            }
            return Err(error(ErrorKind::Io));
        }
        if let Ok(Answer::Subscribed { id, .. }) = &result {
            self.answered.insert(id.clone());
            if starting {
                self.ledger.promise(watch, now.wall);
            }
        }
        result
    }
}
