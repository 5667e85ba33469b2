//! State directories and files that are not as we left them.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redb::{Database, StorageBackend, TableDefinition};

use super::{put, seeds};
use crate::store::Store;
use crate::store::embedded::Embedded;
use crate::store::forgetful::Forgetful;
use crate::{Error, ErrorKind};

/// What is said when the state directory has this state file.
fn refused(content: impl FnOnce(&Path)) -> Error {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("state.redb");
    content(&file);
    let e = Embedded::open(dir.path()).unwrap_err();
    assert!(e.to_string().contains(&*file.to_string_lossy()), "{e}");
    // The lock went with the failure.
    fs::rename(&file, dir.path().join("away")).unwrap();
    Embedded::open(dir.path()).unwrap();
    e
}

// A file of something else must be left as it is, and the text must say what to do.
#[test]
fn a_foreign_file_is_refused_and_not_touched() {
    for content in ["hello", &"a letter to somebody, and quite a long one. ".repeat(300)] {
        let e = refused(|file| fs::write(file, content).unwrap());
        assert_eq!(e.kind(), ErrorKind::State);
        assert!(e.to_string().contains("not a state file"), "{e}");
        assert!(!e.is_retryable());
    }
    let other: TableDefinition<u64, u64> = TableDefinition::new("accounts");
    let e = refused(|file| make(file, other));
    assert!(e.to_string().contains("not a state file") && e.to_string().contains("accounts"), "{e}");
    let e = refused(|file| symlink("/etc/passwd", file).unwrap());
    assert!(e.to_string().contains("symbolic link"), "{e}");
}

// After a downgrade the older version must not destroy what the newer one has stored.
#[test]
fn a_newer_format_is_refused() {
    let newer: TableDefinition<&str, u64> = TableDefinition::new("ewsnotify 2");
    let e = refused(|file| make(file, newer));
    assert_eq!(e.kind(), ErrorKind::State);
    assert!(e.to_string().contains("another version") && e.to_string().contains("ewsnotify 2"), "{e}");
    let otherwise: TableDefinition<u64, u64> = TableDefinition::new("ewsnotify 1");
    assert_eq!(refused(|file| make(file, otherwise)).kind(), ErrorKind::State);
}

fn make<K: redb::Key + 'static, V: redb::Value + 'static>(file: &Path, table: TableDefinition<K, V>) {
    let database = Database::create(file).unwrap();
    let change = database.begin_write().unwrap();
    change.open_table(table).unwrap();
    change.commit().unwrap();
}

// A host must be told of a damaged file in words, never by a panic, and must never get wrong state.
#[test]
fn a_damaged_file_is_told_and_never_believed() {
    let (mut told, mut whole, mut older) = (0, 0, 0);
    for seed in seeds(600) {
        let mut rng = fastrand::Rng::with_seed(seed);
        let disk = Forgetful::default();
        let store = Embedded::on(disk.clone()).unwrap();
        let mut states = vec![BTreeMap::new()];
        for i in 0..rng.u32(1..4) {
            let mut state: BTreeMap<String, Vec<u8>> = states[states.len() - 1].clone();
            let changes: Vec<_> =
                (0..60).map(|key| put(&format!("{key:03}"), &format!("{i}").repeat(100))).collect();
            super::apply(&mut state, &changes);
            store.commit(&changes).unwrap();
            states.push(state);
        }
        if rng.bool() {
            drop(store);
        } else {
            std::mem::forget(store);
        }
        damage(&disk, &mut rng);
        let found = Embedded::on(disk).and_then(|store| {
            let found: BTreeMap<_, _> = store.load("")?.into_iter().collect();
            store.commit(&[put("a", "1")])?;
            Ok(found)
        });
        match found {
            Err(e) => {
                assert!(matches!(e.kind(), ErrorKind::State), "seed {seed}: {e}");
                told += 1;
            }
            Ok(found) if Some(&found) == states.last() => whole += 1,
            Ok(found) => {
                assert!(states.contains(&found), "seed {seed}: {found:?}");
                older += 1;
            }
        }
    }
    println!("damage told {told}, without effect {whole}, taken for an unfinished commit {older}");
    assert!(told > whole / 2, "{told}");
}

/// Changes a few places, most of them where something is; or cuts the end off.
fn damage(disk: &Forgetful, rng: &mut fastrand::Rng) {
    let len = disk.len().unwrap();
    if rng.u8(0..8) == 0 {
        return disk.set_len(rng.u64(1..len)).unwrap();
    }
    for _ in 0..rng.u32(1..4) {
        let page = if rng.bool() { 0 } else { 4096 * rng.u64(0..40) };
        let within = if page == 0 { rng.u64(0..320) } else { rng.u64(0..4096) };
        let mut bytes = vec![0; if rng.bool() { 1 } else { rng.usize(1..300) }];
        rng.fill(&mut bytes);
        let at = (page + within).min(len - bytes.len() as u64);
        disk.write(at, &bytes).unwrap();
    }
}

/// A disk under which redb panics, as it may over a file that is damaged in a way that it does not expect.
#[derive(Debug)]
struct Panicking(Forgetful, Arc<AtomicBool>);

impl Panicking {
    fn disk(&self) -> &Forgetful {
        assert!(!self.1.load(Ordering::Relaxed), "an entry of -1 bytes");
        &self.0
    }
}

impl StorageBackend for Panicking {
    fn len(&self) -> io::Result<u64> {
        self.disk().len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.disk().read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.disk().set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk().sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.disk().write(offset, data)
    }
}

// A panic of the database must neither end the host's thread nor make the store useless.
#[test]
fn a_panic_of_the_database_becomes_an_error() {
    let panics = Arc::new(AtomicBool::new(false));
    let store = Embedded::on(Panicking(Forgetful::default(), panics.clone())).unwrap();
    store.commit(&[put("a", "1")]).unwrap();
    panics.store(true, Ordering::Relaxed);
    for _ in 0..2 {
        let e = store.commit(&[put("a", "2")]).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::State);
        assert!(e.to_string().contains("damaged (an entry of -1 bytes)"), "{e}");
    }
    panics.store(false, Ordering::Relaxed);
    store.commit(&[put("b", "2")]).unwrap();
    assert_eq!(store.load("").unwrap().len(), 2);
    panics.store(true, Ordering::Relaxed);
    drop(store);
}

// A directory that others can write to would let them decide what is told as new.
#[test]
fn a_directory_that_others_can_write_to_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    for mode in [0o777, 0o770, 0o1777, 0o702] {
        fs::set_permissions(dir.path(), Permissions::from_mode(mode)).unwrap();
        let e = Embedded::open(dir.path()).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Invalid);
        assert!(e.to_string().contains(&format!("chmod go-w {}", dir.path().display())), "{e}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is put there");
    }
    fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
    Embedded::open(dir.path()).unwrap();
}

// What stands in the way of the directory must be named.
#[test]
fn a_path_that_is_no_directory_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    for path in [file.clone(), file.join("below")] {
        let e = Embedded::open(&path).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Io);
        assert!(e.to_string().contains(&*path.to_string_lossy()), "{e}");
    }
    // Not for root, who may write everywhere.
    let sealed = dir.path().join("sealed");
    fs::create_dir(&sealed).unwrap();
    fs::set_permissions(&sealed, Permissions::from_mode(0o500)).unwrap();
    if fs::write(sealed.join("probe"), "").is_err() {
        let e = Embedded::open(&sealed).unwrap_err();
        assert!(e.to_string().contains("must be able to read and write there"), "{e}");
    }
}
