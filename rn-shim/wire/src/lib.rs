//! What the daemon and a container's shim say to each other: files, socket messages, log lines.
//!
//! A shim may be years older than the daemon that adopts it, so these types only grow: new fields have defaults, unknown
//! ones are ignored, and nothing is ever renamed.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub mod attach;
pub mod cgroup;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod log;

pub use log::{LogRecord, Stream};

/// The file in a container's directory that tells its shim what to do ([`ShimSpec`]).
pub const SPEC_FILE: &str = "shim.json";
/// The file in a container's directory that holds its [`ExitStatus`] once it has ended.
pub const EXIT_FILE: &str = "exit.json";
/// The file in a container's directory that says when it was started, in ms since the epoch: should its shim be lost.
pub const STARTED_FILE: &str = "started";
/// The file in a container's directory that its output goes to; `.1`, `.2`, … are older.
pub const LOG_FILE: &str = "log.json";
/// The socket in a container's run directory that its shim listens on.
pub const SOCKET_FILE: &str = "shim.sock";
/// The directory in a container's run directory that its files in memory are in; seen by the container only.
pub const FILES_DIR: &str = "files";
/// What a shim prints on its standard output, and nothing else, once it listens and its container is created.
pub const CREATED: &str = "created";
/// The longest message on the socket, in bytes.
pub const MAX_MESSAGE: usize = 16 * 1024;
/// The most file descriptors in one parked set (the kernel's own limit is 253).
pub const MAX_PARKED: usize = 16;

/// The overlay file system that a container's root is mounted from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rootfs {
    /// Directory that the names in `lower` are relative to: a mount's options must fit into one page.
    pub layers_dir: PathBuf,
    /// Layer directories, the top one first.
    pub lower: Vec<PathBuf>,
    /// What the container writes.
    pub upper: PathBuf,
    /// The kernel's own.
    pub work: PathBuf,
    /// Where it is mounted, seen by the container only.
    pub target: PathBuf,
}

/// A directory that must exist in the container before it starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Directory {
    /// Absolute path inside the container.
    pub path: PathBuf,
    /// Its owner, if it has to be made.
    pub uid: u32,
    /// Its group, if it has to be made.
    pub gid: u32,
}

/// Image content that a new, empty volume starts with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyUp {
    /// Absolute path inside the container's root file system.
    pub from: PathBuf,
    /// Directory on the host; filled only if it is empty.
    pub to: PathBuf,
}

/// A file system that is mounted as a volume: before the container is made, and seen by that container only, so that it goes
/// with it. It is mounted in the machine's own network, as NFS needs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeMount {
    /// Its type, as mount(2) names it.
    pub kind: String,
    /// What is mounted: a device, a directory, a server's path.
    pub device: String,
    /// The volume's directory on the host.
    pub target: PathBuf,
    /// Flags of mount(2).
    pub flags: u64,
    /// Options of the file system; may hold passwords.
    pub data: String,
}

/// A file that is in memory only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryFile {
    /// Its length in bytes.
    pub size: u64,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Its permissions.
    pub mode: u32,
}

/// Limits of the log files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLimits {
    /// A file that has grown beyond this is rotated, in bytes.
    pub max_bytes: u64,
    /// Files in all, the current one included; at least 1.
    pub max_files: u32,
}

impl Default for LogLimits {
    fn default() -> Self {
        Self { max_bytes: 10 << 20, max_files: 3 }
    }
}

/// What a shim is told, in [`SPEC_FILE`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShimSpec {
    /// The container.
    pub id: String,
    /// OCI bundle: the directory of `config.json`.
    pub bundle: PathBuf,
    /// This container's directory that goes when it ends, on a tmpfs: the socket, the runtime's state.
    pub run_dir: PathBuf,
    /// Path of its group in every cgroup hierarchy, e.g. `/rn/<daemon>/<container>`.
    pub cgroup: String,
    /// Its root file system.
    pub rootfs: Rootfs,
    /// Directories to make in it.
    pub directories: Vec<Directory>,
    /// Volumes to fill from it.
    pub copy_up: Vec<CopyUp>,
    /// Limits of its log.
    pub log: LogLimits,
    /// Whether it has a terminal; its output is then one stream.
    pub terminal: bool,
    /// Whether its standard input is kept open for whoever attaches; a terminal's always is.
    #[serde(default)]
    pub stdin: bool,
    /// Its standard input ends with the first one that was attached to it.
    #[serde(default)]
    pub stdin_once: bool,
    /// File systems to mount as volumes, before those are filled.
    #[serde(default)]
    pub volume_mounts: Vec<VolumeMount>,
    /// Whether what the machine mounts later, below a bind mount's source, is seen in the container.
    #[serde(default)]
    pub sees_later_mounts: bool,
    /// Files in memory that the container's bind mounts find in [`FILES_DIR`], named `0`, `1`, … in this order. What is in them comes on
    /// the shim's standard input, one after the other, so that it is on no disk.
    #[serde(default)]
    pub files: Vec<MemoryFile>,
}

