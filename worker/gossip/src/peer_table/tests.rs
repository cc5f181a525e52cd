#![allow(clippy::unwrap_used, clippy::expect_used)]
use proptest::prelude::*;

use super::*;
use crate::record::EndpointState;

fn net() -> NetworkId {
    "n1".parse().unwrap()
}

fn fact(node: &str, generation: u64, version: u64, settled: bool) -> NodeFact {
    NodeFact {
        node: node.parse().unwrap(),
        hostname: node.into(),
        vtep: [10, 0, 0, 1].into(),
        gossip_addr: ([10, 0, 0, 1], 7946).into(),
        ingress_addrs: Vec::new(),
        host_addrs: Vec::new(),
        networks: BTreeSet::from([net()]),
        generation,
        version,
        settled,
        left: false,
        alive: true,
    }
}

fn record(node: &str, task: &str, seq: Seq) -> EndpointRecord {
    EndpointRecord {
        network: net(),
        task: task.parse().unwrap(),
        node: node.parse().unwrap(),
        service: "s1".parse().unwrap(),
        service_name: "web".into(),
        task_name: format!("web.1.{task}"),
        slot: 1,
        addrs: vec![[10, 0, 1, 5].into()],
        aliases: Vec::new(),
        task_aliases: Vec::new(),
        state: EndpointState::Ready,
        seq,
    }
}

fn book() -> PeerTable {
    let mut book = PeerTable::new("me".parse().unwrap());
    book.join(&net());
    book
}

fn put(book: &mut PeerTable, node: &str, task: &str, seq: Seq) -> bool {
    book.change(&node.parse().unwrap(), &net(), &task.parse().unwrap(), seq, Some(record(node, task, seq)))
}

fn tasks(book: &PeerTable) -> Vec<String> {
    book.view().endpoints.keys().map(|(_, t)| t.to_string()).collect()
}

#[test]
fn a_restart_does_not_flap_and_then_forgets_what_is_gone() {
    let mut book = book();
    book.fact(fact("a", 1, 1, true));
    put(&mut book, "a", "t1", first_seq(1) + 1);
    put(&mut book, "a", "t2", first_seq(1) + 2);
    // The daemon is back, knows nothing yet, is on no network yet.
    let mut fresh = fact("a", 2, 1, false);
    fresh.networks.clear();
    assert!(book.fact(fresh).new_start);
    assert_eq!(tasks(&book), ["t1", "t2"]);
    // An empty state of the new start says nothing about the old one's records.
    book.synced(&"a".parse().unwrap(), 2, &net(), first_seq(2), Vec::new());
    assert_eq!(tasks(&book), ["t1", "t2"]);
    // It has adopted one container; the other did not survive.
    put(&mut book, "a", "t1", first_seq(2) + 1);
    assert_eq!(book.fact(fact("a", 2, 2, true)).joined, [net()]);
    assert_eq!(tasks(&book), ["t1"]);
    assert!(!put(&mut book, "a", "t2", first_seq(1) + 3), "a late notice of the earlier start");
}

#[test]
fn a_withdrawal_missed_as_notice_arrives_by_gossip() {
    let mut book = book();
    put(&mut book, "a", "t1", first_seq(1) + 1);
    put(&mut book, "a", "t3", first_seq(1) + 9);
    let t2 = record("a", "t2", first_seq(1) + 2);
    book.synced(&"a".parse().unwrap(), 1, &net(), first_seq(1) + 3, vec![t2]);
    assert_eq!(tasks(&book), ["t2", "t3"], "t3 is newer than the state that lacks it");
}

#[test]
fn the_managers_list_stands_in_where_the_owner_is_silent() {
    let mut book = book();
    put(&mut book, "a", "t1", 5);
    book.change(&"a".parse().unwrap(), &net(), &"t2".parse().unwrap(), 6, None);
    let listed =
        ["t1", "t2", "t3"].map(|t| ListedEndpoint { record: record("a", t, 0), vtep: None }).to_vec();
    book.listed(&net(), listed);
    assert_eq!(tasks(&book), ["t1", "t3"]);
    book.listed(&net(), Vec::new());
    assert_eq!(tasks(&book), ["t1"]);
}

