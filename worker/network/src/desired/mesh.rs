//! The routing mesh, as this node is to have it.

use super::*;

/// Another node of the mesh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeshPeer {
    /// MAC of its ingress device.
    pub mac: Mac,
    /// Where it takes VXLAN.
    pub vtep: IpAddr,
    /// Its ingress addresses.
    pub addrs: Vec<IpAddr>,
    /// The machine's own addresses.
    pub host_addrs: Vec<IpAddr>,
    /// The mark of flows that it sent here.
    pub mark: u32,
    /// Their conntrack zone.
    pub zone: u16,
}

/// The routing mesh on this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mesh {
    /// The `ingress` network.
    pub id: NetworkId,
    /// Its segment.
    pub vni: Vni,
    /// MTU of the device.
    pub mtu: u32,
    /// MAC of the device.
    pub mac: Mac,
    /// This node's ingress addresses.
    pub addrs: Vec<IpAddr>,
    /// The subnets of `ingress`.
    pub subnets: Vec<IpNet>,
    /// Other nodes.
    pub peers: BTreeMap<NodeId, MeshPeer>,
    /// Mesh addresses of tasks elsewhere, and the MAC of their node.
    pub remote_tasks: BTreeMap<IpAddr, Mac>,
    /// Mesh addresses of tasks here, and their addresses on the gateway bridge.
    pub local_tasks: BTreeMap<IpAddr, IpAddr>,
    /// Published ports and where new connections go.
    pub ports: BTreeMap<(Protocol, Port), Vec<(IpAddr, Port)>>,
}

pub(super) fn mesh(swarm: Swarm<'_>, local: &LocalFacts, table: &ServiceTable) -> Option<Mesh> {
    let Swarm { member: Member { me, underlay, marks }, assigned, view } = swarm;
    let network = assigned.networks.values().find(|n| n.spec.ingress)?;
    let allocation = network.allocation.as_ref()?;
    let addrs = assigned.node.as_ref()?.ingress_addrs.clone();
    let mac = Mac::of_any(addrs.iter().copied())?;

    let mut peers = BTreeMap::new();
    for (id, node) in view.nodes.iter().filter(|(id, _)| *id != me) {
        let Some(mac) = Mac::of_any(node.ingress_addrs.iter().copied()) else { continue };
        let mark = marks.from_node(mac);
        let addrs = node.ingress_addrs.clone();
        let host_addrs = node.host_addrs.clone();
        let zone = Marks::zone(mac);
        peers.insert(id.clone(), MeshPeer { mac, vtep: node.vtep, addrs, host_addrs, mark, zone });
    }

    let mut local_tasks = BTreeMap::new();
    for s in local.sandboxes.values() {
        for mesh_addr in &s.workload.ingress_addrs {
            let to = local.gateway_addrs(s).find(|a| a.addr.is_ipv4() == mesh_addr.is_ipv4());
            local_tasks.extend(to.map(|to| (*mesh_addr, to.addr)));
        }
    }
    let mut remote_tasks = BTreeMap::new();
    for record in view.endpoints_of(&network.id) {
        if let Some(peer) = peers.get(&record.node) {
            let here = record.addrs.iter().filter(|addr| !local_tasks.contains_key(addr));
            remote_tasks.extend(here.map(|addr| (*addr, peer.mac)));
        }
    }

    let mut ports = BTreeMap::new();
    for (key, published) in table.published.iter().filter(|(key, _)| !local.port_conflicts.contains(key)) {
        // Each backend counts once per family, and only when a packet for it would find its way.
        let reach = |addr: &IpAddr| match local_tasks.get(addr) {
            Some(gateway) => Some(*gateway),
            None => remote_tasks.contains_key(addr).then_some(*addr),
        };
        let backends = published.backends.iter().flat_map(|b| &b.addrs).filter_map(reach);
        ports.insert(*key, backends.map(|addr| (addr, published.target)).collect());
    }

    Some(Mesh {
        id: network.id.clone(),
        vni: allocation.vni,
        mtu: allocation.mtu.min(underlay.mtu.saturating_sub(underlay.overhead())),
        mac,
        addrs,
        subnets: allocation.subnets.iter().map(|s| s.subnet).collect(),
        peers,
        remote_tasks,
        local_tasks,
        ports,
    })
}
