//! How an error goes out: status and body.

use proto::error::{ApiError, Kind};
use serde::{Deserialize, Serialize};

/// The body of every answer that is not a success.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorResponse {
    /// What went wrong.
    pub message: String,
    /// The way out. Ours: Docker's clients do not read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

/// What is said of a path that there is nothing at, and of a method that a path does not have.
pub const PAGE_NOT_FOUND: &str = "page not found";

/// How refusals begin that are about this machine's membership rather than about what was asked. Docker answers 503 to these
/// (`daemon/cluster/errors.go`: they are "not available").
const MEMBERSHIP: [&str; 6] = [
    "This node is not a swarm manager",
    "This node is not part of a swarm",
    "This node is already part of a swarm",
    "swarm is not locked",
    "Swarm is encrypted and needs to be unlocked",
    "this node is about to become a manager",
];

/// The HTTP status of an error.
pub fn status(error: &ApiError) -> u16 {
    if MEMBERSHIP.iter().any(|begin| error.message.starts_with(begin)) {
        // Docker's `errSwarmNotLocked` is a conflict, the others are "not available".
        return if error.message.starts_with("swarm is not locked") { 409 } else { 503 };
    }
    match error.kind {
        // What this version does not have is refused like any other request that cannot be.
        Kind::Invalid | Kind::Precondition | Kind::Unsupported => 400,
        Kind::Denied => 403,
        Kind::NotFound => 404,
        Kind::Conflict | Kind::Exhausted => 409,
        // Docker's status for it, as for all that its managers refuse without a gRPC code.
        Kind::OutOfSequence | Kind::Internal => 500,
        Kind::Unavailable => 503,
        Kind::Timeout => 504,
    }
}

/// The body of an error. Commands that a message names are named as Docker's users type them.
pub fn body(error: &ApiError) -> ErrorResponse {
    ErrorResponse { message: error.message.replace("\"rnctl ", "\"docker "), help: error.help.clone() }
}

/// Reads an error: the other direction. Commands that Docker's users type are named as those of rn do.
pub fn read(status: u16, body: &[u8]) -> ApiError {
    let said = serde_json::from_slice::<ErrorResponse>(body).ok();
    let said = said.unwrap_or_else(|| {
        let text = String::from_utf8_lossy(body).trim().to_owned();
        let message =
            if text.is_empty() { format!("HTTP status {status}, and no word of why") } else { text };
        ErrorResponse { message, help: None }
    });
    let of_membership = MEMBERSHIP.iter().any(|begin| said.message.starts_with(begin));
    let kind = match status {
        _ if of_membership => Kind::Precondition,
        401 | 403 => Kind::Denied,
        404 => Kind::NotFound,
        409 => Kind::Conflict,
        501 => Kind::Unsupported,
        503 => Kind::Unavailable,
        504 => Kind::Timeout,
        400..=499 => Kind::Invalid,
        // Docker has no status of its own for it.
        _ if said.message.contains("update out of sequence") => Kind::OutOfSequence,
        _ => Kind::Internal,
    };
    ApiError { kind, message: said.message.replace("\"docker ", "\"rnctl "), help: said.help }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_dockers() {
        for (error, expected) in [
            (ApiError::invalid("x"), 400),
            (ApiError::not_found("x"), 404),
            (ApiError::conflict("x"), 409),
            (ApiError::precondition("network x is in use by service y"), 400),
            (ApiError::precondition("This node is not a swarm manager. Use …"), 503),
            (ApiError::precondition("This node is not part of a swarm"), 503),
            (ApiError::precondition("swarm is not locked"), 409),
            (ApiError::out_of_sequence("update out of sequence"), 500),
            (ApiError::unavailable("no leader"), 503),
        ] {
            assert_eq!(status(&error), expected, "{error}");
        }
    }

    #[test]
    fn what_goes_out_is_read_again() {
        for error in [
            ApiError::invalid("x").help("y"),
            ApiError::not_found("x"),
            ApiError::conflict("x"),
            ApiError::denied("x"),
            ApiError::precondition("This node is not a swarm manager. Use \"rnctl swarm init\" to"),
            ApiError::out_of_sequence("rpc error: update out of sequence"),
            ApiError::unavailable("no leader"),
            ApiError::internal("x"),
        ] {
            let body = serde_json::to_vec(&body(&error)).unwrap_or_default();
            assert_eq!(read(status(&error), &body), error);
        }
        assert_eq!(read(404, b"page not found\n"), ApiError::not_found("page not found"));
        assert!(read(502, b"").message.contains("502"));
    }

    #[test]
    fn commands_are_named_as_they_are_typed() {
        let error = ApiError::precondition("Use \"rnctl swarm init\" or \"rnctl swarm join\" to connect");
        assert_eq!(body(&error).message, "Use \"docker swarm init\" or \"docker swarm join\" to connect");
    }
}
