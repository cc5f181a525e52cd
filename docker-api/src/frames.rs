//! Two outputs on one stream: each piece has a head of eight bytes, which says of which output it is, and how long.

/// Which output a piece is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// What the daemon has to say: clients end there, with an error.
    Failure,
}

impl Output {
    const fn number(self) -> u8 {
        match self {
            Output::Stdout => 1,
            Output::Stderr => 2,
            Output::Failure => 3,
        }
    }
}

/// Bytes of the head of a piece.
pub const HEAD: usize = 8;

/// Reads a head: of which output the piece is, and how many bytes it has. None where it is no head.
pub fn head(head: &[u8; HEAD]) -> Option<(Output, usize)> {
    let [number, 0, 0, 0, len @ ..] = *head else { return None };
    let output = match number {
        // Docker counts an echo of standard input as output.
        0 | 1 => Output::Stdout,
        2 => Output::Stderr,
        3 => Output::Failure,
        _ => return None,
    };
    Some((output, usize::try_from(u32::from_be_bytes(len)).ok()?))
}

/// A piece with its head; one that is longer than a head can say becomes several.
pub fn frame(output: Output, data: &[u8]) -> Vec<u8> {
    let mut framed = Vec::with_capacity(data.len() + HEAD);
    for piece in data.chunks(u32::MAX as usize) {
        let len = u32::try_from(piece.len()).unwrap_or(u32::MAX);
        framed.extend_from_slice(&[output.number(), 0, 0, 0]);
        framed.extend_from_slice(&len.to_be_bytes());
        framed.extend_from_slice(piece);
    }
    framed
}

/// Media type of a stream of such pieces.
pub const MULTIPLEXED: &str = "application/vnd.docker.multiplexed-stream";
/// Media type of a stream of bytes as they come, and of pieces too before version 1.42 of the API.
pub const RAW: &str = "application/vnd.docker.raw-stream";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_says_whose_it_is_and_how_long() {
        assert_eq!(head(&[2, 0, 0, 0, 0, 0, 1, 44]), Some((Output::Stderr, 300)));
        assert_eq!((head(&[4, 0, 0, 0, 0, 0, 0, 1]), head(b"no head.")), (None, None));
        assert_eq!(frame(Output::Stdout, b"ab"), [1, 0, 0, 0, 0, 0, 0, 2, b'a', b'b']);
        assert_eq!(frame(Output::Stderr, &[7; 300])[..8], [2, 0, 0, 0, 0, 0, 1, 44]);
        assert_eq!(frame(Output::Stderr, b""), b"");
    }
}
