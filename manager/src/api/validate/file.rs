//! Secrets and configs, and what names them in a service's spec.

use std::borrow::Borrow;

use proto::{
    error::ApiError,
    model::{FileReference, FileSpec},
    rules,
};

use crate::store::{apply::file::FileKind, state::State};

/// The longest name (swarmkit `validateConfigOrSecretAnnotations`).
const MAX_NAME: usize = 64;

/// Checks a new secret or config of at most `max` bytes.
pub fn create<K: FileKind>(state: &State, spec: &FileSpec, max: usize) -> Result<(), ApiError> {
    let (kind, name) = (K::NAME, &spec.name);
    if name.is_empty() {
        return Err(ApiError::invalid(format!("{kind} name must be given"))
            .help(format!("rnctl {kind} create NAME FILE")));
    }
    if !is_name(name) {
        return Err(ApiError::invalid(format!(
            "{kind} {name:?}: invalid name, only {MAX_NAME} [a-zA-Z0-9-_.] characters allowed, and the start and end character \
             must be [a-zA-Z0-9]"
        )));
    }
    super::labels(&format!("{kind} {name}"), &spec.labels)?;
    let bytes = spec.data.0.len();
    if bytes == 0 || bytes > max {
        return Err(ApiError::invalid(format!(
            "{kind} data must be larger than 0 and less than {} bytes",
            max + 1
        ))
        .help(format!("{kind} {name} has {bytes}")));
    }
    if let Some(holder) = K::rows(state).values().find(|o| super::same_name(&o.spec().name, name)) {
        let taken = &holder.spec().name;
        let case = if taken == name { "" } else { " that differs by more than case" };
        return Err(ApiError::conflict(format!("{kind} {taken} already exists"))
            .help(format!("it is {}; choose another name{case}, or: rnctl {kind} rm {taken}", holder.id())));
    }
    Ok(())
}

/// Checks that nothing but labels is to change.
pub fn update<K: FileKind>(object: &K, spec: &FileSpec) -> Result<(), ApiError> {
    let (kind, old) = (K::NAME, object.spec());
    let same_data = spec.data.0.is_empty() || spec.data == old.data;
    if spec.name != old.name || !same_data || spec.templating != old.templating {
        return Err(ApiError::invalid(format!("{kind} {}: only updates to Labels are allowed", old.name))
            .help(format!("create another {kind} and give it to the services instead of this one")));
    }
    super::labels(&format!("{kind} {}", old.name), &spec.labels)
}

