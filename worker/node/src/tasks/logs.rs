//! The output of tasks, from their containers.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::{StreamExt, stream::BoxStream};
use network::assigned::Assigned;
use proto::{
    model::{ContainerId, TaskId, TaskState},
    pb,
};
use runtime::{LogLine, LogOptions, Result as RuntimeResult, Runtime, Stream};
use tokio::{sync::watch, time::timeout};

use crate::{managers::TaskLogOptions, managers::TaskLogs};

/// A question about a task may overtake its assignment; by so much.
const OVERTAKEN: Duration = Duration::from_secs(10);

/// Reads the runtime's logs by task.
pub struct RuntimeLogs {
    /// Containers.
    pub runtime: Arc<dyn Runtime>,
    /// What is assigned to this node.
    pub assigned: watch::Receiver<Arc<Assigned>>,
}

/// The container of a task.
fn container(runtime: &dyn Runtime, task: &TaskId) -> Option<ContainerId> {
    let ours = |c: &runtime::Container| c.record.task.as_ref().is_some_and(|t| t.task == *task);
    runtime.list().into_iter().find(ours).map(|c| c.record.id)
}

/// Waits until a task has a container here: its image is being pulled, or it is still on its way. None if it will have none.
async fn awaited(
    runtime: Arc<dyn Runtime>,
    mut assigned: watch::Receiver<Arc<Assigned>>,
    task: TaskId,
) -> Option<ContainerId> {
    let mut arrivals = runtime.arrivals();
    timeout(OVERTAKEN, assigned.wait_for(|a| a.tasks.contains_key(&task))).await.ok()?.ok()?;
    loop {
        arrivals.borrow_and_update();
        if let Some(id) = container(&*runtime, &task) {
            return Some(id);
        }
        let over = |a: &Arc<Assigned>| a.tasks.get(&task).is_none_or(|t| t.desired > TaskState::Running);
        tokio::select! {
            made = arrivals.changed() => made.ok()?,
            _ = assigned.wait_for(over) => return container(&*runtime, &task),
        }
    }
}

fn wire(line: RuntimeResult<LogLine>) -> Result<pb::LogLine, String> {
    let LogLine { at, stream, data, partial } = line.map_err(|e| e.to_string())?;
    Ok(pb::LogLine { at_nanos: at, stderr: stream == Stream::Stderr, data, partial })
}

#[async_trait]
impl TaskLogs for RuntimeLogs {
    async fn logs(
        &self,
        task: &TaskId,
        options: TaskLogOptions,
    ) -> Result<BoxStream<'static, Result<pb::LogLine, String>>, String> {
        let TaskLogOptions { follow, tail, since, until } = options;
        let options = LogOptions { follow, tail, since, until };
        if let Some(id) = container(&*self.runtime, task) {
            let lines = self.runtime.logs(&id, options).await.map_err(|e| e.to_string())?;
            return Ok(lines.map(wire).boxed());
        }
        if !follow {
            // One that is being prepared has said nothing yet.
            return match self.assigned.borrow().tasks.contains_key(task) {
                true => Ok(futures::stream::empty().boxed()),
                false => Err(format!("task {task} has no container on this node")),
            };
        }
        let (runtime, assigned, task) = (self.runtime.clone(), self.assigned.clone(), task.clone());
        let later = async move {
            let Some(id) = awaited(runtime.clone(), assigned, task).await else {
                return futures::stream::empty().boxed();
            };
            match runtime.logs(&id, options).await {
                Ok(lines) => lines.map(wire).boxed(),
                Err(error) => futures::stream::iter([Err(error.to_string())]).boxed(),
            }
        };
        Ok(futures::stream::once(later).flatten().boxed())
    }
}
