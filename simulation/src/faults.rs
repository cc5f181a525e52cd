//! What goes wrong, and for how long.

use rand::{Rng, rngs::StdRng, seq::SliceRandom};

/// A fault.
#[derive(Debug, Clone, PartialEq)]
pub enum Fault {
    /// SIGKILL of the process on a host.
    Kill(usize),
    /// A host loses its power.
    Power(usize),
    /// All hosts lose their power at once.
    Blackout,
    /// These hosts and the others do not hear each other.
    Partition(Vec<usize>),
    /// What the first sends does not reach the second.
    OneWay(usize, usize),
    /// Everything to and from the host takes up to so many microseconds longer.
    Slow(usize, u64),
    /// A share of the messages is lost.
    Loss(f64),
    /// A share of the messages takes up to so many microseconds longer, and is overtaken.
    Reorder(f64, u64),
    /// A manager's disk is full.
    Full(usize),
    /// A manager's disk takes up to so many milliseconds for a flush.
    SlowDisk(usize, u64),
    /// A host's clock goes wrong by so many milliseconds.
    Skew(usize, i64),
    /// SIGSTOP of these hosts' processes, and SIGCONT at the end: their clocks go on meanwhile, and what is sent to them waits.
    Freeze(Vec<usize>),
}

/// What kind of misfortune a simulation has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultLevel {
    /// Anything, to anyone, several things at a time.
    Rough,
    /// Managers' processes are stopped for a while, and agents are cut off for a moment, one thing at a time: nothing that is a reason
    /// to give a node up, or to replace a task.
    Mild,
}

impl Fault {
    /// What it is counted as.
    pub fn kind(&self) -> &'static str {
        match self {
            Fault::Kill(_) => "fault: crash (kill -9)",
            Fault::Power(_) => "fault: crash (power)",
            Fault::Blackout => "fault: crash (power, all hosts)",
            Fault::Partition(_) => "fault: partition",
            Fault::OneWay(..) => "fault: partition (one way)",
            Fault::Slow(..) => "fault: delay",
            Fault::Loss(_) => "fault: loss",
            Fault::Reorder(..) => "fault: reorder",
            Fault::Full(_) => "fault: disk full",
            Fault::SlowDisk(..) => "fault: slow disk",
            Fault::Skew(..) => "fault: clock skew",
            Fault::Freeze(_) => "fault: freeze",
        }
    }

    /// The next one, and how many microseconds it lasts.
    pub fn draw(rng: &mut StdRng, managers: usize, hosts: usize) -> (Self, u64) {
        // Managers, of which more depends, are hit more often.
        let any = |rng: &mut StdRng| {
            if rng.random_bool(0.7) { rng.random_range(0..managers) } else { rng.random_range(0..hosts) }
        };
        let fault = match rng.random_range(0..100) {
            0..16 => Fault::Kill(any(rng)),
            16..32 => Fault::Power(any(rng)),
            32..34 => Fault::Blackout,
            34..50 => {
                let mut all: Vec<usize> = (0..hosts).collect();
                all.shuffle(rng);
                all.truncate(rng.random_range(1..hosts));
                all.sort_unstable();
                Fault::Partition(all)
            }
            50..57 => Fault::OneWay(rng.random_range(0..managers), rng.random_range(0..managers)),
            57..66 => Fault::Slow(any(rng), rng.random_range(20_000..600_000)),
            66..74 => Fault::Loss(rng.random_range(0.02..0.3)),
            74..82 => Fault::Reorder(rng.random_range(0.05..0.5), rng.random_range(20_000..1_500_000)),
            82..87 => Fault::Full(rng.random_range(0..managers)),
            87..91 => Fault::SlowDisk(rng.random_range(0..managers), rng.random_range(50..800)),
            91..95 => Fault::Skew(any(rng), rng.random_range(-600_000..600_000)),
            _ => Fault::Freeze(vec![any(rng)]),
        };
        let lasts = match fault {
            Fault::Kill(_) | Fault::Power(_) | Fault::Blackout => rng.random_range(50_000..4_000_000),
            _ => rng.random_range(200_000..5_000_000),
        };
        (fault, lasts)
    }

    /// The next one of a mild climate, and how many microseconds it lasts. `leader`: who leads.
    pub fn draw_mild(rng: &mut StdRng, leader: Option<usize>, managers: usize, hosts: usize) -> (Self, u64) {
        match rng.random_range(0..100) {
            // The leader in turn, so that it is one that has led before in the end.
            0..65 => {
                let who = leader.unwrap_or_else(|| rng.random_range(0..managers));
                (Fault::Freeze(vec![who]), rng.random_range(300_000..5_000_000))
            }
            65..75 => {
                (Fault::Freeze(vec![rng.random_range(0..managers)]), rng.random_range(300_000..5_000_000))
            }
            // The machine that they are all on is suspended.
            75..85 => (Fault::Freeze((0..managers).collect()), rng.random_range(300_000..9_000_000)),
            85..93 => {
                let agent = rng.random_range(managers..hosts);
                (Fault::Partition(vec![agent]), rng.random_range(100_000..700_000))
            }
            _ => {
                let who = rng.random_range(0..hosts);
                (Fault::Skew(who, rng.random_range(-600_000..600_000)), rng.random_range(200_000..5_000_000))
            }
        }
    }
}
