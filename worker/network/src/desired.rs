//! What this node's network should look like, whole: [`NodeDesired::compute`], a pure function of what is true of this machine and,
//! while it is a member of a swarm, of the assignments and the gossip view.
//!
//! Workloads are taken from [`LocalFacts::sandboxes`], not from the assignments: the supervisor decides when a workload's sandbox
//! appears and goes, and a task that is being stopped keeps its network although its assignment may be gone.

mod mesh;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    sync::Arc,
};

use gossip::PeerView;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use kernel::{Ns, facts::BridgeNetfilter};
use proto::model::{Mac, Network, NetworkId, NodeId, Port, PortConfig, Protocol, SubnetAddr, Vni};

use crate::{
    assigned::Assigned,
    plan::{
        driver, gateway,
        names::{Marks, Names},
    },
    services::ServiceTable,
    workload::{Workload, WorkloadId},
};

pub use mesh::{Mesh, MeshPeer};

/// Where VXLAN enters and leaves this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Underlay {
    /// The data-path address.
    pub addr: IpAddr,
    /// The interface that holds it; none = let routing choose.
    pub dev: Option<String>,
    /// UDP port of VXLAN.
    pub port: Port,
    /// MTU of that interface.
    pub mtu: u32,
}

impl Underlay {
    /// Of a machine that is in no swarm: nothing is sent anywhere.
    pub const NONE: Self = Self { addr: IpAddr::V4(Ipv4Addr::UNSPECIFIED), dev: None, port: 0, mtu: 1500 };

    /// What VXLAN takes from every packet: outer IP, UDP, VXLAN and inner Ethernet headers (RFC 7348): 50 bytes over IPv4,
    /// 70 over IPv6.
    pub const fn overhead(&self) -> u32 {
        if self.addr.is_ipv4() { 50 } else { 70 }
    }
}

/// This machine as a member of a swarm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// This node.
    pub me: NodeId,
    /// Where VXLAN goes.
    pub underlay: Underlay,
    /// Packet marks of the mesh.
    pub marks: Marks,
}

/// What a swarm tells this machine.
#[derive(Debug, Clone, Copy)]
pub struct Swarm<'a> {
    /// As what.
    pub member: &'a Member,
    /// What the managers want of it.
    pub assigned: &'a Assigned,
    /// What the other nodes have.
    pub view: &'a PeerView,
}

/// Subnets of the gateway bridge; the bridge has the first address of each. By default none that anybody could use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct GatewaySubnets {
    /// IPv4.
    pub v4: Ipv4Net,
    /// IPv6: a ULA /64.
    pub v6: Ipv6Net,
}

impl GatewaySubnets {
    /// The address with this number in both subnets, IPv4 first; 1 is the bridge's own.
    pub fn host(&self, number: u32) -> [SubnetAddr; 2] {
        let v4 = u32::from(self.v4.network()).saturating_add(number);
        let v6 = u128::from(self.v6.network()).saturating_add(u128::from(number));
        [
            SubnetAddr { addr: IpAddr::V4(v4.into()), prefix: self.v4.prefix_len() },
            SubnetAddr { addr: IpAddr::V6(v6.into()), prefix: self.v6.prefix_len() },
        ]
    }

    /// Both as generic networks.
    pub fn nets(&self) -> [IpNet; 2] {
        [self.v4.into(), self.v6.into()]
    }
}

/// The ports that a sandbox's resolver listens on, at 127.0.0.11; 53 is redirected to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DnsPorts {
    /// UDP.
    pub udp: Port,
    /// TCP.
    pub tcp: Port,
}

/// A workload's sandbox that exists or shall exist.
#[derive(Debug, Clone, PartialEq)]
pub struct LocalSandbox {
    /// The workload, as it was when its sandbox was asked for.
    pub workload: Arc<Workload>,
    /// Its overlays.
    pub networks: Vec<Arc<Network>>,
    /// Its number on the gateway bridge ([`GatewaySubnets::host`]); none = no interface there.
    pub gateway_host: Option<u32>,
    /// Host-mode ports as bound on this node.
    pub host_ports: Vec<PortConfig>,
    /// Its resolver, once that is up.
    pub dns: Option<DnsPorts>,
}

/// What only this machine knows.
#[derive(Debug, Clone)]
pub struct LocalFacts {
    /// Names of what this daemon makes.
    pub names: Names,
    /// Where namespaces are kept: `<exec-root>/netns`.
    pub netns_dir: PathBuf,
    /// The gateway bridge.
    pub gateway: GatewaySubnets,
    /// Workloads that have, or shall have, a sandbox.
    pub sandboxes: BTreeMap<WorkloadId, LocalSandbox>,
    /// Published ports that somebody else holds on this node: left alone.
    pub port_conflicts: BTreeSet<(Protocol, Port)>,
    /// Whether this machine's firewall sees bridged frames. If so, a flow from one task to a published port that another one
    /// here serves is translated while it is still on the bridge, and goes on from port to port: isolation would stop
    /// it. The forward chain, which sees those frames too, keeps tasks apart instead.
    pub bridge_netfilter: BridgeNetfilter,
    /// The supervisor has said which sandboxes live on. Until then, after a start, nothing is removed.
    pub settled: bool,
    /// Other people's forward chains that drop what they do not know get rules that let ours through.
    pub firewall_compat: bool,
    /// VXLAN is taken from members only.
    pub vxlan_members_only: bool,
    /// Data-path addresses that members have, or had lately.
    pub recent_members: BTreeSet<IpAddr>,
}

