//! One line of a container's output, as it stands in the log file.

use serde::{Deserialize, Serialize};

/// Which of a container's streams a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "u8", into = "u8")]
pub enum Stream {
    /// Standard output, and all output of a terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

impl From<u8> for Stream {
    fn from(number: u8) -> Self {
        if number == 2 { Stream::Stderr } else { Stream::Stdout }
    }
}

impl From<Stream> for u8 {
    fn from(stream: Stream) -> Self {
        match stream {
            Stream::Stdout => 1,
            Stream::Stderr => 2,
        }
    }
}

/// A line of output, without its newline: `{"t":<ns since the epoch>,"s":1|2,"l":"text"}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogRecord {
    /// When it was read, ns since the epoch.
    #[serde(rename = "t")]
    pub at: u64,
    /// Where it came from.
    #[serde(rename = "s")]
    pub stream: Stream,
    /// Text, if it is UTF-8.
    #[serde(rename = "l", default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Its bytes in hexadecimal, if it is not.
    #[serde(rename = "x", default, skip_serializing_if = "Option::is_none")]
    pub hex: Option<String>,
    /// The line goes on in the next record of the same stream.
    #[serde(rename = "p", default, skip_serializing_if = "std::ops::Not::not")]
    pub partial: bool,
}

impl LogRecord {
    /// A record of these bytes.
    pub fn new(at: u64, stream: Stream, bytes: &[u8], partial: bool) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self { at, stream, text: Some(text.to_owned()), hex: None, partial },
            Err(_) => {
                let digit = |n: u8| char::from_digit(u32::from(n), 16).unwrap_or_default();
                let hex = bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect();
                Self { at, stream, text: None, hex: Some(hex), partial }
            }
        }
    }

    /// The bytes that the container wrote.
    pub fn into_bytes(self) -> Vec<u8> {
        match (self.text, self.hex) {
            (Some(text), _) => text.into_bytes(),
            (None, Some(hex)) => hex
                .as_bytes()
                .chunks_exact(2)
                .filter_map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
                .collect(),
            (None, None) => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_survive_whether_or_not_they_are_text() {
        for bytes in [&b"plain"[..], b"", "gr\u{fc}n\t\"quoted\"".as_bytes(), &[0xff, 0x00, 0x41]] {
            assert_eq!(LogRecord::new(1, Stream::Stderr, bytes, false).into_bytes(), bytes);
        }
    }
}
