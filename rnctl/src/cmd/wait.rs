//! `wait`: until what was decided is so, or until containers have ended.

use std::time::{Duration, Instant};

use clap::Args;
use proto::{model::Millis, pb};

use super::container::lifecycle::{self, NamesArgs};
use crate::{api::Client, connect::Daemon, exit::Failure, output::display::Display, parse::units};

const POLL: Duration = Duration::from_millis(100);

/// Flags of `wait`.
#[derive(Debug, Args)]
pub struct WaitArgs {
    /// Until every service is as its spec says, and every live node has applied every change
    ///
    /// Counted are the changes made before the command: tasks placed, addresses and ports in the kernel, endpoints known on
    /// every node that needs them. Nodes that are down are not waited for.
    #[arg(long, required_unless_present = "containers", conflicts_with = "containers")]
    converged: bool,
    /// Give up after this long, and say what is missing (for instance 30s; 0 = never)
    #[arg(long, value_name = "DURATION", default_value = "0", hide_default_value = true, conflicts_with = "containers", value_parser = units::duration)]
    timeout: Millis,
    /// Print nothing while waiting
    #[arg(short, long, conflicts_with = "containers")]
    quiet: bool,
    /// Containers of this machine, by name or id: until they have ended; prints their exit codes
    #[arg(value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// `wait`.
pub async fn run(rn: &Daemon, api: &Client, args: WaitArgs) -> Result<(), Failure> {
    if !args.converged {
        return lifecycle::wait(api, NamesArgs::of(args.containers)).await;
    }
    let (began, limit) = (Instant::now(), Duration::from(args.timeout));
    let mut display = Display::new(args.quiet);
    let mut revision = 0;
    loop {
        let request = pb::ConvergenceRequest { revision };
        let reply = rn.control().convergence(request).await?.into_inner();
        if revision == 0 {
            revision = reply.revision;
        }
        if reply.unsettled.is_empty() {
            let nodes = if reply.nodes == 1 { "node has" } else { "nodes have" };
            display.show(vec![format!("verify: {} {nodes} applied every change", reply.nodes)]);
            return Ok(());
        }
        let lines: Vec<String> = reply.unsettled.iter().map(line).collect();
        if !limit.is_zero() && began.elapsed() >= limit {
            let text = format!("not converged after {:.1?}:\n{}", limit, lines.join("\n"));
            return Err(Failure::local(text));
        }
        display.show(lines);
        tokio::select! {
            () = tokio::time::sleep(POLL) => {}
            _ = tokio::signal::ctrl_c() => return Err(Failure::Code(130)),
        }
    }
}

fn line(unsettled: &pb::Unsettled) -> String {
    format!("{} {}: {}", unsettled.kind, unsettled.name, unsettled.reason)
}
