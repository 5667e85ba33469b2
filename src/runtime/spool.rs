//! Whole messages as files of mode 0600: in `spool_dir`, else in the state directory, else in a private folder.
//!
//! A file is written while its message comes. What is ahead of the host is bounded: beyond it the engine asks for no further
//! message until the host has taken some. A file that the host was told of is the host's, and counts no more.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::threads::lock;
use crate::proto::Base64Decoder;
use crate::spooled::{Ahead, Place, Spooled};
use crate::{Error, ErrorKind, Result};

/// How a spool is made.
#[derive(Clone, Debug, Default)]
pub(super) struct Settings {
    pub folder: Folder,
    /// How many files may be ahead of the host.
    pub files: usize,
    /// How many bytes. What is under way still comes.
    pub bytes: u64,
}

/// Where the files are.
#[derive(Clone, Debug, Default)]
pub(super) enum Folder {
    /// A private one among the system's temporary files. It goes with the spool.
    #[default]
    Private,
    /// The state directory's, which is this client's alone. A restart fetches anew what nobody has acknowledged, so what lies
    /// there at the start belongs to nobody; it is emptied at the start, and with the spool.
    State(PathBuf),
    /// The host's: what it was told of is its own.
    Host(PathBuf),
}

pub(super) struct Spool {
    settings: Settings,
    /// The process that made it: a forked child's copy must leave the files alone.
    owner: u32,
    ahead: Arc<Ahead>,
    /// What the engine heard last.
    said_full: AtomicBool,
    private: Mutex<Option<tempfile::TempDir>>,
}

/// Writes one message. Unless it is finished, its file goes with it.
pub(super) struct Writer<'a> {
    spool: &'a Spool,
    most: u64,
    place: Option<Place>,
    decoder: Base64Decoder,
    file: Target<'a>,
}

/// The file of a [`Writer`], made with the first bytes.
struct Target<'a> {
    spool: &'a Spool,
    open: Option<(PathBuf, File)>,
    size: u64,
}

impl Spool {
    /// The state directory must be ours by now.
    pub fn open(mut settings: Settings) -> Result<Spool> {
        // A host that changes its folder later (a daemon does) finds its messages all the same.
        if let Folder::State(dir) | Folder::Host(dir) = &mut settings.folder
            && let Ok(path) = std::path::absolute(&dir)
        {
            *dir = path;
        }
        if let Folder::State(dir) = &settings.folder {
            empty(dir)?;
        }
        Ok(Spool {
            settings,
            owner: std::process::id(),
            ahead: Arc::default(),
            said_full: AtomicBool::new(false),
            private: Mutex::default(),
        })
    }

    /// A place for a message that is about to be asked for.
    pub fn place(&self) -> Place {
        Place::new(&self.ahead)
    }

    /// Takes a message of at most so many bytes.
    pub fn writer(&self, most: u64, place: Option<Place>) -> Writer<'_> {
        let file = Target { spool: self, open: None, size: 0 };
        Writer { spool: self, most, place, decoder: Base64Decoder::default(), file }
    }

    /// Whether it is full, if that is not what was said last; now it is.
    pub fn news(&self) -> Option<bool> {
        let full = self.is_full();
        (self.said_full.swap(full, Ordering::SeqCst) != full).then_some(full)
    }

    /// Where nothing is ahead there is always room: to wait for the host would be to wait for ever.
    fn is_full(&self) -> bool {
        let files = self.ahead.files();
        files > 0 && (files >= self.settings.files || self.ahead.bytes() >= self.settings.bytes)
    }

    fn dir(&self) -> Result<PathBuf> {
        if let Folder::State(dir) | Folder::Host(dir) = &self.settings.folder {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
            made.map_err(|e| trouble("make the folder for messages,", dir, &e))?;
            return Ok(dir.clone());
        }
        let mut private = lock(&self.private);
        if let Some(dir) = private.take() {
            if is_ours(dir.path()) {
                return Ok(private.insert(dir).path().to_owned());
            }
            // Temporary files are cleaned up behind our back; and what has the name now is somebody else's.
            std::mem::forget(dir);
        }
        let only_ours = fs::Permissions::from_mode(0o700);
        let made = tempfile::Builder::new().prefix("ewsnotify-").permissions(only_ours).tempdir();
        let made = made.map_err(|e| trouble("make a private folder in", &std::env::temp_dir(), &e))?;
        Ok(private.insert(made).path().to_owned())
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        let private = self.private.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if self.owner != std::process::id() {
            std::mem::forget(private);
        } else if let Folder::State(dir) = &self.settings.folder {
            // The next start tries again.
            let _ = empty(dir);
        }
    }
}

