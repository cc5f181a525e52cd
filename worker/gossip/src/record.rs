//! What nodes tell each other: typed records and their text form.
//!
//! chitchat carries strings, so a record is JSON with the names below; unknown fields are ignored and missing ones take
//! their defaults, which is how versions mix. A record never carries a secret or a decision: every id in it was issued by
//! the managers, and a reader ignores networks that it has no assignment on.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
};

use proto::model::{NetworkId, NodeId, ServiceId, TaskId};
use serde::{Deserialize, Serialize};

/// One start of a daemon: rises with each start of the same node (milliseconds since the epoch, or one more than the last
/// where the clock went back).
pub type Generation = u64;

/// Number of a change that a node made to its own endpoints: rises over all its networks and, because a generation begins at
/// [`first_seq`], over restarts too. Of two records of one task by one node the one with the higher number holds.
pub type Seq = u64;

/// Changes that one generation can number before it reaches the next one's range, were that to start 1 ms later: 2^20.
const SEQ_BITS: u32 = 20;

/// The number before a generation's first change.
pub const fn first_seq(generation: Generation) -> Seq {
    generation << SEQ_BITS
}

/// Where an endpoint stands, as the node that runs it knows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EndpointState {
    /// Its address exists, so peers may resolve it on the overlay; it gets no traffic of its service yet.
    #[default]
    Starting,
    /// It takes new connections and is in DNS.
    Ready,
    /// It keeps the connections it has and gets no new ones; no longer in DNS.
    Draining,
}

/// A task's endpoint on one network. For `ingress` the addresses are the task's mesh addresses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointRecord {
    /// The network.
    #[serde(rename = "net")]
    pub network: NetworkId,
    /// The task.
    pub task: TaskId,
    /// The node that runs it; also the record's only writer.
    pub node: NodeId,
    /// Its service.
    #[serde(rename = "svc")]
    pub service: ServiceId,
    /// Its service's name.
    #[serde(rename = "svc_name", default)]
    pub service_name: String,
    /// `service.slot.id`: [`proto::model::Task::name`].
    #[serde(rename = "name", default)]
    pub task_name: String,
    /// Slot in a replicated service, 0 in a global one.
    #[serde(default)]
    pub slot: u64,
    /// Addresses on the network, at most one per family.
    #[serde(default)]
    pub addrs: Vec<IpAddr>,
    /// Further names of the service on this network.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// Names of this task alone: short container id, host name.
    #[serde(default)]
    pub task_aliases: Vec<String>,
    /// Where it stands.
    #[serde(default)]
    pub state: EndpointState,
    /// The change that last wrote this record. Set by the gossip when it is published.
    #[serde(default)]
    pub seq: Seq,
}

/// What a node says of itself to all nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeFact {
    /// The node.
    pub node: NodeId,
    /// Its host name.
    #[serde(default)]
    pub hostname: String,
    /// Where it takes VXLAN: the data-path address.
    pub vtep: IpAddr,
    /// Where it takes gossip.
    pub gossip_addr: SocketAddr,
    /// Its own addresses on `ingress`, at most one per family.
    #[serde(default)]
    pub ingress_addrs: Vec<IpAddr>,
    /// All addresses of the machine: its own requests to other nodes come from one of them.
    #[serde(default)]
    pub host_addrs: Vec<IpAddr>,
    /// Networks that it is a member of (has, or is about to have, endpoints on).
    #[serde(default)]
    pub networks: BTreeSet<NetworkId>,
    /// The start of its daemon that says this.
    #[serde(rename = "gen", default)]
    pub generation: Generation,
    /// Counts the facts of one generation; the higher one holds.
    #[serde(default)]
    pub version: u64,
    /// After a restart: everything that still runs has been published again, so what earlier generations said is void.
    #[serde(default)]
    pub settled: bool,
    /// It is leaving the cluster for good.
    #[serde(default)]
    pub left: bool,
    /// Whether it has been heard within the failure detector's limit. Judged by the reader, never sent.
    #[serde(skip, default = "yes")]
    pub alive: bool,
}

const fn yes() -> bool {
    true
}

/// Text that is not a record. Dropped by the reader and counted.
#[derive(Debug, thiserror::Error)]
#[error("malformed gossip record {key:?}: {reason}")]
pub struct MalformedRecord {
    key: String,
    reason: String,
}

/// Key of the node fact on the cluster-wide channel.
pub(super) const FACT_KEY: &str = "fact";
/// Key of the owner's last change number on a network's channel; always written after the records it covers.
pub(super) const SEQ_KEY: &str = "seq";
const ENDPOINT_PREFIX: &str = "ep/";

/// Key of a task's record on its network's channel.
pub(super) fn endpoint_key(task: &TaskId) -> String {
    format!("{ENDPOINT_PREFIX}{task}")
}

/// The task that a key of a network's channel is about, if it is an endpoint's.
pub(super) fn task_of_key(key: &str) -> Option<TaskId> {
    key.strip_prefix(ENDPOINT_PREFIX)?.parse().ok()
}

/// A record as text.
pub(super) fn encode<T: Serialize>(record: &T) -> String {
    // Plain structs of strings, numbers and lists: serialising them cannot fail.
    serde_json::to_string(record).unwrap_or_default()
}

/// A record from text.
pub(super) fn decode<'a, T: Deserialize<'a>>(key: &str, text: &'a str) -> Result<T, MalformedRecord> {
    serde_json::from_str(text).map_err(|e| MalformedRecord { key: key.to_owned(), reason: e.to_string() })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn a_record_of_a_newer_version_is_still_read() {
        let text = r#"{"net":"n1","task":"t1","node":"a","svc":"s1","state":"ready","seq":7,"weight":3}"#;
        let record: EndpointRecord = decode("ep/t1", text).unwrap();
        assert_eq!(record.state, EndpointState::Ready);
        assert_eq!(record.seq, 7);
        assert_eq!(decode::<EndpointRecord>("ep/t1", &encode(&record)).unwrap(), record);
    }

    #[test]
    fn ids_that_are_not_ids_are_refused() {
        assert_eq!(task_of_key("ep/t1"), Some("t1".parse().unwrap()));
        assert_eq!(task_of_key("ep/../../x"), None);
        assert_eq!(task_of_key("seq"), None);
        assert!(decode::<EndpointRecord>("ep/t1", "{\"task\":5}").is_err());
    }

    #[test]
    fn change_numbers_rise_over_restarts() {
        let first_boot = 1_700_000_000_000;
        assert!(first_seq(first_boot) + 1_000_000 < first_seq(first_boot + 1));
    }
}
