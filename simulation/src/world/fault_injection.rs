//! What goes wrong with a world, and how it ends.

use std::time::Duration;

use anyhow::Result;
use manager::store::Leadership;
use rand::Rng;

use super::World;
use crate::faults::{Fault, FaultLevel};

/// What ends a fault.
pub(super) enum End {
    Restart(usize),
    Mend,
    Quick(usize),
    Lossless,
    Ordered,
    Space(usize),
    QuickDisk(usize),
    Right(usize),
    Thaw(Vec<usize>),
}

impl World {
    /// Lets something go wrong; how long until the next time.
    pub(super) fn misfortune(&mut self) -> u64 {
        let (managers, hosts) = (self.managers, self.hosts.len());
        match self.climate {
            FaultLevel::Rough => {
                let (fault, lasts) = Fault::draw(&mut self.rng, managers, hosts);
                self.strike(&fault, lasts);
                self.rng.random_range(100_000..1_600_000)
            }
            FaultLevel::Mild => {
                let leader = self.leader();
                let (fault, lasts) = Fault::draw_mild(&mut self.rng, leader, managers, hosts);
                self.strike(&fault, lasts);
                // One after the other, and everybody has found the leader in between.
                lasts + self.rng.random_range(2_500_000..4_000_000)
            }
        }
    }

    /// Who leads, of the managers that run.
    fn leader(&self) -> Option<usize> {
        let running = self.hosts[..self.managers].iter().filter(|h| !h.is_frozen());
        let leading = running.filter_map(|h| match *h.store()?.leadership().borrow() {
            Leadership::Leader { term } => Some((term, h.n)),
            Leadership::Follower { .. } | Leadership::None => None,
        });
        leading.max().map(|(_, n)| n)
    }

    fn strike(&mut self, fault: &Fault, lasts: u64) {
        self.trace.line(format_args!("{fault:?} for {} ms", lasts / 1000));
        self.trace.count(fault.kind(), 1);
        let until = self.now + lasts;
        let end = match *fault {
            Fault::Kill(n) => {
                self.hosts[n].kill(&self.net);
                End::Restart(n)
            }
            Fault::Power(n) => {
                let lost = self.hosts[n].lose_power(&self.net);
                self.trace.line(format_args!("{lost} writes of host {n} are lost"));
                self.trace.count("unsynced writes lost", lost);
                End::Restart(n)
            }
            Fault::Blackout => {
                for n in 0..self.hosts.len() {
                    let lost = self.hosts[n].lose_power(&self.net);
                    self.trace.count("unsynced writes lost", lost);
                    let later = self.rng.random_range(0..2_000_000);
                    self.ends.push((until + later, End::Restart(n)));
                }
                return;
            }
            Fault::Partition(ref side) => {
                for a in side {
                    for b in (0..self.hosts.len()).filter(|b| !side.contains(b)) {
                        self.net.cut(*a, b, true);
                    }
                }
                End::Mend
            }
            Fault::OneWay(from, to) => {
                self.net.cut(from, to, false);
                End::Mend
            }
            Fault::Slow(n, us) => {
                self.net.set_slow(n, us);
                End::Quick(n)
            }
            Fault::Loss(share) => {
                self.net.set_loss(share);
                End::Lossless
            }
            Fault::Reorder(share, us) => {
                self.net.set_stragglers(share, us);
                End::Ordered
            }
            Fault::Full(n) => {
                self.hosts[n].disk.set_full(true);
                End::Space(n)
            }
            Fault::SlowDisk(n, ms) => {
                self.hosts[n].disk.set_slowness(Duration::from_millis(ms));
                End::QuickDisk(n)
            }
            Fault::Skew(n, ms) => {
                self.hosts[n].skew_ms = ms;
                End::Right(n)
            }
            Fault::Freeze(ref who) => {
                who.iter().for_each(|n| self.hosts[*n].freeze());
                End::Thaw(who.clone())
            }
        };
        self.ends.push((until, end));
    }

    pub(super) fn end_faults(&mut self) -> Result<()> {
        let now = self.now;
        let (due, later) = std::mem::take(&mut self.ends).into_iter().partition(|(at, _)| *at <= now);
        self.ends = later;
        let due: Vec<(u64, End)> = due;
        for (_, end) in due {
            match end {
                End::Restart(n) => self.restart(n)?,
                End::Mend => self.net.mend(),
                End::Quick(n) => self.net.set_slow(n, 0),
                End::Lossless => self.net.set_loss(0.0),
                End::Ordered => self.net.set_stragglers(0.0, 0),
                End::Space(n) => {
                    self.hosts[n].disk.set_full(false);
                    // Raft has stopped where a write failed, and is started again with the daemon.
                    self.hosts[n].kill(&self.net);
                    self.restart(n)?;
                }
                End::QuickDisk(n) => self.hosts[n].disk.set_slowness(Duration::from_millis(6)),
                End::Right(n) => self.hosts[n].skew_ms = 0,
                End::Thaw(who) => who.iter().for_each(|n| self.hosts[*n].thaw()),
            }
        }
        Ok(())
    }
}
