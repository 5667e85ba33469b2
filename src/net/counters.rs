//! What the network part holds and has done, for the runtime, for hosts that ask, and for tests.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts of one client. Read at any time from any thread.
#[derive(Debug, Default)]
pub struct Counters {
    open: AtomicU64,
    opened: AtomicU64,
    lookups: AtomicU64,
    abandoned: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
}

impl Counters {
    /// Sockets that exist now, connected or on the way to it.
    pub fn sockets_open(&self) -> u64 {
        self.open.load(Ordering::SeqCst)
    }

    /// Connections that came about since the start.
    pub fn sockets_opened(&self) -> u64 {
        self.opened.load(Ordering::SeqCst)
    }

    /// Waits for a name look-up now.
    pub fn lookups_waiting(&self) -> u64 {
        self.lookups.load(Ordering::SeqCst)
    }

    /// Look-ups that were given up and whose thread still sits in the system's resolver: nothing can end it but its answer.
    pub fn lookups_abandoned(&self) -> u64 {
        self.abandoned.load(Ordering::SeqCst)
    }

    /// Bytes read from sockets.
    pub fn bytes_in(&self) -> u64 {
        self.bytes_in.load(Ordering::Relaxed)
    }

    /// Bytes written to sockets.
    pub fn bytes_out(&self) -> u64 {
        self.bytes_out.load(Ordering::Relaxed)
    }

    pub(super) fn socket_created(&self) {
        self.open.fetch_add(1, Ordering::SeqCst);
    }

    pub(super) fn socket_connected(&self) {
        self.opened.fetch_add(1, Ordering::SeqCst);
    }

    pub(super) fn socket_closed(&self) {
        self.open.fetch_sub(1, Ordering::SeqCst);
    }

    pub(super) fn lookup_waits(&self) {
        self.lookups.fetch_add(1, Ordering::SeqCst);
    }

    pub(super) fn lookup_ended(&self) {
        self.lookups.fetch_sub(1, Ordering::SeqCst);
    }

    pub(super) fn lookup_abandoned(&self) {
        self.abandoned.fetch_add(1, Ordering::SeqCst);
    }

    pub(super) fn abandoned_lookup_ended(&self) {
        self.abandoned.fetch_sub(1, Ordering::SeqCst);
    }

    pub(super) fn read(&self, n: usize) {
        self.bytes_in.fetch_add(n as u64, Ordering::Relaxed);
    }

    pub(super) fn wrote(&self, n: usize) {
        self.bytes_out.fetch_add(n as u64, Ordering::Relaxed);
    }
}
