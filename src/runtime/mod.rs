//! Threads, the queue and the timer: executes the engine's commands and feeds it what came of them.
//!
//! Decides nothing. Threads: a timer, up to `workers` workers for each server and sign-in, a reader a stream, for each opening of
//! a stream a short-lived one with the deep stack that a handshake needs, with a state directory one that writes it, for each
//! request for a token a short-lived one, and for push one that serves the port or takes what lies in the folder. No lock is held while host code runs.

mod accounts;
mod client;
mod connection;
mod content;
mod core;
mod drops;
mod keepers;
mod links;
mod locate;
mod log;
mod oauth;
mod public_folders;
mod push;
mod saver;
mod seek;
mod signal;
mod spool;
mod status;
mod status_file;
mod threads;
mod workers;

#[cfg(test)]
mod tests;

pub(crate) use accounts::Accounts;
pub(crate) use client::Pairs;
pub use client::{Client, Events, Next};
pub(crate) use links::auth;
pub(crate) use locate::search;
pub(crate) use oauth::{random, request, send};
pub(crate) use public_folders::content_mailbox;
pub(crate) use signal::{Waited, Waker};
pub use status::{ConnectionStatus, Status, WatchStatus};
pub(crate) use threads::Threads;
