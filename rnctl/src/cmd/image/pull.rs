//! `pull`.

use std::collections::BTreeMap;

use clap::Args;
use proto::pb::{
    self,
    pull_progress::{Done, Kind, Layer, layer::Step},
};

use crate::{
    connect::Daemon,
    credentials::Credentials,
    exit::Failure,
    output::{self, complain, is_terminal, units},
    parse::image::{DEFAULT_REGISTRY, registry},
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

/// Runs `pull`: says what goes on, as Docker does.
pub async fn pull(rn: &Daemon, args: PullArgs) -> Result<(), Failure> {
    let auth = Credentials::load()?.get(registry(&args.image));
    if !args.quiet
        && !args.image.contains(['@'])
        && !args.image.rsplit('/').next().is_some_and(|last| last.contains(':'))
    {
        output::line("Using default tag: latest");
    }
    let request = pb::PullImageRequest { reference: args.image.clone(), auth, platform: args.platform };
    let mut stream = rn.local().pull_image(request).await?.into_inner();
    let mut display = Display { terminal: is_terminal(), ..Display::default() };
    while let Some(message) = stream.message().await? {
        match message.kind {
            Some(Kind::Started(started)) if !args.quiet => {
                output::line(&format!("{}: Pulling from {}", started.what, started.from));
            }
            Some(Kind::Layer(layer)) if !args.quiet => display.layer(&layer),
            Some(Kind::Done(done)) => {
                finish(&args.image, &done, args.quiet);
                return Ok(());
            }
            _ => {}
        }
    }
    Err(Failure::local("the daemon ended the pull without a word").with_help("its log says more"))
}

/// Brings an image here for another command, whose output is its own: what is to be said goes to standard error.
pub async fn pull_quietly(rn: &Daemon, image: &str) -> Result<(), Failure> {
    let auth = Credentials::load()?.get(registry(image));
    let request = pb::PullImageRequest { reference: image.to_owned(), auth, platform: String::new() };
    let mut stream = rn.local().pull_image(request).await?.into_inner();
    while let Some(message) = stream.message().await? {
        if let Some(Kind::Done(done)) = message.kind {
            complain(&format!("Status: Downloaded newer image for {}", done.name));
            return Ok(());
        }
    }
    Err(Failure::local("the daemon ended the pull without a word").with_help("its log says more"))
}

fn finish(asked: &str, done: &Done, quiet: bool) {
    if !quiet {
        let status = match done.newer {
            true => "Downloaded newer image for",
            false => "Image is up to date for",
        };
        output::line(&format!("Digest: {}\nStatus: {status} {}", done.digest, done.name));
    }
    let whole = match registry(asked) {
        DEFAULT_REGISTRY if done.name.contains('/') => format!("docker.io/{}", done.name),
        DEFAULT_REGISTRY => format!("docker.io/library/{}", done.name),
        _ => done.name.clone(),
    };
    output::line(&whole);
}

/// The lines of the layers: on a terminal each is rewritten in place, elsewhere each step is a line.
#[derive(Default)]
struct Display {
    terminal: bool,
    order: Vec<String>,
    shown: BTreeMap<String, Step>,
}

impl Display {
    fn layer(&mut self, layer: &Layer) {
        let step = layer.step();
        let known = self.shown.insert(layer.id.clone(), step);
        if known.is_none() {
            self.order.push(layer.id.clone());
        }
        let text = match step {
            Step::Waiting => "Pulling fs layer".to_owned(),
            Step::Exists => "Already exists".to_owned(),
            Step::Downloading => {
                format!("Downloading {}/{}", units::decimal(layer.current), units::decimal(layer.total))
            }
            Step::Downloaded => "Download complete".to_owned(),
            Step::Complete => "Pull complete".to_owned(),
        };
        match (self.terminal, known) {
            (true, Some(_)) => {
                let at = self.order.iter().position(|id| *id == layer.id).unwrap_or_default();
                let up = self.order.len() - at;
                let line = format!("\x1b[{up}A\r\x1b[2K{}: {text}\x1b[{up}B\r", output::printable(&layer.id));
                output::bytes(false, line.as_bytes());
            }
            // Nobody reads how each byte arrives.
            (false, _) if step == Step::Downloading => {}
            _ => output::line(&format!("{}: {text}", layer.id)),
        }
    }
}
