//! What Linux refused, and how it put it.

use std::{io, path::PathBuf};

/// A step that failed, or a look that did. It names the command that the step stands for and the kernel's own words.
#[derive(Debug, thiserror::Error)]
#[error("{command}: {cause}")]
pub struct KernelError {
    /// The step as a command line; for a look, what was looked at.
    pub command: String,
    /// Why it failed.
    pub cause: Cause,
}

impl KernelError {
    /// Whether what the step works on, or in, does not exist.
    pub fn is_missing(&self) -> bool {
        match &self.cause {
            Cause::NoNamespace(_) | Cause::NoLink(_) => true,
            Cause::Refused { error, .. } => {
                matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV | libc::ESRCH))
            }
            _ => false,
        }
    }
}

/// Why something failed.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// The kernel's answer to a netlink request, with its extended acknowledgement where it gave one.
    #[error("{error}{}", words(.detail))]
    Refused {
        /// The error number.
        error: io::Error,
        /// The kernel's own words.
        detail: Option<String>,
    },
    /// What `nft` printed.
    #[error("nft: {0}")]
    Nft(String),
    /// The namespace does not exist.
    #[error("no network namespace at {0}")]
    NoNamespace(PathBuf),
    /// A link that the step names does not exist.
    #[error("no link {0}")]
    NoLink(String),
    /// A link of that name exists, and is not what the step would make.
    #[error("{name} exists already as {found}")]
    Differs {
        /// The name.
        name: String,
        /// What is there.
        found: String,
    },
    /// The step itself is wrong.
    #[error("{0}")]
    Invalid(String),
    /// The kernel's answer could not be read.
    #[error("unreadable answer from the kernel: {0}")]
    Garbled(String),
    /// A system call failed.
    #[error("{what}: {error}")]
    System {
        /// What was being done.
        what: &'static str,
        /// Its error.
        error: io::Error,
    },
}

fn words(detail: &Option<String>) -> String {
    detail.as_ref().map(|d| format!(" ({d})")).unwrap_or_default()
}

impl Cause {
    /// For `map_err`.
    pub(super) fn system<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> Self {
        move |error| Cause::System { what, error: error.into() }
    }

    /// The error number of the kernel's answer.
    pub(super) fn errno(&self) -> Option<i32> {
        match self {
            Cause::Refused { error, .. } | Cause::System { error, .. } => error.raw_os_error(),
            _ => None,
        }
    }

    /// Puts the command beside it.
    pub(super) fn of(self, command: impl ToString) -> KernelError {
        KernelError { command: command.to_string(), cause: self }
    }
}
