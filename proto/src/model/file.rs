//! Secrets and configs: bytes that tasks find in files.

use std::{collections::BTreeMap, fmt};

use super::{ConfigId, Meta, SecretId};

/// Bytes that must not reach a log: their `Debug` tells how many there are.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Payload(pub Vec<u8>);

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payload({} bytes)", self.0.len())
    }
}

/// What a user gives, of a secret as of a config.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FileSpec {
    /// Unique among secrets, or among configs, whatever its case.
    pub name: String,
    /// Labels: all of it that can be changed.
    pub labels: BTreeMap<String, String>,
    /// The content. Empty in what clients are shown of a secret.
    pub data: Payload,
    /// How a node fills the content in for each task.
    pub templating: Option<Templating>,
}

/// What a content's template is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Templating {
    /// Go's templates (`golang`).
    Golang,
}

impl Templating {
    /// Docker's word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Templating::Golang => "golang",
        }
    }
}

/// A secret: shown to nobody but to tasks whose spec names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secret {
    /// Its id.
    pub id: SecretId,
    /// Bookkeeping.
    pub meta: Meta,
    /// What the user gave.
    pub spec: FileSpec,
}

impl Secret {
    /// The most that it may hold, in bytes (swarmkit: 500 KiB, and less than that).
    pub const MAX_DATA: usize = 500 * 1024 - 1;
}

/// A config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Its id.
    pub id: ConfigId,
    /// Bookkeeping.
    pub meta: Meta,
    /// What the user gave.
    pub spec: FileSpec,
}

impl Config {
    /// The most that it may hold, in bytes (swarmkit: 1000 KiB).
    pub const MAX_DATA: usize = 1000 * 1024;
}

/// A secret or a config as a file in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileReference<Id> {
    /// Which. In a request it may be missing; the API fills it in before it is stored.
    pub id: Option<Id>,
    /// Its name; in a request it may be empty, if there is an id.
    pub name: String,
    /// A path, relative to `/run/secrets` or, of a config, to `/`.
    pub target: String,
    /// The file's owner.
    pub uid: u32,
    /// The file's group.
    pub gid: u32,
    /// The file's permissions.
    pub mode: u32,
}
