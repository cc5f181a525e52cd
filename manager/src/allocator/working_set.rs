//! What is in use, derived from the state once per plan, plus what the plan has handed out since.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
};

use ipam::{AllocatedSubnet, NetworkSpace};
use proto::model::{Network, NetworkId, Revision, ServiceAllocation, ServiceId, Subnet, Vni};

use super::PublishedPorts;
use crate::store::state::State;

/// The last address handed out per subnet, by the leader that handed it out. Only a hint for the next-fit order: a new
/// leader derives its own from the youngest task of each network, and any value is safe.
#[derive(Debug, Clone, Default)]
pub struct LastAllocated {
    last: HashMap<(NetworkId, bool), IpAddr>,
}

impl LastAllocated {
    /// Notes what was handed out on a network.
    pub fn note(&mut self, network: &NetworkId, addr: IpAddr) {
        self.last.insert((network.clone(), addr.is_ipv6()), addr);
    }

    /// Drops what belongs to networks that are gone.
    pub fn forget_all_but(&mut self, state: &State) {
        self.last.retain(|(network, _), _| state.networks.get(network).is_some());
    }
}

/// What is in use, for one plan: addresses, subnets, VNIs and published ports.
#[derive(Debug, Clone, Default)]
pub struct WorkingSet {
    /// Subnets of all networks.
    pub subnets: Vec<AllocatedSubnet>,
    /// VNIs of all networks, each with its network's name.
    pub vnis: BTreeMap<Vni, String>,
    /// Published ports.
    pub ports: PublishedPorts,
    /// Addresses, per network that has subnets.
    pub spaces: BTreeMap<NetworkId, NetworkSpace>,
    /// What the plan decided for services: a task of the same plan needs it.
    pub services: BTreeMap<ServiceId, ServiceAllocation>,
}

impl WorkingSet {
    /// Everything in use at this state.
    pub fn of(state: &State, hints: &LastAllocated) -> Self {
        let mut set = Self::default();
        for network in state.networks.values() {
            if let Some(allocation) = &network.allocation {
                set.add_network(network, allocation.vni, &allocation.subnets);
            }
        }
        let ingress = state.networks.values().find(|n| n.spec.ingress).map(|n| n.id.clone());
        set.hold_nodes(state, ingress.as_ref());
        for service in state.services.values() {
            set.ports.hold(&service.id, &service.spec.name, &service.spec.endpoint.ports);
            let Some(allocation) = &service.allocation else { continue };
            set.ports.hold(&service.id, &service.spec.name, &allocation.ports);
            for vip in &allocation.vips {
                set.hold(&vip.network, vip.addrs.iter().copied());
            }
        }
        set.hold_tasks(state, ingress.as_ref());
        for ((network, _), last) in &hints.last {
            if let Some(space) = set.spaces.get_mut(network) {
                space.start_after(*last);
            }
        }
        set
    }

    /// Takes in a network that was allocated in this plan or before.
    pub fn add_network(&mut self, network: &Network, vni: Vni, subnets: &[Subnet]) {
        self.vnis.insert(vni, network.spec.name.clone());
        let held =
            subnets.iter().map(|s| AllocatedSubnet { subnet: s.subnet, holder: network.spec.name.clone() });
        self.subnets.extend(held);
        let mut space = NetworkSpace::new(&network.spec.name, subnets);
        let kept = network.spec.ipam.iter().flat_map(|config| config.aux_addresses.values());
        kept.for_each(|addr| space.hold(*addr));
        self.spaces.insert(network.id.clone(), space);
    }

    fn hold(&mut self, network: &NetworkId, addrs: impl Iterator<Item = IpAddr>) {
        if let Some(space) = self.spaces.get_mut(network) {
            addrs.for_each(|addr| space.hold(addr));
        }
    }

    fn hold_nodes(&mut self, state: &State, ingress: Option<&NetworkId>) {
        let Some(ingress) = ingress else { return };
        for node in state.nodes.values() {
            self.hold(ingress, node.ingress_addrs.iter().copied());
        }
    }

    /// Addresses of tasks that are not over are in use; those of finished ones, kept as history, rest. The youngest
    /// task of a network tells where the next-fit search stands.
    fn hold_tasks(&mut self, state: &State, ingress: Option<&NetworkId>) {
        let mut youngest: HashMap<(&NetworkId, bool), (Revision, IpAddr)> = HashMap::new();
        for task in state.tasks.values() {
            let Some(allocation) = &task.allocation else { continue };
            let over = task.status.state.is_terminal();
            let overlays =
                allocation.attachments.iter().flat_map(|a| a.addrs.iter().map(|s| (&a.network, s.addr)));
            let mesh = allocation.ingress_addrs.iter().filter_map(|addr| Some((ingress?, *addr)));
            for (network, addr) in overlays.chain(mesh) {
                let Some(space) = self.spaces.get_mut(network) else { continue };
                if over {
                    space.rest(addr);
                } else {
                    space.hold(addr);
                }
                let age = (task.meta.created_in, addr);
                let last = youngest.entry((network, addr.is_ipv6())).or_insert(age);
                *last = age.max(*last);
            }
        }
        for ((network, _), (_, addr)) in youngest {
            if let Some(space) = self.spaces.get_mut(network) {
                space.start_after(addr);
            }
        }
    }
}
