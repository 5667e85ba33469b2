//! The network part over real sockets on loopback, against servers that misbehave in every way that one can.

mod asks;
mod calls;
mod cancels;
mod connect_to;
mod faults;
mod long;
mod lookups;
mod old_tls;
mod proxies;
#[path = "../common/relay.rs"]
mod relay;
#[cfg(feature = "sim")]
mod reverse;
mod server;
mod signing;
#[cfg(feature = "sim")]
mod simulator;
mod statuses;
mod tls;
mod tools;
#[cfg(feature = "sim")]
#[allow(dead_code)] // Other tests use the rest.
#[path = "../common/watching.rs"]
mod watching;
