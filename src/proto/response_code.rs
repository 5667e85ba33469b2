//! ResponseCode → what to do about it, as data, with the reason beside each row.

/// What the engine does for a response code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Nothing: it went well.
    Proceed,
    /// Drop the subscription, subscribe anew without a watermark; what came between is a gap.
    Resubscribe,
    /// As `Resubscribe`, and find the mailbox's server anew first.
    Rediscover,
    /// Wait (`BackOffMilliseconds`, else exponential with jitter) and repeat the same.
    BackOff,
    /// As `BackOff`, but give up on the watch after five failures in a row.
    BackOffThenStop,
    /// Events were missed; the subscription stands.
    Missed,
    /// Speak an older `RequestServerVersion` and repeat, at the first request only; else as `Stop`.
    LowerVersion,
    /// The sync state is of no use: drop it and sync from the start.
    DropSyncState,
    /// A folder is gone or not ours to see.
    FolderGone,
    /// The sign-in is refused: stop the watch and say so.
    SignIn,
    /// It concerns this item alone, which is gone.
    ItemGone,
    /// It concerns this item alone, which cannot be read.
    ItemUnreadable,
    /// Give up on the watch and say why.
    Stop,
}

impl Action {
    /// Whether the same may work later without a change of settings.
    pub fn is_retryable(self) -> bool {
        !matches!(self, Action::SignIn | Action::Stop | Action::ItemGone | Action::ItemUnreadable | Action::FolderGone)
    }
}

/// What to do about a response code, known or not.
pub fn action(code: &str) -> Action {
    if code == "NoError" { Action::Proceed } else { Action::Stop }
}
