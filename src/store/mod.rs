//! Where the engine's state is kept: ordered pairs of text and bytes, changed in atomic batches.
//!
//! The engine has all of it in its own structures and asks the store twice: at the start for what there is, and then to make
//! changes durable. So a store is small: [`embedded`], for a client with a state directory.
//!
//! A state directory has one owner at a time ([`lock`]) and holds:
//!
//! ```text
//!  DIR/             mode 0700 where we make it; refused while other users can write to it
//!      lock         empty, never removed: the owner's process has a POSIX lock on it as long as it owns the directory
//!      state.redb   everything that a restart needs, in one database; mode 0600
//!      spool/       whole messages on their way to the host, a file each of mode 0600; orphans go at the start
//!      oauth-ID.json  the tokens of an account, and oauth-ID.lock: see [`tokens`]; mode 0600
//!      refused.json  passwords that are not sent again for a while: see [`refused`]; mode 0600
//!      status.json  what a status page shows (`runtime::status_file`), replaced as a whole; mode 0644
//! ```

pub(crate) mod embedded;
mod files;
#[cfg(test)]
pub(crate) mod forgetful;
pub(crate) mod lock;
#[cfg(test)]
pub(crate) mod memory;
pub(crate) mod refused;
pub(crate) mod tokens;

use std::fmt::Debug;

use crate::Result;

/// One change of an atomic batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub key: String,
    /// `None` removes the key; one that is not there is no error.
    pub value: Option<Vec<u8>>,
}

/// Ordered pairs that survive a restart, each store as far as it can.
pub(crate) trait Store: Send + Sync + Debug {
    /// All pairs whose key begins with `prefix`, in the order of the keys' bytes.
    fn load(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>>;

    /// Makes all changes or none, of two of one key the later; returns when they are durable.
    ///
    /// After an error the batch is there as a whole or not at all, and which of the two, only a commit that succeeds settles:
    /// commit it again, with what has come since. The store mends itself as far as it can, so a disk that was full only has
    /// to have room again.
    fn commit(&self, changes: &[Change]) -> Result<()>;
}

#[cfg(test)]
mod tests;
