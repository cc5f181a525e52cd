//! The certificate authority: who has a join token becomes a node, who is a node gets its next certificate.

pub mod rotation;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use certs::{Identity, RootCa, Subject, issue::StateVersion, new_csr, token::admitted_role};
use proto::{
    error::ApiError,
    model::{Availability, Cluster, Meta, Node, NodeId, NodeSpec, NodeStatus, Role},
    pb::{self, ca_server},
};
use tonic::{Request, Response, Status};

use crate::{
    api::auth::{self, Caller, Origin},
    store::{Store, command::Command, state::State},
};

/// The CA service. Cheap to clone.
#[derive(Clone)]
pub struct Ca {
    store: Store,
}

impl Ca {
    /// The CA of the cluster in `store`.
    pub fn new(store: Store) -> Self {
        Self { store }
    }

    async fn issue(
        &self,
        caller: &Caller,
        request: pb::IssueCertificateRequest,
    ) -> Result<pb::IssueCertificateReply, ApiError> {
        let issued = match request.token.is_empty() {
            true => self.renew(caller, &request).await?,
            false => self.admit(caller, &request).await?,
        };
        let Issued { node_id, role, cert_pem, cluster } = issued;
        Ok(pb::IssueCertificateReply {
            node_id: node_id.to_string(),
            role: pb::Role::from(role).into(),
            cert_pem,
            root_pem: cluster.root_ca.trusted_pem(),
            cluster_id: cluster.id.to_string(),
            observed_addr: caller.remote.map(|r| r.ip().to_canonical().to_string()).unwrap_or_default(),
        })
    }

    /// The next certificate of the member that calls.
    async fn renew(
        &self,
        caller: &Caller,
        request: &pb::IssueCertificateRequest,
    ) -> Result<Issued, ApiError> {
        // Strangers are not worth a round among the managers.
        let id = member(caller)?;
        // Everything that was acknowledged, so that no node is refused that an earlier leader made.
        let state = self.store.read_index().await?;
        let Some(cluster) = state.cluster.clone() else { return Err(not_ready()) };
        let role = renewing(&state, id, |id| self.store.counts_on(id))?;
        let cert_pem = sign(&cluster, &request.csr_pem, id, role, auth::version(&state))?;
        if state.nodes.get(id).is_some_and(|n| n.role != role) {
            self.store.propose_one(Command::SetNodeRole { id: id.clone(), role }).await?;
        }
        Ok(Issued { node_id: id.clone(), role, cert_pem, cluster })
    }

    /// The first certificate of a new node, which a token admits.
    async fn admit(
        &self,
        caller: &Caller,
        request: &pb::IssueCertificateRequest,
    ) -> Result<Issued, ApiError> {
        // What this leader knows decides, once it knows all that earlier ones committed: a token that is none costs no round among the
        // managers, and one in force costs a write.
        let state = match self.store.is_confirmed() {
            true => self.store.read(),
            false => self.store.read_index().await?,
        };
        let cluster = state.cluster.clone().ok_or_else(not_ready)?;
        let role = admitted_role(&request.token, &cluster.root_ca)?;
        let node_id = NodeId::random();
        // Signed before the node is made: a request that cannot be signed leaves no node behind.
        sign(&cluster, &request.csr_pem, &node_id, role, StateVersion::default())?;
        let node = joined(&node_id, role, availability(request.availability));
        self.store.propose_one(Command::CreateNode(Box::new(node))).await?;
        tracing::info!(node = %node_id, %role, hostname = request.hostname, remote = ?caller.remote, "node joined");
        // And once more: it says that it is of a state which has the node.
        let cert_pem = sign(&cluster, &request.csr_pem, &node_id, role, auth::version(&self.store.read()))?;
        Ok(Issued { node_id, role, cert_pem, cluster })
    }
}

/// A certificate, and the cluster as it was issued.
struct Issued {
    node_id: NodeId,
    role: Role,
    cert_pem: String,
    cluster: Arc<Cluster>,
}

/// The member that asks for its next certificate.
fn member(caller: &Caller) -> Result<&NodeId, ApiError> {
    match &caller.origin {
        Origin::Node { id, .. } => Ok(id),
        Origin::Local | Origin::Anonymous => Err(ApiError::denied(
            "a certificate is issued against a join token, or against the certificate in use",
        )
        .help("rnctl swarm join-token worker, on a manager, shows the token")),
    }
}

