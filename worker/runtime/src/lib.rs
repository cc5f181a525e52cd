//! Containers and images.
//!
//! [`Runtime`] is what the task supervisor and the local API see; [`ShimRuntime`] is the one driver: each container has a small
//! process of its own (`rn-shim`) that creates it, holds its output and outlives the daemon. All truth about a container is
//! in its directory (what it is, its log, how it ended) and in its shim (whether it runs); a daemon that starts reads both.

// Tests write and damage files as they like.
#![cfg_attr(test, allow(clippy::disallowed_methods))]

use std::{
    collections::BTreeMap,
    fs,
    net::IpAddr,
    os::{
        fd::OwnedFd,
        unix::fs::{DirBuilderExt, PermissionsExt},
    },
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
use futures::stream::BoxStream;
use proto::model::{ContainerId, ContainerSpec, NodeId, Payload, Resources, ServiceId, TaskId};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

mod bundle;
mod cgroup;
mod error;
mod events;
mod health;
mod image;
mod logs;
mod rootdir;
mod shim;
mod terminal;
mod tree;
mod users;
mod xattr;

pub use error::RuntimeError;
pub use events::{Event, Events};
pub use health::{Check, Health, HealthCheck, HealthReport, ImageHealthcheck, Tracker};
#[cfg(any(test, fuzzing))]
pub use image::fuzzing;
pub use image::save_record;
pub use image::{
    Chunks, Image, ImageConfig, ImageDocument, ImageStore, ImportOptions, Loaded, Pin as ImagePin,
    PruneFilter, Reference, Removed, Selection, UnpackLimit, Users, is_repository,
    registry::{
        Credentials, LayerStep, Platform, Progress, Pulled, PushStep, Pushed, Registries, RegistryConfig,
        Resolved,
    },
};
pub use proto::parse::signal::number as parse_signal;
pub use shim::{
    AttachOptions, Attached, AttachedInput, AttachedOutput, Output, Pieces, ShimConfig, ShimRuntime, Volume,
};
pub use shim_wire::{ExitStatus, LogLimits, Stream};
pub use terminal::{Resizer, Terminal};
pub use tree::{
    PathStat,
    changes::{Change, ChangeKind},
};

/// How long the news of a container's end may take from its shim to us.
const NEWS_LIMIT: Duration = Duration::from_secs(1);

/// The result of everything here.
pub type Result<T> = std::result::Result<T, RuntimeError>;

/// Makes a folder that only root gets into, or closes the one that is there: below it lie set-uid programs and devices of any image.
/// Containers see what is in it through mounts, which need no way from outside.
fn private_dir(dir: &Path) -> Result<()> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.and_then(|()| fs::set_permissions(dir, fs::Permissions::from_mode(0o700)))
        .map_err(RuntimeError::io("create", dir))
}

/// The time, ns since the epoch.
fn now_nanos() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// The time, ms since the epoch.
fn now_millis() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The swarm objects that a container stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskRef {
    /// The task.
    pub task: TaskId,
    /// Its service.
    pub service: ServiceId,
    /// Its service's name.
    pub service_name: String,
    /// The node that runs it.
    pub node: NodeId,
}

/// What a container is to be.
#[derive(Debug, Clone)]
pub struct ContainerConfig {
    /// Its id; the caller draws it ([`ContainerId::random`]), so that the network can name it before it exists.
    pub id: ContainerId,
    /// Unique on this machine, e.g. `web.1.<task id>`.
    pub name: String,
    /// The task it runs, if any; also becomes labels (`com.docker.swarm.task.id`, …).
    pub task: Option<TaskRef>,
    /// What runs.
    pub spec: ContainerSpec,
    /// Upper limits.
    pub limits: Resources,
    /// File of its network namespace, made before; none = the machine's own.
    pub netns: Option<PathBuf>,
    /// Its own addresses, for `/etc/hosts`, the preferred one first.
    pub addrs: Vec<IpAddr>,
    /// Search domains of the host, for `/etc/resolv.conf` if the spec has none.
    pub search: Vec<String>,
    /// Its secrets and configs.
    pub files: Vec<ContainerFile>,
}

/// A file that a container finds in memory: never on a disk of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerFile {
    /// Absolute path inside.
    pub target: String,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Its permissions.
    pub mode: u32,
    /// What is in it.
    pub data: Payload,
}

