//! A web server of the host's in the same process: it gives what came to the client, and answers what that says.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use ewsnotify::sim::Style;
use ewsnotify::{Client, ErrorKind, Event, EventKind, Next, Options, PushOutcome, Reason};

use crate::raw::{LONG, connect, notification};
use crate::watching::{ADA, server};

/// The smallest web server that a host may have. What came is kept.
pub struct Web {
    pub address: SocketAddr,
    pub bodies: Arc<Mutex<Vec<String>>>,
    stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Web {
    /// `answer` gives a status and a body.
    pub fn start(mut answer: impl FnMut(&str) -> (u16, String) + Send + 'static) -> Web {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (bodies, stopped) = (Arc::<Mutex<Vec<String>>>::default(), Arc::<AtomicBool>::default());
        let thread = std::thread::spawn({
            let (bodies, stopped) = (bodies.clone(), stopped.clone());
            move || {
                for sock in listener.incoming() {
                    if stopped.load(Ordering::SeqCst) {
                        return;
                    }
                    if let Ok(mut sock) = sock
                        && let Some(body) = body(&mut sock)
                    {
                        bodies.lock().unwrap().push(body.clone());
                        let (status, reply) = answer(&body);
                        let head = format!(
                            "HTTP/1.1 {status} x\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                            reply.len()
                        );
                        let _ = sock.write_all(&[head.as_bytes(), reply.as_bytes()].concat());
                    }
                }
            }
        });
        Web { address, bodies, stopped, thread: Some(thread) }
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        drop(connect(self.address));
        let _ = self.thread.take().unwrap().join();
    }
}

fn body(sock: &mut TcpStream) -> Option<String> {
    sock.set_read_timeout(Some(LONG)).unwrap();
    let mut text = Vec::new();
    let mut byte = [0];
    while !text.ends_with(b"\r\n\r\n") {
        sock.read_exact(&mut byte).ok()?;
        text.push(byte[0]);
    }
    let head = String::from_utf8(text).ok()?.to_ascii_lowercase();
    let length = head.lines().find_map(|l| l.strip_prefix("content-length: "))?.parse().ok()?;
    let mut body = vec![0; length];
    sock.read_exact(&mut body).ok()?;
    String::from_utf8(body).ok()
}

fn until(client: &Client, events: &mut Vec<Event>, wanted: impl Fn(&Event) -> bool) -> Event {
    loop {
        match client.next(LONG) {
            Next::Event(event) => {
                events.push(event.clone());
                if wanted(&event) {
                    return event;
                }
            }
            other => panic!("{other:?} after {events:#?}"),
        }
    }
}

// A host with a web server would have to understand SOAP, watermarks and retries itself.
#[test]
fn what_is_fed_is_told_once_and_in_order() {
    let sim = server(Style::Exchange);
    let client: Arc<Mutex<Option<Arc<Client>>>> = Arc::default();
    let web = Web::start({
        let client = client.clone();
        move |body| {
            let client = client.lock().unwrap();
            match client.as_ref().map(|client| client.push_feed(body.as_bytes())) {
                Some(Ok(fed)) => (fed.http_status, fed.reply.to_owned()),
                Some(Err(_)) => (400, String::new()),
                None => (503, String::new()),
            }
        }
    });
    let mut options = Options::new();
    options.set("url", sim.url()).unwrap().set("user", ADA).unwrap().set("password", "secret").unwrap();
    options.set("ca_file", sim.ca_file().unwrap().to_str().unwrap()).unwrap();
    options.set("mode", "push").unwrap().set("events", "NewMail").unwrap().set("fetch", "summary").unwrap();
    options.set("push_max_bytes", "65536").unwrap();
    options.set("push_url", &format!("http://{}/any/where?key=s3cret", web.address)).unwrap();
    let opened = Arc::new(Client::open(&options).unwrap());
    assert_eq!(opened.push_address(), None);
    *client.lock().unwrap() = Some(opened.clone());
    opened.watch(&Options::new()).unwrap();
    let mut events = Vec::new();
    until(&opened, &mut events, |e| e.kind == EventKind::Connected);
    for n in 0..20 {
        sim.exchange().deliver(ADA, format!("Subject: {n}\r\n\r\n").as_bytes()).unwrap();
    }
    let subject = |e: &Event| e.item.as_ref().and_then(|i| i.subject.clone());
    until(&opened, &mut events, |e| subject(e).as_deref() == Some("19"));
    let subjects: Vec<String> = events.iter().filter_map(subject).collect();
    assert_eq!(subjects, (0..20).map(|n| n.to_string()).collect::<Vec<_>>());

    // What anybody has seen on the way and sends again is known to have come.
    let bodies = web.bodies.lock().unwrap().clone();
    let with_mail: Vec<&String> = bodies.iter().filter(|b| b.contains("NewMailEvent")).collect();
    for body in &with_mail {
        let fed = opened.push_feed(body.as_bytes()).unwrap();
        assert_eq!(
            (fed.http_status, fed.messages[0].outcome, fed.messages[0].watch),
            (200, PushOutcome::Repeated, Some(1))
        );
        assert!(fed.reply.contains(">OK<"));
    }
    // And what never came before is a break, which is told.
    let id = opened.push_feed(with_mail[0].as_bytes()).unwrap().messages[0].subscription.clone().unwrap();
    let folder = sim.exchange().folder_id(ADA, "inbox").unwrap();
    let forged = notification(&id, "from-nowhere", "to-nowhere", "AAMk").replace("AAMi", &folder);
    let fed = opened.push_feed(forged.as_bytes()).unwrap();
    assert_eq!((fed.messages[0].outcome, fed.messages[0].events), (PushOutcome::Gap, 1));
    let json: serde_json::Value = serde_json::from_str(&fed.to_json()).unwrap();
    assert_eq!((&json["http_status"], &json["messages"][0]["outcome"]), (&200.into(), &"gap".into()));
    let gap = until(&opened, &mut events, |e| e.kind == EventKind::Gap);
    assert_eq!(gap.detail.unwrap().reason, Some(Reason::NotificationLost));
    // What is none or too large is refused, and nobody's is to end.
    let nobodys = notification("nobodys", "a", "b", "i");
    let padded = |length: usize| format!("{nobodys}{}", " ".repeat(length - nobodys.len()));
    assert!(opened.push_feed(padded(65_536).as_bytes()).is_ok());
    assert_eq!(opened.push_feed(padded(65_537).as_bytes()).unwrap_err().kind(), ErrorKind::Limit);
    assert_eq!(opened.push_feed(b"<html/>").unwrap_err().kind(), ErrorKind::Protocol);
    let fed = opened.push_feed(notification("nobodys", "a", "b", "i").as_bytes()).unwrap();
    assert_eq!(fed.messages[0].outcome, PushOutcome::Unknown);
    assert!(fed.reply.contains(">Unsubscribe<"));
    client.lock().unwrap().take();
    opened.close();
}
