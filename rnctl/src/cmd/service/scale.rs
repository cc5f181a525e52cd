//! `service scale`.

use clap::Args;
use proto::model::{ServiceMode, ServiceSpec};

use super::{Edit, WaitFlags, change, progress};
use crate::{connect::Daemon, exit::Failure, output};

/// Flags of `service scale`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  rnctl service scale web=10 db=2")]
pub struct ScaleArgs {
    /// Services and how many tasks each shall have
    #[arg(value_name = "SERVICE=REPLICAS", required = true, value_parser = target)]
    targets: Vec<(String, u64)>,
    #[command(flatten)]
    pub wait: WaitFlags,
}

fn target(text: &str) -> Result<(String, u64), String> {
    let (name, replicas) = text
        .split_once('=')
        .filter(|(name, _)| !name.is_empty())
        .ok_or_else(|| format!("invalid scale specifier {text:?}: write SERVICE=REPLICAS"))?;
    let replicas = replicas.parse().map_err(|_| format!("invalid number of replicas {replicas:?}"))?;
    Ok((name.to_owned(), replicas))
}

/// Runs `service scale`.
pub async fn run(rn: &Daemon, args: ScaleArgs) -> Result<(), Failure> {
    let (mut scaled, mut failures) = (Vec::new(), Vec::new());
    for (key, replicas) in &args.targets {
        let changed = change(rn, key, |service| match service.spec.mode {
            ServiceMode::Replicated(_) => {
                let mode = ServiceMode::Replicated(*replicas);
                Ok(Edit::Spec(Box::new(ServiceSpec { mode, ..service.spec.clone() })))
            }
            ServiceMode::Global => Err(Failure::local(format!(
                "{key}: scale can only be used with replicated mode"
            ))
            .with_help("a global service has one task on each active node that its constraints allow")),
        });
        match changed.await {
            Ok(service) => {
                output::line(&format!("{key} scaled to {replicas}"));
                scaled.push(service);
            }
            Err(failure) => failures.push(failure),
        }
    }
    if !args.wait.detach {
        for service in &scaled {
            if scaled.len() > 1 && !args.wait.quiet {
                output::line(&service.spec.name);
            }
            progress::wait(rn, service.id.as_str(), args.wait.quiet).await?;
        }
    }
    Failure::all(failures)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets() {
        assert_eq!(target("web=10"), Ok(("web".into(), 10)));
        for bad in ["web", "web=", "=3", "web=-1", "web=x"] {
            assert!(target(bad).is_err(), "{bad}");
        }
    }
}
