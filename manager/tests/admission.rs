//! Who gets in: tokens, certificates, roles.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use certs::{CertificateDir, Connector, SharedIdentity, Target, join::renew};
use manager::bootstrap::InitOptions;
use proto::{
    error::{ApiError, Kind},
    model::Role,
    pb::{self, control_client::ControlClient, dispatcher_client::DispatcherClient},
};
use support::{Host, Worker, channel, join_as};

#[tokio::test(flavor = "multi_thread")]
async fn tokens_decide_the_role_and_die_when_rotated() {
    let mut host = Host::init(InitOptions::default()).await;
    let (worker, manager) = host.tokens().await;
    assert_eq!(join_as(host.addr(), &worker).await.unwrap().role(), Role::Worker);
    assert_eq!(join_as(host.addr(), &manager).await.unwrap().role(), Role::Manager);

    let mut other = Host::init(InitOptions::default()).await;
    let foreign = other.tokens().await.0;
    let error = join_as(host.addr(), &foreign).await.unwrap_err();
    assert_eq!(error.kind, Kind::Denied, "{error}");
    assert!(join_as(host.addr(), "SWMTKN-1-nonsense").await.is_err());

    let rotate = pb::UpdateClusterRequest { rotate_worker_token: true, ..Default::default() };
    let fresh = host.control.update_cluster(rotate).await.unwrap().into_inner().root_ca.unwrap();
    assert_ne!(fresh.worker_token, worker);
    assert_eq!(fresh.manager_token, manager, "the other token stays");
    let error = join_as(host.addr(), &worker).await.unwrap_err();
    assert_eq!(error.kind, Kind::Denied, "{error}");
    assert!(join_as(host.addr(), &fresh.worker_token).await.is_ok());

    let nodes = host.control.list_nodes(pb::ListNodesRequest {}).await.unwrap().into_inner().nodes;
    assert_eq!(nodes.len(), 4, "who was refused is no node");
    host.manager.shutdown().await;
    other.manager.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_stay_inside() {
    let mut host = Host::init(InitOptions::default()).await;
    let cluster = host.cluster().await;
    assert!(cluster.root_ca.unwrap().key_pem.is_empty());
    assert!(cluster.network_keys.is_empty());
    host.manager.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_are_enforced_on_the_wire() {
    let mut host = Host::init(InitOptions::default()).await;
    let (worker_token, manager_token) = host.tokens().await;
    let worker = channel(host.addr(), join_as(host.addr(), &worker_token).await.unwrap());
    let status = ControlClient::new(worker).list_nodes(pb::ListNodesRequest {}).await.unwrap_err();
    let error = ApiError::from_status(&status);
    assert_eq!(error.kind, Kind::Denied);
    assert!(error.message.contains("is for managers"), "{error}");

    let manager = channel(host.addr(), join_as(host.addr(), &manager_token).await.unwrap());
    assert!(ControlClient::new(manager).list_nodes(pb::ListNodesRequest {}).await.is_ok());

    let root = host.cluster().await.root_ca.unwrap().cert_pem;
    let nobody = Connector::joiner(&root).unwrap().channel(Target::manager(host.addr()));
    let status = DispatcherClient::new(nobody).session(pb::SessionRequest::default()).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::PermissionDenied);
    host.manager.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_renews_by_its_certificate_and_follows_its_role() {
    let mut host = Host::init(InitOptions::default()).await;
    let token = host.tokens().await.0;
    let identity = join_as(host.addr(), &token).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let files = CertificateDir::new(dir.path());
    files.save(&identity).unwrap();
    let id = identity.node_id().clone();
    let shared = SharedIdentity::new(identity);
    let dial = || Connector::member(shared.clone()).channel(Target::manager(host.addr()));
    let renewed = renew(dial(), &shared.current()).await.unwrap();
    assert_eq!((renewed.node_id(), renewed.role()), (&id, Role::Worker));

    let channel = dial();
    let node = host.control.get_node(pb::GetRequest { key: id.to_string() }).await.unwrap().into_inner();
    let spec = pb::NodeSpec { role: pb::Role::Manager.into(), ..node.spec.unwrap() };
    let update =
        pb::UpdateNodeRequest { key: id.to_string(), version: node.meta.unwrap().version, spec: Some(spec) };
    host.control.update_node(update).await.unwrap();
    let promoted = renew(channel, &shared.current()).await.unwrap();
    assert_eq!(promoted.role(), Role::Manager);
    let node = host.control.get_node(pb::GetRequest { key: id.to_string() }).await.unwrap().into_inner();
    assert_eq!(node.role(), pb::Role::Manager);
    host.manager.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_node_is_out_at_once() {
    let mut host = Host::init(InitOptions::default()).await;
    let mut worker = Worker::join(&mut host, "w1").await;
    let key = worker.id.to_string();
    let refused =
        host.control.remove_node(pb::RemoveRequest { key: key.clone(), force: false }).await.unwrap_err();
    assert!(refused.message().contains("not down"), "{refused}");
    host.control.remove_node(pb::RemoveRequest { key, force: true }).await.unwrap();
    let end = loop {
        match worker.messages.message().await {
            Ok(Some(_)) => {}
            other => break other,
        }
    };
    assert_eq!(end.unwrap_err().code(), tonic::Code::PermissionDenied);
    let error = worker.beat().await.unwrap_err();
    assert!(error.message().contains("was removed from the swarm"), "{error}");
    host.manager.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_further_manager_joins_and_passes_requests_to_the_leader() {
    let mut first = Host::init(InitOptions::default()).await;
    let mut second = Host::join(&mut first).await;
    support::eventually("the second manager knows the leader", || {
        let mut control = second.control.clone();
        async move {
            control.list_nodes(pb::ListNodesRequest {}).await.is_ok_and(|r| r.get_ref().nodes.len() == 2)
        }
    })
    .await;
    let network = second.network("app").await.unwrap();
    assert!(first.control.get_network(pb::GetRequest { key: network.id }).await.is_ok());
    let nodes = second.control.list_nodes(pb::ListNodesRequest {}).await.unwrap().into_inner().nodes;
    let leaders = nodes.iter().filter(|n| n.manager_status.as_ref().is_some_and(|m| m.leader)).count();
    assert_eq!((leaders, nodes.iter().filter(|n| n.manager_status.is_some()).count()), (1, 2));

    // A worker that found the follower works as well: its identity goes along.
    let token = first.tokens().await.0;
    let identity = join_as(second.addr(), &token).await.unwrap();
    let id = identity.node_id().clone();
    let mut worker = Worker::register(second.addr(), identity, "w1").await;
    worker.beat().await.unwrap();
    assert_eq!(first.node_state(&id).await, pb::NodeState::Ready);
    let status =
        ControlClient::new(worker.channel.clone()).list_nodes(pb::ListNodesRequest {}).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::PermissionDenied);
    second.manager.shutdown().await;
    first.manager.shutdown().await;
}
