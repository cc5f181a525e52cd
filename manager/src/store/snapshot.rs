//! The whole state as bytes: what a manager that lags too far is sent. Also the measure of equality: two managers at one
//! revision have the same bytes.

use prost::Message;
use proto::{convert, model, pb};

use super::state::State;

/// Append-only, as everything that is replicated.
#[derive(Clone, PartialEq, Message)]
struct StateMessage {
    #[prost(message, optional, tag = "1")]
    cluster: Option<pb::Cluster>,
    #[prost(message, repeated, tag = "2")]
    nodes: Vec<pb::Node>,
    #[prost(message, repeated, tag = "3")]
    networks: Vec<pb::Network>,
    #[prost(message, repeated, tag = "4")]
    services: Vec<pb::Service>,
    #[prost(message, repeated, tag = "5")]
    tasks: Vec<pb::Task>,
}

/// Bytes that are not a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SnapshotError {
    #[error("malformed snapshot: {0}")]
    Bytes(#[from] prost::DecodeError),
    #[error("malformed snapshot: {0}")]
    Object(#[from] convert::Malformed),
}

/// All tables, in key order.
pub(crate) fn encode(state: &State) -> Vec<u8> {
    StateMessage {
        cluster: state.cluster.as_deref().map(pb::Cluster::from),
        nodes: state.nodes.values().map(|n| (&**n).into()).collect(),
        networks: state.networks.values().map(|n| (&**n).into()).collect(),
        services: state.services.values().map(|s| (&**s).into()).collect(),
        tasks: state.tasks.values().map(|t| (&**t).into()).collect(),
    }
    .encode_to_vec()
}

/// The state in `bytes`, without its revision: the snapshot's description has that.
pub(crate) fn decode(bytes: &[u8]) -> Result<State, SnapshotError> {
    let message = StateMessage::decode(bytes)?;
    let mut state = State::default();
    if let Some(cluster) = message.cluster {
        state.put(model::Cluster::try_from(cluster)?);
    }
    // Networks first: whose addresses on the ingress network are whose depends on which network that is.
    for network in message.networks {
        state.put(model::Network::try_from(network)?);
    }
    for node in message.nodes {
        state.put(model::Node::try_from(node)?);
    }
    for service in message.services {
        state.put(model::Service::try_from(service)?);
    }
    for task in message.tasks {
        state.put(model::Task::try_from(task)?);
    }
    Ok(state)
}