#[test]
fn what_the_managers_list_does_not_outlive_the_owners_word() {
    let listed = |book: &mut PeerTable| {
        let listed = ["t1", "t2"].map(|t| ListedEndpoint { record: record("a", t, 0), vtep: None }).to_vec();
        book.listed(&net(), listed);
        assert_eq!(tasks(book), ["t1", "t2"]);
    };
    let (owner, first) = ("a".parse().unwrap(), first_seq(1));
    let mut book = book();
    book.fact(fact("a", 1, 1, true));
    listed(&mut book);
    // Withdrawn; and gossip no longer mentions it.
    put(&mut book, "a", "t1", first + 1);
    book.change(&owner, &net(), &"t1".parse().unwrap(), first + 2, None);
    assert_eq!(tasks(&book), ["t2"]);
    book.synced(&owner, 1, &net(), first + 2, Vec::new());
    assert_eq!(tasks(&book), [""; 0], "nor what the owner's whole state lacks");

    // A start that has not settled has not said everything.
    book.fact(fact("a", 2, 1, false));
    listed(&mut book);
    book.synced(&owner, 2, &net(), first_seq(2) + 1, vec![record("a", "t1", first_seq(2) + 1)]);
    assert_eq!(tasks(&book), ["t1", "t2"]);
}

#[test]
fn a_node_that_leaves_takes_its_records_along() {
    let mut book = book();
    book.fact(fact("a", 1, 1, true));
    put(&mut book, "a", "t1", first_seq(1) + 1);
    let mut leaving = fact("a", 1, 2, true);
    leaving.left = true;
    book.fact(leaving);
    assert!(book.view().nodes.is_empty() && book.view().endpoints.is_empty());
    assert!(!put(&mut book, "a", "t1", first_seq(1) + 2));
}

#[test]
fn foreign_networks_and_borrowed_names_are_ignored() {
    let mut book = book();
    let other: NetworkId = "n2".parse().unwrap();
    let task: TaskId = "t1".parse().unwrap();
    assert!(!book.change(&"a".parse().unwrap(), &other, &task, 5, Some(record("a", "t1", 5))));
    assert!(!book.change(&"b".parse().unwrap(), &net(), &task, 5, Some(record("a", "t1", 5))));
    assert!(book.view().endpoints.is_empty());
}

proptest! {
    /// In whatever order, however often and by whichever way the changes of an owner arrive, the view ends the same.
    #[test]
    fn the_order_of_arrival_does_not_matter(
        log in proptest::collection::vec((0u8..4, any::<bool>()), 1..20),
        order in proptest::collection::vec(any::<prop::sample::Index>(), 0..40),
        late in proptest::collection::vec(any::<prop::sample::Index>(), 0..10),
    ) {
        let owner: NodeId = "a".parse().unwrap();
        let task = |n: u8| -> TaskId { format!("t{n}").parse().unwrap() };
        let mut truth: BTreeMap<TaskId, Seq> = BTreeMap::new();
        for (i, (n, present)) in log.iter().enumerate() {
            let seq = first_seq(1) + 1 + i as u64;
            if *present { truth.insert(task(*n), seq); } else { truth.remove(&task(*n)); }
        }
        let mut book = book();
        let arrive = |book: &mut PeerTable, index: prop::sample::Index| {
            let i = index.index(log.len());
            let (n, present) = log[i];
            let seq = first_seq(1) + 1 + i as u64;
            let record = present.then(|| record("a", task(n).as_str(), seq));
            book.change(&owner, &net(), &task(n), seq, record);
        };
        for index in order {
            arrive(&mut book, index);
        }
        let state = truth.iter().map(|(t, seq)| record("a", t.as_str(), *seq)).collect();
        book.synced(&owner, 1, &net(), first_seq(1) + log.len() as u64, state);
        for index in late {
            arrive(&mut book, index);
        }
        let seen: BTreeMap<_, _> = book.view().endpoints.iter().map(|((_, t), r)| (t.clone(), r.seq)).collect();
        prop_assert_eq!(seen, truth);
    }
}
