//! Networks.

use std::borrow::Cow;

use ipnet::IpNet;
use proto::model::{Network, NetworkAllocation, NetworkId, Vni};

use super::{Applying, address::is_host, refuse};
use crate::store::{
    command::{Outcome, Rejected},
    index::holds_resources,
};

impl Applying<'_> {
    pub(super) fn create_network(&mut self, network: &Network) -> Outcome {
        let name = &network.spec.name;
        if self.state.networks.get(&network.id).is_some() {
            return refuse(format!("network {} exists already", network.id));
        }
        if let Some(holder) = self.state.networks.values().find(|o| self.same_name(&o.spec.name, name)) {
            let (name, holder) = (holder.spec.name.clone(), holder.id.to_string());
            return Err(Rejected::NameTaken { kind: Cow::Borrowed("network"), name, holder });
        }
        if network.allocation.is_some() {
            return refuse("a new network has no subnets: those are the allocator's to give");
        }
        if let Some(ingress) = self.state.ingress_network().filter(|_| network.spec.ingress) {
            return refuse(format!("ingress network {} is already present", ingress.spec.name));
        }
        self.create(network.clone());
        Ok(())
    }

    pub(super) fn remove_network(&mut self, id: &NetworkId) -> Outcome {
        let network = self.found::<Network>(id)?;
        if let Some(holder) = self.network_holder(&network) {
            return Err(Rejected::InUse { object: format!("network {}", network.spec.name), holder });
        }
        if network.spec.ingress {
            let nodes: Vec<_> =
                self.state.nodes.values().filter(|n| !n.ingress_addrs.is_empty()).cloned().collect();
            for node in nodes {
                self.update(node, |n| n.ingress_addrs.clear());
            }
        }
        self.forget(network);
        Ok(())
    }

    /// A service whose spec names the network, else a task that is not over and still has it.
    fn network_holder(&self, network: &Network) -> Option<String> {
        let ingress = network.spec.ingress;
        let attached = |networks: &[proto::model::NetworkAttachmentConfig]| {
            networks.iter().any(|a| a.target == network.id.as_str())
        };
        let service = self
            .state
            .services
            .values()
            .find(|s| attached(&s.spec.task.networks) || (ingress && s.spec.uses_ingress()));
        if let Some(service) = service {
            return Some(format!("service {}", service.spec.name));
        }
        let task = self.state.tasks.values().filter(|t| holds_resources(t)).find(|t| {
            let allocation = t.allocation.as_ref();
            attached(&t.spec.networks)
                || allocation.is_some_and(|a| a.attachments.iter().any(|a| a.network == network.id))
                || (ingress && allocation.is_some_and(|a| !a.ingress_addrs.is_empty()))
        })?;
        Some(task.described())
    }

    pub(super) fn allocate_network(&mut self, id: &NetworkId, allocation: &NetworkAllocation) -> Outcome {
        let network = self.found::<Network>(id)?;
        let name = &network.spec.name;
        if let Some(current) = &network.allocation {
            // Everything in use hangs on these; only the MTU may follow the underlay.
            if (current.vni, &current.subnets) != (allocation.vni, &allocation.subnets) {
                return refuse(format!("network {name} has its subnets and VNI already"));
            }
        }
        if allocation.vni.0 == 0 || allocation.vni > Vni::LAST {
            return refuse(format!("{} is not a VNI", allocation.vni));
        }
        for (i, subnet) in allocation.subnets.iter().enumerate() {
            if !subnet.subnet.contains(&subnet.gateway) || !is_host(subnet.subnet, subnet.gateway) {
                return refuse(format!(
                    "gateway {} is not a host's address in {}",
                    subnet.gateway, subnet.subnet
                ));
            }
            if allocation.subnets[..i].iter().any(|other| overlap(other.subnet, subnet.subnet)) {
                return refuse(format!("two subnets of network {name} overlap at {}", subnet.subnet));
            }
        }
        for other in self.state.networks.values().filter(|n| n.id != *id) {
            let Some(theirs) = &other.allocation else { continue };
            let holder = format!("network {}", other.spec.name);
            if theirs.vni == allocation.vni {
                return Err(Rejected::Taken { what: format!("VNI {}", allocation.vni), holder });
            }
            let clash = allocation
                .subnets
                .iter()
                .find(|s| theirs.subnets.iter().any(|t| overlap(s.subnet, t.subnet)));
            if let Some(clash) = clash {
                return Err(Rejected::Taken { what: format!("subnet {}", clash.subnet), holder });
            }
        }
        self.update(network, |n| n.allocation = Some(allocation.clone()));
        Ok(())
    }
}

fn overlap(a: IpNet, b: IpNet) -> bool {
    a.contains(&b) || b.contains(&a)
}
