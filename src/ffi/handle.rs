//! Handles: numbers that look like pointers, and the table that says what they stand for.
//!
//! A host may free a handle twice, use one after it was freed, or pass one of another kind, and PHP and Python do. So no handle
//! is ever followed as a pointer: it names a slot and the slot's generation. Slots are never freed, and what
//! [`wake`] reads of them are atomics, so it may be called in a signal handler.

use std::ffi::c_void;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, TryLockError};

use super::error::Failure;
use super::{client, event, options};
use crate::runtime::Waker;

/// What a handle stands for.
#[derive(Clone)]
pub(super) enum Value {
    Options(Arc<options::Handle>),
    Client(Arc<client::Handle>),
    Event(Arc<event::Handle>),
}

/// The kinds, as they lie in the lowest bits of a handle. Never 0, so no handle is NULL.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Options = 1,
    Client = 2,
    Event = 3,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Options => "options",
            Kind::Client => "client",
            Kind::Event => "event",
        }
    }
}

struct Slot {
    /// The generation and, in the lowest bits, the kind: 0 where it is free. It is the handle, less the index.
    state: AtomicU64,
    /// The process that made the handle.
    pid: AtomicU32,
    /// Where a client's waits are ended; never closed.
    wake: AtomicI32,
    inner: Mutex<Inner>,
}

struct Inner {
    value: Option<Value>,
    waker: Option<Arc<Waker>>,
}

const KIND_BITS: u32 = 2;
const INDEX_BITS: u32 = if usize::BITS >= 64 { 24 } else { 14 };
const GENERATION_BITS: u32 = usize::BITS - KIND_BITS - INDEX_BITS;
/// The first chunk's slots; each further chunk has twice as many.
const FIRST: usize = 64;
const CHUNKS: usize = (INDEX_BITS - FIRST.trailing_zeros()) as usize;

static TABLE: [AtomicPtr<Slot>; CHUNKS] = [const { AtomicPtr::new(std::ptr::null_mut()) }; CHUNKS];
/// Where to look for a free slot first.
static NEXT: AtomicUsize = AtomicUsize::new(0);

/// Where the slot of an index lies: which chunk, and where in it.
fn place(index: usize) -> (usize, usize) {
    let chunk = (index / FIRST + 1).ilog2() as usize;
    (chunk, index - FIRST * ((1 << chunk) - 1))
}

fn slot(index: usize) -> Option<&'static Slot> {
    let (chunk, at) = place(index);
    let slots = TABLE.get(chunk)?.load(Ordering::Acquire);
    // SAFETY: a chunk that is not null has FIRST << chunk slots and is never freed, and `place` stays within them.
    (!slots.is_null()).then(|| unsafe { &*slots.add(at) })
}

fn add_chunk(chunk: usize) -> bool {
    let Some(entry) = TABLE.get(chunk) else { return false };
    let new = || Slot {
        state: AtomicU64::new(0),
        pid: AtomicU32::new(0),
        wake: AtomicI32::new(-1),
        inner: Mutex::new(Inner { value: None, waker: None }),
    };
    let slots: Box<[Slot]> = (0..FIRST << chunk).map(|_| new()).collect();
    let slots: *mut [Slot] = Box::into_raw(slots);
    let first = slots.cast::<Slot>();
    let null = std::ptr::null_mut();
    if entry.compare_exchange(null, first, Ordering::AcqRel, Ordering::Acquire).is_err() {
        // Another thread was quicker.
        // SAFETY: it came from a box just now, and nobody else has seen it.
        drop(unsafe { Box::from_raw(slots) });
    }
    true
}

fn split(handle: *const c_void) -> (u64, usize) {
    let bits = handle.addr();
    let index = (bits >> KIND_BITS) & ((1 << INDEX_BITS) - 1);
    let generation = (bits >> (KIND_BITS + INDEX_BITS)) as u64;
    ((generation << KIND_BITS) | (bits & ((1 << KIND_BITS) - 1)) as u64, index)
}

fn join<T>(state: u64, index: usize) -> *mut T {
    let generation = (state >> KIND_BITS) as usize & (usize::MAX >> (usize::BITS - GENERATION_BITS));
    let kind = (state & ((1 << KIND_BITS) - 1)) as usize;
    std::ptr::without_provenance_mut((generation << (KIND_BITS + INDEX_BITS)) | (index << KIND_BITS) | kind)
}

pub(super) fn pid() -> u32 {
    rustix::process::getpid().as_raw_nonzero().get().unsigned_abs()
}

/// Takes a free slot for what `make` gives. For a client `make` gets the slot's waker.
fn insert<T>(
    kind: Kind,
    make: impl FnOnce(&mut Inner, &Slot) -> Result<Value, Failure>,
) -> Result<*mut T, Failure> {
    let full = || Failure::limit("there are too many handles: free those that are done with");
    let begin = NEXT.load(Ordering::Relaxed);
    // A slot that had a client keeps its pipe, so such slots are for clients, and a client takes another only where none is
    // free: there are as many pipes as there were clients at a time.
    let mut wakers = kind == Kind::Client;
    let mut tried = 0;
    loop {
        let total =
            FIRST * ((1 << TABLE.iter().take_while(|c| !c.load(Ordering::Acquire).is_null()).count()) - 1);
        if tried >= total {
            if std::mem::take(&mut wakers) {
                tried = 0;
                continue;
            }
            let (chunk, _) = place(total);
            if !add_chunk(chunk) {
                return Err(full());
            }
            continue;
        }
        let index = if total > FIRST && tried < total { (begin + tried) % total } else { tried };
        tried += 1;
        let Some(slot) = slot(index) else { continue };
        let state = slot.state.load(Ordering::Acquire);
        let has_waker = slot.wake.load(Ordering::Acquire) >= 0;
        if state & ((1 << KIND_BITS) - 1) != 0 || has_waker != wakers {
            continue;
        }
        // One that is locked is just being freed; or was when this process was forked, and stays so.
        let mut inner = match slot.inner.try_lock() {
            Ok(inner) => inner,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => continue,
        };
        if slot.state.load(Ordering::Acquire) != state || inner.value.is_some() {
            continue;
        }
        inner.value = Some(make(&mut inner, slot)?);
        let generation = ((state >> KIND_BITS) + 1) & (u64::MAX >> (64 - GENERATION_BITS));
        let state = (generation << KIND_BITS) | kind as u64;
        slot.pid.store(pid(), Ordering::Release);
        slot.state.store(state, Ordering::Release);
        NEXT.store(index + 1, Ordering::Relaxed);
        return Ok(join(state, index));
    }
}

