//! The simulated Exchange without sockets: what it answers, and the exact events of each operation.
//!
//! Each answer that these tests get in Exchange's style, and each request they make, is validated against Microsoft's
//! schemas where those and xmllint are present.
#![cfg(feature = "sim")]

#[path = "../common/beside.rs"]
mod beside;
mod events;
mod faults;
mod operations;
mod pull;
mod push;
mod streams;
mod support;
mod sync;
