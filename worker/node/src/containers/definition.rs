//! What is remembered of a container that a user runs by hand, and where.

use std::{fs, io, path::PathBuf};

use prost::Message;
use proto::{
    convert::Malformed,
    error::ApiError,
    exit_code,
    model::{
        ContainerId, ContainerSpec, EndpointSettings, HOST_NETWORK, NO_NETWORK, PortConfig, Resources,
        TaskId, Timestamp,
    },
    pb, rules,
};
use runtime::save_record;

use super::policy::RestartRule;

/// A container as a user wants it, and what has become of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Definition {
    /// Its id.
    pub id: ContainerId,
    /// Its name, unique on the machine.
    pub name: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// What runs.
    pub spec: ContainerSpec,
    /// Upper limits.
    pub limits: Resources,
    /// Its networks, in order.
    pub networks: Vec<EndpointSettings>,
    /// Its ports on this machine.
    pub ports: Vec<PortConfig>,
    /// Ports that its user says are of use. Nothing follows from it.
    pub exposed: Vec<PortConfig>,
    /// When it starts again.
    pub restart: RestartRule,
    /// It goes when it has ended.
    pub auto_remove: bool,
    /// A user has stopped it, or not started it yet.
    pub stopped: bool,
    /// Its place on its networks, as long as it has one.
    pub task: Option<TaskId>,
    /// How often it was started again.
    pub restarts: u32,
    /// Why it did not start.
    pub error: String,
}

/// What is to be changed of a definition; what is absent stays as it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DefinitionUpdate {
    /// Processors in billionths; 0 = as many as there are.
    pub nano_cpus: Option<u64>,
    /// Bytes of memory; 0 = as much as there is.
    pub memory_bytes: Option<u64>,
    /// Processes; 0 = any number.
    pub pids: Option<u64>,
    /// When it starts again.
    pub restart: Option<RestartRule>,
}

impl Definition {
    /// Whether it runs in the machine's own network.
    pub fn is_on_host_network(&self) -> bool {
        self.networks.iter().any(|n| n.network == HOST_NETWORK)
    }

    /// Whether it has no network at all.
    pub fn is_isolated(&self) -> bool {
        self.networks.iter().any(|n| n.network == NO_NETWORK)
    }

    /// Whether it runs in a swarm and outside one alike.
    pub fn needs_no_swarm(&self) -> bool {
        self.is_on_host_network() || self.is_isolated()
    }

    /// Refuses what no container can be.
    ///
    /// # Errors
    /// The name, options that exclude each other, and what no container may be, a service's neither ([`rules`]).
    pub fn check(&self) -> Result<(), ApiError> {
        let name = &self.name;
        if !name.is_empty() {
            check_name(name)?;
        }
        if self.auto_remove && self.restart != Default::default() {
            return Err(ApiError::invalid("conflicting options: cannot specify both --restart and --rm"));
        }
        let networks = &self.networks;
        if networks.is_empty() || networks.iter().any(|n| matches!(n.network.as_str(), "bridge" | "default"))
        {
            return Err(ApiError::unsupported("this version of rn has no bridge network for containers").help(
                "name a network: --network host, or one made with rnctl network create -d overlay --attachable",
            ));
        }
        let (host, isolated) = (self.is_on_host_network(), self.is_isolated());
        if isolated && networks.len() > 1 {
            return Err(ApiError::invalid(
                "container cannot be connected to multiple networks with one of the networks in private (none) mode",
            ));
        }
        if host && networks.len() > 1 {
            return Err(ApiError::invalid(
                "conflicting options: cannot attach both user-defined and host networks",
            ));
        }
        if (host || isolated) && networks.iter().any(|n| !n.addrs.is_empty() || !n.aliases.is_empty()) {
            return Err(ApiError::invalid(format!(
                "--ip, --ip6 and --network-alias are for networks of their own, not for {HOST_NETWORK} and {NO_NETWORK}"
            )));
        }
        if isolated && !self.ports.is_empty() {
            return Err(ApiError::invalid("--publish has no meaning without a network: nothing reaches it")
                .help("leave out -p"));
        }
        if host && !self.ports.is_empty() {
            return Err(ApiError::invalid(
                "--publish has no meaning on the host's own network: the container has its ports already",
            )
            .help("leave out -p"));
        }
        let object = if name.is_empty() { "container".to_owned() } else { format!("container {name}") };
        for alias in networks.iter().flat_map(|n| &n.aliases) {
            if !alias.split('.').all(rules::is_dns_label) {
                return Err(ApiError::invalid(format!(
                    "{object}: network alias {alias:?} is not a valid DNS name"
                ))
                .help("use letters, digits, '-' and '_'; begin and end with a letter or digit"));
            }
        }
        rules::image(&object, &self.spec.image)?;
        rules::container(&object, &self.spec, host)?;
        rules::resources(&object, &self.limits, &Resources::default())
    }

