//! Changes of the store as users hear of them: `rnctl events`. Pure.
//!
//! Each is named as dockerd names it, with its attributes: `name`, and `<what>.old`, `<what>.new` of what has changed. A manager
//! tells its own users only; no event is stored.

use std::{collections::BTreeMap, fmt::Display};

use proto::model::{Availability, FileSpec, Network, Node, NodeState, Role, Service, ServiceMode};

use crate::store::{change::Edit, kind::Kind};

/// An object came, changed or went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterEvent {
    /// [`Kind::NAME`].
    pub kind: &'static str,
    /// `create`, `update` or `remove`.
    pub action: &'static str,
    /// The object's id.
    pub id: String,
    /// More about it.
    pub attributes: BTreeMap<String, String>,
}

fn both<T>(edit: &Edit<T>) -> Option<(&T, &T)> {
    Some((edit.old.as_deref()?, edit.new.as_deref()?))
}

fn begin<K: Kind>(edit: &Edit<K>, name: &str) -> Option<ClusterEvent> {
    let (kind, id) = (K::NAME, edit.either()?.id().to_string());
    let action = match (&edit.old, &edit.new) {
        (None, Some(_)) => "create",
        (Some(_), Some(_)) => "update",
        (Some(_), None) => "remove",
        (None, None) => return None,
    };
    Some(ClusterEvent {
        kind,
        action,
        id,
        attributes: BTreeMap::from([("name".to_owned(), name.to_owned())]),
    })
}

impl ClusterEvent {
    /// Notes a difference, if it is one; whether it is.
    fn differs<T: PartialEq>(&mut self, what: &str, old: &T, new: &T, text: impl Fn(&T) -> String) -> bool {
        if old == new {
            return false;
        }
        self.attributes.insert(format!("{what}.old"), text(old));
        self.attributes.insert(format!("{what}.new"), text(new));
        true
    }
}

fn text<T: Display>(value: &T) -> String {
    value.to_string()
}

/// Of a network: nothing of it changes but what is ours.
pub(crate) fn network(edit: &Edit<Network>) -> Option<ClusterEvent> {
    let happened = begin(edit, &edit.either()?.spec.name)?;
    let changed = both(edit).is_none_or(|(old, new)| old.spec != new.spec);
    changed.then_some(happened)
}

/// Of a node: its state, availability and role, and what its user says of it.
pub(crate) fn node(edit: &Edit<Node>) -> Option<ClusterEvent> {
    let mut happened = begin(edit, edit.either()?.hostname())?;
    let Some((old, new)) = both(edit) else { return Some(happened) };
    let state = |state: &NodeState| {
        match state {
            NodeState::Unknown => "unknown",
            NodeState::Down => "down",
            NodeState::Ready => "ready",
            NodeState::Disconnected => "disconnected",
        }
        .to_owned()
    };
    let availability = |availability: &Availability| {
        match availability {
            Availability::Active => "active",
            Availability::Pause => "pause",
            Availability::Drain => "drain",
        }
        .to_owned()
    };
    let changed = [
        happened.differs("state", &old.status.state, &new.status.state, state),
        happened.differs("availability", &old.spec.availability, &new.spec.availability, availability),
        happened.differs("role", &old.role, &new.role, |role: &Role| role.as_str().to_owned()),
        old.spec != new.spec,
    ];
    changed.contains(&true).then_some(happened)
}

/// Of a secret or a config: all of it.
pub(crate) fn file<K: Kind>(edit: &Edit<K>, spec: &FileSpec) -> Option<ClusterEvent> {
    begin(edit, &spec.name)
}

/// Of a service: its spec.
pub(crate) fn service(edit: &Edit<Service>) -> Option<ClusterEvent> {
    let mut happened = begin(edit, &edit.either()?.spec.name)?;
    let Some((old, new)) = both(edit) else { return Some(happened) };
    if old.spec == new.spec {
        return None;
    }
    let (before, after) = (&old.spec, &new.spec);
    happened.differs("image", &before.task.container.image, &after.task.container.image, text);
    if let (ServiceMode::Replicated(before), ServiceMode::Replicated(after)) = (&before.mode, &after.mode) {
        happened.differs("replicas", before, after, text);
    }
    Some(happened)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use std::sync::Arc;

    use proto::model::Revision;

    use super::*;
    use crate::store::{change::Change, fixtures};

    fn event(change: &Change) -> Option<ClusterEvent> {
        change.event()
    }

    #[test]
    fn users_hear_of_what_they_or_the_world_did() {
        let old = fixtures::node(1);
        let created = event(&Change::Node(Edit { old: None, new: Some(Arc::new(old.clone())) })).unwrap();
        assert_eq!((created.kind, created.action, created.id), ("node", "create", old.id.to_string()));
        let mut new = old.clone();
        new.meta.version = Revision(99);
        let edit = |new: &Node| {
            Change::Node(Edit { old: Some(Arc::new(old.clone())), new: Some(Arc::new(new.clone())) })
        };
        assert_eq!(event(&edit(&new)), None, "our own bookkeeping");
        new.status.state = NodeState::Down;
        new.spec.availability = Availability::Drain;
        let happened = event(&edit(&new)).unwrap();
        assert_eq!(happened.action, "update");
        assert_eq!(happened.attributes["state.new"], "down");
        assert_eq!(
            (
                happened.attributes["availability.old"].as_str(),
                happened.attributes["availability.new"].as_str()
            ),
            ("active", "drain")
        );

        let old = fixtures::network(1);
        let gone = event(&Change::Network(Edit { old: Some(Arc::new(old.clone())), new: None })).unwrap();
        assert_eq!((gone.action, gone.attributes["name"].as_str()), ("remove", old.spec.name.as_str()));
    }

    #[test]
    fn a_services_update_says_what_is_new() {
        let old = fixtures::service(1, &[], vec![]);
        let mut new = old.clone();
        let edit = |new: &Service| {
            Change::Service(Edit { old: Some(Arc::new(old.clone())), new: Some(Arc::new(new.clone())) })
        };
        new.allocation = None;
        assert_eq!(event(&edit(&new)).map(|h| h.action), None, "an allocation is ours");
        new.spec.mode = ServiceMode::Replicated(77);
        new.spec.task.container.image = "other:2".into();
        let happened = event(&edit(&new)).unwrap();
        assert_eq!(happened.attributes["replicas.new"], "77");
        assert_eq!(happened.attributes["image.new"], "other:2");
    }
}
