//! Tells a program at once when something happens in an Exchange mailbox: new mail, changes, moves, deletions.
//!
//! A [`Client`] has watches, a watch is a mailbox with its folders, and what happens comes as [`Event`]s out of one bounded
//! queue. All calls block, there is no async runtime; a stream costs a thread and some 50 KiB.
//!
//! ```no_run
//! use ewsnotify::{Client, EventKind, Options};
//!
//! let mut options = Options::new();
//! options.set("url", "mail.example.com")?.set("user", "ada@example.com")?.set("password", "secret")?;
//! let client = Client::open(&options)?;
//! client.watch(&Options::new())?;
//! for event in &client {
//!     match event.kind {
//!         EventKind::NewMail => println!("{}", event.to_json()),
//!         // The watch was given up; an Error before it said why.
//!         EventKind::Closed => break,
//!         _ => {}
//!     }
//! }
//! # Ok::<(), ewsnotify::Error>(())
//! ```
//!
//! # What is promised
//!
//! - **A gap is never silent.** Links that break are made again with the same subscriptions, lost subscriptions are made anew, and
//!   wherever something may have been missed, a [`Gap`](EventKind::Gap) says since when and why.
//! - **Gaps are filled.** Catch-up compares each folder with what is known of it, and tells what came, changed and went;
//!   [`Drained`](EventKind::Drained) follows. [`Fill`] says beforehand whether it can.
//! - **All folders** means every folder below the mailbox's top, the ones that are made later too: those are read from their first
//!   item on. What becomes of folders themselves in a gap is told as `Created`, `Deleted` and `Modified` (moved or renamed), within
//!   one run. Search folders only repeat what happens elsewhere, and hidden folders are not the user's: once known as such,
//!   nothing is told of them.
//! - **A restart goes on where the last run stood**, with option `state_dir`: what was not acknowledged is told again, then what came
//!   meanwhile, and nothing else as new. With `ack=manual` the host says of each event that it has dealt with it
//!   ([`Client::ack`]), or has it told again later or parked ([`Client::nack`]). Within a run a watch tells an item as new once for each
//!   kind asked for; after a crash what was not acknowledged for good comes again, so a host may see it twice and misses none.
//! - **Order.** Live events of a mailbox come in the order of the server, also where an item's content is fetched first. What
//!   catch-up finds comes in the server's pages, newest page first, oldest first within a page; in a folder that fills a gap,
//!   live events wait for it. `seq` rises with every event, and over restarts where there is a state.
//! - **Slow hosts and slow fetches never stop the reading of a stream.** What does not fit into the queue is dropped, and a `Gap`
//!   stands in its place.
//! - **[`close`](Client::close) returns at once, from any thread and in every state.** The last event of a watch, and of the client,
//!   is [`Closed`](EventKind::Closed).
//! - **Secrets are never printed**: not in an error, a log, a `Debug` form or an event. They are wiped when they go.
//! - **Bounded**: envelopes, answers, the queue, the spool, retries. The options say by how much.
//!
//! # Where is what
//!
//! ```text
//!  host ── Client ── runtime   threads, queue, timer: executes commands, feeds inputs
//!                     │     │
//!                  engine  net + auth
//!              (decisions)  (ureq, rustls, sockets)
//!                     │
//!                   proto   bytes ⇄ messages
//! ```
//!
//! The modules below are open for tests, tools and the curious; only what this page re-exports is kept stable, and the modules [`check`],
//! [`sign_in`] and `sim`.
//!
//! # Features
//!
//! - `sim`: an Exchange in the process, for tests (`sim::Sim`).
//! - `cli`: the command `ewsnotify`; brings `sim`.
//! - `gssapi`: sign-in by Kerberos, with the system's GSSAPI.

#[cfg(test)]
extern crate self as ewsnotify;

pub mod auth;
pub mod autodiscover;
pub mod check;
mod cookies;
pub mod engine;
mod error;
mod event;
mod ffi;
pub mod net;
mod options;
pub mod proto;
mod push;
pub mod runtime;
pub mod sign_in;
mod signals;
#[cfg(feature = "sim")]
pub mod sim;
mod spooled;
mod store;

pub use auth::Secret;
pub use engine::{Nack, Parked, PushOutcome};
pub use error::{Error, ErrorKind, Result};
pub use event::{Attachment, Content, Detail, Event, EventKind, Fill, ItemContent, Level, Origin, Reason};
pub use net::Cancel;
pub use options::{Ack, Fetch, Mode, OptionKind, OptionScope, OptionSpec, Options};
pub use push::{Push, PushDone, PushEvent, PushFed, PushMessage, push_parse};
pub use runtime::{Client, ConnectionStatus, Events, Next, Status, WatchStatus};

/// The README's programs are compiled with the tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
