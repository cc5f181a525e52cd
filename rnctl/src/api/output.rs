//! What programs write and read, over a connection to the daemon.

use bytes::BytesMut;
use docker_api::frames::{self, Output};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, ReadHalf, WriteHalf};

use super::transport;
use crate::exit::Failure;

/// A connection that has become one to a program.
pub struct Upgraded {
    io: TokioIo<hyper::upgrade::Upgraded>,
    host: String,
}

/// What a program is written to. `shutdown` is the end of its input; its output goes on.
pub type Input = WriteHalf<TokioIo<hyper::upgrade::Upgraded>>;

impl Upgraded {
    pub(super) fn new(io: TokioIo<hyper::upgrade::Upgraded>, host: String) -> Self {
        Self { io, host }
    }

    /// Its output and its input; `tty`: on a terminal, where there is one output only.
    pub fn split(self, tty: bool) -> (Pieces<ReadHalf<TokioIo<hyper::upgrade::Upgraded>>>, Input) {
        let (reader, writer) = tokio::io::split(self.io);
        (Pieces::new(reader, tty, self.host), writer)
    }
}

/// The least room that is read into.
const ROOM: usize = 32 << 10;

/// What a program writes, as it comes.
pub struct Pieces<R> {
    reader: R,
    tty: bool,
    host: String,
    buffer: BytesMut,
    /// Whose the next bytes are, and how many of them.
    piece: Option<(Output, usize)>,
}

impl<R: AsyncRead + Unpin> Pieces<R> {
    pub(super) fn new(reader: R, tty: bool, host: String) -> Self {
        Self { reader, tty, host, buffer: BytesMut::new(), piece: None }
    }

    /// Some more, and of which output; none at the end. May be dropped halfway.
    ///
    /// # Errors
    /// The connection is lost, or the daemon says in between that it cannot go on.
    pub async fn next(&mut self) -> Result<Option<(Output, BytesMut)>, Failure> {
        loop {
            if let Some(taken) = self.take()? {
                return Ok(Some(taken));
            }
            self.buffer.reserve(ROOM);
            let read = self.reader.read_buf(&mut self.buffer).await;
            match read.map_err(|error| transport::lost(&self.host, &error.to_string()))? {
                0 if self.buffer.is_empty() && self.piece.is_none() => return Ok(None),
                0 => return Err(transport::lost(&self.host, "it ended within a piece of output")),
                _ => {}
            }
        }
    }

    /// What there is in the buffer.
    fn take(&mut self) -> Result<Option<(Output, BytesMut)>, Failure> {
        if self.tty {
            return Ok(Some((Output::Stdout, self.buffer.split())).filter(|(_, bytes)| !bytes.is_empty()));
        }
        loop {
            let (output, left) = match self.piece {
                Some(piece) => piece,
                None => {
                    let Some(head) = self.buffer.first_chunk() else { return Ok(None) };
                    let Some(piece) = frames::head(head) else {
                        return Err(Failure::local("the daemon's output makes no sense: not in pieces"));
                    };
                    drop(self.buffer.split_to(frames::HEAD));
                    piece
                }
            };
            self.piece = Some((output, left));
            // What the daemon has to say is read whole.
            let enough = if output == Output::Failure { left } else { left.min(1) };
            if self.buffer.len() < enough {
                return Ok(None);
            }
            let bytes = self.buffer.split_to(left.min(self.buffer.len()));
            self.piece = Some((output, left - bytes.len())).filter(|(_, left)| *left > 0);
            if output == Output::Failure {
                // Docker's words.
                let text = String::from_utf8_lossy(&bytes);
                return Err(Failure::local(format!("error from daemon in stream: {}", text.trim_end())));
            }
            if !bytes.is_empty() {
                return Ok(Some((output, bytes)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn all(bytes: &[u8], tty: bool) -> (Vec<(Output, Vec<u8>)>, String) {
        let mut pieces = Pieces::new(bytes, tty, "here".into());
        let mut got = Vec::new();
        loop {
            match pieces.next().await {
                Ok(Some((output, bytes))) => got.push((output, bytes.to_vec())),
                Ok(None) => return (got, String::new()),
                Err(failure) => return (got, failure.to_string()),
            }
        }
    }

    #[tokio::test]
    async fn pieces_are_told_apart() {
        let parts: [&[u8]; 3] = [
            &frames::frame(Output::Stdout, b"one"),
            &frames::frame(Output::Stderr, b""),
            &frames::frame(Output::Stderr, b"two"),
        ];
        let whole = parts.concat();
        let want = vec![(Output::Stdout, b"one".to_vec()), (Output::Stderr, b"two".to_vec())];
        assert_eq!(all(&whole, false).await, (want, String::new()));
        assert_eq!(all(&whole, true).await.0, [(Output::Stdout, whole.clone())]);
        let (got, error) = all(&whole[..whole.len() - 4], false).await;
        assert_eq!(got.len(), 1);
        assert!(error.contains("within a piece"), "{error}");
    }

    #[tokio::test]
    async fn what_the_daemon_says_in_between_is_an_error() {
        let parts: [&[u8]; 2] =
            [&frames::frame(Output::Stdout, b"x"), &frames::frame(Output::Failure, b"no node\n")];
        let (got, error) = all(&parts.concat(), false).await;
        assert_eq!((got.len(), error.as_str()), (1, "error from daemon in stream: no node"));
        assert!(all(b"abcdefghij", false).await.1.contains("not in pieces"));
    }
}
