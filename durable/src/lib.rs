//! The one way in which this project writes small files, and the one way in which it reads those that may be damaged.
//!
//! * Writing: a temporary file in the same folder, its content, `fsync`, a rename over the old file, `fsync` of the folder. When
//!   the call returns, the new content is on the disk; when power is cut before, the old one is. A rename without the first
//!   `fsync` leaves, on common file systems, a file of zeros.
//! * Reading: a record begins with a line that says its length and checksum ([`record`]), so that a file which was cut off, or
//!   which the disk gives back changed, is told from one that is whole, even where its content would parse (zeros are valid
//!   protobuf). What can be had anew is [set aside](load_or_set_aside) and the caller goes on without; for the rest the error
//!   says which file is damaged, and how.
//!
//! Blocks: callers on an async runtime decide where.

// This is the crate that `clippy.toml` sends everybody else to.
#![allow(clippy::disallowed_methods)]

mod draft;
mod read;
pub mod record;
mod write;

pub use draft::{discard_drafts, draft, load_latest_or_set_aside, settle};
pub use read::{Damage, Loaded, ReadError, SetAside, load, load_as, load_or_set_aside, set_aside};
pub use write::{remove, rename, replace, save, scratch, sweep, sync_dir};

/// Mode of files for root alone.
pub const PRIVATE: u32 = 0o600;
/// Mode of files that others may read, where the folders above let them.
pub const PUBLIC: u32 = 0o644;
