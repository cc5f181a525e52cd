//! Commands as bytes: `rn.v1.Proposal`, the body of a raft entry.

use std::{fmt::Display, str::FromStr};

use prost::Message;
use proto::{
    convert::Malformed,
    model::{Revision, Role, TaskState, Timestamp, UnlockKey},
    pb::{self, command::Kind, set_conditions::Object},
};

use super::command::{Command, ObjectId, Proposal};

/// Bytes that are not a proposal, or one of a newer version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ProposalError {
    #[error("malformed proposal: {0}")]
    Bytes(#[from] prost::DecodeError),
    #[error("malformed proposal: {0}")]
    Command(#[from] Malformed),
}

/// The proposal in `bytes`.
pub(crate) fn decode_proposal(bytes: &[u8]) -> Result<Proposal, ProposalError> {
    Ok(Proposal::try_from(pb::Proposal::decode(bytes)?)?)
}

impl From<Proposal> for pb::Proposal {
    fn from(p: Proposal) -> Self {
        Self { commands: p.commands.into_iter().map(Into::into).collect(), at: p.at.0, rules: p.rules }
    }
}

impl TryFrom<pb::Proposal> for Proposal {
    type Error = Malformed;

    fn try_from(p: pb::Proposal) -> Result<Self, Malformed> {
        let commands = p.commands.into_iter().map(Command::try_from).collect::<Result<_, _>>()?;
        Ok(Self { commands, at: Timestamp(p.at), rules: p.rules })
    }
}

fn parse<T: FromStr<Err: Display>>(field: &'static str, text: &str) -> Result<T, Malformed> {
    text.parse().map_err(|e: T::Err| Malformed { field, reason: format!("{text:?}: {e}") })
}

fn optional<T: FromStr<Err: Display>>(field: &'static str, text: &str) -> Result<Option<T>, Malformed> {
    if text.is_empty() { Ok(None) } else { parse(field, text).map(Some) }
}

fn need<T>(field: &'static str, value: Option<T>) -> Result<T, Malformed> {
    value.ok_or_else(|| Malformed { field, reason: "missing".into() })
}

impl From<Command> for pb::Command {
    fn from(command: Command) -> Self {
        let kind = match command {
            Command::InitCluster(cluster) => Kind::InitCluster((*cluster).into()),
            Command::SetClusterSpec { expect, spec } => {
                Kind::SetClusterSpec(pb::SetClusterSpec { expect: expect.0, spec: Some(spec.into()) })
            }
            Command::SetJoinTokens { worker, manager } => Kind::SetJoinTokens(pb::SetJoinTokens {
                worker: worker.unwrap_or_default(),
                manager: manager.unwrap_or_default(),
            }),
            Command::BeginRootRotation(rotation) => Kind::BeginRootRotation((*rotation).into()),
            Command::MoveToRoot { id, root } => {
                Kind::MoveToRoot(pb::MoveToRoot { node_id: id.to_string(), root })
            }
            Command::FinishRootRotation { root, worker, manager } => {
                Kind::FinishRootRotation(pb::FinishRootRotation {
                    root,
                    worker_token: worker,
                    manager_token: manager,
                })
            }
            Command::SetUnlockKey(key) => Kind::SetUnlockKey(key.0),
            Command::BeginEpoch(epoch) => Kind::BeginEpoch(epoch),
            Command::SetNetworkKeys { keys, clock } => Kind::SetNetworkKeys(pb::SetNetworkKeys {
                keys: keys.into_iter().map(Into::into).collect(),
                clock,
            }),
            Command::CreateNode(node) => Kind::CreateNode((*node).into()),
            Command::SetNodeSpec { id, expect, spec } => Kind::SetNodeSpec(pb::SetNodeSpec {
                id: id.to_string(),
                expect: expect.0,
                spec: Some(spec.into()),
            }),
            Command::RemoveNode(id) => Kind::RemoveNode(id.to_string()),
            Command::SetNodeRaft { id, raft_id, raft_addr } => Kind::SetNodeRaft(pb::SetNodeRaft {
                id: id.to_string(),
                raft_id,
                raft_addr: raft_addr.map(|a| a.to_string()).unwrap_or_default(),
            }),
            Command::SetNodeRole { id, role } => {
                Kind::SetNodeRole(pb::SetNodeRole { id: id.to_string(), role: role.into() })
            }
            Command::ReportNode { id, status, description } => Kind::ReportNode(pb::ReportNode {
                id: id.to_string(),
                status: status.map(Into::into),
                description: description.map(|d| (*d).into()),
            }),
            Command::AllocateNode { id, ingress_addrs } => Kind::AllocateNode(pb::AllocateNode {
                id: id.to_string(),
                ingress_addrs: ingress_addrs.iter().map(ToString::to_string).collect(),
            }),
            Command::CreateNetwork(network) => Kind::CreateNetwork((*network).into()),
            Command::RemoveNetwork(id) => Kind::RemoveNetwork(id.to_string()),
            Command::AllocateNetwork { id, allocation } => Kind::AllocateNetwork(pb::AllocateNetwork {
                id: id.to_string(),
                allocation: Some(allocation.into()),
            }),
            Command::CreateService(service) => Kind::CreateService((*service).into()),
            Command::SetServiceSpec { id, expect, spec } => Kind::SetServiceSpec(pb::SetServiceSpec {
                id: id.to_string(),
                expect: expect.0,
                spec: Some((*spec).into()),
            }),
            Command::RollbackService { id, expect, automatic, message } => {
                Kind::RollbackService(pb::RollbackService {
                    id: id.to_string(),
                    expect: expect.0,
                    automatic,
                    message,
                })
            }
            Command::RemoveService(id) => Kind::RemoveService(id.to_string()),
            Command::AllocateService { id, allocation } => Kind::AllocateService(pb::AllocateService {
                id: id.to_string(),
                expect: allocation.of_version.0,
                allocation: Some(allocation.into()),
            }),
            Command::CreateTask(task) => Kind::CreateTask((*task).into()),
            Command::Attach(task) => Kind::Attach((*task).into()),
            Command::SetTaskDesired { id, desired, start_after } => {
                Kind::SetTaskDesired(pb::SetTaskDesired {
                    id: id.to_string(),
                    desired: desired.into(),
                    start_after: start_after.0,
                })
            }
            Command::SetUpdateStatus { id, of_version, status } => {
                Kind::SetUpdateStatus(pb::SetUpdateStatus {
                    id: id.to_string(),
                    of_version: of_version.0,
                    status: Some(status.into()),
                })
            }
            Command::RemoveTask(id) => Kind::RemoveTask(id.to_string()),
            Command::AllocateTask { id, allocation } => Kind::AllocateTask(pb::AllocateTask {
                id: id.to_string(),
                allocation: Some(allocation.into()),
            }),
            Command::PlaceTask { id, node } => {
                Kind::PlaceTask(pb::PlaceTask { id: id.to_string(), node_id: node.to_string() })
            }
            Command::ReportTask { id, status } => {
                Kind::ReportTask(pb::ReportTask { id: id.to_string(), status: Some(status.into()) })
            }
            Command::CreateSecret(secret) => Kind::CreateSecret((*secret).into()),
            Command::SetSecretLabels { id, expect, labels } => {
                Kind::SetSecretLabels(pb::SetLabels { id: id.to_string(), expect: expect.0, labels })
            }
            Command::RemoveSecret(id) => Kind::RemoveSecret(id.to_string()),
            Command::CreateConfig(config) => Kind::CreateConfig((*config).into()),
            Command::SetConfigLabels { id, expect, labels } => {
                Kind::SetConfigLabels(pb::SetLabels { id: id.to_string(), expect: expect.0, labels })
            }
            Command::RemoveConfig(id) => Kind::RemoveConfig(id.to_string()),
            Command::SetCondition { object, condition } => Kind::SetConditions(pb::SetConditions {
                condition: Some(condition.into()),
                object: Some(match object {
                    ObjectId::Node(id) => Object::NodeId(id.to_string()),
                    ObjectId::Network(id) => Object::NetworkId(id.to_string()),
                    ObjectId::Service(id) => Object::ServiceId(id.to_string()),
                    ObjectId::Task(id) => Object::TaskId(id.to_string()),
                }),
            }),
        };
        Self { kind: Some(kind) }
    }
}

impl TryFrom<pb::Command> for Command {
    type Error = Malformed;

    fn try_from(command: pb::Command) -> Result<Self, Malformed> {
        Ok(match need("kind", command.kind)? {
            Kind::InitCluster(c) => Command::InitCluster(Box::new(c.try_into()?)),
            Kind::SetClusterSpec(c) => {
                Command::SetClusterSpec { expect: Revision(c.expect), spec: need("spec", c.spec)?.into() }
            }
            Kind::SetJoinTokens(c) => {
                let token = |t: String| (!t.is_empty()).then_some(t);
                Command::SetJoinTokens { worker: token(c.worker), manager: token(c.manager) }
            }
            Kind::BeginRootRotation(c) => Command::BeginRootRotation(Box::new(c.try_into()?)),
            Kind::MoveToRoot(c) => Command::MoveToRoot { id: parse("node_id", &c.node_id)?, root: c.root },
            Kind::FinishRootRotation(c) => {
                Command::FinishRootRotation { root: c.root, worker: c.worker_token, manager: c.manager_token }
            }
            Kind::SetUnlockKey(key) => Command::SetUnlockKey(UnlockKey(key)),
            Kind::BeginEpoch(epoch) => Command::BeginEpoch(epoch),
            Kind::SetNetworkKeys(c) => Command::SetNetworkKeys {
                keys: c.keys.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
                clock: c.clock,
            },
            Kind::CreateNode(node) => Command::CreateNode(Box::new(node.try_into()?)),
            Kind::SetNodeSpec(c) => Command::SetNodeSpec {
                id: parse("id", &c.id)?,
                expect: Revision(c.expect),
                spec: need("spec", c.spec)?.try_into()?,
            },
            Kind::RemoveNode(id) => Command::RemoveNode(parse("remove_node", &id)?),
            Kind::SetNodeRaft(c) => Command::SetNodeRaft {
                id: parse("id", &c.id)?,
                raft_id: c.raft_id,
                raft_addr: optional("raft_addr", &c.raft_addr)?,
            },
            Kind::SetNodeRole(c) => {
                Command::SetNodeRole { id: parse("id", &c.id)?, role: Role::from_wire(c.role)? }
            }
            Kind::ReportNode(c) => Command::ReportNode {
                id: parse("id", &c.id)?,
                status: c.status.map(TryInto::try_into).transpose()?,
                description: c.description.map(TryInto::try_into).transpose()?.map(Box::new),
            },
            Kind::AllocateNode(c) => Command::AllocateNode {
                id: parse("id", &c.id)?,
                ingress_addrs: c
                    .ingress_addrs
                    .iter()
                    .map(|a| parse("ingress_addrs", a))
                    .collect::<Result<_, _>>()?,
            },
            Kind::CreateNetwork(network) => Command::CreateNetwork(Box::new(network.try_into()?)),
            Kind::RemoveNetwork(id) => Command::RemoveNetwork(parse("remove_network", &id)?),
            Kind::AllocateNetwork(c) => Command::AllocateNetwork {
                id: parse("id", &c.id)?,
                allocation: need("allocation", c.allocation)?.try_into()?,
            },
            Kind::CreateService(service) => Command::CreateService(Box::new(service.try_into()?)),
            Kind::SetServiceSpec(c) => Command::SetServiceSpec {
                id: parse("id", &c.id)?,
                expect: Revision(c.expect),
                spec: Box::new(need("spec", c.spec)?.try_into()?),
            },
            Kind::RollbackService(c) => Command::RollbackService {
                id: parse("id", &c.id)?,
                expect: Revision(c.expect),
                automatic: c.automatic,
                message: c.message,
            },
            Kind::RemoveService(id) => Command::RemoveService(parse("remove_service", &id)?),
            Kind::AllocateService(c) => Command::AllocateService {
                id: parse("id", &c.id)?,
                allocation: need("allocation", c.allocation)?.try_into()?,
            },
            Kind::CreateTask(task) => Command::CreateTask(Box::new(task.try_into()?)),
            Kind::Attach(task) => Command::Attach(Box::new(task.try_into()?)),
            Kind::SetTaskDesired(c) => Command::SetTaskDesired {
                id: parse("id", &c.id)?,
                desired: TaskState::from_wire(c.desired)?,
                start_after: Timestamp(c.start_after),
            },
            Kind::SetUpdateStatus(c) => Command::SetUpdateStatus {
                id: parse("id", &c.id)?,
                of_version: Revision(c.of_version),
                status: need("status", c.status)?.try_into()?,
            },
            Kind::RemoveTask(id) => Command::RemoveTask(parse("remove_task", &id)?),
            Kind::AllocateTask(c) => Command::AllocateTask {
                id: parse("id", &c.id)?,
                allocation: need("allocation", c.allocation)?.try_into()?,
            },
            Kind::PlaceTask(c) => {
                Command::PlaceTask { id: parse("id", &c.id)?, node: parse("node_id", &c.node_id)? }
            }
            Kind::ReportTask(c) => {
                Command::ReportTask { id: parse("id", &c.id)?, status: need("status", c.status)?.try_into()? }
            }
            Kind::CreateSecret(secret) => Command::CreateSecret(Box::new(secret.try_into()?)),
            Kind::SetSecretLabels(c) => Command::SetSecretLabels {
                id: parse("id", &c.id)?,
                expect: Revision(c.expect),
                labels: c.labels,
            },
            Kind::RemoveSecret(id) => Command::RemoveSecret(parse("remove_secret", &id)?),
            Kind::CreateConfig(config) => Command::CreateConfig(Box::new(config.try_into()?)),
            Kind::SetConfigLabels(c) => Command::SetConfigLabels {
                id: parse("id", &c.id)?,
                expect: Revision(c.expect),
                labels: c.labels,
            },
            Kind::RemoveConfig(id) => Command::RemoveConfig(parse("remove_config", &id)?),
            Kind::SetConditions(c) => Command::SetCondition {
                object: match need("object", c.object)? {
                    Object::NodeId(id) => ObjectId::Node(parse("node_id", &id)?),
                    Object::NetworkId(id) => ObjectId::Network(parse("network_id", &id)?),
                    Object::ServiceId(id) => ObjectId::Service(parse("service_id", &id)?),
                    Object::TaskId(id) => ObjectId::Task(parse("task_id", &id)?),
                },
                condition: need("condition", c.condition)?.into(),
            },
        })
    }
}
