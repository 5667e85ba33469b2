//! Many mailboxes of one domain, whose server is asked for together.
#![cfg(feature = "sim")]

#[path = "common/company.rs"]
mod company;

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::time::Duration;

use company::{ADA, Company};
use ewsnotify::sim::exchange::Guide;
use ewsnotify::sim::fault::{Action, Fault};
use ewsnotify::{Client, Event, EventKind, Next, Options};

const LIMIT: Duration = Duration::from_secs(60);
const SECRET: &str = "s3cret";
const MANY: usize = 100;

/// One mailbox is found already; then all workers are held up, until `release`, while many more mailboxes are added.
struct Desk {
    company: Company,
    client: Client,
    /// Connections come about, and nobody ever says a word.
    silent: Option<TcpListener>,
    _hanging: TcpListener,
    workers: usize,
    watches: Vec<u64>,
}

fn name(n: usize) -> String {
    format!("box{n}@example.test")
}

impl Desk {
    fn new(workers: usize) -> Desk {
        let company = Company::start(SECRET, |b| b);
        let [silent, hanging] = ["127.0.0.1:0"; 2].map(|at| TcpListener::bind(at).unwrap());
        let connect_to = format!(
            "silent.example.test:443:{},hanging.example.test:443:{},{}",
            silent.local_addr().unwrap(),
            hanging.local_addr().unwrap(),
            company.connect_to()
        );
        let mut options = Options::new();
        for (key, value) in [
            ("user", ADA),
            ("password", SECRET),
            ("ca_file", &company.ca_file()),
            ("connect_to", &connect_to),
            ("connect_timeout", "10m"),
            ("access", "impersonate"),
            ("workers", &workers.to_string()),
        ] {
            options.set(key, value).unwrap();
        }
        let client = Client::open(&options).unwrap();
        let (silent, watches) = (Some(silent), Vec::new());
        let desk = Desk { company, client, silent, _hanging: hanging, workers, watches };
        desk.watch(ADA);
        desk.until(|e| e.kind == EventKind::Connected);
        desk
    }

    fn watch(&self, mailbox: &str) -> u64 {
        self.client.watch(Options::new().set("mailbox", mailbox).unwrap()).unwrap()
    }

    /// Adds the mailboxes, which wait behind one that holds a worker up, for each worker.
    fn add_many(&mut self) {
        for n in 0..self.workers {
            self.watch(&format!("slow{n}@silent.example.test"));
        }
        for n in 0..MANY {
            self.company.sim.exchange().add_mailbox(&name(n));
            self.watches.push(self.watch(&name(n)));
        }
    }

    /// Those who hold the workers up are refused.
    fn release(&mut self) {
        self.silent = None;
    }

    fn until(&self, mut enough: impl FnMut(&Event) -> bool) {
        loop {
            match self.client.next(LIMIT) {
                Next::Event(event) if enough(&event) => return,
                Next::Event(_) => {}
                other => panic!("{other:?}: {:?}", self.client.status()),
            }
        }
    }

    /// Which of the many were connected, and which were given up, until so many were.
    fn heard(&self, connected: usize, closed: usize) -> [BTreeSet<usize>; 2] {
        let mut heard = [BTreeSet::new(), BTreeSet::new()];
        self.until(|e| {
            let of = self.watches.iter().position(|w| *w == e.watch);
            match e.kind {
                EventKind::Connected => heard[0].extend(of),
                EventKind::Closed => heard[1].extend(of),
                _ => {}
            }
            heard[0].len() == connected && heard[1].len() == closed
        });
        heard
    }

    /// For how many mailboxes each answered question asked, in ascending order; without those that asked for this one alone.
    fn questions(&self, but_for: &str) -> Vec<usize> {
        let requests = self.company.sim.requests();
        let answered = requests.iter().filter(|r| r.operation == "GetUserSettings" && r.status == Some(200));
        let bodies = answered.map(|r| String::from_utf8_lossy(&r.body));
        let count = |body: &str| body.matches("<a:Mailbox>").count();
        let wanted = bodies.filter(|body| count(body) > 1 || !body.contains(but_for));
        let mut counts: Vec<usize> = wanted.map(|body| count(&body)).collect();
        counts.sort_unstable();
        counts
    }
}

// A program that adds ten thousand mailboxes asked ten thousand questions, and its server throttled it. What is wrong with one of
// them is that one's affair: one that is not known, one that is elsewhere, one whose elsewhere does not answer.
#[test]
fn mailboxes_of_a_domain_are_asked_for_together() {
    let mut desk = Desk::new(2);
    let (unknown, moved, hanging) = (7, 8, 9);
    let exchange = desk.company.sim.exchange();
    exchange.guide(&name(unknown), Guide::Refuse("InvalidUser".into()));
    exchange.guide(&name(moved), Guide::RedirectAddress("box8@mail.example.test".into()));
    let (external, grouping) = (Some(company::EWS.to_owned()), Some("EX1".into()));
    exchange.guide("box8@mail.example.test", Guide::Settings { external, internal: None, grouping });
    exchange.guide(&name(hanging), Guide::RedirectAddress("box9@hanging.example.test".into()));
    desk.add_many();
    desk.release();
    let [connected, closed] = desk.heard(MANY - 2, 1);
    assert!(!connected.contains(&unknown) && !connected.contains(&hanging), "{connected:?}");
    assert_eq!(closed, BTreeSet::from([unknown]));
    // The first one; the many; the one that is not known, at the other name of the domain; and the one that is elsewhere. The one that hangs
    // may be looked for anew by now.
    assert_eq!(desk.questions(&name(hanging)), [1, 1, 1, 10, 90]);
}

// Not every server takes a list, nor one so long: nobody may stay without a server for that.
#[test]
fn where_lists_are_refused_each_is_asked_for_alone() {
    let mut desk = Desk::new(1);
    desk.company.sim.exchange().configure(|s| s.max_users = 1);
    desk.add_many();
    desk.release();
    desk.heard(MANY, 0);
    let mut questions = vec![1; 1 + MANY];
    questions.push(90);
    assert_eq!(desk.questions("nobody"), questions, "no second list");
}

// Each of those that a question asks for waits for its answer: one that is forgotten at the end would never be told.
#[test]
fn closing_ends_a_question_for_many_at_once() {
    let mut desk = Desk::new(1);
    desk.company.sim.add_fault(Fault::new(Action::NoAnswer).on("GetUserSettings").always());
    desk.add_many();
    desk.release();
    let challenge = ("GetUserSettings".to_owned(), 401);
    assert!(desk.company.sim.wait_until(LIMIT, |s| s.requests.get(&challenge).is_some_and(|n| *n == 2)));
    assert!(desk.client.close_within(Duration::ZERO), "every thread has ended");
    let mut closed: Vec<u64> =
        desk.client.events().filter(|e| e.kind == EventKind::Closed).map(|e| e.watch).collect();
    closed.sort_unstable();
    let all: Vec<u64> = (0..=1 + 1 + MANY as u64).collect();
    assert_eq!(closed, all);
}
