//! Reading and writing files in a folder into which others may write, too.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use rustix::fs::OFlags;

/// Why a file was not read.
#[derive(Debug)]
pub(super) enum Unread {
    /// Somebody has taken it.
    Gone,
    /// It can never be read.
    Never(String),
    /// It may pass by itself, or by somebody's doing: no room for one more open file, no memory, a disk or a network that fails now, a mode
    /// that keeps us out.
    Later(io::Error),
}

impl From<io::Error> for Unread {
    fn from(e: io::Error) -> Unread {
        match e.kind() {
            io::ErrorKind::NotFound => Unread::Gone,
            _ => Unread::Later(e),
        }
    }
}

/// What to do about it.
pub(super) fn advice(e: &io::Error) -> &'static str {
    match e.kind() {
        io::ErrorKind::PermissionDenied => {
            ": the web process has to let us read it (its user, group or umask)"
        }
        _ => "",
    }
}

pub(super) fn read(path: &Path, max_bytes: u64) -> std::result::Result<Vec<u8>, Unread> {
    let no_file = || Unread::Never("it is no file".to_owned());
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32;
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        // A link or a socket cannot even be opened.
        Err(_) if fs::symlink_metadata(path).is_ok_and(|met| !met.is_file()) => return Err(no_file()),
        Err(e) => return Err(e.into()),
    };
    let met = file.metadata()?;
    if !met.is_file() {
        return Err(no_file());
    }
    if met.len() > max_bytes {
        let text = format!("it has {} bytes, and option push_max_bytes allows {max_bytes}", met.len());
        return Err(Unread::Never(text));
    }
    let mut body = Vec::new();
    file.take(max_bytes).read_to_end(&mut body)?;
    Ok(body)
}

/// A new file takes the old one's name.
pub(super) fn put(path: &Path, text: &[u8]) -> io::Result<()> {
    let new = path.with_file_name(".unwanted.new");
    let _ = fs::remove_file(&new);
    let mut file: File = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&new)?;
    // Whatever the umask is: the web process reads it.
    file.set_permissions(fs::Permissions::from_mode(0o644))?;
    file.write_all(text)?;
    fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    // A disk or a system that fails for a moment must not cost the mail that lies there whole; what will never be read must not
    // stay for ever.
    #[test]
    fn what_may_be_read_later_is_not_thrown_away() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("file"), "x".repeat(10)).unwrap();
        fs::create_dir(at("dir")).unwrap();
        std::os::unix::fs::symlink(at("file"), at("link")).unwrap();
        std::os::unix::fs::symlink(at("loop"), at("loop")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        assert_eq!(read(&at("file"), 10).unwrap(), b"xxxxxxxxxx");
        assert!(matches!(read(&at("file"), 9), Err(Unread::Never(why)) if why.contains("push_max_bytes")));
        for name in ["dir", "link", "loop", "socket"] {
            assert!(matches!(read(&at(name), 10), Err(Unread::Never(_))), "{name}");
        }
        assert!(matches!(read(&at("nothing"), 10), Err(Unread::Gone)));
        use rustix::io::Errno;
        for errno in [Errno::MFILE, Errno::NOMEM, Errno::IO, Errno::ACCESS] {
            assert!(matches!(Unread::from(io::Error::from(errno)), Unread::Later(_)), "{errno}");
        }
        // A regular file whose first byte cannot be read (EIO).
        #[cfg(target_os = "linux")]
        assert!(matches!(read(Path::new("/proc/self/mem"), 10), Err(Unread::Later(_))));
    }
}
