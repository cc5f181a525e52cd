//! The store as a whole: what survives, and what several managers make of each other.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod durability;
mod frozen;
mod members;

use std::{
    collections::{HashMap, HashSet},
    future::Future,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use proto::{model::*, pb};

use super::{
    Store, StoreConfig,
    command::Command,
    fixtures::{cluster, config, id, network, node, secret},
};
use crate::raft::{Peer, PeerCall, PeerError, PeerServer, PeerTransport};

/// Waits until `condition` holds; says what did not come true.
pub(super) async fn eventually<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let start = Instant::now();
    while !condition().await {
        assert!(start.elapsed() < Duration::from_secs(20), "after 20 s still not: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub(super) fn create(n: usize) -> Command {
    Command::CreateNetwork(Box::new(network(n)))
}

/// Managers in one process, and which of them hear each other.
#[derive(Clone, Default)]
pub(super) struct Mesh(Arc<Mutex<Links>>);

#[derive(Default)]
struct Links {
    servers: HashMap<u64, PeerServer>,
    cut: HashSet<u64>,
}

impl Mesh {
    fn join(&self, store: &Store) {
        self.0.lock().unwrap().servers.insert(store.raft_id(), store.peer_server());
    }

    fn leave(&self, raft_id: u64) {
        self.0.lock().unwrap().servers.remove(&raft_id);
    }

    /// Nothing goes to or from the manager.
    fn cut(&self, store: &Store) {
        self.0.lock().unwrap().cut.insert(store.raft_id());
    }

    fn heal(&self, store: &Store) {
        self.0.lock().unwrap().cut.remove(&store.raft_id());
    }
}

#[async_trait]
impl PeerTransport for Mesh {
    async fn call(
        &self,
        to: &Peer,
        call: PeerCall,
        message: pb::RaftMessage,
    ) -> Result<pb::RaftMessage, PeerError> {
        let unreachable = || PeerError::Unreachable(format!("{} is cut off", to.raft_id));
        let server = {
            let links = self.0.lock().unwrap();
            if links.cut.contains(&to.raft_id) || links.cut.contains(&message.from) {
                return Err(unreachable());
            }
            links.servers.get(&to.raft_id).cloned().ok_or_else(unreachable)?
        };
        server.answer(call, message).await
    }
}

/// A manager's directory and how it is opened.
pub(super) struct Home {
    dir: tempfile::TempDir,
    n: usize,
}

impl Home {
    pub(super) fn new(n: usize) -> Self {
        Self { dir: tempfile::tempdir().unwrap(), n }
    }

    pub(super) fn config(&self) -> StoreConfig {
        let addr = std::net::SocketAddr::from(([192, 0, 2, u8::try_from(self.n).unwrap()], 2377));
        StoreConfig {
            heartbeat_tick: Some(Millis(50)),
            election_tick: Some(Millis(400)),
            ..StoreConfig::new(self.dir.path().join("raft"), id("node", self.n), addr)
        }
    }

    pub(super) async fn open(&self, mesh: &Mesh) -> Store {
        self.open_as(mesh, None).await
    }

    async fn open_as(&self, mesh: &Mesh, raft_id: Option<u64>) -> Store {
        let store = Store::open(StoreConfig { raft_id, ..self.config() }, mesh.clone()).await.unwrap();
        mesh.join(&store);
        store
    }

    /// The first manager of a cluster of `nodes` nodes, none of the others a member yet.
    pub(super) async fn initialise(&self, mesh: &Mesh, nodes: usize, spec: ClusterSpec) -> Store {
        let store = self.open(mesh).await;
        let mut commands = vec![Command::InitCluster(Box::new(Cluster { spec, ..cluster() }))];
        commands.extend((1..=nodes).map(|n| Command::CreateNode(Box::new(node(n)))));
        store.initialise(commands).await.unwrap();
        store
    }
}