/// What is remembered of a container, in its directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerRecord {
    /// Its id.
    pub id: ContainerId,
    /// Its name.
    pub name: String,
    /// The task it runs, if any.
    pub task: Option<TaskRef>,
    /// The image as it was asked for.
    pub image: String,
    /// The image's id, `sha256:…`.
    pub image_id: String,
    /// Program and arguments.
    pub command: Vec<String>,
    /// Its host name.
    pub hostname: String,
    /// Its labels, those of the image included.
    pub labels: BTreeMap<String, String>,
    /// When it was made, ms since the epoch.
    pub created_at: u64,
    /// File of its network namespace; none = the machine's own.
    pub netns: Option<PathBuf>,
    /// What asks it to stop, e.g. 15.
    pub stop_signal: i32,
    /// From that signal to SIGKILL, in ms.
    pub stop_grace_ms: u64,
    /// Whether it has a terminal.
    pub tty: bool,
    /// How its health is checked; none = it is not.
    #[serde(default)]
    pub health: Option<HealthCheck>,
}

/// Where a container stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContainerState {
    /// Ready to start.
    Created {
        /// Its first process.
        pid: i32,
    },
    /// Started.
    Running {
        /// Its first process.
        pid: i32,
        /// When, ms since the epoch.
        started_at: u64,
    },
    /// Ended.
    Exited(ExitStatus),
}

impl ContainerState {
    /// Its first process; none once it has ended.
    pub fn pid(&self) -> Option<i32> {
        match self {
            ContainerState::Created { pid } | ContainerState::Running { pid, .. } => Some(*pid),
            ContainerState::Exited(_) => None,
        }
    }

    /// The word that `ps` and `inspect` show: `created`, `running` or `exited`.
    pub const fn as_str(&self) -> &'static str {
        match self {
            ContainerState::Created { .. } => "created",
            ContainerState::Running { .. } => "running",
            ContainerState::Exited(_) => "exited",
        }
    }
}

/// A container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// What it is.
    pub record: ContainerRecord,
    /// Where it stands.
    pub state: ContainerState,
    /// Whether its processes are stopped by the freezer.
    pub paused: bool,
}

/// A container with the files behind it.
#[derive(Debug, Clone)]
pub struct ContainerDetail {
    /// The container.
    pub container: Container,
    /// OCI runtime configuration, as JSON.
    pub oci_config: String,
    /// Its current log file.
    pub log_path: PathBuf,
    /// What it has written over its image.
    pub rootfs_path: PathBuf,
}

/// Which lines of output.
#[derive(Debug, Clone, Default)]
pub struct LogOptions {
    /// Go on until the container has ended and all is read.
    pub follow: bool,
    /// Only the last so many lines of what is there; none = all.
    pub tail: Option<usize>,
    /// Only lines from then on, ns since the epoch.
    pub since: u64,
    /// Only lines up to then, ns since the epoch; 0 = all. Following ends then.
    pub until: u64,
}

/// A line of output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// When, ns since the epoch.
    pub at: u64,
    /// From where.
    pub stream: Stream,
    /// Without the newline.
    pub data: Vec<u8>,
    /// The line goes on in the next one of the same stream (output without newline, more than 16 KiB).
    pub partial: bool,
}

/// A further process for a running container.
#[derive(Debug, Clone, Default)]
pub struct ExecConfig {
    /// Program and arguments.
    pub args: Vec<String>,
    /// `NAME=value`, over the container's own; a bare `NAME` removes it.
    pub env: Vec<String>,
    /// `user[:group]`; empty = the container's.
    pub user: String,
    /// Working directory; empty = the container's.
    pub dir: String,
    /// Give it a terminal of that many rows and columns.
    pub tty: Option<(u16, u16)>,
    /// Keep its standard input open for us.
    pub stdin: bool,
    /// Kill it when the session is dropped.
    pub kill_on_drop: bool,
}

/// The streams of an exec'd process.
#[derive(Debug)]
pub enum ExecIo {
    /// Pipes.
    Pipes {
        /// To it, if asked for.
        stdin: Option<tokio::process::ChildStdin>,
        /// From it.
        stdout: tokio::process::ChildStdout,
        /// From it.
        stderr: tokio::process::ChildStderr,
    },
    /// Its terminal's master.
    Terminal(Terminal),
}

/// An exec'd process.
#[derive(Debug)]
pub struct ExecSession {
    /// Its streams.
    pub io: ExecIo,
    /// The process that keeps it: its only child.
    pub keeper: Option<u32>,
    /// Its exit code, once it has ended; 126 = cannot be run, 127 = not found. Dropped = nobody cares, it runs on.
    pub exit: tokio::sync::oneshot::Receiver<i32>,
}

