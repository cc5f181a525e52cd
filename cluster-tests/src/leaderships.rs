//! Who led when, as the daemons' logs tell.

use std::{fs, time::Duration};

use anyhow::{Context, Result};

use crate::Host;

/// A time at which a manager began to lead, or ceased to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Turn {
    at: Duration,
    host: String,
    leads: bool,
}

/// The time of day of a log line, `2026-01-02T03:04:05.678901Z …`. A test that runs over midnight is told wrong times.
fn time(line: &str) -> Option<Duration> {
    let time = line.split_once('T')?.1.split_once('Z')?.0;
    let mut parts = time.split(':').map(|p| p.parse::<f64>().ok());
    let (h, m, s) = (parts.next()??, parts.next()??, parts.next()??);
    Duration::try_from_secs_f64(h * 3600.0 + m * 60.0 + s).ok()
}

fn turns(hosts: &[Host]) -> Result<Vec<Turn>> {
    let mut turns = Vec::new();
    for host in hosts {
        let log = fs::read_to_string(host.log()).with_context(|| host.log().display().to_string())?;
        for line in log.lines().filter(|l| l.contains(" leadership now=")) {
            let at = time(line).with_context(|| format!("no time in {line:?}"))?;
            turns.push(Turn { at, host: host.name.clone(), leads: line.contains("now=Leader") });
        }
    }
    turns.sort();
    Ok(turns)
}

/// What became of the leadership since a moment.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Leaderships {
    /// Who began to lead, one after the other.
    pub began: Vec<String>,
    /// The longest time during which nobody led, as far as it has ended.
    pub without: Duration,
}

/// A moment, by the hosts' logs.
#[derive(Debug, Clone, Copy)]
pub struct Since(usize);

/// Now.
pub fn mark(hosts: &[Host]) -> Result<Since> {
    Ok(Since(turns(hosts)?.len()))
}

/// What became of the leadership since then.
pub fn since(hosts: &[Host], mark: Since) -> Result<Leaderships> {
    let turns = turns(hosts)?;
    let mut reigns = Leaderships::default();
    let (mut leading, mut lost) = (Vec::new(), None);
    for (n, turn) in turns.iter().enumerate() {
        leading.retain(|h| *h != turn.host);
        if turn.leads {
            leading.push(turn.host.clone());
            if n >= mark.0 {
                reigns.began.push(turn.host.clone());
                if let Some(lost) = lost {
                    reigns.without = reigns.without.max(turn.at.saturating_sub(lost));
                }
            }
            lost = None;
        } else if leading.is_empty() && lost.is_none() {
            lost = Some(turn.at);
        }
    }
    Ok(reigns)
}

/// Lines that the daemons of these hosts have logged so far.
pub fn lines(hosts: &[Host]) -> Result<usize> {
    let mut lines = 0;
    for host in hosts {
        lines += fs::read_to_string(host.log())?.lines().count();
    }
    Ok(lines)
}
