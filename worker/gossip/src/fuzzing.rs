//! What fuzz targets, and their small version here, give to the gossip: what strangers send, and what members do whose key is good
//! and whose intentions are not.

use std::time::Instant;

use proto::model::{KeySubsystem, NetworkKey};

use super::{
    keyring::KeyRing,
    notice, record,
    record::{EndpointRecord, NodeFact},
    sealed::{self, DatagramOpener},
};

/// A datagram of anybody.
pub fn datagram(bytes: &[u8]) {
    let key = NetworkKey { subsystem: KeySubsystem::Gossip, lamport: 1, key: vec![7; 16] };
    let Ok(me) = "me".parse() else { return };
    let _ = DatagramOpener::new(me).open(&KeyRing::new(&[key]), &mut bytes.to_vec(), Instant::now());
}

/// What members' datagrams have inside, one after the other; each begins with its length, two bytes.
pub fn pieces(mut bytes: &[u8]) {
    let mut pieces = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes(*length)).min(rest.len());
        let (piece, rest) = rest.split_at(length);
        pieces.push(piece);
        bytes = rest;
    }
    sealed::assemble_all(&pieces);
}

/// A member's message.
pub fn message(bytes: &[u8]) {
    if let Ok(message) = serde_json::from_slice::<notice::Message>(bytes) {
        let text = serde_json::to_vec(&message).unwrap_or_default();
        assert_eq!(serde_json::from_slice::<notice::Message>(&text).ok(), Some(message));
    }
}

/// A member's record.
pub fn record(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let _ = record::task_of_key(text);
    let _ = record::decode::<NodeFact>("node", text);
    if let Ok(endpoint) = record::decode::<EndpointRecord>("ep/t", text) {
        assert_eq!(record::decode("ep/t", &record::encode(&endpoint)).ok(), Some(endpoint));
    }
}

/// A member's chitchat message.
pub fn chitchat(bytes: &[u8]) {
    super::codec::decode_one(bytes);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn what_strangers_send_is_dropped() {
        let key = NetworkKey { subsystem: KeySubsystem::Gossip, lamport: 1, key: vec![7; 16] };
        let mut sealer = sealed::Sealer::new("you".parse().unwrap(), 1);
        let sealed =
            sealer.seal(&KeyRing::new(&[key]), &sealed::Channel::DirectMessage, b"{\"k\":\"ack\",\"id\":1}");
        smoke::smoke(sealed, 3000, datagram);
    }

    #[test]
    fn what_members_send_is_read_or_dropped() {
        let piece = |index: u8, count: u8| [&[0, 11, 2, 0, 0, 0, 0, 9, index, count][..], b"abc"].concat();
        smoke::smoke([[piece(0, 2), piece(1, 2)].concat(), piece(0, 1), piece(63, 64)], 3000, pieces);
        let fact = r#"{"node":"a","vtep":"10.0.0.1","gossip_addr":"10.0.0.1:7946","gen":5,"networks":["n"]}"#;
        let endpoint =
            r#"{"network":"n","task":"t1","node":"a","service":"s","name":"web.1.t1","addrs":["10.0.1.5"]}"#;
        let change = format!(r#"{{"task":"t1","seq":4,"record":{endpoint}}}"#);
        let notice = format!(r#"{{"k":"notice","id":3,"fact":{fact},"network":"n","changes":[{change}]}}"#);
        smoke::smoke([notice.as_str(), r#"{"k":"ack","id":1}"#], 3000, message);
        smoke::smoke([fact, endpoint], 3000, record);
    }
}
