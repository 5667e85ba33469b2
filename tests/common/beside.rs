//! What tests use and a machine may lack: the folder of facts beside the project, xmllint. Where it is not there, that is
//! said even though the test passes; where `EWSN_SHARED` names a folder, it has to be there.
#![allow(dead_code)] // Each test file is a crate of its own and uses what it needs.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// A file or folder of the facts.
pub fn shared(path: &str) -> Option<PathBuf> {
    let root = match std::env::var_os("EWSN_SHARED") {
        Some(root) => {
            let root = PathBuf::from(root);
            assert!(root.is_dir(), "EWSN_SHARED is no folder: {}", root.display());
            root
        }
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"),
    };
    let found = Some(root.join(path)).filter(|path| path.exists());
    if found.is_none() {
        untested(&format!("{path} is not in {} (EWSN_SHARED names another folder)", root.display()));
    }
    found
}

/// A schema and xmllint to check by it.
pub fn schema(path: &str) -> Option<PathBuf> {
    let schema = shared(path)?;
    if Command::new("xmllint").arg("--version").output().is_err() {
        untested("there is no xmllint; tests/run installs it");
        return None;
    }
    Some(schema)
}

/// Says it once, to the real stderr: what `eprintln` prints is only shown of a test that fails.
pub fn untested(why: &str) {
    static SAID: OnceLock<()> = OnceLock::new();
    SAID.get_or_init(|| {
        let program = std::env::args().next().unwrap_or_default();
        let program = Path::new(&program).file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let _ = writeln!(std::io::stderr(), "not tested in {program}: {why}");
    });
}
