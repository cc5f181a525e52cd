//! Services.

use super::{Malformed, addrs, into_all, meta, need, parse, parse_all, port, try_all, try_opt};
use crate::{
    model,
    model::{Millis, Timestamp},
    pb,
};

impl From<model::PortConfig> for pb::PortConfig {
    fn from(m: model::PortConfig) -> Self {
        Self {
            name: m.name,
            protocol: m.protocol.into(),
            target_port: m.target.into(),
            published_port: m.published.into(),
            mode: m.mode.into(),
        }
    }
}

impl TryFrom<pb::PortConfig> for model::PortConfig {
    type Error = Malformed;

    fn try_from(p: pb::PortConfig) -> Result<Self, Malformed> {
        Ok(Self {
            name: p.name,
            protocol: model::Protocol::from_wire(p.protocol)?,
            target: port("target_port", p.target_port)?,
            published: port("published_port", p.published_port)?,
            mode: model::PublishMode::from_wire(p.mode)?,
        })
    }
}

impl From<model::UpdateConfig> for pb::UpdateConfig {
    fn from(m: model::UpdateConfig) -> Self {
        Self {
            parallelism: m.parallelism,
            delay: m.delay.0,
            failure_action: m.failure_action.into(),
            monitor: m.monitor.0,
            max_failure_ratio: m.max_failure_ratio,
            order: m.order.into(),
        }
    }
}

impl TryFrom<pb::UpdateConfig> for model::UpdateConfig {
    type Error = Malformed;

    fn try_from(p: pb::UpdateConfig) -> Result<Self, Malformed> {
        Ok(Self {
            parallelism: p.parallelism,
            delay: Millis(p.delay),
            failure_action: model::FailureAction::from_wire(p.failure_action)?,
            monitor: Millis(p.monitor),
            max_failure_ratio: p.max_failure_ratio,
            order: model::UpdateOrder::from_wire(p.order)?,
        })
    }
}

impl From<model::ServiceMode> for pb::ServiceMode {
    fn from(m: model::ServiceMode) -> Self {
        use pb::service_mode::Mode;
        Self {
            mode: Some(match m {
                model::ServiceMode::Replicated(n) => Mode::Replicated(n),
                model::ServiceMode::Global => Mode::Global(true),
            }),
        }
    }
}

impl TryFrom<pb::ServiceMode> for model::ServiceMode {
    type Error = Malformed;

    fn try_from(p: pb::ServiceMode) -> Result<Self, Malformed> {
        use pb::service_mode::Mode;
        Ok(match need("service mode", p.mode)? {
            Mode::Replicated(n) => model::ServiceMode::Replicated(n),
            Mode::Global(_) => model::ServiceMode::Global,
        })
    }
}

impl From<model::EndpointSpec> for pb::EndpointSpec {
    fn from(m: model::EndpointSpec) -> Self {
        Self { mode: m.mode.into(), ports: into_all(m.ports) }
    }
}

impl TryFrom<pb::EndpointSpec> for model::EndpointSpec {
    type Error = Malformed;

    fn try_from(p: pb::EndpointSpec) -> Result<Self, Malformed> {
        Ok(Self { mode: model::EndpointMode::from_wire(p.mode)?, ports: try_all(p.ports)? })
    }
}

impl From<model::ServiceSpec> for pb::ServiceSpec {
    fn from(m: model::ServiceSpec) -> Self {
        Self {
            name: m.name,
            labels: m.labels,
            task: Some(m.task.into()),
            mode: Some(m.mode.into()),
            update: m.update.map(Into::into),
            rollback: m.rollback.map(Into::into),
            endpoint: Some(m.endpoint.into()),
        }
    }
}

impl TryFrom<pb::ServiceSpec> for model::ServiceSpec {
    type Error = Malformed;

    fn try_from(p: pb::ServiceSpec) -> Result<Self, Malformed> {
        Ok(Self {
            name: p.name,
            labels: p.labels,
            task: need("task spec", p.task)?.try_into()?,
            mode: try_opt(p.mode)?.unwrap_or(model::ServiceMode::Replicated(1)),
            update: try_opt(p.update)?,
            rollback: try_opt(p.rollback)?,
            endpoint: try_opt(p.endpoint)?.unwrap_or_default(),
        })
    }
}

impl From<model::Vip> for pb::Vip {
    fn from(m: model::Vip) -> Self {
        Self { network_id: m.network.to_string(), addrs: addrs(&m.addrs) }
    }
}

impl TryFrom<pb::Vip> for model::Vip {
    type Error = Malformed;

    fn try_from(p: pb::Vip) -> Result<Self, Malformed> {
        Ok(Self { network: parse("vip network", &p.network_id)?, addrs: parse_all("vip addrs", &p.addrs)? })
    }
}

impl From<model::ServiceAllocation> for pb::ServiceAllocation {
    fn from(m: model::ServiceAllocation) -> Self {
        Self { ports: into_all(m.ports), vips: into_all(m.vips), of_version: m.of_version.0 }
    }
}

impl TryFrom<pb::ServiceAllocation> for model::ServiceAllocation {
    type Error = Malformed;

    fn try_from(p: pb::ServiceAllocation) -> Result<Self, Malformed> {
        Ok(Self {
            ports: try_all(p.ports)?,
            vips: try_all(p.vips)?,
            of_version: model::Revision(p.of_version),
        })
    }
}

impl From<model::UpdateStatus> for pb::UpdateStatus {
    fn from(m: model::UpdateStatus) -> Self {
        Self {
            state: m.state.into(),
            started_at: m.started_at.0,
            completed_at: m.completed_at.0,
            message: m.message,
            slots: m.slots,
        }
    }
}

impl TryFrom<pb::UpdateStatus> for model::UpdateStatus {
    type Error = Malformed;

    fn try_from(p: pb::UpdateStatus) -> Result<Self, Malformed> {
        Ok(Self {
            state: model::UpdateState::from_wire(p.state)?,
            started_at: Timestamp(p.started_at),
            completed_at: Timestamp(p.completed_at),
            message: p.message,
            slots: p.slots,
        })
    }
}

impl From<model::Service> for pb::Service {
    fn from(m: model::Service) -> Self {
        Self {
            id: m.id.to_string(),
            meta: Some(m.meta.into()),
            spec: Some(m.spec.into()),
            previous_spec: m.previous_spec.map(Into::into),
            spec_version: m.spec_version.0,
            allocation: m.allocation.map(Into::into),
            conditions: into_all(m.conditions),
            update_status: m.update_status.map(Into::into),
        }
    }
}

impl TryFrom<pb::Service> for model::Service {
    type Error = Malformed;

    fn try_from(p: pb::Service) -> Result<Self, Malformed> {
        Ok(Self {
            id: parse("service id", &p.id)?,
            meta: meta(p.meta),
            spec: need("service spec", p.spec)?.try_into()?,
            previous_spec: try_opt(p.previous_spec)?,
            spec_version: model::Revision(p.spec_version),
            allocation: try_opt(p.allocation)?,
            conditions: into_all(p.conditions),
            update_status: try_opt(p.update_status)?,
        })
    }
}
