//! What fuzz targets, and their small version here, give to the resolver: what containers ask, and what servers answer.

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};

use hickory_proto::op::Message;
use network::services::{Addresses, NetworkTable, ServiceTable};

use super::{
    answer::{self, Answer},
    cache::{Cache, Key},
    upstream,
};

static TABLE: LazyLock<ServiceTable> = LazyLock::new(|| {
    let v4 = (0..40u8).map(|n| [10, 0, 1, n].into()).collect();
    let web = Addresses { v4, v6: vec![std::net::Ipv6Addr::LOCALHOST] };
    let mut app = NetworkTable { name: "app".into(), ..NetworkTable::default() };
    app.names.insert("web".into(), web);
    app.reverse.insert([10, 0, 1, 1].into(), "web.1.id.app".into());
    let networks = "app".parse().map(|id| BTreeMap::from([(id, Arc::new(app))])).unwrap_or_default();
    ServiceTable { networks, published: BTreeMap::new() }
});

/// A datagram from a container.
pub fn query(bytes: &[u8]) {
    let Ok(request) = Message::from_vec(bytes) else { return };
    let reply = match answer::question(&request) {
        Err(code) => answer::reply(&request, code),
        Ok(query) => {
            let networks: Vec<_> = TABLE.networks.keys().cloned().collect();
            match answer::answer(&TABLE, &networks, query, bytes.len()) {
                Answer::Records(data) => answer::records(&request, data),
                Answer::Forward => answer::reply(&request, hickory_proto::op::ResponseCode::ServFail),
            }
        }
    };
    sent(&request, &reply);
}

/// What a server answers to a question that a container has asked.
pub fn answer(bytes: &[u8]) {
    let Ok(found) = Message::from_vec(bytes) else { return };
    let [asked] = found.queries.as_slice() else { return };
    let mut request = Message::query();
    request.add_query(asked.clone());
    if !upstream::answers(&found, found.metadata.id, asked) {
        return;
    }
    let key = Key {
        name: answer::key(asked.name()),
        kind: asked.query_type(),
        class: asked.query_class(),
        servers: Vec::new(),
    };
    let (mut cache, now) = (Cache::new(4), Instant::now());
    cache.put(key.clone(), &found, now);
    let _ = cache.get(&key, now + Duration::from_secs(3));
    sent(&request, &upstream::dressed(&request, found));
}

/// What goes out over UDP is a message, and no longer than asked for.
fn sent(request: &Message, reply: &Message) {
    let limit = request.edns.as_ref().map_or(512, |edns| edns.max_payload().max(512));
    if let Some(bytes) = answer::encode_udp(request, reply) {
        assert!(bytes.len() <= usize::from(limit), "{} bytes where {limit} are taken", bytes.len());
        assert!(Message::from_vec(&bytes).is_ok());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use hickory_proto::{
        op::{Edns, Query},
        rr::{Name, RData, RecordType, rdata},
    };

    use super::*;

    fn asking(name: &str, kind: RecordType) -> Message {
        let mut request = Message::query();
        request.add_query(Query::query(Name::from_str_relaxed(name).unwrap(), kind));
        request
    }

    #[test]
    fn whatever_a_container_asks_is_answered_or_dropped() {
        let mut long = asking("web.app.", RecordType::ANY);
        let mut edns = Edns::new();
        edns.set_max_payload(1232);
        long.set_edns(edns);
        let seeds = [asking("web.", RecordType::A), asking("1.1.0.10.in-addr.arpa.", RecordType::PTR), long];
        smoke::smoke(seeds.map(|m| m.to_vec().unwrap()), 3000, query);
    }

    #[test]
    fn whatever_a_server_answers_is_passed_on_or_dropped() {
        let request = asking("example.com.", RecordType::A);
        let data = (0..60u8).map(|n| RData::A(rdata::A([192, 0, 2, n].into()))).collect();
        smoke::smoke([answer::records(&request, data).to_vec().unwrap()], 3000, answer);
    }
}