/// A remote endpoint's link-layer address on an overlay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Its MAC.
    pub mac: Mac,
    /// The node behind which it is.
    pub vtep: IpAddr,
}

/// A network in use on this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DesiredNetwork {
    /// The network.
    pub id: NetworkId,
    /// MTU of its endpoints.
    pub mtu: u32,
    /// Where its devices are: a namespace of its own, or the host's.
    pub ns: Ns,
    /// The node's own addresses on it: the gateway of each subnet.
    pub gateways: Vec<SubnetAddr>,
    /// What only its driver knows.
    pub state: DriverState,
}

/// What a network is beyond what all have, by its driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DriverState {
    /// Spans nodes by VXLAN.
    Overlay {
        /// Its segment.
        vni: Vni,
        /// Endpoints on other nodes.
        peers: BTreeMap<IpAddr, Peer>,
    },
}

/// An interface of a sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// The network; none = the gateway bridge.
    pub network: Option<NetworkId>,
    /// Its name in the sandbox.
    pub ifname: String,
    /// Its MAC, derived from its addresses.
    pub mac: Mac,
    /// Its MTU.
    pub mtu: u32,
    /// Its addresses.
    pub addrs: Vec<SubnetAddr>,
    /// Subnets that are reached through it without a router, apart from those of its addresses: one segment carries all subnets of a
    /// network.
    pub routes: Vec<IpNet>,
    /// Next hops of default routes.
    pub default_via: Vec<IpAddr>,
    /// What it is to the kernel, and where its other end is.
    pub link: InterfaceLink,
}

/// What an interface is to the kernel. A driver says which of these its interfaces are; `macvlan`, `ipvlan` and an interface that a plugin
/// makes become variants here when their drivers come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InterfaceLink {
    /// One end of a veth pair; the other is a port of a bridge.
    Veth(BridgePort),
}

/// A port of a bridge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BridgePort {
    /// Where the bridge is.
    pub ns: Ns,
    /// The port's name.
    pub name: String,
    /// What its alias says after the daemon's id.
    pub object: String,
    /// The bridge.
    pub bridge: String,
    /// Whether the port is kept apart from the bridge's other isolated ones; none = as the kernel made it.
    pub isolated: Option<bool>,
}

/// A workload's network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sandbox {
    /// The workload.
    pub workload: WorkloadId,
    /// Its namespace.
    pub netns: PathBuf,
    /// One on each of its networks, in the spec's order: `eth0`, `eth1`, …
    pub interfaces: Vec<Interface>,
    /// That on the gateway bridge, numbered after those.
    pub gateway: Option<Interface>,
    /// Its resolver.
    pub dns: Option<DnsPorts>,
}

impl Sandbox {
    /// Its networks, in order.
    pub fn networks(&self) -> impl Iterator<Item = &NetworkId> {
        self.interfaces.iter().filter_map(|interface| interface.network.as_ref())
    }
}

/// Everything, for the planners.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeDesired {
    /// Names of what this daemon makes.
    pub names: Names,
    /// Where namespaces are kept.
    pub netns_dir: PathBuf,
    /// What is ours and not wanted may be removed.
    pub settled: bool,
    /// Other people's forward chains are opened for ours.
    pub firewall_compat: bool,
    /// The only addresses from which VXLAN is taken; none = from everybody, or there is none on this node.
    pub senders: Option<BTreeSet<IpAddr>>,
    /// The machine has `br_netfilter`, which new namespaces begin with.
    pub bridge_netfilter: bool,
    /// Where VXLAN goes.
    pub underlay: Underlay,
    /// The gateway bridge's subnets.
    pub gateway: GatewaySubnets,
    /// Packet marks of the mesh.
    pub marks: Marks,
    /// Networks with an endpoint here.
    pub networks: BTreeMap<NetworkId, DesiredNetwork>,
    /// Workloads here.
    pub sandboxes: BTreeMap<WorkloadId, Sandbox>,
    /// The routing mesh, once `ingress` exists and this node has its addresses there.
    pub mesh: Option<Mesh>,
    /// Host-mode ports, and the gateway-bridge addresses they lead to.
    pub host_ports: BTreeMap<(Protocol, Port), Vec<(IpAddr, Port)>>,
    /// Services.
    pub table: Arc<ServiceTable>,
}

