//! What users type, into values. Pure: messages say what was wrong, the caller says which flag.

pub mod csv;
pub mod endpoint;
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
