//! How services are reached.

use proto::{
    error::ApiError,
    model::{self, EndpointMode, Port, Protocol, PublishMode},
};
use serde::{Deserialize, Serialize};

use crate::json::empty;

/// How a service is reached.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct EndpointSpec {
    /// `vip` or `dnsrr`; empty = vip.
    #[serde(skip_serializing_if = "empty")]
    pub mode: String,
    /// Its ports.
    #[serde(skip_serializing_if = "empty")]
    pub ports: Vec<PortConfig>,
}

/// A port.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct PortConfig {
    /// A name for it.
    #[serde(skip_serializing_if = "empty")]
    pub name: String,
    /// `tcp`, `udp`, `sctp`; empty = tcp.
    #[serde(skip_serializing_if = "empty")]
    pub protocol: String,
    /// Of the task.
    #[serde(skip_serializing_if = "empty")]
    pub target_port: u32,
    /// Of the nodes; 0 = chosen.
    #[serde(skip_serializing_if = "empty")]
    pub published_port: u32,
    /// `ingress` (on all nodes) or `host` (on the task's); empty = ingress.
    #[serde(skip_serializing_if = "empty")]
    pub publish_mode: String,
}

fn number(name: &str, value: u32) -> Result<Port, ApiError> {
    Port::try_from(value)
        .map_err(|_| ApiError::invalid(format!("invalid {name}: {value}: a port is at most 65535")))
}

impl TryFrom<PortConfig> for model::PortConfig {
    type Error = ApiError;

    fn try_from(port: PortConfig) -> Result<Self, ApiError> {
        let protocol = match port.protocol.as_str() {
            "" => Protocol::Tcp,
            text => text.parse().map_err(ApiError::invalid)?,
        };
        let mode = match port.publish_mode.as_str() {
            "" | "ingress" => PublishMode::Ingress,
            "host" => PublishMode::Host,
            other => {
                return Err(
                    ApiError::invalid(format!("invalid PublishMode: {other:?}")).help("ingress or host")
                );
            }
        };
        Ok(Self {
            name: port.name,
            protocol,
            target: number("TargetPort", port.target_port)?,
            published: number("PublishedPort", port.published_port)?,
            mode,
        })
    }
}

impl From<&model::PortConfig> for PortConfig {
    fn from(port: &model::PortConfig) -> Self {
        Self {
            name: port.name.clone(),
            protocol: port.protocol.as_str().into(),
            target_port: port.target.into(),
            published_port: port.published.into(),
            publish_mode: match port.mode {
                PublishMode::Ingress => "ingress",
                PublishMode::Host => "host",
            }
            .into(),
        }
    }
}

impl TryFrom<EndpointSpec> for model::EndpointSpec {
    type Error = ApiError;

    fn try_from(spec: EndpointSpec) -> Result<Self, ApiError> {
        let mode = match spec.mode.as_str() {
            "" | "vip" => EndpointMode::Vip,
            "dnsrr" => EndpointMode::DnsRr,
            other => {
                return Err(
                    ApiError::invalid(format!("invalid ResolutionMode: {other:?}")).help("vip or dnsrr")
                );
            }
        };
        Ok(Self { mode, ports: spec.ports.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()? })
    }
}

impl From<&model::EndpointSpec> for EndpointSpec {
    fn from(spec: &model::EndpointSpec) -> Self {
        Self {
            mode: match spec.mode {
                EndpointMode::Vip => "vip",
                EndpointMode::DnsRr => "dnsrr",
            }
            .into(),
            ports: spec.ports.iter().map(PortConfig::from).collect(),
        }
    }
}
