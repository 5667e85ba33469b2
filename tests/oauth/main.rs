//! Signing in by OAuth, over real sockets, against the simulator's token endpoint.
#![cfg(feature = "sim")]

mod accounts;
mod assertion;
#[path = "../common/company.rs"]
mod company;
mod finding;
mod login;
mod months;
mod processes;
mod refusals;
mod renewing;
mod support;
mod watching;
