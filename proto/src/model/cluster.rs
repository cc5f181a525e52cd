//! The cluster object: a singleton.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::{IpNet, Ipv6Net};

use super::{ClusterId, Meta, Millis, NodeId, Port};

/// What a user sets with `swarm init` and `swarm update`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterSpec {
    /// Always `default`.
    pub name: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Tasks kept per slot, the live one among them; negative = all. Default 5.
    pub task_history_limit: i64,
    /// Raft entries between snapshots. Default 10,000.
    pub snapshot_interval: u64,
    /// Old snapshots kept. Default 0.
    pub keep_old_snapshots: u64,
    /// Entries kept for slow followers after a snapshot. Default 500.
    pub log_entries_for_slow_followers: u64,
    /// Raft heartbeat in milliseconds. Default 150: a lost leader is noticed in about a second (Swarm: 1 s ticks).
    pub heartbeat_tick: u64,
    /// Smallest raft election timeout in milliseconds. Default 900.
    pub election_tick: u64,
    /// How often a worker speaks to the dispatcher. Default 5 s; three missed make the node down.
    pub dispatcher_heartbeat: Millis,
    /// Life of a node's certificate. Default 2160 h, at least 1 h.
    pub cert_expiry: Millis,
    /// Managers must be unlocked after a restart.
    pub autolock: bool,
}

impl Default for ClusterSpec {
    fn default() -> Self {
        Self {
            name: "default".into(),
            labels: BTreeMap::new(),
            task_history_limit: 5,
            snapshot_interval: 10_000,
            keep_old_snapshots: 0,
            log_entries_for_slow_followers: 500,
            heartbeat_tick: 150,
            election_tick: 900,
            dispatcher_heartbeat: Millis::secs(5),
            cert_expiry: Millis::secs(2160 * 3600),
            autolock: false,
        }
    }
}

/// The root of trust and what admits to it.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct RootCa {
    /// The root certificate.
    pub cert_pem: String,
    /// Its key. Never in a reply to a client.
    pub key_pem: String,
    /// The worker join token, whole (`SWMTKN-1-…`).
    pub worker_token: String,
    /// The manager join token, whole.
    pub manager_token: String,
    /// While it is being replaced: by what, and how far that is.
    pub rotation: Option<Box<RootRotation>>,
}

impl RootCa {
    /// Everything that nodes trust now. The last root is the one that their certificates should be of.
    pub fn trusted_pem(&self) -> String {
        match &self.rotation {
            Some(rotation) => format!("{}\n{}", self.cert_pem.trim_end(), rotation.cert_pem),
            None => self.cert_pem.clone(),
        }
    }
}

/// A change of the root: both are trusted meanwhile, and nodes get new certificates by and by.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct RootRotation {
    /// The next root.
    pub cert_pem: String,
    /// Its key.
    pub key_pem: String,
    /// The next root's name and key, certified by the old one.
    pub cross_pem: String,
    /// Nodes that hold a certificate of the next root.
    pub moved: BTreeSet<NodeId>,
}

impl std::fmt::Debug for RootRotation {
    // Keys must not reach a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RootRotation").field("moved", &self.moved).finish_non_exhaustive()
    }
}

/// What unlocks the managers' disks, as text (`SWMKEY-1-…`); empty while autolock is off.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct UnlockKey(pub String);

impl std::fmt::Debug for UnlockKey {
    // It must not reach a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_empty() { "UnlockKey(none)" } else { "UnlockKey(…)" })
    }
}

impl std::fmt::Debug for RootCa {
    // Keys and tokens must not reach a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RootCa").field("cert_pem", &self.cert_pem.len()).finish_non_exhaustive()
    }
}

/// What a key seals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeySubsystem {
    /// Gossip datagrams.
    Gossip,
    /// Encrypted overlays.
    Data,
}

/// A symmetric key that all nodes share. Of the keys of a subsystem the SECOND by Lamport order is the one to send with:
/// the newest is known to all before anyone uses it (swarmkit `manager/keymanager`).
#[derive(Clone, PartialEq, Eq)]
pub struct NetworkKey {
    /// What it seals.
    pub subsystem: KeySubsystem,
    /// Its place in time.
    pub lamport: u64,
    /// 16 bytes: AES-128.
    pub key: Vec<u8>,
}

impl std::fmt::Debug for NetworkKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NetworkKey({:?}, {})", self.subsystem, self.lamport)
    }
}

/// The cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// Its id: the organisation in every certificate.
    pub id: ClusterId,
    /// Bookkeeping.
    pub meta: Meta,
    /// What the user set.
    pub spec: ClusterSpec,
    /// The root of trust.
    pub root_ca: RootCa,
    /// Pools that IPv4 subnets of overlays are cut from. Fixed at `swarm init`.
    pub default_addr_pools: Vec<IpNet>,
    /// Prefix length of those subnets. Default 24.
    pub subnet_size: u8,
    /// The unique local /48 that IPv6 subnets (/64) of overlays are cut from; random (RFC 4193).
    pub ula_prefix: Ipv6Net,
    /// UDP port of VXLAN. Default 4789.
    pub data_path_port: Port,
    /// Key rings of all subsystems.
    pub network_keys: Vec<NetworkKey>,
    /// Lamport clock of the key manager.
    pub key_clock: u64,
    /// Nodes that were removed: their certificates are refused.
    pub removed_nodes: Vec<NodeId>,
    /// Rises with each `swarm init --force-new-cluster`, whose raft goes on from what one manager knew: its indices may be lower
    /// than what nodes have heard before.
    pub epoch: u64,
    /// What unlocks the managers' disks.
    pub unlock_key: UnlockKey,
}
