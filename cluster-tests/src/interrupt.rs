//! An interrupt as an error that travels up and lets everything be torn down on its way.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, ensure};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

static CAUGHT: AtomicBool = AtomicBool::new(false);

extern "C" fn note(_: libc::c_int) {
    CAUGHT.store(true, Ordering::Relaxed);
}

/// From here on SIGINT and SIGTERM are remembered instead of ending the process. Programs that it starts are not affected: what
/// the terminal interrupts fails, and its failure is the first to be seen.
pub fn catch() -> Result<()> {
    let action = SigAction::new(SigHandler::Handler(note), SaFlags::SA_RESTART, SigSet::empty());
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        // SAFETY: the handler only stores to an atomic.
        unsafe { sigaction(signal, &action) }?;
    }
    Ok(())
}

/// Fails once an interrupt has come.
pub fn check() -> Result<()> {
    ensure!(!CAUGHT.load(Ordering::Relaxed), "interrupted");
    Ok(())
}
