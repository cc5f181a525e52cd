//! A manager that has moved says so: its address in the state, and with it in raft's configuration, follows it.

use std::{net::SocketAddr, time::Duration};

use certs::{Connector, SharedIdentity, Target, transport};
use proto::{
    error::ApiError,
    pb::{self, membership_client::MembershipClient},
};
use tokio_util::sync::CancellationToken;

use crate::{run::ManagerError, store::Store};

/// Between two looks.
const PERIOD: Duration = Duration::from_millis(500);
/// For the leader's answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Tells the leader `addr` whenever the state has another one, until `stop`.
pub(crate) async fn run(
    store: Store,
    addr: SocketAddr,
    identity: SharedIdentity,
    stop: CancellationToken,
) -> Result<(), ManagerError> {
    let mut tick = tokio::time::interval(PERIOD);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while stop.run_until_cancelled(tick.tick()).await.is_some() {
        let state = store.read();
        let moved = state
            .nodes
            .get(store.node_id())
            .is_some_and(|n| n.raft_id == store.raft_id() && n.raft_addr != Some(addr));
        if !moved {
            continue;
        }
        let told = tokio::time::timeout(PATIENCE, tell(&store, addr, &identity));
        match stop.run_until_cancelled(told).await {
            Some(Ok(Ok(()))) => tracing::info!(%addr, "the managers know this one's new address"),
            Some(Ok(Err(error))) => tracing::debug!(%error, "the managers do not know the new address yet"),
            Some(Err(_)) => tracing::debug!("the leader does not answer"),
            None => {}
        }
    }
    Ok(())
}

async fn tell(store: &Store, addr: SocketAddr, identity: &SharedIdentity) -> Result<(), ApiError> {
    if store.leadership().borrow().is_leader() {
        return store.add_member(store.node_id(), addr).await.map(drop);
    }
    match store.way_to_leader() {
        Some((leader, at)) => {
            let channel = Connector::member(identity.clone()).channel(Target::manager_node(at, leader));
            let request = pb::JoinRaftRequest { addr: addr.to_string() };
            let reply = MembershipClient::new(channel).join(request).await;
            reply.map(drop).map_err(|status| transport::explain(&status))
        }
        None => Err(crate::api::forward::no_leader()),
    }
}
