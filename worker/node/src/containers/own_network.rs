//! Containers without a place on the swarm's networks.

use std::sync::Arc;

use async_trait::async_trait;
use network::workload::{Workload, WorkloadId};
use proto::model::ContainerId;

use crate::tasks::{Network, NetworkError, TaskNetwork};

/// The machine's own network; and what is left to a container whose swarm has been left.
pub(super) struct OwnNetwork;

#[async_trait]
impl Network for OwnNetwork {
    async fn up(&self, workload: &Arc<Workload>, _: &ContainerId) -> Result<TaskNetwork, NetworkError> {
        if workload.host_network {
            return Ok(TaskNetwork { netns: None, addrs: Vec::new(), host_ports: Vec::new() });
        }
        Err(NetworkError(
            "the container has no network: it was made for networks of a swarm that this node has left; make it anew".into(),
        ))
    }

    async fn created(&self, _: &Arc<Workload>, _: &ContainerId) {}

    async fn adopt(&self, _: &Arc<Workload>, _: &ContainerId) -> Result<TaskNetwork, NetworkError> {
        Ok(TaskNetwork { netns: None, addrs: Vec::new(), host_ports: Vec::new() })
    }

    async fn down(&self, _: &WorkloadId) {}
}
