#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use proto::model::Millis;

use super::*;
use crate::json::read;

#[test]
fn what_the_client_sends_for_init_is_the_default() {
    // As `docker swarm init --advertise-addr 127.0.0.1` sends it.
    let body = br#"{"ListenAddr":"0.0.0.0:2377","AdvertiseAddr":"127.0.0.1","DataPathAddr":"","DataPathPort":0,"DefaultAddrPool":null,
        "ForceNewCluster":false,"AutoLockManagers":false,"Availability":"","SubnetSize":24,"Spec":{"Labels":null,"Orchestration":{},
        "Raft":{"ElectionTick":0,"HeartbeatTick":0},"Dispatcher":{},"CAConfig":{},"TaskDefaults":{},
        "EncryptionConfig":{"AutoLockManagers":false}}}"#;
    let request = pb::SwarmInitRequest::try_from(read::<InitRequest>(body).unwrap()).unwrap();
    assert_eq!(request.spec, Some((&ClusterSpec::default()).into()));
    assert_eq!((request.subnet_size, request.availability), (24, pb::Availability::Active.into()));
}

#[test]
fn what_is_not_there_is_refused_by_name() {
    for (body, words) in [
        (r#"{"Spec":{"Name":"other"}}"#, "named \"default\""),
        (r#"{"Spec":{"CAConfig":{"ExternalCAs":[{"URL":"x"}]}}}"#, "ExternalCAs"),
        (r#"{"Spec":{"CAConfig":{"ForceRotate":1}}}"#, "CAConfig"),
        (r#"{"Spec":{"TaskDefaults":{"LogDriver":{"Name":"syslog"}}}}"#, "LogDriver"),
        (r#"{"Spec":{"Dispatcher":{"HeartbeatPeriod":-1}}}"#, "HeartbeatPeriod"),
        (r#"{"Availability":"sometimes"}"#, "sometimes"),
    ] {
        let error =
            pb::SwarmInitRequest::try_from(read::<InitRequest>(body.as_bytes()).unwrap()).unwrap_err();
        assert!(error.message.contains(words), "{error}");
    }
    assert!(pb::SwarmJoinRequest::try_from(JoinRequest::default()).is_err());
}

#[test]
fn a_rotation_is_asked_for_by_a_number_or_a_root() {
    assert_eq!(SwarmSpec::default().rotate_root(), None);
    let spec = |ca_config| SwarmSpec { ca_config, ..SwarmSpec::default() };
    assert!(spec(CaConfig { force_rotate: 3, ..CaConfig::default() }).rotate_root().is_some());
    let root = spec(CaConfig { signing_ca_cert: "pem".into(), ..CaConfig::default() }).rotate_root().unwrap();
    assert_eq!(root.cert_pem, "pem");
}

proptest! {
    /// A client that reads settings and sends them back changes nothing.
    #[test]
    fn settings_survive_a_client(
        history in -1i64..100, interval in 1u64..1_000_000, old in 0u64..9, slow in 1u64..9999,
        heartbeat in 1u64..10_000, period in 1u64..100_000, autolock: bool,
    ) {
        let spec = ClusterSpec {
            task_history_limit: history,
            snapshot_interval: interval,
            keep_old_snapshots: old,
            log_entries_for_slow_followers: slow,
            heartbeat_tick: heartbeat,
            election_tick: heartbeat * 6,
            dispatcher_heartbeat: Millis(period),
            autolock,
            labels: BTreeMap::from([("a".to_owned(), "b".to_owned())]),
            ..ClusterSpec::default()
        };
        let sent = serde_json::to_vec(&SwarmSpec::from(&spec)).unwrap();
        let back = read::<SwarmSpec>(&sent).unwrap().onto(&ClusterSpec::default()).unwrap();
        prop_assert_eq!(back, spec);
    }
}
