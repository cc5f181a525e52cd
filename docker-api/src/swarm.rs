//! The swarm itself.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use proto::{
    error::ApiError,
    model::{Availability, Cluster, ClusterSpec, JSON_FILE, Meta},
    pb,
};
use serde::{Deserialize, Serialize};

use crate::{json::empty, time};

/// The version of an object: what an update has to name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ObjectVersion {
    /// The raft index of the last change.
    pub index: u64,
}

/// What all objects of the swarm begin with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ObjectMeta {
    /// Its version.
    pub version: ObjectVersion,
    /// When it was made.
    pub created_at: String,
    /// When it changed last.
    pub updated_at: String,
}

impl From<&Meta> for ObjectMeta {
    fn from(meta: &Meta) -> Self {
        Self {
            version: ObjectVersion { index: meta.version.0 },
            created_at: time::rfc3339(meta.created_at),
            updated_at: time::rfc3339(meta.updated_at),
        }
    }
}

/// Settings of the swarm. What is absent stays as it is, or is the default where there is nothing yet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct SwarmSpec {
    /// Always `default`.
    pub name: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// How tasks are replaced.
    pub orchestration: OrchestrationConfig,
    /// The log.
    pub raft: RaftConfig,
    /// What nodes are told by.
    pub dispatcher: DispatcherConfig,
    /// Certificates.
    #[serde(rename = "CAConfig")]
    pub ca_config: CaConfig,
    /// What tasks are that do not say.
    pub task_defaults: TaskDefaults,
    /// Managers' disks.
    pub encryption_config: EncryptionConfig,
}

/// How tasks are replaced.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct OrchestrationConfig {
    /// Tasks kept for each place of a service; negative = all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task_history_retention_limit: Option<i64>,
}

/// The raft log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct RaftConfig {
    /// Entries between snapshots.
    #[serde(skip_serializing_if = "empty")]
    pub snapshot_interval: u64,
    /// Old snapshots that are kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_old_snapshots: Option<u64>,
    /// Entries that are kept for slow followers.
    #[serde(skip_serializing_if = "empty")]
    pub log_entries_for_slow_followers: u64,
    /// The smallest election timeout, in milliseconds (Docker: in ticks of a second).
    pub election_tick: u64,
    /// The heartbeat, in milliseconds (Docker: in ticks of a second).
    pub heartbeat_tick: u64,
}

/// What nodes are told by.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct DispatcherConfig {
    /// How often a node speaks, in nanoseconds.
    #[serde(skip_serializing_if = "empty")]
    pub heartbeat_period: i64,
}

/// Certificates.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CaConfig {
    /// Life of a node's certificate, in nanoseconds.
    #[serde(rename = "NodeCertExpiry", skip_serializing_if = "empty")]
    pub node_cert_expiry: i64,
    /// Authorities elsewhere. Refused.
    #[serde(rename = "ExternalCAs", skip_serializing_if = "empty")]
    pub external_cas: Vec<serde_json::Value>,
    /// The next root's certificate. Never in an answer.
    #[serde(rename = "SigningCACert", skip_serializing_if = "empty")]
    pub signing_ca_cert: String,
    /// Its key. Never in an answer.
    #[serde(rename = "SigningCAKey", skip_serializing_if = "empty")]
    pub signing_ca_key: String,
    /// More than what was read: a new root.
    #[serde(rename = "ForceRotate", skip_serializing_if = "empty")]
    pub force_rotate: u64,
}

impl std::fmt::Debug for CaConfig {
    // Keys must not reach a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CaConfig").field("node_cert_expiry", &self.node_cert_expiry).finish_non_exhaustive()
    }
}

/// What tasks are that do not say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct TaskDefaults {
    /// Where output goes; only that of nodes is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_driver: Option<Driver>,
}

/// A driver with its options.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Driver {
    /// Its name.
    pub name: String,
    /// Its options.
    #[serde(skip_serializing_if = "empty")]
    pub options: BTreeMap<String, String>,
}

/// Managers' disks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct EncryptionConfig {
    /// Managers are locked when they start.
    pub auto_lock_managers: bool,
}

impl From<&ClusterSpec> for SwarmSpec {
    fn from(spec: &ClusterSpec) -> Self {
        Self {
            name: spec.name.clone(),
            labels: spec.labels.clone(),
            orchestration: OrchestrationConfig {
                task_history_retention_limit: Some(spec.task_history_limit),
            },
            raft: RaftConfig {
                snapshot_interval: spec.snapshot_interval,
                keep_old_snapshots: Some(spec.keep_old_snapshots),
                log_entries_for_slow_followers: spec.log_entries_for_slow_followers,
                election_tick: spec.election_tick,
                heartbeat_tick: spec.heartbeat_tick,
            },
            dispatcher: DispatcherConfig { heartbeat_period: time::nanos(spec.dispatcher_heartbeat) },
            ca_config: CaConfig { node_cert_expiry: time::nanos(spec.cert_expiry), ..CaConfig::default() },
            task_defaults: TaskDefaults::default(),
            encryption_config: EncryptionConfig { auto_lock_managers: spec.autolock },
        }
    }
}

