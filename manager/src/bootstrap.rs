//! `swarm init`: what a cluster begins with. Pure but for randomness and the clock.

use std::{
    net::Ipv6Addr,
    time::{Duration, SystemTime},
};

use certs::{Identity, JoinToken, RootCa, Subject, new_csr};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use proto::{
    error::ApiError,
    model::{
        self, Availability, Cluster, ClusterId, ClusterSpec, Meta, Network, NetworkId, NetworkSpec, Node,
        NodeId, Port, Role,
    },
};
use rand::Rng;

use crate::{
    api::validate::{self, cluster::Limits},
    ca, keys,
    store::{command::Command, seal},
};

/// What the user of `swarm init` chooses.
#[derive(Debug, Clone)]
pub struct InitOptions {
    /// Settings that can be changed later.
    pub spec: ClusterSpec,
    /// Pools that overlays' IPv4 subnets are cut from.
    pub default_addr_pools: Vec<IpNet>,
    /// Prefix length of those subnets.
    pub subnet_size: u8,
    /// UDP port of VXLAN.
    pub data_path_port: Port,
    /// What the scheduler may do with the first node.
    pub availability: Availability,
    /// What the settings may be.
    pub limits: Limits,
}

impl Default for InitOptions {
    fn default() -> Self {
        Self {
            spec: ClusterSpec::default(),
            // swarmkit: 10.0.0.0/8 cut into /24.
            default_addr_pools: vec![IpNet::V4(Ipv4Net::new_assert(std::net::Ipv4Addr::new(10, 0, 0, 0), 8))],
            subnet_size: 24,
            data_path_port: 4789,
            availability: Availability::Active,
            limits: Limits::default(),
        }
    }
}

/// A cluster about to begin.
#[derive(Debug)]
pub struct Bootstrap {
    /// The first manager's identity; not yet on disk.
    pub identity: Identity,
    /// The cluster.
    pub cluster: Cluster,
    /// The first node, without its place in raft.
    pub node: Node,
    /// The routing mesh's network.
    pub ingress: Network,
}

impl Bootstrap {
    /// Makes root, tokens, ids and the first manager's certificate.
    ///
    /// # Errors
    /// The options are invalid, or the machine has no randomness.
    pub fn new(options: InitOptions) -> Result<Self, ApiError> {
        validate::cluster::spec(&options.spec, options.limits)?;
        validate::cluster::addressing(
            &options.default_addr_pools,
            options.subnet_size,
            options.data_path_port,
        )?;
        let now = SystemTime::now();
        let root = RootCa::create(now)?;
        let (cluster_id, node_id) = (ClusterId::random(), NodeId::random());
        let subject =
            Subject { node_id: node_id.clone(), role: Role::Manager, cluster_id: cluster_id.clone() };
        let (key_pem, csr_pem) = new_csr()?;
        let cert_pem = root.issue(&csr_pem, &subject, Duration::from(options.spec.cert_expiry), now)?;
        let identity = Identity::new(root.cert_pem(), &cert_pem, &key_pem)?;
        // From the start, so that the first node can gossip with its first session.
        let (network_keys, key_clock) =
            keys::initial(rand::rng().random(), &mut |bytes| rand::rng().fill(bytes));
        let unlock_key = if options.spec.autolock { seal::new_unlock_key()? } else { Default::default() };
        let cluster = Cluster {
            id: cluster_id,
            meta: Meta::default(),
            spec: options.spec,
            root_ca: model::RootCa {
                cert_pem: root.cert_pem().to_owned(),
                key_pem: root.key_pem().to_owned(),
                worker_token: JoinToken::generate(root.digest())?.to_string(),
                manager_token: JoinToken::generate(root.digest())?.to_string(),
                rotation: None,
            },
            default_addr_pools: options.default_addr_pools,
            subnet_size: options.subnet_size,
            ula_prefix: random_ula(),
            data_path_port: options.data_path_port,
            network_keys,
            key_clock,
            removed_nodes: Vec::new(),
            epoch: 0,
            unlock_key,
        };
        let node = ca::joined(&node_id, Role::Manager, options.availability);
        Ok(Self { identity, cluster, node, ingress: ingress() })
    }

    /// The cluster, its first node and the mesh's network, for one proposal.
    pub fn commands(&self) -> Vec<Command> {
        vec![
            Command::InitCluster(Box::new(self.cluster.clone())),
            Command::CreateNode(Box::new(self.node.clone())),
            Command::CreateNetwork(Box::new(self.ingress.clone())),
        ]
    }
}

fn ingress() -> Network {
    Network {
        id: NetworkId::random(),
        meta: Meta::default(),
        spec: NetworkSpec { name: "ingress".into(), ingress: true, ..NetworkSpec::default() },
        allocation: None,
        conditions: Vec::new(),
    }
}

/// A unique local /48 with a random global id (RFC 4193, 3.2.1).
fn random_ula() -> Ipv6Net {
    let id: [u8; 5] = rand::rng().random();
    let mut octets = [0; 16];
    octets[0] = 0xfd;
    octets[1..6].copy_from_slice(&id);
    Ipv6Net::new_assert(Ipv6Addr::from(octets), 48)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    #[test]
    fn a_cluster_begins_with_all_that_it_needs() {
        let begun = Bootstrap::new(InitOptions::default()).unwrap();
        assert_eq!(begun.identity.node_id(), &begun.node.id);
        assert_eq!(begun.identity.role(), Role::Manager);
        assert_eq!(begun.identity.cluster_id(), &begun.cluster.id);
        let ca = &begun.cluster.root_ca;
        assert_eq!(certs::token::admitted_role(&ca.worker_token, ca), Ok(Role::Worker));
        assert_eq!(certs::token::admitted_role(&ca.manager_token, ca), Ok(Role::Manager));
        assert_eq!(begun.cluster.network_keys.len(), 2 * keys::RING);
        let ula = begun.cluster.ula_prefix;
        assert!(ula.prefix_len() == 48 && ula.addr().octets()[0] == 0xfd && ula == ula.trunc());
        assert_ne!(ula, Bootstrap::new(InitOptions::default()).unwrap().cluster.ula_prefix);
    }

    #[test]
    fn bad_options_are_refused_before_anything_is_made() {
        let options = InitOptions { subnet_size: 31, ..InitOptions::default() };
        assert!(Bootstrap::new(options).unwrap_err().message.contains("subnet size"));
    }
}
