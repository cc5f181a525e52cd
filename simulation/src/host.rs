//! A machine: its disk, its clock, and the process that runs on it.
//!
//! Each process has a runtime of its own, of one thread and with paused time. Killing the process is dropping the runtime:
//! whatever was going on in it ends where it stands, as with SIGKILL.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use manager::{api::forward::LeaderProxy, store::Store};
use tokio::{
    runtime::{Builder, Runtime},
    sync::mpsc,
    time::Instant,
};

use crate::{agent::Containers, clock_and_random, disk::Disk, net::Net, users::Op};

/// What a host is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It runs a manager.
    Manager,
    /// It runs an agent.
    Agent,
}

/// What the simulation sees of a process from outside.
#[derive(Default)]
pub struct Shown {
    /// The store and the local door of a manager that has started.
    pub manager: Option<(Store, LeaderProxy)>,
    /// Whether an agent has been in session since its start.
    pub in_session: bool,
    /// Why the process has ended by itself.
    pub ended: Option<String>,
}

/// See [`Shown`].
pub type Window = Arc<Mutex<Shown>>;

/// A running process.
struct Process {
    runtime: Runtime,
    begun: u64,
    start: Instant,
    window: Window,
    ops: mpsc::UnboundedSender<Op>,
}

/// A machine, with the process that runs on it.
pub struct Host {
    /// Its number, from which its address follows.
    pub n: usize,
    /// What it is there for.
    pub kind: Kind,
    /// Its files.
    pub dir: PathBuf,
    /// Its database.
    pub disk: Disk,
    /// Containers on it, which outlive the agent and not the power.
    pub containers: Containers,
    /// How far its wall clock is off, in milliseconds.
    pub skew_ms: i64,
    process: Option<Process>,
    /// The process is stopped: it does nothing, and is not gone.
    frozen: bool,
    /// It has just been continued: for it no time has passed, for its clock all of it.
    thawed: bool,
}

impl Host {
    /// A machine that is on, with nothing running.
    pub fn new(n: usize, kind: Kind, dir: PathBuf, disk: Disk) -> Self {
        let containers = Containers::default();
        Self { n, kind, dir, disk, containers, skew_ms: 0, process: None, frozen: false, thawed: false }
    }

    /// Whether a process runs.
    pub fn is_up(&self) -> bool {
        self.process.is_some()
    }

    fn enter(&self, net: &Net) {
        clock_and_random::set_skew(self.skew_ms);
        net.inner().current = self.n;
    }

    /// Starts a process that does `main`.
    ///
    /// # Errors
    /// The runtime cannot be made.
    pub fn start<F: Future<Output = ()> + Send + 'static>(
        &mut self,
        net: &Net,
        now: u64,
        main: impl FnOnce(Window, mpsc::UnboundedReceiver<Op>) -> F,
    ) -> std::io::Result<()> {
        self.enter(net);
        net.set_on(self.n, true);
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build()?;
        let window = Window::default();
        let (ops, rx) = mpsc::unbounded_channel();
        let (main, start) = {
            let _entered = runtime.enter();
            (main(window.clone(), rx), Instant::now())
        };
        runtime.spawn(main);
        (self.frozen, self.thawed) = (false, false);
        self.process = Some(Process { runtime, begun: now, start, window, ops });
        Ok(())
    }

    /// Lets the process run until `now`.
    pub fn run(&mut self, net: &Net, now: u64) {
        let Some(process) = self.process.as_ref().filter(|_| !self.frozen) else { return };
        self.enter(net);
        let until = process.start + Duration::from_micros(now - process.begun);
        let thawed = std::mem::take(&mut self.thawed);
        process.runtime.block_on(async {
            if thawed {
                // At once, not from timer to timer: a process that was stopped finds all that are due together.
                tokio::time::advance(until.saturating_duration_since(Instant::now())).await;
            }
            tokio::time::sleep_until(until).await;
        });
    }

    /// SIGSTOP.
    pub fn freeze(&mut self) {
        self.frozen = self.process.is_some();
    }

    /// SIGCONT.
    pub fn thaw(&mut self) {
        (self.frozen, self.thawed) = (false, self.frozen);
    }

    /// Whether its process is stopped.
    pub fn is_frozen(&self) -> bool {
        self.frozen
    }

    /// SIGKILL.
    pub fn kill(&mut self, net: &Net) {
        self.enter(net);
        (self.frozen, self.thawed) = (false, false);
        if let Some(process) = self.process.take() {
            *process.window.lock().unwrap_or_else(PoisonError::into_inner) = Shown::default();
            // Nothing here runs on another thread, so nothing is waited for.
            drop(process);
        }
        net.ended(self.n);
    }

    /// The power fails. How many writes are lost with it.
    pub fn lose_power(&mut self, net: &Net) -> u64 {
        net.set_on(self.n, false);
        self.kill(net);
        self.containers.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.disk.lose_power()
    }

    /// What is seen of the process.
    pub fn seen<T>(&self, look: impl FnOnce(&Shown) -> T) -> Option<T> {
        let process = self.process.as_ref()?;
        Some(look(&process.window.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    /// The store of a manager that has started.
    pub fn store(&self) -> Option<Store> {
        self.seen(|shown| shown.manager.as_ref().map(|(store, _)| store.clone()))?
    }

    /// A user asks something of this manager.
    pub fn ask(&self, op: Op) {
        if let Some(process) = &self.process {
            // One whose main has ended answers nobody.
            let _ = process.ops.send(op);
        }
    }
}
