//! What an archive says of one file.

/// One file, directory, link or node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name, as it is in the archive: may be absolute, lead upwards, or not be UTF-8. Holds no NUL.
    pub path: Vec<u8>,
    /// What a link points to; empty otherwise. Holds no NUL.
    pub link: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Permissions with the set-user-id, set-group-id and sticky bits; none if the archive does not say.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: u64,
    /// Group.
    pub gid: u64,
    /// Last change of its content.
    pub mtime: Time,
    /// Bytes of its content, holes included.
    pub size: u64,
    /// Extended attributes, name and value, each name once.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Where in the archive its header begins, in bytes.
    pub at: u64,
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A file with content. Kinds that nobody knows are files too (POSIX).
    File,
    /// Another name of an earlier entry.
    HardLink,
    /// A symbolic link.
    Symlink,
    /// A character device, major and minor.
    Char(u32, u32),
    /// A block device, major and minor.
    Block(u32, u32),
    /// A directory.
    Directory,
    /// A named pipe.
    Fifo,
}

/// Since 1970-01-01 UTC.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time {
    /// Whole seconds, rounded down.
    pub secs: i64,
    /// And nanoseconds, below 1,000,000,000.
    pub nanos: u32,
}