impl NodeDesired {
    /// The whole answer. `swarm` = none: the machine is in none. `table` is [`ServiceTable::compute`] of the same two snapshots.
    pub fn compute(swarm: Option<Swarm<'_>>, local: &LocalFacts, table: Arc<ServiceTable>) -> Self {
        let mut networks = BTreeMap::new();
        let mut sandboxes = BTreeMap::new();
        let mut host_ports: BTreeMap<_, Vec<_>> = BTreeMap::new();
        let underlay = swarm.map_or(Underlay::NONE, |swarm| swarm.member.underlay.clone());
        for (id, s) in &local.sandboxes {
            for network in s.networks.iter().filter(|n| !n.spec.ingress) {
                if networks.contains_key(&network.id) {
                    continue;
                }
                // The newest form of the network, where there is one.
                let newest = swarm.and_then(|swarm| swarm.assigned.networks.get(&network.id));
                let network = newest.unwrap_or(network);
                if let Some(made) = (driver::of(&network.spec.driver).network)(network, swarm, local) {
                    networks.insert(network.id.clone(), made);
                }
            }
            for port in &s.host_ports {
                let to = local.gateway_addrs(s).map(|a| (a.addr, port.target));
                host_ports.entry((port.protocol, port.published)).or_default().extend(to);
            }
            sandboxes.insert(id.clone(), sandbox(s, local, underlay.mtu));
        }
        let mesh = swarm.and_then(|swarm| mesh::mesh(swarm, local, &table));
        let tunnels =
            mesh.is_some() || networks.values().any(|n| matches!(n.state, DriverState::Overlay { .. }));
        let from_members = swarm.filter(|_| local.vxlan_members_only && tunnels);
        Self {
            names: local.names.clone(),
            senders: from_members.map(|swarm| senders(swarm, local)),
            netns_dir: local.netns_dir.clone(),
            // Before the managers have said anything, nothing can be told to be superfluous.
            settled: local.settled && swarm.is_none_or(|swarm| swarm.assigned.generation != 0),
            underlay,
            gateway: local.gateway,
            marks: swarm.map(|swarm| swarm.member.marks).unwrap_or_default(),
            firewall_compat: local.firewall_compat,
            bridge_netfilter: local.bridge_netfilter != BridgeNetfilter::Absent,
            mesh,
            networks,
            sandboxes,
            host_ports,
            table,
        }
    }
}

impl LocalFacts {
    /// The namespace of a workload.
    pub fn sandbox_netns(&self, workload: &WorkloadId) -> PathBuf {
        self.netns_dir.join(workload.as_str())
    }

    /// The namespace of a network that has one of its own.
    pub fn network_netns(&self, network: &NetworkId) -> PathBuf {
        self.netns_dir.join(format!("{OVERLAY_NETNS}{network}"))
    }

    fn gateway_addrs(&self, sandbox: &LocalSandbox) -> impl Iterator<Item = SubnetAddr> + use<> {
        let gateway = self.gateway;
        sandbox.gateway_host.into_iter().flat_map(move |n| gateway.host(n))
    }
}

/// Prefix of an overlay's namespace file; a workload's is its id alone.
pub const OVERLAY_NETNS: &str = "ov-";

/// Other members' addresses, of either family: where they send from is where they take VXLAN. This node sends itself none.
fn senders(swarm: Swarm<'_>, local: &LocalFacts) -> BTreeSet<IpAddr> {
    let own = swarm.member.underlay.addr;
    let now = swarm.view.nodes.values().map(|node| node.vtep);
    now.chain(local.recent_members.iter().copied()).filter(|addr| *addr != own).collect()
}

fn sandbox(s: &LocalSandbox, local: &LocalFacts, underlay_mtu: u32) -> Sandbox {
    let mut interfaces = Vec::new();
    for attachment in &s.workload.attachments {
        let network = s.networks.iter().find(|n| n.id == attachment.network);
        let Some((network, allocation)) = network.and_then(|n| Some((n, n.allocation.as_ref()?))) else {
            continue;
        };
        let Some(mac) = Mac::of_any(attachment.addrs.iter().map(|a| a.addr)) else { continue };
        interfaces.push(Interface {
            network: Some(network.id.clone()),
            ifname: format!("eth{}", interfaces.len()),
            mac,
            mtu: allocation.mtu,
            addrs: attachment.addrs.clone(),
            routes: allocation
                .subnets
                .iter()
                .map(|s| s.subnet)
                .filter(|net| !attachment.addrs.iter().any(|a| a.subnet() == *net))
                // A subnet of a family that the task has no address of cannot be used from it.
                .filter(|net| attachment.addrs.iter().any(|a| a.addr.is_ipv4() == net.addr().is_ipv4()))
                .collect(),
            default_via: Vec::new(),
            link: (driver::of(&network.spec.driver).link)(&network.id, &s.workload.id, local),
        });
    }
    let gateway_addrs: Vec<SubnetAddr> = local.gateway_addrs(s).collect();
    let gateway = Mac::of_any(gateway_addrs.iter().map(|a| a.addr)).map(|mac| Interface {
        network: None,
        ifname: format!("eth{}", interfaces.len()),
        mac,
        mtu: underlay_mtu,
        addrs: gateway_addrs,
        routes: Vec::new(),
        default_via: local.gateway.host(1).map(|a| a.addr).to_vec(),
        link: gateway::link(&s.workload.id, local),
    });
    let workload = s.workload.id.clone();
    Sandbox { netns: local.sandbox_netns(&workload), workload, interfaces, gateway, dns: s.dns }
}

#[cfg(test)]
mod tests;