/// How a container ended. Also the content of [`EXIT_FILE`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitStatus {
    /// Exit code; 128 + signal if it was killed by one.
    pub code: i32,
    /// The signal that killed it, if one did.
    #[serde(default)]
    pub signal: Option<i32>,
    /// The kernel killed one of its processes because its memory limit was reached.
    #[serde(default)]
    pub oom: bool,
    /// When it was started, ms since the epoch; 0 = never.
    #[serde(default)]
    pub started_at: u64,
    /// When it ended, ms since the epoch.
    #[serde(default)]
    pub finished_at: u64,
    /// Why the code says nothing about the container: its shim was lost, or the machine restarted.
    #[serde(default)]
    pub error: String,
}

/// Where a container stands, as its shim sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Status {
    /// Ready to start.
    Created {
        /// Its first process, in the shim's pid namespace.
        pid: i32,
    },
    /// Started.
    Running {
        /// Its first process, in the shim's pid namespace.
        pid: i32,
        /// When, ms since the epoch.
        started_at: u64,
    },
    /// Ended.
    Exited(ExitStatus),
}

/// A line that the daemon writes to the shim's socket. One reply follows each, in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Request {
    /// Run the created container's program. Answer: [`Reply::Ok`].
    Start,
    /// From now on tell every [`Status`], the present one first; the connection ends after `Exited`.
    Watch,
    /// From now on send this connection the program's output as it comes, byte by byte, as frames (see [`attach`]); the
    /// program waits for a reader that is slow, and goes on without one that is gone. After [`Reply::Ok`] the connection
    /// carries frames only, both ways, and until then the asker sends nothing more. Any number may be attached. Closing
    /// the connection detaches.
    Attach {
        /// Take standard input from this connection too.
        stdin: bool,
    },
    /// Send the first process a signal; [`libc`-numbered](https://man7.org/linux/man-pages/man7/signal.7.html).
    Signal {
        /// Signal number.
        signal: i32,
    },
    /// Keep the descriptors sent along with this line, in place of those kept under that name.
    Park {
        /// Name of the set.
        name: String,
    },
    /// Send copies of the descriptors kept under that name, along with [`Reply::Parked`]. They stay parked.
    Unpark {
        /// Name of the set.
        name: String,
    },
    /// Close the descriptors kept under that name.
    Forget {
        /// Name of the set.
        name: String,
    },
}

/// A line that the shim writes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub enum Reply {
    /// Done.
    Ok,
    /// Not done.
    Error {
        /// Why.
        message: String,
    },
    /// To [`Request::Watch`].
    Status(Status),
    /// To [`Request::Unpark`].
    Parked {
        /// How many descriptors come along with this line.
        count: usize,
    },
}

/// What `rn-shim exec` finds in the file named by its argument (and deletes): a process beside a container's first.
/// A file because environments hold secrets and everybody may read a command line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecSpec {
    /// OCI bundle of the container: what its first process is confined to holds for this one too.
    pub bundle: PathBuf,
    /// The container's first process.
    pub pid: i32,
    /// The container's cgroup, as in [`ShimSpec`].
    pub cgroup: String,
    /// Program and arguments.
    pub args: Vec<String>,
    /// Whole environment.
    pub env: Vec<String>,
    /// Working directory.
    pub cwd: PathBuf,
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Further groups.
    pub groups: Vec<u32>,
    /// The socket to send a new terminal's master to; without it, standard streams are inherited.
    pub console: Option<PathBuf>,
    /// Rows and columns of that terminal.
    pub size: (u16, u16),
}
