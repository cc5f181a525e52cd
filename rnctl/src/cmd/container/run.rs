//! `run` and `create`.

use std::{io::Write, path::Path};

use docker_api::{container_config::ContainerConfig, version::ApiVersion};
use proto::exit_code;
use serde_json::{Value, json};

use super::{
    config::Attached,
    flags::{CreateArgs, Pull, RunArgs},
};
use crate::{
    api::Client,
    cmd::{
        attach::{self, Ended, How, Session},
        image, stdio,
    },
    exit::Failure,
    output::{self, complain},
};

/// What went wrong before the container ran (Docker's client).
const NOT_RUN: i32 = 125;

/// Since this version a new container can be put on several networks at once.
const SEVERAL_NETWORKS: ApiVersion = ApiVersion::minor(44);

/// Makes a container; its id.
async fn make(rn: &Client, args: CreateArgs, attached: Attached) -> Result<String, Failure> {
    let (pull, quiet) = (args.pull, args.quiet);
    let (name, platform, cidfile) = (args.name.clone(), args.platform.clone(), args.cidfile.clone());
    let mut config = args.config(attached)?;
    config.host_config.console_size = stdio::console_size(config.tty);
    if let Some(file) = cidfile.as_deref().filter(|file| file.exists()) {
        return Err(Failure::local(format!(
            "container ID file found, make sure the other container isn't running or delete {}",
            file.display()
        )));
    }
    if pull == Pull::Always {
        image::pull_quietly(rn, &config.image, &platform, quiet).await?;
    }
    let later = match rn.version() < SEVERAL_NETWORKS {
        true => later_networks(&mut config),
        false => Vec::new(),
    };
    let ask = || {
        let create = rn.post(&["containers", "create"]).maybe("name", Some(&name).filter(|n| !n.is_empty()));
        create.maybe("platform", Some(&platform).filter(|p| !p.is_empty())).body(&config).json::<Value>()
    };
    let made = match ask().await {
        Err(failure) if pull == Pull::Missing && lacks_image(&failure) => {
            if !quiet {
                complain(&format!("Unable to find image '{}' locally", config.image));
            }
            image::pull_quietly(rn, &config.image, &platform, quiet).await?;
            ask().await?
        }
        made => made?,
    };
    for warning in made["Warnings"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        complain(&format!("WARNING: {warning}"));
    }
    let id = made["Id"].as_str().unwrap_or_default().to_owned();
    for (network, endpoint) in later {
        let connect = json!({"Container": id, "EndpointConfig": endpoint});
        rn.post(&["networks", &network, "connect"]).body(&connect).done().await?;
    }
    if let Some(file) = &cidfile {
        write_id(file, &id)?;
    }
    Ok(id)
}

/// The networks but the first, taken out of what is asked for at first.
fn later_networks(config: &mut ContainerConfig) -> Vec<(String, Value)> {
    let first = config.host_config.network_mode.clone();
    let all = std::mem::take(&mut config.networking_config.endpoints_config);
    let (now, later): (Vec<_>, Vec<_>) = all.into_iter().partition(|(name, _)| *name == first);
    config.networking_config.endpoints_config = now.into_iter().collect();
    later.into_iter().map(|(name, endpoint)| (name, json!(endpoint))).collect()
}

fn lacks_image(failure: &Failure) -> bool {
    matches!(failure, Failure::Daemon(error) if failure.is_not_found() && error.message.to_lowercase().starts_with("no such image"))
}

/// Nothing reads it before it is whole: it is small, and whoever waits for it waits for its content.
fn write_id(file: &Path, id: &str) -> Result<(), Failure> {
    let failed = |e: std::io::Error| {
        Failure::local(format!("failed to write container ID to {}: {e}", file.display()))
    };
    let mut opened = std::fs::File::options().write(true).create_new(true).open(file).map_err(failed)?;
    opened.write_all(id.as_bytes()).map_err(failed)
}

/// `create`.
pub async fn create(rn: &Client, args: CreateArgs) -> Result<(), Failure> {
    let attached = args.attached();
    output::line(&make(rn, args, attached).await?);
    Ok(())
}

/// `run`.
pub async fn run(rn: &Client, args: RunArgs) -> Result<(), Failure> {
    let start = |id: String| async move { rn.post(&["containers", &id, "start"]).done().await };
    if args.detach {
        if !args.create.attach.is_empty() {
            return Err(Failure::usage("run", "Conflicting options: -a and -d"));
        }
        let id = make(rn, args.create, Attached::NONE).await.map_err(not_run)?;
        start(id.clone()).await.map_err(not_started)?;
        output::line(&id);
        return Ok(());
    }
    let (streams, tty) = (args.create.attached(), args.create.process.tty);
    attach::check_terminal(streams.stdin, tty)?;
    let restarts = !matches!(args.create.restart.name.as_str(), "" | "no");
    let until = if args.create.rm { "removed" } else { "next-exit" };
    let id = make(rn, args.create, streams).await.map_err(not_run)?;
    let how = How { container: id.clone(), streams, tty, restarts, detach_keys: args.detach_keys };
    // Both before the start, so that one that ends at once, and goes by itself, is seen, and seen whole.
    let session = Session::open(rn, how.clone(), until).await.map_err(not_run)?;
    let signals = args.sig_proxy.then(|| tokio::spawn(attach::pass_signals(rn.clone(), id.clone())));
    // It begins with the size that was told with it.
    let size = attach::follow_size(rn, &how, false);
    let client = rn.clone();
    let carried = tokio::spawn(async move { session.carry(&client).await });
    if let Err(failure) = start(id).await {
        carried.abort();
        // It gives the terminal back.
        let _ = carried.await;
        return Err(not_started(failure));
    }
    let ended = carried.await.map_err(|e| Failure::local(e.to_string()))?.map_err(not_run)?;
    for task in signals.into_iter().chain(size) {
        task.abort();
    }
    match ended {
        Ended::Detached | Ended::Exited(0) => Ok(()),
        Ended::Exited(code) => Err(Failure::Code(code)),
    }
}

/// What Docker's client exits with.
fn not_run(failure: Failure) -> Failure {
    match failure {
        Failure::Code(code) => Failure::Code(code),
        other => {
            complain(&other.to_string());
            Failure::Code(NOT_RUN)
        }
    }
}

/// The same for one that is there and did not start.
fn not_started(failure: Failure) -> Failure {
    let code = match &failure {
        Failure::Daemon(error) => exit_code::of_program(&error.message).unwrap_or(NOT_RUN),
        _ => NOT_RUN,
    };
    not_run(failure);
    Failure::Code(code)
}
