//! Who may call what: one table, with a row for each RPC of the protocol. What has no row is refused.
//!
//! First who has dialled is judged, by certificate and state ([`standing`]), and only a manager is then believed when it says that
//! it speaks for somebody else.

use std::net::SocketAddr;

use certs::{ConnInfo, issue::StateVersion};
use http::HeaderMap;
use proto::{
    error::ApiError,
    model::{NodeId, Role},
};

use self::claim::CertificateClaim;
pub use self::claim::{IsRaftMember, version};

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
        ("Control/CreateSecret", Manager),
        ("Control/ListSecrets", Manager),
        ("Control/GetSecret", Manager),
        ("Control/UpdateSecret", Manager),
        ("Control/RemoveSecret", Manager),
        ("Control/CreateConfig", Manager),
        ("Control/ListConfigs", Manager),
        ("Control/GetConfig", Manager),
        ("Control/UpdateConfig", Manager),
        ("Control/RemoveConfig", Manager),
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
        ("Local/AttachContainer", LocalOnly),
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

/// Services that the leader alone answers: managers pass them on to it. The others (`Raft`, and the root certificate) any manager
/// answers, for who has dialled and nobody else.
const LEADERS: [&str; 6] =
    ["Control/", "Dispatcher/", "LogBroker/", "Logs/", "Membership/", "Ca/IssueCertificate"];

/// Whether only the leader answers the RPC (`Service/Method`).
pub fn is_leaders(rpc: &str) -> bool {
    LEADERS.iter().any(|prefix| rpc.starts_with(prefix))
}

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
        /// The role that it has: its organisational unit's, unless the state has taken it away.
        role: Role,
        /// The state that its certificate is of.
        version: StateVersion,
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
/// Header: the state that the node's certificate is of.
const FORWARDED_VERSION: &str = "rn-forwarded-version";
/// What all of them begin with.
const FORWARDED: &str = "rn-forwarded-";

/// Decides whether a request that came over the network may go on, and for whom it speaks. `counted` says whether raft counts on a
/// node.
pub fn authorize(
    state: &State,
    counted: IsRaftMember<'_>,
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
    let passed_on = headers.keys().any(|name| name.as_str().starts_with(FORWARDED));
    let claim = match (&conn.peer, &conn.expired_peer) {
        (Some(peer), _) => Some(CertificateClaim::of(peer)),
        // Good for asking for the next one, which is what the anonymous calls are for.
        (None, Some(expired)) if access == Access::Anonymous && !passed_on => {
            Some(CertificateClaim::of(expired))
        }
        (None, Some(expired)) => return Err(claim::outdated(expired)),
        (None, None) => None,
    };
    // Managers speak raft with each other for as long as raft counts on them, whatever the tables say by then.
    let rpc = rpc(path).unwrap_or(path);
    let counts = |id: &NodeId| rpc.starts_with("Raft/") && counted(id);
    let sender = match &claim {
        Some(claim) => claim.judged(state, &counts)?,
        None => Origin::Anonymous,
    };
    let direct = Caller { origin: sender, remote: Some(conn.remote), forwarded: false };
    let (caller, claim) = match passed_on {
        false => (direct, claim),
        true => {
            speaks_for_others(rpc, &direct, claim.as_ref())?;
            forwarded(state, direct, headers)?
        }
    };
    let allowed = match (access, &caller.origin) {
        (Access::Anonymous, _) => true,
        (Access::Node, Origin::Node { .. }) => true,
        (Access::Manager, Origin::Node { role, .. }) => *role == Role::Manager,
        (Access::Node | Access::Manager, _) | (Access::LocalOnly, _) => false,
    };
    if allowed { Ok(caller) } else { Err(refusal(access, rpc, &caller.origin, claim.as_ref())) }
}

/// Another manager may speak for a caller, to the leader; nobody else, and nowhere else.
fn speaks_for_others(rpc: &str, direct: &Caller, claim: Option<&CertificateClaim>) -> Result<(), ApiError> {
    match &direct.origin {
        Origin::Node { role: Role::Manager, .. } if is_leaders(rpc) => Ok(()),
        Origin::Node { role: Role::Manager, .. } => {
            Err(ApiError::denied(format!("{rpc} is answered by each manager itself, and not passed on")))
        }
        Origin::Node { id, .. } if claim.is_some_and(|c| c.role == Role::Manager) => {
            Err(claim::demoted(id, &format!("may not pass on {rpc}")))
        }
        Origin::Node { .. } | Origin::Anonymous | Origin::Local => {
            Err(ApiError::denied("only a manager may pass on the requests of others"))
        }
    }
}

