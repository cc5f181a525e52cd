//! `stats`: what containers use, as it changes.

use std::{collections::BTreeMap, time::Duration};

use clap::Args;
use serde_json::Value;
use tokio::sync::mpsc;

use crate::{
    api::Client,
    exit::Failure,
    output::{
        self, is_terminal,
        listing::{ListFlags, Row},
    },
    view::stats::{LISTING, row},
};

/// How often the table is drawn, and containers are looked for that have come (Docker's client draws as often).
const REDRAW: Duration = Duration::from_millis(500);

/// Flags of `stats`.
#[derive(Debug, Args)]
pub struct StatsArgs {
    /// Show those that do not run too
    #[arg(short, long)]
    all: bool,
    /// Show it once, and end
    #[arg(long)]
    no_stream: bool,
    /// Cut nothing
    #[arg(long)]
    no_trunc: bool,
    /// 'table' (default), 'json' (one object a line), 'table TEMPLATE' or 'TEMPLATE', a Go template
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Containers, by name or id [default: all that run]
    #[arg(value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// What a container said last; null at first.
type Seen = BTreeMap<String, Value>;

/// Runs `stats`.
pub async fn run(rn: &Client, args: StatsArgs) -> Result<(), Failure> {
    let flags = ListFlags { quiet: false, format: args.format.clone() };
    let show = |keys: &[String], seen: &Seen| -> Result<String, Failure> {
        let shown = |key: &String| row(key, seen.get(key).unwrap_or(&Value::Null), args.no_trunc);
        let rows: Vec<Row> = keys.iter().map(shown).collect();
        LISTING.render(&rows, &flags)
    };
    let first = wanted(rn, &args).await?;
    if args.no_stream {
        let mut seen = Seen::new();
        let all = first.iter().map(|key| async move {
            (key.clone(), rn.get(&["containers", key, "stats"]).query("stream", 0).json::<Value>().await)
        });
        let mut failures = Vec::new();
        for (key, stats) in futures::future::join_all(all).await {
            match stats {
                Ok(stats) => drop(seen.insert(key, stats)),
                // One that has gone meanwhile is no failure, unless it was named.
                Err(failure) if failure.is_not_found() && args.containers.is_empty() => {}
                Err(failure) => failures.push(failure),
            }
        }
        let keys: Vec<String> = first.into_iter().filter(|key| seen.contains_key(key)).collect();
        output::emit(&show(&keys, &seen)?);
        return Failure::all(failures);
    }
    // A name that nobody has is said before anything is drawn.
    for key in &args.containers {
        rn.get(&["containers", key, "json"]).object().await?;
    }
    let (said, mut heard) = mpsc::channel(64);
    let (mut seen, mut followed) = (Seen::new(), BTreeMap::new());
    let mut tick = tokio::time::interval(REDRAW);
    loop {
        tokio::select! {
            Some((key, stats)) = heard.recv() => drop(seen.insert(key, stats)),
            _ = tick.tick() => {
                let keys = wanted(rn, &args).await?;
                for key in &keys {
                    let of = (rn.clone(), key.clone(), said.clone());
                    followed.entry(key.clone()).or_insert_with(|| tokio::spawn(follow(of.0, of.1, of.2)));
                }
                // One that starts again is followed anew.
                followed.retain(|key, task| keys.contains(key) && !task.is_finished());
                seen.retain(|key, _| keys.contains(key));
                let text = show(&keys, &seen)?;
                // From the upper left corner, over what was there.
                let text = if is_terminal() { format!("\x1b[H{}\x1b[J", text.replace('\n', "\x1b[K\n")) } else { text };
                output::bytes(false, text.as_bytes());
            }
            _ = tokio::signal::ctrl_c() => return Ok(()),
        }
    }
}

/// The containers that are named, or all that run, by their ids; the newest first.
async fn wanted(rn: &Client, args: &StatsArgs) -> Result<Vec<String>, Failure> {
    if !args.containers.is_empty() {
        return Ok(args.containers.clone());
    }
    let all: Vec<Value> = rn.get(&["containers", "json"]).flag("all", args.all).json().await?;
    Ok(all.iter().filter_map(|c| c["Id"].as_str().map(str::to_owned)).collect())
}

/// Passes on what a container says, until it has nothing more to say.
async fn follow(rn: Client, key: String, said: mpsc::Sender<(String, Value)>) {
    let asked = rn.get(&["containers", &key, "stats"]).query("stream", 1);
    let Ok(mut lines) = asked.lines::<Value>().await else { return };
    while let Ok(Some(stats)) = lines.next().await {
        if said.send((key.clone(), stats)).await.is_err() {
            return;
        }
    }
}
