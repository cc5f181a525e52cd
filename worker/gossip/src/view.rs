//! What this node believes of all nodes: the value that the data plane is computed from.

use std::{collections::BTreeMap, sync::Arc};

use proto::model::{NetworkId, NodeId, TaskId};

use super::record::{EndpointRecord, NodeFact};

/// A snapshot of what gossip knows, this node's own records among it, so that local and remote endpoints are read alike.
///
/// `revision` rises with every change. Whoever programs the kernel from a view reports `(network, revision)` back to
/// `Gossip::applied`; that is what this node's acknowledgements to its peers rest on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PeerView {
    /// Local count of changes; of no meaning to other nodes.
    pub revision: u64,
    /// All nodes heard of, this one too, dead ones (`alive == false`) until they are forgotten.
    pub nodes: BTreeMap<NodeId, Arc<NodeFact>>,
    /// Endpoints of all networks joined. Records of dead nodes stay: who reads decides (fail static).
    pub endpoints: BTreeMap<(NetworkId, TaskId), Arc<EndpointRecord>>,
}

impl PeerView {
    /// Whether the endpoint's node is not known to be dead. A node that was only heard of counts as alive.
    pub fn is_alive(&self, node: &NodeId) -> bool {
        self.nodes.get(node).is_none_or(|fact| fact.alive)
    }

    /// Endpoints of one network, in the order of task ids.
    pub fn endpoints_of<'a>(
        &'a self,
        network: &'a NetworkId,
    ) -> impl Iterator<Item = &'a Arc<EndpointRecord>> {
        self.endpoints.iter().filter(move |((n, _), _)| n == network).map(|(_, record)| record)
    }
}
