//! Secrets and configs.

use std::{borrow::Borrow, collections::BTreeMap, sync::Arc};

use proto::{
    error::ApiError,
    model::{Config, ConfigId, FileSpec, Meta, Revision, Secret, SecretId},
    pb,
};

use super::{Api, validate};
use crate::store::{
    apply::file::{FileKind, holders},
    command::Command,
    state::State,
};

/// A kind that has RPCs here.
pub(super) trait Served: FileKind<Id: Borrow<str>> {
    /// The most bytes that one holds.
    const MAX_DATA: usize;

    fn new(spec: FileSpec) -> Self;
    fn creation(self) -> Command;
    fn labelling(id: Self::Id, expect: Revision, labels: BTreeMap<String, String>) -> Command;
    fn removal(id: Self::Id) -> Command;
}

impl Served for Secret {
    const MAX_DATA: usize = Secret::MAX_DATA;

    fn new(spec: FileSpec) -> Self {
        Self { id: SecretId::random(), meta: Meta::default(), spec }
    }

    fn creation(self) -> Command {
        Command::CreateSecret(Box::new(self))
    }

    fn labelling(id: SecretId, expect: Revision, labels: BTreeMap<String, String>) -> Command {
        Command::SetSecretLabels { id, expect, labels }
    }

    fn removal(id: SecretId) -> Command {
        Command::RemoveSecret(id)
    }
}

impl Served for Config {
    const MAX_DATA: usize = Config::MAX_DATA;

    fn new(spec: FileSpec) -> Self {
        Self { id: ConfigId::random(), meta: Meta::default(), spec }
    }

    fn creation(self) -> Command {
        Command::CreateConfig(Box::new(self))
    }

    fn labelling(id: ConfigId, expect: Revision, labels: BTreeMap<String, String>) -> Command {
        Command::SetConfigLabels { id, expect, labels }
    }

    fn removal(id: ConfigId) -> Command {
        Command::RemoveConfig(id)
    }
}

impl Api {
    /// Creates a secret or a config.
    pub(super) async fn new_file<K: Served>(&self, spec: FileSpec) -> Result<Arc<K>, ApiError> {
        let state = self.fresh().await?;
        validate::file::create::<K>(&state, &spec, K::MAX_DATA)?;
        let object = K::new(spec);
        let id = object.id().clone();
        self.propose(object.creation()).await?;
        self.store.read().find::<K>(id.borrow())
    }

    /// Those that a request asks for.
    pub(super) async fn files<K: Served>(
        &self,
        request: &pb::ListFilesRequest,
    ) -> Result<Vec<Arc<K>>, ApiError> {
        Ok(list(&*self.fresh().await?, request))
    }

    /// New labels, if the version is still `version`. All else stays as it is: a spec that wants it otherwise is refused.
    pub(super) async fn label_file<K: Served>(
        &self,
        key: &str,
        version: Revision,
        spec: FileSpec,
    ) -> Result<Arc<K>, ApiError> {
        let object = self.fresh().await?.find::<K>(key)?;
        validate::file::update(&*object, &spec)?;
        self.propose(K::labelling(object.id().clone(), version, spec.labels)).await?;
        self.store.read().find::<K>(object.id_str())
    }

    /// Removes what no service uses.
    pub(super) async fn drop_file<K: Served>(&self, key: &str) -> Result<pb::RemoveReply, ApiError> {
        let state = self.fresh().await?;
        let object = state.find::<K>(key)?;
        let (kind, name) = (K::NAME, object.spec().name.clone());
        if let Some(holders) = holders::<K>(&state, object.id()) {
            return Err(ApiError::invalid(format!("{kind} '{name}' is in use by {holders}")).help(format!(
                "take it off first: rnctl service update --{kind}-rm {name} SERVICE; or remove the service"
            )));
        }
        self.propose(K::removal(object.id().clone())).await?;
        Ok(pb::RemoveReply { id: object.id_str().to_owned(), name })
    }
}

fn list<K: Served>(state: &State, request: &pb::ListFilesRequest) -> Vec<Arc<K>> {
    let begins = |texts: &[String], with: &str| texts.is_empty() || texts.iter().any(|t| with.starts_with(t));
    let labelled = |labels: &BTreeMap<String, String>| {
        request.labels.iter().all(|wanted| match wanted.split_once('=') {
            Some((key, value)) => labels.get(key).is_some_and(|v| v == value),
            None => labels.contains_key(wanted),
        })
    };
    let wanted = |object: &&Arc<K>| {
        begins(&request.names, &object.spec().name)
            && begins(&request.ids, object.id_str())
            && labelled(&object.spec().labels)
    };
    K::rows(state).values().filter(wanted).cloned().collect()
}
