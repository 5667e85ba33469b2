//! The fast way through a stream and the `xml` crate never differ: `cargo +nightly fuzz run decode`.
#![no_main]

#[path = "../bodies.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::decode(data));
