//! The folder `push` of the state directory against whoever may write into it: what is no notification must not stop what is.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use ewsnotify::proto::PushReply;
use ewsnotify::sim::Style;
use ewsnotify::{Event, EventKind};
use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::drops::put;
use crate::feeding::Web;
use crate::raw::notification;
use crate::watching::{Watching, server};

/// A watch whose notifications come in files, and who puts them there.
fn watching(state: &Path) -> (Watching, Web) {
    let folder = state.join("push");
    let web = Web::start({
        let mut count = 0;
        move |body| {
            count += 1;
            match folder.is_dir() {
                true => put(&folder, &format!("5-{count:010}"), body.as_bytes()),
                false => return (503, String::new()),
            }
            (200, PushReply::Ok.body().to_owned())
        }
    });
    let url = format!("http://{}/", web.address);
    let settings = [
        ("mode", "push"),
        ("push_url", url.as_str()),
        ("state_dir", state.to_str().unwrap()),
        ("push_silence", "5s"),
    ];
    (Watching::start(server(Style::Exchange), &settings), web)
}

fn pipe(path: &Path) {
    mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
}

// A pipe that nobody writes to would hang the worker for ever, a huge file fill its memory, a link give away what it names.
#[test]
fn what_is_no_file_or_no_notification() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let folder = state.join("push");
    fs::create_dir_all(&folder).unwrap();
    let at = |name: &str| folder.join(name);
    // Also where our own file should be.
    pipe(&at("unwanted"));
    let outside = dir.path().join("outside");
    fs::write(&outside, notification("x", "a", "b", "i")).unwrap();

    File::create(at("4-huge.xml")).unwrap().set_len(1 << 40).unwrap();
    pipe(&at("4-pipe.xml"));
    symlink("/dev/zero", at("4-zero.xml")).unwrap();
    symlink(at("4-loop.xml"), at("4-loop.xml")).unwrap();
    symlink(at("nothing"), at("4-dangling.xml")).unwrap();
    symlink(&outside, at("4-outside.xml")).unwrap();
    let _socket = UnixListener::bind(at("4-socket.xml")).unwrap();
    fs::create_dir_all(at("4-full.xml/x")).unwrap();
    let good = notification("nobodys", "a", "b", "i");
    fs::write(at("4-half.xml"), &good[..good.len() / 2]).unwrap();
    fs::write(at("4-binary.xml"), [0, 255, 254, 0]).unwrap();
    fs::write(at(&format!("4-{}.xml", "x".repeat(249))), &good).unwrap();
    let no_text = folder.join(OsStr::from_bytes(b"4-\xff\xfe.xml"));
    fs::write(&no_text, &good).unwrap();

    let (mut w, _web) = watching(&state);
    w.connected();
    for _ in 0..5 {
        w.deliver();
    }
    w.settle();
    assert_eq!((w.compare(), w.count(EventKind::Gap)), (0, 0), "{:#?}", w.events);
    let mut left: Vec<String> = fs::read_dir(&folder)
        .unwrap()
        .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    left.retain(|name| !name.starts_with("5-") && !name.starts_with(".5-"));
    left.sort();
    // What cannot be removed is told, and passed by.
    assert_eq!(left, ["4-full.xml", "unwanted"]);
    assert_eq!(fs::read_to_string(at("unwanted")).unwrap(), "nobodys\n", "those two were taken");
    assert!(outside.exists(), "a link is removed, not what it names");
    let errors = w.events.iter().filter(|e| e.kind == EventKind::Error);
    let told: Vec<String> = errors.filter_map(|e| e.detail.as_ref()?.message.clone()).collect();
    assert!(told.iter().any(|t| t.contains("4-full.xml") && t.contains("passed by")), "{told:#?}");
    assert!((1..10).contains(&told.len()), "of each kind one: {told:#?}");
}

// Others may look after the folder, too: a script that tidies up, an administrator who moves it. What vanishes is no trouble, and
// what is back is taken.
#[test]
fn what_vanishes() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let folder = state.join("push");
    let (mut w, _web) = watching(&state);
    w.connected();
    w.settle();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let body = notification("nobodys", "a", "b", "i");
            for n in 0.. {
                let name = format!("4-{}", n % 50);
                put(&folder, &name, body.as_bytes());
                let _ = fs::remove_file(folder.join(format!("{name}.xml")));
                if done.load(Ordering::SeqCst) {
                    return;
                }
            }
        });
        for _ in 0..10 {
            w.deliver();
            w.settle();
        }
        done.store(true, Ordering::SeqCst);
    });
    assert_eq!(
        (w.compare(), w.count(EventKind::Gap), w.count(EventKind::Error)),
        (0, 0, 0),
        "{:#?}",
        w.events
    );

    let away = state.join("away");
    fs::rename(&folder, &away).unwrap();
    w.until("the folder's absence", |e| message(e).is_some_and(|m| m.contains("cannot read the folder")));
    w.deliver();
    fs::rename(&away, &folder).unwrap();
    w.settle();
    w.compare();
    // And perhaps one that our own list could not be written meanwhile.
    assert!(w.count(EventKind::Error) <= 2, "{:#?}", w.events);
}

fn message(event: &Event) -> Option<&str> {
    event.detail.as_ref().filter(|_| event.kind == EventKind::Error)?.message.as_deref()
}
