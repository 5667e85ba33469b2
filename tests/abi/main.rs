//! The C interface as its users meet it: headers, symbols, hosts.

#![allow(unsafe_code, reason = "the functions of the C interface are called as C calls them")]

#[cfg(feature = "sim")]
mod exceptions;
#[cfg(feature = "sim")]
mod features;
#[cfg(feature = "sim")]
mod fpm;
#[cfg(feature = "sim")]
mod given_up;
mod headers;
#[cfg(feature = "sim")]
mod hosts;
mod install;
#[cfg(feature = "sim")]
mod kills;
#[cfg(feature = "sim")]
mod matrix;
mod misuse;
#[cfg(feature = "sim")]
mod own_tokens;
#[cfg(feature = "sim")]
mod programs;
#[cfg(feature = "sim")]
mod sign_in;
#[cfg(feature = "sim")]
mod unheard;

use std::path::{Path, PathBuf};

/// The library of this build, beside the test's own file.
fn library() -> PathBuf {
    let path = std::env::current_exe().unwrap().with_file_name("libewsnotify.so");
    assert!(path.is_file(), "{} was not built", path.display());
    path
}

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("ffi-examples").join(name)
}

fn program(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/abi/programs").join(name)
}

/// How often something is tried: more for a longer look.
#[cfg(feature = "sim")]
fn count(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|n| n.parse().ok()).unwrap_or(default)
}