pub(super) fn insert_options<T>(value: options::Handle) -> Result<*mut T, Failure> {
    insert(Kind::Options, |_, _| Ok(Value::Options(Arc::new(value))))
}

pub(super) fn insert_event<T>(value: event::Handle) -> Result<*mut T, Failure> {
    insert(Kind::Event, |_, _| Ok(Value::Event(Arc::new(value))))
}

pub(super) fn insert_client<T>(
    open: impl FnOnce(Arc<Waker>) -> Result<client::Handle, Failure>,
) -> Result<*mut T, Failure> {
    insert(Kind::Client, |inner, slot| {
        // A pipe that a parent process made is the parent's too.
        let ours = slot.pid.load(Ordering::Acquire) == pid();
        let waker = match inner.waker.take().filter(|_| ours) {
            Some(waker) => waker,
            None => Waker::new().map_err(Failure::from)?,
        };
        let handle = open(waker.clone());
        slot.wake.store(waker.as_writable().as_raw_fd(), Ordering::Release);
        // Kept for ever: a signal handler may write to it at any time.
        inner.waker = Some(waker);
        Ok(Value::Client(Arc::new(handle?)))
    })
}

/// What a handle stands for.
pub(super) fn find(handle: *const c_void, kind: Kind) -> Result<Value, Failure> {
    if handle.is_null() {
        return Err(Failure::invalid(format!("the {} handle is NULL", kind.name())));
    }
    let stale = || {
        let text = format!("the handle is none of a {0}, or of one that was freed", kind.name());
        Failure::invalid(text.replace("a options", "options").replace("a event", "an event"))
    };
    let (state, index) = split(handle);
    let slot = slot(index).filter(|_| state & ((1 << KIND_BITS) - 1) == kind as u64).ok_or_else(stale)?;
    if slot.state.load(Ordering::Acquire) != state {
        return Err(stale());
    }
    // Before any lock: in a forked child one may be held by a thread that is not there.
    if slot.pid.load(Ordering::Acquire) != pid() {
        return Err(Failure::forked(kind.name()));
    }
    let inner = slot.inner.lock().unwrap_or_else(PoisonError::into_inner);
    match &inner.value {
        Some(value) if slot.state.load(Ordering::Acquire) == state => Ok(value.clone()),
        _ => Err(stale()),
    }
}

/// Frees a handle; what it stood for, if it was one of this process. Anything else is left alone.
pub(super) fn remove(handle: *const c_void, kind: Kind) -> Option<Value> {
    let (state, index) = split(handle);
    let slot = slot(index).filter(|_| !handle.is_null() && state & ((1 << KIND_BITS) - 1) == kind as u64)?;
    if slot.state.load(Ordering::Acquire) != state || slot.pid.load(Ordering::Acquire) != pid() {
        return None;
    }
    let mut inner = slot.inner.lock().unwrap_or_else(PoisonError::into_inner);
    let free = (state >> KIND_BITS) << KIND_BITS;
    slot.state.compare_exchange(state, free, Ordering::AcqRel, Ordering::Acquire).ok()?;
    inner.value.take()
}

/// Ends a wait of a client's. Only atomics and a write: it may be called in a signal handler, and a handle that is freed
/// meanwhile at worst wakes the next one of its slot.
pub(super) fn wake(handle: *const c_void) {
    let (state, index) = split(handle);
    let Some(slot) = slot(index).filter(|_| state & ((1 << KIND_BITS) - 1) == Kind::Client as u64) else {
        return;
    };
    if slot.state.load(Ordering::Acquire) != state || slot.pid.load(Ordering::Acquire) != pid() {
        return;
    }
    let fd = slot.wake.load(Ordering::Acquire);
    if fd >= 0 {
        // SAFETY: a slot's waker is never closed.
        let fd = unsafe { BorrowedFd::borrow_raw(fd) };
        let _ = rustix::io::write(fd, b"!");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A place outside its chunk would be memory of somebody else.
    #[test]
    fn every_index_has_its_own_place() {
        let mut expected = (0, 0);
        for index in 0..FIRST * 15 {
            assert_eq!(place(index), expected);
            expected = if expected.1 + 1 == FIRST << expected.0 {
                (expected.0 + 1, 0)
            } else {
                (expected.0, expected.1 + 1)
            };
        }
        assert_eq!(place((1 << INDEX_BITS) - FIRST - 1).0, CHUNKS - 1);
    }

    /// A handle that comes back as another one would be somebody else's.
    #[test]
    fn a_handle_is_its_state_and_index() {
        for (state, index) in [(5, 0), ((77 << KIND_BITS) | 3, 4_711), (2, (1 << INDEX_BITS) - 1)] {
            assert_eq!(split(join::<c_void>(state, index)), (state, index));
        }
    }
}
