//! What can go wrong with containers and images.

use std::{io, path::Path};

use proto::{error::ApiError, parse::InvalidReference};

/// An error of this module. Its text is fit for a task's status and for a user.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RuntimeError {
    /// No container has this id.
    #[error("No such container: {0}")]
    NoSuchContainer(String),
    /// No volume has this name.
    #[error("get {0}: no such volume")]
    NoSuchVolume(String),
    /// A container has no such file.
    #[error("Could not find the file {path} in container {container}")]
    NoSuchFile {
        /// Its path.
        path: String,
        /// Which container.
        container: String,
    },
    /// No image has this name or id.
    #[error("No such image: {image}{}{why}", if why.is_empty() { "" } else { ": " })]
    NoSuchImage {
        /// The name.
        image: String,
        /// Why it could not be had from its registry; empty if that was not tried.
        why: String,
    },
    /// The request itself is wrong.
    #[error("{0}")]
    Invalid(String),
    /// It is not to be written to; the text is complete.
    #[error("{0}")]
    Denied(String),
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
    /// An image cannot go while something needs it; the text is complete.
    #[error("{0}")]
    Conflict(String),
    /// A registry does not answer as it should; the text is complete.
    #[error("{message}")]
    Registry {
        /// What is wrong.
        message: String,
        /// Credentials are missing or wrong.
        denied: bool,
    },
    /// The archive is not what was expected.
    #[error("cannot use the archive: {0}")]
    BadArchive(String),
    /// An image's manifest, configuration or layer is not what it says it is; the text is complete.
    #[error("{0}")]
    BadImage(String),
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
    /// No image has this name, and no registry was asked.
    pub fn no_such_image(key: &str) -> Self {
        let image = match key.parse::<super::Reference>() {
            Ok(reference) if !key.starts_with("sha256:") => reference.to_string(),
            _ => key.to_owned(),
        };
        RuntimeError::NoSuchImage { image, why: String::new() }
    }

    /// An I/O error with what was tried, e.g. `"read", path`.
    pub fn io(verb: &str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let what = format!("{verb} {}", path.display());
        move |cause| RuntimeError::Io { what, cause: cause.to_string() }
    }
}

impl From<InvalidReference> for RuntimeError {
    fn from(error: InvalidReference) -> Self {
        RuntimeError::Invalid(error.to_string())
    }
}

impl From<RuntimeError> for ApiError {
    fn from(error: RuntimeError) -> Self {
        let message = error.to_string();
        match error {
            RuntimeError::NoSuchContainer(_) => ApiError::not_found(message).help("rnctl ps -a lists this node's containers"),
            RuntimeError::NoSuchVolume(_) | RuntimeError::NoSuchFile { .. } => ApiError::not_found(message),
            RuntimeError::NoSuchImage { image, .. } => ApiError::not_found(message).help(format!(
                "rnctl images lists what is here; bring it: rnctl pull {image}, rnctl load -i archive.tar, or rnctl import rootfs.tar {image}"
            )),
            RuntimeError::Registry { denied: true, .. } | RuntimeError::Denied(_) => ApiError::denied(message),
            RuntimeError::Registry { denied: false, .. } => ApiError::unavailable(message),
            RuntimeError::Invalid(_) | RuntimeError::BadArchive(_) | RuntimeError::BadImage(_) => ApiError::invalid(message),
            RuntimeError::NameInUse { .. } | RuntimeError::Conflict(_) => ApiError::conflict(message),
            RuntimeError::WrongState { .. } => ApiError::precondition(message),
            RuntimeError::Create(_) | RuntimeError::Shim { .. } | RuntimeError::Io { .. } => ApiError::internal(message),
        }
    }
}
