//! Files that a web process drops into the state directory: by the end points of `ffi-examples`, and by hand.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use ewsnotify::proto::PushReply;
use ewsnotify::sim::Style;
use ewsnotify::{Client, EventKind, Next, Options, Reason};

use crate::feeding::Web;
use crate::raw::{LONG, SECRET, ask, notification, post};
use crate::watching::{ADA, Watching, server};

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("ffi-examples").join(name)
}

/// A web server that ends with the test.
struct Server(Child, SocketAddr);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn command(program: &str, state: &Path) -> Command {
    let mut command = Command::new(program);
    command.env("EWSNOTIFY_STATE_DIR", state).env("EWSNOTIFY_PUSH_SECRET", SECRET);
    command.stdin(Stdio::null()).stderr(Stdio::null());
    command
}

/// PHP's own web server, with the page for every path.
fn php(state: &Path) -> Server {
    // It takes no port 0, so one that was free a moment ago.
    for _ in 0..20 {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut command = command("php", state);
        command.args(["-S", &address.to_string()]).arg(example("php/push.php")).stdout(Stdio::null());
        let mut server = Server(command.spawn().expect("php is there: tests/run installs it"), address);
        let deadline = Instant::now() + LONG;
        while server.0.try_wait().unwrap().is_none() {
            if TcpStream::connect(address).is_ok() {
                return server;
            }
            assert!(Instant::now() < deadline, "php does not start");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    panic!("php finds no port");
}

fn python(state: &Path) -> Server {
    let mut child =
        command("python3", state).arg(example("python/push_wsgi.py")).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let port = line.trim().parse().expect("the port");
    Server(child, SocketAddr::from(([127, 0, 0, 1], port)))
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    entries.filter(|n| n.ends_with(".xml")).collect()
}

/// A watch whose notifications come in files.
fn watching(state: &Path, url: &str, more: &[(&str, &str)]) -> Watching {
    let sim = server(Style::Exchange);
    let settings = [("mode", "push"), ("push_url", url), ("state_dir", state.to_str().unwrap())];
    Watching::start(sim, &[&settings, more].concat())
}

/// A web process that does not look at what is unwanted.
fn careless(folder: &Path) -> Web {
    let (folder, mut count) = (folder.to_owned(), 0);
    Web::start(move |body| {
        count += 1;
        put(&folder, &format!("5-{count:010}"), body.as_bytes());
        (200, PushReply::Ok.body().to_owned())
    })
}

// A help desk in PHP or Python whose web pages take what Exchange sends, and whose worker is another process.
#[test]
fn the_end_points_in_php_and_python() {
    for name in ["php", "python"] {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let web = if name == "php" { php(&state) } else { python(&state) };
        let target = |secret: &str| match name {
            "php" => format!("/push.php?secret={secret}"),
            _ => format!("/push/{secret}"),
        };
        let good = notification("x", "a", "b", "i");
        // No worker has run: the server is to try again.
        assert_eq!(ask(web.1, &post(&target(SECRET), &good)).unwrap().0, 503, "{name}");
        let url = format!("http://{}{}", web.1, target(SECRET));
        let mut w = watching(&state, &url, &[]);
        w.connected();
        for _ in 0..30 {
            w.deliver();
        }
        w.settle();
        assert_eq!((w.compare(), w.count(EventKind::Gap)), (0, 0), "{name}: {:#?}", w.events);
        for (path, body, status) in [
            (target(SECRET), "<html/>", 400),
            (target("wrong"), good.as_str(), 404),
            (target(""), good.as_str(), 404),
        ] {
            let answered = ask(web.1, &post(&path, body)).unwrap();
            assert_eq!((answered.0, answered.1.as_str()), (status, ""), "{name} {path}");
        }
        let huge = format!("{}{good}", " ".repeat(1 << 20));
        // The end may come before the answer does where a server does not read on.
        let refused = ask(web.1, &post(&target(SECRET), &huge));
        assert!(refused.is_none_or(|(status, _)| status == 413), "{name}");
        // A subscription that the worker does not have is answered with OK at first, and then no more.
        let deadline = Instant::now() + LONG;
        loop {
            let (status, reply) = ask(web.1, &post(&target(SECRET), &good)).unwrap();
            assert_eq!(status, 200, "{name}");
            if reply == PushReply::Unsubscribe.body() {
                break;
            }
            assert_eq!(reply, PushReply::Ok.body(), "{name}");
            assert!(Instant::now() < deadline, "{name}");
        }
        // And so is one that has ended, though nobody is there any more.
        w.client.close();
        assert!(w.sim.wait_until(LONG, |_| w.sim.exchange().subscriptions(ADA).is_empty()), "{name}");
        assert_eq!(names(&state.join("push")), [""; 0], "{name}: all were taken");
    }
}

/// Where a test's own web server puts what came, under names that the test chooses.
pub fn put(folder: &Path, name: &str, body: &[u8]) {
    let new = folder.join(format!(".{name}.new"));
    fs::write(&new, body).unwrap();
    fs::rename(new, folder.join(format!("{name}.xml"))).unwrap();
}

// Files of all sorts: in order, half, garbage, thousands; nothing of that may be lost, told twice, or fill the disk or the queue.
#[test]
fn files_of_all_sorts() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let folder = state.join("push");
    let web = careless(&folder);
    let mut w = watching(&state, &format!("http://{}/", web.address), &[("push_max_bytes", "65536")]);
    w.connected();
    w.settle();

    // Those that come first are told first, also where they lie there for a while: here, while the folder is full of others.
    for n in 0..3000 {
        let body = notification(&format!("nobodys-{n}"), "a", "b", "i");
        put(&folder, &format!("4-{n:010}"), if n % 3 == 0 { b"<garbage" } else { body.as_bytes() });
    }
    for _ in 0..20 {
        w.deliver();
    }
    w.settle();
    assert_eq!((w.compare(), w.count(EventKind::Gap)), (0, 0));
    let told: Vec<&String> =
        w.events.iter().filter(|e| e.kind == EventKind::NewMail).filter_map(|e| e.item_id.as_ref()).collect();
    let there = w.sim.exchange().item_ids(ADA, "inbox").unwrap();
    assert_eq!(told, there.iter().collect::<Vec<_>>(), "in order");
    let errors = w.events.iter().filter(|e| e.kind == EventKind::Error).count();
    assert!((1..=40).contains(&errors), "{errors}");
    let unwanted = fs::read_to_string(folder.join("unwanted")).unwrap();
    assert!((1..=1000).contains(&unwanted.lines().count()), "bounded");

    // What is not whole is left alone, and goes when it is old; what is no file, or too large, is thrown away.
    fs::write(folder.join(".9-begun.new"), "<half").unwrap();
    fs::write(folder.join(".9-stale.new"), "<half").unwrap();
    let long_ago = SystemTime::now() - Duration::from_secs(7200);
    File::options().write(true).open(folder.join(".9-stale.new")).unwrap().set_modified(long_ago).unwrap();
    fs::write(folder.join("6-other.txt"), "nobody's").unwrap();
    fs::create_dir(folder.join("6-dir.xml")).unwrap();
    let secret = dir.path().join("passwd");
    fs::write(&secret, notification("x", "a", "b", "i")).unwrap();
    std::os::unix::fs::symlink(&secret, folder.join("6-link.xml")).unwrap();
    put(&folder, "6-large", &vec![b'x'; 70_000]);
    put(&folder, "6-empty", b"");
    w.settle();
    w.settle();
    let deadline = Instant::now() + LONG;
    let left = loop {
        let mut left: Vec<String> =
            fs::read_dir(&folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        left.retain(|n| !n.starts_with("5-") && !n.starts_with(".5-"));
        left.sort();
        if left.len() <= 3 || Instant::now() > deadline {
            break left;
        }
        w.settle();
    };
    assert_eq!(left, [".9-begun.new", "6-other.txt", "unwanted"]);
    assert!(secret.exists(), "a link is removed, not what it names");
    assert_eq!(w.count(EventKind::Gap), 0);

    // What somebody takes away is a gap; what is put there twice is none.
    let bodies = web.bodies.lock().unwrap().clone();
    let last = bodies.iter().rev().find(|b| b.contains("NewMailEvent")).unwrap();
    put(&folder, "5-again", last.as_bytes());
    w.settle();
    assert_eq!(w.count(EventKind::Gap), 0);
    w.sim.exchange().fail_push(ewsnotify::sim::exchange::PushFault::Lost);
    w.deliver();
    w.sim.wait_until(LONG, |_| w.sim.exchange().waiting_push_faults() == 0);
    w.deliver();
    let gap = w.until("a gap", |e| e.kind == EventKind::Gap);
    assert_eq!(gap.detail.unwrap().reason, Some(Reason::NotificationLost));
}

// A worker that is killed leaves a subscription that goes on: what comes of it is of no use to the next run, which must neither tell
// it twice nor miss anything.
#[test]
fn a_worker_that_starts_anew() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let folder = state.join("push");
    let web = careless(&folder);
    let sim = server(Style::Exchange);
    let mut options = Options::new();
    options.set("url", sim.url()).unwrap().set("user", ADA).unwrap().set("password", "secret").unwrap();
    options
        .set("ca_file", sim.ca_file().unwrap().to_str().unwrap())
        .unwrap()
        .set("events", "NewMail")
        .unwrap();
    options.set("mode", "push").unwrap().set("push_url", &format!("http://{}/", web.address)).unwrap();
    options.set("state_dir", state.to_str().unwrap()).unwrap();
    let mut mails = Vec::new();
    let mut told = Vec::new();
    for run in 0..4 {
        let client = Client::open(&options).unwrap();
        client.watch(&Options::new()).unwrap();
        let mut drained = false;
        loop {
            match client.next(LONG) {
                Next::Event(event) if event.kind == EventKind::NewMail => told.push(event.item_id.unwrap()),
                Next::Event(event) => drained |= event.kind == EventKind::Drained,
                other => panic!("{other:?} in run {run}"),
            }
            // What came while nobody was there, and then some that come live.
            if drained && told.len() == mails.len() {
                if mails.len() == 7 * run + 4 {
                    break;
                }
                mails.push(sim.exchange().deliver(ADA, b"Subject: live\r\n\r\n").unwrap());
            }
        }
        // What the last one was given is acknowledged by the question for more.
        assert!(!matches!(client.next(Duration::ZERO), Next::Closed));
        client.close();
        let files = names(&folder).len();
        for _ in 0..3 {
            mails.push(sim.exchange().deliver(ADA, b"Subject: meanwhile\r\n\r\n").unwrap());
        }
        assert!(sim.wait_until(LONG, |_| names(&folder).len() > files), "the web process goes on");
    }
    told.sort();
    let mut wanted: Vec<String> = mails[..mails.len() - 3].to_vec();
    wanted.sort();
    assert_eq!(told, wanted, "each once");
}

// A disk that takes nothing: the server is told to try again, the worker says so and goes on when there is room.
#[test]
fn what_cannot_be_written_is_told_and_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let folder = state.join("push");
    let web = careless(&folder);
    let mut w = watching(&state, &format!("http://{}/", web.address), &[]);
    w.connected();
    // In the way of the new file, and not to be removed as one.
    fs::create_dir_all(folder.join(".unwanted.new/x")).unwrap();
    put(&folder, "4-1", notification("nobodys", "a", "b", "i").as_bytes());
    let told = w.until("an error", |e| e.kind == EventKind::Error);
    assert!(told.detail.unwrap().message.unwrap().contains("unwanted"));
    w.settle();
    fs::remove_dir_all(folder.join(".unwanted.new")).unwrap();
    let deadline = Instant::now() + LONG;
    while !fs::read_to_string(folder.join("unwanted")).is_ok_and(|text| text == "nobodys\n") {
        assert!(Instant::now() < deadline);
        w.settle();
    }
    assert_eq!(w.count(EventKind::Error), 1);
}
