//! Waiting until a stack's services are what their specs say, or until its tasks are gone.

use std::time::{Duration, Instant};

use compose_file::translate::Namespace;
use docker_api::{service::Service, task::Task};

use super::members;
use crate::{api::Client, exit::Failure, output::display::Display};

const POLL: Duration = Duration::from_millis(200);

/// How long a service is watched once all its tasks run, unless its update says otherwise.
const MONITOR: Duration = Duration::from_secs(5);

/// After a change the managers take a moment to begin with what follows from it.
const BEGINNING: Duration = Duration::from_millis(300);

/// How far a service is: its line, whether it is there, and whether it will not get there.
fn progress(service: &Service) -> (String, bool, Option<String>) {
    let status = service.service_status.unwrap_or_default();
    let update = service.update_status.as_ref();
    let state = update.map_or("", |u| u.state.as_str());
    let name = &service.spec.name;
    let why = update.map(|u| u.message.clone()).unwrap_or_default();
    let line = format!("{name}: {} out of {} tasks {state}", status.running_tasks, status.desired_tasks);
    match state {
        "paused" | "rollback_paused" => (line, false, Some(format!("service {name}: update {state}: {why}"))),
        "rollback_started" => (line, false, None),
        "rollback_completed" => (line, false, Some(format!("service {name} rolled back: {why}"))),
        "updating" => (line, false, None),
        _ => (line, status.running_tasks >= status.desired_tasks, None),
    }
}

/// Waits until the tasks of services run and have done so for a while.
pub(super) async fn until_running(
    rn: &Client,
    stack: &Namespace,
    ids: &[String],
    quiet: bool,
) -> Result<(), Failure> {
    tokio::select! {
        result = converge(rn, stack, ids, quiet) => result,
        _ = tokio::signal::ctrl_c() => Err(Failure::Code(130)),
    }
}

async fn converge(rn: &Client, stack: &Namespace, ids: &[String], quiet: bool) -> Result<(), Failure> {
    let members = members(stack)?;
    let mut display = Display::new(quiet);
    tokio::time::sleep(BEGINNING).await;
    let mut stable: Option<Instant> = None;
    loop {
        let mut services: Vec<Service> =
            rn.get(&["services"]).filters(&members).query("status", true).json().await?;
        services.retain(|service| ids.contains(&service.id));
        services.sort_by(|a, b| a.spec.name.cmp(&b.spec.name));
        let states: Vec<_> = services.iter().map(progress).collect();
        let mut lines: Vec<String> = states.iter().map(|(line, _, _)| line.trim_end().to_owned()).collect();
        if let Some(why) = states.iter().find_map(|(_, _, why)| why.clone()) {
            display.show(lines);
            return Err(Failure::local(why));
        }
        if !states.iter().all(|(_, there, _)| *there) {
            stable = None;
            display.show(lines);
        } else {
            let since = *stable.get_or_insert_with(Instant::now);
            let nanos = |s: &Service| s.spec.update_config.as_ref().map(|u| u.monitor).filter(|n| *n > 0);
            let monitor =
                |s| nanos(s).and_then(|n| u64::try_from(n).ok()).map_or(MONITOR, Duration::from_nanos);
            let monitor = services.iter().map(monitor).max().unwrap_or_default();
            if since.elapsed() >= monitor {
                lines.push(format!("verify: Stack {} converged", stack.name()));
                display.show(lines);
                return Ok(());
            }
            display.show(lines);
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Waits until no task of a stack is left that runs.
pub(super) async fn until_gone(rn: &Client, stack: &Namespace) -> Result<(), Failure> {
    const OVER: [&str; 6] = ["complete", "shutdown", "failed", "rejected", "remove", "orphaned"];
    let members = members(stack)?;
    loop {
        let tasks: Vec<Task> = rn.get(&["tasks"]).filters(&members).json().await?;
        if tasks.iter().all(|task| OVER.contains(&task.status.state.as_str())) {
            return Ok(());
        }
        tokio::time::sleep(POLL).await;
    }
}
