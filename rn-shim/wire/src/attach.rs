//! What goes over a connection to a shim after [`crate::Request::Attach`]: frames, both ways.
//!
//! A frame is a header of eight bytes and its content. The header is the one of Docker's multiplexed streams: the kind, three
//! zeros, the length of the content as a big-endian 32-bit number. The kinds up to 2 are Docker's too.

/// Bytes of a header.
pub const FRAME_HEADER: usize = 8;
/// The longest content of a frame, in bytes.
pub const MAX_FRAME: usize = 64 * 1024;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum FrameKind {
    /// To the program's standard input.
    Stdin = 0,
    /// From its standard output, or its terminal.
    Stdout = 1,
    /// From its standard error.
    Stderr = 2,
    /// To the shim: nothing more for the standard input. Empty.
    CloseStdin = 16,
    /// To the shim: the size of the terminal, see [`resize`].
    Resize = 17,
    /// From the shim: the program has ended, and all its output has been sent. Empty; nothing follows.
    End = 18,
}

impl FrameKind {
    /// The kind of this number; none for one that a younger version made.
    pub fn of(number: u8) -> Option<Self> {
        use FrameKind::{CloseStdin, End, Resize, Stderr, Stdin, Stdout};
        [Stdin, Stdout, Stderr, CloseStdin, Resize, End].into_iter().find(|kind| *kind as u8 == number)
    }
}

/// The header of a frame with so much content; `length` is at most [`MAX_FRAME`].
pub fn header(kind: FrameKind, length: usize) -> [u8; FRAME_HEADER] {
    let [a, b, c, d] = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    [kind as u8, 0, 0, 0, a, b, c, d]
}

/// The content of a [`FrameKind::Resize`]: rows and columns.
pub fn resize(rows: u16, cols: u16) -> [u8; 4] {
    let ([a, b], [c, d]) = (rows.to_be_bytes(), cols.to_be_bytes());
    [a, b, c, d]
}

/// Rows and columns from the content of a [`FrameKind::Resize`].
pub fn size_of(content: &[u8]) -> Option<(u16, u16)> {
    match content {
        [a, b, c, d] => Some((u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d]))),
        _ => None,
    }
}

/// A frame longer than [`MAX_FRAME`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLong;

/// What a header says: the kind, none if it is unknown and to be skipped, and the length of the content.
///
/// # Errors
/// The content is longer than any frame's.
pub fn parse_header(header: [u8; FRAME_HEADER]) -> Result<(Option<FrameKind>, usize), TooLong> {
    let [kind, _, _, _, a, b, c, d] = header;
    let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).map_err(|_| TooLong)?;
    if length > MAX_FRAME { Err(TooLong) } else { Ok((FrameKind::of(kind), length)) }
}

/// Cuts a stream of bytes into frames. Pure: what is not whole yet is kept for the next call.
#[derive(Debug, Default)]
pub struct Frames {
    rest: Vec<u8>,
}

impl Frames {
    /// The frames that these bytes complete. Unknown kinds are left out.
    ///
    /// # Errors
    /// A frame is too long: the other side does not speak this protocol.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<(FrameKind, Vec<u8>)>, TooLong> {
        self.rest.extend_from_slice(bytes);
        let (mut frames, mut at) = (Vec::new(), 0);
        while let Some(head) = self.rest.get(at..).and_then(|rest| rest.first_chunk::<FRAME_HEADER>()) {
            let (kind, length) = parse_header(*head)?;
            let begin = at + FRAME_HEADER;
            let Some(content) = self.rest.get(begin..begin + length) else { break };
            frames.extend(kind.map(|kind| (kind, content.to_vec())));
            at = begin + length;
        }
        self.rest.drain(..at);
        Ok(frames)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn frames_do_not_depend_on_how_they_were_read() {
        let mut bytes = Vec::new();
        let wanted = [
            (FrameKind::Stdin, b"hello".to_vec()),
            (FrameKind::Resize, resize(24, 80).to_vec()),
            (FrameKind::CloseStdin, Vec::new()),
        ];
        for (kind, content) in &wanted {
            bytes.extend(header(*kind, content.len()));
            bytes.extend(content);
        }
        // One of a version to come is skipped.
        bytes.extend([99, 0, 0, 0, 0, 0, 0, 1, b'x']);
        for step in 1..bytes.len() {
            let mut frames = Frames::default();
            let found: Vec<_> = bytes.chunks(step).flat_map(|chunk| frames.push(chunk).unwrap()).collect();
            assert_eq!(found, wanted, "{step}");
        }
        assert_eq!(size_of(&wanted[1].1), Some((24, 80)));
        assert_eq!(Frames::default().push(&[1, 0, 0, 0, 255, 0, 0, 0]), Err(TooLong));
    }
}
