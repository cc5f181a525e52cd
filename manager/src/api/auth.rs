//! Who may call what: one table, with a row for each RPC of the protocol. What has no row is refused.

use std::net::SocketAddr;

use certs::{ConnInfo, Peer};
use http::HeaderMap;
use proto::{
    error::ApiError,
    model::{NodeId, Role},
};

use crate::store::state::State;

/// What an RPC demands of its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Anybody who can reach the port: a joiner has no certificate yet.
    Anonymous,
    /// A node of this swarm, of either role.
    Node,
    /// A manager of this swarm.
    Manager,
    /// Only the daemon's own socket.
    LocalOnly,
}

/// Every RPC, by its path without the leading slash and the package: `Service/Method`.
///
/// The local socket is not subject to this table: whoever may open it is an administrator (it has mode 0660).
pub const ROLES: &[(&str, Access)] = {
    use Access::{Anonymous, LocalOnly, Manager, Node};
    &[
        // The digest in the token is what makes the answer trustworthy.
        ("Ca/GetRootCa", Anonymous),
        // A token, or the certificate in use, is checked by the CA itself.
        ("Ca/IssueCertificate", Anonymous),
        ("Control/GetCluster", Manager),
        ("Control/UpdateCluster", Manager),
        ("Control/GetUnlockKey", Manager),
        ("Control/ListNodes", Manager),
        ("Control/GetNode", Manager),
        ("Control/UpdateNode", Manager),
        ("Control/RemoveNode", Manager),
        ("Control/CreateNetwork", Manager),
        ("Control/ListNetworks", Manager),
        ("Control/GetNetwork", Manager),
        ("Control/RemoveNetwork", Manager),
        ("Control/CreateService", Manager),
        ("Control/ListServices", Manager),
        ("Control/GetService", Manager),
        ("Control/UpdateService", Manager),
        ("Control/RemoveService", Manager),
        ("Control/ListTasks", Manager),
        ("Control/GetTask", Manager),
        ("Control/Convergence", Manager),
        ("Logs/Subscribe", Manager),
        ("Dispatcher/Session", Node),
        ("Dispatcher/Heartbeat", Node),
        ("Dispatcher/Assignments", Node),
        ("Dispatcher/UpdateTaskStatus", Node),
        ("Dispatcher/ListEndpoints", Node),
        ("Dispatcher/Attach", Node),
        ("Dispatcher/Leave", Node),
        ("LogBroker/Listen", Node),
        ("LogBroker/Publish", Node),
        ("Raft/AppendEntries", Manager),
        ("Raft/Vote", Manager),
        ("Raft/InstallSnapshot", Manager),
        ("Membership/Join", Manager),
        ("Membership/Leave", Manager),
        ("Local/Version", LocalOnly),
        ("Local/Info", LocalOnly),
        ("Local/SwarmInit", LocalOnly),
        ("Local/SwarmJoin", LocalOnly),
        ("Local/SwarmLeave", LocalOnly),
        ("Local/SwarmUnlock", LocalOnly),
        ("Local/Import", LocalOnly),
        ("Local/ListImages", LocalOnly),
        ("Local/RemoveImage", LocalOnly),
        ("Local/InspectImage", LocalOnly),
        ("Local/ListContainers", LocalOnly),
        ("Local/InspectContainer", LocalOnly),
        ("Local/CreateContainer", LocalOnly),
        ("Local/StartContainer", LocalOnly),
        ("Local/StopContainer", LocalOnly),
        ("Local/KillContainer", LocalOnly),
        ("Local/RemoveContainer", LocalOnly),
        ("Local/WaitContainer", LocalOnly),
        ("Local/ContainerLogs", LocalOnly),
        ("Local/Exec", LocalOnly),
        ("Local/ListLocalNetworks", LocalOnly),
        ("Local/Load", LocalOnly),
        ("Local/TagImage", LocalOnly),
        ("Local/PruneImages", LocalOnly),
        ("Local/PullImage", LocalOnly),
        ("Local/ResolveImage", LocalOnly),
        ("Local/Login", LocalOnly),
        ("Local/Events", LocalOnly),
    ]
};

