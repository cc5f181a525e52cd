//! What users type, into values. Pure: messages say what was wrong, the caller says which flag.

use proto::error::ApiError;

pub mod container;
pub mod csv;
pub mod endpoint;
pub mod file;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod image;
pub mod keyval;
pub mod mount;
pub mod network;
pub mod port;
pub mod shell;
pub mod time;
pub mod units;

/// A rule's answer, as the text that follows the flag which it is about.
pub fn refusal(error: ApiError) -> String {
    match error.help {
        Some(help) => format!("{}: {help}", error.message),
        None => error.message,
    }
}
