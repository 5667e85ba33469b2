//! What may go wrong on request: which request it befalls, and what happens then.

use std::time::Duration;

use serde::Deserialize;

/// How a connection is cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cut {
    /// The socket is closed in order (FIN), without TLS's own good-bye.
    #[default]
    Fin,
    /// The connection is reset (RST).
    Reset,
}

/// Something that goes wrong: for which request, how often, and what.
///
/// Unless told otherwise it befalls the first request of any operation, once. Only requests with the right password count; of
/// Autodiscover's (`GetUserSettings`, `Autodiscover` for POX, `GET`) all do, since a web server answers them unasked.
///
/// ```
/// use ewsnotify::sim::fault::{Action, Cut, Fault};
/// // The answers to the second and the third GetEvents break off after 100 bytes.
/// let fault = Fault::new(Action::Cut { byte: 100, how: Cut::Reset }).on("GetEvents").nth(2).times(2);
/// ```
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub struct Fault {
    pub(super) action: Action,
    pub(super) operation: Option<String>,
    pub(super) user: Option<String>,
    pub(super) host: Option<String>,
    pub(super) nth: u32,
    pub(super) times: u32,
    pub(super) envelope: u64,
}

/// What happens.
///
/// Bytes are counted from 0 in the HTTP answer (head and chunk framing included, TLS not). Where an action replaces an
/// envelope of a stream, the replaced one is lost, and [`StreamLog::lost`](super::record::StreamLog::lost) has it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Action {
    /// The request is carried out, and its answer ends after so many bytes.
    Cut {
        /// How many bytes are still sent.
        byte: u64,
        /// How the connection ends.
        #[serde(default)]
        how: Cut,
    },
    /// The request is carried out, and its answer stands still after so many bytes, until [`Sim::resume`](super::Sim::resume).
    Stall {
        /// How many bytes are still sent.
        byte: u64,
    },
    /// Each byte of the answer is sent on its own.
    OneByte,
    /// The request is not carried out; the answer has this status and no envelope.
    Status {
        /// The HTTP status. 401 comes with the usual offers to sign in.
        code: u16,
        /// A `Retry-After` in seconds.
        #[serde(default)]
        retry_after: Option<u64>,
        /// A `Retry-After` as a date, so long from then on.
        #[serde(default, deserialize_with = "optional_span")]
        retry_date: Option<Duration>,
        /// The body, as `text/html`; one of IIS's pages unless given.
        #[serde(default)]
        body: Option<String>,
    },
    /// The request is not carried out; the answer is a 302 to this URL.
    Redirect {
        /// The `Location`.
        to: String,
    },
    /// The request is not carried out; the answer is 200 with a page for a browser.
    Html,
    /// The request is not carried out; the answer is 200 with nothing in it.
    Empty,
    /// The envelope comes with a wrong end tag; its frame is whole.
    BadXml,
    /// In a stream this envelope waits for the next, and both come in one chunk.
    TwoInChunk,
    /// From this envelope on, each comes in chunks of so many bytes.
    ManyChunks {
        /// Bytes a chunk, at least 1.
        size: usize,
    },
    /// Instead of the envelope: a well-formed one with so many bytes of text in it. Made while it is sent.
    Oversize {
        /// Bytes of the text.
        bytes: u64,
    },
    /// Instead of the envelope: one with a DTD that names a file of the client's.
    Dtd,
    /// Instead of the envelope: one with entities that unfold to a gigabyte.
    EntityBomb,
    /// Instead of the envelope: one with so many attributes in one element.
    Attributes {
        /// How many.
        count: u64,
    },
    /// Instead of the envelope: one with so many nested elements.
    Nested {
        /// How deep.
        depth: u64,
    },
    /// The first byte of the answer is sent so late.
    SlowHead {
        /// How late.
        #[serde(deserialize_with = "span")]
        delay: Duration,
    },
    /// The request is carried out, and no answer ever comes.
    NoAnswer,
    /// A new connection is accepted and then nothing is read from it or written to it: no TLS handshake either. `nth` and
    /// `times` count connections here.
    NoHandshake,
    /// The exchange answers with a response message of this code, such as `ErrorInvalidSyncStateData`.
    Refuse {
        /// The response code.
        code: String,
        /// `BackOffMilliseconds`, if it is to say that.
        #[serde(default)]
        back_off: Option<u64>,
    },
    /// The exchange answers with the fault `ErrorServerBusy` and this `BackOffMilliseconds`.
    Busy {
        /// Milliseconds.
        back_off: u64,
    },
}

impl Fault {
    /// `action` befalls the next request, once.
    pub fn new(action: Action) -> Fault {
        Fault { action, operation: None, user: None, host: None, nth: 1, times: 1, envelope: 1 }
    }

    /// Only requests of this operation, such as `GetEvents`.
    pub fn on(mut self, operation: impl Into<String>) -> Fault {
        self.operation = Some(operation.into());
        self
    }

