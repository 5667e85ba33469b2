//! The C interface as its users meet it: headers, symbols, hosts.

#![allow(unsafe_code, reason = "the functions of the C interface are called as C calls them")]

mod headers;
#[cfg(feature = "sim")]
mod hosts;
mod misuse;

use std::path::PathBuf;

/// The library of this build, beside the test's own file.
fn library() -> PathBuf {
    let path = std::env::current_exe().unwrap().with_file_name("libewsnotify.so");
    assert!(path.is_file(), "{} was not built", path.display());
    path
}
