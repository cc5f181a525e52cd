//! Lines that change while the user waits.

use super::{bytes, ellipsis, is_terminal, printable};
use crate::cmd::stdio;

/// Shows lines: over the former ones on a terminal, only what is new elsewhere.
pub struct Display {
    terminal: bool,
    quiet: bool,
    shown: Vec<String>,
}

impl Display {
    /// On standard output; `quiet` shows nothing.
    pub fn new(quiet: bool) -> Self {
        Self { terminal: is_terminal(), quiet, shown: Vec::new() }
    }

    /// Whether the lines are drawn over each other.
    pub fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Room for a bar; none where there is no terminal.
    pub fn bar_width(&self) -> usize {
        let (_, columns) = stdio::window();
        if !self.terminal { 0 } else { usize::from(columns).saturating_sub(30).clamp(10, 50) }
    }

    /// Shows these lines in place of those before.
    pub fn show(&mut self, lines: Vec<String>) {
        let lines: Vec<String> = lines.into_iter().map(|line| printable(&line).into_owned()).collect();
        if self.quiet || lines == self.shown {
            return;
        }
        let mut text = String::new();
        if self.terminal {
            let columns = match usize::from(stdio::window().1) {
                0 => 80,
                n => n,
            };
            if !self.shown.is_empty() {
                text += &format!("\x1b[{}A", self.shown.len());
            }
            for line in &lines {
                // A line that wraps would spoil the count of lines to go up.
                text += &format!("\x1b[2K{}\n", ellipsis(line, columns.saturating_sub(1)));
            }
            for _ in lines.len()..self.shown.len() {
                text += "\x1b[2K\n";
            }
            if lines.len() < self.shown.len() {
                text += &format!("\x1b[{}A", self.shown.len() - lines.len());
            }
        } else {
            for line in lines.iter().filter(|l| !l.ends_with(": ") && !self.shown.contains(l)) {
                text += line;
                text.push('\n');
            }
        }
        bytes(false, text.as_bytes());
        self.shown = lines;
    }
}
