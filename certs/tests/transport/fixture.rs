//! A cluster's CA, members and a server, all real.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, SystemTime},
};

use certs::{
    ConnInfo, ConnectError, Connector, Identity, JoinToken, Listener, RootCa, SharedIdentity, Subject,
    Target,
    issue::{DEFAULT_VALIDITY, new_csr},
    transport::server_builder,
};
use proto::{
    error::ApiError,
    model::{ClusterId, NodeId, Role},
    pb::{
        GetRootCaReply, GetRootCaRequest, IssueCertificateReply, IssueCertificateRequest,
        ca_client::CaClient,
        ca_server::{Ca, CaServer},
    },
};
use tokio::{sync::oneshot, task::JoinHandle};
use tonic::{Request, Response, Status, transport::Channel};

pub const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

pub struct Cluster {
    pub root: RootCa,
    pub id: ClusterId,
}

impl Cluster {
    pub fn new() -> Self {
        Self { root: RootCa::create(SystemTime::now() - YEAR * 3).unwrap(), id: ClusterId::random() }
    }

    pub fn subject(&self, role: Role) -> Subject {
        Subject { node_id: NodeId::random(), role, cluster_id: self.id.clone() }
    }

    pub fn member(&self, role: Role) -> Identity {
        self.member_at(&self.subject(role), DEFAULT_VALIDITY, SystemTime::now())
    }

    pub fn member_at(&self, subject: &Subject, validity: Duration, now: SystemTime) -> Identity {
        let (key, csr) = new_csr().unwrap();
        let cert = self.root.issue(&csr, subject, validity, now).unwrap();
        Identity::new(self.root.cert_pem(), &cert, &key).unwrap()
    }

    pub fn expired(&self, role: Role, since: Duration) -> Identity {
        self.member_at(&self.subject(role), DEFAULT_VALIDITY, SystemTime::now() - DEFAULT_VALIDITY - since)
    }

    pub fn shared(&self, role: Role) -> SharedIdentity {
        SharedIdentity::new(self.member(role))
    }
}

/// A CA that hands out worker certificates for its token, and tells who called in place of the root when `tells`.
pub struct TestCa {
    pub root: RootCa,
    cluster: ClusterId,
    pub token: JoinToken,
    tells: bool,
}

/// A token that [`TestCa`] never answers.
pub const UNANSWERED: &str = "unanswered";

fn caller<T>(request: &Request<T>) -> ConnInfo {
    request.extensions().get::<ConnInfo>().unwrap().clone()
}

#[tonic::async_trait]
impl Ca for TestCa {
    async fn get_root_ca(
        &self,
        request: Request<GetRootCaRequest>,
    ) -> Result<Response<GetRootCaReply>, Status> {
        let info = caller(&request);
        let who = match (&info.peer, &info.expired_peer) {
            (Some(peer), None) => format!("{} {} {}", peer.role, peer.node_id, peer.cluster_id),
            (None, Some(peer)) => format!("expired {}", peer.role),
            (None, None) => "anonymous".to_owned(),
            (Some(_), Some(_)) => "both".to_owned(),
        };
        let cert_pem =
            if self.tells { format!("{who} from {}", info.remote.ip()) } else { self.root.cert_pem().into() };
        Ok(Response::new(GetRootCaReply { cert_pem }))
    }

    async fn issue_certificate(
        &self,
        request: Request<IssueCertificateRequest>,
    ) -> Result<Response<IssueCertificateReply>, Status> {
        let info = caller(&request);
        let request = request.into_inner();
        let node_id = match info.peer.or(info.expired_peer) {
            Some(peer) => peer.node_id,
            None => {
                if request.token == UNANSWERED {
                    std::future::pending::<()>().await;
                }
                let presented: JoinToken = request.token.parse().map_err(ApiError::from)?;
                if !presented.same_secret(&self.token) {
                    return Err(ApiError::denied("wrong secret").into());
                }
                NodeId::random()
            }
        };
        let subject =
            Subject { node_id: node_id.clone(), role: Role::Worker, cluster_id: self.cluster.clone() };
        let cert_pem = self
            .root
            .issue(&request.csr_pem, &subject, DEFAULT_VALIDITY, SystemTime::now())
            .map_err(ApiError::from)?;
        Ok(Response::new(IssueCertificateReply {
            node_id: node_id.to_string(),
            role: 0,
            cert_pem,
            root_pem: self.root.cert_pem().into(),
            cluster_id: self.cluster.to_string(),
            observed_addr: info.remote.ip().to_string(),
        }))
    }
}

/// Runs to the end of its test's runtime, or until stopped.
pub struct Server {
    pub addr: SocketAddr,
    pub identity: SharedIdentity,
    pub token: JoinToken,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Server {
    pub async fn stop(self) {
        self.stop.send(()).unwrap();
        self.task.await.unwrap();
    }
}

pub async fn serve_on(bind: SocketAddr, cluster: &Cluster, identity: Identity, tells: bool) -> Server {
    let identity = SharedIdentity::new(identity);
    let listener = Listener::bind(bind, identity.clone()).await.unwrap();
    let addr = listener.local_addr().unwrap();
    let root = RootCa::from_pem(cluster.root.cert_pem(), cluster.root.key_pem()).unwrap();
    let token = JoinToken::generate(root.digest()).unwrap();
    let ca = TestCa { root, cluster: cluster.id.clone(), token: token.clone(), tells };
    let (stop, mut stopped) = oneshot::channel();
    let task = tokio::spawn(async move {
        let router = server_builder().add_service(CaServer::new(ca));
        // A sender that is merely dropped does not stop it.
        let stopped = async move {
            if (&mut stopped).await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        router.serve_with_incoming_shutdown(listener.incoming(), stopped).await.unwrap();
    });
    Server { addr, identity, token, stop, task }
}

/// A manager that tells who called.
pub async fn serve(cluster: &Cluster) -> Server {
    serve_on(loopback(), cluster, cluster.member(Role::Manager), true).await
}

pub fn loopback() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

pub async fn ask(channel: Channel) -> Result<String, Status> {
    CaClient::new(channel).get_root_ca(GetRootCaRequest {}).await.map(|reply| reply.into_inner().cert_pem)
}

pub async fn dial(server: &Server, identity: Identity) -> Result<String, ConnectError> {
    let channel =
        Connector::member(SharedIdentity::new(identity)).connect(Target::manager(server.addr)).await?;
    Ok(ask(channel).await.unwrap())
}
