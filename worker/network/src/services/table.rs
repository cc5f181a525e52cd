//! The [`ServiceTable`]: names, virtual addresses, published ports and who answers for them.
//!
//! Computed whole from two snapshots, the assignments and the gossip view; nothing is counted or patched.
//!
//! * A task is listed while its record says ready. A draining one keeps its record (and its PTR), and gets nothing new.
//! * A dead node's tasks are left out, unless that would leave a service with none: then all are kept (fail static), since
//!   it is likelier that this node is the one cut off.
//! * Names are per network, lower case, without a dot at the end. Nothing is resolvable through `ingress`.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use gossip::{EndpointRecord, EndpointState, PeerView};
use proto::model::{
    EndpointMode, Network, NetworkId, NodeId, Port, Protocol, PublishMode, Service, ServiceId, TaskId,
};

use crate::assigned::Assigned;

/// Addresses that a name stands for. Both empty: the name is known and has no address now (NODATA, not NXDOMAIN).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Addresses {
    /// For A.
    pub v4: Vec<Ipv4Addr>,
    /// For AAAA.
    pub v6: Vec<Ipv6Addr>,
}

impl Addresses {
    fn add(&mut self, addrs: &[IpAddr]) {
        for addr in addrs {
            match addr {
                IpAddr::V4(a) if !self.v4.contains(a) => self.v4.push(*a),
                IpAddr::V6(a) if !self.v6.contains(a) => self.v6.push(*a),
                _ => {}
            }
        }
    }
}

/// A task that new connections may go to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend {
    /// The task.
    pub task: TaskId,
    /// Its node.
    pub node: NodeId,
    /// Its addresses on the network in question, at most one per family.
    pub addrs: Vec<IpAddr>,
}

/// A service on one network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceEntry {
    /// Its name.
    pub name: String,
    /// Its virtual addresses here; empty for dnsrr.
    pub vips: Vec<IpAddr>,
    /// Its ready tasks, in the order of their ids.
    pub backends: Vec<Backend>,
}

/// One network's services and names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetworkTable {
    /// Its name.
    pub name: String,
    /// No way out: queries that it cannot answer are not forwarded for a sandbox with only such networks.
    pub internal: bool,
    /// Its services.
    pub services: BTreeMap<ServiceId, ServiceEntry>,
    /// What each name stands for.
    pub names: HashMap<Box<str>, Addresses>,
    /// The name of each address, `name.network`.
    pub reverse: HashMap<IpAddr, Box<str>>,
}

/// A port published through the routing mesh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedPort {
    /// Its service.
    pub service: ServiceId,
    /// The service's name.
    pub service_name: String,
    /// The port that its tasks listen on.
    pub target: Port,
    /// Its ready tasks, with their addresses on `ingress`.
    pub backends: Arc<[Backend]>,
}

/// Everything that load balancing and DNS need.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServiceTable {
    /// Overlays, `ingress` not among them.
    pub networks: BTreeMap<NetworkId, Arc<NetworkTable>>,
    /// Ports of the routing mesh.
    pub published: BTreeMap<(Protocol, Port), PublishedPort>,
}

impl ServiceTable {
    /// The table that assignments and gossip amount to, as node `me` sees it.
    pub fn compute(assigned: &Assigned, view: &PeerView, me: &NodeId) -> Self {
        let mut by_network: HashMap<&NetworkId, Vec<&EndpointRecord>> = HashMap::new();
        for ((network, _), record) in &view.endpoints {
            by_network.entry(network).or_default().push(record);
        }
        let mut services: HashMap<&str, Vec<&Service>> = HashMap::new();
        for service in assigned.services.values() {
            for attachment in &service.spec.task.networks {
                services.entry(&attachment.target).or_default().push(service);
            }
        }

        let mut table = Self::default();
        for (id, network) in &assigned.networks {
            let endpoints = Endpoints::new(by_network.remove(id).unwrap_or_default(), view, me);
            if network.spec.ingress {
                table.published = published(assigned, &endpoints);
            } else {
                let here = services.get(id.as_str()).map_or(&[][..], Vec::as_slice);
                table.networks.insert(id.clone(), Arc::new(network_table(network, here, &endpoints)));
            }
        }
        table
    }

    /// What `name` (lower case, no dot at the end) stands for to someone on `networks`: the full name on any of them, in their
    /// order, then `name.network` split at every dot.
    pub fn resolve(&self, networks: &[NetworkId], name: &str) -> Option<&Addresses> {
        let tables = || networks.iter().filter_map(|id| self.networks.get(id));
        tables().find_map(|t| t.names.get(name)).or_else(|| {
            name.match_indices('.').find_map(|(dot, _)| {
                let (host, network) = (name.get(..dot)?, name.get(dot + 1..)?);
                tables().filter(|t| t.name.eq_ignore_ascii_case(network)).find_map(|t| t.names.get(host))
            })
        })
    }

