//! Tasks.

use std::{collections::BTreeSet, sync::Arc};

use proto::{
    error::ApiError,
    model::{NodeId, ServiceId, Task},
    pb,
};

use crate::store::state::State;

/// The tasks of the services and on the nodes that a request names; an empty list means all.
pub(super) fn list(state: &State, request: &pb::ListTasksRequest) -> Result<Vec<Arc<Task>>, ApiError> {
    let services = request.services.iter().map(|key| Ok(state.find_service(key)?.id.clone()));
    let services = services.collect::<Result<BTreeSet<ServiceId>, ApiError>>()?;
    let nodes = request.nodes.iter().map(|key| Ok(state.find_node(key)?.id.clone()));
    let nodes = nodes.collect::<Result<BTreeSet<NodeId>, ApiError>>()?;
    let tasks: Box<dyn Iterator<Item = &Arc<Task>>> = if !services.is_empty() {
        Box::new(services.iter().flat_map(|id| state.tasks_by_service(id)))
    } else if !nodes.is_empty() {
        Box::new(nodes.iter().flat_map(|id| state.tasks_by_node(id)))
    } else {
        Box::new(state.tasks.values())
    };
    // The places of containers that users run by hand are no tasks to a user.
    let wanted = |t: &&Arc<Task>| {
        t.attached_container.is_none()
            && (nodes.is_empty() || t.node_id.as_ref().is_some_and(|n| nodes.contains(n)))
    };
    Ok(tasks.filter(wanted).cloned().collect())
}