impl Writer<'_> {
    /// Takes some of the message's base64.
    ///
    /// Errors: `Limit` for a message that is too large, `Protocol` for no base64, `Io` for what the disk says.
    pub fn write(&mut self, base64: &[u8]) -> Result<()> {
        let Writer { decoder, file, place, most, .. } = self;
        decoder.push(base64, &mut |plain| file.write(plain, *most, place))
    }

    /// Forgets what came: it was another's.
    pub fn begin_anew(&mut self) {
        self.decoder = Base64Decoder::default();
        self.file = Target { spool: self.spool, open: None, size: 0 };
        if let Some(place) = &mut self.place {
            place.resize(0);
        }
    }

    /// The whole message is here.
    pub fn finish(self) -> Result<Spooled> {
        let Writer { decoder, mut file, mut place, most, .. } = self;
        decoder.finish(&mut |plain| file.write(plain, most, &mut place))?;
        Ok(Spooled::new(file.close()?, place))
    }
}

impl Target<'_> {
    fn write(&mut self, plain: &[u8], most: u64, place: &mut Option<Place>) -> Result<()> {
        self.size += plain.len() as u64;
        if self.size > most {
            let text = format!("the message is larger than {most} bytes (option max_item_bytes)");
            return Err(Error::too_large(text));
        }
        let (path, file) = self.open()?;
        file.write_all(plain).map_err(|e| trouble("write the message to", path, &e))?;
        if let Some(place) = place {
            place.resize(self.size);
        }
        Ok(())
    }

    fn open(&mut self) -> Result<(&Path, &mut File)> {
        let open = match self.open.take() {
            Some(open) => open,
            None => create(&self.spool.dir()?)?,
        };
        let (path, file) = self.open.insert(open);
        Ok((path, file))
    }

    fn close(mut self) -> Result<PathBuf> {
        let durable = matches!(self.spool.settings.folder, Folder::Host(_));
        let (path, file) = self.open()?;
        // The host will say that it has dealt with the event, and the message is not fetched again.
        if durable {
            let folder = path.parent().unwrap_or(path);
            let synced = file.sync_all().and_then(|()| File::open(folder)?.sync_all());
            synced.map_err(|e| trouble("sync the message in", path, &e))?;
        }
        let path = path.to_owned();
        self.open = None;
        Ok(path)
    }
}

impl Drop for Target<'_> {
    fn drop(&mut self) {
        // Half a message is worse than none.
        if let Some((path, _)) = &self.open {
            let _ = fs::remove_file(path);
        }
    }
}

/// Whether a private folder is still there, and still ours.
fn is_ours(dir: &Path) -> bool {
    let met = fs::symlink_metadata(dir);
    met.is_ok_and(|met| met.is_dir() && met.uid() == rustix::process::geteuid().as_raw())
}

/// A new file that nobody else can have opened, or foreseen.
fn create(dir: &Path) -> Result<(PathBuf, File)> {
    for _ in 0..16 {
        // Keyed by the system's random source.
        let (a, b) = (RandomState::new().hash_one(0), RandomState::new().hash_one(1));
        let path = dir.join(format!("{a:016x}{b:016x}.eml"));
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
            Ok(file) => return Ok((path, file)),
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(trouble("make the file", &path, &e)),
        }
    }
    Err(Error::new(ErrorKind::Io, format!("cannot find a free name for a message in {}", dir.display())))
}

