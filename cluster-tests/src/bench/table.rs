//! Figures as a table: what, value, spread, baseline, ratio, aim and whether it was met.

use std::{io::Write, time::Duration};

/// What a number counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Seconds; less is better.
    Time,
    /// Bytes; less is better.
    Bytes,
    /// Bits per second.
    Bits,
    /// Anything per second.
    Rate,
}

impl Unit {
    fn less_is_better(self) -> bool {
        matches!(self, Self::Time | Self::Bytes)
    }

    /// A number as people write it.
    pub fn show(self, value: f64) -> String {
        match self {
            Self::Time if value < 0.0 => format!("-{}", self.show(-value)),
            Self::Time if value < 1e-3 => format!("{:.0} us", value * 1e6),
            Self::Time if value < 1.0 => format!("{:.1} ms", value * 1e3),
            Self::Time => format!("{value:.2} s"),
            Self::Bytes => format!("{:.1} MB", value / 1e6),
            Self::Bits if value < 1e9 => format!("{:.0} Mbit/s", value / 1e6),
            Self::Bits => format!("{:.2} Gbit/s", value / 1e9),
            Self::Rate if value < 1e4 => format!("{value:.0} /s"),
            Self::Rate => format!("{:.1} k/s", value / 1e3),
        }
    }
}

/// One figure's measurements.
#[derive(Debug, Clone)]
pub struct Samples {
    unit: Unit,
    values: Vec<f64>,
}

impl Samples {
    /// None yet.
    pub fn new(unit: Unit) -> Self {
        Self { unit, values: Vec::new() }
    }

    /// One more.
    pub fn push(&mut self, value: f64) {
        self.values.push(value);
    }

    /// One more duration.
    pub fn push_time(&mut self, value: Duration) {
        self.push(value.as_secs_f64());
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether nothing has been measured.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    fn sorted(&self) -> Vec<f64> {
        let mut sorted = self.values.clone();
        sorted.sort_by(f64::total_cmp);
        sorted
    }

    /// The upper one of the middle; 0 of nothing.
    pub fn median(&self) -> f64 {
        let sorted = self.sorted();
        sorted.get(sorted.len() / 2).copied().unwrap_or_default()
    }

    /// The worst; 0 of nothing.
    pub fn worst(&self) -> f64 {
        let sorted = self.sorted();
        let worst = if self.unit.less_is_better() { sorted.last() } else { sorted.first() };
        worst.copied().unwrap_or_default()
    }
}

/// What a figure should be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Aim {
    /// Shown for its own sake.
    None,
    /// The median below this.
    Below(f64),
    /// The median at least this part of the baseline's.
    Share(f64),
    /// The median at most this part of the baseline's.
    AtMost(f64),
}

/// Prints figures one by one, as soon as each is known.
pub struct Table {
    missed: usize,
    aims: usize,
}

impl Table {
    /// A table with its head line.
    pub fn new() -> Self {
        println!(
            "\n  {:<58} {:>12} {:>12}   {:<34} {:>7}   aim",
            "figure", "median", "worst", "baseline (median)", "ratio"
        );
        Self { missed: 0, aims: 0 }
    }

    /// A figure without a baseline.
    pub fn figure(&mut self, what: &str, samples: &Samples, aim: Aim) {
        self.line(what, samples, None, aim);
    }

    /// A figure next to a baseline.
    pub fn beside(&mut self, what: &str, samples: &Samples, name: &str, baseline: &Samples, aim: Aim) {
        self.line(what, samples, Some((name, baseline)), aim);
    }

    fn line(&mut self, what: &str, samples: &Samples, baseline: Option<(&str, &Samples)>, aim: Aim) {
        let (unit, median) = (samples.unit, samples.median());
        let ratio = baseline.map(|(_, b)| median / b.median()).filter(|r| r.is_finite());
        let beside =
            baseline.map(|(name, b)| format!("{name} {}", b.unit.show(b.median()))).unwrap_or_default();
        let met = match aim {
            Aim::None => None,
            Aim::Below(limit) => Some(median < limit),
            Aim::Share(share) => Some(ratio.is_some_and(|r| r >= share)),
            Aim::AtMost(share) => Some(ratio.is_some_and(|r| r <= share)),
        };
        let aim = match aim {
            Aim::None => String::new(),
            Aim::Below(limit) => format!("< {}", unit.show(limit)),
            Aim::Share(share) => format!(">= {:.0} %", share * 100.0),
            Aim::AtMost(share) => format!("<= {:.0} %", share * 100.0),
        };
        let verdict = met.map_or("", |met| if met { "  met" } else { "  MISSED" });
        self.aims += usize::from(met.is_some());
        self.missed += usize::from(met == Some(false));
        println!(
            "  {what:<58} {:>12} {:>12}   {beside:<34} {:>7}   {aim}{verdict}",
            unit.show(median),
            unit.show(samples.worst()),
            ratio.map(|r| format!("{:.0} %", r * 100.0)).unwrap_or_default(),
        );
        // Output may be a pipe, and a reader wants to see it come.
        let _ = std::io::stdout().flush();
    }

    /// A remark below the last line.
    pub fn note(&self, text: &str) {
        println!("    {text}");
    }

    /// The last line.
    pub fn end(self) {
        println!("  {} of {} aims met", self.aims - self.missed, self.aims);
    }
}

impl Default for Table {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::{Samples, Unit};

    fn samples(unit: Unit, values: &[f64]) -> Samples {
        Samples { unit, values: values.to_vec() }
    }

    #[test]
    fn the_worst_of_times_is_the_longest_and_of_rates_the_lowest() {
        assert_eq!(samples(Unit::Time, &[3.0, 1.0, 2.0]).worst(), 3.0);
        assert_eq!(samples(Unit::Rate, &[3.0, 1.0, 2.0]).worst(), 1.0);
        assert_eq!(samples(Unit::Rate, &[3.0, 1.0, 2.0]).median(), 2.0);
    }

    #[test]
    fn numbers_read_well() {
        assert_eq!(Unit::Time.show(0.0123), "12.3 ms");
        assert_eq!(Unit::Time.show(-0.0002), "-200 us");
        assert_eq!(Unit::Bits.show(9.4e9), "9.40 Gbit/s");
        assert_eq!(Unit::Rate.show(45_600.0), "45.6 k/s");
    }
}
