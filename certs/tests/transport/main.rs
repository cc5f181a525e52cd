//! Who gets through, and what everyone else is told: a tonic server on a real socket.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod fixture;

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    time::{Duration, Instant, SystemTime},
};

use certs::{
    ConnectError, Connector, Identity, JoinToken, RootCa, SharedIdentity, Subject, Target,
    issue::DEFAULT_VALIDITY,
    join,
    transport::{DialOptions, Refusal, explain},
};
use fixture::*;
use proto::{
    error::{ApiError, Kind},
    model::{ClusterId, NodeId, Role},
    pb::{Availability, IssueCertificateRequest, ca_client::CaClient},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tonic::transport::Channel;

#[tokio::test]
async fn members_are_known_by_their_certificate() {
    let cluster = Cluster::new();
    let server = serve(&cluster).await;
    for role in [Role::Worker, Role::Manager] {
        let subject = cluster.subject(role);
        let identity = cluster.member_at(&subject, DEFAULT_VALIDITY, SystemTime::now());
        let wanted = format!("{role} {} {} from 127.0.0.1", subject.node_id, cluster.id);
        assert_eq!(dial(&server, identity).await.unwrap(), wanted);
    }
}

#[tokio::test]
async fn joiners_are_anonymous() {
    let cluster = Cluster::new();
    let server = serve(&cluster).await;
    let target = Target::manager(server.addr);
    for connector in [Connector::joiner(cluster.root.cert_pem()).unwrap(), Connector::unverified().unwrap()] {
        let channel = connector.connect(target.clone()).await.unwrap();
        assert_eq!(ask(channel).await.unwrap(), "anonymous from 127.0.0.1");
    }
    let foreign = Connector::joiner(Cluster::new().root.cert_pem()).unwrap();
    let error = foreign.connect(target).await.expect_err("foreign root");
    assert!(matches!(error, ConnectError::Refused { refusal: Refusal::OtherCluster, .. }), "{error}");
}

#[tokio::test]
async fn ipv4_clients_of_a_dual_stack_socket_keep_their_address() {
    if skip::unless(&[skip::Need::Ipv6]) {
        return;
    }
    let cluster = Cluster::new();
    let manager = cluster.member(Role::Manager);
    let server = serve_on((Ipv6Addr::UNSPECIFIED, 0).into(), &cluster, manager, true).await;
    let connector = Connector::member(cluster.shared(Role::Worker));
    for (ip, wanted) in [("127.0.0.1", "from 127.0.0.1"), ("::1", "from ::1")] {
        let target = Target::manager(SocketAddr::new(ip.parse().unwrap(), server.addr.port()));
        let told = ask(connector.connect(target).await.unwrap()).await.unwrap();
        assert!(told.ends_with(wanted), "{told}");
    }
}

#[tokio::test]
async fn clusters_refuse_each_other() {
    let (ours, theirs) = (Cluster::new(), Cluster::new());
    let server = serve(&ours).await;
    // The client notices first: it does not trust the server.
    let error = dial(&server, theirs.member(Role::Worker)).await.expect_err("foreign server");
    assert!(matches!(error, ConnectError::Refused { refusal: Refusal::OtherCluster, .. }), "{error}");
    // A client that trusts the server but has a certificate of another root: the server refuses, and connect() says so.
    let stranger = theirs.member(Role::Manager);
    let both = format!("{}{}", theirs.root.cert_pem(), ours.root.cert_pem());
    // Same cluster id in both certificates, so that only the server's verdict is left.
    let stranger = {
        let subject = Subject { cluster_id: ours.id.clone(), ..theirs.subject(stranger.role()) };
        theirs.member_at(&subject, DEFAULT_VALIDITY, SystemTime::now()).with_roots(&both).unwrap()
    };
    let error = dial(&server, stranger).await.expect_err("foreign client");
    assert!(matches!(error, ConnectError::Rejected { .. }), "{error:?}");
    let error = ApiError::from(error);
    assert_eq!(error.kind, Kind::Denied);
    assert!(error.message.contains("another cluster"), "{error}");
}

#[tokio::test]
async fn the_cluster_id_counts_even_under_one_root() {
    let cluster = Cluster::new();
    let server = serve(&cluster).await;
    let subject = Subject { cluster_id: ClusterId::random(), ..cluster.subject(Role::Worker) };
    let error = dial(&server, cluster.member_at(&subject, DEFAULT_VALIDITY, SystemTime::now()))
        .await
        .expect_err("id");
    assert!(matches!(error, ConnectError::Refused { refusal: Refusal::OtherCluster, .. }), "{error}");
}

#[tokio::test]
async fn an_expired_certificate_only_asks_for_renewal() {
    let cluster = Cluster::new();
    let server = serve(&cluster).await;
    let lately = cluster.expired(Role::Worker, Duration::from_secs(3600));
    assert_eq!(dial(&server, lately).await.unwrap(), "expired worker from 127.0.0.1");
    let long_ago = cluster.expired(Role::Worker, YEAR + DEFAULT_VALIDITY);
    let error = dial(&server, long_ago).await.expect_err("too old");
    assert!(
        matches!(error, ConnectError::Rejected { reason, .. } if reason.contains("expired")),
        "{error:?}"
    );
}

#[tokio::test]
async fn an_expired_server_is_not_trusted() {
    let cluster = Cluster::new();
    let manager = cluster.expired(Role::Manager, Duration::from_secs(60));
    let server = serve_on(loopback(), &cluster, manager, true).await;
    let error = dial(&server, cluster.member(Role::Worker)).await.expect_err("expired server");
    assert!(matches!(error, ConnectError::Refused { refusal: Refusal::Expired, .. }), "{error:?}");
}

#[tokio::test]
async fn a_certificate_of_the_future_is_explained_by_the_clock() {
    let cluster = Cluster::new();
    let future = SystemTime::now() + Duration::from_secs(7200);
    let manager = cluster.member_at(&cluster.subject(Role::Manager), DEFAULT_VALIDITY, future);
    let server = serve_on(loopback(), &cluster, manager, true).await;
    let error = dial(&server, cluster.member(Role::Worker)).await.expect_err("future server");
    assert!(error.to_string().contains("clock"), "{error}");
    // Half an hour is within what certificates reach back.
    server.identity.replace(cluster.member_at(
        &cluster.subject(Role::Manager),
        DEFAULT_VALIDITY,
        SystemTime::now() + Duration::from_secs(1800),
    ));
    dial(&server, cluster.member(Role::Worker)).await.unwrap();
}

#[tokio::test]
async fn a_worker_is_no_manager_and_a_node_is_itself() {
    let cluster = Cluster::new();
    let worker = serve_on(loopback(), &cluster, cluster.member(Role::Worker), true).await;
    let error = dial(&worker, cluster.member(Role::Manager)).await.expect_err("a worker answers");
    assert!(error.to_string().ends_with("it is not a manager"), "{error}");
    assert_eq!(ApiError::from(error).kind, Kind::Precondition);

    let manager = serve(&cluster).await;
    let connector = Connector::member(cluster.shared(Role::Manager));
    let node = manager.identity.current().node_id().clone();
    connector.connect(Target::manager_node(manager.addr, node.clone())).await.unwrap();
    let error = connector
        .connect(Target::manager_node(manager.addr, NodeId::random()))
        .await
        .expect_err("other node");
    assert!(
        matches!(&error, ConnectError::Refused { refusal: Refusal::OtherNode { found, .. }, .. } if *found == node),
        "{error}"
    );
}

#[tokio::test]
async fn a_root_is_rotated_under_a_running_server() {
    let old = Cluster::new();
    let new = Cluster { root: RootCa::create(SystemTime::now()).unwrap(), id: old.id.clone() };
    let server = serve(&old).await;
    let both = format!("{}{}", old.root.cert_pem(), new.root.cert_pem());
    let trusting_both = |identity: Identity| identity.with_roots(&both).unwrap();

    // Both are trusted while leaves are re-issued.
    server.identity.replace(trusting_both(old.member(Role::Manager)));
    dial(&server, old.member(Role::Worker)).await.unwrap();
    dial(&server, trusting_both(new.member(Role::Worker))).await.unwrap();

    // The server's own leaf is new: who trusts both follows.
    server.identity.replace(trusting_both(new.member(Role::Manager)));
    dial(&server, trusting_both(old.member(Role::Worker))).await.unwrap();
    dial(&server, new.member(Role::Worker)).await.unwrap();
    assert!(dial(&server, old.member(Role::Worker)).await.is_err());

    // The old one is gone.
    server.identity.replace(new.member(Role::Manager));
    dial(&server, new.member(Role::Worker)).await.unwrap();
    let error = dial(&server, trusting_both(old.member(Role::Worker))).await.expect_err("old leaf");
    assert!(matches!(error, ConnectError::Rejected { .. }), "{error:?}");
}

#[tokio::test]
async fn a_channel_reconnects_with_the_identity_of_the_day() {
    let cluster = Cluster::new();
    let identity = cluster.shared(Role::Worker);
    let first = serve(&cluster).await;
    let addr = first.addr;
    let channel = Connector::member(identity.clone()).channel(Target::manager(addr));
    assert!(ask(channel.clone()).await.unwrap().starts_with("worker"));
    first.stop().await;
    identity.replace(cluster.member(Role::Manager));
    let _second = serve_on(addr, &cluster, cluster.member(Role::Manager), true).await;
    // Calls on the dying connection may still fail; the channel mends itself.
    let told = tokio::time::timeout(Duration::from_secs(10), async {
        loop {
            if let Ok(told) = ask(channel.clone()).await {
                break told;
            }
            tokio::task::yield_now().await;
        }
    });
    assert!(told.await.unwrap().starts_with("manager"));
}

#[tokio::test]
async fn a_connection_ends_with_the_certificate_that_opened_it() {
    let cluster = Cluster::new();
    let server = serve(&cluster).await;
    let short = cluster.member_at(&cluster.subject(Role::Worker), Duration::from_secs(3), SystemTime::now());
    let channel =
        Connector::member(SharedIdentity::new(short)).connect(Target::manager(server.addr)).await.unwrap();
    assert!(ask(channel.clone()).await.unwrap().starts_with("worker"));
    let told = tokio::time::timeout(Duration::from_secs(10), async {
        loop {
            match ask(channel.clone()).await {
                Ok(told) if told.starts_with("worker") => tokio::time::sleep(Duration::from_millis(20)).await,
                Ok(told) => break told,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    });
    assert_eq!(told.await.unwrap(), "expired worker from 127.0.0.1");
}

#[tokio::test]
async fn failures_to_connect_have_their_words_eager_or_lazy() {
    let cluster = Cluster::new();
    let connector = Connector::member(cluster.shared(Role::Worker))
        .with_options(DialOptions { connect_timeout: Duration::from_millis(300), ..DialOptions::default() });

    // Nobody listens: a port that is ours, so that nobody else begins to.
    let reserved = tokio::net::TcpSocket::new_v4().unwrap();
    reserved.bind(loopback()).unwrap();
    let gone = reserved.local_addr().unwrap();
    // Listens, and never says anything.
    let silent = TcpListener::bind(loopback()).await.unwrap();
    // Speaks something else.
    let other = TcpListener::bind(loopback()).await.unwrap();
    let (silent_addr, other_addr) = (silent.local_addr().unwrap(), other.local_addr().unwrap());
    let web = tokio::spawn(async move {
        while let Ok((mut stream, _)) = other.accept().await {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
            // Until the client hangs up, so that no reset overtakes the answer.
            let _ = stream.read_to_end(&mut Vec::new()).await;
        }
    });
    // Hangs up.
    let rude = TcpListener::bind(loopback()).await.unwrap();
    let rude_addr = rude.local_addr().unwrap();
    let hang_up = tokio::spawn(async move { while rude.accept().await.is_ok() {} });

    for (addr, kind, words) in [
        (gone, Kind::Unavailable, "connection refused"),
        (silent_addr, Kind::Unavailable, "no answer within 300ms"),
        (other_addr, Kind::Invalid, "not an rn manager"),
        (rude_addr, Kind::Unavailable, "closed during the handshake"),
    ] {
        let target = Target::manager(addr);
        let eager = ApiError::from(connector.connect(target.clone()).await.expect_err(words));
        let lazy = explain(&ask(connector.channel(target)).await.expect_err(words));
        assert_eq!(eager, lazy);
        assert_eq!(eager.kind, kind, "{eager}");
        assert!(eager.message.contains(words) && eager.message.contains(&addr.to_string()), "{eager}");
    }
    web.abort();
    hang_up.abort();
}

#[tokio::test]
async fn a_peers_own_error_comes_through_and_a_lost_connection_is_named() {
    let cluster = Cluster::new();
    let server = serve_on(loopback(), &cluster, cluster.member(Role::Manager), false).await;
    let channel = Connector::joiner(cluster.root.cert_pem())
        .unwrap()
        .connect(Target::manager(server.addr))
        .await
        .unwrap();
    let request = IssueCertificateRequest { token: "nonsense".into(), ..IssueCertificateRequest::default() };
    let error = explain(&CaClient::new(channel).issue_certificate(request).await.expect_err("bad token"));
    assert_eq!(error.kind, Kind::Invalid);
    assert!(error.message.contains("invalid join token") && error.help.is_some(), "{error}");

    // A call that nobody answers.
    let options = DialOptions { call_timeout: Some(Duration::from_millis(200)), ..DialOptions::default() };
    let impatient = Connector::joiner(cluster.root.cert_pem()).unwrap().with_options(options);
    let request = IssueCertificateRequest { token: UNANSWERED.into(), ..IssueCertificateRequest::default() };
    let channel = impatient.connect(Target::manager(server.addr)).await.unwrap();
    let error = explain(&CaClient::new(channel).issue_certificate(request).await.expect_err("no answer"));
    assert_eq!(error.kind, Kind::Timeout, "{error}");

    // A connection that dies under a call: a proxy that cuts it.
    let proxy = TcpListener::bind(loopback()).await.unwrap();
    let (proxy_addr, behind) = (proxy.local_addr().unwrap(), server.addr);
    let (cut, mut cutting) = tokio::sync::watch::channel(());
    tokio::spawn(async move {
        let (mut near, _) = proxy.accept().await.unwrap();
        let mut far = TcpStream::connect(behind).await.unwrap();
        tokio::select! {
            _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
            _ = cutting.changed() => {}
        }
    });
    let connector = Connector::member(cluster.shared(Role::Worker));
    let channel = connector.connect(Target::manager(proxy_addr)).await.unwrap();
    ask(channel.clone()).await.unwrap();
    cut.send(()).unwrap();
    // The proxy is gone too, so that sooner or later there is nobody to connect to.
    let error = loop {
        if let Err(status) = ask(channel.clone()).await {
            break explain(&status);
        }
    };
    assert_eq!(error.kind, Kind::Unavailable, "{error}");
}

/// A connection from another address of this machine.
async fn from_elsewhere(to: SocketAddr) -> TcpStream {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    socket.connect(to).await.unwrap()
}

#[tokio::test]
async fn stalled_clients_hold_up_nobody() {
    let cluster = Cluster::new();
    let server = serve(&cluster).await;
    let mut stalled = Vec::new();
    for _ in 0..300 {
        stalled.push(from_elsewhere(server.addr).await);
    }
    // From another address and from theirs, members and joiners.
    dial(&server, cluster.member(Role::Worker)).await.unwrap();
    let joiner = Connector::joiner(cluster.root.cert_pem()).unwrap();
    ask(joiner.connect(Target::manager(server.addr)).await.unwrap()).await.unwrap();
    // And they are dropped: reading ends instead of waiting for ever.
    for mut one in stalled {
        // A reset is an end too.
        let _ = one.read_to_end(&mut Vec::new()).await;
    }
}

#[tokio::test]
async fn strangers_share_few_connections_and_members_do_not_count() {
    let cluster = Cluster::new();
    let server = serve(&cluster).await;
    let target = Target::manager(server.addr);
    let (member, joiner) = (
        Connector::member(cluster.shared(Role::Worker)),
        Connector::joiner(cluster.root.cert_pem()).unwrap(),
    );
    // The first member from an address vouches for it: no rate applies to those that follow.
    let mut members = vec![member.connect(target.clone()).await.unwrap()];
    // A call that is never answered lasts as long as its connection.
    let hanging = async |channel: Channel| {
        let request =
            IssueCertificateRequest { token: UNANSWERED.into(), ..IssueCertificateRequest::default() };
        CaClient::new(channel).issue_certificate(request).await
    };
    let first = joiner.connect(target.clone()).await.unwrap();
    let mut evicted = Box::pin(hanging(first));
    let mut strangers = Vec::new();
    for _ in 0..40 {
        tokio::select! {
            _ = &mut evicted => break,
            stranger = joiner.connect(target.clone()) => strangers.push(stranger.unwrap()),
        }
        members.push(member.connect(target.clone()).await.unwrap());
        let stranger = strangers.last().unwrap().clone();
        assert_eq!(ask(stranger).await.unwrap(), "anonymous from 127.0.0.1");
    }
    assert!(strangers.len() > 10, "there is room for some: {}", strangers.len());
    assert!(strangers.len() < 40, "the oldest one made room");
    for channel in members {
        ask(channel).await.unwrap();
    }
}

#[tokio::test]
async fn joining_and_renewing() {
    let cluster = Cluster::new();
    let server = serve_on(loopback(), &cluster, cluster.member(Role::Manager), false).await;
    let join_with = async |token: &JoinToken| {
        join::join(server.addr, token, Availability::default(), "host1", DialOptions::default()).await
    };

    let joined = join_with(&server.token).await.unwrap();
    assert_eq!(joined.identity.role(), Role::Worker);
    assert_eq!(joined.identity.cluster_id(), &cluster.id);
    assert_eq!(joined.observed_addr, Some(Ipv4Addr::LOCALHOST.into()));

    // A token of this cluster with another secret, and one of another cluster: the second is never shown to the server.
    let rotated = JoinToken::generate(cluster.root.digest()).unwrap();
    assert_eq!(join_with(&rotated).await.expect_err("rotated").kind, Kind::Denied);
    let foreign = JoinToken::generate(Cluster::new().root.digest()).unwrap();
    let error = join_with(&foreign).await.expect_err("foreign");
    assert!(error.message.contains("another cluster's CA"), "{error}");

    // Renewal keeps the node and changes the key; also with a certificate that has expired.
    let (node, cert) = (joined.identity.node_id().clone(), joined.identity.cert_pem().to_owned());
    let shared = SharedIdentity::new(joined.identity);
    let connector = Connector::member(shared.clone());
    let channel = connector.connect(Target::manager(server.addr)).await.unwrap();
    let renewed = join::renew(channel, &shared.current()).await.unwrap();
    assert_eq!(renewed.node_id(), &node);
    assert_ne!(renewed.cert_pem(), cert);

    let late = cluster.expired(Role::Worker, Duration::from_secs(3600));
    let node = late.node_id().clone();
    shared.replace(late);
    let channel = connector.connect(Target::manager(server.addr)).await.unwrap();
    let renewed = join::renew(channel, &shared.current()).await.unwrap();
    assert_eq!(renewed.node_id(), &node);
    assert!(!renewed.peer().is_expired(SystemTime::now()));
}

#[tokio::test]
async fn the_cost_of_a_connection() {
    let cluster = Cluster::new();
    let server = serve(&cluster).await;
    let connector = Connector::member(cluster.shared(Role::Worker));
    let (begun, rounds) = (Instant::now(), 50);
    for _ in 0..rounds {
        ask(connector.connect(Target::manager(server.addr)).await.unwrap()).await.unwrap();
    }
    println!("connect, mutual handshake and one call: {:?}", begun.elapsed() / rounds);
    let channel = connector.connect(Target::manager(server.addr)).await.unwrap();
    let (begun, rounds) = (Instant::now(), 500);
    for _ in 0..rounds {
        ask(channel.clone()).await.unwrap();
    }
    println!("one call on a standing connection: {:?}", begun.elapsed() / rounds);
}