impl SwarmSpec {
    /// The settings that `old` becomes by it (Docker's `MergeSwarmSpecToGRPC`: what is absent or zero changes nothing).
    ///
    /// # Errors
    /// Something is asked for that rn does not have, or a span is negative.
    pub fn onto(&self, old: &ClusterSpec) -> Result<ClusterSpec, ApiError> {
        let mut spec = old.clone();
        if !matches!(self.name.as_str(), "" | "default") {
            return Err(ApiError::invalid("swarm spec must be named \"default\""));
        }
        if !self.ca_config.external_cas.is_empty() {
            return Err(ApiError::unsupported(
                "CAConfig.ExternalCAs: external certificate authorities are not supported",
            )
            .help("leave it out: the managers are the swarm's certificate authority"));
        }
        if let Some(driver) = &self.task_defaults.log_driver
            && (!matches!(driver.name.as_str(), "" | JSON_FILE) || !driver.options.is_empty())
        {
            return Err(ApiError::unsupported(
                "TaskDefaults.LogDriver: a log driver for all services is not supported",
            )
            .help("name it with each service"));
        }
        if !self.labels.is_empty() {
            spec.labels.clone_from(&self.labels);
        }
        set(&mut spec.task_history_limit, self.orchestration.task_history_retention_limit);
        set(&mut spec.keep_old_snapshots, self.raft.keep_old_snapshots);
        set(&mut spec.snapshot_interval, given(self.raft.snapshot_interval));
        set(&mut spec.log_entries_for_slow_followers, given(self.raft.log_entries_for_slow_followers));
        set(&mut spec.election_tick, given(self.raft.election_tick));
        set(&mut spec.heartbeat_tick, given(self.raft.heartbeat_tick));
        let period = time::span("Dispatcher.HeartbeatPeriod", self.dispatcher.heartbeat_period)?;
        set(&mut spec.dispatcher_heartbeat, (period.0 != 0).then_some(period));
        let expiry = time::span("CAConfig.NodeCertExpiry", self.ca_config.node_cert_expiry)?;
        set(&mut spec.cert_expiry, (expiry.0 != 0).then_some(expiry));
        spec.autolock = self.encryption_config.auto_lock_managers;
        Ok(spec)
    }

    /// The new root that is asked for. The managers do not count rotations, so that any number that is not zero means one.
    pub fn rotate_root(&self) -> Option<pb::RotateRoot> {
        let ca = &self.ca_config;
        let wanted = ca.force_rotate != 0 || !ca.signing_ca_cert.is_empty() || !ca.signing_ca_key.is_empty();
        wanted.then(|| pb::RotateRoot {
            cert_pem: ca.signing_ca_cert.clone(),
            key_pem: ca.signing_ca_key.clone(),
        })
    }
}

fn set<T>(field: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *field = value;
    }
}

fn given(number: u64) -> Option<u64> {
    (number != 0).then_some(number)
}

/// What certificates are of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct TlsInfo {
    /// The root certificate, PEM.
    #[serde(skip_serializing_if = "empty")]
    pub trust_root: String,
    /// Its subject, DER in base64.
    #[serde(skip_serializing_if = "empty")]
    pub cert_issuer_subject: String,
    /// Its public key, DER in base64.
    #[serde(skip_serializing_if = "empty")]
    pub cert_issuer_public_key: String,
}

/// The swarm, without its join tokens.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ClusterInfo {
    /// Its id.
    #[serde(rename = "ID")]
    pub id: String,
    /// Version and times.
    #[serde(flatten)]
    pub meta: ObjectMeta,
    /// Its settings.
    pub spec: SwarmSpec,
    /// What certificates are of.
    #[serde(rename = "TLSInfo")]
    pub tls_info: TlsInfo,
    /// Whether the root is just being replaced.
    pub root_rotation_in_progress: bool,
    /// Pools of overlays' subnets.
    pub default_addr_pool: Vec<String>,
    /// Prefix length of those.
    pub subnet_size: u32,
    /// UDP port of VXLAN.
    pub data_path_port: u32,
}

impl TlsInfo {
    /// Of a root certificate; of one that cannot be read, the text alone.
    pub fn of_pem(pem: &str) -> Self {
        let parsed = x509_parser::pem::parse_x509_pem(pem.as_bytes()).ok();
        let parts = parsed.as_ref().and_then(|(_, pem)| {
            let cert = pem.parse_x509().ok()?;
            Some((STANDARD.encode(cert.subject().as_raw()), STANDARD.encode(cert.public_key().raw)))
        });
        let (cert_issuer_subject, cert_issuer_public_key) = parts.unwrap_or_default();
        Self { trust_root: pem.to_owned(), cert_issuer_subject, cert_issuer_public_key }
    }
}

impl From<&Cluster> for ClusterInfo {
    fn from(cluster: &Cluster) -> Self {
        Self {
            id: cluster.id.to_string(),
            meta: ObjectMeta::from(&cluster.meta),
            spec: SwarmSpec::from(&cluster.spec),
            tls_info: TlsInfo::of_pem(&cluster.root_ca.cert_pem),
            root_rotation_in_progress: cluster.root_ca.rotation.is_some(),
            default_addr_pool: cluster.default_addr_pools.iter().map(ToString::to_string).collect(),
            subnet_size: u32::from(cluster.subnet_size),
            data_path_port: u32::from(cluster.data_path_port),
        }
    }
}

