//! The digest by which a worker notices that gossip has lost something.

use super::TaskId;

/// A summary of the endpoints of one network: which tasks are running there, whatever their order.
///
/// The manager computes it over the tasks whose observed state is `Running` (draining ones among them, until they have
/// stopped); a worker computes it over the records of its gossip view that are ready or draining. Where the two differ for
/// more than a few seconds the worker asks for the list.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct EndpointDigest {
    /// Number of endpoints.
    pub count: u64,
    /// XOR of the FNV-1a hashes (64 bit) of their task ids: independent of order, and cheap to keep while tasks come and go.
    pub hash: u64,
}

impl EndpointDigest {
    /// Adds one endpoint.
    pub fn add(&mut self, task: &TaskId) {
        self.count += 1;
        self.hash ^= fnv1a(task.as_str().as_bytes());
    }
}

/// The digest of a set of endpoints.
pub fn endpoint_digest<'a>(tasks: impl IntoIterator<Item = &'a TaskId>) -> EndpointDigest {
    let mut digest = EndpointDigest::default();
    for task in tasks {
        digest.add(task);
    }
    digest
}

/// FNV-1a, 64 bit, with the offset basis and prime of the specification (draft-eastlake-fnv).
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_depends_on_the_set_and_not_on_its_order() {
        let tasks: Vec<TaskId> = (0..20).map(|_| TaskId::random()).collect();
        let forth = endpoint_digest(&tasks);
        let back = endpoint_digest(tasks.iter().rev());
        assert_eq!(forth, back);
        assert_eq!(forth.count, 20);
        assert_ne!(forth, endpoint_digest(&tasks[1..]));
    }

    #[test]
    fn the_hash_is_fnv_1a() {
        // Published vectors: every version of rn has to compute the same.
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
    }
}
