//! The command `ewsnotify`, as it is built, in processes of its own: a file for each subcommand.
#![cfg(feature = "cli")]

mod decode;
mod demo;
mod get;
mod options;
mod simulate;
mod support;
mod usage;
mod watch;