/// The swarm: the answer to `GET /swarm`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Swarm {
    /// All but the tokens.
    #[serde(flatten)]
    pub info: ClusterInfo,
    /// What admits nodes.
    #[serde(rename = "JoinTokens")]
    pub join_tokens: JoinTokens,
}

/// What admits nodes.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct JoinTokens {
    /// As workers.
    pub worker: String,
    /// As managers.
    pub manager: String,
}

impl std::fmt::Debug for JoinTokens {
    // Tokens must not reach a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JoinTokens(…)")
    }
}

impl From<&Cluster> for Swarm {
    fn from(cluster: &Cluster) -> Self {
        Self {
            info: ClusterInfo::from(cluster),
            join_tokens: JoinTokens {
                worker: cluster.root_ca.worker_token.clone(),
                manager: cluster.root_ca.manager_token.clone(),
            },
        }
    }
}

/// The body of `POST /swarm/init`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct InitRequest {
    /// Where to listen.
    pub listen_addr: String,
    /// Where others reach this node.
    pub advertise_addr: String,
    /// Where others send VXLAN to.
    pub data_path_addr: String,
    /// UDP port of VXLAN; 0 = 4789.
    pub data_path_port: u32,
    /// Begin anew with this node alone.
    pub force_new_cluster: bool,
    /// Settings.
    pub spec: SwarmSpec,
    /// The same as `Spec.EncryptionConfig.AutoLockManagers`.
    pub auto_lock_managers: bool,
    /// Whether this node gets tasks: `active`, `pause`, `drain`.
    pub availability: String,
    /// Pools of overlays' subnets.
    pub default_addr_pool: Vec<String>,
    /// Prefix length of those; 0 = 24.
    pub subnet_size: u32,
}

/// Managers listen here unless told otherwise.
const LISTEN: &str = "0.0.0.0:2377";

impl TryFrom<InitRequest> for pb::SwarmInitRequest {
    type Error = ApiError;

    fn try_from(request: InitRequest) -> Result<Self, ApiError> {
        let mut spec = request.spec.onto(&ClusterSpec::default())?;
        spec.autolock |= request.auto_lock_managers;
        if request.spec.rotate_root().is_some() {
            return Err(ApiError::unsupported("Spec.CAConfig: a swarm begins with a root of its own")
                .help("replace it later: docker swarm ca --rotate"));
        }
        Ok(Self {
            listen_addr: or(request.listen_addr, LISTEN),
            advertise_addr: request.advertise_addr,
            data_path_addr: request.data_path_addr,
            data_path_port: request.data_path_port,
            default_addr_pools: request.default_addr_pool,
            subnet_size: if request.subnet_size == 0 { 24 } else { request.subnet_size },
            availability: pb::Availability::from(crate::node::availability(&request.availability)?).into(),
            spec: Some((&spec).into()),
            force_new_cluster: request.force_new_cluster,
        })
    }
}

fn or(text: String, default: &str) -> String {
    if text.is_empty() { default.to_owned() } else { text }
}

/// The body of `POST /swarm/join`.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct JoinRequest {
    /// Where to listen.
    pub listen_addr: String,
    /// Where others reach this node.
    pub advertise_addr: String,
    /// Where others send VXLAN to.
    pub data_path_addr: String,
    /// Managers.
    pub remote_addrs: Vec<String>,
    /// What admits this node, and says as what.
    pub join_token: String,
    /// Whether this node gets tasks.
    pub availability: String,
}

impl std::fmt::Debug for JoinRequest {
    // The token must not reach a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JoinRequest").field("remote_addrs", &self.remote_addrs).finish_non_exhaustive()
    }
}

impl TryFrom<JoinRequest> for pb::SwarmJoinRequest {
    type Error = ApiError;

    fn try_from(request: JoinRequest) -> Result<Self, ApiError> {
        if request.remote_addrs.is_empty() {
            return Err(ApiError::invalid("at least 1 RemoteAddr is required to join"));
        }
        let availability: Availability = crate::node::availability(&request.availability)?;
        Ok(Self {
            remote_addrs: request.remote_addrs,
            token: request.join_token,
            advertise_addr: request.advertise_addr,
            listen_addr: or(request.listen_addr, LISTEN),
            data_path_addr: request.data_path_addr,
            availability: pb::Availability::from(availability).into(),
        })
    }
}

/// The key that unlocks managers: the body of `POST /swarm/unlock`, and the answer to `GET /swarm/unlockkey`.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct UnlockKey {
    /// `SWMKEY-1-…`; empty while managers are not locked.
    pub unlock_key: String,
}

impl std::fmt::Debug for UnlockKey {
    // It must not reach a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("UnlockKey(…)")
    }
}

#[cfg(test)]
#[path = "swarm_tests.rs"]
mod tests;
