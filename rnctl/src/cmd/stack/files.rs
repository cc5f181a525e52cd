//! Compose files, from where they lie.

use std::{
    collections::BTreeMap,
    io::Read,
    path::{Path, PathBuf},
};

use compose_file::{
    Loaded, Settings,
    document::Compose,
    emit,
    interpolate::Environment,
    translate::{self, File, Namespace, Plan},
};
use docker_api::file::{Data, Driver, FileSpec};
use proto::model::Config;

use super::{DeployArgs, Files};
use crate::{
    exit::Failure,
    output::{complain, emit as print_text},
};

/// A stack that can be deployed: everything has been read.
pub(super) struct Stack {
    pub namespace: Namespace,
    pub plan: Plan,
    pub secrets: Vec<FileSpec>,
    pub configs: Vec<FileSpec>,
}

/// `stack config`.
pub(super) fn print(files: &Files, interpolates: bool) -> Result<(), Failure> {
    let loaded = load(files, interpolates)?;
    loaded.warnings.iter().for_each(|text| complain(&format!("Warning: {text}")));
    print_text(&emit::compose(&loaded.compose));
    Ok(())
}

/// Reads all that `stack deploy` needs.
pub(super) fn stack(args: &DeployArgs) -> Result<Stack, Failure> {
    let namespace = super::namespace(&args.stack)?;
    let loaded = load(&args.files, true)?;
    loaded.warnings.iter().for_each(|text| complain(&format!("Warning: {text}")));
    loaded.left_out.warnings().iter().for_each(|text| complain(text));
    check_images(&loaded.compose)?;
    let plan = translate::plan(&namespace, &loaded.compose).map_err(|e| Failure::local(e.to_string()))?;
    let secrets = plan.secrets.iter().map(|file| spec("secret", file)).collect::<Result<_, _>>()?;
    let configs = plan.configs.iter().map(|file| spec("config", file)).collect::<Result<_, _>>()?;
    Ok(Stack { namespace, plan, secrets, configs })
}

fn load(files: &Files, interpolates: bool) -> Result<Loaded, Failure> {
    let names = &files.compose_file;
    let here =
        std::env::current_dir().map_err(|e| Failure::local(format!("there is no current folder: {e}")))?;
    let first = names.first().map_or("-", String::as_str);
    let folder: PathBuf = match Path::new(first).parent() {
        Some(parent) if first != "-" => here.join(parent),
        _ => here,
    };
    let texts = names.iter().map(|name| text(name)).collect::<Result<Vec<_>, Failure>>()?;
    let environment: Environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let settings = Settings { environment: &environment, folder: &folder, interpolates, read: &read };
    compose_file::load(&texts, &settings).map_err(|e| Failure::local(e.to_string()))
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|e| format!("cannot read {}: {e}", path.display()))
}

/// A compose file with the name that errors say.
fn text(name: &str) -> Result<(String, String), Failure> {
    let (name, bytes) = match name {
        "-" => {
            let mut bytes = Vec::new();
            let most = u64::try_from(compose_file::yaml::MAX_BYTES).unwrap_or(u64::MAX).saturating_add(1);
            let result = std::io::stdin().lock().take(most).read_to_end(&mut bytes);
            result.map_err(|e| Failure::local(format!("cannot read standard input: {e}")))?;
            ("stdin", bytes)
        }
        path => (path, read(Path::new(path)).map_err(Failure::local)?),
    };
    let text = String::from_utf8(bytes).map_err(|_| Failure::local(format!("{name}: it is no UTF-8")))?;
    Ok((name.to_owned(), text))
}

fn check_images(compose: &Compose) -> Result<(), Failure> {
    for (name, service) in &compose.services {
        let what = match service.image.parse::<proto::parse::reference::Reference>() {
            _ if service.image.is_empty() => "no image specified".to_owned(),
            Err(error) => error.to_string(),
            Ok(_) => continue,
        };
        return Err(Failure::local(format!("invalid image reference for service {name}: {what}")));
    }
    Ok(())
}

/// The body that makes a secret or a config, with its content.
fn spec(kind: &str, file: &File) -> Result<FileSpec, Failure> {
    let data = match &file.path {
        None => Vec::new(),
        Some(path) => {
            read(Path::new(path)).map_err(|e| Failure::local(format!("{kind} {}: {e}", file.name)))?
        }
    };
    if data.len() > Config::MAX_DATA {
        let (is, most) = (data.len(), Config::MAX_DATA);
        return Err(Failure::local(format!("{kind} {} is too large: {is} bytes, {most} at most", file.name)));
    }
    let driver = |name: &str, options: BTreeMap<_, _>| {
        (!name.is_empty()).then(|| Driver { name: name.to_owned(), options })
    };
    Ok(FileSpec {
        name: file.name.clone(),
        labels: file.labels.clone(),
        data: Data(data),
        driver: driver(&file.driver, file.driver_opts.clone()),
        templating: driver(&file.template_driver, BTreeMap::new()),
    })
}
