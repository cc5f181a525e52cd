//! The bytes of raft: log entries on disk, votes, and the bodies of peer messages. Append-only, as the `.proto` files; held
//! by frozen fixtures. Hand-written prost messages, because nobody but raft reads them.

#[cfg(any(test, fuzzing))]
mod fuzzing;
mod message;

use openraft::{CommittedLeaderId, EntryPayload, LeaderId};
use prost::Message;

#[cfg(test)]
pub(crate) use self::fuzzing::one_of_each;
#[cfg(any(test, fuzzing))]
pub(crate) use self::fuzzing::read_any;
pub(crate) use self::message::{Ballot, Knows, Opinion, SnapshotReply};
use super::{Encoded, Member};

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
