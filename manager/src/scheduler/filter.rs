//! What keeps a task off a node.

use std::fmt;

use proto::model::{Availability, Node, NodeState, Port, Protocol, Task};

use super::{NodeInfo, constraint, node_info::host_ports};
use crate::{allocator::overlay_mtu, store::state::State};

/// Why a node cannot take a task. The wording is Swarm's where Swarm has one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    /// Why the node takes no tasks, in one word: `down`, `paused`, `drained` …
    NotAvailable(&'static str),
    /// Not enough left to reserve.
    Resources(&'static str),
    /// This constraint does not hold.
    Constraint(String),
    /// The port is bound by another task there.
    HostPort(Protocol, Port),
    /// The service has as many tasks there as it may.
    MaxReplicas,
    /// The node's underlay is too small for the network's MTU.
    Mtu(String),
    /// The node's kernel lacks what the task's networks need.
    Feature(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::NotAvailable(why) => write!(f, "not available for new tasks ({why})"),
            Refusal::Resources(what) => write!(f, "insufficient resources ({what})"),
            Refusal::Constraint(text) => write!(f, "scheduling constraint {text} not satisfied"),
            Refusal::HostPort(protocol, port) => write!(f, "host-mode port {port}/{protocol} already in use"),
            Refusal::MaxReplicas => f.write_str("max replicas per node limit exceed"),
            Refusal::Mtu(network) => write!(f, "underlay MTU too small for network {network}"),
            Refusal::Feature(feature) => write!(f, "missing kernel feature: {feature}"),
        }
    }
}

/// One reason to keep tasks off nodes.
pub trait Filter: Sync {
    /// Refuses, or has nothing against it.
    ///
    /// # Errors
    /// The refusal.
    fn check(&self, task: &Task, node: &NodeInfo, state: &State) -> Result<(), Refusal>;
}

/// All filters, the telling ones first: the first refusal is the one reported.
pub(super) const FILTERS: [&dyn Filter; 7] =
    [&Available, &Constraints, &Reservations, &HostPorts, &MaxReplicas, &CarriesMtu, &HasFeatures];

/// The first refusal, if any.
pub(super) fn check(task: &Task, node: &NodeInfo, state: &State) -> Result<(), Refusal> {
    FILTERS.iter().try_for_each(|filter| filter.check(task, node, state))
}

/// Whether a node takes new tasks at all.
pub fn is_available(node: &Node) -> bool {
    unavailable(node).is_none()
}

/// Why it does not.
fn unavailable(node: &Node) -> Option<&'static str> {
    match (node.status.state, node.spec.availability) {
        (NodeState::Ready, Availability::Active) => None,
        (NodeState::Ready, Availability::Pause) => Some("paused"),
        (NodeState::Ready, Availability::Drain) => Some("drained"),
        (NodeState::Down, _) => Some("down"),
        (NodeState::Disconnected | NodeState::Unknown, _) => Some("not in session"),
    }
}

/// Whether a node is one that a global service has a task on.
pub(super) fn eligible(constraints: &[String], node: &Node) -> Result<(), Refusal> {
    unavailable(node).map_or(Ok(()), |why| Err(Refusal::NotAvailable(why)))?;
    constraint::unmet(constraints, node).map_or(Ok(()), |text| Err(Refusal::Constraint(text.to_owned())))
}

struct Available;

impl Filter for Available {
    fn check(&self, _: &Task, node: &NodeInfo, _: &State) -> Result<(), Refusal> {
        unavailable(&node.node).map_or(Ok(()), |why| Err(Refusal::NotAvailable(why)))
    }
}

struct Constraints;

impl Filter for Constraints {
    fn check(&self, task: &Task, node: &NodeInfo, _: &State) -> Result<(), Refusal> {
        let unmet = constraint::unmet(&task.spec.placement.constraints, &node.node);
        unmet.map_or(Ok(()), |text| Err(Refusal::Constraint(text.to_owned())))
    }
}

struct Reservations;

impl Filter for Reservations {
    fn check(&self, task: &Task, node: &NodeInfo, _: &State) -> Result<(), Refusal> {
        let (wanted, left) = (task.spec.reservations, node.available());
        if wanted.nano_cpus > left.nano_cpus {
            return Err(Refusal::Resources("CPU"));
        }
        if wanted.memory_bytes > left.memory_bytes {
            return Err(Refusal::Resources("memory"));
        }
        Ok(())
    }
}

struct HostPorts;

impl Filter for HostPorts {
    fn check(&self, task: &Task, node: &NodeInfo, _: &State) -> Result<(), Refusal> {
        let taken = host_ports(task).find(|(protocol, port)| node.holds_port(*protocol, *port));
        taken.map_or(Ok(()), |(protocol, port)| Err(Refusal::HostPort(protocol, port)))
    }
}

struct MaxReplicas;

impl Filter for MaxReplicas {
    fn check(&self, task: &Task, node: &NodeInfo, _: &State) -> Result<(), Refusal> {
        let most = task.spec.placement.max_replicas;
        let full = most != 0 && node.tasks_of(&task.service_id) >= most;
        if full { Err(Refusal::MaxReplicas) } else { Ok(()) }
    }
}

struct CarriesMtu;

impl Filter for CarriesMtu {
    fn check(&self, task: &Task, node: &NodeInfo, state: &State) -> Result<(), Refusal> {
        for attachment in task.allocation.iter().flat_map(|a| &a.attachments) {
            let Some(network) = state.networks.get(&attachment.network) else { continue };
            let wanted = network.allocation.as_ref().map_or(0, |a| a.mtu);
            if overlay_mtu(&node.node, network).is_some_and(|carried| carried < wanted) {
                return Err(Refusal::Mtu(network.spec.name.clone()));
            }
        }
        Ok(())
    }
}

struct HasFeatures;

/// What every container with a network of its own needs, by the names that nodes report: `<feature> is missing: …`.
const CONTAINER: [&str; 3] = ["network namespaces", "veth devices", "bridge devices"];
/// What an overlay needs, with its service addresses.
const OVERLAY: [&str; 4] =
    ["VXLAN devices", "nftables NAT", "nftables maps with concatenations", "nftables numgen expression"];
/// What the node of a task behind the routing mesh needs to return replies.
const MESH: [&str; 5] = [
    "a kernel of version",
    "VXLAN devices",
    "nftables connection marks",
    "nftables fib expression",
    "netdev egress hook",
];

impl Filter for HasFeatures {
    fn check(&self, task: &Task, node: &NodeInfo, _: &State) -> Result<(), Refusal> {
        let missing = || node.node.description.iter().flat_map(|d| &d.missing_features);
        let Some(allocation) = task.allocation.as_ref().filter(|_| missing().next().is_some()) else {
            return Ok(());
        };
        let overlay = !allocation.attachments.is_empty();
        let v6 = allocation.attachments.iter().flat_map(|a| &a.addrs).any(|a| a.addr.is_ipv6());
        let mesh = !allocation.ingress_addrs.is_empty();
        let groups: [(bool, &[&str]); 4] =
            [(overlay || mesh, &CONTAINER), (overlay, &OVERLAY), (v6, &["IPv6"]), (mesh, &MESH)];
        let mut needed = groups.iter().filter(|(needs, _)| *needs).flat_map(|(_, names)| *names);
        let lacking = needed.find_map(|name| missing().find(|m| m.starts_with(name)));
        match lacking {
            Some(feature) => {
                let name = feature.split(" is missing").next().unwrap_or(feature);
                Err(Refusal::Feature(name.to_owned()))
            }
            None => Ok(()),
        }
    }
}
