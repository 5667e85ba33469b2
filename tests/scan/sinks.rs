//! The library writes into its host's log, and has none of its own.

use std::path::Path;
use std::process::Command;

use super::shown::files;

// A library that writes a log of its own writes it where its host does not look.
#[test]
fn nothing_here_installs_a_logger() {
    fn look(folder: &Path) {
        for (name, bytes) in files(folder) {
            let text = String::from_utf8_lossy(&bytes);
            assert!(
                !["set_logger", "set_boxed_logger", "set_max_level"].iter().any(|w| text.contains(w)),
                "{name}"
            );
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    look(&root.join("src"));
    let lock = std::fs::read_to_string(root.join("Cargo.lock")).unwrap();
    for sink in ["env_logger", "simplelog", "fern", "tracing-log", "flexi_logger", "stderrlog", "syslog"] {
        assert!(!lock.contains(&format!("name = \"{sink}\"")), "{sink}");
    }
}

/// The symbols of a program that set a logger; none where there is no `nm`.
fn setters(program: &Path) -> Option<Vec<String>> {
    let out = Command::new("nm").arg("--defined-only").arg(program).output().ok()?;
    assert!(out.status.success(), "{}: {}", program.display(), String::from_utf8_lossy(&out.stderr));
    let symbols = String::from_utf8(out.stdout).unwrap();
    assert!(symbols.contains("MAX_LOG_LEVEL_FILTER"), "{} has no `log` in it", program.display());
    let sets = |line: &&str| ["set_logger", "set_boxed_logger"].iter().any(|name| line.contains(name));
    Some(symbols.lines().filter(sets).map(str::to_owned).collect())
}

// The same of what is linked: a crate below, in a later version, that brings a logger of its own along.
#[test]
fn nothing_that_is_linked_can_install_one() {
    let own = std::env::current_exe().unwrap();
    let Some(control) = setters(&own) else {
        eprintln!("there is no nm here (it comes with a C compiler): not looked at");
        return;
    };
    // This test has one, and the linker leaves out what nobody calls.
    assert!(!control.is_empty());
    let library = own.with_file_name("libewsnotify.so");
    assert_eq!(setters(&library).unwrap(), [""; 0]);
    #[cfg(feature = "cli")]
    assert_eq!(setters(Path::new(env!("CARGO_BIN_EXE_ewsnotify"))).unwrap(), [""; 0]);
}
