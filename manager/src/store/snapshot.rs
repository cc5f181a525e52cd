//! The whole state as bytes: what a manager that lags too far is sent. Also the measure of equality: two managers at one
//! revision have the same bytes.

use prost::Message;
use proto::convert;

use super::{kind::list::StateMessage, state::State};

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
    StateMessage::of(state).encode_to_vec()
}

/// The state in `bytes`, without its revision: the snapshot's description has that.
pub(crate) fn decode(bytes: &[u8]) -> Result<State, SnapshotError> {
    let mut state = State::default();
    StateMessage::decode(bytes)?.put_into(&mut state)?;
    Ok(state)
}
