//! `stack rm`.

use std::time::Duration;

use compose_file::translate::Namespace;
use docker_api::{file::File, network::NetworkInspect, service::Service};

use super::{members, wait};
use crate::{
    api::Client,
    exit::Failure,
    output::{self, complain},
};

/// How often a network is tried again that tasks which are stopping still use, and after which time.
const ATTEMPTS: u32 = 50;
const PAUSE: Duration = Duration::from_millis(200);

/// Why something could not be removed.
pub(super) fn failed(kind: &str, name: &str, error: &Failure) -> Failure {
    Failure::local(format!("Failed to remove {kind} {name}: {error}"))
}

/// Removes stacks; one that fails does not hold up the others.
pub(super) async fn run(rn: &Client, stacks: &[Namespace], detach: bool) -> Result<(), Failure> {
    let mut failures = Vec::new();
    for stack in stacks {
        if let Err(failure) = one(rn, stack, detach).await {
            failures.push(failure);
        }
    }
    match failures.len() {
        1 => Err(failures.remove(0)),
        _ => Failure::all(failures),
    }
}

async fn one(rn: &Client, stack: &Namespace, detach: bool) -> Result<(), Failure> {
    let members = members(stack)?;
    let services: Vec<Service> = rn.get(&["services"]).filters(&members).json().await?;
    let networks: Vec<NetworkInspect> = rn.get(&["networks"]).filters(&members).json().await?;
    let secrets: Vec<File> = rn.get(&["secrets"]).filters(&members).json().await?;
    let configs: Vec<File> = rn.get(&["configs"]).filters(&members).json().await?;
    if services.is_empty() && networks.is_empty() && secrets.is_empty() && configs.is_empty() {
        complain(&format!("Nothing found in stack: {}", stack.name()));
        return Ok(());
    }
    let named = |file: File| (file.id, file.spec.name);
    // What uses goes before what is used.
    let all: [(&str, Vec<(String, String)>); 4] = [
        ("service", services.into_iter().map(|s| (s.id, s.spec.name)).collect()),
        ("secret", secrets.into_iter().map(named).collect()),
        ("config", configs.into_iter().map(named).collect()),
        ("network", networks.into_iter().map(|n| (n.id, n.name)).collect()),
    ];
    let mut is_whole = true;
    for (kind, mut objects) in all {
        objects.sort_by(|a, b| a.1.cmp(&b.1));
        for (id, name) in objects {
            output::line(&format!("Removing {kind} {name}"));
            if let Err(failure) = remove(rn, kind, &id).await {
                complain(&failed(kind, &name, &failure).to_string());
                is_whole = false;
            }
        }
    }
    if !is_whole {
        return Err(Failure::local(format!("failed to remove some resources from stack: {}", stack.name())));
    }
    if detach { Ok(()) } else { wait::until_gone(rn, stack).await }
}

async fn remove(rn: &Client, kind: &str, id: &str) -> Result<(), Failure> {
    let kinds = format!("{kind}s");
    let mut attempt = 1;
    loop {
        match rn.delete(&[&kinds, id]).done().await {
            // Somebody else was faster.
            Err(failure) if failure.is_not_found() => return Ok(()),
            // Its tasks are on their way out.
            Err(Failure::Daemon(error))
                if kind != "service" && attempt < ATTEMPTS && error.message.contains("in use") =>
            {
                attempt += 1;
                tokio::time::sleep(PAUSE).await;
            }
            other => return other,
        }
    }
}
