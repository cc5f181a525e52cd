//! The one error that a user sees: what happened to which object, why, and the way out.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What sort of failure; decides gRPC code, exit code and whether a retry can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The request itself is wrong.
    Invalid,
    /// The named object does not exist.
    NotFound,
    /// The name, port or address is taken.
    Conflict,
    /// The object changed since it was read.
    OutOfSequence,
    /// The request is right but not in this state (not a manager, network in use, …).
    Precondition,
    /// A pool is exhausted.
    Exhausted,
    /// The caller may not do this.
    Denied,
    /// Nobody to ask right now: no leader, no quorum, daemon not running.
    Unavailable,
    /// Took too long; the work may go on.
    Timeout,
    /// This build or this kernel cannot do it.
    Unsupported,
    /// A defect or a broken machine.
    Internal,
}

impl Kind {
    /// Whether the same request may succeed later without anyone changing it.
    pub const fn retryable(self) -> bool {
        match self {
            Kind::Unavailable | Kind::Timeout | Kind::OutOfSequence => true,
            Kind::Invalid
            | Kind::NotFound
            | Kind::Conflict
            | Kind::Precondition
            | Kind::Exhausted
            | Kind::Denied
            | Kind::Unsupported
            | Kind::Internal => false,
        }
    }

    const fn code(self) -> tonic::Code {
        match self {
            Kind::Invalid => tonic::Code::InvalidArgument,
            Kind::NotFound => tonic::Code::NotFound,
            Kind::Conflict => tonic::Code::AlreadyExists,
            Kind::OutOfSequence => tonic::Code::Aborted,
            Kind::Precondition => tonic::Code::FailedPrecondition,
            Kind::Exhausted => tonic::Code::ResourceExhausted,
            Kind::Denied => tonic::Code::PermissionDenied,
            Kind::Unavailable => tonic::Code::Unavailable,
            Kind::Timeout => tonic::Code::DeadlineExceeded,
            Kind::Unsupported => tonic::Code::Unimplemented,
            Kind::Internal => tonic::Code::Internal,
        }
    }

    fn from_code(code: tonic::Code) -> Self {
        match code {
            tonic::Code::InvalidArgument | tonic::Code::OutOfRange => Kind::Invalid,
            tonic::Code::NotFound => Kind::NotFound,
            tonic::Code::AlreadyExists => Kind::Conflict,
            tonic::Code::Aborted => Kind::OutOfSequence,
            tonic::Code::FailedPrecondition => Kind::Precondition,
            tonic::Code::ResourceExhausted => Kind::Exhausted,
            tonic::Code::PermissionDenied | tonic::Code::Unauthenticated => Kind::Denied,
            tonic::Code::Unavailable => Kind::Unavailable,
            tonic::Code::DeadlineExceeded | tonic::Code::Cancelled => Kind::Timeout,
            tonic::Code::Unimplemented => Kind::Unsupported,
            tonic::Code::Ok | tonic::Code::Unknown | tonic::Code::Internal | tonic::Code::DataLoss => {
                Kind::Internal
            }
        }
    }
}

/// An error of a library with its causes, the outermost first: many a library says in its own text only where it was, and what
/// was wrong in the cause's. What has been said is not said again.
pub fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let more = inner.to_string();
        if !text.contains(&more) {
            text = if text.is_empty() { more } else { format!("{text}: {more}") };
        }
        cause = inner.source();
    }
    text
}

/// An error for a user. `message` names the object and the cause; `help` says what to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiError {
    /// The sort.
    pub kind: Kind,
    /// What happened to what, and why; one sentence, no trailing period.
    pub message: String,
    /// The way out, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

macro_rules! constructors {
    ($($(#[$doc:meta])* $name:ident => $kind:ident;)*) => {$(
        $(#[$doc])*
        pub fn $name(message: impl Into<String>) -> Self {
            Self { kind: Kind::$kind, message: message.into(), help: None }
        }
    )*};
}

impl ApiError {
    constructors! {
        /// [`Kind::Invalid`].
        invalid => Invalid;
        /// [`Kind::NotFound`].
        not_found => NotFound;
        /// [`Kind::Conflict`].
        conflict => Conflict;
        /// [`Kind::OutOfSequence`].
        out_of_sequence => OutOfSequence;
        /// [`Kind::Precondition`].
        precondition => Precondition;
        /// [`Kind::Exhausted`].
        exhausted => Exhausted;
        /// [`Kind::Denied`].
        denied => Denied;
        /// [`Kind::Unavailable`].
        unavailable => Unavailable;
        /// [`Kind::Timeout`].
        timeout => Timeout;
        /// [`Kind::Unsupported`].
        unsupported => Unsupported;
        /// [`Kind::Internal`].
        internal => Internal;
    }

    /// Adds the way out.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Reads what [`From<ApiError>`] wrote; any other status (a broken connection, a foreign server) is translated.
    pub fn from_status(status: &tonic::Status) -> Self {
        if let Ok(error) = serde_json::from_slice::<Self>(status.details()) {
            return error;
        }
        Self { kind: Kind::from_code(status.code()), message: status.message().to_owned(), help: None }
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.help {
            Some(help) => write!(f, "\n{help}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for ApiError {}

impl From<ApiError> for tonic::Status {
    fn from(error: ApiError) -> Self {
        let details = serde_json::to_vec(&error).unwrap_or_default();
        tonic::Status::with_details(error.kind.code(), error.message, details.into())
    }
}

impl From<tonic::Status> for ApiError {
    fn from(status: tonic::Status) -> Self {
        Self::from_status(&status)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_a_library_keeps_its_cause() {
        #[derive(Debug)]
        struct Layer(&'static str, Option<Box<Layer>>);
        impl fmt::Display for Layer {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.0)
            }
        }
        impl std::error::Error for Layer {
            fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
                self.1.as_deref().map(|inner| inner as _)
            }
        }
        let inner = Layer("connection refused", None);
        let middle = Layer("tcp: connection refused", Some(Box::new(inner)));
        let outer = Layer("transport error", Some(Box::new(middle)));
        assert_eq!(with_causes(&outer), "transport error: tcp: connection refused");
    }

    #[test]
    fn an_error_survives_the_wire() {
        let error = ApiError::conflict("port 8080/tcp is already published by service \"web\"")
            .help("choose another port, or remove it there: rnctl service update --publish-rm 80 web");
        let status = tonic::Status::from(error.clone());
        assert_eq!(status.code(), tonic::Code::AlreadyExists);
        assert_eq!(ApiError::from(status), error);
    }
}