    /// The name of `addr`, to someone on `networks`.
    pub fn reverse(&self, networks: &[NetworkId], addr: IpAddr) -> Option<&str> {
        networks
            .iter()
            .filter_map(|id| self.networks.get(id))
            .find_map(|t| t.reverse.get(&addr))
            .map(|n| &**n)
    }
}

/// One network's records, by service.
struct Endpoints<'a> {
    all: Vec<&'a EndpointRecord>,
    live: HashMap<&'a ServiceId, Vec<&'a EndpointRecord>>,
}

impl<'a> Endpoints<'a> {
    fn new(all: Vec<&'a EndpointRecord>, view: &PeerView, me: &NodeId) -> Self {
        let mut live: HashMap<&ServiceId, Vec<&EndpointRecord>> = HashMap::new();
        for record in all.iter().filter(|r| r.state == EndpointState::Ready) {
            live.entry(&record.service).or_default().push(record);
        }
        for ready in live.values_mut() {
            let alive = |r: &&EndpointRecord| r.node == *me || view.is_alive(&r.node);
            if ready.iter().any(alive) {
                ready.retain(alive);
            }
        }
        Self { all, live }
    }

    fn live_of(&self, service: &ServiceId) -> &[&'a EndpointRecord] {
        self.live.get(service).map_or(&[], Vec::as_slice)
    }

    fn backends_of(&self, service: &ServiceId) -> impl Iterator<Item = Backend> {
        self.live_of(service).iter().map(|r| Backend {
            task: r.task.clone(),
            node: r.node.clone(),
            addrs: r.addrs.clone(),
        })
    }
}

fn published(assigned: &Assigned, ingress: &Endpoints<'_>) -> BTreeMap<(Protocol, Port), PublishedPort> {
    let mut ports = BTreeMap::new();
    for service in assigned.services.values() {
        let Some(allocation) = &service.allocation else { continue };
        let mesh = || allocation.ports.iter().filter(|p| p.mode == PublishMode::Ingress && p.published != 0);
        if mesh().next().is_none() {
            continue;
        }
        let backends: Arc<[Backend]> = ingress.backends_of(&service.id).collect();
        for port in mesh() {
            ports.entry((port.protocol, port.published)).or_insert_with(|| PublishedPort {
                service: service.id.clone(),
                service_name: service.spec.name.clone(),
                target: port.target,
                backends: Arc::clone(&backends),
            });
        }
    }
    ports
}

fn network_table(network: &Network, services: &[&Service], endpoints: &Endpoints<'_>) -> NetworkTable {
    let mut table = NetworkTable {
        name: network.spec.name.clone(),
        internal: network.spec.internal,
        ..NetworkTable::default()
    };
    let mut name = |name: &str, addrs: &mut dyn Iterator<Item = &[IpAddr]>| {
        let entry = table.names.entry(name.to_ascii_lowercase().into()).or_default();
        addrs.for_each(|a| entry.add(a));
    };

    for service in services {
        let live = endpoints.live_of(&service.id);
        let allocated = service.allocation.iter().flat_map(|a| &a.vips).filter(|v| v.network == network.id);
        let vips: Vec<IpAddr> = match service.spec.endpoint.mode {
            EndpointMode::Vip => allocated.flat_map(|v| v.addrs.iter().copied()).collect(),
            EndpointMode::DnsRr => Vec::new(),
        };
        let attachments = service.spec.task.networks.iter().filter(|a| a.target == network.id.as_str());
        let aliases = attachments.flat_map(|a| a.aliases.iter().map(String::as_str));
        for alias in std::iter::once(service.spec.name.as_str()).chain(aliases) {
            let mut tasks = live.iter().map(|r| r.addrs.as_slice());
            name(&format!("tasks.{alias}"), &mut tasks.clone());
            match vips.as_slice() {
                [] => name(alias, &mut tasks),
                vips => name(alias, &mut std::iter::once(vips)),
            }
        }
        table.services.insert(
            service.id.clone(),
            ServiceEntry {
                name: service.spec.name.clone(),
                vips,
                backends: endpoints.backends_of(&service.id).collect(),
            },
        );
    }

    // Names of single tasks. A service's name is never hidden by a task's, whatever host name its user chose.
    let mut tasks: HashMap<Box<str>, Addresses> = HashMap::new();
    for record in endpoints.live.values().flatten() {
        for alias in std::iter::once(&record.task_name).chain(&record.task_aliases).filter(|a| !a.is_empty())
        {
            tasks.entry(alias.to_ascii_lowercase().into()).or_default().add(&record.addrs);
        }
    }
    for (task, addrs) in tasks {
        table.names.entry(task).or_insert(addrs);
    }

    for entry in table.services.values() {
        let full: Box<str> = format!("{}.{}", entry.name, table.name).into();
        table.reverse.extend(entry.vips.iter().map(|vip| (*vip, full.clone())));
    }
    for record in endpoints.all.iter().filter(|r| !r.task_name.is_empty()) {
        let full: Box<str> = format!("{}.{}", record.task_name, table.name).into();
        table.reverse.extend(record.addrs.iter().map(|addr| (*addr, full.clone())));
    }
    table
}

#[cfg(test)]
mod tests;
