//! `pull` and `push`.

use base64::{Engine, engine::general_purpose::URL_SAFE};
use clap::Args;
use docker_api::auth::AuthConfig;
use serde_json::Value;

use super::progress::{self, Display};
use crate::{
    api::{Client, JsonLines},
    credentials::Credentials,
    exit::Failure,
    output::{self, complain},
    parse::image::{DEFAULT_REGISTRY, registry},
    view::image::split,
};

/// Flags of `pull`.
#[derive(Debug, Args)]
pub struct PullArgs {
    /// The image; its name begins with its registry
    #[arg(value_name = "NAME[:TAG|@DIGEST]")]
    image: String,
    /// Print the name only
    #[arg(short, long)]
    quiet: bool,
    /// Of an image for several platforms take this one: os/arch[/variant] [default: this machine's]
    #[arg(long, default_value = "", hide_default_value = true)]
    platform: String,
}

/// Flags of `push`.
#[derive(Debug, Args)]
pub struct PushArgs {
    /// The image; its name begins with its registry
    #[arg(value_name = "NAME[:TAG]")]
    image: String,
    /// All tags of it
    #[arg(short, long)]
    all_tags: bool,
    /// Print the name only
    #[arg(short, long)]
    quiet: bool,
}

/// The header that carries credentials, as `http` writes names.
const AUTH: &str = "x-registry-auth";

/// The credentials for an image's registry, as the header has them; those of nobody where there are none.
fn auth(image: &str) -> Result<String, Failure> {
    let known = Credentials::load()?.get(registry(image));
    let auth = known.map(|auth| AuthConfig {
        username: auth.username,
        password: auth.password,
        serveraddress: auth.server,
        ..AuthConfig::default()
    });
    let text = match auth {
        Some(auth) => serde_json::to_vec(&auth).map_err(|e| Failure::local(e.to_string()))?,
        None => b"{}".to_vec(),
    };
    Ok(URL_SAFE.encode(text))
}

/// Whether a name says which image of a repository is meant.
fn has_tag(image: &str) -> bool {
    image.contains('@') || image.rsplit('/').next().is_some_and(|last| last.contains(':'))
}

/// Has an image pulled; what goes on.
async fn pulling(rn: &Client, image: &str, platform: &str) -> Result<JsonLines<Value>, Failure> {
    let request = rn.post(&["images", "create"]).header(AUTH, &auth(image)?);
    // A digest stands where a tag would.
    let (name, tag) = image.split_once('@').unwrap_or_else(|| split(image));
    let request = request.query("fromImage", name).query("tag", tag);
    request.maybe("platform", Some(platform).filter(|p| !p.is_empty())).lines().await
}

/// Runs `pull`: says what goes on, as Docker does.
pub async fn pull(rn: &Client, args: PullArgs) -> Result<(), Failure> {
    if !args.quiet && !has_tag(&args.image) {
        output::line("Using default tag: latest");
    }
    let mut lines = pulling(rn, &args.image, &args.platform).await?;
    let mut display = Display::default();
    while let Some(line) = lines.next().await? {
        progress::check(&line)?;
        if !args.quiet {
            display.line(&line);
        }
    }
    output::line(&whole_name(&args.image));
    Ok(())
}

/// With registry and tag.
fn whole_name(image: &str) -> String {
    let tagged = if has_tag(image) { image.to_owned() } else { format!("{image}:latest") };
    match registry(image) {
        DEFAULT_REGISTRY if image.starts_with("docker.io/") => tagged,
        DEFAULT_REGISTRY if image.contains('/') => format!("docker.io/{tagged}"),
        DEFAULT_REGISTRY => format!("docker.io/library/{tagged}"),
        _ => tagged,
    }
}

/// Brings an image here for another command, whose output is its own: what is to be said goes to standard error.
pub async fn pull_quietly(rn: &Client, image: &str, platform: &str, quiet: bool) -> Result<(), Failure> {
    let mut lines = pulling(rn, image, platform).await?;
    let mut last = String::new();
    while let Some(line) = lines.next().await? {
        progress::check(&line)?;
        line["status"].as_str().unwrap_or_default().clone_into(&mut last);
    }
    if !quiet && last.starts_with("Status: ") {
        complain(&last);
    }
    Ok(())
}

/// Runs `push`.
pub async fn push(rn: &Client, args: PushArgs) -> Result<(), Failure> {
    if args.all_tags && has_tag(&args.image) {
        return Err(Failure::local("tag can't be used with --all-tags/-a"));
    }
    let (name, tag) = split(&args.image);
    if !args.all_tags && !has_tag(&args.image) && !args.quiet {
        output::line("Using default tag: latest");
    }
    let request = rn.post(&["images", name, "push"]).header(AUTH, &auth(&args.image)?);
    let tag = Some(tag).filter(|_| !args.all_tags);
    let mut lines = request.maybe("tag", tag).lines::<Value>().await?;
    let mut display = Display::default();
    while let Some(line) = lines.next().await? {
        progress::check(&line)?;
        if !args.quiet {
            display.line(&line);
        }
    }
    if args.quiet {
        output::line(&whole_name(&args.image));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_full() {
        for (name, want) in [
            ("web", "docker.io/library/web:latest"),
            ("me/web:1", "docker.io/me/web:1"),
            ("reg:5000/web", "reg:5000/web:latest"),
            ("reg.example/a@sha256:00", "reg.example/a@sha256:00"),
        ] {
            assert_eq!(whole_name(name), want);
        }
    }
}
