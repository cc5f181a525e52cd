//! The bodies of peer messages.

use openraft::{
    error::InstallSnapshotError,
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse,
        VoteRequest, VoteResponse,
    },
};
use prost::Message;

use super::{
    EntryMessage, LogIdMessage, Malformed, StoredMembershipMessage, VoteMessage, Wire, optional,
    optional_from, required,
};
use crate::raft::{SnapshotMeta, TypeConfig, Vote};

// ---- append entries ----

#[derive(Clone, PartialEq, Message)]
pub(crate) struct AppendRequestMessage {
    #[prost(message, optional, tag = "1")]
    vote: Option<VoteMessage>,
    #[prost(message, optional, tag = "2")]
    prev: Option<LogIdMessage>,
    #[prost(message, repeated, tag = "3")]
    entries: Vec<EntryMessage>,
    #[prost(message, optional, tag = "4")]
    committed: Option<LogIdMessage>,
}

impl Wire for AppendEntriesRequest<TypeConfig> {
    type Message = AppendRequestMessage;
    const NAME: &'static str = "AppendEntries request";

    fn to_message(&self) -> AppendRequestMessage {
        AppendRequestMessage {
            vote: Some(self.vote.to_message()),
            prev: optional(&self.prev_log_id),
            entries: self.entries.iter().map(Wire::to_message).collect(),
            committed: optional(&self.leader_commit),
        }
    }

    fn from_message(m: AppendRequestMessage) -> Result<Self, Malformed> {
        Ok(Self {
            vote: required(m.vote)?,
            prev_log_id: optional_from(m.prev)?,
            entries: m.entries.into_iter().map(Wire::from_message).collect::<Result<_, _>>()?,
            leader_commit: optional_from(m.committed)?,
        })
    }
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct AppendReplyMessage {
    #[prost(enumeration = "AppendResult", tag = "1")]
    result: i32,
    /// With `PartialSuccess`: the last entry that was taken.
    #[prost(message, optional, tag = "2")]
    matched: Option<LogIdMessage>,
    /// With `HigherVote`.
    #[prost(message, optional, tag = "3")]
    vote: Option<VoteMessage>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub(crate) enum AppendResult {
    Unspecified = 0,
    Success = 1,
    PartialSuccess = 2,
    Conflict = 3,
    HigherVote = 4,
}

impl Wire for AppendEntriesResponse<u64> {
    type Message = AppendReplyMessage;
    const NAME: &'static str = "AppendEntries reply";

    fn to_message(&self) -> AppendReplyMessage {
        let (result, matched, vote) = match self {
            Self::Success => (AppendResult::Success, None, None),
            Self::PartialSuccess(matched) => (AppendResult::PartialSuccess, optional(matched), None),
            Self::Conflict => (AppendResult::Conflict, None, None),
            Self::HigherVote(vote) => (AppendResult::HigherVote, None, Some(vote.to_message())),
        };
        AppendReplyMessage { result: result.into(), matched, vote }
    }

    fn from_message(m: AppendReplyMessage) -> Result<Self, Malformed> {
        Ok(match m.result() {
            AppendResult::Success => Self::Success,
            AppendResult::PartialSuccess => Self::PartialSuccess(optional_from(m.matched)?),
            AppendResult::Conflict => Self::Conflict,
            AppendResult::HigherVote => Self::HigherVote(required(m.vote)?),
            AppendResult::Unspecified => {
                return Err(Malformed { what: Self::NAME, reason: format!("unknown result {}", m.result) });
            }
        })
    }
}

// ---- vote ----

#[derive(Clone, PartialEq, Message)]
pub(crate) struct VoteRequestMessage {
    #[prost(message, optional, tag = "1")]
    vote: Option<VoteMessage>,
    #[prost(message, optional, tag = "2")]
    last_log: Option<LogIdMessage>,
    /// Only a question: would you vote so? Binds nobody. Openraft 0.9 has no pre-vote of its own.
    #[prost(bool, tag = "3")]
    pre_vote: bool,
}

/// A request for a vote, or the question whether one would be granted.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Ballot {
    pub(crate) request: VoteRequest<u64>,
    pub(crate) pre_vote: bool,
}

impl Wire for Ballot {
    type Message = VoteRequestMessage;
    const NAME: &'static str = "vote request";

    fn to_message(&self) -> VoteRequestMessage {
        VoteRequestMessage {
            vote: Some(self.request.vote.to_message()),
            last_log: optional(&self.request.last_log_id),
            pre_vote: self.pre_vote,
        }
    }

    fn from_message(m: VoteRequestMessage) -> Result<Self, Malformed> {
        let request = VoteRequest { vote: required(m.vote)?, last_log_id: optional_from(m.last_log)? };
        Ok(Self { request, pre_vote: m.pre_vote })
    }
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct VoteReplyMessage {
    #[prost(message, optional, tag = "1")]
    vote: Option<VoteMessage>,
    #[prost(bool, tag = "2")]
    granted: bool,
    #[prost(message, optional, tag = "3")]
    last_log: Option<LogIdMessage>,
    /// In the answer to a question: what its author knows of a leader.
    #[prost(enumeration = "Knows", tag = "4")]
    knows: i32,
}

/// What a manager that is asked for its vote knows of a leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub(crate) enum Knows {
    /// Nothing.
    Unspecified = 0,
    /// It hears one.
    Follows = 1,
    /// It is one, and a majority answers it.
    Leads = 2,
}

/// The answer to the question whether a vote would be granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Opinion {
    pub(crate) response: VoteResponse<u64>,
    pub(crate) knows: Knows,
}

