//! Networks.

use super::{Malformed, into_all, meta, need, parse, parse_opt, text, try_all, try_opt};
use crate::{model, pb};

impl From<model::IpamConfig> for pb::IpamConfig {
    fn from(m: model::IpamConfig) -> Self {
        Self {
            subnet: text(&m.subnet),
            ip_range: text(&m.ip_range),
            gateway: text(&m.gateway),
            aux_addresses: m.aux_addresses.into_iter().map(|(k, v)| (k, v.to_string())).collect(),
        }
    }
}

impl TryFrom<pb::IpamConfig> for model::IpamConfig {
    type Error = Malformed;

    fn try_from(p: pb::IpamConfig) -> Result<Self, Malformed> {
        Ok(Self {
            subnet: parse_opt("subnet", &p.subnet)?,
            ip_range: parse_opt("ip_range", &p.ip_range)?,
            gateway: parse_opt("gateway", &p.gateway)?,
            aux_addresses: p
                .aux_addresses
                .into_iter()
                .map(|(k, v)| Ok((k, parse("aux_addresses", &v)?)))
                .collect::<Result<_, Malformed>>()?,
        })
    }
}

impl From<model::NetworkSpec> for pb::NetworkSpec {
    fn from(m: model::NetworkSpec) -> Self {
        Self {
            name: m.name,
            labels: m.labels,
            driver: m.driver.name().to_owned(),
            options: m.driver.options(),
            internal: m.internal,
            attachable: m.attachable,
            ingress: m.ingress,
            ipv4: m.ipv4,
            ipv6: m.ipv6,
            ipam_driver: m.ipam_driver,
            ipam_options: m.ipam_options,
            ipam: into_all(m.ipam),
        }
    }
}

impl TryFrom<pb::NetworkSpec> for model::NetworkSpec {
    type Error = Malformed;

    fn try_from(p: pb::NetworkSpec) -> Result<Self, Malformed> {
        let driver = model::NetworkDriver::parse(&p.driver, &p.options);
        let driver = driver.map_err(|e| Malformed { field: "driver", reason: e.to_string() })?;
        Ok(Self {
            name: p.name,
            labels: p.labels,
            driver,
            internal: p.internal,
            attachable: p.attachable,
            ingress: p.ingress,
            ipv4: p.ipv4,
            ipv6: p.ipv6,
            ipam_driver: p.ipam_driver,
            ipam_options: p.ipam_options,
            ipam: try_all(p.ipam)?,
        })
    }
}

impl From<model::Subnet> for pb::Subnet {
    fn from(m: model::Subnet) -> Self {
        Self { subnet: m.subnet.to_string(), gateway: m.gateway.to_string(), ip_range: text(&m.ip_range) }
    }
}

impl TryFrom<pb::Subnet> for model::Subnet {
    type Error = Malformed;

    fn try_from(p: pb::Subnet) -> Result<Self, Malformed> {
        Ok(Self {
            subnet: parse("subnet", &p.subnet)?,
            gateway: parse("gateway", &p.gateway)?,
            ip_range: parse_opt("ip_range", &p.ip_range)?,
        })
    }
}

impl From<model::NetworkAllocation> for pb::NetworkAllocation {
    fn from(m: model::NetworkAllocation) -> Self {
        Self { vni: m.vni.0, mtu: m.mtu, subnets: into_all(m.subnets) }
    }
}

impl TryFrom<pb::NetworkAllocation> for model::NetworkAllocation {
    type Error = Malformed;

    fn try_from(p: pb::NetworkAllocation) -> Result<Self, Malformed> {
        if p.vni > model::Vni::LAST.0 {
            return Err(Malformed { field: "vni", reason: format!("{} is above 24 bits", p.vni) });
        }
        Ok(Self { vni: model::Vni(p.vni), mtu: p.mtu, subnets: try_all(p.subnets)? })
    }
}

impl From<model::Network> for pb::Network {
    fn from(m: model::Network) -> Self {
        Self {
            id: m.id.to_string(),
            meta: Some(m.meta.into()),
            spec: Some(m.spec.into()),
            allocation: m.allocation.map(Into::into),
            conditions: into_all(m.conditions),
        }
    }
}

impl TryFrom<pb::Network> for model::Network {
    type Error = Malformed;

    fn try_from(p: pb::Network) -> Result<Self, Malformed> {
        Ok(Self {
            id: parse("network id", &p.id)?,
            meta: meta(p.meta),
            spec: need("network spec", p.spec)?.try_into()?,
            allocation: try_opt(p.allocation)?,
            conditions: into_all(p.conditions),
        })
    }
}
