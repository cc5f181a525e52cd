//! A task's secrets and configs as files of its container. Pure.

use std::{collections::BTreeMap, fmt::Display, sync::Arc};

use network::assigned::Assigned;
use proto::{
    model::{Config, ContainerSpec, FileReference, FileSpec, Payload, Secret, Task, Templating},
    rules,
    template::{Context, Files},
};
use runtime::ContainerFile;

/// Why a task has not all of its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Missing {
    /// The managers send it again when they are heard: this node keeps none on its disk.
    Yet(String),
    /// The task cannot have it.
    Never(String),
}

/// The files that `spec`, the workload's with its templates filled in, asks for; none are there for what is no `task`.
pub fn of(
    task: Option<&Task>,
    spec: &ContainerSpec,
    assigned: &Assigned,
) -> Result<Vec<ContainerFile>, Missing> {
    if spec.secrets.is_empty() && spec.configs.is_empty() {
        return Ok(Vec::new());
    }
    let Some(task) = task else {
        return Err(Missing::Never("secrets and configs are for tasks of services".to_owned()));
    };
    let secrets = found("secret", &spec.secrets, &assigned.secrets, |s: &Secret| &s.spec)?;
    let configs = found("config", &spec.configs, &assigned.configs, |c: &Config| &c.spec)?;
    let filled_in = |kind: &str, file: &FileSpec| match file.templating {
        None => Ok(file.data.clone()),
        Some(Templating::Golang) => {
            let never = |why: String| Missing::Never(format!("{kind} {}: {why}", file.name));
            let text = str::from_utf8(&file.data.0)
                .map_err(|e| never(format!("as a template it is no text: {e}")))?;
            let text = context(task, spec, assigned, &secrets, &configs).expand_file(text).map_err(never)?;
            Ok(Payload(text.into_bytes()))
        }
    };
    let mut files = Vec::new();
    for (reference, file) in &secrets {
        files.push(placed("secret", reference, filled_in("secret", file)?)?);
    }
    for (reference, file) in &configs {
        files.push(placed("config", reference, filled_in("config", file)?)?);
    }
    Ok(files)
}

/// What references name, with it.
type Found<'a, Id> = Vec<(&'a FileReference<Id>, &'a FileSpec)>;

fn found<'a, Id: Ord, T>(
    kind: &str,
    references: &'a [FileReference<Id>],
    there: &'a BTreeMap<Id, Arc<T>>,
    spec: impl Fn(&'a T) -> &'a FileSpec,
) -> Result<Found<'a, Id>, Missing> {
    let one = |reference: &'a FileReference<Id>| {
        let object = reference.id.as_ref().and_then(|id| there.get(id));
        let object = object.ok_or_else(|| Missing::Yet(format!("{kind} {}", reference.name)))?;
        Ok((reference, spec(object)))
    };
    references.iter().map(one).collect()
}

fn placed<Id: Display>(
    kind: &str,
    reference: &FileReference<Id>,
    data: Payload,
) -> Result<ContainerFile, Missing> {
    let target = rules::file_target("the task", kind, &reference.target);
    let target = target.map_err(|error| Missing::Never(error.message))?;
    Ok(ContainerFile { target, uid: reference.uid, gid: reference.gid, mode: reference.mode, data })
}

/// What a template of a secret or a config can name: what the spec's templates can, and by functions the container's environment
/// and its other files, by their targets (swarmkit `template/context.go`).
fn context<S, C>(
    task: &Task,
    spec: &ContainerSpec,
    assigned: &Assigned,
    secrets: &Found<'_, S>,
    configs: &Found<'_, C>,
) -> Context {
    fn texts<Id>(found: &Found<'_, Id>) -> BTreeMap<String, String> {
        let text = |file: &FileSpec| String::from_utf8_lossy(&file.data.0).into_owned();
        found.iter().map(|(reference, file)| (reference.target.clone(), text(file))).collect()
    }
    let labels = assigned.services.get(&task.service_id).map(|s| s.spec.labels.clone()).unwrap_or_default();
    let context = match &assigned.node {
        Some(node) => Context::of(task, node, labels),
        None => Context::example(&task.service_name, &labels),
    };
    let env = spec.env.iter().filter_map(|entry| entry.split_once('='));
    let env = env.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    context.with_files(Files { env, secrets: texts(secrets), configs: texts(configs) })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proto::model::{ConfigId, Meta, SecretId};

    use super::*;
    use network::fixture::World;

    fn spec(data: &str, templating: Option<Templating>) -> FileSpec {
        FileSpec { name: "x".into(), data: Payload(data.into()), templating, ..FileSpec::default() }
    }

    fn reference<Id>(id: &Id, target: &str) -> FileReference<Id>
    where
        Id: Clone,
    {
        FileReference {
            id: Some(id.clone()),
            name: "x".into(),
            target: target.into(),
            uid: 7,
            gid: 8,
            mode: 0o400,
        }
    }

    #[test]
    fn files_are_found_placed_and_filled_in() {
        let (secret, config) = (SecretId::random(), ConfigId::random());
        let mut assigned = World::new().assigned;
        let mut task = crate::tasks::tests::task("t1", "web");
        let container = &mut task.spec.container;
        container.env = vec!["PORT=80".into()];
        container.secrets = vec![reference(&secret, "key")];
        container.configs = vec![reference(&config, "/etc/app.conf")];
        let find = |task: &Task, assigned: &Assigned| of(Some(task), &task.spec.container, assigned);
        assert_eq!(find(&task, &assigned), Err(Missing::Yet("secret x".into())));

        let put = Secret { id: secret.clone(), meta: Meta::default(), spec: spec("hush{{", None) };
        assigned.secrets.insert(secret, Arc::new(put));
        assert_eq!(find(&task, &assigned), Err(Missing::Yet("config x".into())));
        let text = r#"{{env "PORT"}} {{secret "key"}} {{.Service.Name}}"#;
        let put =
            Config { id: config.clone(), meta: Meta::default(), spec: spec(text, Some(Templating::Golang)) };
        assigned.configs.insert(config.clone(), Arc::new(put));
        let file = |target: &str, data: &str| ContainerFile {
            target: target.into(),
            uid: 7,
            gid: 8,
            mode: 0o400,
            data: Payload(data.into()),
        };
        let files = find(&task, &assigned).unwrap();
        assert_eq!(files, [file("/run/secrets/key", "hush{{"), file("/etc/app.conf", "80 hush{{ web")]);

        let put = Config {
            id: config.clone(),
            meta: Meta::default(),
            spec: spec(r#"{{secret "no"}}"#, Some(Templating::Golang)),
        };
        assigned.configs.insert(config, Arc::new(put));
        assert!(matches!(find(&task, &assigned), Err(Missing::Never(why)) if why.contains("config x")));
    }
}
