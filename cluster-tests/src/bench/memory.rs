//! Memory of processes.

use std::{fs, path::Path};

use anyhow::{Context, Result};

/// What the kernel says of a process' memory, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    /// Resident, whoever else has the page.
    pub rss: u64,
    /// Resident, shared pages by their share.
    pub pss: u64,
    /// Resident and not backed by a file: heap and stacks.
    pub anonymous: u64,
}

/// Memory of one process, from `smaps_rollup`.
pub fn of(pid: i32) -> Result<Memory> {
    let text =
        fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).with_context(|| format!("process {pid}"))?;
    let field = |name: &str| -> Result<u64> {
        let line =
            text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':')).context("smaps_rollup")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
    };
    Ok(Memory { rss: field("Rss")?, pss: field("Pss")?, anonymous: field("Anonymous")? })
}

/// Processes whose command line names a program and something below `dir`.
pub fn processes(program: &str, dir: &Path) -> Result<Vec<i32>> {
    let dir = dir.display().to_string();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<i32>().ok()) else { continue };
        // A process may end while we look.
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command);
        let first = command.split('\0').next().unwrap_or_default();
        if Path::new(first).ends_with(program) && command.contains(&dir) {
            found.push(pid);
        }
    }
    Ok(found)
}