    /// Its exit code if it did not start the last time.
    pub fn not_started(&self) -> Option<i32> {
        (!self.error.is_empty()).then(|| exit_code::not_started(&self.error))
    }

    /// Why it cannot start outside the swarm.
    pub(super) fn without_network(&self) -> ApiError {
        let names: Vec<&str> = self.networks.iter().map(|n| n.network.as_str()).collect();
        if names.is_empty() {
            return ApiError::precondition(format!(
                "container {} has no network: it was taken off them, or they were of a swarm that this node has left",
                self.name
            ))
            .help("make it anew, with --network");
        }
        ApiError::not_found(format!("network {} not found", names.join(", ")))
            .help("attachable networks are a swarm's, and this node is in none: rnctl swarm init or join")
    }
}

/// Refuses what no container can be called.
///
/// # Errors
/// Docker's words for it.
pub fn check_name(name: &str) -> Result<(), ApiError> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    let begins = |c: char| c.is_ascii_alphanumeric();
    if name.len() < 2 || !name.starts_with(begins) || !name.chars().all(good) {
        return Err(ApiError::invalid(format!(
            "Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
        )));
    }
    Ok(())
}

impl From<&Definition> for pb::ContainerDefinition {
    fn from(d: &Definition) -> Self {
        Self {
            id: d.id.to_string(),
            name: d.name.clone(),
            created_at: d.created_at.0,
            spec: Some((&d.spec).into()),
            limits: Some(d.limits.into()),
            networks: d.networks.iter().cloned().map(Into::into).collect(),
            ports: d.ports.iter().map(Into::into).collect(),
            exposed: d.exposed.iter().map(Into::into).collect(),
            restart: d.restart.to_string(),
            auto_remove: d.auto_remove,
            stopped: d.stopped,
            task_id: d.task.as_ref().map(ToString::to_string).unwrap_or_default(),
            restarts: d.restarts,
            error: d.error.clone(),
        }
    }
}

impl TryFrom<pb::ContainerDefinition> for Definition {
    type Error = ApiError;

    fn try_from(p: pb::ContainerDefinition) -> Result<Self, ApiError> {
        let invalid = |e: &dyn std::fmt::Display| ApiError::invalid(e.to_string());
        let spec = p.spec.ok_or_else(|| ApiError::invalid("a container needs a specification"))?;
        let networks: Result<_, Malformed> = p.networks.into_iter().map(TryInto::try_into).collect();
        let ports: Result<_, Malformed> = p.ports.into_iter().map(TryInto::try_into).collect();
        let exposed: Result<_, Malformed> = p.exposed.into_iter().map(TryInto::try_into).collect();
        let id = if p.id.is_empty() { Ok(ContainerId::random()) } else { p.id.parse() };
        let task = (!p.task_id.is_empty()).then(|| p.task_id.parse()).transpose();
        Ok(Self {
            id: id.map_err(|e| invalid(&e))?,
            name: p.name,
            created_at: Timestamp(p.created_at),
            spec: spec.try_into()?,
            limits: p.limits.map(Into::into).unwrap_or_default(),
            networks: networks?,
            ports: ports?,
            exposed: exposed?,
            restart: p.restart.parse().map_err(|e| invalid(&e))?,
            auto_remove: p.auto_remove,
            stopped: p.stopped,
            task: task.map_err(|e| invalid(&e))?,
            restarts: p.restarts,
            error: p.error,
        })
    }
}

/// `<data root>/definitions`: a file per container, replaced as a whole.
#[derive(Debug, Clone)]
pub(super) struct Definitions(PathBuf);

impl Definitions {
    /// Opens the directory.
    pub(super) fn open(dir: PathBuf) -> io::Result<Self> {
        use std::os::unix::fs::DirBuilderExt;
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
        durable::sweep(&dir)?;
        Ok(Self(dir))
    }

    /// All of them. One that is damaged is set aside, and said so.
    pub(super) fn all(&self) -> io::Result<Vec<Definition>> {
        let mut all = Vec::new();
        for entry in fs::read_dir(&self.0)? {
            let path = entry?.path();
            if path.extension().is_some() {
                continue;
            }
            let kept = durable::load_or_set_aside(&path, read).map_err(io::Error::other)?;
            all.extend(kept.or_tell(|aside| {
                tracing::error!(
                    "{aside}; a container's definition is lost: it is not started any more. Make it anew with rnctl run"
                );
            }));
        }
        Ok(all)
    }

