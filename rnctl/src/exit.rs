//! Failures and exit codes.
//!
//! 0 success; 1 the daemon or the command failed, or a command or an argument is wrong; 125 a flag is wrong; `exec` passes
//! on the exit code of what it ran (126 cannot be executed, 127 not found), as Docker's client does.

use std::fmt;

use proto::{
    convert::Malformed,
    error::{ApiError, Kind},
};

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
    /// A flag is wrong; the text is complete.
    Flags(String),
    /// Commands or arguments are wrong; the text is complete.
    Arguments(String),
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

    /// A wrong flag. `command` is the command's path without `rnctl`, for the hint.
    pub fn usage(command: &str, message: impl fmt::Display) -> Self {
        let space = if command.is_empty() { "" } else { " " };
        Self::Flags(format!("{message}\nSee 'rnctl{space}{command} --help'."))
    }

    /// The same of arguments.
    pub fn of_arguments(self) -> Self {
        match self {
            Self::Flags(text) => Self::Arguments(text),
            other => other,
        }
    }

    /// Adds the way out.
    pub fn with_help(mut self, text: impl Into<String>) -> Self {
        if let Self::Local { help, .. } = &mut self {
            *help = Some(text.into());
        }
        self
    }

    /// Whether the daemon has no such object.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Daemon(error) if error.kind == Kind::NotFound)
    }

    /// Whether it means "ask elsewhere": this node is no manager, or it has no such object.
    pub fn is_elsewhere(&self) -> bool {
        matches!(self, Self::Daemon(e) if matches!(e.kind, Kind::NotFound | Kind::Precondition | Kind::Unsupported))
    }

    /// The process's exit code.
    pub fn code(&self) -> i32 {
        match self {
            Self::Daemon(_) | Self::Local { .. } | Self::Several(_) | Self::Arguments(_) => 1,
            Self::Flags(_) => 125,
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
            Self::Flags(text) | Self::Arguments(text) => f.write_str(text),
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
