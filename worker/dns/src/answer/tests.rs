#![allow(clippy::unwrap_used, clippy::expect_used)]
use gossip::EndpointState;
use network::fixture::{World, id};

use super::*;

fn table() -> ServiceTable {
    let mut w = World::new();
    w.service("web", &["10.0.1.2", "fd00:2::2"], 8080, &["www"]);
    w.service("db", &[], 0, &[]);
    w.task("web", 1, "a", 11, EndpointState::Ready);
    w.task("web", 2, "b", 12, EndpointState::Ready);
    w.task("db", 1, "c", 21, EndpointState::Starting);
    ServiceTable::compute(&w.assigned, &w.view, &w.member.me)
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

fn sized(payload: Option<u16>) -> Message {
    let mut request = Message::query();
    request.add_query(Query::query(Name::from_ascii("tasks.many.").unwrap(), RecordType::A));
    if let Some(payload) = payload {
        let mut edns = hickory_proto::op::Edns::new();
        edns.set_max_payload(payload);
        request.set_edns(edns);
    }
    request
}

#[test]
fn a_long_answer_carries_as_many_records_as_fit_and_says_that_there_are_more() {
    let data: Vec<RData> =
        (0..300).map(|n| RData::A(rdata::A::new(10, 0, (n / 100) as u8, n as u8))).collect();
    // Header and question are 12 + 16 bytes, each record 16, the client's OPT record is answered by one of 11.
    let records_in = |room: usize| (room - 12 - 16) / 16;
    for (payload, limit, opt) in [
        (None, 512, 0),
        (Some(100), 512, 11),
        (Some(1232), 1232, 11),
        (Some(4096), 4096, 11),
        (Some(65_535), 4096, 11),
    ] {
        let request = sized(payload);
        let reply = records(&request, data.clone());
        let bytes = encode_udp(&request, &reply).unwrap();
        let got = Message::from_vec(&bytes).unwrap();
        assert!(bytes.len() <= limit && got.metadata.truncation, "{payload:?}: {}", bytes.len());
        // In longer messages hickory-proto writes later names in full, so that fewer records find room.
        if limit <= 1232 {
            assert_eq!(got.answers.len(), records_in(limit - opt), "{payload:?}");
            let length = 12 + 16 + 16 * got.answers.len() + opt;
            assert_eq!(bytes.len(), length, "{payload:?}: nothing after the last");
        } else {
            assert!(
                got.answers.len() > 150 && bytes.len() + 40 > limit,
                "{payload:?}: {}",
                got.answers.len()
            );
        }
        assert!(got.answers.iter().zip(&data).all(|(record, data)| record.data == *data), "{payload:?}");
        assert_eq!(got.edns.map(|e| e.max_payload()), payload.map(|_| DATAGRAM), "{payload:?}");
        // The same over TCP, whole.
        let got = Message::from_vec(&encode_tcp(&request, &reply).unwrap()).unwrap();
        assert!(got.answers.len() == 300 && !got.metadata.truncation);
    }
    let short = records(&sized(None), data[..30].to_vec());
    let got = Message::from_vec(&encode_udp(&sized(None), &short).unwrap()).unwrap();
    assert!(got.answers.len() == 30 && !got.metadata.truncation);
    // More than any message holds.
    let endless: Vec<RData> = (0..5000u32).map(|n| RData::A(rdata::A(n.into()))).collect();
    let got = encode_tcp(&sized(None), &records(&sized(None), endless)).unwrap();
    assert!(Message::from_vec(&got).unwrap().metadata.truncation && got.len() > 65_000);
}

#[test]
fn a_later_version_of_edns_is_answered_with_ours() {
    let mut request = sized(Some(1232));
    request.edns.as_mut().unwrap().set_version(1);
    let code = question(&request).unwrap_err();
    assert_eq!(code, ResponseCode::BADVERS);
    let got = Message::from_vec(&encode_udp(&request, &reply(&request, code)).unwrap()).unwrap();
    // The number is that of BADSIG too, which is how it is read back.
    assert_eq!((got.edns.unwrap().version(), u16::from(got.metadata.response_code)), (0, 16));
}
