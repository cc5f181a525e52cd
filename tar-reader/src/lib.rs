//! Reads tar archives: v7, ustar, pax (POSIX.1-2001), GNU (old and new, long names, sparse files) and star, as GNU tar, BSD tar,
//! Go's and Python's libraries write them.
//!
//! The archive is a stranger's: it is read once, as a stream, without recursion. What it can make this crate keep in memory is
//! bounded by [`Limits`]; what else it can be, for the reader of its entries is to judge: names come as the bytes that they are, be
//! they absolute, with `..` in them or not UTF-8.
//!
//! ```
//! # fn main() -> Result<(), tar_reader::TarError> {
//! # let archive: &[u8] = &[0; 1024];
//! let mut tar = tar_reader::Reader::new(archive, tar_reader::Limits::default());
//! while let Some(entry) = tar.next_entry()? {
//!     println!("{} {}", entry.size, String::from_utf8_lossy(&entry.path));
//!     std::io::copy(&mut tar.content(), &mut std::io::sink())?;
//! }
//! # Ok(())
//! # }
//! ```

mod entry;
mod error;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod header;
mod pax;
mod reader;
mod sparse;

pub use entry::{Entry, Kind, Time};
pub use error::TarError;
pub use header::is_header;
pub use reader::{Chunk, Content, Reader};

/// Bytes of a block: everything in a tar begins at a multiple of it.
pub const BLOCK: usize = 512;

/// What an archive may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one extended header (pax) or long name (GNU), which is kept in memory while its entry is read. Go's library has
    /// the same bound.
    pub record: u64,
    /// Header blocks in the archive: an entry has one, two with a long name or other extensions.
    pub headers: u64,
    /// Parts of a sparse file; each costs 16 bytes of memory. Go's library has the same bound.
    pub sparse_parts: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { record: 1 << 20, headers: 10_000_000, sparse_parts: 1 << 20 }
    }
}
