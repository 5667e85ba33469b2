//! Push over real sockets: the library's own listener, a web server of the host's, and files that a web process drops.
#![cfg(feature = "sim")]

#[path = "../common/beside.rs"]
mod beside;
mod besieged;
mod drops;
mod feeding;
mod hostile;
mod listening;
mod litter;
mod raw;
#[path = "../common/watching.rs"]
#[allow(dead_code)]
mod watching;
