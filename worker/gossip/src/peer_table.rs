//! Everything heard, from all sources, merged: pure.
//!
//! A node is the only writer of its records and numbers its changes, so of two reports of one endpoint the higher number
//! holds, whether it came by notice, by gossip, late or twice. What the managers list (when their digest disagrees with the
//! view) stands in only until the owner says something of it, or its whole state arrives without it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use proto::model::{NetworkId, NodeId, TaskId};

use super::{
    GOSSIP_PORT, ListedEndpoint,
    record::{EndpointRecord, Generation, NodeFact, Seq, first_seq},
    view::PeerView,
};

/// The last word on one endpoint; none = withdrawn.
#[derive(Debug)]
struct VersionedRecord {
    seq: Seq,
    record: Option<Arc<EndpointRecord>>,
}

#[derive(Debug, Default)]
struct Peer {
    fact: Option<Arc<NodeFact>>,
    alive: bool,
    /// Changes up to this number are void: they are of an earlier start that the node has since superseded.
    floor: Seq,
    networks: BTreeMap<NetworkId, NetworkRecords>,
}

/// A node's records on one network.
#[derive(Debug, Default)]
struct NetworkRecords {
    /// The state up to this change is complete here: what it lacks is withdrawn, and earlier changes are stale.
    synced: Seq,
    slots: BTreeMap<TaskId, VersionedRecord>,
}

/// All records.
#[derive(Debug)]
pub(super) struct PeerTable {
    me: NodeId,
    peers: BTreeMap<NodeId, Peer>,
    joined: BTreeSet<NetworkId>,
    /// What the managers say.
    listed: BTreeMap<NetworkId, BTreeMap<TaskId, ManagerListed>>,
    revision: u64,
    changed_at: BTreeMap<NetworkId, u64>,
}

/// An endpoint as the managers list it: the record, and where its node takes VXLAN.
type ManagerListed = (Arc<EndpointRecord>, Option<IpAddr>);

/// What a fact changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct FactChanges {
    /// The fact is newer than what was known.
    pub(super) newer: bool,
    /// The node, or this start of it, was not known before.
    pub(super) new_start: bool,
    /// Networks that it was not known to be on.
    pub(super) joined: Vec<NetworkId>,
}

impl PeerTable {
    pub(super) fn new(me: NodeId) -> Self {
        Self {
            me,
            peers: BTreeMap::new(),
            joined: BTreeSet::new(),
            listed: BTreeMap::new(),
            revision: 0,
            changed_at: BTreeMap::new(),
        }
    }

    /// Rises with each change.
    pub(super) fn revision(&self) -> u64 {
        self.revision
    }

    /// The revision at which a record of this network last changed.
    pub(super) fn changed_at(&self, network: &NetworkId) -> u64 {
        self.changed_at.get(network).copied().unwrap_or(0)
    }

    fn touch(&mut self, network: &NetworkId) {
        self.revision += 1;
        self.changed_at.insert(network.clone(), self.revision);
    }

    /// A node's word about itself.
    pub(super) fn fact(&mut self, mut fact: NodeFact) -> FactChanges {
        let node = fact.node.clone();
        let peer = self.peers.entry(node.clone()).or_default();
        let known = peer.fact.as_deref().map(|f| (f.generation, f.version));
        if known.is_some_and(|known| known >= (fact.generation, fact.version)) {
            return FactChanges::default();
        }
        let new_start = known.is_none_or(|(generation, _)| generation < fact.generation);
        let before =
            peer.fact.as_ref().filter(|_| !new_start).map(|f| f.networks.clone()).unwrap_or_default();
        let joined = fact.networks.difference(&before).cloned().collect();
        if known.is_none() {
            // Heard of is alive until silence proves otherwise.
            peer.alive = true;
        }
        fact.alive = peer.alive;
        let (settled, left, generation) = (fact.settled, fact.left, fact.generation);
        // Records of a network that the node has left go with it; a start that has not settled may yet take it up again.
        let gone: Vec<_> = if left {
            peer.networks.keys().cloned().collect()
        } else if settled {
            peer.networks.keys().filter(|n| !fact.networks.contains(*n)).cloned().collect()
        } else {
            Vec::new()
        };
        peer.fact = Some(Arc::new(fact));
        for network in gone {
            self.drop_network(&node, &network);
        }
        self.revision += 1;
        if settled {
            self.raise_min_seq(&node, generation);
        }
        FactChanges { newer: true, new_start, joined }
    }

