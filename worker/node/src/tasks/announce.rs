//! A task's endpoints in the gossip: one record per overlay, and one on `ingress` if its service publishes there.

use std::time::Duration;

use gossip::{AckReport, EndpointRecord, EndpointState, Gossip};
use network::assigned::Assigned;
use proto::model::{NetworkId, NodeId, Task};

/// How long peers may take to have a change in their kernels: as long as a notice is repeated.
pub(super) const ACKNOWLEDGED: Duration = Duration::from_secs(3);

/// The records of a task in a state.
pub(super) fn records(
    task: &Task,
    node: &NodeId,
    assigned: &Assigned,
    task_aliases: &[String],
    state: EndpointState,
) -> Vec<EndpointRecord> {
    let Some(allocation) = &task.allocation else { return Vec::new() };
    let record = |network: NetworkId, addrs, aliases: &[String], task_aliases: &[String]| EndpointRecord {
        network,
        task: task.id.clone(),
        node: node.clone(),
        service: task.service_id.clone(),
        service_name: task.service_name.clone(),
        task_name: task.name(),
        slot: task.slot,
        addrs,
        aliases: aliases.to_vec(),
        task_aliases: task_aliases.to_vec(),
        state,
        seq: 0,
    };
    let overlays = allocation.attachments.iter().map(|a| {
        let addrs = a.addrs.iter().map(|s| s.addr).collect();
        // There is no service whose names the aliases of a single container could be.
        let of_its_own = task.attached_container.iter().flat_map(|_| a.aliases.iter().cloned());
        let names: Vec<String> = task_aliases.iter().cloned().chain(of_its_own).collect();
        record(a.network.clone(), addrs, &a.aliases, &names)
    });
    let mesh =
        assigned.networks.values().find(|n| n.spec.ingress).filter(|_| !allocation.ingress_addrs.is_empty());
    // No names: nothing is ever resolved on `ingress`.
    let mesh = mesh.map(|n| record(n.id.clone(), allocation.ingress_addrs.clone(), &[], &[]));
    overlays.chain(mesh).collect()
}

/// Publishes records, and waits until every live member of their networks has them in its kernel.
pub(super) async fn publish(gossip: &Gossip, records: Vec<EndpointRecord>) -> AckReport {
    let mut handles = Vec::with_capacity(records.len());
    for record in records {
        handles.push(gossip.publish(record).await);
    }
    let reports = futures::future::join_all(handles.iter().map(|h| h.acknowledged(ACKNOWLEDGED))).await;
    let mut missing: Vec<_> = reports.into_iter().flat_map(|r| r.missing).collect();
    missing.sort();
    missing.dedup();
    AckReport { all: missing.is_empty(), missing }
}
