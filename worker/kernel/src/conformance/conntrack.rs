//! Connections.

use super::*;

#[test]
fn connections_are_forgotten_by_what_they_are() {
    both(|k| {
        let (a, b) = (k.sandbox("a"), k.sandbox("b"));
        k.run(&[
            veth(&a, "eth0", &b, "eth0", 10),
            addr(&a, "eth0", "10.0.0.1/24"),
            addr(&b, "eth0", "10.0.0.2/24"),
            addr(&a, "eth0", "fd00::1/64"),
            addr(&b, "eth0", "fd00::2/64"),
            up(&a, "eth0"),
            up(&b, "eth0"),
            Step::RunNft {
                ns: a.clone(),
                // Some are in a zone, as what comes through the mesh is.
                script: "table inet tracked {
                    chain zones { type filter hook output priority raw; udp dport 53 ct original zone set 7; }
                    chain c { type filter hook output priority 0; ct state new accept; }
                }\n"
                .into(),
            },
        ]);
        let send = || {
            netns::in_ns(&a, || {
                for (to, from) in [
                    ("10.0.0.2:53", "0.0.0.0:0"),
                    ("10.0.0.2:54", "0.0.0.0:0"),
                    ("[fd00::2]:53", "[::]:0"),
                    ("[fd00::3]:53", "[::]:0"),
                ] {
                    std::net::UdpSocket::bind(from).unwrap().send_to(b"x", to).unwrap();
                }
            })
            .unwrap();
        };
        // /proc/net/nf_conntrack need not exist; the tool asks by netlink.
        let count = |what: &[&str]| {
            let args = [&["-L"], what].concat();
            netns::in_ns(&a, || text("conntrack", &args).lines().filter(|l| l.contains("udp")).count())
                .unwrap()
        };
        let all = || count(&["-f", "ipv4"]) + count(&["-f", "ipv6"]);
        let v4 = ConntrackFilter::family(IpFamily::V4);
        let dst = Some("10.0.0.2".parse().unwrap());
        let cases = [
            (ConntrackFilter { proto: Some(17), orig_dst: dst, orig_dport: Some(53), ..v4 }, 3),
            (ConntrackFilter { proto: Some(17), orig_dst: dst, orig_dport: Some(55), ..v4 }, 4),
            (ConntrackFilter { proto: Some(6), orig_dst: dst, ..v4 }, 4),
            (ConntrackFilter { reply_src: dst, ..v4 }, 2),
            (ConntrackFilter { proto: Some(17), reply_src: dst, reply_sport: Some(54), ..v4 }, 3),
            (v4, 2),
            (ConntrackFilter { proto: Some(17), reply_src: dst, ..v4 }, 2),
            (
                ConntrackFilter {
                    orig_dst: Some("fd00::2".parse().unwrap()),
                    ..ConntrackFilter::family(IpFamily::V6)
                },
                3,
            ),
            (ConntrackFilter::family(IpFamily::V6), 2),
            (ConntrackFilter { proto: Some(17), reply_src: dst, unanswered: true, ..v4 }, 2),
        ];
        for (filter, left) in cases {
            k.run(&[Step::FlushConntrack { ns: a.clone(), filter: v4 }]);
            k.run(&[Step::FlushConntrack { ns: a.clone(), filter: ConntrackFilter::family(IpFamily::V6) }]);
            assert_eq!(all(), 0);
            send();
            assert_eq!(all(), 4);
            k.linux.execute(&Step::FlushConntrack { ns: a.clone(), filter }).unwrap();
            assert_eq!(all(), left, "{filter}");
        }
    });
}
