//! Tells a program at once when something happens in an Exchange mailbox.

pub mod auth;
pub mod engine;
mod error;
mod event;
pub mod net;
mod options;
pub mod proto;
pub mod runtime;
#[cfg(feature = "sim")]
pub mod sim;

pub use error::{Error, ErrorKind, Result};
pub use event::{Attachment, Content, Detail, Event, EventKind, Fill, ItemContent, Origin, Reason};
pub use options::{Fetch, Mode, OptionKind, OptionScope, OptionSpec, Options};
pub use runtime::{Client, ConnectionStatus, Events, Next, Status, WatchStatus};
