//! The state directory and the database's file in it: made private, durable by name, refused where others can write.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use redb::StorageBackend;
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::{Error, ErrorKind, Result};

/// Makes the state directory where there is none, and refuses one that other users can write to: they could change what is
/// told as new, or put a link in the place of a file.
pub(super) fn prepare(dir: &Path) -> Result<()> {
    // From above: a folder's name is durable when the one that it is in is synced.
    let missing: Vec<&Path> =
        dir.ancestors().take_while(|d| !d.as_os_str().is_empty() && !d.exists()).collect();
    let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(|e| trouble("make the state directory", dir, &e))?;
    for made in missing.iter().rev() {
        let above = made.parent().filter(|d| !d.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // Where that may not be read, the system has to be trusted.
        if let Ok(above) = File::open(above) {
            above.sync_all().map_err(|e| trouble("sync the folder of", made, &e))?;
        }
    }
    let met = fs::metadata(dir).map_err(|e| trouble("look at the state directory", dir, &e))?;
    if !is_trusted(met.uid()) {
        let text = format!(
            "the state directory {dir} belongs to another user (number {uid}), so what it says cannot be trusted: give it to \
             the user of this process, or take another",
            dir = dir.display(),
            uid = met.uid()
        );
        return Err(Error::new(ErrorKind::Invalid, text));
    }
    if met.mode() & 0o022 != 0 {
        let text = format!(
            "other users can write to the state directory {dir} (mode {mode:o}), so what it says cannot be trusted: chmod go-w {dir}",
            dir = dir.display(),
            mode = met.mode() & 0o7777
        );
        return Err(Error::new(ErrorKind::Invalid, text));
    }
    Ok(())
}

/// Whose directory may be used: our own, and the administrator's, who can change everything anyway.
pub(super) fn is_trusted(owner: u32) -> bool {
    owner == 0 || owner == rustix::process::geteuid().as_raw()
}

/// The database's file, without any lock: see [`super::lock`].
#[derive(Debug)]
pub(super) struct DataFile(File);

impl DataFile {
    /// Opens the file, or makes it, of mode 0600 and with a name that a power cut does not take.
    pub fn open(dir: &Path, path: &Path) -> Result<DataFile> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        options.custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32);
        let file = options.open(path).map_err(|e| trouble("open the state file", path, &e))?;
        // The directory's own name may be new too.
        let above = dir.canonicalize().ok().and_then(|dir| dir.parent().map(Path::to_owned));
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(|e| trouble("sync", dir, &e))?;
        // Where that may not be read, it was not us who made the directory.
        if let Some(above) = above.and_then(|above| File::open(above).ok()) {
            above.sync_all().map_err(|e| trouble("sync the folder of", dir, &e))?;
        }
        Ok(DataFile(file))
    }
}

/// Positioned reads and writes: a forked child shares the descriptor's position.
impl StorageBackend for DataFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(out, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write_all_at(data, offset)
    }
}

/// What could not be done with which path, and what to do about it.
pub(super) fn trouble(what: &str, path: &Path, e: &io::Error) -> Error {
    let advice = match e.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            ": make room there; nothing has to be restarted"
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            ": the user of this process must be able to read and write there"
        }
        _ if e.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => ": it must not be a symbolic link",
        _ => "",
    };
    Error::new(ErrorKind::Io, format!("cannot {what} {}: {e}{advice}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    // Another user who made the directory beforehand would say what is new, and read what is told.
    #[test]
    fn a_directory_of_another_user_is_refused() {
        let me = rustix::process::geteuid().as_raw();
        assert!(is_trusted(me) && is_trusted(0) && !is_trusted(me + 1));
        let dir = tempfile::tempdir().unwrap();
        assert!(prepare(dir.path()).is_ok());
        // Only the administrator can give a directory away.
        if std::os::unix::fs::chown(dir.path(), Some(me + 1), None).is_ok() {
            let e = prepare(dir.path()).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::Invalid);
            assert!(e.to_string().contains("belongs to another user"), "{e}");
        }
    }
}
