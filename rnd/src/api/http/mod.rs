//! Docker's Engine API, on the daemon's socket.
//!
//! * [`listener`]: sockets, and TLS. [`connection`]: who connects, and which of the two protocols of the socket it speaks.
//! * [`routes`]: which path is whose. [`request`] reads what is asked, [`respond`] says what goes back; a refusal is an
//!   `ApiError`, which [`respond::Refusal`] gives Docker's status and form.
//! * A file for each family of paths: [`system`], [`swarm`], …. What a body means is said in the crate `docker-api`.
//!
//! What concerns the swarm is asked of the manager of this node, in this process, through the same gate as on the network: a
//! request that only the leader can answer is passed on there.

mod archive;
pub mod connection;
mod containers;
mod disk_usage;
mod distribution;
mod exec;
mod files;
mod images;
mod lifecycle;
pub mod listener;
mod live;
mod logs;
mod networks;
mod nodes;
mod push;
mod request;
mod respond;
pub mod routes;
mod services;
pub mod stale;
mod streams;
mod swarm;
mod system;
mod tasks;
mod top;
mod volumes;

use std::sync::Arc;

use proto::{
    error::ApiError,
    pb::{self, control_client::ControlClient, logs_client::LogsClient},
};

use crate::{daemon::Daemon, front::Front, local::Local};

/// Ten thousand tasks are about 20 MB; tonic's own limit is 4 MiB.
const MAX_MESSAGE: usize = 256 << 20;

/// What the handlers work with. Cheap to clone.
#[derive(Clone)]
pub struct Api {
    daemon: Arc<Daemon>,
    local: Local,
    front: Front,
    /// Processes that clients have asked for in containers.
    execs: exec::Execs,
    /// How large terminals of containers are to be that have not been started.
    consoles: streams::Consoles,
}

impl Api {
    /// Of this daemon.
    pub fn new(daemon: Arc<Daemon>) -> Self {
        Self {
            local: Local::new(daemon.clone()),
            front: Front::new(daemon.clone()),
            daemon,
            execs: exec::Execs::default(),
            consoles: streams::Consoles::default(),
        }
    }

    /// The managers, by way of this node's own.
    fn control(&self) -> ControlClient<Front> {
        ControlClient::new(self.front.clone()).max_decoding_message_size(MAX_MESSAGE)
    }

    /// Logs of services and tasks.
    fn logs(&self) -> LogsClient<Front> {
        LogsClient::new(self.front.clone()).max_decoding_message_size(MAX_MESSAGE)
    }

    /// What the daemon says of this node's place in a swarm.
    async fn swarm_info(&self) -> pb::SwarmInfo {
        self.local.swarm_info(&mut Vec::new()).await
    }
}

/// An answer, or why there is none.
type Answer = Result<axum::response::Response, respond::Refusal>;

/// What stands in the way of a request that is well formed but means something that rn does not have.
fn instead(what: &str, way_out: &str) -> ApiError {
    ApiError::unsupported(format!("{what}; {way_out}"))
}
