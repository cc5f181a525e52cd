#![allow(clippy::unwrap_used, clippy::expect_used)]
use super::*;
use crate::{
    fixture::{World, id},
    gossip::EndpointState,
};

fn table() -> ServiceTable {
    let mut w = World::new();
    w.service("web", &["10.0.1.2", "fd00:2::2"], 8080, &["www"]);
    w.service("db", &[], 0, &[]);
    w.task("web", 1, "a", 11, EndpointState::Ready);
    w.task("web", 2, "b", 12, EndpointState::Ready);
    w.task("db", 1, "c", 21, EndpointState::Starting);
    ServiceTable::compute(&w.assigned, &w.view, &w.local.me)
}

fn ask(name: &str, kind: RecordType) -> Answer {
    let name = Name::from_str_relaxed(name).unwrap();
    answer(&table(), &[id("app")], &Query::query(name, kind), 0)
}

fn texts(answer: Answer) -> Vec<String> {
    match answer {
        Answer::Records(records) => records.iter().map(ToString::to_string).collect(),
        Answer::Forward => vec!["forward".into()],
    }
}

#[test]
fn both_families_pointers_and_absences() {
    for (name, kind, want) in [
        ("web.", RecordType::A, vec!["10.0.1.2"]),
        ("WeB.", RecordType::A, vec!["10.0.1.2"]),
        ("web", RecordType::AAAA, vec!["fd00:2::2"]),
        ("www.app.", RecordType::A, vec!["10.0.1.2"]),
        ("tasks.web.", RecordType::A, vec!["10.0.1.11", "10.0.1.12"]),
        // Known, but nothing of this type, or nobody ready: NODATA, never forwarded, never NXDOMAIN.
        ("web.", RecordType::MX, vec![]),
        ("web.", RecordType::SRV, vec![]),
        ("tasks.db.", RecordType::A, vec![]),
        ("db.", RecordType::AAAA, vec![]),
        ("nobody.", RecordType::A, vec!["forward"]),
        ("example.com.", RecordType::A, vec!["forward"]),
        ("2.1.0.10.in-addr.arpa.", RecordType::PTR, vec!["web.app."]),
        ("11.1.0.10.in-addr.arpa.", RecordType::PTR, vec!["web.1.web1.app."]),
        ("1.0.10.in-addr.arpa.", RecordType::PTR, vec!["forward"]),
        ("8.8.8.8.in-addr.arpa.", RecordType::PTR, vec!["forward"]),
        (
            "2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.2.0.0.0.0.0.d.f.ip6.arpa.",
            RecordType::PTR,
            vec!["web.app."],
        ),
    ] {
        assert_eq!(texts(ask(name, kind)), want, "{name} {kind}");
    }
}

#[test]
fn lists_begin_elsewhere_each_time() {
    let query = Query::query(Name::from_ascii("tasks.web.").unwrap(), RecordType::A);
    let firsts: Vec<String> =
        (0..4).map(|turn| texts(answer(&table(), &[id("app")], &query, turn)).remove(0)).collect();
    assert_eq!(firsts, ["10.0.1.11", "10.0.1.12", "10.0.1.11", "10.0.1.12"]);
}

#[test]
fn a_long_answer_is_cut_with_tc() {
    let mut request = Message::query();
    request.add_query(Query::query(Name::from_ascii("tasks.many.").unwrap(), RecordType::A));
    let data: Vec<RData> = (0..100).map(|n| RData::A(rdata::A::new(10, 0, 1, n))).collect();
    let reply = records(&request, data);
    let bytes = encode_udp(&request, &reply).unwrap();
    assert!(bytes.len() <= 512, "{}", bytes.len());
    assert!(Message::from_vec(&bytes).unwrap().metadata.truncation);

    let mut edns = hickory_proto::op::Edns::new();
    edns.set_max_payload(4096);
    request.set_edns(edns);
    let whole = Message::from_vec(&encode_udp(&request, &reply).unwrap()).unwrap();
    assert!(!whole.metadata.truncation);
    assert_eq!(whole.answers.len(), 100);
}
