//! The bytes of raft: log entries on disk, votes, and the bodies of peer messages. Append-only, as the `.proto` files; held
//! by frozen fixtures. Hand-written prost messages, because nobody but raft reads them.

use openraft::{
    CommittedLeaderId, EntryPayload, LeaderId,
    error::InstallSnapshotError,
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse,
        VoteRequest, VoteResponse,
    },
};
use prost::Message;

use super::{Encoded, Member, TypeConfig};

/// Bytes that are not what they should be: written by a newer version, or damaged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("malformed {what}: {reason}")]
pub(crate) struct Malformed {
    pub(crate) what: &'static str,
    pub(crate) reason: String,
}

impl Malformed {
    fn missing(what: &'static str) -> Self {
        Self { what, reason: "missing".into() }
    }
}

/// Something with bytes of its own.
pub(crate) trait Wire: Sized {
    type Message: Message + Default;
    const NAME: &'static str;

    fn to_message(&self) -> Self::Message;
    fn from_message(message: Self::Message) -> Result<Self, Malformed>;

    fn to_bytes(&self) -> Vec<u8> {
        self.to_message().encode_to_vec()
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, Malformed> {
        let message = Self::Message::decode(bytes)
            .map_err(|e| Malformed { what: Self::NAME, reason: e.to_string() })?;
        Self::from_message(message)
    }
}

fn optional<T: Wire>(value: &Option<T>) -> Option<T::Message> {
    value.as_ref().map(T::to_message)
}

fn optional_from<T: Wire>(message: Option<T::Message>) -> Result<Option<T>, Malformed> {
    message.map(T::from_message).transpose()
}

fn required<T: Wire>(message: Option<T::Message>) -> Result<T, Malformed> {
    T::from_message(message.ok_or_else(|| Malformed::missing(T::NAME))?)
}

// ---- log ids, votes ----

#[derive(Clone, PartialEq, Message)]
pub(crate) struct LogIdMessage {
    #[prost(uint64, tag = "1")]
    term: u64,
    #[prost(uint64, tag = "2")]
    leader: u64,
    #[prost(uint64, tag = "3")]
    index: u64,
}

impl Wire for super::LogId {
    type Message = LogIdMessage;
    const NAME: &'static str = "log id";

    fn to_message(&self) -> LogIdMessage {
        LogIdMessage { term: self.leader_id.term, leader: self.leader_id.node_id, index: self.index }
    }

    fn from_message(m: LogIdMessage) -> Result<Self, Malformed> {
        Ok(Self::new(CommittedLeaderId::new(m.term, m.leader), m.index))
    }
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct VoteMessage {
    #[prost(uint64, tag = "1")]
    term: u64,
    #[prost(uint64, tag = "2")]
    candidate: u64,
    #[prost(bool, tag = "3")]
    committed: bool,
}

impl Wire for super::Vote {
    type Message = VoteMessage;
    const NAME: &'static str = "vote";

    fn to_message(&self) -> VoteMessage {
        VoteMessage {
            term: self.leader_id.term,
            candidate: self.leader_id.node_id,
            committed: self.committed,
        }
    }

    fn from_message(m: VoteMessage) -> Result<Self, Malformed> {
        Ok(Self { leader_id: LeaderId::new(m.term, m.candidate), committed: m.committed })
    }
}

// ---- membership ----

#[derive(Clone, PartialEq, Message)]
pub(crate) struct MembershipMessage {
    /// One set of voters, or two while the set changes.
    #[prost(message, repeated, tag = "1")]
    voters: Vec<VotersMessage>,
    #[prost(message, repeated, tag = "2")]
    members: Vec<MemberMessage>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct VotersMessage {
    #[prost(uint64, repeated, tag = "1")]
    raft_ids: Vec<u64>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct MemberMessage {
    #[prost(uint64, tag = "1")]
    raft_id: u64,
    #[prost(string, tag = "2")]
    node_id: String,
    #[prost(string, tag = "3")]
    addr: String,
}

fn parse<T: std::str::FromStr<Err: std::fmt::Display>>(
    what: &'static str,
    text: &str,
) -> Result<Option<T>, Malformed> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|e: T::Err| Malformed { what, reason: e.to_string() })
}

impl Wire for super::Membership {
    type Message = MembershipMessage;
    const NAME: &'static str = "membership";

