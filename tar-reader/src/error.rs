//! What can be wrong with an archive.

use std::io;

/// Why an archive cannot be read further. Offsets are in bytes of the uncompressed archive.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    /// Its source failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It ends too early.
    #[error("the tar is cut off at byte {at}, in {what}")]
    CutOff {
        /// Where it ends.
        at: u64,
        /// In the middle of what.
        what: &'static str,
    },
    /// What should be a header is none.
    #[error("not a tar: the header at byte {at} has a wrong checksum")]
    Checksum {
        /// Where.
        at: u64,
    },
    /// A header's field makes no sense.
    #[error("the header at byte {at}: its {field} is unreadable")]
    Field {
        /// Where the header is.
        at: u64,
        /// Which field.
        field: &'static str,
    },
    /// An extended header is malformed.
    #[error("the extended header at byte {at}: {why}")]
    Pax {
        /// Where its header is.
        at: u64,
        /// What is wrong.
        why: &'static str,
    },
    /// A sparse file's map makes no sense.
    #[error("the sparse file at byte {at}: {why}")]
    Sparse {
        /// Where its header is.
        at: u64,
        /// What is wrong.
        why: &'static str,
    },
    /// More than [`Limits`](crate::Limits) allow.
    #[error("{what} at byte {at}: {size}, and at most {limit} are allowed")]
    TooLarge {
        /// What is too large, and in what it is counted.
        what: &'static str,
        /// Where.
        at: u64,
        /// How much there is.
        size: u64,
        /// The bound.
        limit: u64,
    },
    /// An entry that cannot stand in a whole archive.
    #[error("the entry at byte {at}: {why}")]
    Unsupported {
        /// Where.
        at: u64,
        /// What it is.
        why: &'static str,
    },
}

impl From<TarError> for io::Error {
    fn from(error: TarError) -> Self {
        match error {
            TarError::Io(error) => error,
            other => io::Error::new(io::ErrorKind::InvalidData, other),
        }
    }
}
