//! `system dial-stdio`: standard input and output become a connection to the daemon. For `-H ssh://…` of a client elsewhere.

use tokio::io::{AsyncWriteExt, copy};

use super::transport::Transport;
use crate::{context::endpoint::Endpoint, exit::Failure};

/// Joins them until both sides have ended.
pub async fn run(endpoint: &Endpoint) -> Result<(), Failure> {
    let failed = |e: std::io::Error| {
        Failure::local(format!("cannot connect to the rn daemon at {}: {e}", endpoint.host))
    };
    let stream = Transport::of(endpoint)?.connect().await.map_err(failed)?;
    let (mut from, mut to) = tokio::io::split(stream);
    let (mut input, mut output) = (tokio::io::stdin(), tokio::io::stdout());
    let upstream = async {
        copy(&mut input, &mut to).await?;
        to.shutdown().await
    };
    let downstream = async {
        copy(&mut from, &mut output).await?;
        output.flush().await
    };
    tokio::pin!(upstream);
    tokio::pin!(downstream);
    // Once the daemon has ended nobody reads what still comes; once the client has, the daemon may have more to say.
    let ended = tokio::select! {
        done = &mut downstream => return done.map_err(failed),
        done = &mut upstream => done,
    };
    ended.map_err(failed)?;
    downstream.await.map_err(failed)
}
