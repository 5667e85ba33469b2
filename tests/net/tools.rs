//! Other people's servers, as Debian has them, each on a free port.

use std::fs::File;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::server::DEADLINE;

/// A program of the machine's, also where users do not look for one.
pub fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    let found =
        path.split(':').chain(["/usr/sbin", "/usr/local/sbin", "/sbin"]).map(|dir| Path::new(dir).join(name));
    let found = found.into_iter().find(|file| file.is_file());
    if found.is_none() {
        println!("{name} is not here (tests/run installs it): nothing was tried");
    }
    found
}

/// A server under way. It ends with this.
pub struct Daemon {
    child: Child,
    pub port: u16,
    dir: tempfile::TempDir,
}

impl Daemon {
    /// `command` is what starts it, for a folder and a port; `None` where the program is not here. The port was free a moment ago: if
    /// somebody else was quicker, another one is tried.
    pub fn start(name: &str, command: impl Fn(&mut Command, &Path, u16)) -> Option<Daemon> {
        let file = program(name)?;
        for _ in 0..10 {
            let dir = tempfile::tempdir().unwrap();
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let log = || {
                Stdio::from(File::options().append(true).create(true).open(dir.path().join("log")).unwrap())
            };
            let mut start = Command::new(&file);
            start.stdin(Stdio::null()).stdout(log()).stderr(log());
            command(&mut start, dir.path(), port);
            let child = start.spawn().unwrap();
            let mut daemon = Daemon { child, port, dir };
            if daemon.is_up() {
                return Some(daemon);
            }
            println!("{name} did not start: {}", daemon.log());
        }
        panic!("{name} does not start");
    }

    fn is_up(&mut self) -> bool {
        let end = Instant::now() + DEADLINE;
        while Instant::now() < end && self.child.try_wait().unwrap().is_none() {
            if TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                return self.child.try_wait().unwrap().is_none();
            }
            thread::sleep(Duration::from_millis(5));
        }
        false
    }

    /// What it has written.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
