//! From a file's sections to bodies for Docker's Engine API.

mod mount;
mod service;

use std::collections::{BTreeMap, BTreeSet};

use docker_api::{
    network::{Ipam, IpamSubnet, NetworkCreateRequest},
    service_spec::ServiceSpec,
};

use crate::document::{Compose, FileObject, Texts};

/// The label of all that belongs to a stack: its name.
pub const NAMESPACE: &str = "com.docker.stack.namespace";
/// The label of a stack's service: its image as the file says it.
pub const IMAGE: &str = "com.docker.stack.image";

/// Why a section cannot be deployed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{object}: {what}")]
pub struct Refusal {
    /// `service web`.
    pub object: String,
    /// What is wrong.
    pub what: String,
}

/// The name of a stack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespace(String);

impl Namespace {
    /// Takes a name.
    ///
    /// # Errors
    /// There is nothing but blanks and quotes in it; in Docker's words.
    pub fn new(name: &str) -> Result<Self, String> {
        if name.trim_matches(|c: char| c.is_whitespace() || c == '"' || c == '\'').is_empty() {
            return Err(format!("invalid stack name: {name:?}"));
        }
        Ok(Self(name.to_owned()))
    }

    /// The name itself.
    pub fn name(&self) -> &str {
        &self.0
    }

    /// The name in the swarm of what has a name in the file.
    pub fn scope(&self, name: &str) -> String {
        format!("{}_{name}", self.0)
    }

    /// And back.
    pub fn descope<'a>(&self, name: &'a str) -> &'a str {
        name.strip_prefix(&self.0).and_then(|rest| rest.strip_prefix('_')).unwrap_or(name)
    }

    fn labels(&self, labels: &Texts) -> Texts {
        let mut labels = labels.clone();
        labels.insert(NAMESPACE.into(), self.0.clone());
        labels
    }
}

/// A secret or config that a stack makes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct File {
    /// Its name in the swarm.
    pub name: String,
    /// Its labels.
    pub labels: Texts,
    /// Where its content is; none where a driver keeps it.
    pub path: Option<String>,
    /// Who keeps its content; empty = the swarm.
    pub driver: String,
    /// Options of the driver.
    pub driver_opts: Texts,
    /// What fills in the template that it is; empty = it is none.
    pub template_driver: String,
}

/// What a stack consists of, in the order in which it is made.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    /// Networks that have to be there.
    pub external_networks: BTreeSet<String>,
    /// Networks that are made.
    pub networks: Vec<NetworkCreateRequest>,
    /// Secrets that are made.
    pub secrets: Vec<File>,
    /// Configs that are made.
    pub configs: Vec<File>,
    /// Services by their names in the file. Their secrets and configs have names only: see [`with_ids`].
    pub services: BTreeMap<String, ServiceSpec>,
}

/// Translates all of a file.
///
/// # Errors
/// Which section cannot be deployed, and why.
pub fn plan(namespace: &Namespace, compose: &Compose) -> Result<Plan, Refusal> {
    let mut plan = Plan::default();
    networks(namespace, compose, &mut plan);
    plan.secrets = files(namespace, &compose.secrets);
    plan.configs = files(namespace, &compose.configs);
    for (name, section) in &compose.services {
        let refused = |what| Refusal { object: format!("service {name}"), what };
        let spec = service::spec(namespace, name, section, compose).map_err(refused)?;
        plan.services.insert(name.clone(), spec);
    }
    Ok(plan)
}

/// The network that services are on which name none.
const DEFAULT_NETWORK: &str = "default";

fn networks(namespace: &Namespace, compose: &Compose, plan: &mut Plan) {
    let mut used = BTreeSet::new();
    for service in compose.services.values() {
        if service.networks.is_empty() {
            used.insert(DEFAULT_NETWORK);
        }
        used.extend(service.networks.keys().map(String::as_str));
    }
    for key in used {
        let network = compose.networks.get(key).cloned().unwrap_or_default();
        if network.external.external {
            plan.external_networks.insert(network.name);
            continue;
        }
        let subnet = |subnet: String| IpamSubnet { subnet, ..IpamSubnet::default() };
        plan.networks.push(NetworkCreateRequest {
            name: if network.name.is_empty() { namespace.scope(key) } else { network.name },
            driver: if network.driver.is_empty() { "overlay".into() } else { network.driver },
            internal: network.internal,
            attachable: network.attachable,
            ipam: Ipam {
                driver: network.ipam.driver,
                options: None,
                config: network.ipam.config.into_iter().map(|c| subnet(c.subnet)).collect(),
            },
            options: network.driver_opts,
            labels: namespace.labels(&network.labels),
            ..NetworkCreateRequest::default()
        });
    }
}

fn files(namespace: &Namespace, objects: &BTreeMap<String, FileObject>) -> Vec<File> {
    let made = objects.iter().filter(|(_, object)| !object.external.external);
    let file = |(key, object): (&String, &FileObject)| File {
        name: if object.name.is_empty() { namespace.scope(key) } else { object.name.clone() },
        labels: namespace.labels(&object.labels),
        path: object.driver.is_empty().then(|| object.file.clone()),
        driver: object.driver.clone(),
        driver_opts: object.driver_opts.clone(),
        template_driver: object.template_driver.clone(),
    };
    made.map(file).collect()
}

/// Names of the secrets that services use, made or there already.
pub fn secret_names(plan: &Plan) -> BTreeSet<String> {
    let containers = plan.services.values().filter_map(|s| s.task_template.container_spec.as_ref());
    containers.flat_map(|c| &c.secrets).map(|s| s.name.clone()).collect()
}

/// Names of the configs that services use.
pub fn config_names(plan: &Plan) -> BTreeSet<String> {
    let containers = plan.services.values().filter_map(|s| s.task_template.container_spec.as_ref());
    containers.flat_map(|c| &c.configs).map(|c| c.name.clone()).collect()
}

/// Puts in which ids the secrets and configs of a service have.
///
/// # Errors
/// There is none of a name; in Docker's words.
pub fn with_ids(
    spec: &mut ServiceSpec,
    secrets: &BTreeMap<String, String>,
    configs: &BTreeMap<String, String>,
) -> Result<(), String> {
    let Some(container) = spec.task_template.container_spec.as_mut() else { return Ok(()) };
    for secret in &mut container.secrets {
        secret.id =
            secrets.get(&secret.name).ok_or_else(|| format!("secret not found: {}", secret.name))?.clone();
    }
    for config in &mut container.configs {
        config.id =
            configs.get(&config.name).ok_or_else(|| format!("config not found: {}", config.name))?.clone();
    }
    Ok(())
}
