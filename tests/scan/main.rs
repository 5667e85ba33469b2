//! No secret is ever shown: whatever a server quotes of what it was sent, and wherever it puts it, nothing of it is in an error, an
//! event, a log, a `Debug` form, a file of the state or the wire log.
#![cfg(feature = "sim")]

#[path = "../common/company.rs"]
mod company;
mod issuer;
mod keys;
#[path = "../common/scan.rs"]
mod known;
mod ntlm;
mod proxies;
mod quoting;
#[path = "../common/relay.rs"]
mod relay;
mod shown;
mod sinks;
mod tokens;
