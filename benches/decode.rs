//! How fast the envelopes of a stream are read: `cargo bench --bench decode`.
//!
//! Framing alone; the library's way (framer and decoder); the `xml` crate for every envelope; quick-xml with namespaces
//! resolved into the same owned values. CPU time of one thread, medians of
//! alternating rounds; framing is in each of the figures.

use std::hint::black_box;
use std::time::Duration;

use ewsnotify::proto::{Body, FrameLimits, Framer, NoticeKind, Notification, StreamDecoder, read_envelope};
use forms::{FORMS, Form};
use rustix::time::{ClockId, clock_gettime};

#[path = "../tests/proto_support/forms.rs"]
mod forms;
mod quick;

const ROUNDS: usize = 11;
/// As much as a read of a socket gives.
const PIECE: usize = 16 << 10;

fn main() {
    println!("events per second (framing included), medians of {ROUNDS} rounds");
    println!(
        "{:<22}{:>8}{:>9}{:>12}{:>12}{:>12}{:>12}{:>14}{:>12}",
        "stream", "B/event", "MB/s", "framing", "ours", "quick-xml", "xml crate", "ours/quick", "ours/xml"
    );
    for form in FORMS {
        for events in [1, 10, 100] {
            run(&format!("{form:?}, {events} an envelope"), &Stream::of(form, events));
        }
        run(&format!("{form:?}, mixed"), &Stream::mixed(form));
    }
}

struct Stream {
    bytes: Vec<u8>,
    events: usize,
    /// A part of it for the slowest.
    short: Vec<u8>,
    short_events: usize,
}

impl Stream {
    /// New mails of one subscription.
    fn of(form: Form, events: usize) -> Stream {
        let mut rng = fastrand::Rng::with_seed(1);
        let subscription_id = form.subscription_id(&mut rng);
        Stream::build(20_000, || {
            let notices = (0..events).map(|n| {
                let kind = if n % 2 == 0 { NoticeKind::NewMail } else { NoticeKind::Created };
                item(form, &mut rng, kind)
            });
            let notices = notices.collect();
            let notification =
                Notification { subscription_id: subscription_id.clone(), notices, ..Notification::default() };
            (form.notifications(&[notification]), events)
        })
    }

    /// Deliveries into the mailboxes of 200 subscriptions at random: Created, NewMail and the folder's Modified.
    fn mixed(form: Form) -> Stream {
        let mut rng = fastrand::Rng::with_seed(2);
        let ids: Vec<String> = (0..200).map(|_| form.subscription_id(&mut rng)).collect();
        Stream::build(20_000, || {
            let mut folder = item(form, &mut rng, NoticeKind::Modified);
            folder.target = Some(ewsnotify::proto::Target::Folder(form.id(&mut rng, false)));
            folder.unread_count = Some(rng.i32(0..500));
            let kinds = [NoticeKind::Created, NoticeKind::NewMail];
            let mut notices: Vec<_> = kinds.into_iter().map(|kind| item(form, &mut rng, kind)).collect();
            notices.push(folder);
            let subscription_id = ids[rng.usize(..ids.len())].clone();
            (form.notifications(&[Notification { subscription_id, notices, ..Notification::default() }]), 3)
        })
    }

    fn build(at_least: usize, mut envelope: impl FnMut() -> (String, usize)) -> Stream {
        let mut stream = Stream { bytes: Vec::new(), events: 0, short: Vec::new(), short_events: 0 };
        while stream.events < at_least {
            let (xml, events) = envelope();
            stream.bytes.extend_from_slice(xml.as_bytes());
            stream.events += events;
            if stream.short_events < at_least / 20 {
                stream.short.extend_from_slice(xml.as_bytes());
                stream.short_events += events;
            }
        }
        stream
    }
}

fn item(form: Form, rng: &mut fastrand::Rng, kind: NoticeKind) -> ewsnotify::proto::Notice {
    let mut notice = form.random_notice(rng, kind);
    notice.target = Some(ewsnotify::proto::Target::Item(form.id(rng, true)));
    notice.unread_count = None;
    notice
}

fn run(name: &str, stream: &Stream) {
    let mut times: [Vec<f64>; 4] = Default::default();
    for _ in 0..ROUNDS {
        let each = [
            time(&stream.bytes, stream.events, |envelope| black_box(envelope).len().min(1), false),
            {
                let mut decoder = StreamDecoder::new();
                time(&stream.bytes, stream.events, |envelope| count(decoder.decode(envelope).ok()), true)
            },
            time(
                &stream.bytes,
                stream.events,
                |envelope| quick::read(envelope).map_or(0, |r| events(&r)),
                true,
            ),
            time(&stream.short, stream.short_events, |envelope| count(read_envelope(envelope).ok()), true),
        ];
        for (times, time) in times.iter_mut().zip(each) {
            times.push(time);
        }
    }
    let [framing, ours, quick, xml] = times.map(|mut times| {
        times.sort_by(f64::total_cmp);
        times[ROUNDS / 2]
    });
    let size = stream.bytes.len() as f64 / stream.events as f64;
    println!(
        "{name:<22}{size:>8.0}{:>9.0}{:>12.0}{:>12.0}{:>12.0}{:>12.0}{:>13.1}x{:>11.0}x",
        size / framing / 1e6,
        1.0 / framing,
        1.0 / ours,
        1.0 / quick,
        1.0 / xml,
        quick / ours,
        xml / ours
    );
}

/// Seconds for each event, framing included. `read` says how many events it has found.
fn time(stream: &[u8], events: usize, mut read: impl FnMut(&[u8]) -> usize, checked: bool) -> f64 {
    let mut framer = Framer::new(FrameLimits::default());
    let mut found = 0;
    let clock = Clock::start();
    for piece in stream.chunks(PIECE) {
        framer.push(piece);
        while let Some(envelope) = framer.next() {
            found += envelope.map_or(0, &mut read);
        }
    }
    let time = clock.elapsed();
    assert!(!checked || found == events, "{found} of {events} events were read");
    time.as_secs_f64() / events as f64
}

fn count(envelope: Option<ewsnotify::proto::Envelope>) -> usize {
    match black_box(envelope).map(|e| e.body) {
        Some(Body::Streaming(responses)) => events(&responses),
        _ => 0,
    }
}

fn events(responses: &[quick::Message]) -> usize {
    black_box(responses).iter().flat_map(|r| &r.body.notifications).map(|n| n.notices.len()).sum()
}

/// The thread's CPU time, which other programs disturb least.
struct Clock(rustix::time::Timespec);

impl Clock {
    fn start() -> Clock {
        Clock(clock_gettime(ClockId::ThreadCPUTime))
    }

    fn elapsed(&self) -> Duration {
        (clock_gettime(ClockId::ThreadCPUTime) - self.0).try_into().unwrap_or_default()
    }
}