    /// Only requests of this user.
    pub fn user(mut self, address: impl Into<String>) -> Fault {
        self.user = Some(address.into());
        self
    }

    /// Only requests to this name of the server's.
    pub fn host(mut self, name: impl Into<String>) -> Fault {
        self.host = Some(name.into());
        self
    }

    /// From the n-th such request on, counted from 1 and from when the fault was added.
    pub fn nth(mut self, nth: u32) -> Fault {
        self.nth = nth;
        self
    }

    /// So many times.
    pub fn times(mut self, times: u32) -> Fault {
        self.times = times;
        self
    }

    /// Every time.
    pub fn always(self) -> Fault {
        self.times(u32::MAX)
    }

    /// Which envelope of the stream it befalls, counted from 1 (which says only `OK`), for actions on an envelope.
    pub fn envelope(mut self, n: u64) -> Fault {
        self.envelope = n;
        self
    }
}

/// The faults that wait, and how far each has counted.
#[derive(Debug, Default)]
pub(super) struct Faults(Vec<Armed>);

#[derive(Debug)]
struct Armed {
    fault: Fault,
    seen: u32,
    done: u32,
}

/// What a fault is asked about.
pub(super) enum Occasion<'a> {
    Connection,
    /// `user` is nobody yet where Autodiscover is asked; `host` is without its port.
    Request {
        operation: &'a str,
        user: Option<&'a str>,
        host: &'a str,
    },
}

/// What befalls an answer: the action and the envelope it is for.
#[derive(Clone, Debug)]
pub(super) struct Due {
    pub(super) action: Action,
    pub(super) envelope: u64,
}

impl Faults {
    pub(super) fn add(&mut self, fault: Fault) {
        self.0.push(Armed { fault, seen: 0, done: 0 });
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn waiting(&self) -> usize {
        self.0.iter().filter(|armed| armed.done < armed.fault.times).count()
    }

    /// The fault for this occasion, if any. Every fault that fits counts it; the first that is due happens.
    pub(super) fn due(&mut self, occasion: &Occasion<'_>) -> Option<Due> {
        let mut due = None;
        for armed in self.0.iter_mut().filter(|a| occasion.fits(&a.fault)) {
            armed.seen = armed.seen.saturating_add(1);
            if due.is_none() && armed.seen >= armed.fault.nth && armed.done < armed.fault.times {
                armed.done = armed.done.saturating_add(if armed.fault.times == u32::MAX { 0 } else { 1 });
                due = Some(Due { action: armed.fault.action.clone(), envelope: armed.fault.envelope });
            }
        }
        due
    }
}

impl Occasion<'_> {
    fn fits(&self, fault: &Fault) -> bool {
        let of_connection = fault.action == Action::NoHandshake;
        match self {
            Occasion::Connection => of_connection,
            Occasion::Request { operation, user, host } => {
                !of_connection
                    && fault.operation.as_deref().is_none_or(|o| o == *operation)
                    && fault
                        .user
                        .as_deref()
                        .is_none_or(|u| user.is_some_and(|user| u.eq_ignore_ascii_case(user)))
                    && fault.host.as_deref().is_none_or(|h| h.eq_ignore_ascii_case(host))
            }
        }
    }
}

/// A duration in words, such as `1m 30s`.
pub(super) fn span<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(d)?;
    humantime::parse_duration(&text)
        .map_err(|e| serde::de::Error::custom(format!("\"{text}\" is no duration: {e}")))
}

fn optional_span<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Option<Duration>, D::Error> {
    span(d).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    // A script that says "the second and third GetEvents" must not hit another request.
    #[test]
    fn counts_only_what_fits() {
        let mut faults = Faults::default();
        faults.add(Fault::new(Action::Html).on("GetEvents").nth(2).times(2));
        faults.add(Fault::new(Action::Empty).user("ADA@example.test").always());
        faults.add(Fault::new(Action::NoHandshake));
        faults.add(Fault::new(Action::OneByte).host("Mail.example.test"));
        let mut ask = |operation, user| {
            let host = "localhost";
            faults.due(&Occasion::Request { operation, user: Some(user), host }).map(|d| d.action)
        };
        assert_eq!(ask("GetEvents", "bob@example.test"), None);
        assert_eq!(ask("GetFolder", "bob@example.test"), None);
        assert_eq!(ask("GetEvents", "ada@example.test"), Some(Action::Html));
        assert_eq!(ask("GetEvents", "bob@example.test"), Some(Action::Html));
        assert_eq!(ask("GetEvents", "bob@example.test"), None);
        assert_eq!(ask("GetEvents", "ada@example.test"), Some(Action::Empty));
        assert!(faults.due(&Occasion::Connection).is_some());
        assert!(faults.due(&Occasion::Connection).is_none());
        let nobody = Occasion::Request { operation: "GET", user: None, host: "mail.example.test" };
        assert_eq!(faults.due(&nobody).map(|d| d.action), Some(Action::OneByte));
        assert_eq!(faults.waiting(), 1, "the one that is for every request of ada's");
    }
}
