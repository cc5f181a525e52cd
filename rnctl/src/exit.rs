//! Failures and exit codes.
//!
//! 0 success; 1 the daemon or the command failed; 125 the command line itself is wrong; `exec` passes on the exit code
//! of what it ran (126 cannot be executed, 127 not found), as Docker's client does.

use std::fmt;

use proto::{convert::Malformed, error::ApiError};

/// Why a command failed: what to print on standard error, and how to exit.
#[derive(Debug)]
pub enum Failure {
    /// The daemon answered with an error.
    Daemon(ApiError),
    /// Failed on this side of the socket.
    Local {
        /// What happened.
        message: String,
        /// The way out, if there is one.
        help: Option<String>,
    },
    /// The command line is wrong; the text is complete.
    Usage(String),
    /// Several objects failed; each is reported.
    Several(Vec<Failure>),
    /// Everything has been said; only the code is left.
    Code(i32),
}

impl Failure {
    /// A failure on this side.
    pub fn local(message: impl Into<String>) -> Self {
        Self::Local { message: message.into(), help: None }
    }

    /// A wrong command line. `command` is the command's path without `rnctl`, for the hint.
    pub fn usage(command: &str, message: impl fmt::Display) -> Self {
        let space = if command.is_empty() { "" } else { " " };
        Self::Usage(format!("{message}\nSee 'rnctl{space}{command} --help'."))
    }

    /// Adds the way out.
    pub fn with_help(mut self, text: impl Into<String>) -> Self {
        if let Self::Local { help, .. } = &mut self {
            *help = Some(text.into());
        }
        self
    }

    /// The process's exit code.
    pub fn code(&self) -> i32 {
        match self {
            Self::Daemon(_) | Self::Local { .. } | Self::Several(_) => 1,
            Self::Usage(_) => 125,
            Self::Code(code) => *code,
        }
    }

    /// Nothing, or all of them.
    pub fn all(failures: Vec<Failure>) -> Result<(), Failure> {
        if failures.is_empty() { Ok(()) } else { Err(Self::Several(failures)) }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Daemon(error) => write!(f, "Error response from daemon: {error}"),
            Self::Local { message, help: None } => f.write_str(message),
            Self::Local { message, help: Some(help) } => write!(f, "{message}\n{help}"),
            Self::Usage(text) => f.write_str(text),
            Self::Several(failures) => {
                for (k, failure) in failures.iter().enumerate() {
                    if k > 0 {
                        f.write_str("\n")?;
                    }
                    failure.fmt(f)?;
                }
                Ok(())
            }
            Self::Code(_) => Ok(()),
        }
    }
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self::Daemon(error)
    }
}

impl From<tonic::Status> for Failure {
    fn from(status: tonic::Status) -> Self {
        Self::Daemon(ApiError::from_status(&status))
    }
}

impl From<Malformed> for Failure {
    fn from(e: Malformed) -> Self {
        Self::local(format!("the daemon's answer makes no sense: {e}"))
            .with_help("rnctl and rnd may be of different versions: compare them with `rnctl version`")
    }
}
