//! The C interface as its users meet it: headers, symbols, hosts.

mod headers;
#[cfg(feature = "sim")]
mod hosts;
