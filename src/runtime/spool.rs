//! Whole messages as files of mode 0600, in `spool_dir` or in a private folder that is removed at the end.
//!
//! A file is written while its message comes. What is ahead of the host is bounded: beyond it the engine asks for no further
//! message until the host has taken some. A file that the host was told of is the host's, and counts no more.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use super::threads::lock;
use crate::proto::Base64Decoder;
use crate::spooled::{Ahead, Place, Spooled};
use crate::{Error, ErrorKind, Result};

/// How a spool is made.
#[derive(Clone, Debug, Default)]
pub(super) struct Settings {
    /// The folder; a private one where not given.
    pub dir: Option<PathBuf>,
    /// How many files may be ahead of the host.
    pub files: usize,
    /// How many bytes. What is under way still comes.
    pub bytes: u64,
    /// Whether a file must be on the disk before anybody hears of it.
    pub durable: bool,
}

pub(super) struct Spool {
    settings: Settings,
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
    pub fn new(mut settings: Settings) -> Spool {
        // A host that changes its folder later (a daemon does) finds its messages all the same.
        settings.dir = settings.dir.map(|dir| std::path::absolute(&dir).unwrap_or(dir));
        Spool {
            settings,
            ahead: Arc::default(),
            said_full: AtomicBool::new(false),
            private: Mutex::default(),
        }
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

    /// Removes the files of messages from an earlier run that nobody will ask for: all that a spool names so, but those to
    /// keep. Only for a folder that nobody else puts such files into. How many there were.
    #[cfg_attr(not(test), expect(dead_code, reason = "for the spool of a state directory"))]
    pub fn clean_orphans(&self, keep: &HashSet<PathBuf>) -> Result<usize> {
        let Some(dir) = &self.settings.dir else { return Ok(0) };
        let failed = |e| trouble("clean up", dir, &e);
        let entries = match fs::read_dir(dir) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(0),
            entries => entries.map_err(failed)?,
        };
        let keep: HashSet<&OsStr> = keep.iter().filter_map(|path| path.file_name()).collect();
        let mut removed = 0;
        for entry in entries {
            let name = entry.map_err(failed)?.file_name();
            if is_name(&name) && !keep.contains(name.as_os_str()) {
                fs::remove_file(dir.join(&name)).map_err(failed)?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// Where nothing is ahead there is always room: to wait for the host would be to wait for ever.
    fn is_full(&self) -> bool {
        let files = self.ahead.files();
        files > 0 && (files >= self.settings.files || self.ahead.bytes() >= self.settings.bytes)
    }

    fn dir(&self) -> Result<PathBuf> {
        if let Some(dir) = &self.settings.dir {
            fs::create_dir_all(dir).map_err(|e| trouble("make the folder of option spool_dir,", dir, &e))?;
            return Ok(dir.clone());
        }
        let mut private = lock(&self.private);
        if let Some(dir) = &*private {
            return Ok(dir.path().to_owned());
        }
        let made = tempfile::Builder::new().prefix("ewsnotify-").tempdir();
        let made = made.map_err(|e| trouble("make a private folder in", &std::env::temp_dir(), &e))?;
        Ok(private.insert(made).path().to_owned())
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
        let durable = self.spool.settings.durable;
        let (path, file) = self.open()?;
        if durable {
            let dir = path.parent().unwrap_or(path);
            let synced = file.sync_all().and_then(|()| File::open(dir)?.sync_all());
            synced.map_err(|e| trouble("bring to the disk", path, &e))?;
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
    use std::os::unix::fs::PermissionsExt;

    fn spool(dir: Option<&Path>) -> Spool {
        Spool::new(Settings { dir: dir.map(Path::to_owned), files: 3, bytes: 12, durable: true })
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
        let spool = spool(None);
        let file = keep(&spool, "aGVs\r\n bG8=").unwrap();
        let path = file.path().to_owned();
        assert_eq!(fs::read(&path).unwrap(), b"hello");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        drop(spool);
        assert!(!path.exists());
    }

    // A slow host would have its disk filled; or would be told of nothing any more once that many messages had come.
    #[test]
    fn it_is_full_while_the_host_has_not_taken_what_is_ahead() {
        let dir = tempfile::tempdir().unwrap();
        let spool = spool(Some(&dir.path().join("deep/er")));
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
        let spool = spool(Some(dir.path()));
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
        let e = keep(&spool(Some(&taken)), "aGVsbG8=").unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Io);
        assert!(e.to_string().contains(taken.to_str().unwrap()), "{e}");
    }

    // Every killed run would leave messages behind; and a user's own files must never be touched.
    #[test]
    fn orphans_are_removed_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("spool");
        let spool = spool(Some(&folder));
        assert_eq!(spool.clean_orphans(&HashSet::new()).unwrap(), 0, "no folder yet");
        let (kept, orphan) = (keep(&spool, "aGVsbG8=").unwrap(), keep(&spool, "aGVsbG8=").unwrap());
        let path = kept.path().to_owned();
        kept.told();
        orphan.told();
        let others = ["mine.eml", "0123456789abcdef.eml", "0123456789ABCDEF0123456789ABCDEF.eml"];
        others.iter().for_each(|name| fs::write(folder.join(name), "").unwrap());
        assert_eq!(spool.clean_orphans(&HashSet::from([path.clone()])).unwrap(), 1);
        assert!(path.exists());
        assert_eq!(names(&folder).len(), 1 + others.len());
    }

    // A daemon changes to the root folder after its start: the files would go there, and their paths lead nowhere.
    #[test]
    fn a_relative_folder_stays_where_it_was_when_the_client_was_opened() {
        let given = spool(Some(Path::new("some/where"))).settings.dir.unwrap();
        assert_eq!(given, std::env::current_dir().unwrap().join("some/where"));
    }
}