impl Wire for Opinion {
    type Message = VoteReplyMessage;
    const NAME: &'static str = "opinion before a vote";

    fn to_message(&self) -> VoteReplyMessage {
        VoteReplyMessage { knows: self.knows.into(), ..self.response.to_message() }
    }

    fn from_message(m: VoteReplyMessage) -> Result<Self, Malformed> {
        let knows = m.knows();
        Ok(Self { response: VoteResponse::from_message(m)?, knows })
    }
}

impl Wire for VoteResponse<u64> {
    type Message = VoteReplyMessage;
    const NAME: &'static str = "vote reply";

    fn to_message(&self) -> VoteReplyMessage {
        VoteReplyMessage {
            vote: Some(self.vote.to_message()),
            granted: self.vote_granted,
            last_log: optional(&self.last_log_id),
            knows: Knows::Unspecified.into(),
        }
    }

    fn from_message(m: VoteReplyMessage) -> Result<Self, Malformed> {
        Ok(Self { vote: required(m.vote)?, vote_granted: m.granted, last_log_id: optional_from(m.last_log)? })
    }
}

// ---- snapshots ----

#[derive(Clone, PartialEq, Message)]
pub(crate) struct SnapshotMetaMessage {
    #[prost(message, optional, tag = "1")]
    last_log: Option<LogIdMessage>,
    #[prost(message, optional, tag = "2")]
    membership: Option<StoredMembershipMessage>,
    #[prost(string, tag = "3")]
    id: String,
}

impl Wire for SnapshotMeta {
    type Message = SnapshotMetaMessage;
    const NAME: &'static str = "snapshot";

    fn to_message(&self) -> SnapshotMetaMessage {
        SnapshotMetaMessage {
            last_log: optional(&self.last_log_id),
            membership: Some(self.last_membership.to_message()),
            id: self.snapshot_id.clone(),
        }
    }

    fn from_message(m: SnapshotMetaMessage) -> Result<Self, Malformed> {
        Ok(Self {
            last_log_id: optional_from(m.last_log)?,
            last_membership: required(m.membership)?,
            snapshot_id: m.id,
        })
    }
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct SnapshotRequestMessage {
    #[prost(message, optional, tag = "1")]
    vote: Option<VoteMessage>,
    #[prost(message, optional, tag = "2")]
    meta: Option<SnapshotMetaMessage>,
    #[prost(uint64, tag = "3")]
    offset: u64,
    #[prost(bytes, tag = "4")]
    data: Vec<u8>,
    #[prost(bool, tag = "5")]
    done: bool,
}

impl Wire for InstallSnapshotRequest<TypeConfig> {
    type Message = SnapshotRequestMessage;
    const NAME: &'static str = "InstallSnapshot request";

    fn to_message(&self) -> SnapshotRequestMessage {
        SnapshotRequestMessage {
            vote: Some(self.vote.to_message()),
            meta: Some(self.meta.to_message()),
            offset: self.offset,
            data: self.data.clone(),
            done: self.done,
        }
    }

    fn from_message(m: SnapshotRequestMessage) -> Result<Self, Malformed> {
        Ok(Self {
            vote: required(m.vote)?,
            meta: required(m.meta)?,
            offset: m.offset,
            data: m.data,
            done: m.done,
        })
    }
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct SnapshotReplyMessage {
    /// None: the chunk does not continue what the receiver has; start over.
    #[prost(message, optional, tag = "1")]
    vote: Option<VoteMessage>,
    #[prost(message, optional, tag = "2")]
    expected: Option<SegmentMessage>,
    #[prost(message, optional, tag = "3")]
    got: Option<SegmentMessage>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct SegmentMessage {
    #[prost(string, tag = "1")]
    snapshot: String,
    #[prost(uint64, tag = "2")]
    offset: u64,
}

/// What a receiver of a snapshot's chunk answers.
pub(crate) type SnapshotReply = Result<InstallSnapshotResponse<u64>, InstallSnapshotError>;

impl Wire for SnapshotReply {
    type Message = SnapshotReplyMessage;
    const NAME: &'static str = "InstallSnapshot reply";

    fn to_message(&self) -> SnapshotReplyMessage {
        let segment =
            |s: &openraft::SnapshotSegmentId| SegmentMessage { snapshot: s.id.clone(), offset: s.offset };
        match self {
            Ok(reply) => {
                SnapshotReplyMessage { vote: Some(reply.vote.to_message()), expected: None, got: None }
            }
            Err(InstallSnapshotError::SnapshotMismatch(m)) => SnapshotReplyMessage {
                vote: None,
                expected: Some(segment(&m.expect)),
                got: Some(segment(&m.got)),
            },
        }
    }

    fn from_message(m: SnapshotReplyMessage) -> Result<Self, Malformed> {
        if let Some(vote) = m.vote {
            return Ok(Ok(InstallSnapshotResponse { vote: Vote::from_message(vote)? }));
        }
        let segment = |s: Option<SegmentMessage>| {
            let s = s.unwrap_or_default();
            openraft::SnapshotSegmentId { id: s.snapshot, offset: s.offset }
        };
        let mismatch = openraft::error::SnapshotMismatch { expect: segment(m.expected), got: segment(m.got) };
        Ok(Err(InstallSnapshotError::SnapshotMismatch(mismatch)))
    }
}
