//! A stream: opened by a worker with a deep stack, read by a thread of its own with a shallow one.
//!
//! A handshake touches some 55 KiB of stack that a thread never gives back; reading needs 16.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::core::Core;
use super::links::Watch;
use super::threads::guarded;
use super::workers::Asked;
use crate::engine::{ConnId, Input, answer};
use crate::net::{Cancel, Opened, Post, Stream};
use crate::proto::{self, Body, Framer, StreamDecoder};
use crate::{Error, ErrorKind, Result};

/// Reading touches some 16 KiB; the rest is room that costs nothing. Less than a quarter of a worker's, or glibc would give
/// readers the stacks of workers that have ended, with all that they have touched.
const READ_STACK: usize = 192 * 1024;

/// Opens a stream and starts its reader; or tells its end.
pub(super) fn open(core: &Arc<Core>, conn: ConnId, watch: &Watch, asked: &Asked, cancel: &Cancel) {
    let opened = guarded("opening a stream", || ask(watch, asked, cancel));
    let started = match opened {
        Ok(Opened::Stream(stream)) => {
            core.feed(Input::Opened(conn));
            let envelope_timeout = watch.config.envelope_timeout;
            core.threads.spawn("ewsn-stream", READ_STACK, {
                let core = core.clone();
                move || {
                    let result = guarded("reading a stream", || read(&core, conn, stream, envelope_timeout));
                    core.ended(conn, result);
                }
            })
        }
        Ok(Opened::Whole(reply)) => {
            let result = guarded("reading an answer", || whole(core, conn, &reply.body));
            return core.ended(conn, result);
        }
        Err(e) => Err(e),
    };
    if let Err(e) = started {
        core.ended(conn, Err(e));
    }
}

fn ask(watch: &Watch, asked: &Asked, cancel: &Cancel) -> Result<Opened> {
    let body = proto::write_request(&asked.request, &asked.header)?;
    let (anchor, cookies) = asked.way(watch);
    let soap_action = proto::soap_action(&asked.request);
    let post = Post { body: &body, soap_action, anchor_mailbox: Some(anchor), cookies };
    watch.link.open(&post, cancel)
}

/// An answer that is no stream: a fault, or response messages with an HTTP status of failure.
fn whole(core: &Arc<Core>, conn: ConnId, body: &[u8]) -> Result<()> {
    let envelope = proto::read_envelope(body).map_err(|e| e.context("GetStreamingEvents"))?;
    tell(core, conn, envelope.body)
}

fn tell(core: &Arc<Core>, conn: ConnId, body: Body) -> Result<()> {
    let responses = answer::streamed(body)?;
    core.feed(Input::Message { conn, responses });
    Ok(())
}

fn read(
    core: &Arc<Core>,
    conn: ConnId,
    mut stream: Box<dyn Stream>,
    envelope_timeout: Duration,
) -> Result<()> {
    let mut framer = Framer::new(core.frame_limits());
    let mut decoder = StreamDecoder::new();
    let mut buf = [0; 4096];
    // When the envelope that is under way began.
    let mut begun: Option<Instant> = None;
    loop {
        let deadline = begun.map(|at| at + envelope_timeout);
        let n = stream.read(&mut buf, deadline)?;
        if n == 0 {
            let text = "the stream ended in the middle of a message";
            return if framer.in_progress() { Err(Error::new(ErrorKind::Io, text)) } else { Ok(()) };
        }
        framer.push(&buf[..n]);
        while let Some(frame) = framer.next() {
            begun = None;
            match frame.map_err(Error::from).and_then(|envelope| decoder.decode(envelope)) {
                Ok(envelope) => tell(core, conn, envelope.body)?,
                Err(error) => core.feed(Input::BadEnvelope { conn, error }),
            }
        }
        begun = if framer.in_progress() { begun.or_else(|| Some(Instant::now())) } else { None };
    }
}
