//! What a client's connections report to.

use super::wire_log::{self, Way, WireLog};
use crate::auth::Secrets;

/// One for a client: every link, question and listener of its has it.
#[derive(Debug, Default)]
pub struct Tap {
    /// What is sent, so that it can be taken out of what comes back.
    pub secrets: Secrets,
    /// Where requests and answers are written down, if anybody wants that.
    pub wire_log: WireLog,
}

impl Tap {
    /// Writes what a server has sent by itself, and what it was answered.
    pub(super) fn say_push(&self, connection: u64, body: &[u8], head: &str, reply: &str) {
        if self.wire_log.is_on() {
            let text = wire_log::body(Some("text/xml"), body, body.len() as u64);
            self.wire_log.say(&self.secrets, connection, Way::In, "POST (push)", &text);
            self.wire_log.say(&self.secrets, connection, Way::Out, head, reply);
        }
    }
}
