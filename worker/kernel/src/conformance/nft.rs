//! Tables and their elements.

use super::*;

const BODY: &str = "
map pub4 { typeof meta l4proto . th dport : ip daddr . th dport; }
map pub6 { typeof meta l4proto . th dport : ip6 daddr . th dport; }
map slots { typeof ip daddr . numgen random mod 16 : ip daddr; }
map vips { typeof ip daddr : verdict; }
map names { type ifname : verdict; }
map macs { typeof meta mark : ether daddr; }
map zones { typeof ether saddr : ct zone; }
set ports { type inet_service; }
set protos { type inet_proto; }
set quads { type ether_addr . ipv4_addr . mark . ifname; }
chain one { accept; }
chain two { drop; }
chain out {
  type nat hook output priority -100;
  ip daddr vmap @vips
  dnat ip to meta l4proto . th dport map @pub4
}";

fn ruleset(elements: Vec<(String, Vec<Element>)>) -> Ruleset {
    Ruleset { family: Family::Inet, table: "t".into(), body: BODY.into(), elements }
}

fn v4(text: &str) -> Part {
    Part::Ipv4(text.parse().unwrap())
}

pub(super) fn update(changes: Vec<ElementChange>) -> Step {
    Step::UpdateElements { ns: Ns::Host, family: Family::Inet, table: "t".into(), changes }
}

pub(super) fn change(set: &str, del: Vec<Element>, add: Vec<Element>) -> ElementChange {
    ElementChange { set: set.into(), del, add }
}

pub(super) fn goto(vip: &str, chain: &str) -> Element {
    Element::verdict([v4(vip)], Verdict::Goto(chain.into()))
}

#[test]
fn elements_of_every_kind_are_written_and_read() {
    both(|k| {
        let tcp80 = || [Part::Proto(6), Part::Port(8080)];
        let every = vec![
            change("pub4", vec![], vec![Element::map(tcp80(), [v4("10.0.0.5"), Part::Port(80)])]),
            change(
                "pub6",
                vec![],
                vec![Element::map(tcp80(), [Part::Ipv6("fd00::5".parse().unwrap()), Part::Port(80)])],
            ),
            change(
                "slots",
                vec![],
                (0..16).map(|n| Element::map([v4("10.0.0.9"), Part::U32(n)], [v4("10.0.0.5")])).collect(),
            ),
            change(
                "vips",
                vec![],
                vec![goto("10.0.0.9", "one"), Element::verdict([v4("10.0.0.8")], Verdict::Drop)],
            ),
            change(
                "names",
                vec![],
                vec![Element::verdict([Part::IfName("eth0".into())], Verdict::Jump("two".into()))],
            ),
            change("macs", vec![], vec![Element::map([Part::U32(0x0100_000a)], [Part::Mac(mac(1))])]),
            change("ports", vec![], vec![Element::key([Part::Port(80)]), Element::key([Part::Port(443)])]),
            change("zones", vec![], vec![Element::map([Part::Mac(mac(1))], [Part::U16(0x0102)])]),
            change("protos", vec![], vec![Element::key([Part::Proto(17)])]),
            change(
                "quads",
                vec![],
                vec![Element::key([
                    Part::Mac(mac(1)),
                    v4("10.0.0.1"),
                    Part::U32(7),
                    Part::IfName("eth0".into()),
                ])],
            ),
        ];
        k.run(&[Step::ApplyRuleset { ns: Ns::Host, ruleset: ruleset(vec![]) }, update(every.clone())]);
        // nft itself reads them as they were meant. Protocols by number: not every machine has `/etc/protocols`.
        let listed = text("nft", &["-p", "list", "table", "inet", "t"]);
        for line in [
            "6 . 8080 : 10.0.0.5 . 80",
            "6 . 8080 : fd00::5 . 80",
            "10.0.0.9 : goto one",
            "10.0.0.8 : drop",
            "\"eth0\" : jump two",
            "0x0100000a : 02:42:0a:00:00:01",
            "02:42:0a:00:00:01 : 258",
            "elements = { 80, 443 }",
            "elements = { 17 }",
            "02:42:0a:00:00:01 . 10.0.0.1 . 0x00000007 . \"eth0\"",
        ] {
            assert!(listed.contains(line), "{line} is not in {listed}");
        }
        // And what nft wrote is read as it was meant: the same, laid down with the table.
        let initial = every.iter().map(|c| (c.set.clone(), c.add.clone())).collect();
        let before = k.seen();
        k.run(&[Step::ApplyRuleset { ns: Ns::Host, ruleset: ruleset(initial) }]);
        assert_eq!(before.ns(&Ns::Host).unwrap().tables, k.seen().ns(&Ns::Host).unwrap().tables);
        let table = &before.ns(&Ns::Host).unwrap().tables[&(Family::Inet, "t".to_owned())];
        assert_eq!(table.digest, Some(ruleset(vec![]).digest()));
        assert_eq!(table.chains, ["one", "two", "out"].map(String::from).into());
        assert_eq!(table.base_chains[0].name, "out");
        k.run(&[Step::DeleteTable { ns: Ns::Host, family: Family::Inet, table: "t".into() }]);
    });
}