    /// Keeps one.
    pub(super) fn save(&self, definition: &Definition) -> Result<(), ApiError> {
        let bytes = pb::ContainerDefinition::from(definition).encode_to_vec();
        Ok(save_record(&self.path(&definition.id), &bytes)?)
    }

    /// Forgets one.
    pub(super) fn forget(&self, id: &ContainerId) -> io::Result<()> {
        durable::remove(&self.path(id))
    }

    fn path(&self, id: &ContainerId) -> PathBuf {
        self.0.join(id.as_str())
    }
}

fn read(bytes: &[u8]) -> Result<Definition, ApiError> {
    let message = pb::ContainerDefinition::decode(bytes).map_err(|e| ApiError::internal(e.to_string()))?;
    Definition::try_from(message)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn on(networks: &[&str]) -> Definition {
        let networks =
            networks.iter().map(|n| pb::EndpointSettings { network: (*n).into(), ..Default::default() });
        let wire = pb::ContainerDefinition {
            name: "db".into(),
            spec: Some(ContainerSpec { image: "hello:1".into(), ..ContainerSpec::default() }.into()),
            networks: networks.collect(),
            ..Default::default()
        };
        Definition::try_from(wire).unwrap()
    }

    fn with(mut definition: Definition, change: impl FnOnce(&mut ContainerSpec)) -> Definition {
        change(&mut definition.spec);
        definition
    }

    #[test]
    fn what_cannot_be_is_refused_with_its_reason() {
        on(&["app", "other"]).check().unwrap();
        on(&["host"]).check().unwrap();
        on(&["none"]).check().unwrap();
        let port = PortConfig { target: 80, ..PortConfig::default() };
        for (definition, words) in [
            (Definition { name: "-x".into(), ..on(&["app"]) }, "Invalid container name"),
            (Definition { name: "x".into(), ..on(&["app"]) }, "Invalid container name"),
            (on(&[]), "no bridge network"),
            (on(&["bridge"]), "no bridge network"),
            (on(&["host", "app"]), "both user-defined and host"),
            (on(&["none", "app"]), "private (none) mode"),
            (Definition { ports: vec![port.clone()], ..on(&["host"]) }, "--publish"),
            (Definition { ports: vec![port], ..on(&["none"]) }, "without a network"),
            (
                Definition { auto_remove: true, restart: RestartRule::Always, ..on(&["app"]) },
                "--restart and --rm",
            ),
            (
                with(on(&["host"]), |s| drop(s.sysctls.insert("net.core.somaxconn".into(), "9".into()))),
                "network host",
            ),
            (
                with(on(&["app"]), |s| drop(s.sysctls.insert("vm.swappiness".into(), "9".into()))),
                "whole machine",
            ),
            (with(on(&["app"]), |s| s.cap_add = vec!["NOPE".into()]), "unknown capability"),
            (with(on(&["app"]), |s| s.image = "UPPER:1".into()), "must be lowercase"),
            (with(on(&["app"]), |s| s.command = vec![String::new()]), "no command specified"),
            (
                Definition { limits: Resources { memory_bytes: 1, ..Resources::default() }, ..on(&["app"]) },
                "4 MiB",
            ),
        ] {
            let error = definition.check().unwrap_err();
            assert!(error.message.contains(words), "{error}");
        }
    }

    #[test]
    fn a_definition_outlives_the_daemon_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let definitions = Definitions::open(dir.path().join("definitions")).unwrap();
        let definition = Definition {
            restart: RestartRule::OnFailure(Some(3)),
            task: Some(TaskId::random()),
            restarts: 2,
            ..on(&["app"])
        };
        definitions.save(&definition).unwrap();
        let (garbage, zeros) = (dir.path().join("definitions/garbage"), dir.path().join("definitions/zeros"));
        std::fs::write(&garbage, b"\xff\xff").unwrap();
        std::fs::write(&zeros, [0; 64]).unwrap();
        assert_eq!(
            definitions.all().unwrap(),
            [definition.clone()],
            "what cannot be read keeps nothing else away"
        );
        assert!(!garbage.exists() && garbage.with_extension("damaged").exists(), "set aside");
        assert!(!zeros.exists() && zeros.with_extension("damaged").exists(), "set aside");
        definitions.forget(&definition.id).unwrap();
        definitions.forget(&definition.id).unwrap();
        assert_eq!(definitions.all().unwrap(), []);
    }
}