/// Removes all that [`create`] has made there, and nothing else.
fn empty(dir: &Path) -> Result<()> {
    let failed = |e| trouble("clean up", dir, &e);
    let entries = match fs::read_dir(dir) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(failed)?,
    };
    for entry in entries {
        let name = entry.map_err(failed)?.file_name();
        if is_name(&name) {
            fs::remove_file(dir.join(&name)).map_err(failed)?;
        }
    }
    Ok(())
}

/// Whether [`create`] makes such names.
fn is_name(name: &OsStr) -> bool {
    let stem = name.to_str().and_then(|name| name.strip_suffix(".eml"));
    stem.is_some_and(|stem| stem.len() == 32 && stem.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')))
}

fn trouble(what: &str, path: &Path, e: &std::io::Error) -> Error {
    Error::new(ErrorKind::Io, format!("cannot {what} {}: {e}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spool(folder: Folder) -> Spool {
        Spool::open(Settings { folder, files: 3, bytes: 12 }).unwrap()
    }

    fn hosts(dir: &Path) -> Spool {
        spool(Folder::Host(dir.to_owned()))
    }

    fn keep(spool: &Spool, base64: &str) -> Result<Spooled> {
        let mut writer = spool.writer(1 << 20, Some(spool.place()));
        for piece in base64.as_bytes().chunks(3) {
            writer.write(piece)?;
        }
        writer.finish()
    }

    fn names(dir: &Path) -> Vec<String> {
        fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
    }

    // A message must not be read by other users of the machine, and must not outlive the client.
    #[test]
    fn files_are_private_and_go_with_the_client() {
        let spool = spool(Folder::Private);
        let file = keep(&spool, "aGVs\r\n bG8=").unwrap();
        let path = file.path().to_owned();
        assert_eq!(fs::read(&path).unwrap(), b"hello");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        drop(spool);
        assert!(!path.exists());
    }

    // The system removes old temporary files: a client that runs for weeks would lose every message from then on.
    #[test]
    fn a_private_folder_that_was_cleaned_up_is_made_anew() {
        let spool = spool(Folder::Private);
        let first = keep(&spool, "aGVsbG8=").unwrap();
        let dir = first.path().parent().unwrap().to_owned();
        fs::remove_dir_all(&dir).unwrap();
        let second = keep(&spool, "aGVsbG8=").unwrap();
        assert_eq!(fs::read(second.path()).unwrap(), b"hello");
        // What stands in its place is nobody's that we know.
        let taken = second.path().parent().unwrap().to_owned();
        fs::remove_dir_all(&taken).unwrap();
        std::os::unix::fs::symlink("/", &taken).unwrap();
        let third = keep(&spool, "aGVsbG8=").unwrap();
        assert_ne!(third.path().parent(), Some(&*taken));
        drop(spool);
        assert!(!third.path().exists());
        fs::remove_file(taken).unwrap();
    }

    // A slow host would have its disk filled; or would be told of nothing any more once that many messages had come.
    #[test]
    fn it_is_full_while_the_host_has_not_taken_what_is_ahead() {
        let dir = tempfile::tempdir().unwrap();
        let spool = hosts(&dir.path().join("deep/er"));
        assert_eq!(spool.news(), None);
        let begun = spool.place();
        let one = keep(&spool, "aGVsbG8=").unwrap();
        assert_eq!(spool.news(), None);
        let two = keep(&spool, "aGVsbG8=").unwrap();
        assert_eq!((spool.news(), spool.news()), (Some(true), None), "three files");
        drop(begun);
        assert_eq!(spool.news(), Some(false));
        let three = keep(&spool, "aGVsbG8=").unwrap();
        one.told();
        assert_eq!(spool.news(), None, "two files of five bytes");
        let mut big = spool.writer(1 << 20, Some(spool.place()));
        two.told();
        three.told();
        big.write("aGVsbG8h".repeat(4000).as_bytes()).unwrap();
        assert_eq!(spool.news(), Some(true), "more bytes than may be ahead");
        big.begin_anew();
        assert_eq!(spool.news(), Some(false));
        big.write(b"aGVsbG8=").unwrap();
        drop(big.finish().unwrap());
        assert_eq!((spool.ahead.files(), spool.ahead.bytes()), (0, 0));
        assert_eq!(names(&dir.path().join("deep/er")).len(), 3, "those that the host was told of");
    }

    // Half a message would be taken for a whole one, or lie there for ever.
    #[test]
    fn what_is_not_finished_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let spool = hosts(dir.path());
        let long = "aGVsbG8h".repeat(4000);
        let mut cancelled = spool.writer(1 << 20, None);
        cancelled.write(long.as_bytes()).unwrap();
        assert_eq!(names(dir.path()).len(), 1);
        drop(cancelled);
        let mut large = spool.writer(24_000, Some(spool.place()));
        large.write(long.as_bytes()).unwrap();
        drop(large.finish().unwrap());
        let mut large = spool.writer(23_999, Some(spool.place()));
        large.write(long.as_bytes()).unwrap();
        let e = large.finish().unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Limit);
        assert!(e.to_string().contains("max_item_bytes"), "{e}");
        for bad in ["!", "aGVsbG8", "aGVsbG8=aGVs", &format!("{long}=")] {
            assert_eq!(keep(&spool, bad).unwrap_err().kind(), ErrorKind::Protocol, "{bad}");
        }
        assert_eq!(names(dir.path()), [""; 0]);
        assert_eq!((spool.ahead.files(), spool.ahead.bytes()), (0, 0));
    }

    // A spool that cannot be written to must say where and why, not only that something failed.
    #[test]
    fn an_unwritable_folder_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let taken = dir.path().join("taken");
        fs::write(&taken, "a file").unwrap();
        let e = keep(&hosts(&taken), "aGVsbG8=").unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Io);
        assert!(e.to_string().contains(taken.to_str().unwrap()), "{e}");
    }

    // Every run that is killed would leave messages behind, and one that ends too; but a user's own files must never be
    // touched, nor what a host was told of in its own folder.
    #[test]
    fn a_state_directorys_spool_is_emptied_at_the_start_and_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("spool");
        let ours = || spool(Folder::State(folder.clone()));
        let killed = ours();
        keep(&killed, "aGVsbG8=").unwrap().told();
        assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
        std::mem::forget(killed);
        let others = ["mine.eml", "0123456789abcdef.eml", "0123456789ABCDEF0123456789ABCDEF.eml"];
        others.iter().for_each(|name| fs::write(folder.join(name), "").unwrap());
        let next = ours();
        assert_eq!(names(&folder).len(), others.len(), "emptied at the start");
        keep(&next, "aGVsbG8=").unwrap().told();
        assert_eq!(names(&folder).len(), 1 + others.len());
        drop(next);
        assert_eq!(names(&folder).len(), others.len(), "emptied at the end");

        keep(&hosts(&folder), "aGVsbG8=").unwrap().told();
        drop(hosts(&folder));
        assert_eq!(names(&folder).len(), 1 + others.len(), "a host's own folder");
    }

    // A daemon changes to the root folder after its start: the files would go there, and their paths lead nowhere.
    #[test]
    fn a_relative_folder_stays_where_it_was_when_the_client_was_opened() {
        let spool = hosts(Path::new("some/where"));
        let Folder::Host(dir) = &spool.settings.folder else { unreachable!("it is the host's") };
        assert_eq!(*dir, std::env::current_dir().unwrap().join("some/where"));
    }
}
