//! `swarm ca`.

use std::{path::PathBuf, time::Duration};

use proto::{
    model::{Cluster, Millis},
    pb,
};

use super::no_external_ca;
use crate::{cmd::typed, connect::Daemon, exit::Failure, output, parse::units};

/// Between two looks at how far a rotation is.
const PERIOD: Duration = Duration::from_millis(250);

/// Flags of `swarm ca`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Replace the root CA; with a new one unless --ca-cert and --ca-key give one
    #[arg(long)]
    rotate: bool,
    /// Certificate of the next root CA, PEM
    #[arg(long, value_name = "FILE")]
    ca_cert: Option<PathBuf>,
    /// Its key, PEM
    #[arg(long, value_name = "FILE")]
    ca_key: Option<PathBuf>,
    /// Life of nodes' certificates from now on [default: 2160h]
    #[arg(long, value_name = "DURATION", value_parser = units::duration)]
    cert_expiry: Option<Millis>,
    /// Do not wait until all nodes have new certificates
    #[arg(short, long)]
    detach: bool,
    /// Do not show how far it is
    #[arg(short, long)]
    quiet: bool,
    /// Use an external CA (not supported)
    #[arg(long, hide = true, value_name = "SPEC")]
    external_ca: Option<String>,
}

/// Shows the root's certificate, or rotates it and shows the new one.
pub async fn run(rn: &Daemon, args: Args) -> Result<(), Failure> {
    no_external_ca(args.external_ca.as_deref())?;
    let mut cluster = fetch(rn).await?;
    if !args.rotate {
        let given = [
            ("ca-cert", args.ca_cert.is_some()),
            ("ca-key", args.ca_key.is_some()),
            ("cert-expiry", args.cert_expiry.is_some()),
        ];
        if let Some((flag, _)) = given.iter().find(|(_, given)| *given) {
            return Err(Failure::local(format!(
                "`--{flag}` flag requires the `--rotate` flag to update the CA"
            )));
        }
        output::line(cluster.root_ca.cert_pem.trim_end());
        return Ok(());
    }
    let root = pb::RotateRoot { cert_pem: read(args.ca_cert)?, key_pem: read(args.ca_key)? };
    let spec = args.cert_expiry.map(|cert_expiry| {
        let mut spec = cluster.spec.clone();
        spec.cert_expiry = cert_expiry;
        spec.into()
    });
    let request = pb::UpdateClusterRequest {
        version: cluster.meta.version.0,
        spec,
        rotate_root: Some(root),
        ..Default::default()
    };
    rn.control().update_cluster(request).await?;
    if args.detach {
        return Ok(());
    }
    let mut said = String::new();
    loop {
        cluster = fetch(rn).await?;
        let Some(rotation) = &cluster.root_ca.rotation else { break };
        let nodes = rn.control().list_nodes(pb::ListNodesRequest {}).await?.into_inner().nodes;
        let moved = nodes.iter().filter(|n| rotation.moved.contains(n.id.as_str())).count();
        let text = format!("rotated TLS certificates: {moved}/{} nodes", nodes.len());
        if text != said && !args.quiet {
            output::complain(&text);
        }
        said = text;
        tokio::time::sleep(PERIOD).await;
    }
    output::line(cluster.root_ca.cert_pem.trim_end());
    Ok(())
}

async fn fetch(rn: &Daemon) -> Result<Cluster, Failure> {
    typed(rn.control().get_cluster(pb::GetClusterRequest {}).await?.into_inner())
}

fn read(path: Option<PathBuf>) -> Result<String, Failure> {
    let Some(path) = path else { return Ok(String::new()) };
    std::fs::read_to_string(&path).map_err(|e| Failure::local(format!("cannot read {}: {e}", path.display())))
}
