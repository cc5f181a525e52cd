#![allow(clippy::unwrap_used, clippy::expect_used)]
use std::sync::atomic::{AtomicUsize, Ordering};

use hickory_proto::rr::{RData, Record, RecordType, rdata};

use super::*;

/// A server on loopback, UDP and TCP on one port, that answers by `f` and counts what it was asked.
async fn server(
    f: impl Fn(&Message, bool) -> Vec<Message> + Send + Sync + 'static,
) -> (SocketAddr, Arc<AtomicUsize>) {
    let (udp, tcp) = loop {
        let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        if let Ok(tcp) = tokio::net::TcpListener::bind(udp.local_addr().unwrap()).await {
            break (udp, tcp);
        }
    };
    let addr = udp.local_addr().unwrap();
    let (count, f) = (Arc::new(AtomicUsize::new(0)), Arc::new(f));
    let (counted, answers) = (count.clone(), f.clone());
    tokio::spawn(async move {
        let mut buffer = [0; 4096];
        loop {
            let (n, peer) = udp.recv_from(&mut buffer).await.unwrap();
            counted.fetch_add(1, Ordering::SeqCst);
            for reply in answers(&Message::from_vec(&buffer[..n]).unwrap(), false) {
                udp.send_to(&reply.to_vec().unwrap(), peer).await.unwrap();
            }
        }
    });
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = tcp.accept().await.unwrap();
            let n = stream.read_u16().await.unwrap();
            let mut buffer = vec![0; n.into()];
            stream.read_exact(&mut buffer).await.unwrap();
            for reply in f(&Message::from_vec(&buffer).unwrap(), true) {
                let bytes = reply.to_vec().unwrap();
                stream.write_u16(u16::try_from(bytes.len()).unwrap()).await.unwrap();
                stream.write_all(&bytes).await.unwrap();
            }
        }
    });
    (addr, count)
}

fn address(request: &Message, last: u8) -> Message {
    let mut reply = answer::reply(request, ResponseCode::NoError);
    let name = request.queries[0].name().clone();
    reply.add_answer(Record::from_rdata(name, 60, RData::A(rdata::A::new(192, 0, 2, last))));
    reply
}

fn request(name: &str) -> Message {
    let mut message = Message::query();
    message.metadata.id = 7;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), RecordType::A));
    message
}

fn forwarder() -> Arc<Forwarder> {
    Arc::new(Forwarder::new(UpstreamConfig {
        timeout: Duration::from_millis(500),
        ..UpstreamConfig::default()
    }))
}

fn first(reply: &Message) -> String {
    reply.answers.first().map_or_else(|| reply.metadata.response_code.to_string(), |r| r.data.to_string())
}

#[tokio::test]
async fn the_next_server_is_asked_when_one_cannot() {
    let (bad, _) = server(|r, _| vec![answer::reply(r, ResponseCode::ServFail)]).await;
    let (silent, _) = server(|_, _| vec![]).await;
    let (good, asked) = server(|r, _| vec![address(r, 1)]).await;
    let reply = forwarder().ask(&Client::default(), &[bad, silent, good], &request("example.com.")).await;
    assert_eq!((first(&reply), reply.metadata.id), ("192.0.2.1".into(), 7));
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    let reply = forwarder().ask(&Client::default(), &[bad, silent], &request("example.com.")).await;
    assert_eq!(reply.metadata.response_code, ResponseCode::ServFail);
}

#[tokio::test]
async fn equal_questions_travel_once_and_answers_are_kept() {
    let (addr, asked) = server(|r, _| vec![address(r, 2)]).await;
    let (forwarder, client, request) = (forwarder(), Client::default(), request("example.com."));
    let servers = [addr];
    let asks = (0..20).map(|_| forwarder.ask(&client, &servers, &request));
    let replies = futures::future::join_all(asks).await;
    assert!(replies.iter().all(|r| first(r) == "192.0.2.2"));
    assert_eq!(first(&forwarder.ask(&client, &[addr], &request).await), "192.0.2.2");
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn forged_answers_are_passed_over() {
    let (addr, _) = server(|r, _| {
        let mut wrong_id = address(r, 66);
        wrong_id.metadata.id = r.metadata.id.wrapping_add(1);
        let mut wrong_name = address(r, 66);
        wrong_name.queries[0].set_name(Name::from_ascii("other.example.").unwrap());
        vec![wrong_id, wrong_name, address(r, 3)]
    })
    .await;
    let reply = forwarder().ask(&Client::default(), &[addr], &request("example.com.")).await;
    assert_eq!(first(&reply), "192.0.2.3");
}

#[tokio::test]
async fn a_cut_answer_is_fetched_over_tcp() {
    let (addr, _) = server(|r, tcp| {
        let mut reply = address(r, if tcp { 4 } else { 66 });
        reply.metadata.truncation = !tcp;
        vec![reply]
    })
    .await;
    let reply = forwarder().ask(&Client::default(), &[addr], &request("example.com.")).await;
    assert_eq!(first(&reply), "192.0.2.4");
}

#[tokio::test]
async fn an_upstream_nxdomain_is_passed_on() {
    let (addr, _) = server(|r, _| vec![answer::reply(r, ResponseCode::NXDomain)]).await;
    let reply = forwarder().ask(&Client::default(), &[addr], &request("nobody.")).await;
    assert_eq!(reply.metadata.response_code, ResponseCode::NXDomain);
}

#[test]
fn resolv_conf_is_read_as_the_resolver_does() {
    let text =
        "# c\nsearch a\nnameserver 127.0.0.11\nnameserver 10.0.0.1\nnameserver fe80::1%eth0\nnameserver x\n";
    assert_eq!(name_servers(text), ["10.0.0.1:53".parse().unwrap(), "[fe80::1]:53".parse().unwrap()]);
}
