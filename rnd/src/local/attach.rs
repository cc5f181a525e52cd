//! A container's own streams, carried over one RPC: as they come, as fast as the client takes them.

use docker_api::detach_keys::DetachKeys;
use futures::StreamExt;
use proto::{
    error::ApiError,
    model::ContainerId,
    pb::{self, attach_container_reply::Kind as Out, attach_container_request::Kind as In},
};
use runtime::{
    AttachOptions, Attached, AttachedInput, ContainerState, Output, Runtime, RuntimeError, ShimRuntime,
};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status, Streaming};

use super::{Local, Reply, exec::size, refused};

/// Output on its way to the client: little, for a program waits for a slow reader.
const AHEAD: usize = 4;

type Sender = mpsc::Sender<Result<pb::AttachContainerReply, Status>>;
type Requests = Streaming<pb::AttachContainerRequest>;

impl Local {
    pub(super) async fn attach_container(
        &self,
        mut requests: Requests,
    ) -> Reply<<Self as pb::local_server::Local>::AttachContainerStream> {
        let Some(pb::AttachContainerRequest { kind: Some(In::Start(start)) }) = requests.message().await?
        else {
            return Err(ApiError::invalid("attach: the first message must say to what").into());
        };
        let keys = DetachKeys::parse(&start.detach_keys)?;
        let runtime = self.daemon.runtime.clone();
        let id = match self.daemon.containers.find(&start.container) {
            Some(id) => id,
            None => runtime.find(&start.container).map_err(refused)?,
        };
        let tty = match runtime.list().into_iter().find(|c| c.record.id == id) {
            Some(container) => container.record.tty,
            // Not made yet.
            None => self.daemon.containers.watch(&id).is_some_and(|seen| seen.borrow().definition.spec.tty),
        };
        let options =
            AttachOptions { stdin: start.stdin, size: size(start.rows, start.cols).filter(|_| tty) };
        let attached = runtime.attach(&id, options).await;
        // Only now: one that had ended before would be waited for until its next start.
        if !start.next_start {
            is_running(&runtime, &id)?;
        }
        let (out, replies) = mpsc::channel(AHEAD);
        let keys = (tty && start.stdin).then_some(keys);
        tokio::spawn(async move {
            let attached = tokio::select! {
                attached = attached => attached,
                // It was not started.
                () = out.closed() => return,
            };
            let last = match attached {
                Ok(Ok(attached)) => carry(attached, requests, keys, &out).await,
                Ok(Err(error)) => Some(Err(refused(error))),
                Err(_) => Some(Err(ApiError::internal("attaching was broken off").into())),
            };
            if let Some(last) = last {
                let _ = out.send(last.map(|kind| pb::AttachContainerReply { kind: Some(kind) })).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(replies).boxed()))
    }
}

fn is_running(runtime: &ShimRuntime, id: &ContainerId) -> Result<(), ApiError> {
    match runtime.watch(id).map(|state| state.borrow().clone()) {
        Ok(ContainerState::Running { .. }) => Ok(()),
        Ok(_) | Err(RuntimeError::NoSuchContainer(_)) => {
            Err(ApiError::conflict("You cannot attach to a stopped container, start it first")
                .help(format!("rnctl start {}", id.short())))
        }
        Err(error) => Err(error.into()),
    }
}

/// Both directions, until the program has ended, the user has detached or the client has gone (none).
async fn carry(
    attached: Attached,
    requests: Requests,
    keys: Option<DetachKeys>,
    out: &Sender,
) -> Option<Result<Out, Status>> {
    let Attached { mut output, input, state } = attached;
    let output = async {
        loop {
            let kind = match output.next().await {
                Ok(Some(Output::Stdout(data))) => Out::Stdout(data),
                Ok(Some(Output::Stderr(data))) => Out::Stderr(data),
                // Its end, or its shim's: its state will say.
                Ok(None) | Err(_) => return true,
            };
            if out.send(Ok(pb::AttachContainerReply { kind: Some(kind) })).await.is_err() {
                return false;
            }
        }
    };
    tokio::select! {
        over = output => match over {
            true => Some(Ok(Out::ExitCode(exit_code(state).await))),
            false => None,
        },
        () = out.closed() => None,
        () = feed(requests, input, keys) => Some(Ok(Out::Detached(true))),
    }
}

async fn exit_code(mut state: watch::Receiver<ContainerState>) -> i32 {
    // An error means that it has been removed: what was known last counts.
    let _ = state.wait_for(|state| matches!(state, ContainerState::Exited(_))).await;
    match &*state.borrow() {
        ContainerState::Exited(end) => end.code,
        ContainerState::Created { .. } | ContainerState::Running { .. } => 137,
    }
}

/// Passes on what the client sends. Returns when the user types the keys to detach.
async fn feed(mut requests: Requests, mut input: AttachedInput, mut keys: Option<DetachKeys>) {
    while let Ok(Some(request)) = requests.message().await {
        let passed = match request.kind {
            Some(In::Stdin(data)) => {
                let (data, detach) = match &mut keys {
                    Some(keys) => keys.pass(&data),
                    None => (data, false),
                };
                let passed = input.write(&data).await;
                if detach {
                    return;
                }
                passed
            }
            Some(In::CloseStdin(_)) => input.close().await,
            Some(In::Resize(to)) => match size(to.rows, to.cols) {
                Some((rows, cols)) => input.resize(rows, cols).await,
                None => Ok(()),
            },
            Some(In::Start(_)) | None => Ok(()),
        };
        if passed.is_err() {
            break;
        }
    }
    // What the program says is still to be shown.
    let _input = input;
    std::future::pending::<()>().await;
}
