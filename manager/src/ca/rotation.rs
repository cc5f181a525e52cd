//! Replacing the root: how it begins, and when it is done. In between nodes renew their certificates by themselves, since the last of
//! the roots that they are told to trust is not the one that theirs is of.

use std::time::{Duration, SystemTime};

use certs::{CertError, JoinToken, RootCa, RootDigest, rotation::MIN_ROOT_LIFE};
use proto::{
    error::ApiError,
    model::{self, RootRotation},
};

use crate::{
    control_loop::Plan,
    store::{command::Command, state::State},
};

/// A rotation from `current` to a new root, or to the one that the user gives as (certificate, key).
///
/// # Errors
/// The given root cannot be used.
pub fn begin(current: &model::RootCa, given: Option<(&str, &str)>) -> Result<RootRotation, ApiError> {
    let now = SystemTime::now();
    let old = RootCa::from_pem(&current.cert_pem, &current.key_pem)?;
    let next = match given {
        None => RootCa::create(now)?,
        Some((cert_pem, key_pem)) => brought(&old, cert_pem, key_pem, now)?,
    };
    Ok(RootRotation {
        cert_pem: next.cert_pem().to_owned(),
        key_pem: next.key_pem().to_owned(),
        cross_pem: old.certify(&next, now)?,
        moved: Default::default(),
    })
}

fn brought(old: &RootCa, cert_pem: &str, key_pem: &str, now: SystemTime) -> Result<RootCa, ApiError> {
    if key_pem.is_empty() {
        return Err(ApiError::unsupported(
            "a root CA without its key would need an external CA, which is not supported",
        )
        .help("give the key too: rnctl swarm ca --rotate --ca-cert FILE --ca-key FILE"));
    }
    let unusable = |e: CertError| ApiError::invalid(format!("the given root CA cannot be used: {e}"));
    let next = RootCa::from_pem(cert_pem, key_pem).map_err(unusable)?;
    if next.key_pem().trim() == old.key_pem().trim() {
        return Err(ApiError::invalid("the given root CA has the key of the current one")
            .help("a rotation is meant to leave the old key behind: give another, or none"));
    }
    let life = next.not_after().duration_since(now).unwrap_or(Duration::ZERO);
    if life < MIN_ROOT_LIFE {
        return Err(ApiError::invalid(format!(
            "the given root CA expires in {} days: it must last a year",
            life.as_secs() / 86_400
        )));
    }
    Ok(next)
}

/// Ends a rotation once every node has shown a certificate of the next root.
pub fn plan(state: &State) -> Plan {
    let mut plan = Plan::default();
    let rotation = state.cluster.as_ref().and_then(|c| c.root_ca.rotation.clone());
    let Some(next) = rotation else { return plan };
    if state.nodes.values().any(|node| !next.moved.contains(&node.id)) {
        return plan;
    }
    let tokens = || -> Result<Command, CertError> {
        let digest = RootDigest::of_pem(&next.cert_pem)?;
        let token = || JoinToken::generate(digest).map(|t| t.to_string());
        Ok(Command::FinishRootRotation { root: digest.to_string(), worker: token()?, manager: token()? })
    };
    match tokens() {
        Ok(command) => plan.push(command),
        Err(error) => tracing::error!(%error, "the rotation of the root CA cannot be finished"),
    }
    plan
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use proto::model::Timestamp;

    use super::*;
    use crate::{store::command::Outcome, tests::fixture};

    fn rooted() -> State {
        let root = RootCa::create(SystemTime::now()).unwrap();
        let mut cluster = fixture::cluster();
        cluster.root_ca = model::RootCa {
            cert_pem: root.cert_pem().into(),
            key_pem: root.key_pem().into(),
            ..model::RootCa::default()
        };
        let mut state = State::default();
        state.put(cluster);
        state
    }

    fn apply(state: &mut State, command: Command) -> Outcome {
        fixture::apply(state, vec![command], Timestamp(1)).remove(0)
    }

    #[test]
    fn a_rotation_ends_when_every_node_has_moved() {
        let mut state = rooted();
        let nodes = [fixture::node("n1"), fixture::node("n2")];
        nodes.iter().for_each(|n| state.put(n.clone()));
        let before = state.cluster.as_ref().unwrap().root_ca.clone();
        let next = begin(&before, None).unwrap();
        let digest = RootDigest::of_pem(&next.cert_pem).unwrap().to_string();
        assert!(apply(&mut state, Command::BeginRootRotation(Box::new(next.clone()))).is_ok());
        let during = state.cluster.as_ref().unwrap().root_ca.clone();
        assert!(during.cert_pem == before.cert_pem && during.trusted_pem().contains(&next.cert_pem));
        for node in &nodes {
            assert_eq!(plan(&state).commands, []);
            let early = Command::FinishRootRotation {
                root: digest.clone(),
                worker: String::new(),
                manager: String::new(),
            };
            assert!(apply(&mut state, early).is_err(), "a node would be locked out");
            let other = Command::MoveToRoot { id: node.id.clone(), root: "other".into() };
            assert!(apply(&mut state, other).is_err());
            let moved = Command::MoveToRoot { id: node.id.clone(), root: digest.clone() };
            assert!(apply(&mut state, moved).is_ok());
        }
        let [finish] = &plan(&state).commands[..] else { panic!("it is done") };
        assert!(apply(&mut state, finish.clone()).is_ok());
        let after = state.cluster.as_ref().unwrap().root_ca.clone();
        assert_eq!((after.cert_pem.as_str(), after.rotation), (next.cert_pem.as_str(), None));
        assert_eq!(
            certs::token::admitted_role(&after.worker_token, &state.cluster.as_ref().unwrap().root_ca),
            Ok(model::Role::Worker)
        );
        assert_eq!(plan(&state).commands, []);
    }

    #[test]
    fn a_root_that_is_brought_along_must_last_and_be_another() {
        let state = rooted();
        let current = &state.cluster.as_ref().unwrap().root_ca;
        let refused = |cert: &str, key: &str| begin(current, Some((cert, key))).unwrap_err().message;
        assert!(refused(&current.cert_pem, "").contains("external CA"));
        assert!(refused(&current.cert_pem, &current.key_pem).contains("key of the current one"));
        assert!(refused("nonsense", &current.key_pem).contains("cannot be used"));
        let other =
            RootCa::create(SystemTime::now() - certs::root::ROOT_VALIDITY + MIN_ROOT_LIFE / 2).unwrap();
        assert!(refused(other.cert_pem(), other.key_pem()).contains("a year"));
    }
}
