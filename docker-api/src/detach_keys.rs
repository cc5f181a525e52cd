//! The keys by which a user leaves a container's terminal without ending it. Pure.

use proto::error::ApiError;

/// Docker's.
const USUAL: &str = "ctrl-p,ctrl-q";

/// A sequence of keys, and how much of it was typed last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DetachKeys {
    keys: Vec<u8>,
    typed: usize,
}

impl DetachKeys {
    /// Reads `a,ctrl-b,…`: single characters, or `ctrl-` and a letter or one of `@[\]^_`. Empty = the usual ones.
    ///
    /// # Errors
    /// There is no such key.
    pub fn parse(text: &str) -> Result<Self, ApiError> {
        let text = if text.is_empty() { USUAL } else { text };
        let key = |word: &str| match (word.as_bytes(), word.strip_prefix("ctrl-").map(str::as_bytes)) {
            (_, Some([key @ b'a'..=b'z'])) => Some(key - b'a' + 1),
            (_, Some([key @ (b'@' | b'[' | b'\\' | b']' | b'^' | b'_')])) => Some(key - b'@'),
            ([key], _) => Some(*key),
            _ => None,
        };
        let keys: Option<Vec<u8>> = text.split(',').map(key).collect();
        let keys = keys.ok_or_else(|| {
            ApiError::invalid(format!("invalid detach keys ({text})"))
                .help("write for instance ctrl-p,ctrl-q")
        })?;
        Ok(Self { keys, typed: 0 })
    }

    /// What of this input goes to the program, and whether the keys were typed. The beginning of a sequence is held back until it
    /// is known to be none.
    pub fn pass(&mut self, data: &[u8]) -> (Vec<u8>, bool) {
        let mut passed = Vec::with_capacity(data.len());
        for byte in data {
            if self.keys.get(self.typed) != Some(byte) {
                passed.extend_from_slice(self.keys.get(..self.typed).unwrap_or_default());
                self.typed = 0;
            }
            if self.keys.get(self.typed) == Some(byte) {
                self.typed += 1;
                if self.typed == self.keys.len() {
                    return (passed, true);
                }
            } else {
                passed.push(*byte);
            }
        }
        (passed, false)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn what_is_no_sequence_reaches_the_program() {
        let mut keys = DetachKeys::parse("").unwrap();
        assert_eq!(keys.pass(b"ls\x10"), (b"ls".to_vec(), false));
        assert_eq!(keys.pass(b"x"), (b"\x10x".to_vec(), false));
        assert_eq!(keys.pass(b"\x10\x10\x11more"), (b"\x10".to_vec(), true));
        let mut own = DetachKeys::parse("q,ctrl-[").unwrap();
        assert_eq!(own.pass(b"q\x1b"), (Vec::new(), true));
        for bad in ["ctrl-1", "abc", "a,", "ctrl-"] {
            assert!(DetachKeys::parse(bad).is_err(), "{bad}");
        }
    }
}
