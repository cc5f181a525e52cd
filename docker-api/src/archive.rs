//! Files of containers: `/containers/{id}/archive` and `/changes`.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::time::rfc3339_nanos;

/// The header that says what is at a path.
pub const STAT_HEADER: &str = "X-Docker-Container-Path-Stat";

/// What is at a path in a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PathStat {
    /// Its name.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// Kind and permissions, as the kernel has them.
    pub mode: u32,
    /// Last change, in ns since the epoch.
    pub modified_nanos: u64,
    /// Where a link leads to.
    pub link_target: String,
}

impl PathStat {
    /// The header's value.
    pub fn header(&self) -> String {
        let stat = json!({
            "name": self.name, "size": self.size, "mode": go_mode(self.mode),
            "mtime": rfc3339_nanos(self.modified_nanos), "linkTarget": self.link_target,
        });
        STANDARD.encode(stat.to_string())
    }
}

/// Go's `os.FileMode` of what the kernel says.
fn go_mode(mode: u32) -> u32 {
    // Bits of `stat(2)`, and of Go.
    let kind = match mode & 0o170_000 {
        0o040_000 => 1 << 31,
        0o120_000 => 1 << 27,
        0o060_000 => 1 << 26,
        0o020_000 => 1 << 26 | 1 << 21,
        0o010_000 => 1 << 25,
        0o140_000 => 1 << 24,
        _ => 0,
    };
    let bit = |ours: u32, gos: u32| if mode & ours == 0 { 0 } else { gos };
    kind | bit(0o4000, 1 << 23) | bit(0o2000, 1 << 22) | bit(0o1000, 1 << 20) | mode & 0o777
}

/// What has become of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Changed {
    /// It is another.
    Modified,
    /// It is new.
    Added,
    /// It is gone.
    Deleted,
}

/// The answer to `GET /containers/{id}/changes`.
pub fn changes(changes: impl Iterator<Item = (String, Changed)>) -> Value {
    let number = |kind| match kind {
        Changed::Modified => 0,
        Changed::Added => 1,
        Changed::Deleted => 2,
    };
    let all: Vec<Value> = changes.map(|(path, kind)| json!({"Path": path, "Kind": number(kind)})).collect();
    if all.is_empty() { Value::Null } else { all.into() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn modes_are_gos() {
        assert_eq!(go_mode(0o040_755), 0x8000_01ed);
        assert_eq!(go_mode(0o104_755), 1 << 23 | 0o755);
        assert_eq!(go_mode(0o120_777), 1 << 27 | 0o777);
        assert_eq!(go_mode(0o041_777), 1 << 31 | 1 << 20 | 0o777);
        assert_eq!(go_mode(0o020_666), 1 << 26 | 1 << 21 | 0o666);
    }

    #[test]
    fn a_header_is_json_in_base64() {
        let stat = PathStat { name: "passwd".into(), size: 3, mode: 0o100_644, ..PathStat::default() };
        let json: Value = serde_json::from_slice(&STANDARD.decode(stat.header()).unwrap()).unwrap();
        assert_eq!(
            (&json["name"], &json["mode"], &json["linkTarget"]),
            (&json!("passwd"), &json!(420), &json!(""))
        );
        assert_eq!(changes(std::iter::empty()), Value::Null);
        let one = changes([("/a".to_owned(), Changed::Deleted)].into_iter());
        assert_eq!(one, json!([{"Path": "/a", "Kind": 2}]));
    }
}
