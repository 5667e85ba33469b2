//! The C interface as its users meet it: headers, symbols, hosts.

#![allow(unsafe_code, reason = "the functions of the C interface are called as C calls them")]

mod headers;
#[cfg(feature = "sim")]
mod hosts;
mod misuse;
