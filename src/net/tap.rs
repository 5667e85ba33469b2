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

    /// Writes what a server has sent by itself, and what it was answered. What strangers send has no `head` here: they must not be able
    /// to fill the log.
    pub(super) fn say_push(
        &self,
        connection: u64,
        head: Option<&str>,
        body: &[u8],
        answer: &str,
        reply: &str,
    ) {
        if let Some(head) = head.filter(|_| self.wire_log.is_on()) {
            let head = format!("{head}\n\n");
            let text = wire_log::body(Some("text/xml"), body, body.len() as u64);
            self.wire_log.say(&self.secrets, connection, Way::In, &head, &text);
            self.wire_log.say(&self.secrets, connection, Way::Out, answer, reply);
        }
    }
}