/// A table of our name with other chains and sets, as an earlier version of the daemon left it.
#[test]
fn a_table_of_an_earlier_version_gives_way_to_the_present_one() {
    both(|k| {
        let now = ruleset(vec![("vips".to_owned(), vec![goto("10.0.0.1", "one")])]);
        let earlier = Ruleset {
            body: now.body.replace("chain one", "chain first").replace("vips", "addresses"),
            elements: vec![("addresses".to_owned(), vec![goto("10.0.0.9", "first")])],
            ..now.clone()
        };
        k.run(&[Step::ApplyRuleset { ns: Ns::Host, ruleset: earlier.clone() }]);
        let table = || k.seen().ns(&Ns::Host).unwrap().tables[&(Family::Inet, "t".to_owned())].clone();
        assert_eq!(table().digest, Some(earlier.digest()));
        k.run(&[Step::ApplyRuleset { ns: Ns::Host, ruleset: now.clone() }]);
        let seen = table();
        assert_eq!(seen.digest, Some(now.digest()));
        assert_eq!(seen.chains, ["one", "two", "out"].map(String::from).into());
        assert!(!seen.elements.unwrap_or_default().contains_key("addresses"));
        k.run(&[Step::DeleteTable { ns: Ns::Host, family: Family::Inet, table: "t".into() }]);
    });
}

#[test]
fn a_change_of_elements_says_the_outcome() {
    both(|k| {
        let start = vec![("vips".to_owned(), vec![goto("10.0.0.1", "one"), goto("10.0.0.2", "one")])];
        k.run(&[Step::ApplyRuleset { ns: Ns::Host, ruleset: ruleset(start) }]);
        k.run(&[
            // Another value for a key that is there, a key that is not there to delete, both at once.
            update(vec![change("vips", vec![], vec![goto("10.0.0.1", "two")])]),
            update(vec![change(
                "vips",
                vec![goto("10.0.0.7", "one"), goto("10.0.0.2", "two")],
                vec![goto("10.0.0.3", "one")],
            )]),
            update(vec![
                change("vips", vec![goto("10.0.0.3", "one")], vec![goto("10.0.0.3", "two")]),
                change("ports", vec![Element::key([Part::Port(1)])], vec![Element::key([Part::Port(2)])]),
            ]),
        ]);
        // Nothing of a change that is refused is made.
        let before = k.seen();
        let half = vec![
            change("vips", vec![], vec![goto("10.0.0.4", "one")]),
            change("nowhere", vec![], vec![goto("10.0.0.4", "one")]),
        ];
        k.refused(&update(half));
        let wrong =
            vec![change("vips", vec![], vec![goto("10.0.0.4", "one"), goto("10.0.0.5", "no-such-chain")])];
        k.linux.execute(&update(wrong)).unwrap_err();
        let unknown = Step::UpdateElements {
            ns: Ns::Host,
            family: Family::Ip,
            table: "u".into(),
            changes: vec![change("vips", vec![], vec![goto("10.0.0.4", "one")])],
        };
        assert!(k.refused(&unknown).is_missing());
        assert_eq!(before, k.seen());
    });
}

#[test]
fn thousands_of_elements_go_in_one_transaction() {
    both(|k| {
        let many: Vec<Element> = (0..20_000u32)
            .map(|n| {
                Element::map([Part::Ipv4((0x0a00_0000 + n).into()), Part::U32(n % 16)], [v4("10.0.0.5")])
            })
            .collect();
        k.run(&[
            Step::ApplyRuleset { ns: Ns::Host, ruleset: ruleset(vec![]) },
            update(vec![change("slots", vec![], many.clone())]),
        ]);
        let wrong: Vec<Element> = many.iter().take(5000).cloned().chain([goto("10.0.0.1", "one")]).collect();
        k.linux.execute(&update(vec![change("slots", wrong, vec![])])).unwrap_err();
        k.compare();
        k.run(&[update(vec![change("slots", many, vec![])])]);
    });
}

#[test]
fn a_broken_ruleset_changes_nothing_and_says_why() {
    both(|k| {
        k.run(&[Step::ApplyRuleset { ns: Ns::Host, ruleset: ruleset(vec![]) }]);
        let broken = Ruleset { body: "chain c { nonsense }".into(), ..ruleset(vec![]) };
        let e = k.linux.execute(&Step::ApplyRuleset { ns: Ns::Host, ruleset: broken }).unwrap_err();
        assert!(e.to_string().starts_with("nft -f - # table inet t"), "{e}");
        assert!(matches!(&e.cause, Cause::Nft(said) if said.contains("nonsense")), "{e}");
        k.compare();
    });
}

#[test]
fn tables_of_others_are_seen_and_left_alone() {
    both(|k| {
        let script = "table inet rn-user {\nchain RN-USER {\ntype filter hook forward priority -1; policy drop;\n}\n}\n";
        k.run(&[Step::RunNft { ns: Ns::Host, script: script.into() }]);
        let seen = k.seen();
        let table = &seen.ns(&Ns::Host).unwrap().tables[&(Family::Inet, "rn-user".to_owned())];
        assert_eq!(table.digest, None);
        let base = &table.base_chains[0];
        assert_eq!((base.name.as_str(), base.hook, base.priority, base.drops), ("RN-USER", 2, -1, true));
    });
}