    fn to_message(&self) -> MembershipMessage {
        let voters = self.get_joint_config().iter();
        let member = |(id, m): (&u64, &Member)| MemberMessage {
            raft_id: *id,
            node_id: m.node_id.as_ref().map(ToString::to_string).unwrap_or_default(),
            addr: m.addr.map(|a| a.to_string()).unwrap_or_default(),
        };
        MembershipMessage {
            voters: voters.map(|v| VotersMessage { raft_ids: v.iter().copied().collect() }).collect(),
            members: self.nodes().map(member).collect(),
        }
    }

    fn from_message(m: MembershipMessage) -> Result<Self, Malformed> {
        let voters = m.voters.into_iter().map(|v| v.raft_ids.into_iter().collect()).collect();
        let mut members = std::collections::BTreeMap::new();
        for m in m.members {
            let member = Member {
                node_id: parse("member's node id", &m.node_id)?,
                addr: parse("member's address", &m.addr)?,
            };
            members.insert(m.raft_id, member);
        }
        Ok(Self::new(voters, members))
    }
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct StoredMembershipMessage {
    #[prost(message, optional, tag = "1")]
    log_id: Option<LogIdMessage>,
    #[prost(message, optional, tag = "2")]
    membership: Option<MembershipMessage>,
}

impl Wire for super::StoredMembership {
    type Message = StoredMembershipMessage;
    const NAME: &'static str = "stored membership";

    fn to_message(&self) -> StoredMembershipMessage {
        StoredMembershipMessage {
            log_id: optional(self.log_id()),
            membership: Some(self.membership().to_message()),
        }
    }

    fn from_message(m: StoredMembershipMessage) -> Result<Self, Malformed> {
        Ok(Self::new(optional_from(m.log_id)?, required(m.membership)?))
    }
}

// ---- entries ----

#[derive(Clone, PartialEq, Message)]
pub(crate) struct EntryMessage {
    #[prost(message, optional, tag = "1")]
    log_id: Option<LogIdMessage>,
    /// None: a new leader's blank entry.
    #[prost(oneof = "PayloadMessage", tags = "2, 3")]
    payload: Option<PayloadMessage>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum PayloadMessage {
    /// `rn.v1.Proposal`.
    #[prost(bytes, tag = "2")]
    Proposal(Vec<u8>),
    #[prost(message, tag = "3")]
    Membership(MembershipMessage),
}

impl Wire for super::Entry {
    type Message = EntryMessage;
    const NAME: &'static str = "log entry";

    fn to_message(&self) -> EntryMessage {
        let payload = match &self.payload {
            EntryPayload::Blank => None,
            EntryPayload::Normal(Encoded(bytes)) => Some(PayloadMessage::Proposal(bytes.clone())),
            EntryPayload::Membership(m) => Some(PayloadMessage::Membership(m.to_message())),
        };
        EntryMessage { log_id: Some(self.log_id.to_message()), payload }
    }

    fn from_message(m: EntryMessage) -> Result<Self, Malformed> {
        let payload = match m.payload {
            None => EntryPayload::Blank,
            Some(PayloadMessage::Proposal(bytes)) => EntryPayload::Normal(Encoded(bytes)),
            Some(PayloadMessage::Membership(m)) => {
                EntryPayload::Membership(super::Membership::from_message(m)?)
            }
        };
        Ok(Self { log_id: required(m.log_id)?, payload })
    }
}

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
}

impl Wire for VoteResponse<u64> {
    type Message = VoteReplyMessage;
    const NAME: &'static str = "vote reply";

    fn to_message(&self) -> VoteReplyMessage {
        VoteReplyMessage {
            vote: Some(self.vote.to_message()),
            granted: self.vote_granted,
            last_log: optional(&self.last_log_id),
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

impl Wire for super::SnapshotMeta {
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
            return Ok(Ok(InstallSnapshotResponse { vote: super::Vote::from_message(vote)? }));
        }
        let segment = |s: Option<SegmentMessage>| {
            let s = s.unwrap_or_default();
            openraft::SnapshotSegmentId { id: s.snapshot, offset: s.offset }
        };
        let mismatch = openraft::error::SnapshotMismatch { expect: segment(m.expected), got: segment(m.got) };
        Ok(Err(InstallSnapshotError::SnapshotMismatch(mismatch)))
    }
}
