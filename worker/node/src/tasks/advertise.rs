//! A workload's endpoints in the gossip: one record per overlay, and one on `ingress` if its service publishes there.

use std::time::Duration;

use gossip::{AckReport, EndpointRecord, EndpointState, Gossip};
use network::{
    assigned::Assigned,
    workload::{Owner, Workload},
};
use proto::model::{NetworkId, NodeId};

/// How long peers may take to have a change in their kernels: as long as a notice is repeated.
pub(super) const ACKNOWLEDGED: Duration = Duration::from_secs(3);

/// The records of a workload in a state; none of one that no swarm knows.
pub(super) fn records(
    workload: &Workload,
    node: &NodeId,
    assigned: &Assigned,
    task_aliases: &[String],
    state: EndpointState,
) -> Vec<EndpointRecord> {
    let (task, service, service_name, slot) = match &workload.owner {
        Owner::Task(task) => (&task.id, &task.service_id, &task.service_name, task.slot),
        Owner::User { attachment: Some(attachment), .. } => {
            (&attachment.task, &attachment.service, &workload.name, 0)
        }
        Owner::User { attachment: None, .. } => return Vec::new(),
    };
    let record = |network: NetworkId, addrs, aliases: &[String], task_aliases: &[String]| EndpointRecord {
        network,
        task: task.clone(),
        node: node.clone(),
        service: service.clone(),
        service_name: service_name.clone(),
        task_name: workload.name.clone(),
        slot,
        addrs,
        aliases: aliases.to_vec(),
        task_aliases: task_aliases.to_vec(),
        state,
        seq: 0,
    };
    let by_hand = workload.task().is_none();
    let overlays = workload.attachments.iter().map(|a| {
        let addrs = a.addrs.iter().map(|s| s.addr).collect();
        // There is no service whose names the aliases of a single container could be.
        let of_its_own = a.aliases.iter().filter(|_| by_hand).cloned();
        let names: Vec<String> = task_aliases.iter().cloned().chain(of_its_own).collect();
        record(a.network.clone(), addrs, &a.aliases, &names)
    });
    let mesh =
        assigned.networks.values().find(|n| n.spec.ingress).filter(|_| !workload.ingress_addrs.is_empty());
    // No names: nothing is ever resolved on `ingress`.
    let mesh = mesh.map(|n| record(n.id.clone(), workload.ingress_addrs.clone(), &[], &[]));
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
