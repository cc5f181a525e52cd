//! Bytes that older versions wrote can be read for ever. A new kind gets a new file (`RN_FREEZE=1 cargo test -p manager
//! frozen`); an existing file is never written again.

use std::{collections::BTreeMap, path::PathBuf};

use openraft::{CommittedLeaderId, EntryPayload};
use prost::Message;

use super::*;
use crate::{
    raft::{Encoded, Entry, LogId, Member, Membership, wire::Wire},
    store::{command::Proposal, convert::decode_proposal, fixtures::one_of_each, snapshot, state::State},
};

/// The bytes of `name` as they were frozen.
fn frozen(name: &str, now: &[u8]) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/frozen").join(format!("{name}.bin"));
    if !path.exists() && std::env::var_os("RN_FREEZE").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, now).unwrap();
    }
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}; RN_FREEZE=1 writes it", path.display()))
}

#[test]
fn frozen_commands_are_read() {
    for (name, command) in one_of_each() {
        let proposal = Proposal { commands: vec![command], at: Timestamp(1_700_000_000_000), rules: 0 };
        let bytes = pb::Proposal::from(proposal.clone()).encode_to_vec();
        assert_eq!(decode_proposal(&bytes).as_ref(), Ok(&proposal), "{name}");
        assert_eq!(decode_proposal(&frozen(name, &bytes)), Ok(proposal), "{name}");
    }
}

#[test]
fn frozen_entries_are_read() {
    let log_id = LogId::new(CommittedLeaderId::new(3, 7), 42);
    let member = Member { node_id: Some(id("node", 1)), addr: Some("[2001:db8::1]:2377".parse().unwrap()) };
    let nodes = BTreeMap::from([(7, member), (8, Member::default())]);
    let membership = Membership::new(vec![[7].into(), [7, 8].into()], nodes);
    for (name, payload) in [
        ("entry_blank", EntryPayload::Blank),
        ("entry_proposal", EntryPayload::Normal(Encoded(vec![1, 2, 3]))),
        ("entry_membership", EntryPayload::Membership(membership)),
    ] {
        let entry = Entry { log_id, payload };
        assert_eq!(Entry::from_bytes(&frozen(name, &entry.to_bytes())), Ok(entry), "{name}");
    }
}

#[test]
fn a_frozen_snapshot_is_read() {
    let mut state = State::default();
    state.put(cluster());
    state.put(node(1));
    state.put(network(1));
    let bytes = snapshot::encode(&state);
    let read = snapshot::decode(&frozen("snapshot", &bytes)).unwrap();
    assert_eq!(state.diff(&read), []);
    state.put(secret(1));
    state.put(config(1));
    let bytes = snapshot::encode(&state);
    let read = snapshot::decode(&frozen("snapshot_with_files", &bytes)).unwrap();
    assert_eq!(state.diff(&read), []);
}
