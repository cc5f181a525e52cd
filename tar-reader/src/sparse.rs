//! Where the parts of a sparse file lie.

use crate::{TarError, header::number, pax::decimal};

/// A part of a file that has content in the archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part {
    /// Where in the file.
    pub offset: u64,
    /// Bytes.
    pub len: u64,
}

/// Parts as they are read, checked against each other.
pub(crate) struct Map {
    parts: Vec<Part>,
    end: u64,
    stored: u64,
    limit: usize,
    at: u64,
}

impl Map {
    /// Empty, for the entry whose header is at `at`.
    pub fn new(limit: usize, at: u64) -> Self {
        Self { parts: Vec::new(), end: 0, stored: 0, limit, at }
    }

    fn bad(&self, why: &'static str) -> TarError {
        TarError::Sparse { at: self.at, why }
    }

    /// One more part, behind the others.
    pub fn push(&mut self, offset: u64, len: u64) -> Result<(), TarError> {
        if self.parts.len() >= self.limit {
            let size = u64::try_from(self.parts.len()).unwrap_or(u64::MAX).saturating_add(1);
            let limit = u64::try_from(self.limit).unwrap_or(u64::MAX);
            return Err(TarError::TooLarge { what: "parts of the sparse file", at: self.at, size, limit });
        }
        let end = offset.checked_add(len).ok_or_else(|| self.bad("a part is out of range"))?;
        if offset < self.end {
            return Err(self.bad("its parts overlap"));
        }
        self.stored = self.stored.checked_add(len).ok_or_else(|| self.bad("a part is out of range"))?;
        self.end = end;
        if len > 0 {
            self.parts.push(Part { offset, len });
        }
        Ok(())
    }

    /// Parts of the header of an old GNU sparse file, or of a block that goes on with it.
    pub fn push_old(&mut self, bytes: &[u8]) -> Result<(), TarError> {
        for part in bytes.chunks_exact(24) {
            let (offset, len) = part.split_at(12);
            if len.first() == Some(&0) {
                break;
            }
            let field = |field: &[u8]| {
                let value = number(field).ok().flatten().and_then(|n| u64::try_from(n).ok());
                value.ok_or_else(|| self.bad("its map is unreadable"))
            };
            let (offset, len) = (field(offset)?, field(len)?);
            self.push(offset, len)?;
        }
        Ok(())
    }

    /// All parts, of a file of `size` bytes whose content has `stored` bytes in the archive.
    pub fn finish(self, size: u64, stored: u64) -> Result<Vec<Part>, TarError> {
        if self.end > size {
            return Err(self.bad("a part lies behind its end"));
        }
        if self.stored > stored {
            return Err(self.bad("its parts are larger than its content"));
        }
        Ok(self.parts)
    }
}

/// The numbers at the beginning of a sparse file's content (GNU's format 1.0): how many parts, then offset and length of each, a line
/// each, filled up to a whole block.
#[derive(Default)]
pub(crate) struct Lines {
    digits: Vec<u8>,
    wanted: Option<u64>,
    offset: Option<u64>,
    seen: u64,
}

impl Lines {
    /// Takes a block; whether the map is complete.
    pub fn take(&mut self, block: &[u8], map: &mut Map) -> Result<bool, TarError> {
        let at = map.at;
        let bad = || TarError::Sparse { at, why: "its map is unreadable" };
        for byte in block {
            if *byte != b'\n' {
                if self.digits.len() >= 20 {
                    return Err(bad());
                }
                self.digits.push(*byte);
                continue;
            }
            let value = decimal(&self.digits, "").ok().flatten().ok_or_else(bad)?;
            self.digits.clear();
            match (self.wanted, self.offset.take()) {
                (None, _) => self.wanted = Some(value),
                (_, None) => self.offset = Some(value),
                (_, Some(offset)) => {
                    map.push(offset, value)?;
                    self.seen += 1;
                }
            }
            if self.wanted == Some(self.seen) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
