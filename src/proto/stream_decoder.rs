//! Reads the envelopes of a stream fast, with the `xml` crate as the only authority.
//!
//! The envelopes of a stream differ in their notifications alone. So the first one of a form is read in full, and the exact
//! bytes before and after its notifications, its *frame*, are kept, if trials with the `xml` crate show that notifications
//! between them are read as such. An envelope with the same frame then has the same namespaces, the same response and the
//! same place for notifications, whatever stands in it, and only those are read, by the strict grammar of `notifications.rs`.
//! Envelopes without notifications (heartbeats) are known by all their bytes. Anything else is read in full.

use super::message::{Body, Envelope, Notification, Streamed};
use super::notifications::Grammar;
use super::read::read_stream_envelope;
use crate::Result;

/// Frames, and whole envelopes, that are kept.
const KEPT: usize = 4;
/// The longest frame, or whole envelope, that is kept.
const LONGEST: usize = 8 << 10;

/// Reads the envelopes of one stream.
///
/// It gives what [`read_envelope`](super::read_envelope) gives, except that texts are bounded: no text of a stream is
/// longer than 256 KiB.
#[derive(Clone, Debug, Default)]
pub struct StreamDecoder {
    /// The newest first.
    frames: Vec<Frame>,
    /// The newest first.
    whole: Vec<(Box<[u8]>, Envelope)>,
    fast: u64,
    full: u64,
    /// Envelopes that were read in full since one was read fast.
    in_vain: u64,
}

/// What a form of envelope has around its notifications.
#[derive(Clone, Debug)]
struct Frame {
    head: Box<[u8]>,
    tail: Box<[u8]>,
    /// The envelope without its notifications.
    envelope: Envelope,
    /// Which of the response messages has them.
    place: usize,
    grammar: Grammar,
}

impl StreamDecoder {
    /// A decoder that has seen nothing yet.
    pub fn new() -> StreamDecoder {
        StreamDecoder::default()
    }

    // Here and below, and where envelopes are read in full, `inline(never)` keeps frames apart: what is touched of its stack
    // once, a stream's thread keeps for good.
    /// Reads one envelope, as the framer gives it: from the `<` of its root to its end.
    pub fn decode(&mut self, envelope: &[u8]) -> Result<Envelope> {
        if let Some(read) = self.read_fast(envelope) {
            self.fast += 1;
            self.in_vain = 0;
            return Ok(read);
        }
        self.read_full(envelope)
    }

    #[inline(never)]
    fn read_full(&mut self, envelope: &[u8]) -> Result<Envelope> {
        self.full += 1;
        self.in_vain += 1;
        let read = read_stream_envelope(envelope)?;
        // Trials cost as much as reading; a server that never repeats itself shall not cost twice.
        if self.in_vain <= 8 || self.in_vain.is_power_of_two() {
            self.learn(envelope, &read);
        }
        Ok(read)
    }

    /// How many envelopes were read by a known frame.
    pub fn fast(&self) -> u64 {
        self.fast
    }

    /// How many envelopes were read in full by the `xml` crate, those with errors included.
    pub fn full(&self) -> u64 {
        self.full
    }

    #[inline(never)]
    fn read_fast(&mut self, bytes: &[u8]) -> Option<Envelope> {
        if let Some((_, known)) = self.whole.iter().find(|(whole, _)| **whole == *bytes) {
            return Some(known.clone());
        }
        let (at, read) =
            self.frames.iter().enumerate().find_map(|(at, frame)| Some((at, frame.read(bytes)?)))?;
        self.frames[..=at].rotate_right(1);
        Some(read)
    }

    #[inline(never)]
    fn learn(&mut self, bytes: &[u8], read: &Envelope) {
        let Body::Streaming(responses) = &read.body else { return };
        if bytes.len() <= LONGEST && responses.iter().all(|r| r.body.notifications.is_empty()) {
            keep(&mut self.whole, (bytes.into(), read.clone()));
        } else if let Some(frame) = Frame::learn(bytes, read) {
            keep(&mut self.frames, frame);
        }
    }
}

fn keep<T>(list: &mut Vec<T>, new: T) {
    list.truncate(KEPT - 1);
    // A stream has one or two, of which one is large.
    list.reserve_exact(1);
    list.insert(0, new);
}

impl Frame {
    /// The frame of an envelope that was read in full; None if it has none that bears the trials.
    #[inline(never)]
    fn learn(bytes: &[u8], read: &Envelope) -> Option<Frame> {
        let (head, tail, prefix) = split(bytes)?;
        let content = &bytes[head..bytes.len() - tail];
        if head + tail > LONGEST {
            return None;
        }
        let mut envelope = read.clone();
        let Body::Streaming(responses) = &mut envelope.body else { return None };
        let place = responses.iter().position(|r| !r.body.notifications.is_empty())?;
        responses[place].body.notifications = Vec::new();
        let grammar = Grammar::of(content, prefix)?;
        let frame = Frame {
            head: bytes[..head].into(),
            tail: bytes[bytes.len() - tail..].into(),
            envelope,
            place,
            grammar,
        };
        frame.bears_trials(bytes, read).then_some(frame)
    }

    /// Whether the `xml` crate agrees that this is a frame: the envelope itself, the frame without notifications, and the
    /// frame with notifications of all kinds.
    fn bears_trials(&self, bytes: &[u8], read: &Envelope) -> bool {
        let trial = self.grammar.specimen();
        let agrees = |content: &[u8]| {
            let bytes = [&self.head, content, &self.tail].concat();
            let fast = self.read(&bytes);
            fast.is_some() && fast == read_stream_envelope(&bytes).ok()
        };
        self.read(bytes).as_ref() == Some(read) && agrees(b"") && agrees(trial.as_bytes())
    }

    fn read(&self, bytes: &[u8]) -> Option<Envelope> {
        let content = bytes.strip_prefix(&*self.head)?.strip_suffix(&*self.tail)?;
        let notifications = self.grammar.read(content)?;
        Some(self.fill(notifications))
    }

    fn fill(&self, notifications: Vec<Notification>) -> Envelope {
        let mut envelope = self.envelope.clone();
        if let Body::Streaming(responses) = &mut envelope.body {
            let body: &mut Streamed = &mut responses[self.place].body;
            body.notifications = notifications;
        }
        envelope
    }
}

/// Where the notifications may begin and end: behind the first `<p:Notifications>` and before the last
/// `</p:Notifications>`, as lengths of head and tail. Only a guess, which the trials prove or refuse. And the prefix.
fn split(bytes: &[u8]) -> Option<(usize, usize, &str)> {
    let name = b"Notifications>";
    let at = memchr::memmem::find(bytes, name)?;
    let from = memchr::memrchr(b'<', &bytes[..at])?;
    let prefix = std::str::from_utf8(&bytes[from + 1..at]).ok()?;
    let end = memchr::memmem::rfind(bytes, format!("</{prefix}Notifications>").as_bytes())?;
    let head = at + name.len();
    (head <= end).then_some((head, bytes.len() - end, prefix))
}
