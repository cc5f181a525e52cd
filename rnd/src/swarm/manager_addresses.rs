//! Where managers may be: several sources, so that all of them may change address at once and still be found.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, OnceLock},
};

use gossip::PeerView;
use manager::raft::AddressLookup;
use proto::{model::NodeId, pb};
use tokio::sync::watch;

type Session = watch::Receiver<Option<Arc<pb::SessionMessage>>>;
type View = watch::Receiver<Arc<PeerView>>;

/// All addresses at which managers have been heard of, by source. Clones share one list.
#[derive(Clone)]
pub struct ManagerAddresses {
    /// The managers named when the node joined.
    named: Vec<SocketAddr>,
    /// Known once the worker runs.
    heard: Arc<OnceLock<(Session, View)>>,
}

impl ManagerAddresses {
    /// With the managers that were named.
    pub fn new(named: Vec<SocketAddr>) -> Self {
        Self { named, heard: Arc::default() }
    }

    /// What the managers say of each other, and what gossip says of nodes, counts from now on.
    pub fn listen(&self, session: Session, view: View) {
        // A second time would be the same worker's.
        let _ = self.heard.set((session, view));
    }

    /// Where gossip has seen a node last.
    fn of(&self, node: &NodeId) -> Option<IpAddr> {
        let (_, view) = self.heard.get()?;
        view.borrow().nodes.get(node).map(|fact| fact.gossip_addr.ip())
    }

    /// The same for raft.
    pub fn hints(&self) -> AddressLookup {
        let manager_addresses = self.clone();
        Arc::new(move |node| manager_addresses.of(node))
    }

    /// All addresses that a manager may have, the likeliest first.
    pub fn managers(&self) -> Vec<SocketAddr> {
        let session = self.heard.get().and_then(|(session, _)| session.borrow().clone());
        let peers: Vec<(Option<NodeId>, SocketAddr)> = session
            .iter()
            .flat_map(|s| &s.managers)
            .filter_map(|m| Some((m.node_id.parse().ok(), m.addr.parse().ok()?)))
            .collect();
        let told = peers.iter().map(|(_, addr)| *addr);
        let heard =
            peers.iter().filter_map(|(id, addr)| Some(SocketAddr::new(self.of(id.as_ref()?)?, addr.port())));
        let mut all: Vec<SocketAddr> = Vec::new();
        for addr in told.chain(heard).chain(self.named.iter().copied()) {
            if !all.contains(&addr) {
                all.push(addr);
            }
        }
        all
    }
}
