//! Task statuses on their way to the managers: the newest of each task, until a manager has taken it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use proto::model::{TaskId, TaskStatus};
use tokio::sync::Notify;

/// Where supervisors put statuses and the session takes them. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Reports(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    pending: Mutex<BTreeMap<TaskId, TaskStatus>>,
    bell: Notify,
    /// Notified when a manager has taken a status.
    taken: Notify,
}

impl Reports {
    /// A task's status has changed. An older one that has not been sent is superseded; a state never goes back.
    pub fn report(&self, task: TaskId, status: TaskStatus) {
        {
            let mut pending = self.0.pending.lock().unwrap_or_else(PoisonError::into_inner);
            if pending.get(&task).is_some_and(|p| p.state > status.state) {
                return;
            }
            pending.insert(task, status);
        }
        self.0.bell.notify_one();
    }

    /// Waits until there is something to send, and copies it. It stays until [`Reports::taken`].
    pub async fn next(&self) -> Vec<(TaskId, TaskStatus)> {
        loop {
            let batch = self.pending();
            if !batch.is_empty() {
                return batch;
            }
            self.0.bell.notified().await;
        }
    }

    /// Whether both are handles of the same.
    pub fn same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// What no manager has taken yet.
    pub fn pending(&self) -> Vec<(TaskId, TaskStatus)> {
        let pending = self.0.pending.lock().unwrap_or_else(PoisonError::into_inner);
        pending.iter().map(|(id, status)| (id.clone(), status.clone())).collect()
    }

    /// Waits until a manager has taken what is said of these tasks, or of all.
    pub async fn delivered(&self, of: impl Fn(&TaskId) -> bool) {
        loop {
            let taken = self.0.taken.notified();
            tokio::pin!(taken);
            taken.as_mut().enable();
            if !self.pending().iter().any(|(task, _)| of(task)) {
                return;
            }
            taken.await;
        }
    }

    /// A manager has taken these; what has changed since stays.
    pub fn taken(&self, batch: &[(TaskId, TaskStatus)]) {
        {
            let mut pending = self.0.pending.lock().unwrap_or_else(PoisonError::into_inner);
            for (task, status) in batch {
                if pending.get(task) == Some(status) {
                    pending.remove(task);
                }
            }
        }
        self.0.taken.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use proto::model::TaskState;

    use super::*;

    fn status(state: TaskState) -> TaskStatus {
        TaskStatus { state, ..TaskStatus::default() }
    }

    #[tokio::test]
    async fn the_newest_is_sent_until_it_is_taken() {
        let (reports, task): (_, TaskId) = (Reports::default(), "t1".parse().unwrap());
        reports.report(task.clone(), status(TaskState::Preparing));
        reports.report(task.clone(), status(TaskState::Running));
        reports.report(task.clone(), status(TaskState::Ready));
        let batch = reports.next().await;
        assert_eq!(batch, [(task.clone(), status(TaskState::Running))]);
        // The session broke off before an answer: the same again.
        assert_eq!(reports.next().await, batch);
        // While it was on its way the task failed.
        reports.report(task.clone(), status(TaskState::Failed));
        reports.taken(&batch);
        let batch = reports.next().await;
        assert_eq!(batch[0].1.state, TaskState::Failed);
        reports.taken(&batch);
        assert!(reports.pending().is_empty());
    }
}
