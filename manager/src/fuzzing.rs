//! What fuzz targets, and their small version here, give to the managers: what another manager sends, what the disk holds, and
//! entries of a log that nobody would write.

use proto::model::Revision;

use crate::{
    raft::wire as messages,
    store::{apply::apply, convert, snapshot, state::State},
};

/// A message of another manager, or an entry on disk; the first byte says which.
pub fn wire(bytes: &[u8]) {
    if let Some((which, bytes)) = bytes.split_first() {
        messages::read_any(*which, bytes);
    }
}

/// Entries of the log, one after the other; each begins with its length, two bytes. Applied, whatever they ask for; what comes
/// of it is kept and read again.
pub fn proposals(mut bytes: &[u8]) {
    let (mut state, mut revision) = (State::default(), 0);
    while let Some((length, rest)) = bytes.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes(*length)).min(rest.len());
        let (entry, rest) = rest.split_at(length);
        bytes = rest;
        if let Ok(proposal) = convert::decode_proposal(entry) {
            revision += 1;
            let outcomes = apply(&mut state, Revision(revision), &proposal).outcomes;
            assert_eq!(outcomes.len(), proposal.commands.len());
        }
    }
    if revision > 0 {
        let kept = snapshot::encode(&state);
        assert!(snapshot::decode(&kept).is_ok_and(|again| snapshot::encode(&again) == kept));
    }
}

/// A snapshot.
pub fn state(bytes: &[u8]) {
    let _ = snapshot::decode(bytes);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use prost::Message;
    use proto::{model::Timestamp, pb};

    use super::*;
    use crate::store::{
        command::{Command, Proposal, RULES},
        fixtures,
    };

    fn entry(command: Command) -> Vec<u8> {
        let proposal = Proposal { commands: vec![command], at: Timestamp(1), rules: RULES };
        let body = pb::Proposal::from(proposal).encode_to_vec();
        [u16::try_from(body.len()).unwrap().to_be_bytes().as_slice(), &body].concat()
    }

    #[test]
    fn whatever_stands_in_a_log_is_applied_or_refused() {
        let all: Vec<Vec<u8>> = fixtures::one_of_each().into_iter().map(|(_, c)| entry(c)).collect();
        // Each by itself, and all on top of each other.
        smoke::smoke(&all, 100, proposals);
        smoke::smoke([all.concat()], 2000, proposals);
    }

    #[test]
    fn whatever_another_manager_sends_is_read_or_refused() {
        let seeds = messages::one_of_each();
        smoke::smoke(seeds, 500, wire);
    }

    #[test]
    fn a_damaged_snapshot_is_refused() {
        let mut whole = State::default();
        whole.put(fixtures::cluster());
        whole.put(fixtures::network(1));
        whole.put(fixtures::service(1, &[1], Vec::new()));
        whole.put(fixtures::task(1, 1));
        smoke::smoke([snapshot::encode(&whole)], 2000, state);
    }
}
