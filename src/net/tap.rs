//! What a client's connections report to.

use crate::auth::Secrets;

/// One for a client: every link and question of its has it.
#[derive(Debug, Default)]
pub struct Tap {
    /// What is sent, so that it can be taken out of what comes back.
    pub secrets: Secrets,
}