/// Whom a manager speaks for, and what that one's certificate said.
fn forwarded(
    state: &State,
    direct: Caller,
    headers: &HeaderMap,
) -> Result<(Caller, Option<CertificateClaim>), ApiError> {
    let malformed = || ApiError::invalid("a manager passed on a request with malformed headers");
    let text = |name: &str| headers.get(name).map(|v| v.to_str().map_err(|_| malformed())).transpose();
    let claim = match (text(FORWARDED_NODE)?, text(FORWARDED_ROLE)?, text(FORWARDED_VERSION)?) {
        (Some(id), Some(role), version) => Some(CertificateClaim {
            node: id.parse().map_err(|_| malformed())?,
            role: match role {
                "manager" => Role::Manager,
                "worker" => Role::Worker,
                _ => return Err(malformed()),
            },
            version: match version {
                Some(version) => version.parse().map_err(|_| malformed())?,
                None => StateVersion::default(),
            },
            cluster: None,
        }),
        (None, None, None) => None,
        _ => return Err(malformed()),
    };
    match (text(FORWARDED_FOR)?, claim) {
        (None, _) => Err(malformed()),
        // The user of the other manager's own socket: that manager's identity is the authority.
        (Some("local"), _) => Ok((Caller { forwarded: true, ..direct }, None)),
        (Some(remote), claim) => {
            let remote = Some(remote.parse().map_err(|_| malformed())?);
            let origin = match &claim {
                Some(claim) => claim.judged(state, &|_| false)?,
                None => Origin::Anonymous,
            };
            Ok((Caller { origin, remote, forwarded: true }, claim))
        }
    }
}

/// Writes who `caller` is into the headers of a request that goes on to the leader.
pub fn stamp(caller: &Caller, headers: &mut HeaderMap) -> Result<(), ApiError> {
    let value = |text: &str| {
        http::HeaderValue::from_str(text)
            .map_err(|_| ApiError::internal(format!("{text:?} is not a header value")))
    };
    for name in [FORWARDED_FOR, FORWARDED_NODE, FORWARDED_ROLE, FORWARDED_VERSION] {
        headers.remove(name);
    }
    match caller.remote {
        Some(remote) => headers.insert(FORWARDED_FOR, value(&remote.to_string())?),
        None => headers.insert(FORWARDED_FOR, value("local")?),
    };
    if let Origin::Node { id, role, version } = &caller.origin {
        headers.insert(FORWARDED_NODE, value(id.as_str())?);
        headers.insert(FORWARDED_ROLE, value(role.as_str())?);
        headers.insert(FORWARDED_VERSION, value(&version.to_string())?);
    }
    Ok(())
}

fn refusal(access: Access, rpc: &str, origin: &Origin, claim: Option<&CertificateClaim>) -> ApiError {
    let who = match origin {
        Origin::Local => "the local socket".to_owned(),
        Origin::Anonymous => "a caller without a certificate".to_owned(),
        Origin::Node { id, role, .. } => format!("{role} {id}"),
    };
    match (access, origin) {
        (Access::LocalOnly, _) => {
            ApiError::denied(format!("{rpc} is answered on the daemon's own socket only"))
        }
        (Access::Manager, Origin::Node { id, .. }) if claim.is_some_and(|c| c.role == Role::Manager) => {
            claim::demoted(id, &format!("may not call {rpc}"))
        }
        (Access::Manager, _) => ApiError::denied(format!("{rpc} is for managers, and was called by {who}"))
            .help("worker nodes can't be used to view or modify cluster state; run this on a manager, or promote the node"),
        (Access::Node | Access::Anonymous, _) => ApiError::denied(format!("{rpc} is for nodes of the swarm, and was called by {who}"))
            .help("join first: rnctl swarm join --token TOKEN HOST:PORT"),
    }
}

mod claim;

#[cfg(test)]
mod tests;
