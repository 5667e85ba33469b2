//! The network part over real sockets on loopback, against servers that misbehave in every way that one can.

mod asks;
mod calls;
mod cancels;
mod connect_to;
mod faults;
mod long;
mod lookups;
mod server;
mod signing;
#[cfg(feature = "sim")]
mod simulator;
mod statuses;
mod tls;
