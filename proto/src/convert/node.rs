//! Nodes.

use super::{Malformed, addrs, into_all, meta, need, parse, parse_all, parse_opt, text, try_opt};
use crate::{model, pb};

impl From<model::NodeSpec> for pb::NodeSpec {
    fn from(m: model::NodeSpec) -> Self {
        Self { name: m.name, labels: m.labels, role: m.role.into(), availability: m.availability.into() }
    }
}

impl TryFrom<pb::NodeSpec> for model::NodeSpec {
    type Error = Malformed;

    fn try_from(p: pb::NodeSpec) -> Result<Self, Malformed> {
        Ok(Self {
            role: model::Role::from_wire(p.role)?,
            availability: model::Availability::from_wire(p.availability)?,
            name: p.name,
            labels: p.labels,
        })
    }
}

impl From<model::NodeDescription> for pb::NodeDescription {
    fn from(m: model::NodeDescription) -> Self {
        Self {
            hostname: m.hostname,
            os: m.os,
            arch: m.arch,
            nano_cpus: m.nano_cpus,
            memory_bytes: m.memory_bytes,
            engine_version: m.engine_version,
            engine_labels: m.engine_labels,
            advertise_addr: text(&m.advertise_addr),
            data_path_addr: text(&m.data_path_addr),
            underlay_mtu: m.underlay_mtu,
            missing_features: m.missing_features,
        }
    }
}

impl TryFrom<pb::NodeDescription> for model::NodeDescription {
    type Error = Malformed;

    fn try_from(p: pb::NodeDescription) -> Result<Self, Malformed> {
        Ok(Self {
            advertise_addr: parse_opt("advertise_addr", &p.advertise_addr)?,
            data_path_addr: parse_opt("data_path_addr", &p.data_path_addr)?,
            hostname: p.hostname,
            os: p.os,
            arch: p.arch,
            nano_cpus: p.nano_cpus,
            memory_bytes: p.memory_bytes,
            engine_version: p.engine_version,
            engine_labels: p.engine_labels,
            underlay_mtu: p.underlay_mtu,
            missing_features: p.missing_features,
        })
    }
}

impl From<model::NodeStatus> for pb::NodeStatus {
    fn from(m: model::NodeStatus) -> Self {
        Self { state: m.state.into(), message: m.message, addr: text(&m.addr) }
    }
}

impl TryFrom<pb::NodeStatus> for model::NodeStatus {
    type Error = Malformed;

    fn try_from(p: pb::NodeStatus) -> Result<Self, Malformed> {
        Ok(Self {
            state: model::NodeState::from_wire(p.state)?,
            addr: parse_opt("status.addr", &p.addr)?,
            message: p.message,
        })
    }
}

impl From<model::ManagerStatus> for pb::ManagerStatus {
    fn from(m: model::ManagerStatus) -> Self {
        Self {
            raft_id: m.raft_id,
            addr: text(&m.addr),
            leader: m.leader,
            reachability: m.reachability.into(),
        }
    }
}

impl TryFrom<pb::ManagerStatus> for model::ManagerStatus {
    type Error = Malformed;

    fn try_from(p: pb::ManagerStatus) -> Result<Self, Malformed> {
        Ok(Self {
            raft_id: p.raft_id,
            addr: parse_opt("manager_status.addr", &p.addr)?,
            leader: p.leader,
            reachability: model::Reachability::from_wire(p.reachability)?,
        })
    }
}

impl From<model::Node> for pb::Node {
    fn from(m: model::Node) -> Self {
        Self {
            id: m.id.to_string(),
            meta: Some(m.meta.into()),
            spec: Some(m.spec.into()),
            description: m.description.map(Into::into),
            status: Some(m.status.into()),
            manager_status: m.manager_status.map(Into::into),
            role: m.role.into(),
            ingress_addrs: addrs(&m.ingress_addrs),
            raft_id: m.raft_id,
            raft_addr: text(&m.raft_addr),
            conditions: into_all(m.conditions),
            spec_version: m.spec_version.0,
        }
    }
}

impl TryFrom<pb::Node> for model::Node {
    type Error = Malformed;

    fn try_from(p: pb::Node) -> Result<Self, Malformed> {
        Ok(Self {
            id: parse("node id", &p.id)?,
            meta: meta(p.meta),
            spec: need("node spec", p.spec)?.try_into()?,
            description: try_opt(p.description)?,
            status: try_opt(p.status)?.unwrap_or_default(),
            manager_status: try_opt(p.manager_status)?,
            role: model::Role::from_wire(p.role)?,
            ingress_addrs: parse_all("ingress_addrs", &p.ingress_addrs)?,
            raft_id: p.raft_id,
            raft_addr: parse_opt("raft_addr", &p.raft_addr)?,
            conditions: into_all(p.conditions),
            spec_version: model::Revision(p.spec_version),
        })
    }
}