    /// What earlier starts of the node said is void from now on.
    pub(super) fn raise_min_seq(&mut self, node: &NodeId, generation: Generation) {
        let Some(peer) = self.peers.get_mut(node) else { return };
        let floor = first_seq(generation);
        if peer.floor >= floor {
            return;
        }
        peer.floor = floor;
        let mut changed = Vec::new();
        for (network, records) in &mut peer.networks {
            let before = records.slots.len();
            records.slots.retain(|_, slot| slot.seq > floor);
            if records.slots.len() != before {
                changed.push(network.clone());
            }
        }
        for network in &changed {
            self.touch(network);
        }
    }

    /// One change of one endpoint by its owner. Returns whether it was news.
    pub(super) fn change(
        &mut self,
        owner: &NodeId,
        network: &NetworkId,
        task: &TaskId,
        seq: Seq,
        record: Option<EndpointRecord>,
    ) -> bool {
        if !self.joined.contains(network) {
            return false;
        }
        let peer = self.peers.entry(owner.clone()).or_default();
        // A record speaks for its owner, of this network and task, whatever it claims.
        let sane =
            record.as_ref().is_none_or(|r| r.node == *owner && r.network == *network && r.task == *task);
        if seq <= peer.floor || !sane || peer.fact.as_ref().is_some_and(|f| f.left) {
            return false;
        }
        let records = peer.networks.entry(network.clone()).or_default();
        let news = seq > records.synced && records.slots.get(task).is_none_or(|slot| slot.seq < seq);
        if news {
            let record = record.map(|r| Arc::new(EndpointRecord { seq, ..r }));
            records.slots.insert(task.clone(), VersionedRecord { seq, record });
        }
        if self.unlist(owner, network, |listed| listed == task) || news {
            self.touch(network);
        }
        news
    }

    /// Ends the managers' word on endpoints of this owner. Says whether there was any.
    fn unlist(&mut self, owner: &NodeId, network: &NetworkId, what: impl Fn(&TaskId) -> bool) -> bool {
        let Some(listed) = self.listed.get_mut(network) else { return false };
        let before = listed.len();
        listed.retain(|task, (record, _)| record.node != *owner || !what(task));
        listed.len() != before
    }

    /// The owner's whole state on a network, as gossip has it: complete for the changes of `generation` up to `upto`.
    pub(super) fn synced(
        &mut self,
        owner: &NodeId,
        generation: Generation,
        network: &NetworkId,
        upto: Seq,
        records: Vec<EndpointRecord>,
    ) {
        let present: BTreeSet<_> = records.iter().map(|r| r.task.clone()).collect();
        for record in records {
            let (task, seq) = (record.task.clone(), record.seq);
            self.change(owner, network, &task, seq, Some(record));
        }
        if !self.joined.contains(network) {
            return;
        }
        let peer = self.peers.entry(owner.clone()).or_default();
        let records = peer.networks.entry(network.clone()).or_default();
        // Absent from a state that covers its number: withdrawn. Tombstones that gossip has caught up with go too.
        let covered = first_seq(generation) + 1..=upto;
        let mut dropped_record = false;
        records.slots.retain(|task, slot| {
            let keep = !covered.contains(&slot.seq) || (slot.record.is_some() && present.contains(task));
            dropped_record |= !keep && slot.record.is_some();
            keep
        });
        if upto > first_seq(generation) {
            records.synced = records.synced.max(upto);
        }
        // A start that has not settled may yet take up what the managers list.
        let whole = peer.fact.as_ref().is_some_and(|f| f.settled && f.generation == generation);
        let unlisted = whole && upto > first_seq(generation) && self.unlist(owner, network, |_| true);
        if dropped_record || unlisted {
            self.touch(network);
        }
    }

    /// The managers' list of a network's running endpoints.
    pub(super) fn listed(&mut self, network: &NetworkId, endpoints: Vec<ListedEndpoint>) {
        if !self.joined.contains(network) {
            return;
        }
        // Of its own endpoints this node needs to be told by nobody.
        let endpoints = endpoints.into_iter().filter(|e| e.record.node != self.me);
        let listed =
            endpoints.into_iter().map(|e| (e.record.task.clone(), (Arc::new(e.record), e.vtep))).collect();
        if self.listed.get(network) != Some(&listed) {
            self.listed.insert(network.clone(), listed);
            self.touch(network);
        }
    }

