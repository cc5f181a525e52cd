//! Finding objects by what a user types: a whole id, then a name, then the beginning of an id that only one object has.

use std::{borrow::Borrow, sync::Arc};

use proto::{
    error::ApiError,
    model::{Network, Node, Service, Task},
};

use super::{
    kind::Kind,
    state::{State, Table},
};

impl State {
    /// The object that a user means by `key`, of a kind whose names are unique.
    ///
    /// # Errors
    /// Not found, or several ids begin so.
    pub fn find<K: Kind<Id: Borrow<str>, Rows = Table<K>>>(&self, key: &str) -> Result<Arc<K>, ApiError> {
        let table = K::rows(self);
        let exact = table.get(key).or_else(|| table.named(key));
        pick(K::NAME, key, exact, || table.values().filter(|o| begins(o.id_str(), key)))
    }

    /// The service that a user means by `key`.
    ///
    /// # Errors
    /// As [`Self::find`].
    pub fn find_service(&self, key: &str) -> Result<Arc<Service>, ApiError> {
        self.find(key)
    }

    /// The network that a user means by `key`.
    ///
    /// # Errors
    /// As [`Self::find`].
    pub fn find_network(&self, key: &str) -> Result<Arc<Network>, ApiError> {
        self.find(key)
    }

    /// The node that a user means by `key`: its id, then its name or host name (neither is unique), then a beginning.
    ///
    /// # Errors
    /// Not found, or several nodes have that name or beginning.
    pub fn find_node(&self, key: &str) -> Result<Arc<Node>, ApiError> {
        let exact = self.nodes.get(key);
        let named =
            || self.nodes.values().filter(|n| !key.is_empty() && (n.spec.name == key || n.hostname() == key));
        if exact.is_none() && named().next().is_some() {
            return pick("node", key, None, named);
        }
        pick("node", key, exact, || self.nodes.values().filter(|n| begins(n.id.as_str(), key)))
    }

    /// The task that a user means by `key`; its name is `service.slot.id`.
    ///
    /// # Errors
    /// Not found, or several ids begin so.
    pub fn find_task(&self, key: &str) -> Result<Arc<Task>, ApiError> {
        let by_name = || self.tasks.get(key.rsplit_once('.')?.1).filter(|t| t.name() == key);
        let exact = self.tasks.get(key).or_else(by_name);
        pick("task", key, exact, || self.tasks.values().filter(|t| begins(t.id.as_str(), key)))
    }
}

fn begins(id: &str, key: &str) -> bool {
    !key.is_empty() && id.starts_with(key)
}

fn pick<'a, T: 'a, I: Iterator<Item = &'a Arc<T>>>(
    kind: &str,
    key: &str,
    exact: Option<&Arc<T>>,
    candidates: impl Fn() -> I,
) -> Result<Arc<T>, ApiError> {
    if let Some(found) = exact {
        return Ok(found.clone());
    }
    let mut found = candidates();
    match (found.next(), found.count()) {
        (Some(only), 0) => Ok(only.clone()),
        (None, _) => Err(ApiError::not_found(format!("{kind} {key} not found"))),
        (Some(_), more) => {
            Err(ApiError::invalid(format!("{kind} {key} is ambiguous ({} {kind}s found)", more + 1))
                .help(format!("Use the whole id of the {kind}.")))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use proto::error::Kind;

    use super::*;
    use crate::store::fixtures::{id, network, node, service};

    #[test]
    fn an_id_comes_before_a_name_and_a_name_before_a_beginning() {
        let mut state = State::default();
        for n in [1, 2] {
            state.put(network(n));
            state.put(node(n));
        }
        // Named as another's id, and as the beginning of all.
        let mut tricky = network(3);
        tricky.spec.name = "network1".into();
        state.put(tricky);
        let mut tricky = network(4);
        tricky.spec.name = "net".into();
        state.put(tricky);
        let mut web = service(7, &[], Vec::new());
        web.spec.name = "web".into();
        state.put(web);

        assert_eq!(state.find_network("network1").unwrap().id, id("network", 1));
        assert_eq!(state.find_network("net").unwrap().id, id("network", 4));
        assert_eq!(state.find_service("web").unwrap().id, id("service", 7));
        assert_eq!(state.find_service("serv").unwrap().id, id("service", 7));
        let error = state.find_network("netw").unwrap_err();
        assert_eq!(
            (error.kind, error.message.as_str()),
            (Kind::Invalid, "network netw is ambiguous (4 networks found)")
        );
        let error = state.find_service("db").unwrap_err();
        assert_eq!((error.kind, error.message.as_str()), (Kind::NotFound, "service db not found"));
        assert_eq!(state.find_service("").unwrap_err().kind, Kind::NotFound);
        assert_eq!(state.find_node("").unwrap_err().kind, Kind::NotFound);
    }
}