/// What runs containers. All methods may be called at any time from any task; each names its container.
#[async_trait]
pub trait Runtime: Send + Sync + 'static {
    /// The image that a reference (`name[:tag]`, id or prefix of one) names.
    async fn resolve_image(&self, reference: &str) -> Result<Image>;

    /// The same, brought here from its registry if it is not here, and kept from removal as long as the second part lives.
    async fn ensure_image(
        &self,
        reference: &str,
        _credentials: Option<Credentials>,
        _progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<(Image, Option<ImagePin>)> {
        self.resolve_image(reference).await.map(|image| (image, None))
    }

    /// Makes a container ready to start, or leaves nothing behind. One that has ended and has this id is made ready again, with
    /// what it has written and logged, and stays as it was if that fails.
    async fn create(&self, config: ContainerConfig) -> Result<Container>;

    /// Starts a created container; its first process.
    async fn start(&self, id: &ContainerId) -> Result<i32>;

    /// Sends the first process a signal.
    async fn signal(&self, id: &ContainerId, signal: i32) -> Result<()>;

    /// Where it stands, now and from now on. The sender goes when the container is deleted.
    fn watch(&self, id: &ContainerId) -> Result<watch::Receiver<ContainerState>>;

    /// Deletes it with its log and all it has written; a running one only if forced (it is then killed first).
    async fn delete(&self, id: &ContainerId, force: bool) -> Result<()>;

    /// All containers of this daemon, those found at start included.
    fn list(&self) -> Vec<Container>;

    /// One of them with its files.
    async fn inspect(&self, id: &ContainerId) -> Result<ContainerDetail>;

    /// Runs a further process in it.
    async fn exec(&self, id: &ContainerId, config: ExecConfig) -> Result<ExecSession>;

    /// Its output.
    async fn logs(
        &self,
        id: &ContainerId,
        options: LogOptions,
    ) -> Result<BoxStream<'static, Result<LogLine>>>;

    /// Leaves copies of descriptors with its shim under a name, so that they outlive this process; replaces an older set.
    async fn park(&self, id: &ContainerId, name: &str, fds: Vec<OwnedFd>) -> Result<()>;

    /// Copies of the descriptors parked under a name; none if there are none. They stay parked.
    async fn unpark(&self, id: &ContainerId, name: &str) -> Result<Vec<OwnedFd>>;

    /// Gives it another name. A driver without names has nothing to do.
    async fn rename(&self, _id: &ContainerId, _name: &str) -> Result<()> {
        Ok(())
    }

    /// Sets what it may use from now on, if it runs.
    async fn limit(&self, _id: &ContainerId, _limits: Resources) -> Result<()> {
        Ok(())
    }

    /// Whether its processes are stopped by the freezer.
    fn is_paused(&self, _id: &ContainerId) -> bool {
        false
    }

    /// Remembers what is known of a container's health, for whoever looks at it.
    fn note_health(&self, _id: &ContainerId, _report: HealthReport) {}

    /// Counts the containers that come to be.
    fn arrivals(&self) -> watch::Receiver<u64> {
        watch::channel(0).1
    }

    /// Its end; at once if it has ended.
    async fn wait(&self, id: &ContainerId) -> Result<ExitStatus> {
        let mut state = self.watch(id)?;
        let ended = state.wait_for(|state| matches!(state, ContainerState::Exited(_))).await;
        match ended.as_deref() {
            Ok(ContainerState::Exited(status)) => Ok(status.clone()),
            _ => Err(RuntimeError::NoSuchContainer(id.to_string())),
        }
    }

    /// Asks it to stop, and kills it if it has not after the grace period. A created one is killed at once.
    async fn stop(&self, id: &ContainerId, signal: i32, grace: Duration) -> Result<ExitStatus> {
        let state = self.watch(id)?.borrow().clone();
        let (polite, grace) = match state {
            ContainerState::Exited(status) => return Ok(status),
            ContainerState::Running { .. } => (self.signal(id, signal).await, grace),
            ContainerState::Created { .. } => (Ok(()), Duration::ZERO),
        };
        // It may have ended by itself meanwhile: then there was nobody to signal, and the news is on its way.
        let patience = if polite.is_ok() { grace } else { NEWS_LIMIT };
        if let Ok(ended) = tokio::time::timeout(patience, self.wait(id)).await {
            return ended;
        }
        match self.signal(id, libc::SIGKILL).await {
            Ok(()) => self.wait(id).await,
            Err(error) => tokio::time::timeout(NEWS_LIMIT, self.wait(id)).await.unwrap_or(Err(error)),
        }
    }
}
