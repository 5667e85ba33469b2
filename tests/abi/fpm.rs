//! A page under php-fpm, with the preload file: FFI is switched off for everything else there.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ewsnotify::sim::Sim;
use rustix::process::{Pid, Signal, kill_process};

use super::hosts::{ADA, options};
use super::install::prefix;
use super::sign_in::{cookie, form};
use super::{example, program};

fn fpm() -> PathBuf {
    let found = ["/usr/sbin", "/usr/local/sbin"].iter().flat_map(std::fs::read_dir).flatten().flatten();
    let mut found = found
        .map(|e| e.path())
        .filter(|p| p.file_name().is_some_and(|name| name.to_string_lossy().starts_with("php-fpm")));
    found.next().expect("php-fpm is there: tests/run installs it")
}

/// A request as a web server makes it; what came.
fn ask(socket: &Path, page: &Path, extra: &[(&str, &str)]) -> String {
    post(socket, page, extra, "")
}

/// The same with a form, for what is asked by POST.
fn post(socket: &Path, page: &Path, extra: &[(&str, &str)], form: &str) -> String {
    let script = page.to_str().unwrap();
    let mut parameters = Vec::new();
    let mut add = |name: &str, value: &str| {
        for length in [name.len(), value.len()] {
            parameters.extend((length as u32 | 0x8000_0000).to_be_bytes());
        }
        parameters.extend(name.as_bytes());
        parameters.extend(value.as_bytes());
    };
    add("SCRIPT_FILENAME", script);
    add("REQUEST_METHOD", if form.is_empty() { "GET" } else { "POST" });
    add("CONTENT_TYPE", "application/x-www-form-urlencoded");
    add("CONTENT_LENGTH", &form.len().to_string());
    extra.iter().for_each(|(name, value)| add(name, value));
    let record = |kind: u8, content: &[u8]| {
        let mut record = vec![1, kind, 0, 1];
        record.extend((content.len() as u16).to_be_bytes());
        record.extend([0, 0]);
        record.extend(content);
        record
    };
    let mut request = record(1, &[0, 1, 0, 0, 0, 0, 0, 0]);
    request.extend(record(4, &parameters));
    request.extend(record(4, b""));
    if !form.is_empty() {
        request.extend(record(5, form.as_bytes()));
    }
    request.extend(record(5, b""));
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream.write_all(&request).unwrap();
    let mut text = Vec::new();
    loop {
        let mut head = [0; 8];
        stream.read_exact(&mut head).unwrap();
        let mut content = vec![0; usize::from(u16::from_be_bytes([head[4], head[5]])) + usize::from(head[6])];
        stream.read_exact(&mut content).unwrap();
        content.truncate(content.len() - usize::from(head[6]));
        match head[1] {
            6 | 7 => text.extend(content),
            _ => return String::from_utf8(text).unwrap(),
        }
    }
}

/// Help desks run under php-fpm, whose workers are forked from one that has preloaded the library.
#[test]
fn a_page_of_php_fpm_uses_the_library() {
    let sim = Sim::builder().user(ADA, "secret").start().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (socket, conf) = (dir.path().join("socket"), dir.path().join("fpm.conf"));
    std::fs::write(
        &conf,
        format!(
            "[global]\nerror_log = {0}/log\ndaemonize = no\n[www]\nlisten = {0}/socket\npm = static\npm.max_children = 2\nclear_env = no\n",
            dir.path().display()
        ),
    )
    .unwrap();
    let header = prefix().join("include/ewsnotify_php.h");
    let server = Command::new(fpm())
        .args(["--nodaemonize", "--allow-to-run-as-root", "--fpm-config"])
        .arg(&conf)
        .arg("-d")
        .arg(format!("opcache.preload={}", example("php/preload.php").display()))
        .args(["-d", "opcache.preload_user=root", "-d", "opcache.enable=1", "-d", "ffi.enable=preload"])
        .arg("-d")
        .arg(format!("session.save_path={}", dir.path().display()))
        .arg("-d")
        .arg(format!("ffi.preload={}", header.display()))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut server = Server(server);
    let deadline = Instant::now() + Duration::from_secs(30);
    while UnixStream::connect(&socket).is_err() {
        let log = || std::fs::read_to_string(dir.path().join("log")).unwrap_or_default();
        assert!(
            Instant::now() < deadline && server.0.try_wait().unwrap().is_none(),
            "php-fpm does not start: {}",
            log()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    let options = options(&sim).to_string();
    for round in 0..3 {
        let text = ask(&socket, &program("fpm.php"), &[("OPTIONS", &options)]);
        assert!(text.contains("\"Connected\"") && text.contains("done"), "{round}: {text}");
        assert!(!text.contains("not restricted"), "{text}");
    }
    let page = ask(&socket, &example("php/sign_in.php"), &[]);
    let sign_in = [
        ("HTTP_COOKIE", &*cookie(&page)),
        ("EWSNOTIFY_REDIRECT", "https://desk.example.test/signed_in.php"),
        (
            "EWSNOTIFY_OPTIONS",
            r#"{"user":"ada@example.test","oauth_tenant":"example.test","oauth_client_id":"desk"}"#,
        ),
    ];
    let sent = post(&socket, &example("php/sign_in.php"), &sign_in, &form(&page));
    assert!(sent.contains("Location: https://login.microsoftonline.com/example.test/"), "{sent}");
    let back = ask(&socket, &example("php/signed_in.php"), &[]);
    assert!(back.contains("begin again"), "{back}");
    let status = ask(&socket, &example("php/status.php"), &[]);
    assert!(status.contains("Nothing runs yet"), "{status}");
    // Its state directory is told to the pool's workers in a web server's way.
    #[cfg(feature = "cli")]
    {
        let state = dir.path().join("state");
        let drained = Command::new(env!("CARGO_BIN_EXE_ewsnotify"))
            .args(["drain", "--url", sim.url(), "--user", ADA, "--password-env", "PASSWORD", "--for", "5s"])
            .args(["--exit-when-drained", "--ca-file"])
            .arg(sim.ca_file().unwrap())
            .arg("--state-dir")
            .arg(&state)
            .env("PASSWORD", "secret")
            .output()
            .unwrap();
        assert!(drained.status.success(), "{drained:?}");
        let page = [("EWSNOTIFY_STATE_DIR", state.to_str().unwrap())];
        let status = ask(&socket, &example("php/status.php"), &page);
        assert!(status.contains(ADA) && status.contains("<table"), "{status}");
    }
}

/// Ends with the test, and its workers with it.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.0), Signal::TERM);
        let _ = self.0.wait();
    }
}
