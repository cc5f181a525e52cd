//! Answers from the service table; pure.

use std::net::IpAddr;

use hickory_proto::{
    op::{Message, MessageType, OpCode, Query, ResponseCode},
    rr::{DNSClass, Name, RData, Record, RecordType, rdata},
    serialize::binary::{BinEncodable, BinEncoder},
};
use network::services::ServiceTable;
use proto::model::NetworkId;

use super::TTL;

/// What to do with a question.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// These records; none of them for a name that is known and has nothing of this type (NODATA, RFC 2308 section 2.2).
    Records(Vec<RData>),
    /// Not ours: ask the upstream servers.
    Forward,
}

/// Answers a question of someone on `networks`. `turn` picks where lists of addresses begin, so that answers differ.
pub fn answer(table: &ServiceTable, networks: &[NetworkId], query: &Query, turn: usize) -> Answer {
    if query.query_class() != DNSClass::IN {
        return Answer::Forward;
    }
    if query.query_type() == RecordType::PTR {
        return pointer(table, networks, query.name());
    }
    let Some(addrs) = table.resolve(networks, &key(query.name())) else { return Answer::Forward };
    Answer::Records(match query.query_type() {
        RecordType::A => turned(&addrs.v4, turn, |a| RData::A(rdata::A(a))),
        RecordType::AAAA => turned(&addrs.v6, turn, |a| RData::AAAA(rdata::AAAA(a))),
        RecordType::ANY => {
            let mut all = turned(&addrs.v4, turn, |a| RData::A(rdata::A(a)));
            all.extend(turned(&addrs.v6, turn, |a| RData::AAAA(rdata::AAAA(a))));
            all
        }
        _ => Vec::new(),
    })
}

fn turned<T: Copy>(addrs: &[T], turn: usize, wrap: impl Fn(T) -> RData) -> Vec<RData> {
    if addrs.is_empty() {
        return Vec::new();
    }
    let (tail, head) = addrs.split_at(turn % addrs.len());
    head.iter().chain(tail).map(|a| wrap(*a)).collect()
}

fn pointer(table: &ServiceTable, networks: &[NetworkId], name: &Name) -> Answer {
    let Ok(net) = name.parse_arpa_name() else { return Answer::Forward };
    let whole = net.prefix_len() == net.max_prefix_len();
    let addr: IpAddr = net.addr();
    match table.reverse(networks, addr).filter(|_| whole).map(Name::from_str_relaxed) {
        Some(Ok(mut target)) => {
            target.set_fqdn(true);
            Answer::Records(vec![RData::PTR(rdata::PTR(target))])
        }
        _ => Answer::Forward,
    }
}

/// A name as the table's keys are written: lower case, no dot at the end.
pub fn key(name: &Name) -> String {
    let mut text = String::with_capacity(name.len());
    for label in name {
        if !text.is_empty() {
            text.push('.');
        }
        text.extend(label.iter().map(|b| char::from(b.to_ascii_lowercase())));
    }
    text
}

/// The frame of a reply to `request`.
pub fn reply(request: &Message, code: ResponseCode) -> Message {
    let mut reply = Message::response(request.metadata.id, request.metadata.op_code);
    reply.metadata.message_type = MessageType::Response;
    reply.metadata.recursion_desired = request.metadata.recursion_desired;
    reply.metadata.recursion_available = true;
    reply.metadata.response_code = code;
    reply.queries.clone_from(&request.queries);
    reply
}

/// The reply that carries these records.
pub fn records(request: &Message, data: Vec<RData>) -> Message {
    let mut reply = reply(request, ResponseCode::NoError);
    reply.metadata.authoritative = false;
    if let Some(query) = request.queries.first() {
        for item in data {
            reply.add_answer(Record::from_rdata(query.name().clone(), TTL, item));
        }
    }
    reply
}

/// The one question of a request that can be answered at all.
pub fn question(request: &Message) -> Result<&Query, ResponseCode> {
    if request.metadata.message_type != MessageType::Query {
        return Err(ResponseCode::FormErr);
    }
    if request.metadata.op_code != OpCode::Query {
        return Err(ResponseCode::NotImp);
    }
    if request.edns.as_ref().is_some_and(|edns| edns.version() > 0) {
        return Err(ResponseCode::BADVERS);
    }
    match request.queries.as_slice() {
        [query] => Ok(query),
        _ => Err(ResponseCode::FormErr),
    }
}

/// Largest datagram that is sent or taken, whatever a client says it takes: it never leaves the machine (RFC 6891 section 6.2.5).
pub const DATAGRAM: u16 = 4096;
/// What a client takes that does not say (RFC 1035 section 4.2.1).
const PLAIN_DATAGRAM: u16 = 512;
/// Length of an OPT record without options, and its type (RFC 6891 section 6.1.2).
const OPT_LENGTH: u16 = 11;
const OPT_TYPE: [u8; 2] = [0, 41];

/// Bytes of a reply over UDP: with as many records as the client takes, and TC set when that is not all of them.
pub fn encode_udp(request: &Message, reply: &Message) -> Option<Vec<u8>> {
    let asked = request.edns.as_ref().map_or(PLAIN_DATAGRAM, |edns| edns.max_payload());
    encode(request, reply, asked.clamp(PLAIN_DATAGRAM, DATAGRAM))
}

/// Bytes of a reply over TCP, which has room for all that a message can hold.
pub fn encode_tcp(request: &Message, reply: &Message) -> Option<Vec<u8>> {
    encode(request, reply, u16::MAX)
}

fn encode(request: &Message, reply: &Message, limit: u16) -> Option<Vec<u8>> {
    let edns = request.edns.is_some();
    let mut bytes = Vec::with_capacity(PLAIN_DATAGRAM.into());
    // Records that find no room are left out, whole, and TC says so; ours among them would be the OPT record, which is added after.
    let mut encoder = BinEncoder::new(&mut bytes);
    encoder.set_max_size(if edns { limit - OPT_LENGTH } else { limit });
    reply.emit(&mut encoder).ok()?;
    // What a record left that found no room.
    encoder.trim();
    if edns {
        bytes.push(0);
        bytes.extend_from_slice(&OPT_TYPE);
        bytes.extend_from_slice(&DATAGRAM.to_be_bytes());
        // The upper bits of the response code, our version of EDNS, no flags, no options.
        bytes.extend_from_slice(&[reply.metadata.response_code.high(), 0, 0, 0, 0, 0]);
        let additional = bytes.get_mut(10..12)?;
        let count = u16::from_be_bytes(additional.try_into().ok()?);
        additional.copy_from_slice(&count.checked_add(1)?.to_be_bytes());
    }
    Some(bytes)
}

#[cfg(test)]
mod tests;