/// A table laid down a second time does not come from `nft`: it must be the same all the same.
#[test]
fn a_table_laid_down_from_its_template_is_the_same() {
    both(|k| {
        let (a, b) = (k.sandbox("a"), k.sandbox("b"));
        let anonymous = "
map verdicts { typeof meta l4proto . th dport : verdict; }
chain jumped { counter accept; }
chain c {
  type filter hook prerouting priority mangle; policy drop;
  iifname \"eth0\" ct state new,established ct mark set @ll,64,32
  ip saddr { 127.0.0.0/8, 10.0.0.1, 10.1.0.0-10.2.0.5 } meta l4proto { tcp, udp } jump jumped
  tcp dport vmap { 80 : accept, 81-90 : jump jumped, 443 : drop }
  ip daddr . tcp dport { 10.0.0.1 . 80, 10.0.0.2 . 81-90 } accept
  meta l4proto . th dport vmap @verdicts
  tcp flags & (fin | syn | rst | ack) != syn limit rate 5/second reject with tcp reset
}
chain mangling { type filter hook forward priority mangle; tcp flags syn tcp option maxseg size set rt mtu; }
chain translated {
  type nat hook postrouting priority srcnat;
  fib saddr type local masquerade
  ip saddr 10.9.0.0/16 snat ip to 10.0.0.1
  jhash ip saddr mod 4 0 ip saddr 10.0.0.0/8 masquerade
}";
        let start = vec![(
            "verdicts".to_owned(),
            vec![Element::verdict([Part::Proto(6), Part::Port(9)], Verdict::Drop)],
        )];
        let anonymous = Ruleset { elements: start, body: anonymous.into(), ..ruleset(vec![]) };
        for ruleset in [ruleset(vec![]), anonymous] {
            let lay = |ns: &Ns| Step::ApplyRuleset { ns: ns.clone(), ruleset: ruleset.clone() };
            k.linux.execute(&lay(&a)).unwrap();
            let nft = |ns: &Ns| {
                let family = ruleset.family.to_string();
                netns::in_ns(ns, || text("nft", &["-n", "-n", "list", "table", &family, &ruleset.table]))
                    .unwrap()
            };
            let first = nft(&a);
            // From here on without the program.
            for _ in 0..3 {
                let open = k.linux.namespace(&b).unwrap();
                let template = k.linux.template(&ruleset).expect("the table was read back");
                template.lay(&open, &ruleset).unwrap();
                assert_eq!(first, nft(&b));
            }
            k.linux.execute(&lay(&b)).unwrap();
            assert_eq!(first, nft(&b));
        }
    });
}

#[test]
fn chains_of_others_are_opened_for_marked_links_and_closed_again() {
    both(|k| {
        let scripts = [
            "table ip filter {\nchain FORWARD {\ntype filter hook forward priority 0; policy drop;\n}\n}\n",
            "table inet other {\nchain last {\ntype filter hook forward priority 10;\n\
             ct state established accept\nlog counter drop\n}\n}\n",
        ];
        k.run(&scripts.map(|script| Step::RunNft { ns: Ns::Host, script: script.into() }));
        let list = |family, table| text("nft", &["-n", "list", "table", family, table]);
        let before = [list("ip", "filter"), list("inet", "other")];
        let places = [(Family::Ip, "filter", "FORWARD"), (Family::Inet, "other", "last")];
        let opened = |mark: &str| {
            let seen = k.linux.observe(&k.scope()).unwrap();
            places.map(|(family, table, _)| {
                let chain = &seen.ns(&Ns::Host).unwrap().tables[&(family, table.to_owned())].base_chains[0];
                (chain.drops, chain.marks.get(mark).copied().unwrap_or_default())
            })
        };
        assert_eq!(opened("rn:d1:forward"), [(true, 0); 2]);
        for mark in ["rn:d1:forward", "rn:d2:forward"] {
            for (family, table, chain) in places {
                let (table, chain, mark) = (table.into(), chain.into(), mark.into());
                let links = vec!["rn_gwbridge".into(), "rn-ingress".into()];
                k.linux
                    .execute(&Step::OpenChain { ns: Ns::Host, family, table, chain, links, mark })
                    .unwrap();
            }
        }
        assert_eq!(opened("rn:d1:forward"), [(true, 4); 2]);
        assert_ne!(before, [list("ip", "filter"), list("inet", "other")]);
        for (mark, left) in [("rn:d1:forward", 4), ("rn:d2:forward", 0)] {
            for (family, table, chain) in places {
                let (table, chain, mark) = (table.into(), chain.into(), mark.into());
                k.linux.execute(&Step::CloseChain { ns: Ns::Host, family, table, chain, mark }).unwrap();
            }
            assert_eq!(opened("rn:d2:forward"), [(true, left); 2]);
        }
        assert_eq!(before, [list("ip", "filter"), list("inet", "other")]);
    });
}
