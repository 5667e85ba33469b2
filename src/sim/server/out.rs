//! An answer on its way out: broken off, held up or cut into bytes as a fault says.

use std::time::Instant;

use rustix::event::PollFlags;

use super::fault::{Action, Cut, Due};
use super::record::End;
use super::wire::{Io, SLICE, Wire};

/// How much a half-open connection takes before writing to it blocks: a kernel's send buffer.
const SEND_BUFFER: usize = 256 << 10;

pub(super) struct Out<'a> {
    pub(super) wire: &'a mut Wire,
    /// Bytes given to [`put`](Self::put), on the scale of [`Wire::sent`].
    pub(super) put: u64,
    limit: Option<(u64, Option<Cut>)>,
    one_byte: bool,
    late: Option<Instant>,
    held: Vec<u8>,
}

impl<'a> Out<'a> {
    pub(super) fn new(wire: &'a mut Wire, due: Option<&Due>) -> Out<'a> {
        let (put, mut limit, mut one_byte, mut late) = (wire.sent, None, false, None);
        match due.map(|d| &d.action) {
            Some(Action::Cut { byte, how }) => limit = Some((put.saturating_add(*byte), Some(*how))),
            Some(Action::Stall { byte }) => limit = Some((put.saturating_add(*byte), None)),
            Some(Action::OneByte) => one_byte = true,
            Some(Action::SlowHead { delay }) => late = Instant::now().checked_add(*delay),
            _ => {}
        }
        Out { wire, put, limit, one_byte, late, held: Vec::new() }
    }

    pub(super) fn put(&mut self, bytes: &[u8]) -> Io {
        if let Some(late) = self.late.take() {
            self.sleep_until(late)?;
        }
        self.put += bytes.len() as u64;
        if self.stalled() {
            self.held.extend_from_slice(bytes);
            return if self.full() { self.settle() } else { Ok(()) };
        }
        self.release()?;
        let Some((at, cut)) = self.limit else { return self.send(bytes) };
        let room = usize::try_from(at - self.wire.sent).unwrap_or(usize::MAX);
        if bytes.len() < room {
            return self.send(bytes);
        }
        if let Some(how) = cut {
            self.send(&bytes[..room])?;
            return Err(End::Cut(how));
        }
        self.limit = None;
        // First, so that who has read these bytes can end the stall.
        self.wire.conn.set_stalled();
        self.send(&bytes[..room])?;
        self.held.extend_from_slice(&bytes[room..]);
        Ok(())
    }

    /// Sends what a stall held back, if that is over.
    pub(super) fn release(&mut self) -> Io {
        if self.held.is_empty() || self.stalled() {
            return Ok(());
        }
        let held = std::mem::take(&mut self.held);
        self.send(&held)
    }

    pub(super) fn stalled(&self) -> bool {
        self.wire.conn.stalled()
    }

    /// Whether the send buffer of a half-open connection is full.
    pub(super) fn full(&self) -> bool {
        self.held.len() >= SEND_BUFFER
    }

    /// Waits until everything is sent; a client that goes away meanwhile ends it.
    pub(super) fn settle(&mut self) -> Io {
        loop {
            self.wire.check()?;
            self.release()?;
            if self.held.is_empty() && !self.stalled() {
                return Ok(());
            }
            self.watch_client()?;
        }
    }

    /// Waits without a word until the connection ends.
    pub(super) fn never(&mut self) -> Io {
        loop {
            self.watch_client()?;
        }
    }

    fn sleep_until(&mut self, until: Instant) -> Io {
        while Instant::now() < until {
            self.watch_client()?;
        }
        Ok(())
    }

    // For a slice.
    fn watch_client(&mut self) -> Io {
        self.wire.check()?;
        if self.wire.try_fill()? == Some(0) {
            return Err(End::Client);
        }
        self.wire.wait(PollFlags::IN, Some(SLICE))
    }

    fn send(&mut self, bytes: &[u8]) -> Io {
        if !self.one_byte {
            return self.wire.send(bytes);
        }
        bytes.chunks(1).try_for_each(|byte| self.wire.send(byte))
    }
}
