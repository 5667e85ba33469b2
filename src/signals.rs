//! Our threads take no signals: one of the host's must find a thread of the host's, or its wait would go on.

use nix::sys::signal::{SigSet, SigmaskHow};

/// Runs what starts a thread: the thread begins with its maker's mask, and has all signals blocked.
pub(crate) fn blocked<T>(start: impl FnOnce() -> T) -> T {
    let mask = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK);
    let started = start();
    if let Ok(mask) = mask {
        // It was this thread's a moment ago.
        let _ = mask.thread_set_mask();
    }
    started
}
