//! What a member is: what its certificate says, as far as the replicated state bears it out.
//!
//! Either may be behind the other. A certificate outlives a demotion or a removal; and a manager that has just joined, or was cut
//! off, may not have heard of a node, or of its promotion, that the certificate is the proof of. The certificate says which
//! state it was issued by, so it is certain which of the two is newer, whatever the clocks say: the certificate is
//! believed by a state that has not come as far, and by no other.

use certs::{Peer, issue::StateVersion};
use proto::{
    error::ApiError,
    model::{ClusterId, NodeId, Role},
};

use super::Origin;
use crate::store::state::State;

/// Whether raft counts on a node.
pub type IsRaftMember<'a> = &'a dyn Fn(&NodeId) -> bool;

/// Which state this is, for certificates that are issued by it and judged by it.
pub fn version(state: &State) -> StateVersion {
    StateVersion { epoch: state.cluster.as_ref().map_or(0, |c| c.epoch), revision: state.revision }
}

/// What a certificate says of who shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CertificateClaim {
    pub(super) node: NodeId,
    pub(super) role: Role,
    pub(super) version: StateVersion,
    /// None: another manager has seen the certificate, and its cluster.
    pub(super) cluster: Option<ClusterId>,
}

impl CertificateClaim {
    pub(super) fn of(peer: &Peer) -> Self {
        Self {
            node: peer.node_id.clone(),
            role: peer.role,
            version: peer.version,
            cluster: Some(peer.cluster_id.clone()),
        }
    }

    /// The identity that is left of the claim.
    ///
    /// # Errors
    /// It is of another cluster, was removed, or is no node of this one.
    pub(super) fn judged(&self, state: &State, counted: IsRaftMember<'_>) -> Result<Origin, ApiError> {
        let Self { node: id, version: theirs, .. } = self;
        let member = |role| Ok(Origin::Node { id: id.clone(), role, version: *theirs });
        // A manager that has just joined has no state yet: then the certificate's signature, checked by TLS, is what counts.
        let Some(cluster) = &state.cluster else { return member(self.role) };
        if let Some(other) = &self.cluster
            && *other != cluster.id
        {
            return Err(ApiError::denied(format!(
                "the certificate of node {id} belongs to swarm {other}, not to this one ({})",
                cluster.id
            ))
            .help("leave that swarm on the node (rnctl swarm leave), then join this one"));
        }
        if cluster.removed_nodes.contains(id) {
            return Err(ApiError::denied(format!("node {id} was removed from the swarm"))
                .help("rnctl swarm leave --force on that node, then join again with a token"));
        }
        let newer = *theirs > version(state);
        match state.nodes.get(id) {
            None if newer => member(self.role),
            None => Err(ApiError::denied(format!("node {id} is not a node of this swarm"))
                .help("rnctl swarm leave --force on that node, then join again with a token")),
            Some(node) => {
                // A demoted manager is one until it is out of raft: of two, the other could not even let it go.
                let manages = newer || node.spec.role == Role::Manager || node.raft_id != 0 || counted(id);
                member(if manages { self.role } else { Role::Worker })
            }
        }
    }
}

/// The certificate has run out.
pub(super) fn outdated(peer: &Peer) -> ApiError {
    ApiError::denied(format!(
        "the certificate of node {} has expired: it is good for asking for the next one, and for nothing else",
        peer.node_id
    ))
    .help("the node renews it by itself; compare the clocks of the machines if that does not happen")
}

/// The certificate says manager, and the state does not any more.
pub(super) fn demoted(id: &NodeId, consequence: &str) -> ApiError {
    ApiError::denied(format!("node {id} is a manager no longer, and {consequence}: it was demoted"))
        .help("run this on a manager, or promote the node again: rnctl node promote NODE")
}