/// The role that the next certificate of a node has. `counted` says whether raft counts on it.
fn renewing(state: &State, id: &NodeId, counted: impl Fn(&NodeId) -> bool) -> Result<Role, ApiError> {
    let Some(node) = state.nodes.get(id) else {
        return Err(ApiError::denied(format!("node {id} is not a node of this swarm"))
            .help("rnctl swarm leave --force on that node, then join again with a token"));
    };
    // A demoted manager keeps its role until it is out of raft, whose members would not talk to a worker: of two managers that
    // were, the other one could not even let it go. The tables say a moment before raft that it is out.
    Ok(if node.raft_id != 0 || counted(id) { Role::Manager } else { node.spec.role })
}

/// A manager's next certificate from its own copy of the cluster's key, for when its last one has expired: then no other manager
/// would talk to it, and where all have expired there is nobody else to ask.
///
/// # Errors
/// This state does not have it as a manager.
pub fn renew_own(state: &State, current: &Identity) -> Result<Identity, ApiError> {
    let Some(cluster) = &state.cluster else { return Err(not_ready()) };
    let id = current.node_id();
    let stays = !cluster.removed_nodes.contains(id) && state.nodes.get(id).is_some_and(|n| n.raft_id != 0);
    if !stays {
        return Err(ApiError::denied(format!("node {id} is not a manager of this swarm")));
    }
    let (key_pem, csr_pem) = new_csr()?;
    let cert_pem = sign(cluster, &csr_pem, id, Role::Manager, auth::version(state))?;
    Ok(Identity::new(&cluster.root_ca.trusted_pem(), &cert_pem, &key_pem)?)
}

fn sign(
    cluster: &Cluster,
    csr_pem: &str,
    node_id: &NodeId,
    role: Role,
    version: StateVersion,
) -> Result<String, ApiError> {
    let ca = &cluster.root_ca;
    let subject = Subject { node_id: node_id.clone(), role, cluster_id: cluster.id.clone() };
    let (life, now) = (Duration::from(cluster.spec.cert_expiry), SystemTime::now());
    match &ca.rotation {
        None => Ok(RootCa::from_pem(&ca.cert_pem, &ca.key_pem)?
            .issue_as_of(csr_pem, &subject, version, life, now)?),
        Some(next) => {
            let leaf = RootCa::from_pem(&next.cert_pem, &next.key_pem)?
                .issue_as_of(csr_pem, &subject, version, life, now)?;
            Ok(format!("{}\n{}", leaf.trim_end(), next.cross_pem))
        }
    }
}

/// A node as it begins: nothing is known of it until its first session.
pub fn joined(id: &NodeId, role: Role, availability: Availability) -> Node {
    Node {
        id: id.clone(),
        meta: Meta::default(),
        spec: NodeSpec { role, availability, ..NodeSpec::default() },
        description: None,
        status: NodeStatus::default(),
        manager_status: None,
        role,
        ingress_addrs: Vec::new(),
        raft_id: 0,
        raft_addr: None,
        conditions: Vec::new(),
        spec_version: Default::default(),
    }
}

fn availability(wire: i32) -> Availability {
    match pb::Availability::try_from(wire) {
        Ok(pb::Availability::Pause) => Availability::Pause,
        Ok(pb::Availability::Drain) => Availability::Drain,
        Ok(pb::Availability::Active | pb::Availability::Unspecified) | Err(_) => Availability::Active,
    }
}

fn not_ready() -> ApiError {
    ApiError::unavailable("this manager does not know the swarm yet").help("try again in a second")
}

#[tonic::async_trait]
impl ca_server::Ca for Ca {
    async fn get_root_ca(
        &self,
        _: Request<pb::GetRootCaRequest>,
    ) -> Result<Response<pb::GetRootCaReply>, Status> {
        let state = self.store.read();
        let cluster = state.cluster.as_ref().ok_or_else(not_ready)?;
        Ok(Response::new(pb::GetRootCaReply { cert_pem: cluster.root_ca.cert_pem.clone() }))
    }

    async fn issue_certificate(
        &self,
        request: Request<pb::IssueCertificateRequest>,
    ) -> Result<Response<pb::IssueCertificateReply>, Status> {
        let caller = Caller::of(&request)?;
        Ok(Response::new(self.issue(&caller, request.into_inner()).await?))
    }
}
