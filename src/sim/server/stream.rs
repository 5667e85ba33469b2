//! A hanging answer: envelope after envelope until the exchange, the client or somebody's hand ends it.

use std::collections::VecDeque;
use std::time::Instant;

use super::fault::{Action, Due};
use super::hostile;
use super::out::Out;
use super::record::End;
use super::wire::{Io, SLICE};
use crate::sim::exchange::{Next, Stream};

/// Writes the stream to its end and gives its subscriptions back, before the client can know that it is over.
pub(super) fn run(
    out: &mut Out<'_>,
    head: &[u8],
    stream: Stream,
    user: &str,
    operation: &str,
    due: Option<Due>,
) -> Io {
    let shared = out.wire.shared.clone();
    let number = shared.stream_opened(&out.wire.conn, stream.connection(), user);
    let mut writer = Writer {
        number,
        operation: operation.to_owned(),
        due,
        started: out.wire.sent,
        accounted: out.wire.sent,
        count: 0,
        waiting: VecDeque::new(),
        partner: None,
    };
    let mut stream = Some(stream);
    let end = writer.write(out, head, &mut stream);
    if let Some(stream) = stream {
        shared.exchange.drop_stream(stream);
    }
    writer.give_up(out);
    shared.stream_ended(&out.wire.conn, number, end.err().unwrap_or(End::Finished));
    end
}

/// One chunk of a chunked body.
pub(super) fn put_chunk(out: &mut Out<'_>, bytes: &[u8]) -> Io {
    let mut chunk = Vec::with_capacity(bytes.len() + 16);
    add_chunk(&mut chunk, bytes);
    out.put(&chunk)
}

/// Appends one chunk of a chunked body. An empty chunk would be its end, so nothing becomes nothing.
pub(super) fn add_chunk(to: &mut Vec<u8>, bytes: &[u8]) {
    if !bytes.is_empty() {
        to.extend_from_slice(format!("{:x}\r\n", bytes.len()).as_bytes());
        to.extend_from_slice(bytes);
        to.extend_from_slice(b"\r\n");
    }
}

struct Writer {
    number: usize,
    operation: String,
    due: Option<Due>,
    // On the scale of `Wire::sent`, as all positions here.
    started: u64,
    // How far the record is.
    accounted: u64,
    // Envelopes that the exchange gave us.
    count: u64,
    // Envelopes on their way to the kernel, each with the position after its last byte.
    waiting: VecDeque<(u64, Vec<u8>)>,
    // An envelope that waits to share a chunk with the next.
    partner: Option<Vec<u8>>,
}

impl Writer {
    fn write(&mut self, out: &mut Out<'_>, head: &[u8], stream: &mut Option<Stream>) -> Io {
        let shared = out.wire.shared.clone();
        out.put(head)?;
        self.account(out);
        while let Some(open) = stream {
            out.wire.check()?;
            if !out.stalled() {
                out.release()?;
                self.account(out);
                if out.wire.try_fill()? == Some(0) {
                    return Err(End::Client);
                }
            } else if out.full() {
                shared.pause(Instant::now() + SLICE);
                continue;
            }
            match shared.exchange.next_envelope(open, SLICE) {
                Next::Idle => {}
                Next::Envelope(envelope) => self.envelope(out, envelope)?,
                Next::Last(envelope) => {
                    if let Some(stream) = stream.take() {
                        shared.exchange.drop_stream(stream);
                    }
                    self.envelope(out, envelope)?;
                    if let Some(alone) = self.partner.take() {
                        self.whole(out, vec![alone])?;
                    }
                    out.put(b"0\r\n\r\n")?;
                    out.settle()?;
                    self.account(out);
                }
            }
        }
        Ok(())
    }

    fn envelope(&mut self, out: &mut Out<'_>, envelope: Vec<u8>) -> Io {
        self.count += 1;
        if let Some(first) = self.partner.take() {
            return self.whole(out, vec![first, envelope]);
        }
        let Some(due) = self.due.clone().filter(|d| d.envelope <= self.count) else {
            return self.whole(out, vec![envelope]);
        };
        match due.action {
            Action::ManyChunks { size } => {
                let length = envelope.len();
                for (i, piece) in envelope.chunks(size.max(1)).enumerate() {
                    if (i + 1) * size.max(1) >= length {
                        // The last piece decides; the envelope is lost unless that gets out.
                        self.waiting.push_back((out.put + chunk_end(piece), envelope.clone()));
                    }
                    let put = put_chunk(out, piece);
                    self.account(out);
                    put?;
                }
                Ok(())
            }
            Action::TwoInChunk if due.envelope == self.count => {
                self.partner = Some(envelope);
                Ok(())
            }
            ref action if hostile::is(action) && due.envelope == self.count => {
                let sent =
                    hostile::emit(action, &envelope, &self.operation, &mut |piece| put_chunk(out, piece));
                out.wire.shared.stream_moved(self.number, |log| log.lost.push(envelope));
                sent
            }
            _ => self.whole(out, vec![envelope]),
        }
    }

    // These envelopes in one chunk.
    fn whole(&mut self, out: &mut Out<'_>, envelopes: Vec<Vec<u8>>) -> Io {
        let body = envelopes.concat();
        let mut at = out.put + chunk_end(&body) - body.len() as u64;
        for envelope in envelopes {
            at += envelope.len() as u64;
            self.waiting.push_back((at, envelope));
        }
        let put = put_chunk(out, &body);
        self.account(out);
        put
    }

    // Writes down what the kernel has by now.
    fn account(&mut self, out: &Out<'_>) {
        if self.accounted == out.wire.sent {
            return;
        }
        self.accounted = out.wire.sent;
        let mut written = 0;
        while self.waiting.front().is_some_and(|(end, _)| *end <= out.wire.sent) {
            self.waiting.pop_front();
            written += 1;
        }
        let bytes = out.wire.sent - self.started;
        out.wire.shared.stream_moved(self.number, |log| {
            log.written += written;
            log.bytes = bytes;
        });
    }

    fn give_up(&mut self, out: &Out<'_>) {
        self.account(out);
        let lost = self.waiting.drain(..).map(|(_, envelope)| envelope).chain(self.partner.take());
        out.wire.shared.stream_moved(self.number, |log| log.lost.extend(lost));
    }
}

// How far after the beginning of its chunk the last byte of this body comes.
fn chunk_end(body: &[u8]) -> u64 {
    (format!("{:x}\r\n", body.len()).len() + body.len()) as u64
}
