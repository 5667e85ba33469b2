//! A stream gives the same envelopes however it is cut: `cargo +nightly fuzz run framer`.
#![no_main]

#[path = "../bodies.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::framer(data));
