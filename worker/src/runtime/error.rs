//! What can go wrong with containers and images.

use std::{io, path::Path};

use proto::error::ApiError;

/// An error of this module. Its text is fit for a task's status and for a user.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RuntimeError {
    /// No container has this id.
    #[error("No such container: {0}")]
    NoSuchContainer(String),
    /// No image has this name or id.
    #[error("No such image: {0}")]
    NoSuchImage(String),
    /// The request itself is wrong.
    #[error("{0}")]
    Invalid(String),
    /// The name is taken.
    #[error("The container name {name:?} is already in use by container {id}")]
    NameInUse {
        /// The name.
        name: String,
        /// Who has it.
        id: String,
    },
    /// The container is not in the state that this needs.
    #[error("container {id} is {state}, not {wanted}")]
    WrongState {
        /// Which.
        id: String,
        /// Its state.
        state: &'static str,
        /// The state it would have to be in.
        wanted: &'static str,
    },
    /// An image cannot go while something needs it.
    #[error("conflict: unable to remove image {image}: {why}")]
    ImageInUse {
        /// Which.
        image: String,
        /// Who needs it.
        why: String,
    },
    /// The archive is not what was expected.
    #[error("cannot import the archive: {0}")]
    BadArchive(String),
    /// The container could not be made or run.
    #[error("{0}")]
    Create(String),
    /// The shim did not do what it was asked to.
    #[error("shim of container {id}: {message}")]
    Shim {
        /// Whose shim.
        id: String,
        /// What it said, or what became of it.
        message: String,
    },
    /// The machine refused.
    #[error("{what}: {cause}")]
    Io {
        /// What was tried.
        what: String,
        /// The system's answer.
        cause: String,
    },
}

impl RuntimeError {
    /// An I/O error with what was tried, e.g. `"read", path`.
    pub fn io(verb: &str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let what = format!("{verb} {}", path.display());
        move |cause| RuntimeError::Io { what, cause: cause.to_string() }
    }
}

impl From<RuntimeError> for ApiError {
    fn from(error: RuntimeError) -> Self {
        let message = error.to_string();
        match error {
            RuntimeError::NoSuchContainer(_) => ApiError::not_found(message).help("rnctl ps -a lists this node's containers"),
            RuntimeError::NoSuchImage(name) => ApiError::not_found(message)
                .help(format!("bring it onto this node first: rnctl import rootfs.tar {name} (rnctl images lists what is here)")),
            RuntimeError::Invalid(_) | RuntimeError::BadArchive(_) => ApiError::invalid(message),
            RuntimeError::NameInUse { .. } | RuntimeError::ImageInUse { .. } => ApiError::conflict(message),
            RuntimeError::WrongState { .. } => ApiError::precondition(message),
            RuntimeError::Create(_) | RuntimeError::Shim { .. } | RuntimeError::Io { .. } => ApiError::internal(message),
        }
    }
}
