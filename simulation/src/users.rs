//! Users: they ask managers for things, and remember what they were told.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use manager::api::forward::LeaderProxy;
use proto::{
    error::ApiError,
    model::NetworkSpec,
    pb::{self, control_client::ControlClient},
};
use tokio::time::timeout;

use crate::trace::Trace;

/// The label that numbers the updates of a service.
pub const NUMBER: &str = "number";
/// How long a user waits.
const PATIENCE: Duration = Duration::from_secs(20);

/// Something asked.
#[derive(Debug, Clone)]
pub enum Op {
    /// A network of this name.
    Network(String),
    /// A service.
    Service {
        /// Its name.
        name: String,
        /// How many tasks.
        replicas: u64,
        /// On which networks.
        networks: Vec<String>,
        /// Published ports, 0 = any, and whether in host mode.
        ports: Vec<(u32, bool)>,
    },
    /// Another version of a service, with this number on it.
    Update {
        /// Which.
        name: String,
        /// The number.
        number: u64,
        /// How many tasks from now on; none: another image.
        replicas: Option<u64>,
    },
    /// No service of this name any more.
    Remove(String),
    /// A node takes tasks, or none.
    Drain(String, bool),
}

/// A write that was acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// `network` or `service`.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: String,
    /// The entry that it was written with, or a later one.
    pub version: u64,
    /// The number of the update, for an update.
    pub number: Option<u64>,
}

/// What users were told. Clones share one state.
#[derive(Clone)]
pub struct Ledger(Arc<Mutex<LedgerEntries>>, Trace);

/// What is in a ledger.
#[derive(Default)]
pub struct LedgerEntries {
    /// What was acknowledged.
    pub told: Vec<Told>,
    /// Names of services that somebody wanted removed, whatever came of it.
    pub removing: BTreeSet<String>,
}

impl Ledger {
    /// An empty one.
    pub fn new(trace: Trace) -> Self {
        Self(Arc::default(), trace)
    }

    /// What is in it.
    pub fn book(&self) -> MutexGuard<'_, LedgerEntries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, kind: &'static str, name: &str, id: String, version: u64, number: Option<u64>) {
        self.1.line(format_args!("acknowledged {kind} {name} at {version}, number {number:?}"));
        self.1.count("writes acknowledged", 1);
        self.book().told.push(Told { kind, name: name.to_owned(), id, version, number });
    }
}

fn service(name: &str, replicas: u64, networks: &[String], ports: &[(u32, bool)]) -> pb::ServiceSpec {
    let attachment = |n: &String| pb::NetworkAttachmentConfig { target: n.clone(), ..Default::default() };
    let port = |(published, host): &(u32, bool)| pb::PortConfig {
        protocol: pb::Protocol::Tcp.into(),
        target_port: 80,
        published_port: *published,
        mode: if *host { pb::PublishMode::Host } else { pb::PublishMode::Ingress }.into(),
        ..Default::default()
    };
    pb::ServiceSpec {
        name: name.into(),
        labels: [(NUMBER.to_owned(), "0".to_owned())].into(),
        task: Some(pb::TaskSpec {
            container: Some(pb::ContainerSpec { image: "image:0".into(), ..Default::default() }),
            networks: networks.iter().map(attachment).collect(),
            ..Default::default()
        }),
        mode: Some(pb::ServiceMode { mode: Some(pb::service_mode::Mode::Replicated(replicas)) }),
        endpoint: Some(pb::EndpointSpec {
            mode: pb::EndpointMode::Vip.into(),
            ports: ports.iter().map(port).collect(),
        }),
        ..Default::default()
    }
}

/// Asks, and notes the answer.
pub async fn ask(op: Op, gate: LeaderProxy, ledger: Ledger) {
    if let Op::Remove(name) = &op {
        ledger.book().removing.insert(name.clone());
    }
    let asked = timeout(PATIENCE, carry_out(&op, ControlClient::new(gate), &ledger)).await;
    match asked {
        Ok(Ok(())) => {}
        Ok(Err(error)) => ledger.1.line(format_args!("{op:?}: {:?} {}", error.kind, error.message)),
        Err(_) => ledger.1.line(format_args!("{op:?}: no answer")),
    }
}

fn version(meta: Option<&pb::Meta>) -> u64 {
    meta.map_or(0, |m| m.version)
}

async fn carry_out(
    op: &Op,
    mut control: ControlClient<LeaderProxy>,
    ledger: &Ledger,
) -> Result<(), ApiError> {
    match op {
        Op::Network(name) => {
            let spec = NetworkSpec { name: name.clone(), ..NetworkSpec::default() };
            let request = pb::CreateNetworkRequest { spec: Some(spec.into()) };
            let made = control.create_network(request).await?.into_inner();
            let version = version(made.meta.as_ref());
            ledger.tell("network", name, made.id, version, None);
        }
        Op::Service { name, replicas, networks, ports } => {
            let spec = Some(service(name, *replicas, networks, ports));
            let made = control.create_service(pb::CreateServiceRequest { spec }).await?.into_inner();
            let version = version(made.meta.as_ref());
            ledger.tell("service", name, made.id, version, None);
        }
        Op::Update { name, number, replicas } => {
            let known = control.get_service(pb::GetRequest { key: name.clone() }).await?.into_inner();
            let Some(mut spec) = known.spec else { return Ok(()) };
            spec.labels.insert(NUMBER.into(), number.to_string());
            match (replicas, spec.task.as_mut().and_then(|t| t.container.as_mut())) {
                (Some(n), _) => {
                    spec.mode = Some(pb::ServiceMode { mode: Some(pb::service_mode::Mode::Replicated(*n)) });
                }
                (None, Some(container)) => container.image = format!("image:{number}"),
                (None, None) => {}
            }
            let version_read = version(known.meta.as_ref());
            let request = pb::UpdateServiceRequest {
                key: name.clone(),
                version: version_read,
                spec: Some(spec),
                rollback: false,
            };
            let made = control.update_service(request).await?.into_inner();
            ledger.tell("service", name, made.id, made.spec_version, Some(*number));
        }
        Op::Remove(name) => {
            control.remove_service(pb::RemoveRequest { key: name.clone(), force: false }).await?;
            ledger.1.line(format_args!("acknowledged removal of {name}"));
            ledger.1.count("writes acknowledged", 1);
        }
        Op::Drain(node, drain) => {
            let known = control.get_node(pb::GetRequest { key: node.clone() }).await?.into_inner();
            let Some(mut spec) = known.spec else { return Ok(()) };
            let wanted = if *drain { pb::Availability::Drain } else { pb::Availability::Active };
            spec.availability = wanted.into();
            let version = version(known.meta.as_ref());
            let request = pb::UpdateNodeRequest { key: node.clone(), version, spec: Some(spec) };
            control.update_node(request).await?;
            ledger.1.count("writes acknowledged", 1);
        }
    }
    Ok(())
}
