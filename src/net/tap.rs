//! What a client's connections report to.

use std::sync::{Mutex, PoisonError};

use super::wire_log::{self, Way, WireLog};
use crate::auth::Secrets;

/// One for a client: every link, question and listener of its has it.
#[derive(Debug, Default)]
pub struct Tap {
    /// What is sent, so that it can be taken out of what comes back.
    pub secrets: Secrets,
    /// Where requests and answers are written down, if anybody wants that.
    pub wire_log: WireLog,
    /// What is no error and may be of interest, until somebody asks for it.
    remarks: Mutex<Vec<String>>,
}

/// So many remarks are kept for who asks seldom, or never.
const MAX_REMARKS: usize = 20;

impl Tap {
    pub(super) fn remark(&self, text: String) {
        // Nothing panics while it is held.
        let mut remarks = self.remarks.lock().unwrap_or_else(PoisonError::into_inner);
        if remarks.len() < MAX_REMARKS && !remarks.contains(&text) {
            remarks.push(text);
        }
    }

    /// What has been remarked since this was asked last: that a sign-in goes by a weaker way than it could, and why.
    pub(crate) fn take_remarks(&self) -> Vec<String> {
        std::mem::take(&mut *self.remarks.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Writes what a server has sent by itself, and what it was answered.
    pub(super) fn say_push(&self, connection: u64, body: &[u8], head: &str, reply: &str) {
        if self.wire_log.is_on() {
            let text = wire_log::body(Some("text/xml"), body, body.len() as u64);
            self.wire_log.say(&self.secrets, connection, Way::In, "POST (push)", &text);
            self.wire_log.say(&self.secrets, connection, Way::Out, head, reply);
        }
    }
}