/// The package of our protocol, as it begins each path.
const PACKAGE: &str = "/rn.v1.";

/// `Service/Method` of a request path.
pub fn rpc(path: &str) -> Option<&str> {
    path.strip_prefix(PACKAGE)
}

/// The row of a request path.
pub fn access(path: &str) -> Option<Access> {
    let wanted = rpc(path)?;
    ROLES.iter().find(|(rpc, _)| *rpc == wanted).map(|(_, access)| *access)
}

/// Who is calling; in the extensions of every request that passed [`authorize`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The identity that was proved.
    pub origin: Origin,
    /// The caller's address; none on the local socket.
    pub remote: Option<SocketAddr>,
    /// Whether another manager passed the request on: it is not passed on again.
    pub forwarded: bool,
}

/// An identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The daemon's own socket.
    Local,
    /// No certificate.
    Anonymous,
    /// A certificate of this swarm.
    Node {
        /// Its common name.
        id: NodeId,
        /// Its organisational unit.
        role: Role,
    },
}

impl Caller {
    /// The daemon's own socket.
    pub const LOCAL: Self = Self { origin: Origin::Local, remote: None, forwarded: false };

    /// The calling node, for RPCs that only nodes may call.
    pub fn node(&self) -> Result<&NodeId, ApiError> {
        match &self.origin {
            Origin::Node { id, .. } => Ok(id),
            Origin::Local | Origin::Anonymous => {
                Err(ApiError::denied("this call needs the certificate of a node of the swarm"))
            }
        }
    }

    /// The caller that [`authorize`] left in the request's extensions.
    pub fn of<T>(request: &tonic::Request<T>) -> Result<Self, ApiError> {
        request
            .extensions()
            .get::<Self>()
            .cloned()
            .ok_or_else(|| ApiError::denied("the request did not pass the role table"))
    }
}

/// Header: the address of the caller that a manager speaks for.
const FORWARDED_FOR: &str = "rn-forwarded-for";
/// Header: the node that a manager speaks for; absent when that caller showed no certificate.
const FORWARDED_NODE: &str = "rn-forwarded-node";
/// Header: that node's role.
const FORWARDED_ROLE: &str = "rn-forwarded-role";

/// Decides whether a request that came over the network may go on, and for whom it speaks.
pub fn authorize(
    state: &State,
    conn: Option<&ConnInfo>,
    path: &str,
    headers: &HeaderMap,
) -> Result<Caller, ApiError> {
    let Some(access) = access(path) else {
        return Err(ApiError::denied(format!("{path} is not an RPC of this version of rn")));
    };
    let Some(conn) = conn else {
        return Err(ApiError::internal("the connection carries no TLS identity"));
    };
    let direct = Caller {
        origin: match (&conn.peer, &conn.expired_peer) {
            (Some(peer), _) => admitted(state, peer)?,
            // Good for asking for the next one, which is what the anonymous calls are for.
            (None, Some(expired)) if access == Access::Anonymous => admitted(state, expired)?,
            (None, Some(expired)) => return Err(outdated(expired)),
            (None, None) => Origin::Anonymous,
        },
        remote: Some(conn.remote),
        forwarded: false,
    };
    let caller = forwarded(direct, headers)?;
    if let Origin::Node { id, .. } = &caller.origin {
        not_removed(state, id)?;
    }
    let allowed = match (access, &caller.origin) {
        (Access::Anonymous, _) => true,
        (Access::Node, Origin::Node { .. }) => true,
        (Access::Manager, Origin::Node { role, .. }) => *role == Role::Manager,
        (Access::Node | Access::Manager, _) | (Access::LocalOnly, _) => false,
    };
    if allowed { Ok(caller) } else { Err(refusal(access, path, &caller.origin)) }
}

