//! Secrets and configs: made, labelled, removed; their content never changes.

use std::{borrow::Cow, collections::BTreeMap, fmt::Display};

use proto::model::{Config, ContainerSpec, FileReference, FileSpec, Revision, Secret};

use super::{Applying, in_sequence, refuse};
use crate::store::{
    command::{Outcome, Rejected},
    kind::Kind,
    state::{State, Table},
};

/// A kind of object that containers find as a file.
pub trait FileKind: Kind<Rows = Table<Self>> {
    /// What the user gave.
    fn spec(&self) -> &FileSpec;
    /// The same, to be changed.
    fn spec_mut(&mut self) -> &mut FileSpec;
    /// Those that a container's spec names.
    fn references(spec: &ContainerSpec) -> &[FileReference<Self::Id>];
}

impl FileKind for Secret {
    fn spec(&self) -> &FileSpec {
        &self.spec
    }

    fn spec_mut(&mut self) -> &mut FileSpec {
        &mut self.spec
    }

    fn references(spec: &ContainerSpec) -> &[FileReference<Self::Id>] {
        &spec.secrets
    }
}

impl FileKind for Config {
    fn spec(&self) -> &FileSpec {
        &self.spec
    }

    fn spec_mut(&mut self) -> &mut FileSpec {
        &mut self.spec
    }

    fn references(spec: &ContainerSpec) -> &[FileReference<Self::Id>] {
        &spec.configs
    }
}

/// The services whose spec names the object, in words; none if there are none.
pub fn holders<K: FileKind>(state: &State, id: &K::Id) -> Option<String> {
    let names = |spec: &ContainerSpec| K::references(spec).iter().any(|r| r.id.as_ref() == Some(id));
    let services = state.services.values().filter(|s| names(&s.spec.task.container));
    let services: Vec<&str> = services.map(|s| s.spec.name.as_str()).collect();
    let word = if services.len() == 1 { "service" } else { "services" };
    (!services.is_empty()).then(|| format!("the following {word}: {}", services.join(", ")))
}

impl Applying<'_> {
    pub(super) fn create_file<K: FileKind>(&mut self, object: &K) -> Outcome {
        let (table, name) = (K::rows(self.state), &object.spec().name);
        if table.values().any(|o| o.id() == object.id()) {
            return refuse(format!("{} {} exists already", K::NAME, object.id()));
        }
        if let Some(holder) = table.values().find(|o| self.same_name(&o.spec().name, name)) {
            let (name, holder) = (holder.spec().name.clone(), holder.id().to_string());
            return Err(Rejected::NameTaken { kind: Cow::Borrowed(K::NAME), name, holder });
        }
        self.create(object.clone());
        Ok(())
    }

    pub(super) fn set_labels<K: FileKind>(
        &mut self,
        id: &K::Id,
        expect: Revision,
        labels: &BTreeMap<String, String>,
    ) -> Outcome {
        let object = self.found::<K>(id)?;
        in_sequence(|| format!("{} {}", K::NAME, object.spec().name), expect, object.meta().version)?;
        self.update(object, |o| o.spec_mut().labels.clone_from(labels));
        Ok(())
    }

    pub(super) fn remove_file<K: FileKind>(&mut self, id: &K::Id) -> Outcome {
        let object = self.found::<K>(id)?;
        if let Some(holder) = holders::<K>(self.state, id) {
            return Err(Rejected::InUse { object: format!("{} '{}'", K::NAME, object.spec().name), holder });
        }
        self.forget(object);
        Ok(())
    }

    /// Each secret, or config, that a container's spec names exists.
    pub(super) fn files_exist<K: FileKind<Id: Display>>(&self, spec: &ContainerSpec) -> Outcome {
        let missing = |r: &&FileReference<K::Id>| r.id.as_ref().is_none_or(|id| self.found::<K>(id).is_err());
        match K::references(spec).iter().find(missing) {
            Some(reference) => Err(Rejected::NotFound(format!("{} {}", K::NAME, reference.name))),
            None => Ok(()),
        }
    }
}
