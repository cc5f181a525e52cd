//! Raft's hands on the state: committed entries are applied, then written, then published, in that order.
// The errors are openraft's own.
#![allow(clippy::result_large_err)]

use std::{
    io::Cursor,
    sync::{Arc, Mutex, PoisonError},
};

use openraft::{
    EntryPayload, ErrorSubject, ErrorVerb, OptionalSend, RaftSnapshotBuilder, RaftTypeConfig,
    storage::RaftStateMachine,
};
use proto::model::Revision;

use super::{
    apply::apply,
    convert::decode_proposal,
    disk::{Disk, DiskError, Fact},
    publisher::StatePublisher,
    snapshot,
    state::State,
};
use crate::{
    blocking,
    raft::{
        Encoded, Entry, LogId, Reply, Snapshot, SnapshotMeta, StorageError, StoredMembership, TypeConfig,
        log_store::failed,
    },
};

/// The newest snapshot: a clone of the state's persistent maps. It is encoded when somebody wants the bytes.
type Taken = Arc<Mutex<Option<(SnapshotMeta, State)>>>;

/// Applies committed entries to the state, writes what has changed and publishes it.
pub(crate) struct StateMachine {
    disk: Arc<Disk>,
    published: Arc<StatePublisher>,
    state: State,
    applied: Option<LogId>,
    membership: StoredMembership,
    taken: Taken,
}

impl StateMachine {
    pub(crate) fn new(
        disk: Arc<Disk>,
        published: Arc<StatePublisher>,
        state: State,
        applied: Option<LogId>,
        membership: StoredMembership,
    ) -> Self {
        Self { disk, published, state, applied, membership, taken: Taken::default() }
    }

    fn apply_entries(
        &mut self,
        entries: impl IntoIterator<Item = Entry>,
    ) -> Result<Vec<Reply>, StorageError> {
        let (mut replies, mut changes, mut membership) = (Vec::new(), Vec::new(), None);
        for entry in entries {
            let id = entry.log_id;
            let reply = match entry.payload {
                EntryPayload::Blank => Reply::default(),
                EntryPayload::Membership(m) => {
                    membership = Some(StoredMembership::new(Some(id), m));
                    Reply::default()
                }
                EntryPayload::Normal(Encoded(bytes)) => {
                    // An entry that this version cannot read must not be skipped: states would part ways.
                    let proposal = decode_proposal(&bytes)
                        .map_err(|e| failed(ErrorSubject::Apply(id), ErrorVerb::Read, &e))?;
                    let applied = apply(&mut self.state, Revision(id.index), &proposal);
                    changes.extend(applied.changes);
                    Reply(applied.outcomes)
                }
            };
            self.state.revision = Revision(id.index);
            self.applied = Some(id);
            replies.push(reply);
        }
        let write = || -> Result<(), DiskError> {
            let mut batch = self.disk.batch();
            batch.put_changes(&changes)?;
            if let Some(applied) = &self.applied {
                batch.put_fact(Fact::Applied, applied)?;
            }
            if let Some(membership) = &membership {
                batch.put_fact(Fact::Membership, membership)?;
            }
            batch.write()
        };
        write().map_err(|e| failed(ErrorSubject::StateMachine, ErrorVerb::Write, &e))?;
        if let Some(membership) = membership {
            self.membership = membership;
        }
        self.published.publish(self.state.clone(), changes);
        Ok(replies)
    }

    fn snapshot_meta(&self) -> SnapshotMeta {
        let id = self.applied.map_or_else(|| "empty".to_owned(), |id| id.to_string());
        SnapshotMeta { last_log_id: self.applied, last_membership: self.membership.clone(), snapshot_id: id }
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), StorageError> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Reply>, StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        self.apply_entries(entries)
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        SnapshotBuilder { meta: self.snapshot_meta(), state: self.state.clone(), taken: self.taken.clone() }
    }

    async fn begin_receiving_snapshot(
        &mut self,
    ) -> Result<Box<<TypeConfig as RaftTypeConfig>::SnapshotData>, StorageError> {
        Ok(Box::default())
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        data: Box<<TypeConfig as RaftTypeConfig>::SnapshotData>,
    ) -> Result<(), StorageError> {
        let subject = || ErrorSubject::Snapshot(Some(meta.signature()));
        let mut state =
            snapshot::decode(data.get_ref()).map_err(|e| failed(subject(), ErrorVerb::Read, &e))?;
        state.revision = Revision(meta.last_log_id.map_or(0, |id| id.index));
        let changes = self.state.diff(&state);
        let write = || -> Result<(), DiskError> {
            let mut batch = self.disk.batch();
            batch.put_changes(&changes)?;
            if let Some(applied) = &meta.last_log_id {
                batch.put_fact(Fact::Applied, applied)?;
            }
            batch.put_fact(Fact::Membership, &meta.last_membership)?;
            batch.write_synced()
        };
        write().map_err(|e| failed(subject(), ErrorVerb::Write, &e))?;
        self.applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        self.state = state;
        *self.taken.lock().unwrap_or_else(PoisonError::into_inner) = Some((meta.clone(), self.state.clone()));
        self.published.publish(self.state.clone(), changes);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, StorageError> {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match taken {
            Some((meta, state)) => encode(meta, state).await.map(Some),
            None => Ok(None),
        }
    }
}

/// Takes a snapshot of the state as it was when the builder was made.
pub(crate) struct SnapshotBuilder {
    meta: SnapshotMeta,
    state: State,
    taken: Taken,
}

impl RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder {
    async fn build_snapshot(&mut self) -> Result<Snapshot, StorageError> {
        let snapshot = encode(self.meta.clone(), self.state.clone()).await?;
        *self.taken.lock().unwrap_or_else(PoisonError::into_inner) =
            Some((self.meta.clone(), self.state.clone()));
        Ok(snapshot)
    }
}

async fn encode(meta: SnapshotMeta, state: State) -> Result<Snapshot, StorageError> {
    let bytes = blocking::run(move || snapshot::encode(&state))
        .await
        .map_err(|e| failed(ErrorSubject::Snapshot(Some(meta.signature())), ErrorVerb::Write, &e))?;
    Ok(Snapshot { meta, snapshot: Box::new(Cursor::new(bytes)) })
}
