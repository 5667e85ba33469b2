//! The command `ewsnotify`, as it is built, in processes of its own: a file for each subcommand.
#![cfg(feature = "cli")]

#[path = "../common/beside.rs"]
mod beside;
mod check;
#[path = "../common/company.rs"]
mod company;
mod decode;
mod demo;
mod drain;
mod durable;
mod get;
mod kills;
mod login;
mod mistakes;
mod options;
mod push;
mod run;
mod scan;
mod simulate;
mod support;
mod tokens;
mod trouble;
mod usage;
mod watch;