fn is_name(name: &str) -> bool {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    name.len() <= MAX_NAME
        && edge(name.chars().next())
        && edge(name.chars().next_back())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

/// Finds what a service's references mean, and checks where the files are to be.
pub fn references<K: FileKind<Id: Borrow<str>>>(
    state: &State,
    object: &str,
    references: &mut [FileReference<K::Id>],
) -> Result<(), ApiError> {
    let kind = K::NAME;
    for i in 0..references.len() {
        let (before, rest) = references.split_at_mut(i);
        let Some(reference) = rest.first_mut() else { continue };
        if reference.id.is_none() && reference.name.is_empty() {
            return Err(ApiError::invalid(format!("{object}: malformed {kind} reference"))
                .help(format!("name the {kind}, or give its id")));
        }
        let table = K::rows(state);
        let found = match &reference.id {
            Some(id) => table.get::<str>(id.borrow()),
            None => table.named(&reference.name),
        };
        let found = found.filter(|o| reference.name.is_empty() || o.spec().name == reference.name);
        let Some(found) = found else {
            let what = match (&reference.id, reference.name.as_str()) {
                (Some(id), "") => id.to_string(),
                (_, name) => name.to_owned(),
            };
            return Err(ApiError::not_found(format!("{object}: {kind} not found: {what}"))
                .help(format!("create it first: rnctl {kind} create {what} FILE")));
        };
        reference.id = Some(found.id().clone());
        reference.name.clone_from(&found.spec().name);
        if reference.target.is_empty() {
            reference.target.clone_from(&reference.name);
        }
        let object = format!("{object}: {kind} {}", reference.name);
        let path = rules::file_target(&object, kind, &reference.target)?;
        if reference.mode > 0o7777 {
            return Err(ApiError::invalid(format!("{object}: mode {:o} is no mode", reference.mode))
                .help("write it in octal digits, such as 0444"));
        }
        let same = |other: &&FileReference<K::Id>| {
            rules::file_target(&object, kind, &other.target).is_ok_and(|theirs| theirs == path)
        };
        if let Some(other) = before.iter().find(same) {
            return Err(ApiError::invalid(format!(
                "{object}: {kind} references '{}' and '{}' have a conflicting target: '{}'",
                other.name, reference.name, reference.target
            ))
            .help("give one of them another target"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proto::model::{Config, Payload, Secret};

    use super::*;
    use crate::store::fixtures;

    fn spec(name: &str, bytes: usize) -> FileSpec {
        FileSpec { name: name.into(), data: Payload(vec![7; bytes]), ..FileSpec::default() }
    }

    #[test]
    fn names_and_sizes_are_dockers() {
        let mut state = State::default();
        state.put(fixtures::secret(1));
        let check = |name: &str, bytes| create::<Secret>(&state, &spec(name, bytes), Secret::MAX_DATA);
        for good in ["a", "db.password_2-x", &"x".repeat(64), "config1"] {
            assert!(check(good, 1).is_ok(), "{good}");
        }
        for bad in ["", "-a", "a.", "a b", "a/b", &"x".repeat(65)] {
            assert!(check(bad, 1).is_err(), "{bad}");
        }
        assert!(check("a", 511_999).is_ok());
        for bytes in [0, 512_000] {
            let why = check("a", bytes).unwrap_err().message;
            assert_eq!(why, "secret data must be larger than 0 and less than 512000 bytes");
        }
        assert!(create::<Config>(&state, &spec("a", 1_024_000), Config::MAX_DATA).is_ok());
        let taken = check("Secret1", 1).unwrap_err();
        assert_eq!(taken.message, "secret secret1 already exists");
    }

    #[test]
    fn only_labels_change() {
        let old = fixtures::secret(1);
        let shown = FileSpec { data: Payload::default(), ..old.spec.clone() };
        assert!(update(&old, &shown).is_ok());
        let other = FileSpec { data: Payload(vec![1]), ..old.spec.clone() };
        assert!(update(&old, &other).unwrap_err().message.ends_with("only updates to Labels are allowed"));
    }

    #[test]
    fn references_are_found_and_do_not_meet() {
        let mut state = State::default();
        state.put(fixtures::secret(1));
        state.put(fixtures::secret(2));
        let named = |name: &str, target: &str| FileReference {
            id: None,
            name: name.into(),
            target: target.into(),
            uid: 0,
            gid: 0,
            mode: 0o444,
        };
        let check = |mut all: Vec<FileReference<_>>| {
            references::<Secret>(&state, "service web", &mut all).map(|()| all).map_err(|e| e.message)
        };
        let found = check(vec![named("secret1", ""), named("secret2", "/etc/x")]).unwrap();
        assert_eq!(
            (found[0].id.as_ref(), found[0].target.as_str()),
            (Some(&fixtures::id("secret", 1)), "secret1")
        );
        assert_eq!(check(vec![named("none", "")]).unwrap_err(), "service web: secret not found: none");
        assert!(check(vec![named("", "x")]).unwrap_err().ends_with("malformed secret reference"));
        let twice = check(vec![named("secret1", "x"), named("secret2", "/run/secrets/x")]).unwrap_err();
        assert!(twice.ends_with(
            "secret references 'secret1' and 'secret2' have a conflicting target: '/run/secrets/x'"
        ));
        for bad in ["../x", "/", ".", "a/../b"] {
            assert!(check(vec![named("secret1", bad)]).is_err(), "{bad}");
        }
    }
}
