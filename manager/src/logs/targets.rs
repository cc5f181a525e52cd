//! Whom to ask for the logs of a service or task.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use proto::{
    error::ApiError,
    model::{NodeId, ServiceId, Task, TaskId},
    pb,
};

use crate::store::state::State;

/// What a client wants to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// All tasks of a service, also those to come.
    Service(ServiceId),
    /// One task.
    Task(TaskId),
}

impl Subject {
    /// Finds what a request names.
    ///
    /// # Errors
    /// Neither a service nor a task is named, or it does not exist.
    pub fn find(state: &State, request: &pb::LogsRequest) -> Result<Self, ApiError> {
        match (request.service.as_str(), request.task.as_str()) {
            ("", "") => Err(ApiError::invalid("logs of what? a service or a task must be named")),
            ("", task) => Ok(Self::Task(state.find_task(task)?.id.clone())),
            (service, _) => Ok(Self::Service(state.find_service(service)?.id.clone())),
        }
    }

    /// Whether there may still come tasks.
    pub fn is_open(&self, state: &State) -> bool {
        match self {
            Subject::Service(id) => state.services.get(id).is_some(),
            Subject::Task(id) => state.tasks.get(id).is_some_and(|t| !t.status.state.is_terminal()),
        }
    }

    fn tasks<'a>(&'a self, state: &'a State) -> Box<dyn Iterator<Item = &'a Arc<Task>> + 'a> {
        match self {
            Subject::Service(id) => Box::new(state.tasks_by_service(id)),
            Subject::Task(id) => Box::new(state.tasks.get(id).into_iter()),
        }
    }
}

/// The tasks to ask for, by the node that has their logs, without those `asked` for already. Tasks that have no node yet have
/// no logs either.
pub fn by_node(state: &State, subject: &Subject, asked: &BTreeSet<TaskId>) -> BTreeMap<NodeId, Vec<TaskId>> {
    let mut nodes: BTreeMap<NodeId, Vec<TaskId>> = BTreeMap::new();
    for task in subject.tasks(state).filter(|t| !asked.contains(&t.id)) {
        if let Some(node) = &task.node_id {
            nodes.entry(node.clone()).or_default().push(task.id.clone());
        }
    }
    nodes
}

/// How messages name a node.
pub fn node_label(state: &State, node: &NodeId) -> String {
    match state.nodes.get(node) {
        Some(n) if !n.hostname().is_empty() => format!("{} ({})", n.hostname(), node.short()),
        _ => node.to_string(),
    }
}
