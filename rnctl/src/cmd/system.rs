//! `version` and `info`.

use clap::{Args, Subcommand};
use proto::{model::Cluster, pb};

use super::typed;
use crate::{
    api::dial_stdio,
    connect::Daemon,
    context::endpoint::Endpoint,
    exit::Failure,
    output::{self, complain, emit, listing::Row, template::Format},
    view,
};

/// Commands about the machine.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Join standard input and output to the daemon's socket; for rnctl -H ssh://…
    #[command(name = "dial-stdio", hide = true)]
    DialStdio,
}

/// Runs a `system` command.
pub async fn run(host: &Endpoint, command: &Command) -> Result<(), Failure> {
    match command {
        Command::DialStdio => dial_stdio::run(host).await,
    }
}

/// Flags of `version`.
#[derive(Debug, Args)]
pub struct VersionArgs {
    /// 'json', or a Go template over {Client, Server}
    #[arg(short, long)]
    format: Option<String>,
}

/// Flags of `info`.
#[derive(Debug, Args)]
pub struct InfoArgs {
    /// 'json', or a Go template, for instance '{{.Swarm.LocalNodeState}}'
    #[arg(short, long)]
    format: Option<String>,
}

/// One object by `json` or a template.
fn formatted(object: &Row, format: &str) -> Result<(), Failure> {
    let format = if format == "json" { "{{json .}}" } else { format };
    output::line(&Format::parse(format)?.render(object)?);
    Ok(())
}

fn client() -> pb::VersionReply {
    pb::VersionReply {
        version: env!("CARGO_PKG_VERSION").into(),
        git_commit: option_env!("RN_GIT_COMMIT").unwrap_or_default().into(),
        os: std::env::consts::OS.into(),
        arch: std::env::consts::ARCH.into(),
        ..pb::VersionReply::default()
    }
}

/// `version`: the client's part is printed even when no daemon answers.
pub async fn version(host: &Endpoint, args: VersionArgs) -> Result<(), Failure> {
    let server = match Daemon::connect(host).await {
        Ok(rn) => {
            rn.local().version(pb::VersionRequest {}).await.map(|r| r.into_inner()).map_err(Failure::from)
        }
        Err(failure) => Err(failure),
    };
    match &args.format {
        Some(format) => formatted(&view::cluster::version(&client(), server.as_ref().ok()), format)?,
        None => {
            emit(&side("Client", &client()));
            if let Ok(server) = &server {
                emit(&format!("\n{}", side("Server", server)));
            }
        }
    }
    server.map(drop)
}

fn side(name: &str, v: &pb::VersionReply) -> String {
    let mut text = format!("{name}:\n");
    let mut put = |name: &str, value: &str| {
        if !value.is_empty() {
            text.push_str(&format!(" {:<16}{value}\n", format!("{name}:")));
        }
    };
    put("Version", &v.version);
    put("API version", &v.api_version);
    put("Git commit", &v.git_commit);
    put("OS/Arch", &format!("{}/{}", v.os, v.arch));
    put("Kernel", &v.kernel);
    if v.started_at != 0 {
        put("Started", &output::time::rfc3339(proto::model::Timestamp(v.started_at)));
    }
    text
}

/// `info`: succeeds outside a swarm too.
pub async fn info(rn: &Daemon, args: InfoArgs) -> Result<(), Failure> {
    let info = rn.local().info(pb::InfoRequest {}).await?.into_inner();
    let cluster = info.swarm.as_ref().and_then(|s| s.cluster.clone());
    let cluster: Option<Cluster> = cluster.map(typed).transpose()?;
    match &args.format {
        Some(format) => formatted(&view::cluster::info(&info, cluster.as_ref()), format)?,
        None => {
            let version = env!("CARGO_PKG_VERSION");
            emit(&view::cluster::info_text(&info, cluster.as_ref(), version));
            for warning in &info.warnings {
                complain(&format!("WARNING: {}", warning.trim_start_matches("WARNING: ")));
            }
        }
    }
    Ok(())
}
