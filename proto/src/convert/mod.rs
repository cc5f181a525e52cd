//! `pb` <-> `model`: the only code that parses wire strings.
//!
//! Into the wire cannot fail (`From`); out of it can (`TryFrom`, [`Malformed`]), since a peer may be newer or broken.

mod cluster;
mod enums;
mod file;
mod network;
mod node;
mod service;
mod task;

use std::{fmt::Display, net::IpAddr, str::FromStr};

use crate::{error::ApiError, model, pb};

/// A message that is not what its type promises.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("malformed {field}: {reason}")]
pub struct Malformed {
    /// The field, by its name in the `.proto` file.
    pub field: &'static str,
    /// What is wrong with it.
    pub reason: String,
}

impl Malformed {
    fn missing(field: &'static str) -> Self {
        Self { field, reason: "missing".into() }
    }
}

impl From<Malformed> for ApiError {
    fn from(e: Malformed) -> Self {
        ApiError::invalid(e.to_string())
    }
}

impl From<Malformed> for tonic::Status {
    fn from(e: Malformed) -> Self {
        ApiError::from(e).into()
    }
}

type Result<T> = std::result::Result<T, Malformed>;

fn parse<T: FromStr<Err: Display>>(field: &'static str, text: &str) -> Result<T> {
    text.parse().map_err(|e: T::Err| Malformed { field, reason: format!("{text:?}: {e}") })
}

fn parse_opt<T: FromStr<Err: Display>>(field: &'static str, text: &str) -> Result<Option<T>> {
    if text.is_empty() { Ok(None) } else { parse(field, text).map(Some) }
}

fn parse_all<T: FromStr<Err: Display>>(field: &'static str, texts: &[String]) -> Result<Vec<T>> {
    texts.iter().map(|t| parse(field, t)).collect()
}

fn text<T: Display>(value: &Option<T>) -> String {
    value.as_ref().map(ToString::to_string).unwrap_or_default()
}

fn texts<T: Display>(values: &[T]) -> Vec<String> {
    values.iter().map(ToString::to_string).collect()
}

fn need<T>(field: &'static str, value: Option<T>) -> Result<T> {
    value.ok_or_else(|| Malformed::missing(field))
}

fn port(field: &'static str, value: u32) -> Result<u16> {
    u16::try_from(value).map_err(|_| Malformed { field, reason: format!("{value} is above 65535") })
}

fn byte(field: &'static str, value: u32) -> Result<u8> {
    u8::try_from(value).map_err(|_| Malformed { field, reason: format!("{value} is above 255") })
}

fn into_all<A, B: From<A>>(values: Vec<A>) -> Vec<B> {
    values.into_iter().map(B::from).collect()
}

fn try_all<A, B: TryFrom<A, Error = Malformed>>(values: Vec<A>) -> Result<Vec<B>> {
    values.into_iter().map(B::try_from).collect()
}

fn try_opt<A, B: TryFrom<A, Error = Malformed>>(value: Option<A>) -> Result<Option<B>> {
    value.map(B::try_from).transpose()
}

fn addrs(values: &[IpAddr]) -> Vec<String> {
    texts(values)
}

/// `From<&Model>` by way of a clone, so that callers holding an `Arc` need not spell it.
macro_rules! from_ref {
    ($($name:ident),* $(,)?) => {$(
        impl From<&model::$name> for pb::$name {
            fn from(m: &model::$name) -> Self {
                m.clone().into()
            }
        }
    )*};
}

from_ref!(
    Attachment,
    Cluster,
    ClusterSpec,
    Condition,
    ContainerSpec,
    Network,
    NetworkAllocation,
    NetworkKey,
    NetworkSpec,
    Node,
    NodeDescription,
    NodeSpec,
    NodeStatus,
    PortConfig,
    Service,
    ServiceAllocation,
    ServiceSpec,
    Task,
    TaskAllocation,
    TaskSpec,
    TaskStatus,
);

impl From<model::Meta> for pb::Meta {
    fn from(m: model::Meta) -> Self {
        Self {
            created_at: m.created_at.0,
            updated_at: m.updated_at.0,
            version: m.version.0,
            created_in: m.created_in.0,
        }
    }
}

impl From<pb::Meta> for model::Meta {
    fn from(m: pb::Meta) -> Self {
        Self {
            created_at: model::Timestamp(m.created_at),
            created_in: model::Revision(m.created_in),
            updated_at: model::Timestamp(m.updated_at),
            version: model::Revision(m.version),
        }
    }
}

fn meta(m: Option<pb::Meta>) -> model::Meta {
    m.map(Into::into).unwrap_or_default()
}

impl From<model::Condition> for pb::Condition {
    fn from(c: model::Condition) -> Self {
        Self { kind: c.kind, message: c.message, since: c.since.0 }
    }
}

impl From<pb::Condition> for model::Condition {
    fn from(c: pb::Condition) -> Self {
        Self { kind: c.kind, message: c.message, since: model::Timestamp(c.since) }
    }
}

#[cfg(test)]
mod tests;
