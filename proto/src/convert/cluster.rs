//! The cluster object.

use super::{Malformed, byte, into_all, meta, need, parse, parse_all, port, texts, try_all};
use crate::{model, model::Millis, pb};

impl From<model::ClusterSpec> for pb::ClusterSpec {
    fn from(m: model::ClusterSpec) -> Self {
        Self {
            name: m.name,
            labels: m.labels,
            task_history_limit: m.task_history_limit,
            snapshot_interval: m.snapshot_interval,
            keep_old_snapshots: m.keep_old_snapshots,
            log_entries_for_slow_followers: m.log_entries_for_slow_followers,
            heartbeat_tick: m.heartbeat_tick,
            election_tick: m.election_tick,
            dispatcher_heartbeat: m.dispatcher_heartbeat.0,
            cert_expiry: m.cert_expiry.0,
            autolock: m.autolock,
        }
    }
}

impl From<pb::ClusterSpec> for model::ClusterSpec {
    fn from(p: pb::ClusterSpec) -> Self {
        Self {
            name: p.name,
            labels: p.labels,
            task_history_limit: p.task_history_limit,
            snapshot_interval: p.snapshot_interval,
            keep_old_snapshots: p.keep_old_snapshots,
            log_entries_for_slow_followers: p.log_entries_for_slow_followers,
            heartbeat_tick: p.heartbeat_tick,
            election_tick: p.election_tick,
            dispatcher_heartbeat: Millis(p.dispatcher_heartbeat),
            cert_expiry: Millis(p.cert_expiry),
            autolock: p.autolock,
        }
    }
}

impl From<model::NetworkKey> for pb::NetworkKey {
    fn from(m: model::NetworkKey) -> Self {
        Self { subsystem: m.subsystem.into(), lamport: m.lamport, key: m.key }
    }
}

impl TryFrom<pb::NetworkKey> for model::NetworkKey {
    type Error = Malformed;

    fn try_from(p: pb::NetworkKey) -> Result<Self, Malformed> {
        Ok(Self { subsystem: p.subsystem.parse()?, lamport: p.lamport, key: p.key })
    }
}

impl From<model::RootCa> for pb::RootCa {
    fn from(m: model::RootCa) -> Self {
        Self {
            cert_pem: m.cert_pem,
            key_pem: m.key_pem,
            worker_token: m.worker_token,
            manager_token: m.manager_token,
            rotation: m.rotation.map(|r| (*r).into()),
        }
    }
}

impl TryFrom<pb::RootCa> for model::RootCa {
    type Error = Malformed;

    fn try_from(p: pb::RootCa) -> Result<Self, Malformed> {
        Ok(Self {
            cert_pem: p.cert_pem,
            key_pem: p.key_pem,
            worker_token: p.worker_token,
            manager_token: p.manager_token,
            rotation: p.rotation.map(|r| r.try_into().map(Box::new)).transpose()?,
        })
    }
}

impl From<model::RootRotation> for pb::RootRotation {
    fn from(m: model::RootRotation) -> Self {
        Self {
            cert_pem: m.cert_pem,
            key_pem: m.key_pem,
            cross_pem: m.cross_pem,
            moved: m.moved.iter().map(ToString::to_string).collect(),
        }
    }
}

impl TryFrom<pb::RootRotation> for model::RootRotation {
    type Error = Malformed;

    fn try_from(p: pb::RootRotation) -> Result<Self, Malformed> {
        Ok(Self {
            cert_pem: p.cert_pem,
            key_pem: p.key_pem,
            cross_pem: p.cross_pem,
            moved: p.moved.iter().map(|id| parse("rotation.moved", id)).collect::<Result<_, _>>()?,
        })
    }
}

impl From<model::Cluster> for pb::Cluster {
    fn from(m: model::Cluster) -> Self {
        Self {
            id: m.id.to_string(),
            meta: Some(m.meta.into()),
            spec: Some(m.spec.into()),
            root_ca: Some(m.root_ca.into()),
            default_addr_pools: texts(&m.default_addr_pools),
            subnet_size: m.subnet_size.into(),
            ula_prefix: m.ula_prefix.to_string(),
            data_path_port: m.data_path_port.into(),
            network_keys: into_all(m.network_keys),
            key_clock: m.key_clock,
            removed_nodes: texts(&m.removed_nodes),
            epoch: m.epoch,
            unlock_key: m.unlock_key.0,
        }
    }
}

impl TryFrom<pb::Cluster> for model::Cluster {
    type Error = Malformed;

    fn try_from(p: pb::Cluster) -> Result<Self, Malformed> {
        Ok(Self {
            id: parse("cluster id", &p.id)?,
            meta: meta(p.meta),
            spec: need("cluster spec", p.spec)?.into(),
            root_ca: p.root_ca.map(TryInto::try_into).transpose()?.unwrap_or_default(),
            default_addr_pools: parse_all("default_addr_pools", &p.default_addr_pools)?,
            subnet_size: byte("subnet_size", p.subnet_size)?,
            ula_prefix: parse("ula_prefix", &p.ula_prefix)?,
            data_path_port: port("data_path_port", p.data_path_port)?,
            network_keys: try_all(p.network_keys)?,
            key_clock: p.key_clock,
            removed_nodes: parse_all("removed_nodes", &p.removed_nodes)?,
            epoch: p.epoch,
            unlock_key: model::UnlockKey(p.unlock_key),
        })
    }
}
