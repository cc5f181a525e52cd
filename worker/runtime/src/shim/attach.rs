//! Attaching to a container's streams, at its shim.

use std::io;

use proto::model::ContainerId;
use shim_wire::{
    MAX_MESSAGE, Reply, Request,
    attach::{FRAME_HEADER, FrameKind, MAX_FRAME, header, parse_header, resize},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::unix::{OwnedReadHalf, OwnedWriteHalf},
    sync::{oneshot, watch},
};

use super::{ShimRuntime, client, lock};
use crate::{ContainerState, Result, Runtime, RuntimeError};

/// How to attach.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AttachOptions {
    /// Feed its standard input.
    pub stdin: bool,
    /// Rows and columns that its terminal is to have.
    pub size: Option<(u16, u16)>,
}

/// A piece of what a program wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// To its standard output, or its terminal.
    Stdout(Vec<u8>),
    /// To its standard error.
    Stderr(Vec<u8>),
}

/// A container's streams. Dropped = detached; the program goes on.
#[derive(Debug)]
pub struct Attached {
    /// Its output from here on.
    pub output: AttachedOutput,
    /// Its input.
    pub input: AttachedInput,
    /// Where this run of it stands.
    pub state: watch::Receiver<ContainerState>,
}

/// Output as it comes. Who does not read on makes the program wait.
#[derive(Debug)]
pub struct AttachedOutput(BufReader<OwnedReadHalf>);

impl AttachedOutput {
    /// The next piece; none when the program has ended and all was read.
    ///
    /// # Errors
    /// Its shim is lost.
    pub async fn next(&mut self) -> io::Result<Option<Output>> {
        loop {
            let mut head = [0; FRAME_HEADER];
            self.0.read_exact(&mut head).await?;
            let (kind, length) = parse_header(head).map_err(|_| io::ErrorKind::InvalidData)?;
            let mut content = vec![0; length];
            self.0.read_exact(&mut content).await?;
            match kind {
                Some(FrameKind::Stdout) => return Ok(Some(Output::Stdout(content))),
                Some(FrameKind::Stderr) => return Ok(Some(Output::Stderr(content))),
                Some(FrameKind::End) => return Ok(None),
                Some(FrameKind::Stdin | FrameKind::CloseStdin | FrameKind::Resize) | None => {}
            }
        }
    }
}

/// The other direction.
#[derive(Debug)]
pub struct AttachedInput(OwnedWriteHalf);

impl AttachedInput {
    /// Sends input; waits while the program takes none.
    ///
    /// # Errors
    /// The program has ended.
    pub async fn write(&mut self, data: &[u8]) -> io::Result<()> {
        for part in data.chunks(MAX_FRAME) {
            self.frame(FrameKind::Stdin, part).await?;
        }
        Ok(())
    }

    /// No more comes.
    ///
    /// # Errors
    /// The program has ended.
    pub async fn close(&mut self) -> io::Result<()> {
        self.frame(FrameKind::CloseStdin, &[]).await
    }

    /// Tells the terminal how large its user's window is.
    ///
    /// # Errors
    /// The program has ended.
    pub async fn resize(&mut self, rows: u16, cols: u16) -> io::Result<()> {
        self.frame(FrameKind::Resize, &resize(rows, cols)).await
    }

    async fn frame(&mut self, kind: FrameKind, content: &[u8]) -> io::Result<()> {
        // In one piece. Should this be dropped half-way, nothing more can be sent: who drops it drops the connection.
        let mut bytes = header(kind, content.len()).to_vec();
        bytes.extend_from_slice(content);
        self.0.write_all(&bytes).await
    }
}

/// One who waits for a container's start.
#[derive(Debug)]
pub(super) struct Waiting {
    options: AttachOptions,
    answer: oneshot::Sender<Result<Attached>>,
}

async fn open(
    run_dir: &std::path::Path,
    options: AttachOptions,
) -> io::Result<(AttachedOutput, AttachedInput)> {
    let stream = client::connect(run_dir)?;
    stream.set_nonblocking(true)?;
    let (reader, mut writer) = tokio::net::UnixStream::from_std(stream)?.into_split();
    let mut line = serde_json::to_vec(&Request::Attach { stdin: options.stdin })?;
    line.push(b'\n');
    writer.write_all(&line).await?;
    let mut reader = BufReader::with_capacity(MAX_FRAME, reader);
    line.clear();
    // Bounded: a shim that does not know the request answers with one line too.
    (&mut reader).take(MAX_MESSAGE as u64).read_until(b'\n', &mut line).await?;
    match serde_json::from_slice(&line)? {
        Reply::Ok => {}
        Reply::Error { message } => return Err(io::Error::other(message)),
        other => return Err(io::Error::other(format!("not an answer: {other:?}"))),
    }
    let mut input = AttachedInput(writer);
    if let Some((rows, cols)) = options.size {
        input.resize(rows, cols).await?;
    }
    Ok((AttachedOutput(reader), input))
}

impl ShimRuntime {
    /// Attaches to a container: to one that runs at once, to any other right before its program starts, so that no byte is
    /// missed. It need not be made yet. Dropping the receiver gives the wish up.
    pub async fn attach(
        &self,
        id: &ContainerId,
        options: AttachOptions,
    ) -> oneshot::Receiver<Result<Attached>> {
        let (answer, attached) = oneshot::channel();
        {
            let mut waiting = lock(&self.waiting);
            waiting.retain(|_, all| {
                all.retain(|w| !w.answer.is_closed());
                !all.is_empty()
            });
            waiting.entry(id.clone()).or_default().push(Waiting { options, answer });
        }
        // Whoever starts it looks for us after the start too: one of the two sees the other.
        if let Ok((_, ContainerState::Running { .. })) = self.record(id) {
            self.attach_waiting(id).await;
        }
        attached
    }

    /// Tells a running container's terminal how large its user's window is.
    ///
    /// # Errors
    /// It does not run.
    pub async fn resize(&self, id: &ContainerId, rows: u16, cols: u16) -> Result<()> {
        let (_, state) = self.record(id)?;
        let ContainerState::Running { .. } = state else {
            return Err(RuntimeError::Conflict(format!("container {id} is not running")));
        };
        let options = AttachOptions { stdin: false, size: Some((rows, cols)) };
        let opened = open(&self.config.run_dir(id.as_str()), options).await;
        opened.map(drop).map_err(|error| RuntimeError::Shim {
            id: id.short().to_owned(),
            message: format!("resize: {error}"),
        })
    }

    /// Attaches all who wait for this container.
    pub(super) async fn attach_waiting(&self, id: &ContainerId) {
        let waiting = lock(&self.waiting).remove(id).unwrap_or_default();
        for Waiting { options, answer } in waiting {
            if answer.is_closed() {
                continue;
            }
            let attached = async {
                // This run's: the container may be gone, or run again, before anybody looks.
                let state = self.watch(id)?;
                let opened = open(&self.config.run_dir(id.as_str()), options).await;
                let (output, input) = opened.map_err(|error| RuntimeError::Shim {
                    id: id.short().to_owned(),
                    message: format!("attach: {error}"),
                })?;
                Ok(Attached { output, input, state })
            };
            let _ = answer.send(attached.await);
        }
    }
}
