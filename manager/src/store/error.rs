//! What can go wrong between a command and its outcome.

use std::net::SocketAddr;

use proto::{error::ApiError, model::NodeId};

use super::command::Rejected;

/// A proposal that was not answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// Another manager leads; ask it.
    #[error("this manager is not the leader")]
    NotLeader {
        /// The leader and its address, where known.
        leader: Option<(NodeId, SocketAddr)>,
    },
    /// No majority in time. The commands may still be carried out later.
    #[error("{0}")]
    Unavailable(String),
    /// Raft has stopped on this manager; nothing helps but a restart.
    #[error("raft has stopped: {0}")]
    Fatal(String),
}

impl ProposeError {
    pub(crate) fn no_quorum() -> Self {
        Self::Unavailable(
            "The swarm does not have a leader. It's possible that too few managers are online. \
             Make sure more than half of the managers are online."
                .into(),
        )
    }
}

/// What a single command can come back with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// `apply` refused it.
    #[error(transparent)]
    Rejected(#[from] Rejected),
    /// Nobody answered.
    #[error(transparent)]
    Propose(#[from] ProposeError),
}

impl From<Rejected> for ApiError {
    fn from(rejected: Rejected) -> Self {
        let message = rejected.to_string();
        match rejected {
            Rejected::NotFound(_) => ApiError::not_found(message),
            Rejected::OutOfSequence { .. } => ApiError::out_of_sequence(message),
            Rejected::NameTaken { .. } | Rejected::Taken { .. } => ApiError::conflict(message),
            Rejected::InUse { .. } | Rejected::State(_) => ApiError::precondition(message),
        }
    }
}

impl From<ProposeError> for ApiError {
    fn from(error: ProposeError) -> Self {
        match &error {
            ProposeError::NotLeader { leader: Some((node, addr)) } => {
                ApiError::unavailable(error.to_string()).help(format!("The leader is node {node} at {addr}."))
            }
            ProposeError::NotLeader { leader: None } | ProposeError::Unavailable(_) => {
                ApiError::unavailable(error.to_string())
            }
            ProposeError::Fatal(_) => ApiError::internal(error.to_string())
                .help("See the daemon's log on this manager, and restart it once the cause is gone."),
        }
    }
}

impl From<CommandError> for ApiError {
    fn from(error: CommandError) -> Self {
        match error {
            CommandError::Rejected(rejected) => rejected.into(),
            CommandError::Propose(error) => error.into(),
        }
    }
}

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory or a file in it.
    #[error("{path}: {source}")]
    Io {
        /// Where.
        path: std::path::PathBuf,
        /// What.
        source: std::io::Error,
    },
    /// RocksDB.
    #[error("database {path}: {source}")]
    Database {
        /// Where.
        path: std::path::PathBuf,
        /// What.
        source: rocksdb::Error,
    },
    /// The store belongs to another node, or what it holds cannot be read.
    #[error("{0}")]
    Content(String),
    /// Wrapped, and the key is missing or another.
    #[error(transparent)]
    Locked(#[from] certs::LockError),
    /// openraft refuses to start.
    #[error("raft does not start: {0}")]
    Raft(String),
}
