//! Where raft runs. A manager's machine may be busy with its tasks, and the manager itself with proposals, dispatching and its
//! disk; none of that may keep a heartbeat waiting, or leaders would change without anything having failed.
//!
//! * `core`: openraft, entries and snapshots, and their connections: a few threads of higher priority.
//! * `pulse`: heartbeats, votes, their connections, and the judgement of silence: one thread, in real time where that is allowed.
//!   Nothing that waits for a disk or computes for long runs there.

use std::{
    io,
    sync::{Arc, Mutex, Once, PoisonError},
    time::Duration,
};

use tokio::runtime::{Builder, Handle, Runtime, RuntimeFlavor};

/// Threads of `core`: one may be waiting for the disk.
const CORE: usize = 2;
/// The lowest real-time priority: above everything that is not real-time, below whatever else is.
const REAL_TIME: libc::c_int = 1;
/// The nice value where real time is not allowed, and of `core`.
const NICE: libc::c_int = -15;
/// For what is still going on when a manager has stopped.
const LAST: Duration = Duration::from_secs(1);

/// Handles of the threads that raft runs on. Clones are handles of the same threads.
#[derive(Debug, Clone)]
pub struct Threads {
    core: Handle,
    pulse: Handle,
    owned: Arc<Mutex<Owned>>,
}

/// Both, or none once they have been shut down.
#[derive(Debug)]
struct Owned(Option<(Runtime, Runtime)>);

impl Drop for Owned {
    fn drop(&mut self) {
        // Of a manager that did not start: nobody may be kept waiting here.
        if let Some((core, pulse)) = self.0.take() {
            pulse.shutdown_background();
            core.shutdown_background();
        }
    }
}

impl Threads {
    /// Threads of raft's own. Where the runtime has one thread only, that one does everything: the simulation's order of things
    /// would be another each time, and tests of parts need no more.
    ///
    /// # Errors
    /// No thread can be made.
    pub fn start() -> io::Result<Self> {
        if Handle::current().runtime_flavor() == RuntimeFlavor::CurrentThread {
            return Ok(Self::current());
        }
        let said = Arc::new(Once::new());
        let core = Builder::new_multi_thread()
            .worker_threads(CORE)
            .thread_name("rn-raft")
            .on_thread_start(|| {
                // As it may be; `pulse` tells which.
                let _ = nice();
            })
            .enable_all()
            .build()?;
        let pulse = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("rn-pulse")
            .on_thread_start(move || {
                let priority = real_time();
                said.call_once(|| tracing::info!(%priority, "raft has threads of its own"));
            })
            .enable_all()
            .build()?;
        let (core_handle, pulse_handle) = (core.handle().clone(), pulse.handle().clone());
        let owned = Arc::new(Mutex::new(Owned(Some((core, pulse)))));
        Ok(Self { core: core_handle, pulse: pulse_handle, owned })
    }

    /// Everything on the runtime that is current.
    pub fn current() -> Self {
        let here = Handle::current();
        Self { core: here.clone(), pulse: here, owned: Arc::new(Mutex::new(Owned(None))) }
    }

    /// Runs openraft, entries and snapshots.
    pub(crate) fn core(&self) -> &Handle {
        &self.core
    }

    /// Runs heartbeats and votes.
    pub(crate) fn pulse(&self) -> &Handle {
        &self.pulse
    }

    /// Ends the threads; what they still do is dropped.
    pub(crate) async fn shutdown(&self) {
        let owned = self.owned.lock().unwrap_or_else(PoisonError::into_inner).0.take();
        let Some((core, pulse)) = owned else { return };
        let ended = tokio::task::spawn_blocking(move || {
            pulse.shutdown_timeout(LAST);
            core.shutdown_timeout(LAST);
        });
        if let Err(error) = ended.await {
            tracing::error!(%error, "raft's threads did not end in order");
        }
    }
}

/// How a thread is scheduled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Priority {
    RealTime,
    Nice,
    Plain,
}

impl std::fmt::Display for Priority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::RealTime => write!(f, "heartbeats in real time (SCHED_RR {REAL_TIME})"),
            Self::Nice => write!(f, "nice {NICE}; real time is not permitted here"),
            Self::Plain => {
                f.write_str("as all others; neither real time nor a lower nice value is permitted here")
            }
        }
    }
}

/// Makes the calling thread a real-time one, or else a preferred one.
fn real_time() -> Priority {
    if schedule(libc::SCHED_RR, REAL_TIME) { Priority::RealTime } else { nice() }
}

/// Makes the calling thread a preferred one.
fn nice() -> Priority {
    // First, so that what this thread starts (the database's own threads, programs) begins as everything else does.
    if !schedule(libc::SCHED_OTHER, 0) {
        return Priority::Plain;
    }
    // SAFETY: plain numbers; 0 is the calling thread, whose nice value Linux keeps apart from its process'.
    let done = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) } == 0;
    if done { Priority::Nice } else { Priority::Plain }
}

/// Schedules the calling thread so, and not what it starts.
fn schedule(policy: libc::c_int, priority: libc::c_int) -> bool {
    let policy = policy | libc::SCHED_RESET_ON_FORK;
    // SAFETY: a struct of plain numbers, which the kernel reads before the call returns; 0 is the calling thread.
    unsafe {
        let mut param: libc::sched_param = std::mem::zeroed();
        param.sched_priority = priority;
        libc::sched_setscheduler(0, policy, &raw const param) == 0
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[tokio::test]
    async fn one_thread_stays_one() {
        let threads = Threads::start().unwrap();
        assert_eq!(threads.core().id(), Handle::current().id());
        assert_eq!(threads.pulse().id(), Handle::current().id());
        threads.shutdown().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn threads_of_its_own_and_none_that_they_start() {
        let threads = Threads::start().unwrap();
        let policy = || {
            // SAFETY: 0 is the calling thread.
            unsafe { libc::sched_getscheduler(0) & !libc::SCHED_RESET_ON_FORK }
        };
        let (own, started) = threads
            .pulse()
            .spawn(async move { (policy(), std::thread::spawn(policy).join().unwrap()) })
            .await
            .unwrap();
        println!("policy of the heartbeats' thread: {own}");
        assert_eq!(started, libc::SCHED_OTHER, "what it starts is no better than others");
        threads.shutdown().await;
    }
}
