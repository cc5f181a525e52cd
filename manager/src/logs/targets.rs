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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use proto::model::{Meta, Revision, TaskSpec, TaskState, TaskStatus, Timestamp};

    use super::*;
    use crate::api::validate::service::tests::service;

    fn task(service: &ServiceId, node: Option<&NodeId>) -> Task {
        Task {
            id: TaskId::random(),
            meta: Meta::default(),
            service_id: service.clone(),
            service_name: "web".into(),
            slot: 1,
            spec: TaskSpec::default(),
            spec_version: Revision(1),
            allocation: None,
            node_id: node.cloned(),
            desired: TaskState::Running,
            status: TaskStatus::default(),
            conditions: Vec::new(),
            start_after: Timestamp::default(),
            running_at: Timestamp::default(),
            ended_at: Timestamp::default(),
            attached_container: None,
        }
    }

    #[test]
    fn each_node_is_asked_once_for_its_own_tasks() {
        let mut state = State::default();
        let web = service("web");
        let (a, b) = (NodeId::random(), NodeId::random());
        let tasks =
            [task(&web.id, Some(&a)), task(&web.id, Some(&a)), task(&web.id, Some(&b)), task(&web.id, None)];
        for t in &tasks {
            state.put(t.clone());
        }
        state.put(web.clone());
        let request = pb::LogsRequest { service: "web".into(), ..pb::LogsRequest::default() };
        let subject = Subject::find(&state, &request).unwrap();
        assert_eq!(subject, Subject::Service(web.id));
        let asked = by_node(&state, &subject, &BTreeSet::new());
        assert_eq!(asked.keys().collect::<BTreeSet<_>>(), BTreeSet::from([&a, &b]));
        assert_eq!(asked[&a].len(), 2);
        let again = by_node(&state, &subject, &asked.values().flatten().cloned().collect());
        assert!(again.is_empty(), "the task without a node has no logs yet");

        let request = pb::LogsRequest { task: tasks[2].id.to_string(), ..pb::LogsRequest::default() };
        let one = Subject::find(&state, &request).unwrap();
        assert_eq!(by_node(&state, &one, &BTreeSet::new()), BTreeMap::from([(b, vec![tasks[2].id.clone()])]));
        assert!(Subject::find(&state, &pb::LogsRequest::default()).is_err());
    }
}
