//! Templates in service specs: `{{.Node.Hostname}}` and the like in a container's host name, environment and mounts. The part
//! of Go's template language that Swarm's users use: fields, and `index` for labels. Pure.

use std::collections::BTreeMap;

use crate::model::{ContainerSpec, Node, NodeId, ServiceId, Task, TaskId};

/// What a template can name (swarmkit `template/context.go`).
#[derive(Debug, Clone, Default)]
pub struct Context {
    fields: BTreeMap<&'static str, String>,
    labels: BTreeMap<String, String>,
}

impl Context {
    /// Of a task on its node. `labels` are its service's.
    pub fn of(task: &Task, node: &Node, labels: BTreeMap<String, String>) -> Self {
        let description = node.description.as_ref();
        let platform = |pick: fn(&crate::model::NodeDescription) -> &String| {
            description.map(pick).cloned().unwrap_or_default()
        };
        let fields = BTreeMap::from([
            (".Service.ID", task.service_id.to_string()),
            (".Service.Name", task.service_name.clone()),
            (".Node.ID", node.id.to_string()),
            (".Node.Hostname", node.hostname().to_owned()),
            (".Node.Platform.OS", platform(|d| &d.os)),
            (".Node.Platform.Architecture", platform(|d| &d.arch)),
            (".Task.ID", task.id.to_string()),
            (".Task.Name", task.name()),
            (".Task.Slot", task.slot.to_string()),
        ]);
        Self { fields, labels }
    }

    /// One with every field, to check a spec before there is a task.
    pub fn example(service: &str) -> Self {
        let fields = [
            (".Service.ID", ServiceId::random().to_string()),
            (".Service.Name", service.to_owned()),
            (".Node.ID", NodeId::random().to_string()),
            (".Node.Hostname", "host".to_owned()),
            (".Node.Platform.OS", "linux".to_owned()),
            (".Node.Platform.Architecture", "x86_64".to_owned()),
            (".Task.ID", TaskId::random().to_string()),
            (".Task.Name", format!("{service}.1.{}", TaskId::random())),
            (".Task.Slot", "1".to_owned()),
        ];
        Self { fields: fields.into(), labels: BTreeMap::new() }
    }

    /// The text with every `{{…}}` replaced.
    ///
    /// # Errors
    /// A sentence for the user that names what is not known.
    pub fn expand(&self, text: &str) -> Result<String, String> {
        let mut out = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            let (action, tail) =
                after.split_once("}}").ok_or_else(|| format!("template {text:?}: no closing braces"))?;
            out.push_str(before);
            out.push_str(&self.value(action.trim()).map_err(|why| format!("template {text:?}: {why}"))?);
            rest = tail;
        }
        out.push_str(rest);
        Ok(out)
    }

    fn value(&self, action: &str) -> Result<String, String> {
        if let Some(value) = self.fields.get(action) {
            return Ok(value.clone());
        }
        if let Some(key) = action.strip_prefix("index .Service.Labels") {
            let key = key.trim().trim_matches(['"', '`']);
            return Ok(self.labels.get(key).cloned().unwrap_or_default());
        }
        if let Some(key) = action.strip_prefix(".Service.Labels.") {
            return Ok(self.labels.get(key).cloned().unwrap_or_default());
        }
        let known: Vec<&str> = self.fields.keys().copied().collect();
        Err(format!("{action:?} is not known; there are {} and .Service.Labels", known.join(", ")))
    }

    /// The container spec with its templates expanded: host name, environment, mounts (swarmkit `template/expand.go`).
    ///
    /// # Errors
    /// As [`Context::expand`].
    pub fn container(&self, spec: &ContainerSpec) -> Result<ContainerSpec, String> {
        let mut spec = spec.clone();
        spec.hostname = self.expand(&spec.hostname)?;
        for env in &mut spec.env {
            *env = self.expand(env)?;
        }
        for mount in &mut spec.mounts {
            mount.source = self.expand(&mount.source)?;
            mount.target = self.expand(&mount.target)?;
        }
        Ok(spec)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_and_labels_are_filled_in() {
        let mut context = Context::example("web");
        context.labels.insert("tier".into(), "front".into());
        let expand = |text: &str| context.expand(text);
        assert_eq!(expand("plain"), Ok("plain".into()));
        assert_eq!(expand("{{.Service.Name}}-{{ .Task.Slot }}-{{.Node.Hostname}}"), Ok("web-1-host".into()));
        assert_eq!(expand(r#"{{index .Service.Labels "tier"}}"#), Ok("front".into()));
        assert_eq!(expand(r#"{{index .Service.Labels "none"}}"#), Ok(String::new()));
    }

    #[test]
    fn what_is_not_known_is_named() {
        let context = Context::example("web");
        for (bad, why) in [("{{.Node.Name}}", ".Node.Name"), ("{{.Task.Slot", "closing")] {
            let error = context.expand(bad).err().unwrap_or_default();
            assert!(error.contains(why) && error.contains(bad), "{error}");
        }
    }
}
