//! A header block.

use crate::{BLOCK, TarError};

/// Whose header it is, which decides what stands behind its first 257 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    V7,
    Posix,
    Gnu,
    /// As POSIX, with times in the end of the prefix.
    Star,
}

/// A block whose checksum is right.
pub(crate) struct Header {
    block: [u8; BLOCK],
    form: Form,
    /// Where it begins.
    pub at: u64,
}

impl Header {
    /// None for a block of zeros, which ends an archive.
    pub fn new(block: [u8; BLOCK], at: u64) -> Result<Option<Self>, TarError> {
        if block.iter().all(|b| *b == 0) {
            return Ok(None);
        }
        if !is_header(&block) {
            return Err(TarError::Checksum { at });
        }
        let mut header = Self { block, form: Form::V7, at };
        header.form = match header.bytes(257, 8) {
            b"ustar  \0" => Form::Gnu,
            [b'u', b's', b't', b'a', b'r', 0, ..] if header.bytes(508, 4) == b"tar\0" => Form::Star,
            [b'u', b's', b't', b'a', b'r', 0, ..] => Form::Posix,
            _ => Form::V7,
        };
        Ok(Some(header))
    }

    fn bytes(&self, from: usize, len: usize) -> &[u8] {
        self.block.get(from..from + len).unwrap_or_default()
    }

    /// The letter that says what follows.
    pub fn flag(&self) -> u8 {
        self.block[156]
    }

    /// The whole name.
    pub fn path(&self) -> Vec<u8> {
        let prefix = match self.form {
            Form::Posix => until_nul(self.bytes(345, 155)),
            Form::Star => until_nul(self.bytes(345, 131)),
            Form::V7 | Form::Gnu => b"",
        };
        let name = until_nul(self.bytes(0, 100));
        if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() }
    }

    /// What a link points to.
    pub fn link(&self) -> Vec<u8> {
        until_nul(self.bytes(157, 100)).to_vec()
    }

    fn number(&self, field: &'static str, from: usize, len: usize) -> Result<Option<i64>, TarError> {
        number(self.bytes(from, len)).map_err(|()| TarError::Field { at: self.at, field })
    }

    fn unsigned(&self, field: &'static str, from: usize, len: usize) -> Result<u64, TarError> {
        let value = self.number(field, from, len)?.unwrap_or(0);
        u64::try_from(value).map_err(|_| TarError::Field { at: self.at, field })
    }

    /// Bytes that follow, where any do.
    pub fn size(&self) -> Result<u64, TarError> {
        self.unsigned("size", 124, 12)
    }

    /// Permissions; some writers leave them empty.
    pub fn mode(&self) -> Result<Option<u32>, TarError> {
        let mode = self.number("mode", 100, 8)?;
        // Old writers put the kind of the file there too.
        Ok(mode.and_then(|mode| u32::try_from(mode & 0o7777).ok()))
    }

    /// Owner. One below zero is nobody's.
    pub fn uid(&self) -> Result<u64, TarError> {
        self.number("owner", 108, 8).map(|id| u64::try_from(id.unwrap_or(0)).unwrap_or(u64::MAX))
    }

    /// Group. One below zero is nobody's.
    pub fn gid(&self) -> Result<u64, TarError> {
        self.number("group", 116, 8).map(|id| u64::try_from(id.unwrap_or(0)).unwrap_or(u64::MAX))
    }

    /// Seconds since 1970.
    pub fn mtime(&self) -> Result<i64, TarError> {
        self.number("time", 136, 12).map(Option::unwrap_or_default)
    }

    /// Major and minor of a device.
    pub fn device(&self) -> Result<(u32, u32), TarError> {
        if self.form == Form::V7 {
            return Ok((0, 0));
        }
        let part = |field, from| {
            u32::try_from(self.unsigned(field, from, 8)?).map_err(|_| TarError::Field { at: self.at, field })
        };
        Ok((part("device number", 329)?, part("device number", 337)?))
    }

    /// A GNU sparse file's size with its holes.
    pub fn real_size(&self) -> Result<u64, TarError> {
        self.unsigned("size with holes", 483, 12)
    }

    /// A GNU sparse file's first parts, and whether a block with more follows.
    pub fn sparse(&self) -> (&[u8], bool) {
        (self.bytes(386, 4 * 24), self.block[482] != 0)
    }
}

/// Whether a block is a header: its checksum, of unsigned or, as some old writers had it, signed bytes, is right.
pub fn is_header(block: &[u8; BLOCK]) -> bool {
    let field = 148..156;
    let Ok(Some(wanted)) = number(block.get(field.clone()).unwrap_or_default()) else { return false };
    let (mut unsigned, mut signed) = (0i64, 0i64);
    for (n, byte) in block.iter().enumerate() {
        let byte = if field.contains(&n) { b' ' } else { *byte };
        unsigned += i64::from(byte);
        signed += i64::from(byte.cast_signed());
    }
    wanted == unsigned || wanted == signed
}

/// What stands before the first NUL.
pub(crate) fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|b| *b == 0).next().unwrap_or_default()
}

/// A number, in octal digits or, where those do not reach, in base 256 with the first bit set; none if the field is empty.
pub(crate) fn number(field: &[u8]) -> Result<Option<i64>, ()> {
    match field.split_first() {
        Some((first, rest)) if first & 0x80 != 0 => {
            // Two's complement; the second bit is the sign's.
            let negative = first & 0x40 != 0;
            let mut value: i128 =
                if negative { i128::from(first & 0x7f) - 0x80 } else { i128::from(first & 0x7f) };
            for byte in rest {
                value = (value << 8) | i128::from(*byte);
                // A field has twelve bytes at most, but nothing that long fits anyway.
                if i64::try_from(value).is_err() {
                    return Err(());
                }
            }
            i64::try_from(value).map(Some).map_err(|_| ())
        }
        _ => octal(field),
    }
}

fn octal(field: &[u8]) -> Result<Option<i64>, ()> {
    let blank = |b: &u8| matches!(b, b' ' | 0);
    let start = field.iter().position(|b| !blank(b));
    let Some(digits) = start.and_then(|start| field.get(start..)) else { return Ok(None) };
    let end = digits.iter().position(blank).unwrap_or(digits.len());
    let mut value = 0i64;
    for digit in digits.get(..end).unwrap_or_default() {
        if !(b'0'..=b'7').contains(digit) {
            return Err(());
        }
        value = value.checked_mul(8).and_then(|v| v.checked_add(i64::from(digit - b'0'))).ok_or(())?;
    }
    Ok(Some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_in_octal_and_in_base_256() {
        for (field, want) in [
            (&b"0000644\0"[..], Ok(Some(0o644))),
            (b"  644 \0\0", Ok(Some(0o644))),
            (b"77777777777", Ok(Some(0o77_777_777_777))),
            (b"\0\0\0\0\0\0\0\0", Ok(None)),
            (b"        ", Ok(None)),
            (b"12 garbage", Ok(Some(0o12))),
            (b"9", Err(())),
            (b"-1", Err(())),
            (&[0x80, 0, 0, 0, 0x20, 0, 0, 0], Ok(Some(0x2000_0000))),
            (&[0xff; 12], Ok(Some(-1))),
            (&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe], Ok(Some(-2))),
            (&[0x80, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], Ok(Some(i64::MAX))),
            (&[0x80, 0, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0], Err(())),
            (&[0xbf; 12], Err(())),
        ] {
            assert_eq!(number(field), want, "{field:?}");
        }
    }
}