fn admitted(state: &State, peer: &Peer) -> Result<Origin, ApiError> {
    // A manager that has just joined has no state yet: then the certificate's signature, checked by TLS, is what counts.
    if let Some(cluster) = &state.cluster
        && cluster.id != peer.cluster_id
    {
        return Err(ApiError::denied(format!(
            "the certificate of node {} belongs to swarm {}, not to this one ({})",
            peer.node_id, peer.cluster_id, cluster.id
        ))
        .help("leave that swarm on the node (rnctl swarm leave), then join this one"));
    }
    Ok(Origin::Node { id: peer.node_id.clone(), role: peer.role })
}

fn outdated(peer: &Peer) -> ApiError {
    ApiError::denied(format!("the certificate of node {} has expired", peer.node_id))
        .help("the node renews it by itself; compare the clocks of the machines if that does not happen")
}

fn not_removed(state: &State, id: &NodeId) -> Result<(), ApiError> {
    let removed = state.cluster.as_ref().is_some_and(|c| c.removed_nodes.contains(id));
    if removed {
        return Err(ApiError::denied(format!("node {id} was removed from the swarm"))
            .help("rnctl swarm leave --force on that node, then join again with a token"));
    }
    Ok(())
}

/// Another manager may speak for a caller; nobody else.
fn forwarded(direct: Caller, headers: &HeaderMap) -> Result<Caller, ApiError> {
    let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok());
    let Some(remote) = text(FORWARDED_FOR) else { return Ok(direct) };
    if !matches!(direct.origin, Origin::Node { role: Role::Manager, .. }) {
        return Err(ApiError::denied("only a manager may pass on the requests of others"));
    }
    let malformed = || ApiError::invalid("a manager passed on a request with malformed headers");
    let origin = match (text(FORWARDED_NODE), text(FORWARDED_ROLE)) {
        (Some(id), Some(role)) => Origin::Node {
            id: id.parse().map_err(|_| malformed())?,
            role: match role {
                "manager" => Role::Manager,
                "worker" => Role::Worker,
                _ => return Err(malformed()),
            },
        },
        (None, None) => Origin::Anonymous,
        _ => return Err(malformed()),
    };
    // The user of the other manager's own socket: that manager's identity is the authority.
    if remote == "local" {
        return Ok(Caller { forwarded: true, ..direct });
    }
    Ok(Caller { origin, remote: Some(remote.parse().map_err(|_| malformed())?), forwarded: true })
}

/// Writes who `caller` is into the headers of a request that goes on to the leader.
pub fn stamp(caller: &Caller, headers: &mut HeaderMap) -> Result<(), ApiError> {
    let value = |text: &str| {
        http::HeaderValue::from_str(text)
            .map_err(|_| ApiError::internal(format!("{text:?} is not a header value")))
    };
    for name in [FORWARDED_FOR, FORWARDED_NODE, FORWARDED_ROLE] {
        headers.remove(name);
    }
    match caller.remote {
        Some(remote) => headers.insert(FORWARDED_FOR, value(&remote.to_string())?),
        None => headers.insert(FORWARDED_FOR, value("local")?),
    };
    if let Origin::Node { id, role } = &caller.origin {
        headers.insert(FORWARDED_NODE, value(id.as_str())?);
        headers.insert(FORWARDED_ROLE, value(role.as_str())?);
    }
    Ok(())
}

fn refusal(access: Access, path: &str, origin: &Origin) -> ApiError {
    let who = match origin {
        Origin::Local => "the local socket".to_owned(),
        Origin::Anonymous => "a caller without a certificate".to_owned(),
        Origin::Node { id, role } => format!("{role} {id}"),
    };
    let rpc = rpc(path).unwrap_or(path);
    match access {
        Access::LocalOnly => ApiError::denied(format!("{rpc} is answered on the daemon's own socket only")),
        Access::Manager => ApiError::denied(format!("{rpc} is for managers, and was called by {who}"))
            .help("worker nodes can't be used to view or modify cluster state; run this on a manager, or promote the node"),
        Access::Node | Access::Anonymous => ApiError::denied(format!("{rpc} is for nodes of the swarm, and was called by {who}"))
            .help("join first: rnctl swarm join --token TOKEN HOST:PORT"),
    }
}

#[cfg(test)]
mod tests;
