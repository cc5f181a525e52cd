//! The containers of a simulated host: what an agent's supervisors would do, without a kernel.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures::stream::BoxStream;
use network::assigned::Assigned;
use node::managers::{Reports, TaskLogOptions, TaskLogs};
use proto::{
    model::{Task, TaskId, TaskState, TaskStatus, Timestamp},
    pb,
};
use rand::Rng;
use tokio::{sync::watch, time::timeout};
use worker::agent::Progress;

/// How far each task of a host has come. It outlives the agent, as containers do.
pub type Containers = Arc<Mutex<BTreeMap<TaskId, TaskState>>>;

/// Between two looks at what runs.
const LOOK: Duration = Duration::from_secs(1);

static CALM: AtomicBool = AtomicBool::new(false);

/// No container fails by itself any more.
pub fn calm() {
    CALM.store(true, Ordering::Relaxed);
}

/// There is no output.
pub struct NoLogs;

#[async_trait]
impl TaskLogs for NoLogs {
    async fn logs(
        &self,
        task: &TaskId,
        _: TaskLogOptions,
    ) -> Result<BoxStream<'static, Result<pb::LogLine, String>>, String> {
        Err(format!("task {task} has no output"))
    }
}

/// Where a task goes from `now`, if anywhere.
fn next(task: &Task, now: TaskState, fails: bool) -> Option<TaskState> {
    use TaskState::{Accepted, Assigned, Failed, Preparing, Ready, Running, Shutdown, Starting};
    if now.is_terminal() {
        return None;
    }
    if task.desired > Running {
        return Some(Shutdown);
    }
    match now {
        Ready if task.desired < Running => None,
        Running => fails.then_some(Failed),
        Assigned => Some(Accepted),
        Accepted => Some(Preparing),
        Preparing => Some(Ready),
        Ready => Some(Starting),
        _ => Some(Running),
    }
}

/// Does what is assigned until the process ends. At its start it says of every task where it stands: what the last process
/// said may not have arrived.
pub async fn run(
    mut assigned: watch::Receiver<Arc<Assigned>>,
    reports: Reports,
    reached: watch::Sender<Progress>,
    containers: Containers,
    failures: f64,
) {
    let mut said: BTreeMap<TaskId, TaskState> = BTreeMap::new();
    loop {
        let now = assigned.borrow_and_update().clone();
        let mut busy = false;
        let failures = if CALM.load(Ordering::Relaxed) { 0.0 } else { failures };
        {
            let mut containers = containers.lock().unwrap_or_else(PoisonError::into_inner);
            containers.retain(|id, _| now.tasks.contains_key(id));
            said.retain(|id, _| now.tasks.contains_key(id));
            for (id, task) in &now.tasks {
                let state = match containers.get(id) {
                    Some(state) => *state,
                    // It was started once, and is not there any more.
                    None if task.status.state >= TaskState::Starting && !task.status.state.is_terminal() => {
                        TaskState::Failed
                    }
                    None => task.status.state.max(TaskState::Assigned),
                };
                let fails = failures > 0.0 && rand::rng().random_bool(failures);
                let first = !said.contains_key(id);
                let state = if first { state } else { next(task, state, fails).unwrap_or(state) };
                containers.insert(id.clone(), state);
                if said.insert(id.clone(), state) != Some(state) {
                    busy = true;
                    if state > TaskState::Assigned {
                        let err = if state == TaskState::Failed { "exit 1" } else { "" };
                        let at = Timestamp::now();
                        reports.report(
                            id.clone(),
                            TaskStatus { state, at, err: err.into(), ..TaskStatus::default() },
                        );
                    }
                }
            }
        }
        reached.send_replace(Progress { applied: now.fence(), ..Progress::default() });
        if busy {
            let pause = rand::rng().random_range(5..60);
            tokio::time::sleep(Duration::from_millis(pause)).await;
        } else if let Ok(Err(_)) = timeout(LOOK, assigned.changed()).await {
            return;
        }
    }
}
