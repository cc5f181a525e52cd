//! `exec`: a further process in a container, its streams carried over one RPC.

use std::sync::Arc;

use futures::StreamExt;
use proto::{
    error::ApiError,
    pb::{
        self,
        exec_reply::Kind as Out,
        exec_request::{Kind as In, Start},
    },
};
use runtime::{ExecConfig, ExecIo, Runtime, ShimRuntime, Terminal};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::mpsc,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status, Streaming};

use super::{Local, Reply, refused};

type Sender = mpsc::Sender<Result<pb::ExecReply, Status>>;

/// Output on its way to the client.
const AHEAD: usize = 16;
/// Bytes read at once.
const CHUNK: usize = 32 * 1024;

pub(super) async fn run(
    runtime: Arc<ShimRuntime>,
    mut requests: Streaming<pb::ExecRequest>,
) -> Reply<<Local as pb::local_server::Local>::ExecStream> {
    let Some(pb::ExecRequest { kind: Some(In::Start(start)) }) = requests.message().await? else {
        return Err(ApiError::invalid("exec: the first message must say what to run").into());
    };
    let Start { container, cmd, tty, stdin, env, user, dir, rows, cols, detach } = start;
    if cmd.is_empty() {
        return Err(ApiError::invalid("exec needs a command: rnctl exec CONTAINER COMMAND [ARG…]").into());
    }
    let id = runtime.find(&container).map_err(refused)?;
    let config = ExecConfig {
        args: cmd,
        env,
        user,
        dir,
        tty: tty.then(|| size(rows, cols).unwrap_or((24, 80))),
        stdin,
        kill_on_drop: false,
    };
    let session = runtime.exec(&id, config).await.map_err(refused)?;
    let (out, replies) = mpsc::channel(AHEAD);
    if detach {
        // Somebody must read on, or the process would block on a full pipe or die of a closed one.
        tokio::spawn(async move {
            match session.io {
                ExecIo::Pipes { stdout, stderr, .. } => {
                    tokio::join!(discard(stdout), discard(stderr));
                }
                ExecIo::Terminal(terminal) => discard(terminal).await,
            }
            let _ = session.exit.await;
        });
        let _ = out.send(Ok(pb::ExecReply { kind: Some(Out::ExitCode(0)) })).await;
        return Ok(Response::new(ReceiverStream::new(replies).boxed()));
    }
    tokio::spawn(async move {
        match session.io {
            ExecIo::Pipes { stdin, stdout, stderr } => {
                let input = tokio::spawn(feed_pipe(requests, stdin));
                tokio::join!(drain(stdout, Out::Stdout, &out), drain(stderr, Out::Stderr, &out));
                input.abort();
            }
            ExecIo::Terminal(terminal) => terminal_io(terminal, requests, &out).await,
        }
        // Dropped without a word: the process' keeper is gone, and so is the container.
        let code = session.exit.await.unwrap_or(137);
        let _ = out.send(Ok(pb::ExecReply { kind: Some(Out::ExitCode(code)) })).await;
    });
    Ok(Response::new(ReceiverStream::new(replies).boxed()))
}

/// Rows and columns, where a client knows them.
pub(super) fn size(rows: u32, cols: u32) -> Option<(u16, u16)> {
    let number = |n: u32| u16::try_from(n).ok().filter(|n| *n > 0);
    number(rows).zip(number(cols))
}

async fn discard(mut from: impl AsyncRead + Unpin) {
    let _ = tokio::io::copy(&mut from, &mut tokio::io::sink()).await;
}

async fn drain(mut from: impl AsyncRead + Unpin, wrap: fn(Vec<u8>) -> Out, out: &Sender) {
    let mut buffer = vec![0; CHUNK];
    while let Ok(n @ 1..) = from.read(&mut buffer).await {
        let data = buffer.get(..n).unwrap_or_default().to_vec();
        if out.send(Ok(pb::ExecReply { kind: Some(wrap(data)) })).await.is_err() {
            return;
        }
    }
}

async fn feed_pipe(mut requests: Streaming<pb::ExecRequest>, stdin: Option<impl AsyncWrite + Unpin>) {
    let Some(mut stdin) = stdin else { return };
    while let Ok(Some(request)) = requests.message().await {
        match request.kind {
            Some(In::Stdin(data)) => {
                if stdin.write_all(&data).await.is_err() {
                    return;
                }
            }
            Some(In::CloseStdin(_)) => return,
            Some(In::Start(_) | In::Resize(_)) | None => {}
        }
    }
}

async fn terminal_io(terminal: Terminal, mut requests: Streaming<pb::ExecRequest>, out: &Sender) {
    let resizer = terminal.resizer();
    let (mut reader, mut writer) = tokio::io::split(terminal);
    let output = drain(&mut reader, Out::Stdout, out);
    let input = async {
        while let Ok(Some(request)) = requests.message().await {
            match request.kind {
                Some(In::Stdin(data)) => {
                    if writer.write_all(&data).await.is_err() {
                        break;
                    }
                }
                Some(In::Resize(to)) => {
                    if let (Ok(resizer), Some((rows, cols))) = (&resizer, size(to.rows, to.cols)) {
                        // One that is gone has no size.
                        let _ = resizer.resize(rows, cols);
                    }
                }
                Some(In::CloseStdin(_) | In::Start(_)) | None => {}
            }
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = output => {}
        () = input => {}
    }
}
