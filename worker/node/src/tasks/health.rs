//! Checks a container's health for as long as somebody wants to know.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use proto::model::ContainerId;
use runtime::{Check, ExecConfig, ExecIo, Health, HealthCheck, HealthReport, Runtime, Tracker};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    sync::watch,
    task::JoinHandle,
    time::{sleep, timeout},
};

/// As much of a check's output is kept (Docker's `maxOutputLen`).
const OUTPUT: usize = 4096;
/// How long output may come after a check has ended: what it left running may hold its pipes open.
const REST: Duration = Duration::from_millis(100);

/// What is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HealthState {
    pub(super) health: Health,
    /// What the last failed check said.
    pub(super) output: String,
    /// What the task's status is to say of it.
    pub(super) note: String,
}

impl HealthState {
    /// With nothing to add.
    pub(super) fn of(health: Health) -> Self {
        Self { health, output: String::new(), note: String::new() }
    }
}

/// A container's health as it changes. Checks end when it is dropped.
pub(super) struct Monitor {
    pub(super) finding: watch::Receiver<HealthState>,
    pub(super) task: JoinHandle<()>,
}

impl Monitor {
    /// Begins. `started_at` is the container's start, in ms since the epoch. One that is known to be `Starting` although it
    /// runs already is checked at once.
    pub(super) fn start(
        runtime: Arc<dyn Runtime>,
        id: ContainerId,
        check: HealthCheck,
        started_at: u64,
        known: Option<Health>,
    ) -> Self {
        let health = known.unwrap_or(Health::Starting);
        let (tx, finding) = watch::channel(HealthState::of(health));
        let mut report = HealthReport::new(health);
        runtime.note_health(&id, report.clone());
        let task = tokio::spawn(async move {
            let mut tracker = Tracker::new(health);
            let mut pause = match known {
                Some(_) => tracker.pause(&check, since(started_at)),
                None => Duration::ZERO,
            };
            loop {
                sleep(pause).await;
                if runtime.is_paused(&id) {
                    // It can neither pass nor fail; as soon as it goes on, it is looked at.
                    pause = check.interval;
                    continue;
                }
                let (began, start) = (since(started_at), nanos());
                let outcome = probe(&*runtime, &id, &check).await;
                let health = tracker.note(&check, outcome.exit_code == 0, began);
                tracing::debug!(container = %id.short(), ?outcome, ?health, "health");
                let output = outcome.complaint();
                let Outcome { exit_code, output: said } = outcome;
                report.note(&tracker, Check { start, end: nanos(), exit_code, output: said });
                runtime.note_health(&id, report.clone());
                tx.send_if_modified(|old| {
                    let news = old.health != health;
                    *old = HealthState { output, ..HealthState::of(health) };
                    news
                });
                pause = tracker.pause(&check, since(started_at));
            }
        });
        Self { finding, task }
    }

    /// No more checks; what is known stays.
    pub(super) fn stop(&self) {
        self.task.abort();
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Time since a moment, in ms since the epoch.
pub(super) fn since(millis: u64) -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.saturating_sub(Duration::from_millis(millis))
}

/// The time, ns since the epoch.
fn nanos() -> u64 {
    u64::try_from(since(0).as_nanos()).unwrap_or(u64::MAX)
}

/// How a check came out.
#[derive(Debug)]
struct Outcome {
    /// Its exit code; -1 if it could not be run, or took too long.
    exit_code: i32,
    /// What it said, or why it could not be made.
    output: String,
}

impl Outcome {
    /// What went wrong, in a line; empty if nothing did.
    fn complaint(&self) -> String {
        match (self.exit_code, self.output.trim()) {
            (0, _) => String::new(),
            (code, "") => format!("check exited with {code}"),
            (_, said) => said.replace('\n', " "),
        }
    }
}

/// One check.
async fn probe(runtime: &dyn Runtime, id: &ContainerId, check: &HealthCheck) -> Outcome {
    let config = ExecConfig { args: check.args.clone(), kill_on_drop: true, ..ExecConfig::default() };
    let run = async {
        let session = match runtime.exec(id, config).await {
            Ok(session) => session,
            Err(error) => return Outcome { exit_code: -1, output: error.to_string() },
        };
        let mut output = Vec::new();
        let code = match session.io {
            ExecIo::Pipes { stdout, stderr, .. } => {
                let (mut out, mut err) = (Vec::new(), Vec::new());
                let mut exit = session.exit;
                let code = {
                    let reading = async { tokio::join!(gather(stdout, &mut out), gather(stderr, &mut err)) };
                    tokio::pin!(reading);
                    tokio::select! {
                        code = &mut exit => {
                            // Late output is nice to have, no more.
                            let _ = timeout(REST, reading).await;
                            code
                        }
                        _ = &mut reading => exit.await,
                    }
                };
                output.extend(out);
                output.extend(err);
                code
            }
            ExecIo::Terminal(_) => session.exit.await,
        };
        output.truncate(OUTPUT);
        Outcome { exit_code: code.unwrap_or(-1), output: String::from_utf8_lossy(&output).into_owned() }
    };
    timeout(check.timeout, run).await.unwrap_or_else(|_| Outcome {
        exit_code: -1,
        output: format!("check exceeded its timeout ({:?})", check.timeout),
    })
}

/// Reads to the end and keeps the beginning.
async fn gather(mut from: impl AsyncRead + Unpin, into: &mut Vec<u8>) {
    let mut buffer = [0; 1024];
    while let Ok(n) = from.read(&mut buffer).await {
        if n == 0 {
            return;
        }
        let room = OUTPUT.saturating_sub(into.len()).min(n);
        into.extend_from_slice(&buffer[..room]);
    }
}