    /// The failure detector's word.
    pub(super) fn set_alive(&mut self, node: &NodeId, alive: bool) {
        let Some(peer) = self.peers.get_mut(node) else { return };
        if peer.alive != alive {
            peer.alive = alive;
            if let Some(fact) = &mut peer.fact {
                Arc::make_mut(fact).alive = alive;
            }
            let networks: Vec<_> = peer.networks.keys().cloned().collect();
            self.revision += 1;
            for network in &networks {
                self.touch(network);
            }
        }
    }

    /// A node that has been gone for long.
    pub(super) fn forget(&mut self, node: &NodeId) {
        if let Some(peer) = self.peers.remove(node) {
            self.revision += 1;
            for network in peer.networks.keys() {
                self.touch(network);
            }
        }
    }

    /// This node is a member of the network from now on.
    pub(super) fn join(&mut self, network: &NetworkId) {
        self.joined.insert(network.clone());
    }

    /// And no more.
    pub(super) fn leave(&mut self, network: &NetworkId) {
        if self.joined.remove(network) {
            for peer in self.peers.values_mut() {
                peer.networks.remove(network);
            }
            self.listed.remove(network);
            self.touch(network);
        }
    }

    fn drop_network(&mut self, node: &NodeId, network: &NetworkId) {
        if self.peers.get_mut(node).is_some_and(|p| p.networks.remove(network).is_some()) {
            self.touch(network);
        }
    }

    /// A node's fact.
    pub(super) fn fact_of(&self, node: &NodeId) -> Option<&Arc<NodeFact>> {
        self.peers.get(node)?.fact.as_ref()
    }

    /// All other nodes that have not left.
    pub(super) fn others(&self) -> impl Iterator<Item = &Arc<NodeFact>> {
        self.peers.values().filter_map(|p| p.fact.as_ref()).filter(|f| f.node != self.me && !f.left)
    }

    /// Live members of a network, other than this node.
    pub(super) fn members<'a>(&'a self, network: &'a NetworkId) -> impl Iterator<Item = &'a Arc<NodeFact>> {
        self.others().filter(|f| f.alive && f.networks.contains(network))
    }

    /// Members of a network that are silent, but not given up yet.
    pub(super) fn silent<'a>(&'a self, network: &'a NetworkId) -> impl Iterator<Item = &'a Arc<NodeFact>> {
        self.others().filter(|f| !f.alive && f.networks.contains(network))
    }

    /// This node's own records of a network.
    pub(super) fn own(&self, network: &NetworkId) -> Vec<Arc<EndpointRecord>> {
        let records = self.peers.get(&self.me).and_then(|p| p.networks.get(network));
        records.into_iter().flat_map(|s| s.slots.values().filter_map(|slot| slot.record.clone())).collect()
    }

    /// The whole as one value.
    pub(super) fn view(&self) -> PeerView {
        let mut view = PeerView { revision: self.revision, ..PeerView::default() };
        for (node, peer) in &self.peers {
            let Some(fact) = peer.fact.as_ref().filter(|f| !f.left) else { continue };
            view.nodes.insert(node.clone(), fact.clone());
        }
        for (network, tasks) in &self.listed {
            for (task, (record, vtep)) in tasks {
                view.endpoints.insert((network.clone(), task.clone()), record.clone());
                // A node that gossip has never met, for whatever reason: its endpoints have to be reached all the same.
                if let Some(vtep) = vtep.filter(|_| !self.peers.contains_key(&record.node)) {
                    let fact =
                        view.nodes.entry(record.node.clone()).or_insert_with(|| stranger(&record.node, vtep));
                    Arc::make_mut(fact).networks.insert(network.clone());
                }
            }
        }
        for peer in self.peers.values() {
            for (network, records) in &peer.networks {
                for (task, slot) in &records.slots {
                    let key = (network.clone(), task.clone());
                    match &slot.record {
                        Some(record) => view.endpoints.insert(key, record.clone()),
                        None => view.endpoints.remove(&key),
                    };
                }
            }
        }
        view
    }
}

/// All that the managers' list tells of a node.
fn stranger(node: &NodeId, vtep: IpAddr) -> Arc<NodeFact> {
    Arc::new(NodeFact {
        node: node.clone(),
        hostname: String::new(),
        vtep,
        gossip_addr: SocketAddr::new(vtep, GOSSIP_PORT),
        ingress_addrs: Vec::new(),
        host_addrs: vec![vtep],
        networks: BTreeSet::new(),
        generation: 0,
        version: 0,
        settled: true,
        left: false,
        alive: true,
    })
}

#[cfg(test)]
mod tests;
