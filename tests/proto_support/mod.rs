//! What the tests of `proto` share.
#![allow(dead_code)]

pub mod forms;

use std::path::{Path, PathBuf};

/// A file or folder beside the project, which the tests read where it is there.
pub fn shared(path: &str) -> Option<PathBuf> {
    let root = match std::env::var_os("EWSN_SHARED") {
        Some(root) => PathBuf::from(root),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"),
    };
    Some(root.join(path)).filter(|path| path.exists())
}
