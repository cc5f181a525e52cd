//! From files to their merged sections.

use std::path::{Component, Path, PathBuf};

use serde_json::{Map, Value};

use crate::{
    document::{Compose, External, FileObject, Service},
    env_file,
    error::{Cause, Error},
    interpolate::{self, Environment},
    merge,
    options::{self, LeftOut},
    port, schema, yaml,
};

/// What files are read with.
#[derive(Clone, Copy)]
pub struct Settings<'a> {
    /// Variables.
    pub environment: &'a Environment,
    /// Where relative paths begin: the folder of the first file. Absolute.
    pub folder: &'a Path,
    /// Whether variables are replaced.
    pub interpolates: bool,
    /// Reads a file that a file names; the error is a sentence.
    pub read: &'a dyn Fn(&Path) -> Result<Vec<u8>, String>,
}

/// What was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// All of it.
    pub compose: Compose,
    /// What is to be said of it: old forms, and what does nothing.
    pub warnings: Vec<String>,
    /// Options that stacks go without.
    pub left_out: LeftOut,
}

/// Reads files, each with its name, and merges them.
///
/// # Errors
/// Which of them has something wrong, and what.
pub fn load(files: &[(String, String)], settings: &Settings<'_>) -> Result<Loaded, Error> {
    let mut merged: Option<Compose> = None;
    let (mut warnings, mut left_out) = (Vec::new(), LeftOut::default());
    for (name, text) in files {
        let compose = next(text, merged.take(), settings, &mut warnings, &mut left_out);
        merged = Some(compose.map_err(|cause| cause.of(name))?);
    }
    let compose = merged.ok_or_else(|| Cause::Whole("no files specified".into()).of("compose file"))?;
    Ok(Loaded { compose, warnings, left_out })
}

/// Reads a file and puts it over those before.
fn next(
    text: &str,
    before: Option<Compose>,
    settings: &Settings<'_>,
    warnings: &mut Vec<String>,
    left_out: &mut LeftOut,
) -> Result<Compose, Cause> {
    let file = yaml::read(text)?;
    let compose = one(&file, settings, warnings)?;
    left_out.add(&file);
    let Some(base) = before else { return Ok(compose) };
    if base.version != compose.version {
        let (first, second) = (&base.version, &compose.version);
        let what = format!("version mismatched between two composefiles : {first} and {second}");
        return Err(Cause::Whole(what));
    }
    merge::over(base, compose).map_err(|e| Cause::Whole(format!("cannot be merged: {e}")))
}

fn one(
    file: &Map<String, Value>,
    settings: &Settings<'_>,
    warnings: &mut Vec<String>,
) -> Result<Compose, Cause> {
    options::refuse_forbidden(file)?;
    let mut file = file.clone();
    if settings.interpolates {
        file = interpolate::file(file, settings.environment)?;
    }
    let (version, minor) = schema::version(&file)?;
    schema::check(&file, minor)?;
    warn_of_addresses(&file, warnings);
    let mut compose: Compose = serde_path_to_error::deserialize(Value::Object(file)).map_err(|error| {
        let path = error.path().to_string();
        Cause::At { path, what: error.into_inner().to_string() }
    })?;
    compose.version = version;
    for (name, service) in &mut compose.services {
        resolve_service(name, service, settings)?;
    }
    for (name, network) in &mut compose.networks {
        let since = (minor, 5);
        resolve_external("network", name, &mut network.name, &mut network.external, since, warnings)?;
    }
    for (name, volume) in &mut compose.volumes {
        let conflicts = [
            ("driver", !volume.driver.is_empty()),
            ("driver_opts", !volume.driver_opts.is_empty()),
            ("labels", !volume.labels.is_empty()),
        ];
        if let Some((option, _)) = conflicts.iter().find(|(_, is_set)| volume.external.external && *is_set) {
            return Err(Cause::Whole(format!(
                "conflicting parameters \"external\" and {option:?} specified for volume {name:?}"
            )));
        }
        resolve_external("volume", name, &mut volume.name, &mut volume.external, (minor, 4), warnings)?;
    }
    for (kind, objects) in [("secret", &mut compose.secrets), ("config", &mut compose.configs)] {
        for (name, object) in objects {
            resolve_file(kind, name, object, minor, settings, warnings)?;
        }
    }
    Ok(compose)
}

