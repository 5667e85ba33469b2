//! A disk in memory that loses its power: what was written since the last sync is then there in part, in any part.
//!
//! Writes, changes of length and syncs are the steps at which the power can go. A sync can be made to fail as real ones do: the
//! system then reads back what was written, takes it for stored, and never writes it.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::StorageBackend;

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;

/// A disk; clones are the same disk, so a test keeps one while a store has the other.
#[derive(Clone, Default)]
pub(crate) struct Forgetful(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// What is there after a power cut for certain.
    platter: Vec<u8>,
    /// What is read.
    seen: Vec<u8>,
    unsynced: Vec<Unsynced>,
    /// A sync has failed, so the two differ by more than what is unsynced.
    astray: bool,
    steps: u64,
    cut_at: Option<u64>,
    off: bool,
    full: bool,
    failing_syncs: u32,
    written: u64,
}

enum Unsynced {
    Length(usize),
    Write(usize, Vec<u8>),
}

impl Forgetful {
    /// The power goes when `steps` more steps have been made: within the next one.
    pub fn cut_after(&self, steps: u64) {
        let mut state = self.state();
        state.cut_at = Some(state.steps + steps);
    }

    /// The steps so far.
    pub fn steps(&self) -> u64 {
        self.state().steps
    }

    /// The bytes written so far.
    pub fn written(&self) -> u64 {
        self.state().written
    }

    /// From now on there is no room for anything, or there is again.
    pub fn set_full(&self, full: bool) {
        self.state().full = full;
    }

    /// The next syncs fail, and the system believes that there is nothing left to write.
    pub fn fail_syncs(&self, times: u32) {
        self.state().failing_syncs = times;
    }

    /// Takes the power away, if it has not gone yet, and brings it back: of what was not synced, a random part is there.
    pub fn restart(&self, rng: &mut fastrand::Rng) {
        let mut state = self.state();
        let state = &mut *state;
        let kept = rng.u32(0..=4) * 25;
        let mut keep = || rng.u32(0..100) < kept;
        let mut resized = false;
        for change in &state.unsynced {
            match change {
                Unsynced::Length(len) => {
                    resized = true;
                    if keep() {
                        state.platter.resize(*len, 0);
                    }
                }
                Unsynced::Write(offset, data) => {
                    for (i, sector) in data.chunks(SECTOR).enumerate() {
                        if keep() {
                            store(&mut state.platter, offset + i * SECTOR, sector);
                        }
                    }
                }
            }
        }
        if resized || state.astray {
            state.seen.clone_from(&state.platter);
        } else {
            for change in &state.unsynced {
                if let Unsynced::Write(offset, data) = change {
                    let end = offset + data.len();
                    state.seen[*offset..end].copy_from_slice(&state.platter[*offset..end]);
                }
            }
        }
        state.unsynced.clear();
        (state.astray, state.off, state.cut_at, state.failing_syncs) = (false, false, None, 0);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn on(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.state();
        if state.off { Err(io::Error::other("the power is off")) } else { Ok(state) }
    }
}

impl State {
    /// A step is made, but what it does is not synced when the power goes.
    fn step(&mut self) -> io::Result<()> {
        if self.cut_at == Some(self.steps) {
            self.off = true;
            return Err(io::Error::other("the power went"));
        }
        self.steps += 1;
        Ok(())
    }

    fn room(&self) -> io::Result<()> {
        if self.full { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

/// What lies behind the end was written into a file that the cut left shorter.
fn store(bytes: &mut [u8], offset: usize, data: &[u8]) {
    let end = bytes.len().min(offset + data.len());
    if offset < end {
        bytes[offset..end].copy_from_slice(&data[..end - offset]);
    }
}

impl StorageBackend for Forgetful {
    fn len(&self) -> io::Result<u64> {
        Ok(self.on()?.seen.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.on()?;
        let start = offset as usize;
        let found = state.seen.get(start..start + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(found);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.on()?;
        let len = len as usize;
        if len > state.seen.len() {
            state.room()?;
        }
        state.seen.resize(len, 0);
        state.unsynced.push(Unsynced::Length(len));
        state.step()
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.on()?;
        let state = &mut *state;
        state.step()?;
        if state.failing_syncs > 0 {
            state.failing_syncs -= 1;
            state.astray = true;
            state.unsynced.clear();
            return Err(io::Error::other("the disk did not take it"));
        }
        for change in state.unsynced.drain(..) {
            match change {
                Unsynced::Length(len) => state.platter.resize(len, 0),
                Unsynced::Write(offset, data) => store(&mut state.platter, offset, &data),
            }
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.on()?;
        state.room()?;
        let start = offset as usize;
        let place = state.seen.get_mut(start..start + data.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        place.copy_from_slice(data);
        state.unsynced.push(Unsynced::Write(start, data.to_vec()));
        state.written += data.len() as u64;
        state.step()
    }
}

impl fmt::Debug for Forgetful {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        f.debug_struct("Forgetful")
            .field("len", &state.seen.len())
            .field("steps", &state.steps)
            .finish_non_exhaustive()
    }
}
