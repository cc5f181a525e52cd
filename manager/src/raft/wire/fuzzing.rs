//! For `crate::fuzzing`: whatever may be a message or an entry.

use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, VoteResponse};

use super::{Ballot, Opinion, SnapshotReply, Wire};
use crate::raft::{Entry, SnapshotMeta, TypeConfig, Vote};

/// What has been read is written as it was.
fn both<T: Wire>(bytes: &[u8]) {
    if let Ok(value) = T::from_bytes(bytes) {
        let once = value.to_bytes();
        assert!(T::from_bytes(&once).is_ok_and(|again| again.to_bytes() == once));
    }
}

/// Reads bytes as a message of one of the kinds.
pub(crate) fn read_any(which: u8, bytes: &[u8]) {
    const KINDS: [fn(&[u8]); 10] = [
        both::<AppendEntriesRequest<TypeConfig>>,
        both::<AppendEntriesResponse<u64>>,
        both::<Ballot>,
        both::<VoteResponse<u64>>,
        both::<InstallSnapshotRequest<TypeConfig>>,
        both::<SnapshotReply>,
        both::<SnapshotMeta>,
        both::<Entry>,
        both::<Vote>,
        both::<Opinion>,
    ];
    KINDS[usize::from(which) % KINDS.len()](bytes)
}

/// A message of each kind, or what is close to one, after its number.
#[cfg(test)]
pub(crate) fn one_of_each() -> Vec<Vec<u8>> {
    use openraft::{CommittedLeaderId, EntryPayload, LogId, Membership};

    use crate::raft::{Encoded, Member};

    let log_id = LogId::new(CommittedLeaderId::new(3, 7), 42);
    let nodes = std::collections::BTreeMap::from([(7, Member::default()), (8, Member::default())]);
    let membership = Membership::new(vec![[7].into(), [7, 8].into()], nodes);
    let entry = |payload| Entry { log_id, payload };
    let entries = vec![
        entry(EntryPayload::Blank),
        entry(EntryPayload::Normal(Encoded(vec![1, 2, 3]))),
        entry(EntryPayload::Membership(membership)),
    ];
    let vote = Vote::new_committed(3, 7);
    let append = AppendEntriesRequest {
        vote,
        prev_log_id: Some(log_id),
        entries: entries.clone(),
        leader_commit: Some(log_id),
    };
    let meta = SnapshotMeta { last_log_id: Some(log_id), snapshot_id: "s".into(), ..SnapshotMeta::default() };
    let install =
        InstallSnapshotRequest { vote, meta: meta.clone(), offset: 0, data: vec![1, 2], done: true };
    let mut all = vec![
        (0, append.to_bytes()),
        (4, install.to_bytes()),
        (6, meta.to_bytes()),
        (8, vote.to_bytes()),
        (2, vote.to_bytes()),
    ];
    all.extend(entries.iter().map(|entry| (7, entry.to_bytes())));
    all.into_iter().map(|(kind, bytes)| [&[kind][..], &bytes].concat()).collect()
}