/// Says which ports name an address: services publish on all of them.
fn warn_of_addresses(file: &Map<String, Value>, warnings: &mut Vec<String>) {
    let services = file.get("services").and_then(Value::as_object);
    let ports = services.into_iter().flatten().filter_map(|(_, service)| service.get("ports")?.as_array());
    for text in ports.flatten().filter_map(Value::as_str) {
        if port::short(text).is_ok_and(|(_, has_address)| has_address) {
            warnings.push(format!("ignoring IP-address ({text}) service will listen on all addresses"));
        }
    }
}

/// The name under which something is that is there already.
fn resolve_external(
    kind: &str,
    key: &str,
    name: &mut String,
    external: &mut External,
    (version, since): (u8, u8),
    warnings: &mut Vec<String>,
) -> Result<(), Cause> {
    if !external.external {
        return Ok(());
    }
    if external.name.is_empty() {
        if name.is_empty() {
            key.clone_into(name);
        }
        return Ok(());
    }
    if !name.is_empty() {
        return Err(Cause::Whole(format!(
            "{kind} {key}: {kind}.external.name and {kind}.name conflict; only use {kind}.name"
        )));
    }
    if version >= since {
        warnings.push(format!("{kind} {key}: {kind}.external.name is deprecated in favor of {kind}.name"));
    }
    *name = std::mem::take(&mut external.name);
    Ok(())
}

fn resolve_file(
    kind: &str,
    key: &str,
    object: &mut FileObject,
    version: u8,
    settings: &Settings<'_>,
    warnings: &mut Vec<String>,
) -> Result<(), Cause> {
    if object.external.external {
        return resolve_external(kind, key, &mut object.name, &mut object.external, (version, 5), warnings);
    }
    if !object.driver.is_empty() {
        if !object.file.is_empty() {
            return Err(Cause::Whole(format!(
                "{kind} {key}: {kind}.driver and {kind}.file conflict; only use {kind}.driver"
            )));
        }
        return Ok(());
    }
    if object.file.is_empty() {
        let what = "needs a file, or external: true where it is there already";
        return Err(Cause::at(format!("{kind}s.{key}"), what));
    }
    object.file = absolute(settings.folder, &object.file);
    Ok(())
}

fn resolve_service(name: &str, service: &mut Service, settings: &Settings<'_>) -> Result<(), Cause> {
    let mut environment = std::collections::BTreeMap::new();
    let mut take = |name: String, value: Option<String>| {
        // As Docker's: what the file leaves empty, the client's own environment fills in.
        let own = settings.environment.get(&name).filter(|_| value.as_deref().unwrap_or_default().is_empty());
        let value = own.cloned().or(value);
        environment.insert(name, value);
    };
    for file in &service.env_file {
        let path = absolute(settings.folder, file);
        let bytes = (settings.read)(Path::new(&path))
            .map_err(|what| Cause::at(format!("services.{name}.env_file"), what))?;
        let variables = env_file::read(&bytes)
            .map_err(|what| Cause::at(format!("services.{name}.env_file"), format!("{path}: {what}")))?;
        variables.into_iter().for_each(|(name, value)| take(name, value));
    }
    std::mem::take(&mut service.environment).into_iter().for_each(|(name, value)| take(name, value));
    service.environment = environment;
    for (k, volume) in service.volumes.iter_mut().enumerate().filter(|(_, v)| v.kind == "bind") {
        if volume.source.is_empty() {
            let what = "invalid mount config for type \"bind\": field Source must not be empty";
            return Err(Cause::at(format!("services.{name}.volumes.{k}"), what));
        }
        if let (Some(rest), Some(home)) = (volume.source.strip_prefix('~'), settings.environment.get("HOME"))
        {
            volume.source = format!("{home}{rest}");
        }
        let is_of_windows = matches!(volume.source.as_bytes(), [b'\\', b'\\', ..] | [_, b':', ..]);
        if !is_of_windows && !volume.source.starts_with('/') {
            volume.source = absolute(settings.folder, &volume.source);
        }
    }
    Ok(())
}

/// A path, from a folder on where it is relative; without `.` and `..` where these can go.
fn absolute(folder: &Path, path: &str) -> String {
    if path.starts_with('/') {
        return path.to_owned();
    }
    let mut made = PathBuf::new();
    for part in folder.join(path).components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                made.pop();
            }
            part => made.push(part),
        }
    }
    made.to_string_lossy().into_owned()
}
